//! Called as `etcd`: the same command line that etcd has, served by `quorate node`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::node::api::VERSION;

/// Whether the program was called by etcd's name.
pub(super) fn is_meant(args: &[OsString]) -> bool {
    let name = args.first().and_then(|it| Path::new(it).file_name());
    name == Some(OsStr::new("etcd"))
}

/// Whether all that is asked for is the version; Go's flags have one dash as well as two.
pub(super) fn asks_version(args: &[OsString]) -> bool {
    args.iter().skip(1).any(|it| it == "--version" || it == "-version")
}

/// The version in etcd's form, of which tools read the first two lines.
pub(super) fn version() -> String {
    let (own, system) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS);
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!(
        "etcd Version: {VERSION}\nGit SHA: none, this is quorate {own}\nGo Version: none\n\
         Go OS/Arch: {system}/{machine}\n"
    )
}

/// The same as arguments of `quorate`.
pub(super) fn as_node(args: Vec<OsString>) -> Vec<OsString> {
    let mut rest = args.into_iter();
    let program = rest.next().unwrap_or_default();
    [program, OsString::from("node")].into_iter().chain(rest).collect()
}
