//! What is kept of the state beside the keys' history: named blobs, in the checkpoint and at the
//! head of a snapshot.
//!
//! ```text
//! apply/state       format, revision, compacted revision, last entry applied
//! apply/members     all members, and the IDs of those that were
//! apply/alarms      the active alarms
//! apply/lease/ID    one for each lease, ID as 8 bytes
//! ```
//!
//! A checkpoint gets what changed since it was last told ([`State::progress`]), a snapshot gets
//! all ([`State::metas`]). The keys of a lease are in neither: they follow from the history.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::alarms::Alarms;
use super::leases::Leases;
use super::members::{MemberEntry, Members};
use super::state::{Position, State};
use crate::cluster::{Incarnation, MemberId};
use crate::node::mvcc::{Hashed, Hashing, Record, Records, Revision, Seen, Store, StoreError};

/// The form that is written here; a state in a later one is refused.
const FORMAT: u32 = 1;

const STATE: &[u8] = b"apply/state";
const MEMBERS: &[u8] = b"apply/members";
const ALARMS: &[u8] = b"apply/alarms";
const LEASE: &[u8] = b"apply/lease/";

/// Why a state could not be opened from what was kept of it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A blob cannot be understood: what was kept is damaged.
    #[error("{name} is damaged: {what}")]
    Damaged {
        /// The name of the blob.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// A later version has written it; start that one.
    #[error("the state has format {found}; this version reads formats up to {FORMAT}")]
    Newer {
        /// The format.
        found: u32,
    },
    /// The keys' history cannot be read.
    #[error("the keys cannot be read")]
    Store(#[from] StoreError),
}

/// What a checkpoint has yet to write, to be written as one.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// New records, in order.
    pub records: Vec<Record>,
    /// Records that compaction made unreachable. Older than, or among, the new ones.
    pub removed: Vec<Revision>,
    /// Blobs by name; `None` for one that is gone.
    pub metas: Vec<(Bytes, Option<Bytes>)>,
    /// The last entry that is in it; `None` before the first.
    pub applied: Option<Position>,
}

/// What changed since the last [`Progress`].
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) leases: BTreeSet<i64>,
    pub(super) members: bool,
    pub(super) alarms: bool,
}

impl Dirty {
    pub(super) fn all() -> Dirty {
        Dirty { leases: BTreeSet::new(), members: true, alarms: true }
    }
}

