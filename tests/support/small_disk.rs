//! A small file system for a test that needs a full one.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own in memory; unmounted at the end, after its user has ended.
pub(crate) struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    /// Mounts one at a directory, which is made if need be. It takes root: for anybody else the
    /// test is skipped and says so, but where nobody reads that, as in CI, it fails.
    #[track_caller]
    pub(crate) fn mount(place: PathBuf, mebibytes: u32) -> Option<SmallDisk> {
        match SmallDisk::try_mount(place, mebibytes) {
            Ok(disk) => Some(disk),
            Err(why) => {
                assert!(std::env::var_os("CI").is_none(), "no small disk can be mounted: {why}");
                eprintln!(
                    "\n!!! SKIPPED: a full disk needs a file system of its own, which could not be \
                     mounted (this test has to run as root): {why}\n"
                );
                None
            }
        }
    }

    fn try_mount(place: PathBuf, mebibytes: u32) -> Result<SmallDisk, String> {
        fs::create_dir_all(&place).map_err(|e| format!("{}: {e}", place.display()))?;
        let size = format!("size={mebibytes}m,mode=0700");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "quorate-test"])
            .arg(&place)
            .output()
            .map_err(|e| format!("mount: {e}"))?;
        if output.status.success() {
            Ok(SmallDisk { place })
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.place).status();
    }
}

/// Fills a file system to its last byte.
pub(crate) fn fill(file: &Path) {
    let mut filler = File::create(file).expect("a file");
    let mut block = vec![0_u8; 1 << 20];
    while !block.is_empty() {
        if filler.write_all(&block).is_err() {
            block.truncate(block.len() / 2);
        }
    }
}
