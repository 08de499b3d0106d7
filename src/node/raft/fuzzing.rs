//! The door of the fuzz targets to what raft reads: from its peers, from its log, and of a
//! snapshot that comes in. Compiled for them only, and nothing in it decides anything.

use std::sync::Arc;

use bytes::Bytes;

use super::codec;
use super::offer::{self, Begin, Chunk, Finish, Pieces};
use super::receive::{self, ReceiveError};
use super::types::{LogId, Membership, SnapshotMeta, StoredMembership, Vote, log_id};
use crate::node::apply::State;
use crate::node::checkpoint::{Batch, Checkpoint, Memory};
use crate::node::mvcc::{Hashed, Records};

/// What raft reads, one form each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A vote, in the log.
    Vote,
    /// An entry's payload of this kind, in the log.
    Payload(u8),
    /// Entries for a follower.
    Append,
    /// What it answers.
    Appended,
    /// A candidate's request.
    VoteRequest,
    /// What is answered.
    Voted,
    /// The word that one may stand for leader at once.
    Transfer,
    /// A snapshot begins.
    Begin,
    /// Up to where a snapshot has come.
    Received,
    /// Some records of it.
    Chunk,
}

impl Form {
    /// All of them.
    pub const ALL: [Form; 12] = [
        Form::Vote,
        Form::Payload(0),
        Form::Payload(1),
        Form::Payload(2),
        Form::Append,
        Form::Appended,
        Form::VoteRequest,
        Form::Voted,
        Form::Transfer,
        Form::Begin,
        Form::Received,
        Form::Chunk,
    ];

    /// Reads bytes and writes what was read; `None` if they are refused.
    pub fn again(self, bytes: Bytes) -> Option<Bytes> {
        match self {
            Form::Vote => codec::read_vote(bytes).ok().map(|it| codec::vote(&it)),
            Form::Payload(kind) => {
                let read = codec::read_payload(kind, bytes).ok()?;
                let (written, bytes) = codec::payload(&read);
                (written == kind).then_some(bytes)
            }
            Form::Append => codec::read_append(bytes).ok().map(|it| codec::append(&it).freeze()),
            Form::Appended => codec::read_appended(bytes).ok().map(|it| codec::appended(&it)),
            Form::VoteRequest => {
                codec::read_vote_request(bytes).ok().map(|it| codec::vote_request(&it))
            }
            Form::Voted => codec::read_voted(bytes).ok().map(|it| codec::voted(&it)),
            Form::Transfer => codec::read_transfer(bytes).ok().map(|it| codec::transfer(&it)),
            Form::Begin => Begin::decode(bytes).ok().map(|it| it.encode()),
            Form::Received => offer::read_received(bytes).ok().map(offer::received),
            Form::Chunk => Chunk::decode(bytes).ok().map(|it| it.encode()),
        }
    }
}

const QUOTA: u64 = 1 << 30;

/// A snapshot's messages, in the order in which they are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parcel {
    /// Its records.
    pub chunks: Vec<Bytes>,
    /// Its end.
    pub pieces: Vec<Bytes>,
}

/// A snapshot that was taken: a state that a member would go on with.
pub struct Taken {
    id: LogId,
    vote: Vote,
    membership: StoredMembership,
    state: State,
    store: Arc<Memory>,
}

impl Taken {
    /// A state as a leader has it, with these records written, to be offered.
    pub fn of(mut state: State, store: Arc<Memory>) -> Option<Taken> {
        let at = state.applied()?;
        let progress = state.progress(usize::MAX);
        let batch = Batch {
            puts: progress.records,
            removes: progress.removed,
            meta: progress.metas,
            applied: at.index,
        };
        store.write(&batch).ok()?;
        state.kv.written_up_to(state.revision(), 0);
        let id = log_id(at.term, at.index);
        let membership = StoredMembership::new(Some(id), Membership::default());
        Some(Taken { id, vote: Vote::new_committed(at.term, 1), membership, state, store })
    }

    /// What tells it from another one.
    pub fn hash(&self) -> Option<Hashed> {
        self.state.kv.hash(0).ok()
    }

    /// All that it holds beside the keys.
    pub fn head(&self) -> Bytes {
        self.state.snapshot_meta()
    }

    /// Offers it to somebody else, `each` records in a message.
    pub fn offer(&self, each: usize) -> Option<Parcel> {
        let mut records = Vec::new();
        let all = self.state.kv.scan(0).ok()?;
        all.each(Default::default(), &mut |it| {
            records.push(it.to_record());
            std::ops::ControlFlow::Continue(())
        })
        .ok()?;
        let chunk = |some: &[_]| Chunk { id: self.id, records: some.to_vec() }.encode();
        let hashed = self.hash()?;
        let finish = Finish {
            vote: self.vote,
            meta: SnapshotMeta {
                last_log_id: Some(self.id),
                last_membership: self.membership.clone(),
            },
            head: self.head(),
            hash: hashed.hash,
            revision: hashed.revision,
        };
        Some(Parcel {
            chunks: records.chunks(each.max(1)).map(chunk).collect(),
            pieces: finish.encode(&self.id),
        })
    }

    /// Takes a snapshot as a member does, with its disk in memory; `None` if something is missing.
    /// With `hash`, its end says the hash that its records have, as if that state had been offered.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub fn receive(parcel: Parcel, hash: bool) -> Result<Option<Taken>, String> {
        let say = |it: ReceiveError| it.to_string();
        let (store, mut begun) = (Memory::default(), None);
        for bytes in parcel.chunks {
            let Chunk { id, mut records } = Chunk::decode(bytes).map_err(|it| it.to_string())?;
            if *begun.get_or_insert(id) != id {
                return Err(say(ReceiveError::NotBegun(id)));
            }
            let last = store.last().map_err(|it| it.to_string())?;
            records.retain(|it| it.revision > last);
            let batch = Batch { puts: records, ..Batch::default() };
            store.write(&batch).map_err(|it| it.to_string())?;
        }
        let (mut pieces, store) = (Pieces::default(), Arc::new(store));
        for bytes in parcel.pieces {
            let (id, finish) = pieces.take(bytes).map_err(|it| it.to_string())?;
            if *begun.get_or_insert(id) != id {
                return Err(say(ReceiveError::NotBegun(id)));
            }
            let Some(mut finish) = finish else { continue };
            let blobs = receive::blobs(&finish).map_err(say)?;
            let records = Arc::clone(&store) as Arc<dyn Records>;
            if hash
                && let Ok(state) = State::open(Arc::clone(&records), blobs.clone(), QUOTA)
                && let Ok(Hashed { hash, revision, .. }) = state.kv.hash(0)
            {
                (finish.hash, finish.revision) = (hash, revision);
            }
            let state = receive::open(records, blobs, &finish, id, QUOTA).map_err(say)?;
            let Finish { vote, meta, .. } = finish;
            return Ok(Some(Taken { id, vote, membership: meta.last_membership, state, store }));
        }
        Ok(None)
    }

    /// The records it stands on.
    pub fn store(&self) -> &Memory {
        &self.store
    }
}
