//! A segment: one file of the log, its head, and how it comes to be without ever being half there.
//!
//! ```text
//!  0 magic        8 bytes
//!  8 version      u32
//! 12              u32  zero
//! 16 cluster      u64
//! 24 member       u64
//! 32 incarnation  u64
//! 40 sequence     u64  also the file's name
//! 48 first index  u64  that of the next entry when the segment was begun
//! 56 former end   u64  where the last record of the segment before ends; 0 in the first one
//! 64 restated     u64  bytes of the records that say again what stood in segments before
//! 72              u32  zero
//! 76 sum          u32  CRC-32C of all above
//! 80 records
//! ```
//!
//! A segment is drafted under another name, made durable, and only then given its own. Its first
//! records say again what must outlive the segments before it: vote, commit and purge. They were
//! durable before anyone relied on the segment, so what of them cannot be read is no torn write.

use std::io;
use std::path::{Path, PathBuf};

use super::record::{long, word};
use super::{Ids, LogError};
use crate::cluster::{ClusterId, Incarnation, MemberId};
use crate::node::ground::disk::{self, File};

/// The format that this version reads and writes.
pub(super) const VERSION: u32 = 1;

/// Where the first record stands.
pub(super) const START: u64 = 80;

const LENGTH: usize = 80;
const MAGIC: [u8; 8] = *b"quor.log";
const SUFFIX: &str = ".log";
const DRAFT: &str = ".log-draft";

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHead {
    pub(super) ids: Ids,
    pub(super) sequence: u64,
    pub(super) first: u64,
    pub(super) former_end: u64,
    /// 0 in segments of before this was told.
    pub(super) restated: u64,
}

impl SegmentHead {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&u64::from(VERSION).to_le_bytes());
        let Ids { cluster, member, incarnation } = self.ids;
        let fields = [
            cluster.0,
            member.0,
            incarnation.0,
            self.sequence,
            self.first,
            self.former_end,
            self.restated,
        ];
        for field in fields {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes.extend_from_slice(&[0; 4]);
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<SegmentHead, LogError> {
        let damaged = |what: &str| Err(LogError::damaged(path, 0, what));
        if bytes.len() < LENGTH {
            return damaged("the segment ends within its head");
        }
        if bytes[..8] != MAGIC {
            return damaged("it does not begin as a segment does");
        }
        if crc32c::crc32c(&bytes[..76]) != word(bytes, 76) {
            return damaged("the checksum of the segment's head is wrong");
        }
        let version = word(bytes, 8);
        if version != VERSION {
            return Err(LogError::Version { path: path.to_owned(), version });
        }
        let head = SegmentHead {
            ids: Ids {
                cluster: ClusterId(long(bytes, 16)),
                member: MemberId(long(bytes, 24)),
                incarnation: Incarnation(long(bytes, 32)),
            },
            sequence: long(bytes, 40),
            first: long(bytes, 48),
            former_end: long(bytes, 56),
            restated: long(bytes, 64),
        };
        if Some(head.sequence) != sequence(path) {
            return damaged("the segment has the name of another one");
        }
        Ok(head)
    }

    /// What the sums of this segment's records start from. It cannot be guessed by who writes
    /// values, for the incarnation is random.
    pub(super) fn salt(&self) -> u32 {
        let sum = crc32c::crc32c(&self.ids.incarnation.0.to_le_bytes());
        crc32c::crc32c_append(sum, &self.sequence.to_le_bytes())
    }
}

/// A segment that is there.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) head: SegmentHead,
}

impl Segment {
    /// Opens a segment and reads its head.
    pub(super) fn open(path: PathBuf, writing: bool) -> Result<Segment, LogError> {
        let file = File::open(&path, writing).map_err(LogError::io("open", &path))?;
        let length = file.length().map_err(LogError::io("read", &path))?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(LENGTH).min(LENGTH)];
        file.read_exact_at(&mut bytes, 0).map_err(LogError::io("read", &path))?;
        let head = SegmentHead::decode(&path, &bytes)?;
        Ok(Segment { path, file, head })
    }

    /// Begins a segment that holds `records` already and is zero from there up to the byte
    /// `zeros`. When this returns, it outlives a power loss.
    pub(super) fn begin(
        dir: &Path,
        head: SegmentHead,
        records: &[u8],
        zeros: u64,
    ) -> Result<Segment, LogError> {
        let path = path_of(dir, head.sequence);
        let draft = dir.join(format!("{:016x}{DRAFT}", head.sequence));
        let file = File::create(&draft).map_err(LogError::io("create", &draft))?;
        let mut bytes = head.encode();
        bytes.extend_from_slice(records);
        let write = || {
            file.write_all_at(&bytes, 0)?;
            write_zeros(&file, bytes.len() as u64, zeros)?;
            file.sync_all()
        };
        write().map_err(LogError::io("write", &draft))?;
        disk::rename(&draft, &path).map_err(LogError::io("put in place", &path))?;
        sync_dir(dir)?;
        Ok(Segment { path, file, head })
    }

    pub(super) fn length(&self) -> Result<u64, LogError> {
        self.file.length().map_err(LogError::io("read", &self.path))
    }
}

/// Writes zeros from one byte of the file up to another.
pub(super) fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut at = from;
    while at < to {
        let count = (to - at).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..usize::try_from(count).unwrap_or(ZEROS.len())], at)?;
        at += count;
    }
    Ok(())
}

/// Makes what was created, renamed or removed in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), LogError> {
    disk::sync_dir(dir).map_err(LogError::io("sync", dir))
}

/// The files of a log.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The segments in order.
    pub(super) segments: Vec<PathBuf>,
    /// Segments that were being created when the process ended; nothing in them was in use.
    pub(super) drafts: Vec<PathBuf>,
}

/// Lists the files of a log; none if there is no such directory. Other files are passed over.
pub(super) fn list(dir: &Path) -> Result<Listing, LogError> {
    let mut listing = Listing::default();
    let paths = match disk::list(dir) {
        Ok(paths) => paths,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listing),
        Err(error) => return Err(LogError::io("list", dir)(error)),
    };
    for path in paths {
        if sequence(&path).is_some() {
            listing.segments.push(path);
        } else if numbered(&path, DRAFT).is_some() {
            listing.drafts.push(path);
        }
    }
    listing.segments.sort();
    listing.drafts.sort();
    Ok(listing)
}

/// The name of the segment with a number.
pub(super) fn path_of(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}{SUFFIX}"))
}

fn sequence(path: &Path) -> Option<u64> {
    numbered(path, SUFFIX)
}

fn numbered(path: &Path, suffix: &str) -> Option<u64> {
    let number = path.file_name()?.to_str()?.strip_suffix(suffix)?;
    (number.len() == 16).then(|| u64::from_str_radix(number, 16).ok()).flatten()
}
