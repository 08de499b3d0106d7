//! What only a leader does: promotes learners that have caught up, ends leases that have run out,
//! and hands the leadership over.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use super::methods;
use super::node::Inner;
use super::propose::Fate;
use crate::cluster::MemberId;
use crate::node::apply::{Command, Operation, Ticket};
use crate::node::fault::Fault;
use crate::node::lease::Renewal;
use crate::proto::etcdserverpb::LeaseRevokeRequest;

/// Between two looks at a learner that is to be promoted.
const LOOK: Duration = Duration::from_millis(20);
/// Entries that one may lack to be promoted. It gets them before any that come after.
const LAG: u64 = 100;
/// Leases whose end is proposed at a time, and the pause after that: at most 1000 a second
/// (etcd's `defaultLeaseRevokeRate`).
const ENDED: usize = 100;
const ENDED_PAUSE: Duration = Duration::from_millis(100);
/// Within this the leadership is handed over at the end of a node, or not at all.
const HAND_OVER: Duration = Duration::from_millis(500);

impl Inner {
    /// Promotes members that were added as voters once they have caught up, while this one leads.
    pub(super) async fn promote_learners(self: Arc<Self>) {
        let mut changes = self.raft.server_metrics();
        loop {
            let waiting: Vec<_> = {
                let metrics = changes.borrow_watched();
                let leads = metrics.state == ServerState::Leader;
                let members = &metrics.membership_config;
                let learners = members.membership().learner_ids();
                let wants = |id: &u64| members.get_node(id).is_some_and(|it| it.wants_vote);
                learners.filter(|id| leads && wants(id)).map(MemberId).collect()
            };
            if waiting.is_empty() {
                if changes.changed().await.is_err() {
                    return; // raft has stopped
                }
                continue;
            }
            for id in waiting {
                let (own, its) = self.matched(id);
                let is_ready = its.is_some_and(|its| its.saturating_add(LAG) >= own);
                if is_ready && self.hears(id) && self.promote_now(id).await {
                    tracing::info!(member = %id, "a member has caught up and votes from now on");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Proposes the end of leases that have run out, while this member leads.
    pub(super) async fn end_leases(self: Arc<Self>) {
        loop {
            let now = self.shared.clock.monotonic();
            let (ended, next) = {
                let mut lessor = self.shared.lessor.lock();
                (lessor.ended(now, ENDED), lessor.next())
            };
            if ended.is_empty() {
                let changed = self.shared.lessor_changed.notified();
                match next {
                    Some(next) => {
                        let wait = next.since(now).max(Duration::from_millis(1));
                        let _ = tokio::time::timeout(wait, changed).await;
                    }
                    None => changed.await,
                }
                continue;
            }
            let revoke = async |id| {
                let revoke = Operation::LeaseRevoke(LeaseRevokeRequest { id });
                // Into the own log only: another leader has given the lease more time. Nobody
                // waits for the answer; that it has ended is seen when it is applied.
                let command = Command::new(Ticket::default(), &revoke);
                let taken = tokio::time::timeout(self.limit(), self.take(command)).await;
                if taken != Ok(Fate::Applied) {
                    let later = self.shared.clock.monotonic().after(Duration::from_secs(1));
                    self.shared.lessor.lock().again(id, later);
                }
            };
            join_all(ended.into_iter().map(&revoke)).await;
            tokio::time::sleep(ENDED_PAUSE).await;
        }
    }

    /// Renews a lease, wherever it is asked for.
    pub(super) async fn renew(&self, id: i64) -> Result<i64, Fault> {
        let answer = self.ask_lessor(methods::LEASE_RENEW, id).await?;
        Ok(answer.map_or(0, |(ttl, _)| ttl))
    }

    /// What is left of a lease, and what was granted.
    pub(super) async fn lease_left(&self, id: i64) -> Result<Option<(i64, i64)>, Fault> {
        self.ask_lessor(methods::LEASE_LEFT, id).await
    }

    async fn ask_lessor(&self, method: u8, id: i64) -> Result<Option<(i64, i64)>, Fault> {
        if self.is_stopping() {
            return Err(Fault::Stopped);
        }
        let begun = self.shared.clock.monotonic();
        let ask = async {
            loop {
                let answer = match self.leader() {
                    Some(leader) if leader == self.own() => self.lessor(method, id).await,
                    Some(leader) => self.remote_lessor(leader, method, id).await,
                    None => None,
                };
                match answer {
                    Some(answer) => return answer,
                    None => self.pause().await,
                }
            }
        };
        let answer = tokio::time::timeout(self.limit(), ask).await;
        answer.map_err(|_| self.timed_out(begun))
    }

    async fn remote_lessor(
        &self,
        leader: MemberId,
        method: u8,
        id: i64,
    ) -> Option<Option<(i64, i64)>> {
        let peer = self.links.peer(leader, None)?;
        let mut body = super::codec::Writer::default();
        body.u64(id.cast_unsigned());
        // Asked twice does no harm, so it is not waited for long.
        let answer = peer.call(method, &body.0, 2 * self.options.election).await.ok()?;
        let mut answer = super::codec::Reader(answer);
        match answer.u8().ok()? {
            0 => Some(None),
            1 => Some(Some((answer.u64().ok()?.cast_signed(), answer.u64().ok()?.cast_signed()))),
            _ => None,
        }
    }

    /// Answers another member about a lease.
    pub(super) async fn lessor_for(&self, method: u8, id: i64) -> Bytes {
        let mut out = super::codec::Writer::default();
        match self.lessor(method, id).await {
            None => out.u8(2),
            Some(None) => out.u8(0),
            Some(Some((a, b))) => {
                out.u8(1);
                out.u64(a.cast_unsigned());
                out.u64(b.cast_unsigned());
            }
        }
        out.0.freeze()
    }

    /// The lessor's own answer; `None` if this member does not keep the time. A leader that has
    /// lost its quorum does not: there may be another by now.
    async fn lessor(&self, method: u8, id: i64) -> Option<Option<(i64, i64)>> {
        let mut has_waited = false;
        loop {
            if self.standing.borrow().leader != Some(self.own()) {
                return None;
            }
            // The end of a lease that another leader had agreed on may be in the log, and not be
            // applied here: it is before the first entry of this term.
            if *self.shared.applied_term.borrow() < self.term() {
                return None;
            }
            let now = self.shared.clock.monotonic();
            let renewal = {
                let mut lessor = self.shared.lessor.lock();
                if method == methods::LEASE_LEFT {
                    if let Some(left) = lessor.left(id, now) {
                        return Some(Some((left.seconds, left.ttl)));
                    }
                    if lessor.is_leading() { Renewal::Unknown } else { Renewal::NotLeading }
                } else {
                    lessor.renew(id, now)
                }
            };
            match renewal {
                Renewal::Renewed(ttl) => return Some(Some((ttl, ttl))),
                Renewal::NotLeading => return None,
                Renewal::Unknown if has_waited => return Some(None),
                Renewal::Unknown => {
                    // It may be granted and not applied here yet: whoever granted it was told by
                    // its own member, which need not be this one. And there may be another leader
                    // already, who granted it: only a quorum knows.
                    let index = self.barrier.index(true).await.ok()?;
                    self.shared.wait_applied(index).await;
                    has_waited = true;
                }
                Renewal::Ending => {
                    // Whether it ends is being agreed on; a new leader would give it more time.
                    let mut applied = self.shared.applied.subscribe();
                    let wait = Duration::from_millis(100);
                    let _ = tokio::time::timeout(wait, applied.changed()).await;
                    has_waited = true;
                }
            }
        }
    }

    /// The last index known to be committed.
    pub(super) fn committed(&self) -> u64 {
        let metrics = self.raft.data_metrics();
        let committed = metrics.borrow_watched().cluster_committed;
        committed.map_or(0, |it| it.index)
    }

    /// Makes another voter the leader.
    pub(super) async fn move_leader(&self, to: MemberId) -> Result<(), Fault> {
        if !self.leads() {
            return Err(Fault::NotLeader);
        }
        if to == self.own() {
            return Ok(());
        }
        let is_voter = |id: MemberId| {
            self.shared.replicated.read().state.member(id).is_some_and(|it| it.voter)
        };
        if !is_voter(to) {
            return Err(Fault::BadLeaderTransferee);
        }
        let work = async {
            // Once it is begun there is no way back but an election: so only to one that can.
            while !self.can_lead(to) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let _ = self.raft.trigger().transfer_leader(to.0).await;
            while self.leader() != Some(to) {
                self.pause().await;
            }
        };
        let moved = tokio::time::timeout(3 * self.options.election, work).await;
        moved.map_err(|_| Fault::LeaderTransferTimeout)
    }

    /// Whether a member is there and has nearly all of the log.
    fn can_lead(&self, id: MemberId) -> bool {
        let (own, its) = self.matched(id);
        self.hears(id) && its.is_some_and(|its| its.saturating_add(LAG) >= own)
    }

    /// Hands the leadership to whoever has most of the log, before this member goes.
    pub(super) async fn hand_over(&self) {
        if !self.leads() {
            return;
        }
        let voters: Vec<_> = {
            let replicated = self.shared.replicated.read();
            replicated.state.members().filter(|it| it.voter).map(|it| it.id).collect()
        };
        let others = voters.into_iter().filter(|id| *id != self.own() && self.can_lead(*id));
        let Some(to) = others.max_by_key(|id| self.matched(*id).1) else { return };
        let work = async {
            let _ = self.raft.trigger().transfer_leader(to.0).await;
            while self.leads() {
                self.pause().await;
            }
        };
        if tokio::time::timeout(HAND_OVER, work).await.is_err() {
            tracing::warn!(member = %to, "the leadership could not be handed over");
        }
    }
}
