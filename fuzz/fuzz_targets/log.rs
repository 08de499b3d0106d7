//! The log, as a start finds it on the disk.
//!
//! Nothing is read that does not stand there with its checksums right, as a second reader of the
//! form sees it; nothing from behind the first byte that makes no record; and where no damage is
//! told, all before that byte. A log that is not damaged opens, holds what was read of it, takes
//! an entry more and holds that too when it is opened again, and nothing is torn in it then.
//! One that is damaged does not open, and not a byte of it is changed.

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use quorate::node::log::{Entry, Log, LogError, Options, Report, check, read_ids};
use quorate_fuzz::input::Input;
use quorate_fuzz::log::{self, Record};

/// Small, so that a log that is written to has several segments.
const OPTIONS: Options = Options {
    segment_bytes: 4096,
    ahead_bytes: 512,
    memory_bytes: 256,
    memory_entries: 4,
    queue_bytes: 1 << 20,
    group_bytes: 1 << 16,
};

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let how = input.u8();
    let segments = match how & 3 {
        0 => vec![input.0.to_vec()],
        1 => {
            let mut bytes = input.0.to_vec();
            log::seal(&mut bytes);
            vec![bytes]
        }
        _ => composed(&mut input),
    };
    let root = tempfile::tempdir_in(place()).expect("a directory");
    let dir = root.path();
    for (bytes, n) in segments.iter().zip(1_u64..) {
        fs::write(path(dir, n), bytes).expect("a file");
    }
    // Its threads and their waiting cost more than all else.
    examine(dir, &segments, how & 4 != 0);
});

/// In memory, where there is such a place.
fn place() -> PathBuf {
    let shared = Path::new("/dev/shm");
    if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() }
}

fn path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.log"))
}

/// Up to three segments of records that follow each other, or not, and what happened to them then.
fn composed(input: &mut Input<'_>) -> Vec<Vec<u8>> {
    let (mut segments, mut next, mut former_end) = (Vec::new(), 0, 0);
    let edits: Vec<_> =
        (0..input.u8() % 4).map(|_| (input.u8(), input.u8(), input.u16(), input.u8())).collect();
    let count = 1 + u64::from(input.u8() % 3);
    // What each segment says again of those before, which may be removed.
    let (mut vote, mut purged) = (None, None);
    for sequence in 1..=count {
        let mut bytes = log::segment(sequence, next, former_end);
        if let Some(payload) = vote.filter(|_| sequence > 1) {
            log::put(&mut bytes, 0, Record { kind: 2, tag: 0, index: 0, term: 0, payload });
        }
        if let Some(index) = purged.filter(|_| sequence > 1) {
            log::put(&mut bytes, 0, Record { kind: 5, tag: 0, index, term: 1, payload: b"" });
        }
        let mut group = bytes.len();
        for _ in 0..input.u8() % 24 {
            // An entry that follows is what most are.
            let (what, tag) = (input.u8(), input.u8());
            let kind = if what & 0xf > 6 { 1 } else { what & 0xf };
            let index = match (kind, what & 0x10) {
                (_, 0x10) => input.u64(),
                (1, _) => next,
                _ => u64::from(tag),
            };
            let payload = input.take(usize::from(tag));
            if what & 0x20 == 0 {
                group = bytes.len();
            }
            match kind {
                2 => vote = Some(payload),
                5 => purged = purged.max(Some(index)),
                _ => {}
            }
            next = match kind {
                1 => index.wrapping_add(1),
                4 => index,
                5 => next.max(index.wrapping_add(1)),
                _ => next,
            };
            let back = u32::try_from(bytes.len() - group).expect("an input is short");
            log::put(&mut bytes, back, Record { kind, tag, index, term: 1, payload });
        }
        former_end = bytes.len() as u64;
        if sequence < count {
            log::put(&mut bytes, 0, Record { kind: 6, tag: 0, index: 0, term: 0, payload: b"" });
        }
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        segments.push(bytes);
    }
    for (which, how, at, bits) in edits {
        let segment = &mut segments[usize::from(which) % usize::try_from(count).expect("three")];
        let at = usize::from(at) % segment.len().max(1);
        match how % 4 {
            0 => segment.truncate(at),
            1 => segment[at..].iter_mut().take(usize::from(bits) * 8).for_each(|it| *it = 0),
            _ if at < segment.len() => segment[at] ^= bits,
            _ => {}
        }
    }
    segments
}

