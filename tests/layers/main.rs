//! Holds the walls between modules that ARCHITECTURE.md draws: who may import whom, which
//! modules are pure, which crate may be named where, and who may read the clock.
//!
//! Rust enforces none of it inside one package. The checker reads the source as text, so it also
//! sees what is compiled out; `source.rs` says what it understands of Rust.

#![allow(unreachable_pub, missing_docs, reason = "a test's own modules have no outside")]

mod source;

use std::fs;
use std::path::{Path, PathBuf};

use source::{Named, Path as P};

/// The top-level modules, lowest first, and those that each may import beside itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("cluster", &[]),
    ("clock", &["cluster"]),
    ("proto", &[]),
    ("plan", &["cluster"]),
    ("render", &["cluster"]),
    ("client", &["cluster", "clock", "proto"]),
    ("node", &["cluster", "clock", "proto", "render", "client"]),
    ("execute", &["cluster", "clock", "plan", "render", "client", "node"]),
    ("operator", &["cluster", "clock", "plan", "render", "client", "node", "execute"]),
    (
        "cli",
        &["cluster", "clock", "proto", "plan", "render", "client", "node", "execute", "operator"],
    ),
    ("main", &["cli"]),
];

/// Modules inside one layer that must not know of each other.
const APART: &[(&str, &str)] = &[("execute/local", "execute/pods")];

