//! A directory for one test, and the end of every process that works in it.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::process::{NodeProcesses, Process, Signal, all_of};
use super::small_disk::SmallDisk;
use super::wait::now;

/// A test's directory: the manifest, the home of `up`, what `up` printed. Removed at the end,
/// unless `QUORATE_TEST_KEEP` is set; where it is `failed`, that of a test that did not.
pub(crate) struct Home {
    dir: PathBuf,
    disks: Vec<SmallDisk>,
}

impl Home {
    pub(crate) fn new() -> Home {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("scenario-{}-{number}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // A former process with the same number may have been killed before it cleaned up.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("the target directory can be written");
        Home { dir, disks: Vec::new() }
    }

    /// The test's own directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `--home` is given.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join("home")
    }

    /// The manifest that `up` watches.
    pub(crate) fn manifest(&self) -> PathBuf {
        self.dir.join("cluster.yaml")
    }

    /// The home of one node.
    pub(crate) fn node(&self, node: &str) -> PathBuf {
        self.path().join(node)
    }

    /// What runs for a node now.
    pub(crate) fn processes(&self, node: &str) -> NodeProcesses {
        NodeProcesses::of(&self.node(node))
    }

    /// Former data of a node, oldest first.
    pub(crate) fn asides(&self, node: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.node(node).join("aside")) else { return Vec::new() };
        let mut asides: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        asides.sort();
        asides
    }

    /// Mounts a small disk at a directory of the home; `false` if the test has to be skipped.
    #[track_caller]
    pub(crate) fn mount_small(&mut self, place: PathBuf, mebibytes: u32) -> bool {
        let disk = SmallDisk::mount(place, mebibytes);
        let is_there = disk.is_some();
        self.disks.extend(disk);
        is_there
    }

    /// The end of every log in the home, for a test that failed.
    pub(crate) fn dump(&self) -> String {
        let mut text = String::new();
        let record = self.path().join("cluster.json");
        let mut files = vec![record];
        let mut nodes: Vec<_> = fs::read_dir(self.path())
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        nodes.sort();
        for node in nodes.iter().filter(|path| path.is_dir()) {
            files.extend(["state.json", "member.json", "log"].map(|file| node.join(file)));
        }
        for file in files {
            let content = fs::read(&file).unwrap_or_default();
            let content = String::from_utf8_lossy(&content);
            let lines: Vec<_> = content.lines().collect();
            let _ = writeln!(text, "--- {} ({} lines)", file.display(), lines.len());
            for line in &lines[lines.len().saturating_sub(12)..] {
                text.extend(line.chars().take(240));
                text.push('\n');
            }
        }
        text
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // Whoever works in this directory was started by this test: nobody else knows the path.
        let begun = now();
        loop {
            let left: Vec<Process> = all_of(&self.dir);
            if left.is_empty() || begun.elapsed() > Duration::from_secs(10) {
                break;
            }
            for process in left {
                process.signal(Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.disks.clear();
        let keeps = match std::env::var_os("QUORATE_TEST_KEEP") {
            Some(which) if which == "failed" => std::thread::panicking(),
            which => which.is_some(),
        };
        if keeps {
            eprintln!("kept: {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}
