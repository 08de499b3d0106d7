//! A file system without room.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use quorate::node::log::{Log, LogError};

use crate::support::{IDS, Place, SMALL, append, at, entries, entry, read_all};

/// A tmpfs of its own, gone with the test.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(dir: PathBuf, size: &str) -> Option<Tmpfs> {
        std::fs::create_dir_all(&dir).unwrap();
        run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], &dir)
            .then_some(Tmpfs(dir))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run("umount", &["-l"], &self.0);
    }
}

fn run(program: &str, arguments: &[&str], dir: &Path) -> bool {
    let output = Command::new(program).args(arguments).arg(dir).output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn a_full_disk_ends_the_log_and_costs_nothing_that_was_acknowledged() {
    let place = Place::new(SMALL);
    let Some(mount) = Tmpfs::mount(place.root.path().join("small"), "512k") else {
        eprintln!("SKIPPED: a small tmpfs can only be mounted as root; ENOSPC is not tried here");
        return;
    };
    let dir = mount.0.join("log");
    let log = Log::create(&dir, IDS, SMALL).unwrap();
    let mut next = 0;
    let error = loop {
        match place.append(&log, vec![entry(1, next)]) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_full(), "{error}");
    assert!(next > 100, "{next} entries");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::StorageFull);
    // Nothing is tried again, whatever is asked.
    let later = [
        place.append(&log, vec![entry(1, next + 1)]),
        place.wait(log.save_vote(Bytes::from_static(b"vote"))),
        place.wait(log.truncate_after(Some(at(1, 3)))),
        place.wait(log.purge(at(1, 90))),
        log.save_committed(at(1, 3)),
        place.wait(log.close()),
    ];
    for result in later {
        assert!(result.as_ref().is_err_and(LogError::is_full), "{result:?}");
    }
    assert!(log.failure().is_some());
    drop(log);

    assert!(run("mount", &["-o", "remount,size=4m"], &mount.0));
    let (log, recovered) = Log::open(&dir, SMALL).unwrap();
    assert!(recovered.bounds.next >= next, "{recovered:?}");
    let next = recovered.bounds.next;
    assert_eq!(read_all(&log, 0..next), entries(1, 0..next));
    place.wait(append(&log, entries(1, next..next + 20))).unwrap();
}
