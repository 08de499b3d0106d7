//! The thread that writes behind.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use quorate::node::checkpoint::{Batch, Checkpoint, Full, Limits, Memory, Place, Trim, Writer};
use quorate::node::mvcc::{Record, Records, Revision, Seen, StoreError};

use crate::support::{batch, last_said, revisions};

/// In memory, with a gate before every write and a flush that can be made to fail.
#[derive(Default)]
struct Gated {
    memory: Memory,
    is_open: Mutex<bool>,
    opened: Condvar,
    fails: AtomicBool,
    flushes: AtomicUsize,
}

impl Gated {
    fn open(&self, is_open: bool) {
        *self.is_open.lock() = is_open;
        self.opened.notify_all();
    }
}

impl Records for Gated {
    fn get(&self, at: Revision) -> Result<Option<Record>, StoreError> {
        self.memory.get(at)
    }

    fn scan(
        &self,
        from: Revision,
        to: i64,
        see: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.memory.scan(from, to, see)
    }
}

impl Checkpoint for Gated {
    fn applied(&self) -> Result<u64, StoreError> {
        self.memory.applied()
    }

    fn last(&self) -> Result<Revision, StoreError> {
        self.memory.last()
    }

    fn meta(&self, name: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.memory.meta(name)
    }

    fn metas(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.memory.metas(prefix)
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut is_open = self.is_open.lock();
        while !*is_open {
            self.opened.wait(&mut is_open);
        }
        self.memory.write(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        if self.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Io("no fsync today".to_owned()));
        }
        Ok(())
    }

    fn trim(&self, _: Trim) -> Result<(), StoreError> {
        Ok(())
    }

    fn disk_size(&self) -> u64 {
        1
    }
}

fn seldom(backlog: usize) -> Limits {
    Limits { flush_every: Duration::from_secs(3600), backlog }
}

#[tokio::test]
async fn what_is_sent_is_written_in_order_and_durable_after_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path());
    let sled = Arc::new(place.create().unwrap());
    let writer = Writer::start(sled.clone(), seldom(32 << 20)).unwrap();
    for n in 0..50 {
        writer.send(batch(n * 10 + 1..=n * 10 + 10)).unwrap();
    }
    let reached = writer.flush().await.unwrap();
    assert_eq!((reached.applied, reached.revision), (500, 500));
    assert_eq!((writer.written(), writer.durable()), (reached, reached));
    assert_eq!(writer.backlog(), 0);
    writer.send(batch(501..=510)).unwrap();
    let mut positions = writer.positions();
    positions.wait_for(|it| it.written.applied == 510).await.unwrap();
    assert_eq!(writer.durable(), reached, "not before the next flush");
    writer.trim().await.unwrap();
    assert_eq!(writer.stop().unwrap().applied, 510);
    drop(sled);
    let sled = place.open().unwrap().expect("a store");
    assert_eq!(revisions(&sled).unwrap(), (1..=510).collect::<Vec<_>>());
    assert_eq!(last_said(&sled), 510);
}

#[tokio::test]
async fn a_flush_comes_by_itself_also_when_batches_never_pause() {
    let dir = tempfile::tempdir().unwrap();
    let sled = Arc::new(Place::new(dir.path()).create().unwrap());
    let limits = Limits { flush_every: Duration::from_millis(50), backlog: 1 << 20 };
    let writer = Writer::start(sled, limits).unwrap();
    let mut last = 0;
    while writer.durable().applied < 100 {
        writer.room().await.unwrap();
        writer.send(batch(last + 1..=last + 5)).unwrap();
        last += 5;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(last < 100_000, "it never flushed");
    }
}

