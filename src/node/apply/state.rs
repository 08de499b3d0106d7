//! [`State`]: what it holds, what can be asked of it, and the entries that are no operations.
//!
//! Operations are performed in `perform.rs`; what of the state is kept on disk is in `meta.rs`.

use std::sync::Arc;

use super::alarms::Alarms;
use super::check::ReadOnlyTxn;
use super::leases::{Lease, Leases};
use super::members::{MemberEntry, Members, Seat};
use super::meta::Dirty;
use super::{Failure, Halt, quota, range, txn};
use crate::cluster::MemberId;
use crate::node::fault::Fault;
use crate::node::mvcc::{Records, Store};
use crate::proto::etcdserverpb::{
    AlarmMember, AlarmType, Member, RangeRequest, RangeResponse, TxnResponse,
};

use super::Operation;

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The term of the entry.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// The replicated state: keys, leases, members and alarms as of [`State::applied`].
pub struct State {
    /// The keys and their history. To be read; only [`State::apply`] writes to it.
    pub kv: Store,
    pub(super) leases: Leases,
    pub(super) members: Members,
    pub(super) alarms: Alarms,
    pub(super) applied: Option<Position>,
    /// In logical bytes. Not replicated: it changes no state, only what is answered.
    pub(super) quota: u64,
    /// What the checkpoint does not have yet.
    pub(super) dirty: Dirty,
}

impl State {
    /// The state before the first entry. `quota` is in bytes, as [`Store::bytes`] counts them;
    /// [`NO_QUOTA`](super::NO_QUOTA) for none.
    pub fn new(records: Arc<dyn Records>, quota: u64) -> State {
        State {
            kv: Store::new(records),
            leases: Leases::default(),
            members: Members::default(),
            alarms: Alarms::default(),
            applied: None,
            quota,
            dirty: Dirty::all(),
        }
    }

    /// The last entry applied; `None` before the first.
    pub fn applied(&self) -> Option<Position> {
        self.applied
    }

    /// The revision of the last change of a key.
    pub fn revision(&self) -> i64 {
        self.kv.revision()
    }

    /// Reads keys, as etcd's Range does; whether the state is recent enough is the caller's care.
    ///
    /// # Errors
    ///
    /// [`Fault::Compacted`], [`Fault::FutureRevision`], [`Fault::Storage`].
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Fault> {
        range::range(&self.kv, request).map_err(Failure::into_fault)
    }

    /// Does a transaction that writes nothing whichever way its comparisons go; it needs no log.
    ///
    /// # Errors
    ///
    /// As [`State::range`].
    pub fn read_txn(&self, request: &ReadOnlyTxn<'_>) -> Result<TxnResponse, Fault> {
        txn::read(&self.kv, request).map_err(Failure::into_fault)
    }

    /// Whether an operation would stay below the quota. The member that is asked for it checks
    /// this before it proposes, answers [`Fault::NoSpace`] if not, and raises the alarm.
    pub fn has_room_for(&self, operation: &Operation) -> bool {
        let cost = quota::cost(operation);
        cost == 0 || self.kv.bytes().saturating_add(cost) < self.quota
    }

    /// The quota in bytes; [`NO_QUOTA`](super::NO_QUOTA) if there is none.
    pub fn quota(&self) -> u64 {
        self.quota
    }

    /// A lease, if it is there.
    pub fn lease(&self, id: i64) -> Option<&Lease> {
        self.leases.get(id)
    }

    /// All leases, by ID.
    pub fn leases(&self) -> impl ExactSizeIterator<Item = &Lease> {
        self.leases.iter()
    }

    /// The alarms of a type, or of every type for [`AlarmType::None`]; by type, then member.
    pub fn alarms(&self, of: AlarmType) -> Vec<AlarmMember> {
        self.alarms.of(of.into())
    }

    /// All members, by ID.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &MemberEntry> {
        self.members.iter()
    }

    /// A member, if the list has it.
    pub fn member(&self, id: MemberId) -> Option<&MemberEntry> {
        self.members.get(id)
    }

    /// The member list as etcd would show it, by ID: see [`MemberEntry::shown`].
    pub fn member_list(&self) -> Vec<Member> {
        self.members.iter().map(MemberEntry::shown).collect()
    }

    /// Whether there was a member of this ID once that is none any more.
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.members.is_removed(id)
    }

    /// Every ID that [`State::is_removed`], in order.
    pub fn removed(&self) -> impl Iterator<Item = MemberId> {
        self.members.removed()
    }

    /// Applies an entry that says nothing: a new leader's first.
    ///
    /// # Errors
    ///
    /// [`Halt::Order`].
    pub fn apply_blank(&mut self, index: u64, term: u64) -> Result<(), Halt> {
        self.expect(index)?;
        self.applied = Some(Position { term, index });
        Ok(())
    }

    /// Applies an entry that says who the members are from here on. Who is not among them any
    /// more is removed for good; what the others published of themselves stays.
    ///
    /// # Errors
    ///
    /// [`Halt::Order`].
    pub fn apply_membership(
        &mut self,
        index: u64,
        term: u64,
        members: Vec<Seat>,
    ) -> Result<(), Halt> {
        self.expect(index)?;
        self.members.seat(members);
        self.dirty.members = true;
        self.applied = Some(Position { term, index });
        Ok(())
    }

    /// Makes sure that an entry is the next one: one left out or done twice would be a difference
    /// between members that nothing else finds.
    pub(super) fn expect(&self, index: u64) -> Result<(), Halt> {
        match self.applied {
            Some(last) if index != last.index + 1 => {
                Err(Halt::Order { index, applied: last.index })
            }
            _ => Ok(()),
        }
    }
}
