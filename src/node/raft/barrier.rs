//! Linearizable reads: up to which entry one has to see.
//!
//! The leader asks a quorum whether it still leads (Raft thesis §6.4); one such round serves all
//! reads that were there when it began. Those that come meanwhile wait for the next one.
//!
//! openraft's own round goes through the queue of its core on each side, twice on the leader's,
//! and is most of what one client waits for. This one goes past it. It stands on three things:
//!
//! - **What was acknowledged anywhere** in this leader's term has been applied here, or its commit
//!   was sent to others from here ([`Links::announced`]); what was before the term lies before the
//!   leader's first entry, and that has to be applied. So the greater of the two is enough.
//! - **Who elects another leader** has that vote in its log before its word is out, so the vote in
//!   the log tells at least what anybody has heard. A quorum whose logs have no vote of a later
//!   term after the read began has elected nobody before it.
//! - **The quorum** is one of the members as they are applied, and of those in the log if they are
//!   others. What comes after these is not appended before they are committed, and quorums of
//!   members that one change lies between have a member in common.
//!
//! [`Links::announced`]: super::links::Links::announced

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::codec::{self, Malformed};
use super::methods;
use super::node::Inner;
use crate::cluster::{MemberId, quorum};
use crate::node::fault::Fault;
use crate::node::ground;

/// Reads that wait for a round at most.
const MOST: usize = 50_000;
/// After a round that came to nothing.
const PAUSE: Duration = Duration::from_millis(10);

/// All that wait for the next round.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    waiting: Mutex<Vec<Reader>>,
    nudged: Notify,
}

#[derive(Debug)]
struct Reader {
    index: oneshot::Sender<u64>,
    /// Asked for by another member: only the leader answers that.
    is_remote: bool,
}

impl Barrier {
    /// The index that a read has to see which was asked for before this.
    pub(super) async fn index(&self, is_remote: bool) -> Result<u64, Fault> {
        let (tell, index) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            if waiting.len() >= MOST {
                return Err(Fault::TooManyRequests);
            }
            waiting.push(Reader { index: tell, is_remote });
        }
        self.nudged.notify_one();
        index.await.map_err(|_| Fault::LeaderChanged)
    }
}

