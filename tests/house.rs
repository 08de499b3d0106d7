//! Keeps what the documents say and what the tree holds from drifting apart.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate::cluster::ExitKind;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const DOCUMENTS: [&str; 8] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "charts/quorate/README.md",
    "deploy/README.md",
    "docs/README.md",
    "docs/operations.md",
    "docs/performance.md",
];

#[test]
fn no_tracked_file_names_a_path_of_one_machine() {
    // In pieces, or this file would find itself.
    let marks = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/tmp/", "bash")];
    let home = concat!("/ho", "me/");
    let mut faults = Vec::new();
    for file in tracked() {
        // A link may point nowhere, and what is no text names no path.
        let Ok(text) = fs::read_to_string(Path::new(ROOT).join(&file)) else { continue };
        for (line, n) in text.lines().zip(1..) {
            let of_someone = absolute(line, home)
                .any(|rest| rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
            if of_someone || marks.iter().any(|mark| absolute(line, mark).next().is_some()) {
                faults.push(format!("{}:{n}: {}", file.display(), line.trim()));
            }
        }
    }
    assert!(faults.is_empty(), "paths of one machine:\n{}", faults.join("\n"));
}

#[test]
fn the_documents_name_only_what_is_there() {
    let mut faults = Vec::new();
    for document in DOCUMENTS {
        let folder = Path::new(document).parent().expect("inside the tree");
        for (n, name) in named_paths(&read(document)) {
            let there = [Path::new(""), folder]
                .iter()
                .any(|base| Path::new(ROOT).join(base).join(&name).exists());
            if !there {
                faults.push(format!("{document}:{n}: {name} does not exist"));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_code_map_is_complete_and_short() {
    let text = read("ARCHITECTURE.md");
    let lines = text.lines().count();
    assert!(lines < 200, "ARCHITECTURE.md has {lines} lines; under 200 they get read");
    let named: BTreeSet<String> = named_paths(&text).into_iter().map(|(_, name)| name).collect();
    for entry in fs::read_dir(Path::new(ROOT).join("src")).expect("src is readable") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("src/{name}{}", if entry.path().is_dir() { "/" } else { "" });
        assert!(named.contains(&path), "the code map of ARCHITECTURE.md lacks `{path}`");
    }
}

#[test]
fn every_make_target_that_a_document_names_exists() {
    let makefile = read("Makefile");
    let described: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(':').filter(|(_, rest)| rest.contains(" ## ")))
        .filter(|(target, _)| !target.starts_with('\t'))
        .map(|(target, _)| target)
        .collect();
    let phony: BTreeSet<&str> = makefile
        .lines()
        .find_map(|line| line.strip_prefix(".PHONY: "))
        .expect("a .PHONY line")
        .split(' ')
        .collect();
    assert_eq!(described, phony, "each target has its line of help and is phony");
    let mut found = 0;
    for document in DOCUMENTS.into_iter().chain([".ci/run"]) {
        for line in read(document).lines() {
            for target in commands(line, "make ") {
                found += 1;
                assert!(described.contains(target), "{document} names `make {target}`");
            }
        }
    }
    assert!(found > 5, "only {found} targets are named; is this test still looking?");
}

#[test]
fn the_readme_lists_every_exit_code() {
    let readme = read("README.md");
    for kind in ExitKind::ALL {
        if kind.code() < 40 {
            continue;
        }
        let row = format!("| {} | {kind} |", kind.code());
        assert!(readme.contains(&row), "README.md lacks the row that begins `{row}`");
    }
}

#[test]
fn sources_open_with_a_word_on_what_they_are_and_stay_short() {
    let mut faults = Vec::new();
    let sources = tracked().into_iter().filter(|f| f.extension().is_some_and(|e| e == "rs"));
    for file in sources {
        let text = read(&file.to_string_lossy());
        if !text.starts_with("//!") && file != Path::new("build.rs") {
            faults.push(format!("{}: does not open with `//!`", file.display()));
        }
        let lines = text.lines().count();
        if file.starts_with("src") && lines > 600 {
            faults.push(format!("{}: {lines} lines; split it", file.display()));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn one_version_of_rust_is_named() {
    let value = |file: &str, key: &str| {
        let text = read(file);
        let line = text.lines().find(|line| line.starts_with(key)).expect("the key is there");
        line.split('"').nth(1).expect("a quoted value").to_owned()
    };
    let pinned = value("rust-toolchain.toml", "channel");
    let oldest = value("Cargo.toml", "rust-version");
    assert!(pinned.starts_with(&oldest), "pinned is {pinned}, Cargo.toml says {oldest}");
}

#[test]
fn the_helpers_of_this_file_see_what_they_should() {
    let names = |text: &str| named_paths(text).into_iter().map(|(_, p)| p).collect::<Vec<_>>();
    assert_eq!(names("the `src/plan/` and `Makefile`"), ["src/plan/", "Makefile"]);
    assert_eq!(
        names("[walls](tests/layers#x) [web](https://x.y/z) `up -f a.yaml`"),
        ["tests/layers"]
    );
    assert_eq!(names("`HOME/cluster.json` `crate::plan` `src/*.rs`"), [""; 0]);
    let targets = |line| commands(line, "make ").collect::<Vec<_>>();
    let found = |line| absolute(line, "/x/").collect::<Vec<_>>();
    assert_eq!(found("in `/x/a` or a/x/b"), ["a` or a/x/b"]);
    assert_eq!(targets("run `make up`, then make sure, then"), ["up"]);
    assert_eq!(targets("make verify   # everything"), ["verify"]);
    assert_eq!(targets("exec make verify </dev/null"), ["verify"]);
}

/// What follows each `mark` in `line` that begins a path, and is not in the middle of one.
fn absolute<'a>(line: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(mark).filter_map(move |(at, _)| {
        let inside = line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-*}".contains(c));
        (!inside).then(|| &line[at + mark.len()..])
    })
}

/// Paths of this repository that a document names: in backticks or as the target of a link.
fn named_paths(text: &str) -> Vec<(usize, String)> {
    const TOP: [&str; 11] = [
        "src/", "tests/", "deploy/", "crds/", "charts/", "docs/", "proto/", "scripts/", "benches/",
        "fuzz/", ".ci/",
    ];
    let mut found = Vec::new();
    for (line, n) in text.lines().zip(1..) {
        for code in line.split('`').skip(1).step_by(2) {
            let top = TOP.iter().any(|top| code.starts_with(top));
            let file = !code.contains('/')
                && Path::new(code).extension().is_some_and(|e| e == "md" || e == "toml");
            if (top || file || code == "Makefile") && !code.contains([' ', '*', '<']) {
                found.push((n, code.to_owned()));
            }
        }
        for link in line.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                found.push((n, target.to_owned()));
            }
        }
    }
    found
}

