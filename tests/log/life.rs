//! What a log keeps over its life.

use std::time::Duration;

use bytes::Bytes;
use quorate::node::log::{Log, LogError, Options, check, read_ids};

use crate::support::{
    IDS, Place, SMALL, append, at, begin_append, entries, entry, plain, read_all,
};

#[test]
fn what_was_written_is_found_again() {
    let place = Place::new(SMALL);
    assert!(read_ids(&place.dir()).unwrap().is_none());
    assert!(check(&place.dir()).unwrap().is_none());
    assert!(matches!(Log::open(&place.dir(), SMALL), Err(LogError::Missing(_))));

    let log = place.create();
    place.wait(log.save_vote(Bytes::from_static(b"one"))).unwrap();
    place.append(&log, entries(1, 0..40)).unwrap();
    place.append_each(&log, 2, 40..90);
    place.wait(log.save_vote(Bytes::from_static(b"two"))).unwrap();
    log.save_committed(at(2, 88)).unwrap();
    place.wait(log.close()).unwrap();
    assert!(matches!(place.append(&log, entries(2, 90..91)), Err(LogError::Closed)));
    drop(log);

    assert!(matches!(Log::create(&place.dir(), IDS, SMALL), Err(LogError::Exists(_))));
    assert_eq!(read_ids(&place.dir()).unwrap(), Some(IDS));
    let report = check(&place.dir()).unwrap().unwrap();
    assert_eq!((report.ids, report.torn_tail, report.damage), (IDS, None, None));
    assert_eq!(report.segments, place.files().len());
    assert!(report.segments > 3, "{} segments", report.segments);

    let (log, recovered) = Log::open(&place.dir(), SMALL).unwrap();
    assert_eq!(recovered.ids, IDS);
    assert_eq!(recovered.vote.as_deref(), Some(&b"two"[..]));
    assert_eq!(recovered.bounds.last, Some(at(2, 89)));
    assert_eq!(recovered.bounds.committed, Some(at(2, 88)));
    assert_eq!(recovered.bounds, report.bounds);
    assert_eq!(recovered.repaired, None);
    let all = [entries(1, 0..40), entries(2, 40..90)].concat();
    assert_eq!(read_all(&log, 0..200), all);
    assert_eq!(read_all(&log, 33..57), all[33..57]);
    place.append(&log, entries(2, 90..95)).unwrap();
    assert_eq!(read_all(&log, 85..95), entries(2, 85..95));
}

#[test]
fn memory_stays_bounded_while_every_entry_can_be_read() {
    let options = Options { memory_entries: 16, ..plain() };
    let place = Place::new(options);
    let log = place.create();
    for from in (0..4_000).step_by(50) {
        place.append(&log, entries(1, from..from + 50)).unwrap();
    }
    assert!(log.stats().held <= 16, "{} entries are held", log.stats().held);
    for from in [0, 1, 1_234, 3_980, 3_990, 3_999] {
        let to = (from + 100).min(4_000);
        assert_eq!(read_all(&log, from..to), entries(1, from..to));
        // One entry comes, however small the answer may be.
        assert_eq!(log.read_blocking(from..to, 0).unwrap(), entries(1, from..from + 1));
    }
    assert_eq!(place.wait(log.read(10..12, 1 << 20)).unwrap(), entries(1, 10..12));
    assert_eq!(log.read_blocking(4_000..9_000, 100).unwrap(), []);
    drop(log);
    assert!(place.open().stats().held <= 16);
}

#[test]
fn an_entry_can_be_read_before_it_is_durable_and_answers_come_in_order() {
    let place = Place::new(SMALL);
    let log = place.create();
    let (tell, told) = std::sync::mpsc::channel();
    for index in 0..300 {
        let tell = tell.clone();
        let done = Box::new(move |result: Result<(), LogError>| {
            tell.send((index, result.is_ok())).unwrap();
        });
        place.wait(log.append(vec![entry(1, index)], done)).unwrap();
        assert_eq!(log.read_blocking(index..index + 1, 1).unwrap(), [entry(1, index)]);
    }
    drop(tell);
    let answers: Vec<_> = told.iter().collect();
    assert_eq!(answers, (0..300).map(|index| (index, true)).collect::<Vec<_>>());
}

