//! What all parts of the node look at: the replicated state, and who waits for what of it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::EntryPayload;
use openraft::storage::EntryResponder;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use super::end::{End, Ends};
use super::types::{Done, LogId, Order, StoredMembership, Types, log_id, seats};
use super::waiters::{Answer, Waiters};
use crate::clock::{Clock, Moment};
use crate::cluster::MemberId;
use crate::node::apply::{Applied, Command, Halt, LeaseChange, Operation, State, Ticket};
use crate::node::ground::{self, Fault};
use crate::node::lease::Lessor;
use crate::node::log::Ids;
use crate::node::mvcc::Change;
use crate::node::watch::Watchers;

/// The state and what openraft keeps with it, always of the same log entry.
pub(super) struct Replicated {
    pub(super) state: State,
    pub(super) membership: StoredMembership,
    /// The checkpoint does not have this membership yet.
    pub(super) is_membership_new: bool,
}

impl Replicated {
    /// The last entry applied.
    pub(super) fn applied(&self) -> Option<LogId> {
        self.state.applied().map(|it| log_id(it.term, it.index))
    }
}

/// What all parts share.
pub(super) struct Shared {
    pub(super) ids: Ids,
    pub(super) replicated: RwLock<Replicated>,
    /// One more than the index of the last entry applied.
    pub(super) applied: watch::Sender<u64>,
    /// Its term.
    pub(super) applied_term: watch::Sender<u64>,
    pub(super) waiters: Arc<Waiters>,
    /// Locked after `replicated` wherever both are.
    pub(super) lessor: Mutex<Lessor>,
    /// A lease was granted or revoked, or this member began to lead.
    pub(super) lessor_changed: Notify,
    pub(super) watchers: Arc<dyn Watchers>,
    pub(super) ends: Ends,
    /// An applied membership has this member no more.
    pub(super) removed: watch::Sender<bool>,
    /// The cluster knows this member's name.
    pub(super) is_published: watch::Sender<bool>,
    pub(super) clock: Clock,
    pub(super) election: Duration,
}

/// What is told once the lock is released.
#[derive(Default)]
struct Told {
    answers: Vec<(Ticket, Answer)>,
    changes: Vec<Change>,
    revision: i64,
    bytes: usize,
    lease_changed: bool,
}

impl Shared {
    /// Applies some entries, and tells who is to know. Returns how many bytes they had.
    pub(super) fn apply(
        &self,
        entries: Vec<Result<EntryResponder<Types>, io::Error>>,
    ) -> Result<usize, io::Error> {
        let mut told = Told::default();
        let mut responders = Vec::with_capacity(entries.len());
        let (mut next, mut term) = (0, 0);
        let result = {
            let mut replicated = self.replicated.write();
            let all = || {
                for entry in entries {
                    let (entry, responder) = entry?;
                    self.apply_one(&mut replicated, entry.log_id, entry.payload, &mut told)
                        .map_err(|halt| {
                            self.ends.say(End::from(&halt));
                            io::Error::other(halt)
                        })?;
                    (next, term) = (entry.log_id.index + 1, *entry.log_id.leader_id);
                    responders.extend(responder);
                }
                Ok(())
            };
            let result = all();
            told.revision = replicated.state.revision();
            result
        };
        if next > 0 {
            self.applied.send_replace(next);
        }
        if told.lease_changed {
            self.lessor_changed.notify_one();
        }
        if !told.changes.is_empty() {
            self.watchers.applied(&told.changes, told.revision);
        }
        for (ticket, answer) in told.answers {
            self.waiters.answer(ticket, answer);
        }
        for responder in responders {
            responder.send(Done);
        }
        // Last: who hears of a later term has had its answer by then, if there was one.
        self.reach_term(term);
        result.map(|()| told.bytes)
    }

    fn reach_term(&self, term: u64) {
        self.applied_term.send_if_modified(|it| {
            let is_later = *it < term;
            *it = term.max(*it);
            is_later
        });
    }

    fn apply_one(
        &self,
        replicated: &mut Replicated,
        id: LogId,
        payload: EntryPayload<Order, u64, super::types::Place>,
        told: &mut Told,
    ) -> Result<(), Halt> {
        let (index, term) = (id.index, *id.leader_id);
        match payload {
            EntryPayload::Blank => replicated.state.apply_blank(index, term),
            EntryPayload::Normal(Order(command)) => {
                told.bytes += command.as_bytes().len();
                let command = if ground::has(Fault::AppliedInMapOrder) {
                    in_an_order_of_its_own(&command, self.ids.member)
                } else {
                    command
                };
                let applied = replicated.state.apply(index, term, &command)?;
                let Applied { ticket, result, changes, lease } = applied;
                told.answers.push((ticket, result));
                told.changes.extend(changes);
                if let Some(change) = lease {
                    told.lease_changed = true;
                    let mut lessor = self.lessor.lock();
                    match change {
                        LeaseChange::Granted { id, ttl } => {
                            lessor.granted(id, ttl, self.clock.monotonic());
                        }
                        LeaseChange::Revoked { id } => lessor.revoked(id),
                    }
                }
                Ok(())
            }
            EntryPayload::Membership(membership) => {
                replicated.state.apply_membership(index, term, seats(&membership))?;
                replicated.membership = StoredMembership::new(Some(id), membership);
                replicated.is_membership_new = true;
                self.note_removal(&replicated.state);
                Ok(())
            }
        }
    }

    /// Looks whether this member still is one.
    pub(super) fn note_removal(&self, state: &State) {
        if state.is_removed(self.ids.member) {
            self.removed.send_replace(true);
        }
    }

    /// Puts another state in the place of this one.
    pub(super) fn replace(&self, state: State, membership: StoredMembership) {
        let (next, term) = {
            let mut replicated = self.replicated.write();
            // The checkpoint that came with the state has it.
            *replicated = Replicated { state, membership, is_membership_new: false };
            self.note_removal(&replicated.state);
            // Nobody who leads is sent a snapshot, so nobody keeps the time of leases here.
            self.lessor.lock().follow();
            replicated.applied().map_or((0, 0), |it| (it.index + 1, *it.leader_id))
        };
        self.applied.send_replace(next);
        self.reach_term(term);
        self.watchers.replaced();
    }

    /// Keeps the time of all leases from now on.
    pub(super) fn lead(&self) {
        let replicated = self.replicated.read();
        let leases = replicated.state.leases().map(|it| (it.id(), it.ttl()));
        let now = if ground::has(Fault::LeasesNotGivenAnew) {
            Moment::default()
        } else {
            self.clock.monotonic()
        };
        self.lessor.lock().lead(leases, now, self.election);
        drop(replicated);
        self.lessor_changed.notify_one();
    }

    /// Somebody else does.
    pub(super) fn follow(&self) {
        self.lessor.lock().follow();
    }

    /// Returns once the entry of this index is applied.
    pub(super) async fn wait_applied(&self, index: u64) {
        let mut applied = self.applied.subscribe();
        // The sender is in `self`, so it cannot be gone.
        let _ = applied.wait_for(|next| *next > index).await;
    }
}

/// What [`Fault::AppliedInMapOrder`] does.
fn in_an_order_of_its_own(command: &Command, member: MemberId) -> Command {
    match command.operation() {
        Ok(Operation::Txn(mut txn)) if member.0 % 2 == 1 => {
            txn.success.reverse();
            Command::new(command.ticket(), &Operation::Txn(txn))
        }
        _ => command.clone(),
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("ids", &self.ids).finish_non_exhaustive()
    }
}