/// Crates that only some modules may name.
const CRATES: &[(&str, &[&str])] = &[
    ("anyhow", &["cli"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("k8s_openapi", &["operator", "execute/pods", "cli/crd"]),
    ("kube", &["operator", "execute/pods", "cli/crd"]),
    ("openraft", &["node/raft"]),
    ("openraft_rt_tokio", &["node/raft"]),
    ("sled", &["node/checkpoint"]),
];

/// Modules that may name but a few others of ours, and not some crates.
const NARROW: &[(&str, &[&str], &[&str])] = &[(
    "node/watch",
    &["node/watch", "node/mvcc", "node/fault", "proto"],
    &["futures_util", "hyper", "prometheus", "tokio", "tonic", "tracing"],
)];

/// Modules that are functions of their arguments.
const PURE: &[&str] = &["cluster", "plan", "render", "node/apply", "node/mvcc"];

/// What a pure module may not name. The optional crates are held back a second time: the pure
/// modules compile without the feature `runtime`, which `make lint` checks.
const IMPURE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net", // addresses are in core::net
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    // Their order differs from run to run.
    "std::collections::HashMap",
    "std::collections::HashSet",
    "futures_util",
    "getrandom",
    "hyper",
    "hyper_util",
    "k8s_openapi",
    "kube",
    "rand",
    "rustix",
    "sled",
    "tempfile",
    "tokio",
    "tonic",
    "tracing",
];

/// Words of the language that say the same.
const IMPURE_WORDS: &[&str] =
    &["async", "await", "dbg", "eprint", "eprintln", "include", "print", "println"];

/// The only file that may ask what time it is.
const CLOCK: &str = "clock.rs";

#[test]
fn the_walls_stand() {
    let src = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let files = rust_files(src);
    let mut faults = Vec::new();
    for file in &files {
        let name = file.strip_prefix(src).expect("under src").to_string_lossy().replace('\\', "/");
        faults.extend(check(&name, &fs::read_to_string(file).expect("readable source")));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    for (layer, _) in LAYERS {
        let there = files.iter().any(|f| {
            let rest = f.strip_prefix(src).expect("under src");
            rest == Path::new(&format!("{layer}.rs")) || rest.starts_with(layer)
        });
        assert!(there, "LAYERS names `{layer}`, which src/ does not have");
    }
}

#[test]
fn every_layer_stands_on_lower_ones() {
    for (n, (layer, allowed)) in LAYERS.iter().enumerate() {
        for below in *allowed {
            assert!(
                LAYERS[..n].iter().any(|(lower, _)| lower == below),
                "`{layer}` stands on `{below}`, which is no lower layer"
            );
        }
    }
}

/// Faults the checker must find: the file, its text, and the faults.
const SEEDED: &[(&str, &str, &[&str])] = &[
    // Imports that point upwards, in each way of writing one.
    ("plan/mod.rs", "use crate::execute::turn;", &["1: `plan` may not import `execute`"]),
    (
        "plan/rules/join.rs",
        "\nuse super::super::super::node;",
        &["2: `plan` may not import `node`"],
    ),
    ("plan/join.rs", "fn f() { super::super::cli::run(x) }", &["1: `plan` may not import `cli`"]),
    ("plan.rs", "use self::super::client::Client;", &["1: `plan` may not import `client`"]),
    (
        "cluster/id.rs",
        "use crate::{\n    clock::Clock,\n    plan::{Step, self},\n};",
        &[
            "2: `cluster` may not import `clock`",
            "3: `cluster` may not import `plan`",
            "3: `cluster` may not import `plan`",
        ],
    ),
    ("node/mod.rs", "pub(crate) use super::{plan as p};", &["1: `node` may not import `plan`"]),
    ("node/home.rs", "type T = Vec<crate :: plan :: Step>;", &["1: `node` may not import `plan`"]),
    (
        "client/mod.rs",
        "macro_rules! m { () => { $crate::node::x() } }",
        &["1: `client` may not import `node`"],
    ),
    (
        "render/env.rs",
        "mod t { use super::super::super::execute as e; }",
        &["1: `render` may not import `execute`"],
    ),
    ("main.rs", "use quorate::{cli, execute};", &["1: `main` may not import `execute`"]),
    (
        "client/x.rs",
        "macro_rules! m { () => { use $crate::{node::x}; } }",
        &["1: `client` may not import `node`"],
    ),
    // The root re-exports nothing, and nobody imports it whole.
    ("client/mod.rs", "use crate::*;", &["1: names the whole crate; name the module"]),
    ("client/mod.rs", "use super::super as up;", &["1: names the whole crate; name the module"]),
    ("client/mod.rs", "use crate::next_step;", &["1: no layer is given for `next_step`"]),
    ("helpers.rs", "fn f() {}", &["0: no layer is given for `helpers`"]),
    ("node/mod.rs", "#[path = \"../plan/mod.rs\"]\nmod p;", &["1: `#[path]` goes round the walls"]),
    (
        "execute/local/act.rs",
        "use super::super::pods::Pods;",
        &["1: `execute/local` and `execute/pods` stay apart"],
    ),
    (
        "execute/pods/mod.rs",
        "use crate::execute::{local::Local};",
        &["1: `execute/pods` and `execute/local` stay apart"],
    ),
    // Crates that have their own place.
    ("execute/local/mod.rs", "use kube::Client;", &["1: `kube` may not be named here"]),
    ("cli/up.rs", "use ::k8s_openapi as k;", &["1: `k8s_openapi` may not be named here"]),
    ("node/store.rs", "extern crate sled;", &["1: `sled` may not be named here"]),
    ("client/mod.rs", "fn f() -> anyhow::Result<()> {}", &["1: `anyhow` may not be named here"]),
    // Purity.
    (
        "render/x.rs",
        "use std::{fmt, fs, net};",
        &["1: is pure and names `std::fs`", "1: is pure and names `std::net`"],
    ),
    (
        "plan/x.rs",
        "fn f<'a>() -> &'a str { std::env::var(\"x\") }",
        &["1: is pure and names `std::env`"],
    ),
    ("plan/x.rs", "/* a /* b */ c */ async fn f() {}", &["1: is pure and names `async`"]),
    ("plan/x.rs", "const Q: char = '\"'; use tokio::x; // \"", &["1: is pure and names `tokio`"]),
    (
        "plan/x.rs",
        "const Q: u8 = b'\\''; fn f() { ::tonic::g() }",
        &["1: is pure and names `tonic`"],
    ),
    (
        "plan/x.rs",
        "const R: &str = r#\"\"\"#;\nuse std::collections::HashMap;",
        &["2: is pure and names `std::collections::HashMap`"],
    ),
    (
        "node/apply/state.rs",
        "use std::collections::HashMap; use tracing::info;",
        &["1: is pure and names `std::collections::HashMap`", "1: is pure and names `tracing`"],
    ),
    // What has to stay narrow.
    (
        "node/watch/hub.rs",
        "use super::inbox::Inbox; use super::super::{apply::State, mvcc::Store}; use tonic::Status;",
        &[
            "1: `node/watch` may not import `node/apply/State`",
            "1: `node/watch` may not name `tonic`",
        ],
    ),
    // The clock.
    (
        "node/mod.rs",
        "let t = std::time::Instant::now();",
        &["1: reads the time: take it from clock.rs"],
    ),
    (
        "cli/up.rs",
        "let t = tokio::time::Instant::now();",
        &["1: reads the time: take it from clock.rs"],
    ),
    ("cli/up.rs", "let f = SystemTime::now;", &["1: reads the time: take it from clock.rs"]),
    ("cli/up.rs", "let d = started.elapsed();", &["1: reads the time: take it from clock.rs"]),
];

/// What the checker must let pass.
const FINE: &[(&str, &str)] = &[
    ("plan/mod.rs", "use crate::cluster::{Wanted, member::{self, Role}};\nuse super::cluster;"),
    (
        "plan/mod.rs",
        "// use crate::execute::turn;\n/* crate::node */\n/// [`crate::cli`]\nfn f() {}",
    ),
    (
        "plan/mod.rs",
        "//! tokio::main, std::fs, async fn\nconst S: &str = \"crate::cli \\\" std::fs::read\";",
    ),
    (
        "plan/mod.rs",
        "const S: &str = r##\"crate::cli \"# std::fs::read\"##; const B: &[u8] = b\"kube::x\";",
    ),
    (
        "plan/rules.rs",
        "pub(in crate::plan) fn f() {} pub(crate) fn g() {} pub(super) struct S(pub u8);",
    ),
    (
        "plan/rules.rs",
        "mod tests { use super::*; use super::super::Step; }\nuse super::step::Step;",
    ),
    (
        "plan/rules.rs",
        "fn f(x: &str) -> impl Sized + use<'_> { x.print(); u64::MAX; core::net::IpAddr::V4 }",
    ),
    ("execute/pods/apply.rs", "use kube::Api; use crate::plan::Step;"),
    ("operator/crd.rs", "use k8s_openapi::x; async fn f() { println!() }"),
    ("clock.rs", "use crate::cluster::Timestamp; fn f() { SystemTime::now(); }"),
    ("lib.rs", "pub mod cluster; pub mod plan;"),
    ("main.rs", "fn main() { quorate::cli::run(std::env::args_os()) }"),
];

#[test]
fn the_checker_finds_every_seeded_fault_and_no_other() {
    for (file, text, faults) in SEEDED {
        let expected: Vec<String> =
            faults.iter().map(|fault| format!("src/{file}:{fault}")).collect();
        assert_eq!(check(file, text), expected, "{text}");
    }
    for (file, text) in FINE {
        assert_eq!(check(file, text), [""; 0], "{text}");
    }
}

/// The faults of one file, each as `src/FILE:LINE: what`.
fn check(file: &str, text: &str) -> Vec<String> {
    let home = module(file);
    let top = home.first().copied().unwrap_or("lib");
    let words = source::words(text);
    let is_pure = PURE.iter().any(|pure| is_in(&home.join("/"), pure, "/"));
    let mut faults = Vec::new();

    if top != "lib" && layer(top).is_none() {
        faults.push((0, format!("no layer is given for `{top}`")));
    }
    for Named { line, path } in source::paths(text, if top == "main" { &[] } else { &home }) {
        match path {
            P::Ours(path) => {
                faults.extend(inside(&home, &path).map(|fault| (line, fault)));
                let path = path.join("/");
                for (narrow, ours, _) in narrow(&home) {
                    if !ours.iter().any(|it| is_in(&path, it, "/")) {
                        faults.push((line, format!("`{narrow}` may not import `{path}`")));
                    }
                }
            }
            P::Other(path) => {
                let path = path.join("::");
                for (narrow, _, crates) in narrow(&home) {
                    for name in crates.iter().filter(|it| is_in(&path, it, "::")) {
                        faults.push((line, format!("`{narrow}` may not name `{name}`")));
                    }
                }
                for (name, places) in CRATES {
                    if is_in(&path, name, "::")
                        && !places.iter().any(|p| is_in(&home.join("/"), p, "/"))
                    {
                        faults.push((line, format!("`{name}` may not be named here")));
                    }
                }
                for name in IMPURE.iter().filter(|_| is_pure) {
                    if is_in(&path, name, "::") {
                        faults.push((line, format!("is pure and names `{name}`")));
                    }
                }
            }
        }
    }
    for (n, (line, word)) in words.iter().enumerate() {
        let at = |back: usize| n.checked_sub(back).map_or("", |i| words[i].1.as_str());
        let next = |ahead: usize| words.get(n + ahead).map_or("", |(_, w)| w.as_str());
        let called = |name: &str| word == name && next(1) == "!";
        let reads_time =
            (word == "now" && matches!(at(3), "Instant" | "SystemTime") && at(1) == ":")
                || (word == "elapsed" && at(1) == "." && next(1) == "(" && next(2) == ")");
        if reads_time && file != CLOCK {
            faults.push((*line, "reads the time: take it from clock.rs".to_owned()));
        }
        if word == "path" && at(1) == "[" && at(2) == "#" {
            faults.push((*line, "`#[path]` goes round the walls".to_owned()));
        }
        let impure =
            IMPURE_WORDS.iter().any(|w| called(w)) || matches!(word.as_str(), "async" | "await");
        if is_pure && impure {
            faults.push((*line, format!("is pure and names `{word}`")));
        }
    }
    faults.into_iter().map(|(line, fault)| format!("src/{file}:{line}: {fault}")).collect()
}

fn narrow(
    home: &[&str],
) -> impl Iterator<Item = &'static (&'static str, &'static [&'static str], &'static [&'static str])>
{
    let home = home.join("/");
    NARROW.iter().filter(move |(narrow, ..)| is_in(&home, narrow, "/"))
}