#[tokio::test]
async fn a_full_backlog_hands_the_batch_back_and_says_when_there_is_room() {
    let gated = Arc::new(Gated::default());
    let writer = Writer::start(gated.clone(), seldom(10_000)).unwrap();
    let mut sent = 0;
    let refused = loop {
        match writer.send(batch(sent + 1..=sent + 4)) {
            Ok(()) => sent += 4,
            Err(Full::NoRoom(refused)) => break refused,
            Err(other) => panic!("{other}"),
        }
        assert!(sent < 100, "it took whatever came");
    };
    assert!(writer.backlog() >= 10_000 && writer.backlog() < 13_000);
    let wait = tokio::time::timeout(Duration::from_millis(50), writer.room());
    assert!(wait.await.is_err(), "there is no room yet");
    gated.open(true);
    writer.room().await.unwrap();
    writer.send(refused).unwrap();
    assert_eq!(writer.flush().await.unwrap().revision, sent + 4);
    assert_eq!(revisions(&gated.memory).unwrap(), (1..=sent + 4).collect::<Vec<_>>());
}

#[tokio::test]
async fn after_a_flush_that_failed_nothing_is_tried_again_and_everyone_hears_of_it() {
    let gated = Arc::new(Gated::default());
    gated.open(true);
    let writer = Writer::start(gated.clone(), seldom(10_000)).unwrap();
    writer.send(batch(1..=3)).unwrap();
    writer.flush().await.unwrap();
    gated.fails.store(true, Ordering::SeqCst);
    writer.send(batch(4..=6)).unwrap();
    let error = StoreError::Io("no fsync today".to_owned());
    assert_eq!(writer.flush().await.unwrap_err(), error);
    let mut positions = writer.positions();
    let failed = positions.wait_for(|it| it.failed.is_some()).await.unwrap().clone();
    assert_eq!(failed.durable.applied, 3);
    gated.fails.store(false, Ordering::SeqCst);
    let flushes = gated.flushes.load(Ordering::SeqCst);
    assert!(matches!(writer.send(batch(7..=7)), Err(Full::Failed(..))));
    assert_eq!(writer.flush().await.unwrap_err(), error);
    assert_eq!(writer.room().await.unwrap_err(), error);
    assert_eq!(writer.stop().unwrap_err(), error);
    assert_eq!(gated.flushes.load(Ordering::SeqCst), flushes);
}

#[test]
fn reads_go_on_while_it_writes_and_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let sled = Arc::new(Place::new(dir.path()).create().unwrap());
    sled.write(&batch(1..=2000)).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (sled, is_over) = (&sled, &is_over);
            scope.spawn(move || {
                let mut random = crate::support::Random(seed);
                while !is_over.load(Ordering::Relaxed) {
                    let main = i64::try_from(random.below(2000)).unwrap() + 1;
                    let at = crate::support::at(main);
                    assert_eq!(sled.get(at).unwrap(), Some(crate::support::record(main)));
                }
            });
        }
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                assert!(revisions(sled.as_ref()).unwrap().len() >= 2000);
            }
        });
        for n in 0..12 {
            sled.write(&batch(2001 + n * 100..=2100 + n * 100)).unwrap();
            sled.trim(if n % 3 == 0 { Trim::Now } else { Trim::Busy }).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn blobs_are_found_by_name_and_by_what_their_names_begin_with() {
    let dir = tempfile::tempdir().unwrap();
    let sled = Place::new(dir.path()).create().unwrap();
    for checkpoint in [&sled as &dyn Checkpoint, &Memory::default()] {
        let put = |name: &'static str, blob: Option<&'static str>| {
            (Bytes::from(name), blob.map(Bytes::from))
        };
        let meta = vec![
            put("a", Some("1")),
            put("a/x", Some("")),
            put("a/y", Some("3")),
            put("b", Some("4")),
        ];
        checkpoint.write(&Batch { meta, ..batch(1..=300) }).unwrap();
        let meta = vec![put("a/y", None), put("b", Some("5")), put("none", None)];
        checkpoint.write(&Batch { meta, ..Batch::default() }).unwrap();
        let names = |prefix: &str| {
            let found = checkpoint.metas(prefix.as_bytes()).unwrap().into_iter();
            found.map(|(name, _)| String::from_utf8_lossy(&name).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(""), ["a", "a/x", "b"]);
        assert_eq!(names("a/"), ["a/x"]);
        assert_eq!(names("c"), [""; 0]);
        assert_eq!(checkpoint.meta(b"b").unwrap().as_deref(), Some(&b"5"[..]));
        assert_eq!(checkpoint.meta(b"a/x").unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(checkpoint.meta(b"a/y").unwrap(), None);
    }
}
