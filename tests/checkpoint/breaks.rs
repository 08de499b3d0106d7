//! What is there after a process ended without a word.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use quorate::node::checkpoint::{Batch, Checkpoint, Place, Trim};
use quorate::node::mvcc::{Records, Revision};

use crate::support::{Random, at, batch, copy_dir, last_said, record, revisions};

#[test]
fn a_store_that_was_not_flushed_holds_all_up_to_the_last_flush_and_its_blobs_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let sled = Place::new(dir.path().join("store")).create().unwrap();
    let mut flushed = 0;
    let mut next = 1;
    for round in 0..30 {
        let last = next + 40;
        sled.write(&batch(next..=last)).unwrap();
        next = last + 1;
        if round % 7 == 3 {
            sled.flush().unwrap();
            flushed = last;
        }
        // What a crash would leave at this moment.
        if round % 5 == 4 {
            let copy = dir.path().join(format!("copy{round}"));
            copy_dir(&dir.path().join("store"), &copy);
            let left = Place::new(&copy).open().unwrap().expect("a store");
            assert_eq!(revisions(&left).unwrap(), (1..=flushed).collect::<Vec<_>>());
            assert_eq!(left.applied().unwrap(), flushed.unsigned_abs());
            if flushed > 0 {
                assert_eq!(last_said(&left), flushed);
            }
            assert_eq!(left.last().unwrap(), if flushed > 0 { at(flushed) } else { at(0) });
        }
    }
    // An orderly end loses nothing.
    drop(sled);
    let sled = Place::new(dir.path().join("store")).open().unwrap().expect("a store");
    assert_eq!(revisions(&sled).unwrap(), (1..next).collect::<Vec<_>>());
}

/// Not a test: what the next one kills. Writes, removes and flushes without end.
#[test]
#[ignore = "runs until it is killed"]
fn writes_until_it_is_killed() {
    let Some(dir) = env::var_os("QUORATE_TEST_STORE") else { return };
    let place = Place::new(PathBuf::from(dir));
    let sled = match place.open().unwrap() {
        Some(sled) => sled,
        None => place.create().unwrap(),
    };
    let mut random = Random(7);
    let mut next = sled.last().unwrap().main + 1;
    loop {
        let last = next + i64::try_from(random.below(300)).unwrap();
        let mut it = batch(next..=last);
        // Of the older ones only each tenth stays.
        let old = (next - 2000).max(1)..(last - 2000).max(1);
        it.removes = old.filter(|main| main % 10 != 0).map(at).collect();
        sled.write(&it).unwrap();
        next = last + 1;
        match random.below(12) {
            0 => sled.trim(Trim::Now).unwrap(),
            1..5 => sled.flush().unwrap(),
            _ => {}
        }
    }
}

#[test]
fn killed_at_any_moment_it_opens_with_whole_batches_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let mut last = 0;
    // Each lives longer than the one before; on a busy machine the first may not come far.
    for round in 0..40 {
        if round >= 6 && last > 0 {
            break;
        }
        let mut writer = Command::new(env::current_exe().unwrap())
            .args(["--ignored", "--exact", "breaks::writes_until_it_is_killed"])
            .env("QUORATE_TEST_STORE", &store)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(700 + 130 * round));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let Some(sled) = Place::new(&store).open().unwrap() else { continue };
        let reached = sled.applied().unwrap();
        if reached == 0 {
            continue;
        }
        let reached = i64::try_from(reached).unwrap();
        assert!(reached >= last, "never back before what was durable");
        last = reached;
        assert_eq!(last_said(&sled), last, "blobs and head are of one batch");
        assert_eq!(sled.last().unwrap(), at(last));
        let found = revisions(&sled).unwrap();
        let recent = (last - 1500).max(1);
        let expected: Vec<_> = (recent..=last).collect();
        let start = found.partition_point(|it| *it < recent);
        assert_eq!(&found[start..], &expected[..], "nothing is missing before the end");
        assert!(found[..start].windows(2).all(|it| it[0] < it[1]));
    }
    assert!(last > 0, "it was killed before it had written anything, every time");
}

#[test]
fn history_that_comes_and_goes_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    let sled = place.create().unwrap();
    let mut removed = 0;
    let mut next = 1;
    let mut early = 0;
    for round in 0..120 {
        let last = next + 499;
        let mut it = batch(next..=last);
        // All but the last 3,000, a few at the wrong end included.
        let until = (last - 3000).max(removed);
        it.removes = (removed + 1..=until).map(at).collect();
        it.removes.push(at(last + 1));
        removed = until;
        sled.write(&it).unwrap();
        if round % 10 == 9 {
            sled.flush().unwrap();
        }
        if round == 29 {
            early = sled.disk_size();
        }
        next = last + 1;
    }
    assert_eq!(revisions(&sled).unwrap(), (removed + 1..next).collect::<Vec<_>>());
    assert!(sled.disk_size() < early * 3, "{} after {early}", sled.disk_size());
    drop(sled);
    let sled = place.open().unwrap().expect("a store");
    assert_eq!(revisions(&sled).unwrap(), (removed + 1..next).collect::<Vec<_>>());
    assert_eq!(sled.get(at(removed)).unwrap(), None);
    assert_eq!(sled.get(at(next - 1)).unwrap(), Some(record(next - 1)));
    // Removed and put as one, it is not there; removed from all, none is.
    let all = (removed..=next).map(at).collect();
    sled.write(&Batch { puts: vec![record(next)], removes: all, ..Batch::default() }).unwrap();
    sled.flush().unwrap();
    drop(sled);
    let sled = place.open().unwrap().expect("a store");
    assert_eq!(revisions(&sled).unwrap(), [0; 0]);
    assert_eq!(sled.last().unwrap(), Revision::default());
    sled.write(&batch(next..=next + 200)).unwrap();
    assert_eq!(revisions(&sled).unwrap().len(), 201);
}

#[test]
fn two_cannot_open_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let _held = Place::new(dir.path()).create().unwrap();
    // A copy of the path is the same place.
    let path: &Path = dir.path();
    let error = Place::new(path).open().expect_err("it is in use").to_string();
    assert!(error.contains("open sled"), "{error}");
}