impl State {
    /// Opens the state that `metas` and `records` were kept of, all of [`State::metas`] and more
    /// in any order; blobs of other names are passed over. Without any, it is a new state.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn open(
        records: Arc<dyn Records>,
        metas: impl IntoIterator<Item = (Bytes, Bytes)>,
        quota: u64,
    ) -> Result<State, OpenError> {
        State::open_showing(records, metas, quota, |_, _| {})
    }

    /// As [`State::open`], for a state whose records are all that count: with the hash of them.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open_hashed(
        records: Arc<dyn Records>,
        metas: impl IntoIterator<Item = (Bytes, Bytes)>,
        quota: u64,
    ) -> Result<(State, Hashed), OpenError> {
        let mut hashing: Option<Hashing> = None;
        let state = State::open_showing(records, metas, quota, |compacted, record| {
            hashing.get_or_insert_with(|| Hashing::new(compacted)).take(record);
        })?;
        let hashing = hashing.unwrap_or_else(|| Hashing::new(state.kv.compacted()));
        let hashed = hashing.end(state.revision());
        Ok((state, hashed))
    }

    /// `show` hears of each record, and up to where history was given up.
    fn open_showing(
        records: Arc<dyn Records>,
        metas: impl IntoIterator<Item = (Bytes, Bytes)>,
        quota: u64,
        mut show: impl FnMut(i64, &Seen<'_>),
    ) -> Result<State, OpenError> {
        let mut kept: Option<Kept> = None;
        let mut leases = Leases::default();
        let (mut members, mut alarms) = (Members::default(), Alarms::default());
        for (name, blob) in metas {
            if name == STATE {
                kept = Some(decode(&name, blob)?);
            } else if name == MEMBERS {
                members = decode::<KeptMembers>(&name, blob)?.open();
            } else if name == ALARMS {
                alarms = decode::<KeptAlarms>(&name, blob)?.open();
            } else if let Some(id) = name.strip_prefix(LEASE) {
                let id = id.try_into().map(i64::from_be_bytes);
                let id = id.map_err(|_| damaged(&name, "no ID"))?;
                let KeptLease { ttl } = decode(&name, blob)?;
                leases.grant(id, ttl).map_err(|_| damaged(&name, "twice"))?;
            }
        }
        let Some(kept) = kept else {
            let empty = members == Members::default()
                && alarms == Alarms::default()
                && leases == Leases::default();
            let missing = || damaged(STATE, "it is missing");
            return if empty { Ok(State::new(records, quota)) } else { Err(missing()) };
        };
        if kept.format > FORMAT {
            return Err(OpenError::Newer { found: kept.format });
        }
        // What was last said of a key holds; a lease that nobody has granted binds nothing.
        let kv = Store::open_showing(records, kept.revision, kept.compacted, |record| {
            leases.follow(record);
            show(kept.compacted, record);
        })?;
        let applied = kept.applied.map(|KeptPosition { term, index }| Position { term, index });
        let dirty = Dirty::default();
        Ok(State { kv, leases, members, alarms, applied, quota, dirty })
    }

    /// Takes what the checkpoint does not have yet; the next call goes on from here, so what is
    /// returned must be written, or the member must stop. At most `sweep` records are removed.
    pub fn progress(&mut self, sweep: usize) -> Progress {
        let dirty = std::mem::take(&mut self.dirty);
        let mut metas = vec![(Bytes::from_static(STATE), Some(self.kept()))];
        if dirty.members {
            metas.push((Bytes::from_static(MEMBERS), Some(self.kept_members())));
        }
        if dirty.alarms {
            metas.push((Bytes::from_static(ALARMS), Some(self.kept_alarms())));
        }
        for id in dirty.leases {
            metas.push((lease_name(id), self.leases.get(id).map(|it| kept_lease(it.ttl()))));
        }
        let records = self.kv.take_new();
        Progress { records, removed: self.kv.sweep(sweep), metas, applied: self.applied }
    }

    /// All blobs, in a fixed order: equal on members that agree and have applied the same.
    pub fn metas(&self) -> Vec<(Bytes, Bytes)> {
        let mut metas = vec![
            (Bytes::from_static(STATE), self.kept()),
            (Bytes::from_static(MEMBERS), self.kept_members()),
            (Bytes::from_static(ALARMS), self.kept_alarms()),
        ];
        metas.extend(self.leases.iter().map(|it| (lease_name(it.id()), kept_lease(it.ttl()))));
        metas
    }

    /// [`State::metas`] as one blob, for the head of a snapshot; [`read_snapshot_meta`] reads it.
    pub fn snapshot_meta(&self) -> Bytes {
        let named = |(name, blob)| Named { name, blob };
        let blobs = self.metas().into_iter().map(named).collect();
        Head { blobs }.encode_to_vec().into()
    }

    fn kept(&self) -> Bytes {
        let applied = self.applied.map(|Position { term, index }| KeptPosition { term, index });
        let (revision, compacted) = (self.kv.revision(), self.kv.compacted());
        Kept { format: FORMAT, revision, compacted, applied }.encode_to_vec().into()
    }

    fn kept_members(&self) -> Bytes {
        let members = self.members.iter().map(KeptMember::of).collect();
        let removed = self.members.removed().map(|it| it.0).collect();
        KeptMembers { members, removed }.encode_to_vec().into()
    }

    fn kept_alarms(&self) -> Bytes {
        let all = self.alarms.of(0).into_iter();
        let alarms = all.map(|it| KeptAlarm { alarm: it.alarm, member: it.member_id }).collect();
        KeptAlarms { alarms }.encode_to_vec().into()
    }
}

