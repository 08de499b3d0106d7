//! The shim that makes a loss of power possible, built once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// What each sync takes at least, so that there is always something that is not durable yet.
pub(crate) const SYNC_MICROS: &str = "1500";

/// A node's disk whose power can fail.
#[derive(Clone, Debug)]
pub(crate) struct Power {
    shim: PathBuf,
    is_deaf: bool,
}

impl Power {
    /// `None`, loudly, where no C compiler is.
    pub(crate) fn new() -> Option<Power> {
        static BUILT: OnceLock<Option<(TempDir, PathBuf)>> = OnceLock::new();
        let built = BUILT.get_or_init(|| {
            let dir = tempfile::tempdir().expect("a directory");
            let shim = dir.path().join("shim.so");
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/shim.c");
            let mut cc = Command::new("cc");
            cc.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&shim).args([source, "-lpthread"]);
            cc.status().is_ok_and(|it| it.success()).then_some((dir, shim))
        });
        if built.is_none() {
            eprintln!("SKIPPED: no C compiler builds the shim; power loss is not tried");
        }
        built.as_ref().map(|it| Power { shim: it.1.clone(), is_deaf: false })
    }

    /// The library, for whoever sets its variables by himself; `shim.c` tells them.
    pub(crate) fn shim(&self) -> &Path {
        &self.shim
    }

    /// A disk that says it has synced, and has not.
    pub(crate) fn deaf(self) -> Power {
        Power { is_deaf: true, ..self }
    }

    /// Has a node that is about to be started keep its journal.
    pub(crate) fn on(&self, command: &mut Command, home: &Path, undo: &Path) {
        assert!(!undo.join("journal-0000").exists(), "what its last life left was not decided on");
        command
            .env("LD_PRELOAD", &self.shim)
            .env("PL_DIR", home)
            .env("PL_UNDO", undo)
            .env("PL_SYNC_MICROS", SYNC_MICROS);
        if self.is_deaf {
            command.env("PL_DEAF", "1");
        }
    }
}
