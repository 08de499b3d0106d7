//! The way of an operation: to the leader, wherever it is asked for, and back by its ticket once
//! this member has applied it.
//!
//! Sent again only if it surely was not taken. If that is not known, its fate is known once an
//! entry of a later term is applied here: what a new leader had of the old one's entries comes
//! before its own first, so what has not come by then never will.

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResponse;

use super::methods;
use super::node::Inner;
use super::types::{Order, Types};
use super::waiters::{Answer, Waiting};
use crate::clock::Moment;
use crate::node::apply::{Command, Operation};
use crate::node::fault::Fault;
use crate::node::transport::CallError;

/// What has become of an operation that was handed to raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is applied where it was handed in.
    Applied,
    /// It was not taken; nothing has come of it, and nothing will.
    NotTaken,
    /// It may still be applied.
    Unknown,
}

impl Fate {
    pub(super) fn encode(self) -> Bytes {
        Bytes::from_static(match self {
            Fate::Applied => &[0],
            Fate::NotTaken => &[1],
            Fate::Unknown => &[2],
        })
    }

    fn decode(bytes: &[u8]) -> Fate {
        match bytes {
            [0] => Fate::Applied,
            [1] => Fate::NotTaken,
            _ => Fate::Unknown,
        }
    }
}

impl Inner {
    /// Has the cluster agree on an operation.
    pub(super) async fn agree(&self, operation: &Operation) -> Answer {
        if self.is_stopping() {
            return Err(Fault::Stopped);
        }
        let mut waiting = self.shared.waiters.begin().ok_or(Fault::TooManyRequests)?;
        let command = Command::new(waiting.ticket(), operation);
        let begun = self.shared.clock.monotonic();
        let carried = tokio::time::timeout(self.limit(), self.carry(&mut waiting, command)).await;
        carried.unwrap_or_else(|_| Err(self.timed_out(begun)))
    }

    async fn carry(&self, waiting: &mut Waiting, command: Command) -> Answer {
        loop {
            let term = self.term();
            let fate = tokio::select! {
                biased;
                answer = waiting.answer() => return answer.unwrap_or(Err(Fault::Stopped)),
                fate = self.hand_in(command.clone()) => fate,
                () = self.overtaken(term) => Fate::Unknown,
            };
            if fate == Fate::NotTaken {
                self.pause().await;
                if self.is_stopping() {
                    return Err(Fault::Stopped);
                }
                continue;
            }
            return tokio::select! {
                biased;
                answer = waiting.answer() => answer.unwrap_or(Err(Fault::Stopped)),
                () = self.overtaken(term) => Err(Fault::LeaderChanged),
                _ = self.shared.ends.wait() => Err(Fault::Stopped),
            };
        }
    }

    /// The latest term that is known here.
    pub(super) fn term(&self) -> u64 {
        let applied = *self.shared.applied_term.borrow();
        applied.max(self.raft.server_metrics().borrow_watched().vote.leader_id.term)
    }

    /// Returns once an entry of a later term is applied here.
    async fn overtaken(&self, term: u64) {
        let mut terms = self.shared.applied_term.subscribe();
        // The sender is in `self`, so it cannot be gone.
        let _ = terms.wait_for(|it| *it > term).await;
    }

    /// Hands an operation to whoever leads.
    async fn hand_in(&self, command: Command) -> Fate {
        match self.leader() {
            Some(leader) if leader == self.own() => self.take(command).await,
            Some(leader) => {
                let Some(peer) = self.links.peer(leader, None) else { return Fate::NotTaken };
                match peer.call(methods::PROPOSE, command.as_bytes(), self.limit()).await {
                    Ok(answer) => Fate::decode(&answer),
                    Err(error) => fate_of(&error),
                }
            }
            None => Fate::NotTaken,
        }
    }

    /// Takes an operation into the log, if this member leads.
    pub(super) async fn take(&self, command: Command) -> Fate {
        let (responder, done) = ProgressResponder::complete_only();
        if self.raft.client_write_ff(Order(command), Some(responder)).await.is_err() {
            return Fate::NotTaken; // raft has stopped
        }
        let done: Result<Result<ClientWriteResponse<Types>, ClientWriteError<Types>>, _> =
            done.await;
        match done {
            Ok(Ok(_)) => Fate::Applied,
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => Fate::NotTaken,
            Ok(Err(_)) | Err(_) => Fate::Unknown,
        }
    }

    /// What to say of a request that has run out of time, and why that may be (etcd's
    /// `parseProposeCtxErr`).
    pub(super) fn timed_out(&self, begun: Moment) -> Fault {
        let lost = self.elected.lock().map(|at| {
            let before = 2 * self.options.election;
            begun < at && at.since(begun) < before + self.options.request_timeout()
        });
        if lost == Some(true) {
            return Fault::TimeoutLeaderFail;
        }
        let hearing = self.links.peers.hearing();
        let connected =
            |member| hearing.connected_since(member).is_some_and(|since| since <= begun);
        match self.leader() {
            Some(leader) if leader != self.own() && !connected(leader) => {
                Fault::TimeoutConnectionLost
            }
            Some(leader) if leader == self.own() => {
                let replicated = self.shared.replicated.read();
                let voters: Vec<_> =
                    replicated.state.members().filter(|it| it.voter).map(|it| it.id).collect();
                drop(replicated);
                let there = |id: &&_| **id == self.own() || connected(**id);
                let count = voters.iter().filter(there).count();
                if count < crate::cluster::quorum(voters.len()) {
                    Fault::TimeoutConnectionLost
                } else {
                    Fault::Timeout
                }
            }
            _ => Fault::Timeout,
        }
    }
}

/// Whether a call that failed may have been carried out.
pub(super) fn fate_of(error: &CallError) -> Fate {
    if error.may_have_happened() { Fate::Unknown } else { Fate::NotTaken }
}
