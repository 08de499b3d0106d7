//! What a node watches of itself: how it stands, and whether it may go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use super::end::End;
use super::methods;
use super::node::Inner;
use super::tidings::Tidings;
use crate::clock::Moment;
use crate::cluster::{MemberId, quorum};
use crate::node::apply::{Operation, Published};
use crate::node::replica::Standing;
use crate::node::transport::RefusalKind;

/// A member that was removed stays for this long after it has learnt of it: as leader it has yet
/// to tell the others and to hand over (etcd's `stopWithDelay`).
const FAREWELL: Duration = Duration::from_secs(1);
/// Between two looks at whether the log has failed.
const LOOK: Duration = Duration::from_millis(500);

impl Inner {
    /// Keeps [`Inner::standing`], and whether this member keeps the time of leases.
    pub(super) async fn watch_standing(self: Arc<Self>) {
        let mut server = self.raft.server_metrics();
        let mut ticks = tokio::time::interval(self.options.election / 5);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut led_in = None;
        let mut acked = None;
        let mut acked_at = self.shared.clock.monotonic();
        let mut parted = BTreeMap::new();
        let mut tidings = Tidings::default();
        loop {
            tokio::select! {
                biased;
                changed = server.changed() => if changed.is_err() {
                    return; // raft has stopped
                },
                _ = ticks.tick() => {}
            }
            let (leader, term, state, is_voter, is_alone) = {
                let it = server.borrow_watched();
                let is_voter = it.membership_config.voter_ids().any(|id| id == it.id);
                let is_alone = is_voter && it.membership_config.voter_ids().nth(1).is_none();
                let leader = it.current_leader.map(MemberId);
                (leader, it.vote.leader_id.term, it.state, is_voter, is_alone)
            };
            let leads = state == ServerState::Leader && leader == Some(self.own());
            let leads_in = leads.then_some(term);
            if leads_in != led_in {
                if leads {
                    self.shared.lead();
                } else {
                    self.shared.follow();
                }
                led_in = leads_in;
                acked_at = self.shared.clock.monotonic();
            }
            let now = self.shared.clock.monotonic();
            let newly = self.raft.data_metrics().borrow_watched().last_quorum_acked;
            // A quorum of one is there whenever it is, and nobody writes that down.
            if newly != acked || is_alone {
                (acked, acked_at) = (newly, now);
            }
            let since = if leads { Some(acked_at) } else { self.heard_of(leader) };
            let is_fresh = since.is_some_and(|at| now.since(at) <= self.options.election);
            let leader = leader.filter(|_| is_fresh);
            let standing =
                Standing { leader, term, committed: 0, applied: 0, is_learner: !is_voter };
            tidings.stands(self.own(), &standing);
            tidings.silent(self.silent(leads && is_fresh), leads && is_fresh);
            self.standing.send_if_modified(|it| {
                let is_new = *it != standing;
                if it.leader != leader {
                    *self.elected.lock() = leader.map(|_| now);
                }
                *it = standing;
                is_new
            });
            self.links.offers.forget(now);
            self.part(&mut parted, now);
        }
    }

    /// Who this leader has not heard of for an election timeout; nobody if it does not lead, or not
    /// for so long.
    fn silent(&self, leads: bool) -> BTreeSet<MemberId> {
        let led_since = *self.elected.lock();
        let now = self.shared.clock.monotonic();
        if !leads || led_since.is_none_or(|at| now.since(at) <= self.options.election) {
            return BTreeSet::new();
        }
        let server = self.raft.server_metrics();
        let server = server.borrow_watched();
        let all = server.membership_config.nodes().map(|(id, _)| MemberId(*id));
        all.filter(|id| !self.hears(*id)).collect()
    }

    /// Ends the connections to members that were removed, once they had time to answer what they
    /// were asked: one may have led until then.
    fn part(&self, parted: &mut BTreeMap<MemberId, Option<Moment>>, now: Moment) {
        let replicated = self.shared.replicated.read();
        for id in replicated.state.removed() {
            let since = parted.entry(id).or_insert(Some(now));
            if since.is_some_and(|it| now.since(it) >= FAREWELL) {
                *since = None;
                self.links.peers.forget(id);
                self.seen.lock().remove(&id);
            }
        }
    }

    /// When the leader was last heard.
    pub(super) fn heard_of(&self, leader: Option<MemberId>) -> Option<Moment> {
        let heard = *self.heard.lock();
        heard.filter(|it| Some(it.0) == leader).map(|it| it.1)
    }

    /// How this member stands now.
    pub(super) fn stands(&self) -> Standing {
        let mut standing = self.standing.borrow().clone();
        standing.applied = self.shared.applied.borrow().saturating_sub(1);
        standing.committed = self.committed().max(standing.applied);
        standing
    }

