//! The binary form of what raft writes to its log and says to its peers.
//!
//! Numbers have their small end first, what may be missing has a byte before it. A membership is
//! openraft's JSON: it is rare, and readable in a log that somebody has to look into.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
};

use super::types::{Entry, LogId, Membership, Order, Payload, Types, Vote, log_id};
use crate::node::apply::Command;
use crate::node::log;

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be read: {0}")]
pub(super) struct Malformed(pub(super) String);

type Read<T> = Result<T, Malformed>;

const BLANK: u8 = 0;
const NORMAL: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// A payload as it is kept: its kind and its bytes.
pub(super) fn payload(payload: &Payload) -> (u8, Bytes) {
    match payload {
        EntryPayload::Blank => (BLANK, Bytes::new()),
        EntryPayload::Normal(Order(command)) => (NORMAL, command.as_bytes().clone()),
        // Maps with numbers for keys and lists of strings always have a JSON form.
        EntryPayload::Membership(it) => {
            (MEMBERSHIP, serde_json::to_vec(it).unwrap_or_default().into())
        }
    }
}

/// Reads what [`payload`] gave. The bytes are kept as they are: copy them out of a buffer before.
pub(super) fn read_payload(kind: u8, bytes: Bytes) -> Read<Payload> {
    Ok(match kind {
        BLANK if bytes.is_empty() => EntryPayload::Blank,
        BLANK => return Err(Malformed(format!("{} bytes in a blank entry", bytes.len()))),
        NORMAL => {
            let command = Command::from_bytes(bytes).map_err(|it| Malformed(it.to_string()))?;
            EntryPayload::Normal(Order(command))
        }
        MEMBERSHIP => EntryPayload::Membership(read_membership(&bytes)?),
        kind => return Err(Malformed(format!("an entry of kind {kind}"))),
    })
}

/// A membership from its JSON.
pub(super) fn read_membership(bytes: &[u8]) -> Read<Membership> {
    serde_json::from_slice(bytes).map_err(|it| Malformed(it.to_string()))
}

/// An entry for the log.
pub(super) fn to_log(entry: &Entry) -> log::Entry {
    let (kind, payload) = payload(&entry.payload);
    let LogId { leader_id, index } = entry.log_id;
    log::Entry { term: *leader_id, index, kind, payload }
}

/// An entry from the log.
pub(super) fn from_log(entry: log::Entry) -> Read<Entry> {
    let payload = read_payload(entry.kind, entry.payload)?;
    Ok(Entry { log_id: log_id(entry.term, entry.index), payload })
}

/// The place of a log ID.
pub(super) fn position(id: &LogId) -> log::Position {
    log::Position { term: *id.leader_id, index: id.index }
}

/// The log ID of a place.
pub(super) fn at(position: log::Position) -> LogId {
    log_id(position.term, position.index)
}

/// Writes.
#[derive(Debug, Default)]
pub(super) struct Writer(pub(super) BytesMut);

impl Writer {
    pub(super) fn u8(&mut self, it: u8) {
        self.0.put_u8(it);
    }

    pub(super) fn u64(&mut self, it: u64) {
        self.0.put_u64_le(it);
    }

    pub(super) fn bytes(&mut self, it: &[u8]) {
        self.length(it.len());
        self.0.put_slice(it);
    }

    /// The length of bytes that are written next.
    pub(super) fn length(&mut self, it: usize) {
        // Nothing longer than a frame, which is far shorter, is ever written.
        self.0.put_u32_le(u32::try_from(it).unwrap_or(u32::MAX));
    }

    pub(super) fn vote(&mut self, vote: &Vote) {
        self.u64(vote.leader_id.term);
        self.u64(vote.leader_id.voted_for);
        self.u8(u8::from(vote.committed));
    }

    pub(super) fn log_id(&mut self, id: Option<&LogId>) {
        self.u8(u8::from(id.is_some()));
        if let Some(id) = id {
            self.u64(*id.leader_id);
            self.u64(id.index);
        }
    }
}

/// Reads what [`Writer`] wrote.
#[derive(Debug)]
pub(super) struct Reader(pub(super) Bytes);

impl Reader {
    fn need(&self, count: usize) -> Read<()> {
        let short = || Malformed(format!("{} bytes where {count} should be", self.0.len()));
        if self.0.len() >= count { Ok(()) } else { Err(short()) }
    }

    pub(super) fn u8(&mut self) -> Read<u8> {
        self.need(1)?;
        Ok(self.0.get_u8())
    }

