//! The record: one thing that happened to the log, as it stands in a segment.
//!
//! ```text
//!  0 mark      u16  a fixed word
//!  2 kind      u8
//!  3 tag       u8   the entry's own kind; in a truncation, whether an entry is left
//!  4 length    u32  of the payload
//!  8 back      u32  bytes from the start of what the same fdatasync made durable
//! 12 payload   u32  CRC-32C
//! 16 index     u64
//! 24 term      u64
//! 32 head      u32  CRC-32C of all above
//! 36           u32  zero
//! 40 payload, padded with zeros to eight bytes
//! ```
//!
//! Little-endian. Both sums start from a salt that each segment has of its own, so that a value
//! which happens to hold a piece of a log is never taken for a record.
//!
//! `back` is what tells a broken-off write from damage: a group is written only after the one
//! before it is on the disk. What cannot be read was therefore once durable if a record of a
//! *later* group stands behind it, and never acknowledged if nothing, or only its own group,
//! does. A power loss may well leave the end of a group and not its beginning.

use super::Entry;

/// Bytes before the payload.
pub(super) const HEAD: usize = 40;

/// Bytes at the end of the head that are zero.
pub(super) const SPARE: usize = 4;

/// Records begin at multiples of this.
pub(super) const ALIGN: u64 = 8;

/// Nothing longer is written, so no longer length is believed.
const LONGEST: u32 = 64 << 20;
const _: () = assert!(Entry::LONGEST == LONGEST as usize, "one limit");

const MARK: [u8; 2] = *b"qR";

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An entry follows the last one.
    Entry = 1,
    /// A vote was cast; the payload is the raft's own.
    Vote = 2,
    /// Everything up to here is committed.
    Committed = 3,
    /// The entries from `index` on are gone; `term` is that of the last one left.
    Truncate = 4,
    /// The entries up to here may be gone, and the next one follows here at least.
    Purge = 5,
    /// The last record of a segment: the next segment is there.
    Seal = 6,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::{Committed, Entry, Purge, Seal, Truncate, Vote};
        [Entry, Vote, Committed, Truncate, Purge, Seal].into_iter().find(|k| *k as u8 == byte)
    }
}

/// What a record says of itself, beside its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) tag: u8,
    pub(super) length: u32,
    pub(super) back: u32,
    pub(super) sum: u32,
    pub(super) index: u64,
    pub(super) term: u64,
}

impl Head {
    /// A record without a payload.
    pub(super) fn plain(kind: Kind, term: u64, index: u64) -> Head {
        Head { kind, tag: 0, length: 0, back: 0, sum: 0, index, term }
    }

    /// Reads a head; `None` if its sum is wrong or it makes no sense.
    pub(super) fn decode(bytes: &[u8], salt: u32) -> Option<Head> {
        let bytes: &[u8; HEAD] = bytes.try_into().ok()?;
        if bytes[..2] != MARK
            || word(bytes, 36) != 0
            || crc32c::crc32c_append(salt, &bytes[..32]) != word(bytes, 32)
        {
            return None;
        }
        let head = Head {
            kind: Kind::from_byte(bytes[2])?,
            tag: bytes[3],
            length: word(bytes, 4),
            back: word(bytes, 8),
            sum: word(bytes, 12),
            index: long(bytes, 16),
            term: long(bytes, 24),
        };
        (head.length <= LONGEST).then_some(head)
    }

    /// Whether the payload is the one that was written.
    pub(super) fn fits(&self, payload: &[u8], salt: u32) -> bool {
        crc32c::crc32c_append(salt, payload) == self.sum
    }

    /// Bytes from the record's start to the next one's.
    pub(super) fn size(&self) -> u64 {
        size(self.length as usize)
    }
}

/// Bytes that a record with such a payload takes.
pub(super) fn size(payload: usize) -> u64 {
    (HEAD as u64 + payload as u64).next_multiple_of(ALIGN)
}

/// Appends a record. `head` gives kind, tag, index and term; `back` is where it stands in its
/// group.
pub(super) fn encode(buffer: &mut Vec<u8>, salt: u32, back: u64, head: &Head, payload: &[u8]) {
    let start = buffer.len();
    // Groups and payloads are far below 4 GiB; a head that says otherwise would not be believed.
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let back = u32::try_from(back).unwrap_or(u32::MAX);
    buffer.extend_from_slice(&MARK);
    buffer.extend_from_slice(&[head.kind as u8, head.tag]);
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&back.to_le_bytes());
    buffer.extend_from_slice(&crc32c::crc32c_append(salt, payload).to_le_bytes());
    buffer.extend_from_slice(&head.index.to_le_bytes());
    buffer.extend_from_slice(&head.term.to_le_bytes());
    let sum = crc32c::crc32c_append(salt, &buffer[start..]);
    buffer.extend_from_slice(&sum.to_le_bytes());
    buffer.extend_from_slice(&[0; SPARE]);
    buffer.extend_from_slice(payload);
    let padded = (buffer.len() - start).next_multiple_of(8);
    buffer.resize(start + padded, 0);
}

/// Whether a head that cannot be read was one once: more of it is right than chance would have.
pub(super) fn was_a_head(bytes: &[u8]) -> bool {
    let Ok(bytes) = <&[u8; HEAD]>::try_from(bytes) else { return false };
    let sensible = Kind::from_byte(bytes[2]).is_some()
        && word(bytes, 4) <= LONGEST
        && word(bytes, 8) <= LONGEST << 1
        && word(bytes, 36) == 0;
    bytes[..2] == MARK || sensible
}

/// Whether these bytes can be the first of a head.
pub(super) fn may_be_a_head(bytes: &[u8]) -> bool {
    bytes.starts_with(&MARK)
}

pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
}

pub(super) fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}
