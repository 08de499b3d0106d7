//! `quorate copy-self`

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};

use super::BadInput;

/// Copy this very program to a file that anybody may run
///
/// For an init container: the copy goes into a volume from which a container of an image of etcd's
/// runs it as `quorate node --exec etcd`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to be made; one that is there is replaced.
    dest: PathBuf,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let dest = &args.dest;
    let named = dest.file_name().filter(|_| !dest.is_dir());
    let name = named.ok_or_else(|| {
        BadInput(format!("{}: is a directory; name the file to be made in it", dest.display()))
    })?;
    // Beside it first: a program that runs cannot be written to, and half a copy is none.
    let mut draft = name.to_owned();
    draft.push(".new");
    let draft = dest.with_file_name(draft);
    copy(&draft, dest)
        .with_context(|| format!("cannot copy this program to {}", dest.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn copy(draft: &Path, dest: &Path) -> anyhow::Result<()> {
    let own = "/proc/self/exe";
    let mut from = File::open(own).map_err(|e| anyhow!("{own}: {e}"))?;
    let mut write = || -> io::Result<()> {
        let mut to = File::create(draft)?;
        io::copy(&mut from, &mut to)?;
        // Whatever the umask says.
        to.set_permissions(Permissions::from_mode(0o755))?;
        to.sync_all()?;
        fs::rename(draft, dest)
    };
    Ok(write()?)
}