    pub(super) fn bool(&mut self) -> Read<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            it => Err(Malformed(format!("{it} for yes or no"))),
        }
    }

    pub(super) fn u32(&mut self) -> Read<u32> {
        self.need(4)?;
        Ok(self.0.get_u32_le())
    }

    pub(super) fn u64(&mut self) -> Read<u64> {
        self.need(8)?;
        Ok(self.0.get_u64_le())
    }

    /// Bytes in the buffer they came in.
    pub(super) fn bytes(&mut self) -> Read<Bytes> {
        let length = self.u32()? as usize;
        self.need(length)?;
        Ok(self.0.split_to(length))
    }

    pub(super) fn vote(&mut self) -> Read<Vote> {
        let (term, node) = (self.u64()?, self.u64()?);
        let committed = self.bool()?;
        Ok(if committed { Vote::new_committed(term, node) } else { Vote::new(term, node) })
    }

    pub(super) fn log_id(&mut self) -> Read<Option<LogId>> {
        Ok(if self.bool()? { Some(log_id(self.u64()?, self.u64()?)) } else { None })
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Read<()> {
        let left = self.0.len();
        if left == 0 { Ok(()) } else { Err(Malformed(format!("{left} bytes too many"))) }
    }
}

pub(super) fn vote(vote: &Vote) -> Bytes {
    let mut out = Writer::default();
    out.vote(vote);
    out.0.freeze()
}

pub(super) fn read_vote(bytes: Bytes) -> Read<Vote> {
    let mut from = Reader(bytes);
    let vote = from.vote()?;
    from.end()?;
    Ok(vote)
}

pub(super) fn append(request: &AppendEntriesRequest<Types>) -> BytesMut {
    let payloads: Vec<_> = request.entries.iter().map(|it| payload(&it.payload)).collect();
    let size = payloads.iter().map(|(_, it)| it.len() + 21).sum::<usize>() + 64;
    let mut out = Writer(BytesMut::with_capacity(size));
    out.vote(&request.vote);
    out.log_id(request.prev_log_id.as_ref());
    out.log_id(request.leader_commit.as_ref());
    for (entry, (kind, payload)) in request.entries.iter().zip(payloads) {
        out.u64(*entry.log_id.leader_id);
        out.u64(entry.log_id.index);
        out.u8(kind);
        out.bytes(&payload);
    }
    out.0
}