/// What is wrong with naming `path` of this crate in the module `home`.
fn inside(home: &[&str], path: &[String]) -> Option<String> {
    let top = *home.first()?;
    let Some(target) = path.first().map(String::as_str) else {
        return Some("names the whole crate; name the module".to_owned());
    };
    let (here, there) = (home.join("/"), path.join("/"));
    for (one, other) in APART.iter().flat_map(|&(a, b)| [(a, b), (b, a)]) {
        if is_in(&here, one, "/") && is_in(&there, other, "/") {
            return Some(format!("`{one}` and `{other}` stay apart"));
        }
    }
    if target == top {
        return None;
    }
    if layer(target).is_none() {
        return Some(format!("no layer is given for `{target}`"));
    }
    let allowed = layer(top).unwrap_or_default();
    (!allowed.contains(&target)).then(|| format!("`{top}` may not import `{target}`"))
}

fn layer(name: &str) -> Option<&'static [&'static str]> {
    LAYERS.iter().find(|(layer, _)| *layer == name).map(|(_, allowed)| *allowed)
}

/// Whether `path` is `ancestor` or lies below it.
fn is_in(path: &str, ancestor: &str, separator: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with(separator))
}

/// `node/home/mod.rs` and `node/home.rs` are both the module `node`, `home`.
fn module(file: &str) -> Vec<&str> {
    let parts = file.trim_end_matches(".rs").split('/');
    parts.filter(|part| !matches!(*part, "mod" | "lib")).collect()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).expect("readable folder").map(|e| e.expect("entry").path()).collect();
    paths.sort();
    let (dirs, files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|p| p.is_dir());
    let files = files.into_iter().filter(|p| p.extension().is_some_and(|e| e == "rs"));
    files.chain(dirs.iter().flat_map(|d| rust_files(d))).collect()
}
