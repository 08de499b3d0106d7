//! Reads etcd's write-ahead log without an engine: whose it is, how far it goes, what is broken.
//!
//! It never writes. [`ids`] reads the head of each segment, which is cheap enough for every
//! start; [`check`] reads every record.
//!
//! Source: etcd's `wal/wal.go`, `wal/encoder.go` and `wal/decoder.go`.

mod record;

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use prost::Message;

use self::record::{
    CRC, ENTRY, Entry, Frame, HardState, METADATA, Metadata, Record, SNAPSHOT, STATE, Snapshot,
    has_zero_sector, read_frame,
};
use crate::cluster::{ClusterId, MemberId};

/// Who writes a log, by its own word: each of its segments opens with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalIds {
    /// The member.
    pub member: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
}

/// A place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The segment.
    pub file: PathBuf,
    /// The byte at which the record that could not be read begins.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

impl std::fmt::Display for Spot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}: {}", self.file.display(), self.offset, self.what)
    }
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The file system refused. Nothing is known then; it is not as if the log were empty.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The file system's own error.
        source: io::Error,
    },
    /// The log does not say whose it is.
    #[error("the log is damaged: {0}")]
    Damaged(Spot),
}

/// All that a log tells when it is read from end to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalReport {
    /// Who writes it.
    pub ids: Option<WalIds>,
    /// How many segments there are.
    pub segments: usize,
    /// Their records' bytes; segments are preallocated, so they take more on disk.
    pub bytes: u64,
    /// How many records could be read.
    pub records: u64,
    /// The index of the first raft entry.
    pub first_index: Option<u64>,
    /// The index of the last raft entry that could be read; the snapshot's if none follows it.
    pub last_index: u64,
    /// The highest raft term.
    pub term: u64,
    /// The highest commit index.
    pub commit: u64,
    /// The index of the last snapshot.
    pub snapshot: u64,
    /// Where the last write broke off. The engine repairs that by itself: it was never
    /// acknowledged.
    pub torn_tail: Option<Spot>,
    /// Where the log is damaged: acknowledged entries are unreadable from here on.
    pub damage: Option<Spot>,
}

/// The log's directory inside etcd's data dir.
pub fn wal_dir(data: &Path) -> PathBuf {
    data.join("member/wal")
}

/// Reads whose log lies in a data dir; `None` if there is no segment (or no such directory).
///
/// # Errors
///
/// [`WalError::Io`] if anything could not be read, [`WalError::Damaged`] if a segment does not
/// open with who writes it, or two segments disagree.
pub fn ids(data: &Path) -> Result<Option<WalIds>, WalError> {
    let mut found: Option<WalIds> = None;
    for path in segments(&wal_dir(data))? {
        let ids = Segment::open(path.clone())?.head()?;
        if found.is_some_and(|it| it != ids) {
            return Err(damaged(path, 0, "another member wrote the segment before this one"));
        }
        found = Some(ids);
    }
    Ok(found)
}

/// Reads the whole log of a data dir and checks every record; `None` if there is no segment. What is
/// broken is told in the report.
///
/// # Errors
///
/// [`WalError::Io`] if anything could not be read.
pub fn check(data: &Path) -> Result<Option<WalReport>, WalError> {
    let paths = segments(&wal_dir(data))?;
    let Some(last) = paths.last().cloned() else { return Ok(None) };
    let mut report = WalReport { segments: paths.len(), ..WalReport::default() };
    let mut crc = None;
    let mut number = None;
    for path in paths {
        let is_last = path == last;
        let this = sequence(&path);
        if number.is_some_and(|it| this != Some(it + 1)) {
            let what = "the segment before this one is missing";
            report.damage = Some(Spot { file: path, offset: 0, what: what.to_owned() });
            break;
        }
        number = this;
        let mut segment = Segment::open(path)?;
        if let Some((spot, torn)) = segment.read_all(&mut crc, &mut report, is_last)? {
            if torn && is_last {
                report.torn_tail = Some(spot);
            } else {
                report.damage = Some(spot);
            }
            break;
        }
    }
    Ok(Some(report))
}

