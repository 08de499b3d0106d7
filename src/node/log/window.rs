//! Reads a segment piece by piece and says what stands at a byte: a record, nothing, or something
//! broken, and then whether a power loss can have left it like that.
//!
//! Never writes, and never holds more than a window or one record in memory.

use std::io;

use super::LogError;
use super::record::{ALIGN, HEAD, Head, SPARE, may_be_a_head, was_a_head};
use super::segment::Segment;

/// What is read at once.
const PIECE: u64 = 256 << 10;

/// What reaches a disk whole or not at all.
const SECTOR: u64 = 512;

/// What stands at a byte of a segment.
pub(super) enum Found<'a> {
    /// A record, whole.
    Record(Head, &'a [u8]),
    /// Zeros, or the end of the file.
    Nothing,
    /// What cannot be read. `torn`: a write that broke off leaves it like that.
    Broken { what: &'static str, torn: bool },
}

/// A segment, read forwards.
pub(super) struct Window<'a> {
    segment: &'a Segment,
    salt: u32,
    length: u64,
    start: u64,
    buffer: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(super) fn new(segment: &'a Segment) -> Result<Window<'a>, LogError> {
        let length = segment.length()?;
        Ok(Window { segment, salt: segment.head.salt(), length, start: 0, buffer: Vec::new() })
    }

    /// What stands at a byte.
    pub(super) fn record_at(&mut self, at: u64) -> Result<Found<'_>, LogError> {
        let left = self.length.saturating_sub(at);
        if left < HEAD as u64 {
            let rest = self.bytes(at, left)?;
            return Ok(if rest.iter().all(|b| *b == 0) {
                Found::Nothing
            } else {
                Found::Broken { what: "the file ends within a record", torn: true }
            });
        }
        let salt = self.salt;
        let bytes = self.bytes(at, HEAD as u64)?;
        if bytes.iter().all(|b| *b == 0) {
            return Ok(Found::Nothing);
        }
        let Some(head) = Head::decode(bytes, salt) else {
            return Ok(if is_cut_short(at, &bytes[..HEAD - SPARE]) {
                Found::Broken { what: "the beginning of a record is missing", torn: true }
            } else if was_a_head(bytes) {
                Found::Broken { what: "the checksum of a record's head is wrong", torn: false }
            } else {
                Found::Broken { what: "what stands here is no record", torn: true }
            });
        };
        let whole = HEAD as u64 + u64::from(head.length);
        if left < whole {
            return Ok(Found::Broken { what: "the file ends within a record", torn: true });
        }
        let bytes = self.bytes(at, whole)?;
        if head.fits(&bytes[HEAD..], salt) {
            Ok(Found::Record(head, &bytes[HEAD..]))
        } else if is_cut_short(at, bytes) {
            Ok(Found::Broken { what: "a part of a record is missing", torn: true })
        } else {
            Ok(Found::Broken { what: "the checksum of a record is wrong", torn: false })
        }
    }

    /// Where a record stands whose group was written after `spot` had been made durable, if one
    /// does. Looks at every byte up to the end of the file.
    pub(super) fn later_group(&mut self, spot: u64) -> Result<Option<u64>, LogError> {
        let salt = self.salt;
        let mut at = spot + ALIGN;
        while at + HEAD as u64 <= self.length {
            let bytes = self.bytes(at, HEAD as u64)?;
            if may_be_a_head(bytes)
                && let Some(head) = Head::decode(bytes, salt)
            {
                // The head alone is word enough of its group; the payload may be torn.
                if at.saturating_sub(u64::from(head.back)) > spot {
                    return Ok(Some(at));
                }
            }
            at += ALIGN;
        }
        Ok(None)
    }

    /// Whether anything but zeros stands from a byte on.
    pub(super) fn anything_from(&mut self, mut at: u64) -> Result<bool, LogError> {
        while at < self.length {
            let count = PIECE.min(self.length - at);
            if self.bytes(at, count)?.iter().any(|b| *b != 0) {
                return Ok(true);
            }
            at += count;
        }
        Ok(false)
    }

    /// `count` bytes, which the file has.
    fn bytes(&mut self, at: u64, count: u64) -> Result<&[u8], LogError> {
        let held = self.start..self.start + self.buffer.len() as u64;
        if at < held.start || at + count > held.end {
            let wanted = count.max(PIECE).min(self.length.saturating_sub(at));
            self.buffer.resize(index(wanted), 0);
            self.start = at;
            let read = self.segment.file.read_exact_at(&mut self.buffer, at);
            if let Err(source) = read {
                self.buffer.clear();
                return Err(LogError::io("read", &self.segment.path)(source));
            }
        }
        let from = index(at - self.start);
        self.buffer.get(from..from + index(count)).ok_or_else(|| {
            LogError::io("read", &self.segment.path)(io::ErrorKind::UnexpectedEof.into())
        })
    }
}

/// Whether these bytes, which stand at `at`, are what a write leaves that the power cut short: the
/// end is missing, or all that lies in one of the sectors.
///
/// Segments are zero ahead of what is written, so what is missing is zero. A record of which every
/// sector has come was whole once, and was acknowledged perhaps.
fn is_cut_short(at: u64, bytes: &[u8]) -> bool {
    let first = index(SECTOR - at % SECTOR).min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    let blank = |piece: &[u8]| piece.iter().all(|b| *b == 0);
    bytes.last() == Some(&0) || blank(head) || rest.chunks(index(SECTOR)).any(blank)
}

fn index(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