/// The words that follow `program` where a line runs it: at its start, after a backtick, or
/// after `exec`.
fn commands<'a>(line: &'a str, program: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(program).filter_map(move |(at, _)| {
        let before = line[..at].trim_end_matches("exec ");
        let runs = before.trim_start().is_empty() || before.ends_with('`');
        let rest = &line[at + program.len()..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        (runs && end > 0).then_some(&rest[..end])
    })
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

/// What git tracks; in a tree without git, everything but what a build leaves behind.
fn tracked() -> Vec<PathBuf> {
    let git = Command::new("git").args(["ls-files", "-z"]).current_dir(ROOT).output();
    let files: Vec<PathBuf> = match git {
        Ok(out) if out.status.success() => String::from_utf8_lossy(&out.stdout)
            .split_terminator('\0')
            .map(PathBuf::from)
            .filter(|file| Path::new(ROOT).join(file).exists())
            .collect(),
        _ => walk(Path::new(ROOT)),
    };
    assert!(files.len() > 50, "only {} files were found", files.len());
    files
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    const LEFT: [&str; 6] =
        [".git", ".quorate", "target", "mutants.out", "fuzz/artifacts", "fuzz/corpus"];
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("readable folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if !LEFT.iter().any(|left| path.ends_with(left)) {
                files.extend(walk(&path));
            }
        } else {
            files.push(path.strip_prefix(ROOT).expect("inside the tree").to_owned());
        }
    }
    files
}