#[test]
fn those_who_append_at_once_share_an_fdatasync() {
    let place = Place::new(plain());
    let log = place.create();
    let count = 2_000;
    // All come while the writer is busy with the first, whoever of the two has the machine.
    let (enter, entered) = std::sync::mpsc::channel::<()>();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let stuck = Box::new(move |_: Result<(), LogError>| {
        enter.send(()).unwrap();
        gone.recv().unwrap();
    });
    place.wait(log.append(entries(1, 0..1), stuck)).unwrap();
    entered.recv().unwrap();
    let told: Vec<_> =
        (1..count).map(|index| begin_append(&place, &log, vec![entry(1, index)])).collect();
    go.send(()).unwrap();
    for told in told {
        told.recv().unwrap().unwrap();
    }
    let stats = log.stats();
    assert_eq!(stats.requests, count);
    assert!(stats.syncs * 4 < count, "{} fdatasyncs for {count} appends", stats.syncs);
}

#[test]
fn a_hole_is_never_taken() {
    let place = Place::new(plain());
    let log = place.create();
    let refused = |entries| match place.append(&log, entries) {
        Err(LogError::Order { expected, found }) => (expected, found),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(entries(1, 2..3)), (0, 2));
    place.append(&log, entries(1, 1..4)).unwrap(); // raft may begin at 0 or at 1
    assert_eq!(refused(entries(1, 5..6)), (4, 5));
    assert_eq!(refused(entries(1, 3..4)), (4, 3));
    assert_eq!(refused(vec![entry(1, 4), entry(1, 6)]), (5, 6));
    place.append(&log, entries(1, 4..5)).unwrap();
    assert_eq!(read_all(&log, 0..9), entries(1, 1..5));
    assert_eq!(log.failure().map(|e| e.to_string()), None);
}

#[test]
fn a_conflicting_end_is_replaced_for_good() {
    let place = Place::new(SMALL);
    let log = place.create();
    place.append_each(&log, 1, 0..100);
    // Everything at once: what comes after the truncation must not be hurt by it.
    let last = place.wait(async {
        log.append(entries(1, 100..130), Box::new(|_| ())).await.unwrap();
        log.truncate_after(Some(at(1, 41))).await.unwrap();
        append(&log, entries(2, 42..60)).await.unwrap();
        log.bounds()
    });
    assert_eq!((last.first, last.next, last.last), (0, 60, Some(at(2, 59))));
    let all = [entries(1, 0..42), entries(2, 42..60)].concat();
    assert_eq!(read_all(&log, 0..200), all);
    // Again over the boundary of the first truncation, and once to nothing new.
    place.wait(log.truncate_after(Some(at(2, 45)))).unwrap();
    place.wait(log.truncate_after(Some(at(1, 20)))).unwrap();
    place.wait(log.truncate_after(Some(at(1, 20)))).unwrap();
    place.append_each(&log, 3, 21..90);
    let all = [entries(1, 0..21), entries(3, 21..90)].concat();
    assert_eq!(read_all(&log, 0..200), all);
    drop(log);
    let log = place.open();
    assert_eq!(log.bounds().last, Some(at(3, 89)));
    assert_eq!(read_all(&log, 0..200), all);
    place.wait(log.truncate_after(None)).unwrap();
    assert_eq!(log.bounds().last, None);
    place.append(&log, entries(4, 0..3)).unwrap();
    drop(log);
    assert_eq!(read_all(&place.open(), 0..200), entries(4, 0..3));
}

