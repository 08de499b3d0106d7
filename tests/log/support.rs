//! Logs in directories of their own, and what is done to their files.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use bytes::Bytes;
use quorate::cluster::{ClusterId, Incarnation, MemberId};
use quorate::node::log::{Entry, Ids, Log, LogError, Options, Position, Spot};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub const IDS: Ids = Ids {
    cluster: ClusterId(0x00c1),
    member: MemberId(0x00a1),
    incarnation: Incarnation(0x1234_5678_9abc_def0),
};

/// Where the first record of the first segment stands.
pub const START: u64 = 80;

/// Segments that are full after a few entries.
pub const SMALL: Options = Options {
    segment_bytes: 8 << 10,
    ahead_bytes: 2 << 10,
    memory_bytes: 4 << 10,
    memory_entries: 8,
    queue_bytes: 1 << 20,
    group_bytes: 64 << 10,
};

/// As in use, but without writing a MiB of zeros for each log.
pub fn plain() -> Options {
    Options { ahead_bytes: 4 << 10, ..Options::default() }
}

/// A log and its place, driven by hand.
pub struct Place {
    pub root: TempDir,
    pub options: Options,
    runtime: Runtime,
}

impl Place {
    pub fn new(options: Options) -> Place {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Place { root: TempDir::new().unwrap(), options, runtime }
    }

    pub fn dir(&self) -> PathBuf {
        self.root.path().join("data/log")
    }

    pub fn create(&self) -> Log {
        Log::create(&self.dir(), IDS, self.options).unwrap()
    }

    pub fn open(&self) -> Log {
        Log::open(&self.dir(), self.options).unwrap().0
    }

    pub fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// Appends entries in one request and waits until they are durable.
    pub fn append(&self, log: &Log, entries: Vec<Entry>) -> Result<(), LogError> {
        self.wait(append(log, entries))
    }

    /// Appends entries of one term, each in a group of its own.
    pub fn append_each(&self, log: &Log, term: u64, indexes: std::ops::Range<u64>) {
        for index in indexes {
            self.append(log, vec![entry(term, index)]).unwrap();
        }
    }

    /// The segments' files.
    pub fn files(&self) -> Vec<PathBuf> {
        files(&self.dir())
    }
}

pub async fn append(log: &Log, entries: Vec<Entry>) -> Result<(), LogError> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let done = Box::new(move |result| {
        let _ = tell.send(result);
    });
    log.append(entries, done).await?;
    told.await.expect("each request is answered")
}

/// Appends without waiting; the receiver hears the answer.
pub fn begin_append(
    place: &Place,
    log: &Log,
    entries: Vec<Entry>,
) -> mpsc::Receiver<Result<(), LogError>> {
    let (tell, told) = mpsc::channel();
    let done = Box::new(move |result| {
        let _ = tell.send(result);
    });
    place.wait(log.append(entries, done)).unwrap();
    told
}

/// Reads a range to its end, in as many pieces as come.
pub fn read_all(log: &Log, range: std::ops::Range<u64>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let from = entries.last().map_or(range.start, |e| e.index + 1);
        let more = log.read_blocking(from..range.end, 16 << 10).unwrap();
        if more.is_empty() {
            return entries;
        }
        entries.extend(more);
    }
}

/// An entry whose payload follows from its place: of 0 to 1,000 bytes, a multiple of eight.
pub fn entry(term: u64, index: u64) -> Entry {
    let mut bytes = Vec::new();
    let mut mixed = mix(term << 32 ^ index);
    for _ in 0..mixed % 126 {
        mixed = mix(mixed);
        bytes.extend_from_slice(&mixed.to_le_bytes());
    }
    let kind = u8::try_from(index % 7).unwrap();
    Entry { term, index, kind, payload: Bytes::from(bytes) }
}

pub fn entries(term: u64, indexes: std::ops::Range<u64>) -> Vec<Entry> {
    indexes.map(|index| entry(term, index)).collect()
}

pub fn at(term: u64, index: u64) -> Position {
    Position { term, index }
}

/// A number that looks random and is not (splitmix64).
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The segments in a directory, in order.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    files.sort();
    files
}

/// Every file of a directory with all its bytes.
pub fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = entries.map(|path| (path.clone(), fs::read(&path).unwrap())).collect();
    all.sort();
    all
}

/// Puts a directory back to what it held.
pub fn put_back(dir: &Path, contents: &[(PathBuf, Vec<u8>)]) {
    for entry in fs::read_dir(dir).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    for (path, bytes) in contents {
        fs::write(path, bytes).unwrap();
    }
}

pub fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

/// Opens a log that must be found damaged, and left as it is. Where.
#[track_caller]
pub fn refused(place: &Place) -> Spot {
    let before = contents(&place.dir());
    let spot = match Log::open(&place.dir(), place.options) {
        Err(LogError::Damaged(spot)) => spot,
        other => panic!("not damaged: {other:?}"),
    };
    assert!(before == contents(&place.dir()), "a damaged log was changed");
    spot
}