    /// Ends the node when raft ends, the log fails, or this member is none any more.
    pub(super) async fn watch_end(self: Arc<Self>) {
        let mut removed = self.shared.removed.subscribe();
        let mut refusals = self.links.peers.refusals();
        let mut server = self.raft.server_metrics();
        let metrics = self.raft.metrics();
        let mut is_gone = false;
        loop {
            if let Some(failure) = self.log.failure() {
                if !self.is_stopping() {
                    self.shared.ends.say(End::from(&failure));
                }
                return;
            }
            let running = metrics.borrow_watched().running_state.clone();
            if let Err(error) = running {
                if !self.is_stopping() {
                    self.shared.ends.say(End::Fatal(format!("raft has stopped: {error}")));
                }
                return;
            }
            if is_gone {
                // It says why it stops, but not when a bug of its own ends it. Others must not
                // go on waiting for a node that only looks alive.
                if !self.is_stopping() {
                    let why = "raft has stopped without a word: it panicked".to_owned();
                    self.shared.ends.say(End::Fatal(why));
                }
                return;
            }
            let refusal = refusals.borrow_and_update().clone();
            if let Some((by, refusal)) = refusal {
                match refusal.kind {
                    // Its removal is committed there, and this member does not hear of it.
                    RefusalKind::Removed => self.shared.ends.say(End::Removed),
                    RefusalKind::WrongIncarnation if by != self.own() => {
                        self.shared.ends.say(End::StaleData(refusal.detail));
                    }
                    _ => {}
                }
            }
            if *removed.borrow_and_update() {
                let handed_over = async {
                    while self.leads() {
                        self.pause().await;
                    }
                };
                let _ = tokio::time::timeout(FAREWELL, handed_over).await;
                self.shared.ends.say(End::Removed);
                return;
            }
            tokio::select! {
                biased;
                _ = removed.changed() => {}
                _ = refusals.changed() => {}
                // When raft ends, it is dropped. The rest of its metrics change with every step.
                changed = server.changed() => is_gone = changed.is_err(),
                // A log that failed while nobody wrote.
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Tells the cluster this member's name, where clients reach it and which data it runs on.
    pub(super) async fn publish(self: Arc<Self>, published: Published) {
        let is_known = || {
            let replicated = self.shared.replicated.read();
            replicated.state.member(self.own()).is_some_and(|it| {
                it.name == published.name
                    && it.client_urls == published.client_urls
                    && it.incarnation.is_some_and(|it| it.0 == published.incarnation)
            })
        };
        while !is_known() {
            let operation = Operation::Publish(published.clone());
            let is_member = self.shared.replicated.read().state.member(self.own()).is_some();
            if self.leader().is_some()
                && is_member
                && let Err(fault) = self.agree(&operation).await
            {
                tracing::debug!(%fault, "the member could not publish itself");
            }
            if !is_known() {
                self.pause().await;
            }
        }
        self.shared.is_published.send_replace(true);
    }

    /// Returns once the cluster knows this member's name.
    pub(super) async fn published(&self) {
        let mut published = self.shared.is_published.subscribe();
        // The sender is in `self`, so it cannot be gone.
        let _ = published.wait_for(|it| *it).await;
    }

    /// After a start of the whole cluster nobody leads, and everybody waits out an election
    /// timeout. The voter with the lowest ID need not, once it reaches a quorum: it asks first
    /// whether it would be elected, so it disturbs nobody who leads.
    pub(super) async fn campaign_early(self: Arc<Self>) {
        let voters: Vec<_> = {
            let server = self.raft.server_metrics();
            let server = server.borrow_watched();
            server.membership_config.voter_ids().map(MemberId).collect()
        };
        if voters.iter().min() != Some(&self.own()) {
            return;
        }
        let until = self.shared.clock.monotonic().after(self.options.election);
        loop {
            let pings = voters.iter().filter(|id| **id != self.own()).map(|id| async {
                let Some(peer) = self.links.peer(*id, self.place(*id).as_ref()) else {
                    return false;
                };
                // It may be starting as well.
                peer.hasten();
                peer.call(methods::PING, b"", self.options.heartbeat).await.is_ok()
            });
            let there = futures_util::future::join_all(pings).await;
            if self.leader().is_some() || self.shared.clock.monotonic() >= until {
                return;
            }
            if there.iter().filter(|it| **it).count() + 1 >= quorum(voters.len()) {
                let _ = self.raft.trigger().elect(voters.len() > 1).await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Where a member is, by the last list that this one has in its log.
    pub(super) fn place(&self, id: MemberId) -> Option<super::types::Place> {
        self.raft.server_metrics().borrow_watched().membership_config.get_node(&id.0).cloned()
    }
}