impl Inner {
    /// Carries out rounds for as long as the node runs.
    pub(super) async fn carry_reads(self: Arc<Self>) {
        loop {
            let mut readers = std::mem::take(&mut *self.barrier.waiting.lock());
            // Those that have given up are not waited for.
            readers.retain(|it| !it.index.is_closed());
            if readers.is_empty() {
                self.barrier.nudged.notified().await;
                continue;
            }
            if !self.leads() {
                // They are told by being dropped.
                readers.retain(|it| !it.is_remote);
            }
            if let Some(index) = self.round().await {
                for reader in readers {
                    let _ = reader.index.send(index); // it may have given up
                }
            } else {
                self.barrier.waiting.lock().append(&mut readers);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// One round; `None` if it came to nothing.
    async fn round(&self) -> Option<u64> {
        let leader = self.leader()?;
        if leader == self.own() {
            return self.confirmed().await;
        }
        let peer = self.links.peer(leader, None)?;
        let answer = peer.call(methods::READ_INDEX, b"", self.options.election).await.ok()?;
        codec::Reader(answer).u64().ok()
    }

    /// What may have been acknowledged anywhere when this was called, if this member still led
    /// then.
    async fn confirmed(&self) -> Option<u64> {
        let term = self.leads_in()?;
        let mut applied_term = self.shared.applied_term.subscribe();
        let own_entry = applied_term.wait_for(|it| *it >= term);
        tokio::time::timeout(self.options.election, own_entry).await.ok()?.ok()?;
        let applied = self.shared.applied.borrow().saturating_sub(1);
        let index = applied.max(self.links.announced.load(Ordering::SeqCst));
        (ground::has(ground::Fault::ReadNotConfirmed) || self.still_leads(term).await)
            .then_some(index)
    }

    /// Whether a quorum has not voted for a later term.
    async fn still_leads(&self, term: u64) -> bool {
        let voters = self.voters();
        let (own, mut with_us) = (self.own().0, Vec::new());
        let is_quorum = |with_us: &[u64]| {
            let has_most = |some: &BTreeSet<u64>| {
                with_us.iter().filter(|id| some.contains(id)).count() >= quorum(some.len())
            };
            voters.iter().all(has_most)
        };
        if self.voted_in().is_ok_and(|it| it <= term) {
            with_us.push(own);
        }
        let mut others: Vec<_> = voters.iter().flatten().filter(|id| **id != own).collect();
        others.sort_unstable();
        others.dedup();
        let mut answers: FuturesUnordered<_> = others
            .into_iter()
            .map(|id| async move { (*id, self.vote_of(MemberId(*id)).await) })
            .collect();
        while !is_quorum(&with_us) {
            match answers.next().await {
                Some((id, Some(its))) if its <= term => with_us.push(id),
                Some(_) => {}
                None => return false,
            }
        }
        true
    }

    /// Of each of these sets a quorum is wanted.
    fn voters(&self) -> Vec<BTreeSet<u64>> {
        let mut all = {
            let replicated = self.shared.replicated.read();
            replicated.membership.membership().get_joint_config().clone()
        };
        let server = self.raft.server_metrics();
        let server = server.borrow_watched();
        for coming in server.membership_config.membership().get_joint_config() {
            if !all.contains(coming) {
                all.push(coming.clone());
            }
        }
        all
    }

    /// The term that another member has voted in last, as it says.
    async fn vote_of(&self, id: MemberId) -> Option<u64> {
        let links = &self.links;
        let peer = links.peers.known(id).or_else(|| links.peer(id, None))?;
        let answer = peer.call(methods::VOTED_IN, b"", self.options.election).await.ok()?;
        codec::Reader(answer).u64().ok()
    }

    /// The term that this member has voted in last, at least as late as any that it has told of.
    pub(super) fn voted_in(&self) -> Result<u64, Malformed> {
        let vote = self.log.vote().map(codec::read_vote).transpose()?;
        Ok(vote.map_or(0, |it| it.leader_id.term))
    }

    /// The term in which this member leads.
    fn leads_in(&self) -> Option<u64> {
        let server = self.raft.server_metrics();
        let it = server.borrow_watched();
        let leads = it.state == ServerState::Leader && it.current_leader == Some(it.id);
        leads.then_some(it.vote.leader_id.term)
    }

    /// Answers another member's round. It asks again after the same time, so that no question is
    /// left waiting that nobody asks any more.
    pub(super) async fn read_index(&self) -> Result<Bytes, Fault> {
        if !self.leads() {
            return Err(Fault::NotLeader);
        }
        let index = tokio::time::timeout(self.options.election, self.barrier.index(true)).await;
        let index = index.unwrap_or(Err(Fault::Timeout))?;
        let mut out = codec::Writer::default();
        out.u64(index);
        Ok(out.0.freeze())
    }

    /// Returns once this member has applied all that was acknowledged anywhere before.
    pub(super) async fn barrier(&self) -> Result<(), Fault> {
        if self.is_stopping() {
            return Err(Fault::Stopped);
        }
        let begun = self.shared.clock.monotonic();
        let limit = self.limit();
        let index = tokio::time::timeout(limit, self.barrier.index(false)).await;
        let index = index.unwrap_or_else(|_| Err(self.timed_out(begun)))?;
        let rest = limit.saturating_sub(self.shared.clock.monotonic().since(begun));
        let applied = tokio::time::timeout(rest, self.shared.wait_applied(index)).await;
        applied.map_err(|_| Fault::TimeoutWaitAppliedIndex)
    }
}