#[test]
fn a_purge_drops_whole_segments_and_keeps_vote_and_commit() {
    let place = Place::new(SMALL);
    let log = place.create();
    place.wait(log.save_vote(Bytes::from_static(b"the only vote"))).unwrap();
    place.append_each(&log, 1, 0..60);
    log.save_committed(at(1, 55)).unwrap();
    place.append_each(&log, 1, 60..200);
    let before = place.files().len();
    assert!(before > 8, "{before} segments");
    place.wait(log.purge(at(1, 149))).unwrap();
    assert_eq!(log.bounds().first, 150);
    assert_eq!(read_all(&log, 0..500), entries(1, 150..200));
    assert!(matches!(
        place.wait(log.truncate_after(Some(at(1, 148)))),
        Err(LogError::Order { .. })
    ));
    place.wait(log.purge(at(1, 120))).unwrap(); // nothing more
    drop(log);
    let after = place.files().len();
    assert!(after < before / 2, "{after} of {before} segments are left");

    let (log, recovered) = Log::open(&place.dir(), SMALL).unwrap();
    assert_eq!(recovered.vote.as_deref(), Some(&b"the only vote"[..]));
    assert_eq!(recovered.bounds.committed, Some(at(1, 55)));
    assert_eq!(recovered.bounds.purged, Some(at(1, 149)));
    assert_eq!((recovered.bounds.first, recovered.bounds.next), (150, 200));
    assert_eq!(read_all(&log, 0..500), entries(1, 150..200));

    // A snapshot takes the place of all there is and more.
    place.wait(log.purge(at(5, 999))).unwrap();
    assert_eq!(log.bounds().last, Some(at(5, 999)));
    assert_eq!(read_all(&log, 0..2_000), []);
    place.append_each(&log, 5, 1_000..1_003);
    drop(log);
    let log = place.open();
    assert_eq!(log.bounds().count(), 3);
    assert_eq!(read_all(&log, 0..2_000), entries(5, 1_000..1_003));
    assert_eq!(log.vote().as_deref(), Some(&b"the only vote"[..]));
    place.wait(log.purge(at(5, 1_002))).unwrap();
    drop(log);
    let (log, recovered) = Log::open(&place.dir(), SMALL).unwrap();
    assert_eq!((recovered.bounds.first, recovered.bounds.next), (1_003, 1_003));
    assert_eq!(recovered.bounds.last, Some(at(5, 1_002)));
    place.append(&log, entries(6, 1_003..1_004)).unwrap();
}

#[test]
fn a_truncation_below_what_a_segment_began_with_survives_a_purge() {
    let place = Place::new(SMALL);
    let log = place.create();
    place.append_each(&log, 1, 0..100);
    place.wait(log.truncate_after(Some(at(1, 30)))).unwrap();
    place.append_each(&log, 2, 31..80);
    // The truncation stands in a segment that began with an index of almost 100; all before it
    // goes.
    place.wait(log.purge(at(2, 50))).unwrap();
    drop(log);
    let (log, recovered) = Log::open(&place.dir(), SMALL).unwrap();
    assert_eq!((recovered.bounds.first, recovered.bounds.next), (51, 80));
    assert_eq!(read_all(&log, 0..200), entries(2, 51..80));
}

#[test]
fn a_commit_is_written_soon_even_if_nothing_follows() {
    let place = Place::new(plain());
    let log = place.create();
    place.append(&log, entries(1, 0..3)).unwrap();
    let commits = |index| {
        log.save_committed(at(1, index)).unwrap();
        (0..2000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            check(&place.dir()).unwrap().unwrap().bounds.committed == Some(at(1, index))
        })
    };
    assert!(commits(1), "while the writer looks after it");
    std::thread::sleep(Duration::from_millis(100));
    assert!(commits(2), "while the writer sleeps");
}

#[test]
fn a_full_queue_makes_those_who_append_wait() {
    let options = Options { queue_bytes: 4 << 10, ..plain() };
    let place = Place::new(options);
    let log = place.create();
    let (enter, entered) = std::sync::mpsc::channel::<()>();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let stuck = Box::new(move |_: Result<(), LogError>| {
        enter.send(()).unwrap();
        gone.recv().unwrap();
    });
    place.wait(log.append(entries(1, 0..1), stuck)).unwrap();
    entered.recv().unwrap();
    let mut index = 1;
    let full = place.wait(async {
        for _ in 0..1_000 {
            // Whatever does not get in at once would have to wait.
            let one = log.append(vec![entry(1, index)], Box::new(|_| ()));
            tokio::select! {
                biased;
                result = one => result.unwrap(),
                () = std::future::ready(()) => return true,
            }
            index += 1;
        }
        false
    });
    assert!(full, "{index} entries were taken");
    go.send(()).unwrap();
    place.append(&log, vec![entry(1, index)]).unwrap();
    drop(log);
    assert_eq!(read_all(&place.open(), 0..2_000), entries(1, 0..index + 1));
}
