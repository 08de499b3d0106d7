//! Records and batches whose content tells where they belong.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use quorate::node::checkpoint::{Batch, Checkpoint};
use quorate::node::mvcc::{Record, Revision, StoreError};
use quorate::proto::mvccpb::KeyValue;

pub fn at(main: i64) -> Revision {
    Revision { main, sub: 0 }
}

/// The record of a revision: its value follows from it.
pub fn record(main: i64) -> Record {
    let value: Vec<u8> = (0..256).map(|n| (main * 31 + n * 7).to_le_bytes()[0]).collect();
    let kv = KeyValue {
        key: format!("key/{:08}", main % 1000).into(),
        value: value.into(),
        create_revision: main,
        mod_revision: main,
        version: 1,
        lease: 0,
    };
    Record { revision: at(main), kv, tombstone: false }
}

/// The batch with these revisions, that says in a blob how far it is.
pub fn batch(revisions: std::ops::RangeInclusive<i64>) -> Batch {
    let last = *revisions.end();
    Batch {
        puts: revisions.map(record).collect(),
        removes: Vec::new(),
        meta: vec![(Bytes::from_static(b"test/last"), Some(last.to_string().into()))],
        applied: last.unsigned_abs(),
    }
}

/// All revisions that are in it, each with the content that it must have.
pub fn revisions(of: &dyn Checkpoint) -> Result<Vec<i64>, StoreError> {
    let mut found = Vec::new();
    of.scan(Revision::default(), i64::MAX, &mut |it| {
        assert_eq!(it.to_record(), record(it.revision.main), "a record is as it was written");
        found.push(it.revision.main);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// What the blob says that [`batch`] writes.
pub fn last_said(of: &dyn Checkpoint) -> i64 {
    let blob = of.meta(b"test/last").expect("the blob can be read").expect("there is one");
    String::from_utf8_lossy(&blob).parse().expect("a number")
}

pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// A generator of numbers that gives the same for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}