/// The segments in order. Other files, such as preallocated ones (`0.tmp`), are passed over as
/// etcd does.
fn segments(dir: &Path) -> Result<Vec<PathBuf>, WalError> {
    let io = |source| WalError::Io { path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(io)?.path();
        if sequence(&path).is_some() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The number of a segment; its name is `NUMBER-INDEX.wal`, both in 16 hex digits.
fn sequence(path: &Path) -> Option<u64> {
    let (number, index) = path.file_name()?.to_str()?.strip_suffix(".wal")?.split_once('-')?;
    u64::from_str_radix(index, 16).ok()?;
    u64::from_str_radix(number, 16).ok()
}

fn damaged(file: PathBuf, offset: u64, what: &str) -> WalError {
    WalError::Damaged(Spot { file, offset, what: what.to_owned() })
}

struct Segment {
    path: PathBuf,
    file: BufReader<File>,
    length: u64,
    offset: u64,
}

impl Segment {
    fn open(path: PathBuf) -> Result<Segment, WalError> {
        let open = || {
            let file = File::open(&path)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        match open() {
            Ok((file, length)) => {
                Ok(Segment { path, file: BufReader::new(file), length, offset: 0 })
            }
            Err(source) => Err(WalError::Io { path, source }),
        }
    }

    fn next(&mut self) -> Result<Frame, WalError> {
        let frame = read_frame(&mut self.file, self.length - self.offset);
        frame.map_err(|source| WalError::Io { path: self.path.clone(), source })
    }

    fn spot(&self, what: impl Into<String>) -> Spot {
        Spot { file: self.path.clone(), offset: self.offset, what: what.into() }
    }

    /// The first two records: where the checksum goes on, and who writes.
    fn head(&mut self) -> Result<WalIds, WalError> {
        let mut crc = 0;
        for want in [CRC, METADATA] {
            match self.next()? {
                Frame::Record { record, bytes } if record.kind == want => {
                    let sum = if want == CRC { record.crc } else { sum(crc, &record.data) };
                    if sum != record.crc {
                        return Err(WalError::Damaged(self.spot("the checksum is wrong")));
                    }
                    if want == METADATA {
                        return ids_in(&record)
                            .ok_or_else(|| WalError::Damaged(self.spot("it names no member")));
                    }
                    crc = sum;
                    self.offset += bytes;
                }
                Frame::Broken { what, .. } => return Err(WalError::Damaged(self.spot(what))),
                _ => break,
            }
        }
        Err(WalError::Damaged(self.spot("the segment does not open with who writes it")))
    }

    /// Reads on to the end of the segment; what is broken, and whether an interrupted write
    /// leaves it like that.
    fn read_all(
        &mut self,
        crc: &mut Option<u32>,
        report: &mut WalReport,
        is_last: bool,
    ) -> Result<Option<(Spot, bool)>, WalError> {
        loop {
            let (record, bytes) = match self.next()? {
                Frame::Record { record, bytes } => (record, bytes),
                Frame::Broken { what, torn } => return Ok(Some((self.spot(what), torn))),
                Frame::End if is_last => return self.rest(),
                Frame::End => return Ok(None),
            };
            let expect = match (record.kind, *crc) {
                (CRC, None | Some(0)) => record.crc,
                (CRC, Some(crc)) => crc,
                (_, crc) => sum(crc.unwrap_or(0), &record.data),
            };
            if expect != record.crc {
                let torn = has_zero_sector(&record.data);
                return Ok(Some((self.spot("the checksum is wrong"), torn)));
            }
            *crc = Some(expect);
            if let Err(what) = note(&record, report) {
                return Ok(Some((self.spot(what), false)));
            }
            self.offset += bytes;
            report.bytes += bytes;
            report.records += 1;
        }
    }

    /// What follows the last record: nothing but the zeros of a preallocated file.
    fn rest(&mut self) -> Result<Option<(Spot, bool)>, WalError> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = self.file.read(&mut buffer);
            let read = read.map_err(|source| WalError::Io { path: self.path.clone(), source })?;
            if read == 0 {
                return Ok(None);
            }
            if buffer[..read].iter().any(|byte| *byte != 0) {
                return Ok(Some((self.spot("bytes follow the last record"), true)));
            }
        }
    }
}

/// etcd's rolling checksum: CRC-32C over the data of all records so far.
fn sum(crc: u32, data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, data)
}

fn ids_in(record: &Record) -> Option<WalIds> {
    let metadata = Metadata::decode(record.data.as_slice()).ok()?;
    let (member, cluster) = (MemberId(metadata.member), ClusterId(metadata.cluster));
    (metadata.member != 0).then_some(WalIds { member, cluster })
}

/// Takes what a record says into the report; what is wrong with it otherwise.
fn note(record: &Record, report: &mut WalReport) -> Result<(), &'static str> {
    let data = record.data.as_slice();
    match record.kind {
        CRC => {}
        METADATA => {
            let ids = ids_in(record).ok_or("it names no member")?;
            if report.ids.is_some_and(|it| it != ids) {
                return Err("another member wrote the segment before this one");
            }
            report.ids = Some(ids);
        }
        ENTRY => {
            let entry = Entry::decode(data).map_err(|_| "not a raft entry")?;
            // A new leader may have it written again from an earlier index on.
            if report.first_index.is_some() && entry.index > report.last_index + 1 {
                return Err("raft entries are missing before this one");
            }
            report.first_index.get_or_insert(entry.index);
            report.last_index = entry.index;
            report.term = report.term.max(entry.term);
        }
        STATE => {
            let state = HardState::decode(data).map_err(|_| "not a raft state")?;
            report.term = report.term.max(state.term);
            report.commit = report.commit.max(state.commit);
        }
        SNAPSHOT => {
            let snapshot = Snapshot::decode(data).map_err(|_| "not a snapshot's mark")?;
            report.snapshot = report.snapshot.max(snapshot.index);
            report.last_index = report.last_index.max(snapshot.index);
            report.term = report.term.max(snapshot.term);
        }
        _ => return Err("a record of an unknown kind"),
    }
    Ok(())
}
