//! Directories of nodes as tests handle them.

use std::path::Path;
use std::process::Command;

/// Copies a directory that nobody writes to, to where there is none yet.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(done.is_ok_and(|it| it.success()), "{} is not copied", from.display());
}