/// Reads the blobs of a snapshot's head.
///
/// # Errors
///
/// [`OpenError::Damaged`].
pub fn read_snapshot_meta(head: Bytes) -> Result<Vec<(Bytes, Bytes)>, OpenError> {
    // Each is copied: it is kept, and the buffer it came in need not be.
    let copy = |it: Bytes| Bytes::copy_from_slice(&it);
    let head: Head = decode(b"snapshot", head)?;
    Ok(head.blobs.into_iter().map(|Named { name, blob }| (copy(name), copy(blob))).collect())
}

fn lease_name(id: i64) -> Bytes {
    let mut name = BytesMut::with_capacity(LEASE.len() + 8);
    name.extend_from_slice(LEASE);
    name.extend_from_slice(&id.to_be_bytes());
    name.freeze()
}

fn kept_lease(ttl: i64) -> Bytes {
    KeptLease { ttl }.encode_to_vec().into()
}

fn decode<T: Message + Default>(name: &[u8], blob: Bytes) -> Result<T, OpenError> {
    T::decode(blob).map_err(|error| damaged(name, &error.to_string()))
}

fn damaged(name: &[u8], what: &str) -> OpenError {
    OpenError::Damaged { name: name.escape_ascii().to_string(), what: what.to_owned() }
}

#[derive(Clone, PartialEq, Message)]
struct Kept {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(int64, tag = "2")]
    revision: i64,
    #[prost(int64, tag = "3")]
    compacted: i64,
    #[prost(message, optional, tag = "4")]
    applied: Option<KeptPosition>,
}

#[derive(Clone, PartialEq, Message)]
struct KeptPosition {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

#[derive(Clone, PartialEq, Message)]
struct KeptLease {
    #[prost(int64, tag = "1")]
    ttl: i64,
}

#[derive(Clone, PartialEq, Message)]
struct KeptAlarms {
    #[prost(message, repeated, tag = "1")]
    alarms: Vec<KeptAlarm>,
}

#[derive(Clone, PartialEq, Message)]
struct KeptAlarm {
    #[prost(int32, tag = "1")]
    alarm: i32,
    #[prost(uint64, tag = "2")]
    member: u64,
}

impl KeptAlarms {
    fn open(self) -> Alarms {
        let mut alarms = Alarms::default();
        for KeptAlarm { alarm, member } in self.alarms {
            alarms.raise(member, alarm);
        }
        alarms
    }
}

#[derive(Clone, PartialEq, Message)]
struct KeptMembers {
    #[prost(message, repeated, tag = "1")]
    members: Vec<KeptMember>,
    #[prost(uint64, repeated, tag = "2")]
    removed: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct KeptMember {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, repeated, tag = "2")]
    peer_urls: Vec<String>,
    #[prost(bool, tag = "3")]
    voter: bool,
    #[prost(bool, tag = "4")]
    wants_vote: bool,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(string, repeated, tag = "6")]
    client_urls: Vec<String>,
    #[prost(uint64, optional, tag = "7")]
    incarnation: Option<u64>,
}

impl KeptMember {
    fn of(it: &MemberEntry) -> KeptMember {
        KeptMember {
            id: it.id.0,
            peer_urls: it.peer_urls.clone(),
            voter: it.voter,
            wants_vote: it.wants_vote,
            name: it.name.clone(),
            client_urls: it.client_urls.clone(),
            incarnation: it.incarnation.map(|it| it.0),
        }
    }
}

impl KeptMembers {
    fn open(self) -> Members {
        let entry = |it: KeptMember| MemberEntry {
            id: MemberId(it.id),
            peer_urls: it.peer_urls,
            voter: it.voter,
            wants_vote: it.wants_vote,
            name: it.name,
            client_urls: it.client_urls,
            incarnation: it.incarnation.map(Incarnation),
        };
        let removed = self.removed.into_iter().map(MemberId);
        Members::from_parts(self.members.into_iter().map(entry), removed)
    }
}

#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(message, repeated, tag = "1")]
    blobs: Vec<Named>,
}

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    blob: Bytes,
}
