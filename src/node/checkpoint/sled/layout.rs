//! How records, blobs and the head lie in sled's one tree, and the tally that finds what is lost.
//!
//! ```text
//! 00                head: format u8 | applied u64 | entries u64 | their sum u64
//! 01 name           a blob
//! 02 main i64 | sub i64   a record
//! ```
//!
//! Numbers have their big end first, so records lie in the order of their revisions and new ones
//! always at the end, which is the only order that sled's rewriting of whole leaves bears well.
//! Head and blobs stand before them: after them, they would be in the way of every new record.

use bytes::Buf;

use crate::node::mvcc::Revision;

/// The form that is written here; a store in another is refused.
const FORMAT: u8 = 1;

/// Where the head is.
pub(super) const HEAD: &[u8] = &[0];
const BLOB: u8 = 1;
const RECORD: u8 = 2;

pub(super) fn blob_key(name: &[u8]) -> Vec<u8> {
    [&[BLOB], name].concat()
}

/// The name of a blob; `None` if this is another key.
pub(super) fn blob_name(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(&[BLOB])
}

pub(super) fn record_key(at: Revision) -> [u8; 17] {
    let mut key = [RECORD; 17];
    key[1..].copy_from_slice(&at.to_key());
    key
}

/// The revision of a record; `None` if this is another key.
pub(super) fn record_revision(key: &[u8]) -> Option<Revision> {
    Revision::from_key(key.strip_prefix(&[RECORD])?)
}

/// Which records and blobs there must be: how many, and a sum over what they are. sled itself does
/// not notice if it has lost some, or got back some that were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) count: u64,
    sum: u64,
}

impl Tally {
    pub(super) fn add(&mut self, entry: Mark) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(entry.0);
    }

    pub(super) fn remove(&mut self, entry: Mark) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(entry.0);
    }
}

/// What an entry counts for in the sum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(u64);

impl Mark {
    /// There is only ever one record at a revision, so its content need not count.
    pub(super) fn record(at: Revision) -> Mark {
        Mark(spread(at.main.cast_unsigned() ^ at.sub.cast_unsigned().rotate_left(40)))
    }

    pub(super) fn blob(name: &[u8], blob: &[u8]) -> Mark {
        let (name, blob) = (crc32c::crc32c(name), crc32c::crc32c(blob));
        Mark(spread(!((u64::from(name) << 32) | u64::from(blob))))
    }
}

/// Spreads a number over 64 bits (the last steps of `splitmix64`), so that the sums of different
/// sets differ.
fn spread(mut it: u64) -> u64 {
    it = it.wrapping_add(0x9e37_79b9_7f4a_7c15);
    it = (it ^ (it >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    it = (it ^ (it >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    it ^ (it >> 31)
}

/// What changes with every batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) applied: u64,
    pub(super) tally: Tally,
}

impl Head {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        for number in [self.applied, self.tally.count, self.tally.sum] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn decode(mut bytes: &[u8]) -> Result<Head, String> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) if rest.len() == 24 => bytes = rest,
            Some((&format, _)) if format > FORMAT => {
                return Err(format!("it has format {format}; this version reads {FORMAT}"));
            }
            _ => return Err("its head cannot be read".to_owned()),
        }
        let applied = bytes.get_u64();
        let tally = Tally { count: bytes.get_u64(), sum: bytes.get_u64() };
        Ok(Head { applied, tally })
    }
}
