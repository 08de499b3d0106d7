//! What openraft is told of our types, and short names for its own.

use std::fmt;

use bytes::Bytes;
use openraft::{RaftTypeConfig, impls};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::machine::{Machine, Parcel};
use super::runtime::Runtime;
use crate::cluster::MemberId;
use crate::node::apply::{Command, Seat};

/// The types of our raft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Types;

impl RaftTypeConfig for Types {
    type D = Order;
    type R = Done;
    /// A member ID; never used twice.
    type NodeId = u64;
    type Node = Place;
    type Term = u64;
    // At most one leader a term, as in etcd: a log ID is term and index.
    type LeaderId = impls::leader_id_std::LeaderId<u64, u64>;
    type Vote = impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Order, u64, Place>;
    type Entry = openraft::Entry<CommittedTerm, Self::Payload>;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = impls::ProgressResponder<Self, T>
    where
        T: Send + 'static;
    type Batch<T>
        = impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = impls::BoxedErrorSource;
}

pub(super) type CommittedTerm = openraft::alias::CommittedLeaderIdOf<Types>;
pub(super) type LogId = openraft::alias::LogIdOf<Types>;
pub(super) type Vote = openraft::alias::VoteOf<Types>;
pub(super) type Entry = openraft::alias::EntryOf<Types>;
pub(super) type Payload = openraft::alias::PayloadOf<Types>;
pub(super) type Membership = openraft::Membership<u64, Place>;
pub(super) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(super) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;
pub(super) type Snapshot = openraft::alias::SnapshotOf<Types, Parcel>;
pub(super) type Raft = openraft::Raft<Types, Machine>;

/// A log ID of these two.
pub(super) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

/// Where a member is, and whether it was added to vote.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Its peer URLs.
    pub(super) peer_urls: Vec<String>,
    /// It was added as a voter. It stays so for good: openraft wants what it knows of a member
    /// unchanged while the member's role changes.
    pub(super) wants_vote: bool,
}

/// An operation on its way through the log.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Order(pub(super) Command);

/// Neither form shows what is in it: that may be secret, and goes to the debug log.
impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Order({} bytes)", self.0.as_bytes().len())
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

// openraft's own types can be serialized only if this can. Nothing here uses that form.
impl Serialize for Order {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_bytes())
    }
}

impl<'de> Deserialize<'de> for Order {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Bytes::from(Vec::<u8>::deserialize(deserializer)?);
        Command::from_bytes(bytes).map(Order).map_err(D::Error::custom)
    }
}

/// What applying gives to openraft: nothing. Who asked hears of it by the operation's ticket, as
/// it may be a member that does not lead.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Done;

/// The members of a membership, as the replicated state has them.
pub(super) fn seats(membership: &Membership) -> Vec<Seat> {
    let voters: std::collections::BTreeSet<_> = membership.voter_ids().collect();
    let seat = |(id, place): (&u64, &Place)| Seat {
        id: MemberId(*id),
        peer_urls: place.peer_urls.clone(),
        voter: voters.contains(id),
        wants_vote: place.wants_vote,
    };
    membership.nodes().map(seat).collect()
}