pub(super) fn read_append(bytes: Bytes) -> Read<AppendEntriesRequest<Types>> {
    let mut from = Reader(bytes);
    let vote = from.vote()?;
    let (prev_log_id, leader_commit) = (from.log_id()?, from.log_id()?);
    let mut entries: Vec<Entry> = Vec::new();
    let after = |index: u64| {
        let beyond = || Malformed(format!("nothing can follow on entry {index}"));
        index.checked_add(1).ok_or_else(beyond)
    };
    let mut next = prev_log_id.map_or(Ok(0), |it| after(it.index))?;
    while !from.0.is_empty() {
        let log_id = log_id(from.u64()?, from.u64()?);
        if log_id.index != next {
            return Err(Malformed(format!("entry {} where {next} should be", log_id.index)));
        }
        next = after(next)?;
        let kind = from.u8()?;
        // It outlives the frame it came in.
        let payload = read_payload(kind, Bytes::copy_from_slice(&from.bytes()?))?;
        entries.push(Entry { log_id, payload });
    }
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

pub(super) fn appended(response: &AppendEntriesResponse<Types>) -> Bytes {
    let mut out = Writer::default();
    match response {
        AppendEntriesResponse::Success => out.u8(0),
        AppendEntriesResponse::PartialSuccess(matching) => {
            out.u8(1);
            out.log_id(matching.as_ref());
        }
        AppendEntriesResponse::Conflict => out.u8(2),
        AppendEntriesResponse::HigherVote(vote) => {
            out.u8(3);
            out.vote(vote);
        }
    }
    out.0.freeze()
}

pub(super) fn read_appended(bytes: Bytes) -> Read<AppendEntriesResponse<Types>> {
    let mut from = Reader(bytes);
    let response = match from.u8()? {
        0 => AppendEntriesResponse::Success,
        1 => AppendEntriesResponse::PartialSuccess(from.log_id()?),
        2 => AppendEntriesResponse::Conflict,
        3 => AppendEntriesResponse::HigherVote(from.vote()?),
        it => return Err(Malformed(format!("an answer of kind {it}"))),
    };
    from.end()?;
    Ok(response)
}

pub(super) fn vote_request(request: &VoteRequest<Types>) -> Bytes {
    let mut out = Writer::default();
    out.vote(&request.vote);
    out.log_id(request.last_log_id.as_ref());
    out.u8(u8::from(request.leadership_transfer));
    out.0.freeze()
}

pub(super) fn read_vote_request(bytes: Bytes) -> Read<VoteRequest<Types>> {
    let mut from = Reader(bytes);
    let mut request = VoteRequest::new(from.vote()?, from.log_id()?);
    request.leadership_transfer = from.bool()?;
    from.end()?;
    Ok(request)
}

pub(super) fn voted(response: &VoteResponse<Types>) -> Bytes {
    let mut out = Writer::default();
    out.vote(&response.vote);
    out.log_id(response.last_log_id.as_ref());
    out.u8(u8::from(response.vote_granted));
    out.0.freeze()
}

pub(super) fn read_voted(bytes: Bytes) -> Read<VoteResponse<Types>> {
    let mut from = Reader(bytes);
    let (vote, last_log_id) = (from.vote()?, from.log_id()?);
    let vote_granted = from.bool()?;
    from.end()?;
    Ok(VoteResponse { vote, vote_granted, last_log_id })
}

pub(super) fn transfer(request: &TransferLeaderRequest<Types>) -> Bytes {
    let mut out = Writer::default();
    out.vote(request.from_leader());
    out.u64(*request.to_node_id());
    out.log_id(request.last_log_id());
    out.0.freeze()
}

pub(super) fn read_transfer(bytes: Bytes) -> Read<TransferLeaderRequest<Types>> {
    let mut from = Reader(bytes);
    let request = TransferLeaderRequest::new(from.vote()?, from.u64()?, from.log_id()?);
    from.end()?;
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::apply::{Operation, Ticket};
    use crate::node::raft::types::Place;
    use crate::proto::etcdserverpb::PutRequest;
    use std::collections::{BTreeMap, BTreeSet};

    fn request() -> AppendEntriesRequest<Types> {
        let put = Operation::Put(PutRequest { key: "a:\0\u{ff}".into(), ..PutRequest::default() });
        let command = Command::new(Ticket { proposer: 1, serial: 2 }, &put);
        let nodes = BTreeMap::from([(u64::MAX, Place::default()), (7, Place::default())]);
        let membership = Membership::new(vec![BTreeSet::from([u64::MAX])], nodes).unwrap();
        let entry = |index, payload| Entry { log_id: log_id(3, index), payload };
        AppendEntriesRequest {
            vote: Vote::new_committed(3, u64::MAX),
            prev_log_id: Some(log_id(2, 9)),
            leader_commit: Some(log_id(2, 8)),
            entries: vec![
                entry(10, EntryPayload::Blank),
                entry(11, EntryPayload::Normal(Order(command))),
                entry(12, EntryPayload::Membership(membership)),
            ],
        }
    }

    #[test]
    fn what_is_appended_arrives_as_it_was_sent() {
        let request = request();
        let read = read_append(append(&request).freeze()).unwrap();
        assert_eq!(format!("{read:?}"), format!("{request:?}"));
        assert_eq!(read.entries, request.entries);
        for entry in request.entries {
            assert_eq!(from_log(to_log(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn a_blank_entry_with_something_in_it_is_refused() {
        assert_eq!(read_payload(BLANK, Bytes::new()).unwrap(), EntryPayload::Blank);
        assert!(read_payload(BLANK, Bytes::from_static(b"x")).is_err());
    }

    #[test]
    fn an_index_that_nothing_can_follow_is_refused() {
        let last = u64::MAX;
        let behind_all = AppendEntriesRequest { prev_log_id: Some(log_id(2, last)), ..request() };
        assert!(read_append(append(&behind_all).freeze()).is_err());
        let entry = Entry { log_id: log_id(3, last), payload: EntryPayload::Blank };
        let prev_log_id = Some(log_id(2, last - 1));
        let at_the_end = AppendEntriesRequest { prev_log_id, entries: vec![entry], ..request() };
        assert!(read_append(append(&at_the_end).freeze()).is_err());
    }

    #[test]
    fn bytes_that_are_cut_or_changed_are_an_error_or_another_request_and_never_a_panic() {
        let whole = append(&request()).freeze();
        for end in 0..whole.len() {
            let _ = read_append(whole.slice(..end));
            let _ = read_vote_request(whole.slice(..end));
            let _ = read_voted(whole.slice(..end));
            let _ = read_appended(whole.slice(..end));
            let _ = read_transfer(whole.slice(..end));
            for bit in 0..8 {
                let mut bytes = whole.to_vec();
                bytes[end] ^= 1 << bit;
                let _ = read_append(bytes.into());
            }
        }
    }
}
