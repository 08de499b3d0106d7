//! What the services need of the raft below them, and nothing of how it is done.
//!
//! [`Replica`] is implemented by the raft node, and in tests by a replica of one member that
//! applies at once. A service never touches the log or the network.

use std::future::Future;

use super::apply::{Operation, Response, State};
use super::fault::Fault;
use crate::cluster::{ClusterId, MemberId};
use crate::proto::etcdserverpb::Member;

/// How this replica stands in the cluster, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The member that leads; `None` while nobody is known to.
    pub leader: Option<MemberId>,
    /// The current term.
    pub term: u64,
    /// The last index known to be committed.
    pub committed: u64,
    /// The last index applied.
    pub applied: u64,
    /// Whether this member is a learner.
    pub is_learner: bool,
}

/// A member of a cluster, as its services see it.
pub trait Replica: Send + Sync + 'static {
    /// The cluster.
    fn cluster(&self) -> ClusterId;

    /// This member.
    fn member(&self) -> MemberId;

    /// How it stands.
    fn standing(&self) -> Standing;

    /// Hears of each change of [`Standing::leader`] and [`Standing::term`].
    fn standing_changes(&self) -> tokio::sync::watch::Receiver<Standing>;

    /// Has the cluster agree on an operation and returns what applying it here gave: once this
    /// returns, this member's own state has it. Forwarded to the leader from wherever it is asked.
    ///
    /// # Errors
    ///
    /// The fault of the operation itself, or of the way there; after [`Fault::Timeout`] and its
    /// like, [`Fault::LeaderChanged`] and [`Fault::Stopped`] it may still be applied.
    fn propose(&self, operation: Operation)
    -> impl Future<Output = Result<Response, Fault>> + Send;

    /// Returns once this member has applied everything that was acknowledged anywhere before the
    /// call (Raft thesis §6.4). A read after it is linearizable.
    ///
    /// # Errors
    ///
    /// [`Fault::NoLeader`], [`Fault::LeaderChanged`], [`Fault::Timeout`] and its like.
    fn read_barrier(&self) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Looks at the state applied so far. Short: everything else waits.
    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T;

    /// The member list as this member has it: etcd's view, in which one that was added as a voter
    /// is listed as an unstarted voter until its promotion has committed. Sorted by ID.
    fn members(&self) -> Vec<Member>;

    /// Adds a member, as a learner first in any case; one that was asked for as a voter is
    /// promoted by the leader when it has caught up. Returns it and the list after.
    ///
    /// # Errors
    ///
    /// As etcd's `MemberAdd`.
    fn add_member(
        &self,
        peer_urls: Vec<String>,
        as_learner: bool,
    ) -> impl Future<Output = Result<(Member, Vec<Member>), Fault>> + Send;

    /// Removes a member; its ID is never used again. Returns the list after.
    ///
    /// # Errors
    ///
    /// As etcd's `MemberRemove`.
    fn remove_member(
        &self,
        id: MemberId,
    ) -> impl Future<Output = Result<Vec<Member>, Fault>> + Send;

    /// Gives a member other peer URLs. Returns the list after.
    ///
    /// # Errors
    ///
    /// As etcd's `MemberUpdate`.
    fn update_member(
        &self,
        id: MemberId,
        peer_urls: Vec<String>,
    ) -> impl Future<Output = Result<Vec<Member>, Fault>> + Send;

    /// Makes a learner a voter. Returns the list after.
    ///
    /// # Errors
    ///
    /// As etcd's `MemberPromote`.
    fn promote_member(
        &self,
        id: MemberId,
    ) -> impl Future<Output = Result<Vec<Member>, Fault>> + Send;

    /// Hands the leadership to a voter.
    ///
    /// # Errors
    ///
    /// [`Fault::NotLeader`] on a follower, [`Fault::BadLeaderTransferee`], [`Fault::Timeout`].
    fn move_leader(&self, to: MemberId) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Keeps a lease alive, wherever its clock runs (on the leader). Its granted TTL in seconds,
    /// or 0 if there is no such lease.
    ///
    /// # Errors
    ///
    /// [`Fault::NoLeader`], [`Fault::Timeout`].
    fn renew_lease(&self, id: i64) -> impl Future<Output = Result<i64, Fault>> + Send;

    /// Seconds left and seconds granted of a lease; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Fault::NoLeader`], [`Fault::Timeout`].
    fn lease_left(&self, id: i64)
    -> impl Future<Output = Result<Option<(i64, i64)>, Fault>> + Send;

    /// Bytes that the data takes on disk; never 0.
    fn disk_size(&self) -> u64;

    /// Gives back what the store can (etcd's Defragment).
    ///
    /// # Errors
    ///
    /// [`Fault::Storage`].
    fn defragment(&self) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Returns once the store holds nothing on disk any more that compaction has made unreachable
    /// up to now (`physical` of etcd's Compact).
    ///
    /// # Errors
    ///
    /// [`Fault::Storage`], [`Fault::Stopped`].
    fn swept(&self) -> impl Future<Output = Result<(), Fault>> + Send {
        async { Ok(()) }
    }
}