fn examine(dir: &Path, segments: &[Vec<u8>], is_opened: bool) {
    let before = check(dir);
    let _ = read_ids(dir);
    let report = match before {
        Ok(report) => report.expect("there is a segment"),
        Err(_) => {
            Log::open(dir, OPTIONS).expect_err("nobody knows whose it is");
            return unchanged(dir, segments);
        }
    };
    // Each record that counts, as far as another reader sees them one after the other.
    let mut intact = Vec::new();
    for (n, bytes) in segments.iter().enumerate() {
        let end = segments.get(n + 1).map(|it| u64::from(log::word(it, 56)));
        let some = log::intact(bytes, end);
        intact.extend(some.into_iter().filter(|it| it.kind != 6));
    }
    let count = usize::try_from(report.records).expect("few");
    assert!(count <= intact.len(), "{count} records were read of {}", intact.len());
    intact.truncate(count);
    if let Some(damage) = &report.damage {
        match Log::open(dir, OPTIONS) {
            Err(LogError::Damaged(spot)) => assert_eq!(&spot, damage),
            other => panic!("{damage} and {other:?}"),
        }
        return unchanged(dir, segments);
    }
    assert_eq!(count, all(segments), "no damage, and not all was read");
    if is_opened {
        lives(dir, &report, &intact);
    }
}

fn all(segments: &[Vec<u8>]) -> usize {
    let mut count = 0;
    for (n, bytes) in segments.iter().enumerate() {
        let end = segments.get(n + 1).map(|it| u64::from(log::word(it, 56)));
        count += log::intact(bytes, end).len();
    }
    count
}

fn unchanged(dir: &Path, segments: &[Vec<u8>]) {
    for (bytes, n) in segments.iter().zip(1_u64..) {
        assert_eq!(&fs::read(path(dir, n)).expect("it is still there"), bytes);
    }
}

/// Opens it, reads it, writes one entry more, and does it again.
fn lives(dir: &Path, report: &Report, intact: &[Record<'_>]) {
    let (log, recovered) = Log::open(dir, OPTIONS).expect("it is not damaged");
    assert_eq!(
        (recovered.ids, &recovered.vote, recovered.bounds, &recovered.repaired),
        (report.ids, &report.vote, report.bounds, &report.torn_tail)
    );
    let vote = intact.iter().rev().find(|it| it.kind == 2).map(|it| it.payload);
    assert_eq!(recovered.vote.as_deref(), vote);
    let entries = log::entries(intact);
    let mut read = everything(&log);
    let same = |it: &Entry| {
        entries.get(&it.index).is_some_and(|one| {
            (one.term, one.tag, one.payload) == (it.term, it.kind, &it.payload[..])
        })
    };
    assert!(read.iter().all(same), "{read:?} of {entries:?}");

    let bounds = recovered.bounds;
    let term = bounds.last.map_or(1, |it| it.term);
    let more = Entry { term, index: bounds.next, kind: 1, payload: Bytes::from_static(b"more") };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    if bounds.next < u64::MAX {
        runtime
            .block_on(log.append(vec![more.clone()], Box::new(|done| done.expect("it is written"))))
            .expect("a log that opened takes an entry");
        read.push(more);
    }
    runtime.block_on(log.close()).expect("it is closed");
    drop(log);
    let (log, recovered) = Log::open(dir, OPTIONS).expect("what was repaired opens");
    assert_eq!(recovered.repaired, None);
    assert_eq!(recovered.vote.as_deref(), vote);
    assert_eq!(everything(&log), read);
}

fn everything(log: &Log) -> Vec<Entry> {
    let (bounds, mut read) = (log.bounds(), Vec::<Entry>::new());
    let mut at = bounds.first;
    while at < bounds.next {
        let some = log.read_blocking(at..bounds.next, 300).expect("what was checked can be read");
        assert!(!some.is_empty(), "entry {at} of {bounds:?} is not there");
        for entry in some {
            assert_eq!(entry.index, at);
            at += 1;
            read.push(entry);
        }
    }
    read
}
