//! A snapshot as a leader offers it: all that its state holds at one entry of the log, read while
//! writes go on.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use tokio::sync::{OnceCell, mpsc};

use super::codec::{Malformed, Reader, Writer};
use super::types::{LogId, SnapshotMeta};
use crate::node::fault::Fault;
use crate::node::ground::work;
use crate::node::mvcc::{Hashed, Hashing, Record, Revision, Scan, Seen, StoreError};

/// Bytes of records that travel together.
const CHUNK: usize = if cfg!(feature = "simulation") { 2 << 10 } else { 512 << 10 };

/// A snapshot to be sent. While it lives, nothing that it wants is deleted.
#[derive(Debug)]
pub(super) struct Offer {
    /// Names it: all members agree on the state at one entry.
    pub(super) id: LogId,
    pub(super) meta: SnapshotMeta,
    /// The state's blobs.
    pub(super) head: Bytes,
    scan: Scan,
    /// Known once all has been read, in whichever way first.
    hash: OnceCell<Result<Hashed, StoreError>>,
}

impl Offer {
    pub(super) fn new(id: LogId, meta: SnapshotMeta, head: Bytes, scan: Scan) -> Arc<Offer> {
        Arc::new(Offer { id, meta, head, scan, hash: OnceCell::new() })
    }

    /// The hash of all records, by which the receiver knows that it has them.
    pub(super) async fn hash(self: &Arc<Self>) -> Result<Hashed, StoreError> {
        let compute = || async {
            let offer = Arc::clone(self);
            let ended = || Err(StoreError::Io("what hashes a snapshot has ended".to_owned()));
            work::blocking(move || offer.scan.hash()).await.unwrap_or_else(ended)
        };
        self.hash.get_or_init(compute).await.clone()
    }

    /// Its records after one, in chunks that can be sent, read on a thread that may wait; two are
    /// read ahead. Ends when the receiver is dropped.
    pub(super) fn chunks(
        self: &Arc<Self>,
        after: Revision,
    ) -> mpsc::Receiver<Result<Bytes, StoreError>> {
        let offer = Arc::clone(self);
        work::reading(2, move |give| {
            let mut packing = Packing::new(offer.id);
            let mut hashing = Hashing::new(offer.scan.compacted());
            let mut is_wanted = true;
            let read = offer.scan.each(after, &mut |record| {
                if record.revision <= after {
                    return ControlFlow::Continue(());
                }
                hashing.take(&record);
                packing.add(&record);
                if packing.out.0.len() >= CHUNK {
                    is_wanted =
                        give(Ok(std::mem::replace(&mut packing, Packing::new(offer.id)).end()));
                }
                if is_wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            if read.is_ok() && is_wanted && after == Revision::default() {
                // All was read: who asks for the hash need not read it once more.
                let _ = offer.hash.set(Ok(hashing.end(offer.scan.revision())));
            }
            if let Err(error) = read {
                give(Err(error));
            } else if packing.has_any {
                give(Ok(packing.end())); // nobody may want it any more
            }
        })
    }
}

/// A chunk that is being filled.
struct Packing {
    out: Writer,
    has_any: bool,
}

impl Packing {
    fn new(of: LogId) -> Packing {
        let mut out = Writer(BytesMut::with_capacity(CHUNK + (CHUNK >> 3)));
        out.0.extend_from_slice(&[0; 4]);
        id(&mut out, &of);
        Packing { out, has_any: false }
    }

    fn add(&mut self, record: &Seen<'_>) {
        self.has_any = true;
        revision(&mut self.out, record.revision);
        self.out.length(record.length());
        record.parts(|part| self.out.0.extend_from_slice(part));
    }

    /// The chunk. A checksum goes before it: TCP's own is too weak for gigabytes.
    fn end(mut self) -> Bytes {
        let sum = crc32c::crc32c(&self.out.0[4..]);
        self.out.0[..4].copy_from_slice(&sum.to_le_bytes());
        self.out.0.freeze()
    }
}

/// What a receiver is told first.
#[derive(Debug)]
pub(super) struct Begin {
    pub(super) id: LogId,
}

/// Some records.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) id: LogId,
    pub(super) records: Vec<Record>,
}

/// What a receiver is told last: all that makes a state of the records.
#[derive(Clone, Debug)]
pub(super) struct Finish {
    pub(super) vote: super::types::Vote,
    pub(super) meta: SnapshotMeta,
    pub(super) head: Bytes,
    pub(super) hash: u32,
    pub(super) revision: i64,
}

fn id(out: &mut Writer, it: &LogId) {
    out.u64(*it.leader_id);
    out.u64(it.index);
}

fn read_id(from: &mut Reader) -> Result<LogId, Malformed> {
    Ok(super::types::log_id(from.u64()?, from.u64()?))
}

fn revision(out: &mut Writer, it: Revision) {
    out.u64(it.main.cast_unsigned());
    out.u64(it.sub.cast_unsigned());
}

fn read_revision_from(from: &mut Reader) -> Result<Revision, Malformed> {
    Ok(Revision { main: from.u64()?.cast_signed(), sub: from.u64()?.cast_signed() })
}

/// The last record that a receiver has.
pub(super) fn received(at: Revision) -> Bytes {
    let mut out = Writer::default();
    revision(&mut out, at);
    out.0.freeze()
}

pub(super) fn read_received(bytes: Bytes) -> Result<Revision, Malformed> {
    let mut from = Reader(bytes);
    let at = read_revision_from(&mut from)?;
    from.end()?;
    Ok(at)
}

impl Begin {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        id(&mut out, &self.id);
        out.0.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Begin, Malformed> {
        let mut from = Reader(bytes);
        let id = read_id(&mut from)?;
        from.end()?;
        Ok(Begin { id })
    }
}

impl Chunk {
    #[cfg(fuzzing)]
    pub(super) fn encode(&self) -> Bytes {
        let mut packing = Packing::new(self.id);
        self.records.iter().for_each(|it| packing.add(&it.seen()));
        packing.end()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Chunk, Malformed> {
        let mut from = Reader(bytes);
        if from.u32()? != crc32c::crc32c(&from.0) {
            return Err(Malformed("a chunk's checksum is wrong".to_owned()));
        }
        let id = read_id(&mut from)?;
        let mut records = Vec::new();
        while !from.0.is_empty() {
            let at = read_revision_from(&mut from)?;
            let bytes = from.bytes()?;
            let record = Record::decode(at, &bytes).map_err(|it| Malformed(it.to_string()))?;
            records.push(record);
        }
        Ok(Chunk { id, records })
    }
}

/// The wire form of [`Finish`]; leases may be many, so it has to be sent in pieces itself.
#[derive(Clone, PartialEq, prost::Message)]
struct Finished {
    #[prost(bytes = "bytes", tag = "1")]
    vote: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    meta: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    head: Bytes,
    #[prost(uint32, tag = "4")]
    hash: u32,
    #[prost(int64, tag = "5")]
    revision: i64,
}

impl Finish {
    /// In pieces of a chunk's length, each with its place and the sum of all.
    pub(super) fn encode(&self, id_: &LogId) -> Vec<Bytes> {
        let whole = Finished {
            vote: super::codec::vote(&self.vote),
            // Numbers for keys and lists of strings always have a JSON form.
            meta: serde_json::to_vec(&self.meta).unwrap_or_default().into(),
            head: self.head.clone(),
            hash: self.hash,
            revision: self.revision,
        }
        .encode_to_vec();
        let sum = crc32c::crc32c(&whole);
        let pieces = whole.chunks(CHUNK);
        let count = pieces.len();
        pieces
            .enumerate()
            .map(|(n, piece)| {
                let mut out = Writer(BytesMut::with_capacity(piece.len() + 64));
                id(&mut out, id_);
                out.u64(n as u64);
                out.u64(count as u64);
                out.u64(u64::from(sum));
                out.bytes(piece);
                out.0.freeze()
            })
            .collect()
    }
}

/// Puts the pieces of a [`Finish`] together.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    count: u64,
    bytes: BytesMut,
}

impl Pieces {
    /// The most that a head may have.
    const MOST: usize = 1 << 30;

