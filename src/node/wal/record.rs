//! The frames of etcd's log and what is in them (etcd's `server/storage/wal`, `walpb`, `raftpb`).

use std::io::{self, Read};

use prost::Message;

/// The running checksum goes on at this value: first record of each segment.
pub(super) const CRC: i64 = 4;
/// Who writes this log: second record of each segment.
pub(super) const METADATA: i64 = 1;
/// One raft entry.
pub(super) const ENTRY: i64 = 2;
/// Term, vote and commit index.
pub(super) const STATE: i64 = 3;
/// A snapshot was taken.
pub(super) const SNAPSHOT: i64 = 5;

/// Longer records than this are refused by etcd 3.4 as well; no request comes near it.
const LONGEST: u64 = 10 << 20;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(int64, tag = "1")]
    pub(super) kind: i64,
    #[prost(uint32, tag = "2")]
    pub(super) crc: u32,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(uint64, tag = "1")]
    pub(super) member: u64,
    #[prost(uint64, tag = "2")]
    pub(super) cluster: u64,
}

/// The head of a raft entry; its payload (tag 4) is skipped.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(uint64, tag = "2")]
    pub(super) term: u64,
    #[prost(uint64, tag = "3")]
    pub(super) index: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HardState {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    #[prost(uint64, tag = "3")]
    pub(super) commit: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Snapshot {
    #[prost(uint64, tag = "1")]
    pub(super) index: u64,
    #[prost(uint64, tag = "2")]
    pub(super) term: u64,
}

/// What stands at the reader's place.
pub(super) enum Frame {
    /// A record whose checksum is yet to be compared, and the bytes it takes in the file.
    Record { record: Record, bytes: u64 },
    /// Zeros or the end of the file: no record follows.
    End,
    /// No record can be read here. `torn`: as an interrupted last write leaves it.
    Broken { what: String, torn: bool },
}

/// Reads one frame: eight bytes of length (the low 56 bits count the record, the top byte holds
/// `0x80 | padding` if it is padded to eight), then the record. `left` is what the file still
/// has.
pub(super) fn read_frame(file: &mut impl Read, left: u64) -> io::Result<Frame> {
    let mut head = [0; 8];
    if left < 8 {
        file.take(left).read_to_end(&mut Vec::new())?;
        return Ok(if left == 0 { Frame::End } else { torn("the file ends within a length") });
    }
    file.read_exact(&mut head)?;
    let field = u64::from_le_bytes(head);
    if field == 0 {
        return Ok(Frame::End);
    }
    let (length, flags) = (field & (u64::MAX >> 8), field >> 56);
    let padding = if flags & 0x80 == 0 { 0 } else { flags & 7 };
    if length > LONGEST {
        return Ok(Frame::Broken { what: format!("a record of {length} bytes"), torn: false });
    }
    if length + padding > left - 8 {
        return Ok(torn("the file ends within a record"));
    }
    let mut bytes = Vec::new();
    file.take(length + padding).read_to_end(&mut bytes)?;
    let bytes_of_record = bytes.get(..usize::try_from(length).unwrap_or(0)).unwrap_or_default();
    match Record::decode(bytes_of_record) {
        Ok(record) => Ok(Frame::Record { record, bytes: 8 + length + padding }),
        Err(error) => Ok(Frame::Broken {
            what: format!("no record can be read: {error}"),
            torn: has_zero_sector(bytes_of_record),
        }),
    }
}

fn torn(what: &str) -> Frame {
    Frame::Broken { what: what.to_owned(), torn: true }
}

/// etcd's own sign of a write that did not reach the disk whole: a stretch of zeros as long as a
/// sector (`isTornEntry` in its decoder; here without regard to where sectors begin).
pub(super) fn has_zero_sector(bytes: &[u8]) -> bool {
    let mut run = 0;
    bytes.iter().any(|byte| {
        run = if *byte == 0 { run + 1 } else { 0 };
        run == 512
    }) || (!bytes.is_empty() && run == bytes.len())
}
