//! Snapshots that come in, and which store is the current one.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use quorate::node::checkpoint::{Checkpoint, Place};
use quorate::node::mvcc::{Revision, StoreError};

use crate::support::{at, batch, copy_dir, record, revisions};

fn stores(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_type().unwrap());
    entries.filter(fs::FileType::is_dir).count()
}

#[test]
fn an_import_that_broke_off_goes_on_behind_what_came_durably() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path().join("store"));
    let old = place.create().unwrap();
    old.write(&batch(1..=10)).unwrap();
    old.flush().unwrap();

    let import = place.begin_import(b"snapshot at 1000").unwrap();
    assert_eq!(import.received().unwrap(), Revision::default());
    import.append((1..=300).map(record).collect()).unwrap();
    import.flush().unwrap();
    import.append((301..=500).map(record).collect()).unwrap();
    // The power goes.
    let copy = dir.path().join("copy");
    copy_dir(&dir.path().join("store"), &copy);
    drop(import);

    let place = Place::new(&copy);
    let current = place.open().unwrap().expect("the former store is the current one");
    assert_eq!(revisions(&current).unwrap(), (1..=10).collect::<Vec<_>>());
    let import = place.begin_import(b"snapshot at 1000").unwrap();
    assert_eq!(import.received().unwrap(), at(300));
    // Sent once too often.
    import.append((250..=1000).map(record).collect()).unwrap();
    drop(current);
    import.finish(vec![(Bytes::from("said"), Bytes::from("so"))], 77).unwrap();

    let current = place.open().unwrap().expect("a store");
    assert_eq!(revisions(&current).unwrap(), (1..=1000).collect::<Vec<_>>());
    assert_eq!(current.meta(b"said").unwrap().as_deref(), Some(&b"so"[..]));
    assert_eq!(current.applied().unwrap(), 77);
    assert_eq!(stores(&copy), 1, "the former store is gone");
    // It is no import any more, whatever is asked for next.
    drop(current);
    let import = place.begin_import(b"snapshot at 1000").unwrap();
    assert_eq!(import.received().unwrap(), Revision::default());
}

#[test]
fn what_is_left_of_another_import_or_a_creation_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    drop(place.create().unwrap());
    let import = place.begin_import(b"one").unwrap();
    import.append((1..=9).map(record).collect()).unwrap();
    drop(import);
    let import = place.begin_import(b"two").unwrap();
    assert_eq!(import.received().unwrap(), Revision::default());
    drop(import);
    fs::create_dir_all(dir.path().join("17/sled/slabs")).unwrap();
    drop(place.open().unwrap().expect("a store"));
    assert_eq!(stores(dir.path()), 2, "the current one and an import that may go on");
    place.drop_import().unwrap();
    assert_eq!(stores(dir.path()), 1);
}

#[test]
fn an_abandoned_store_is_gone_and_never_taken_for_an_import() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    assert!(place.open().unwrap().is_none(), "nothing is there yet");
    let import = place.begin_import(b"one").unwrap();
    import.append((1..=9).map(record).collect()).unwrap();
    import.finish(Vec::new(), 9).unwrap();
    assert_eq!(revisions(&place.open().unwrap().expect("a store")).unwrap().len(), 9);
    place.abandon().unwrap();
    assert!(place.open().unwrap().is_none());
    let import = place.begin_import(b"one").unwrap();
    assert_eq!(import.received().unwrap(), Revision::default());
}

#[test]
fn a_pointer_that_cannot_be_read_is_damage_and_removes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    let sled = place.create().unwrap();
    sled.write(&batch(1..=10)).unwrap();
    drop(sled);
    let pointer = dir.path().join("CURRENT");
    let whole = fs::read(&pointer).unwrap();
    for broken in [&b""[..], b"1\n", b"2 00000000\n", &whole[..whole.len() - 1]] {
        fs::write(&pointer, broken).unwrap();
        assert!(matches!(place.open(), Err(StoreError::Damaged(_))));
        assert!(matches!(place.begin_import(b"x"), Err(StoreError::Damaged(_))));
        assert!(matches!(place.create(), Err(StoreError::Damaged(_))));
    }
    fs::remove_file(&pointer).unwrap();
    assert!(matches!(place.open(), Err(StoreError::Damaged(_))));
    fs::write(&pointer, whole).unwrap();
    assert_eq!(revisions(&place.open().unwrap().expect("a store")).unwrap().len(), 10);
}