    /// Takes a piece; the whole after the last one.
    pub(super) fn take(&mut self, bytes: Bytes) -> Result<(LogId, Option<Finish>), Malformed> {
        let mut from = Reader(bytes);
        let id = read_id(&mut from)?;
        let (n, count, sum) = (from.u64()?, from.u64()?, from.u64()?);
        if n == 0 {
            *self = Pieces::default();
        }
        if n != self.count || self.bytes.len() > Self::MOST {
            return Err(Malformed(format!("piece {n} where {} should be", self.count)));
        }
        self.bytes.extend_from_slice(&from.bytes()?);
        self.count += 1;
        if self.count < count {
            return Ok((id, None));
        }
        let whole = std::mem::take(&mut self.bytes).freeze();
        if u64::from(crc32c::crc32c(&whole)) != sum {
            return Err(Malformed("a snapshot's head has a wrong checksum".to_owned()));
        }
        let wrong = |it: &dyn std::fmt::Display| Malformed(it.to_string());
        let Finished { vote, meta, head, hash, revision } =
            Finished::decode(whole).map_err(|it| wrong(&it))?;
        let finish = Finish {
            vote: super::codec::read_vote(vote)?,
            meta: serde_json::from_slice(&meta).map_err(|it| wrong(&it))?,
            head,
            hash,
            revision,
        };
        Ok((id, Some(finish)))
    }
}

/// Why no snapshot can be offered.
pub(super) fn cannot_scan(error: &crate::node::mvcc::ReadError) -> std::io::Error {
    std::io::Error::other(format!("{error}: {}", Fault::Storage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::raft::types::log_id;

    #[test]
    fn what_is_longer_than_it_should_be_is_refused() {
        let begin = Begin { id: log_id(3, 9) }.encode();
        assert_eq!(Begin::decode(begin.clone()).unwrap().id, log_id(3, 9));
        assert!(Begin::decode([&begin[..], b"x"].concat().into()).is_err());
        let at = Revision { main: 7, sub: 1 };
        assert_eq!(read_received(received(at)).unwrap(), at);
        assert!(read_received([&received(at)[..], b"x"].concat().into()).is_err());
    }
}
