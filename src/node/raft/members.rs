//! Changes of the members, on the leader: what etcd allows, in etcd's words, and one at a time.
//!
//! Whoever is added is a learner at first. One that was to be a voter is promoted by the leader
//! once it has caught up (`promote.rs`), so that a voter that is not started never counts for the
//! quorum. Each change is one entry, from one list to the next (Raft thesis §4.1).
//!
//! Source: etcd's `etcdserver/server.go` and `api/membership/cluster.go`. Where etcd wants every
//! voter connected for five seconds, we want every voter heard within one election timeout.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::{ClientWriteResponse, Precondition};
use openraft::{ChangeMembers, EntryPayload};
use serde::{Deserialize, Serialize};

use super::methods;
use super::node::Inner;
use super::propose::{Fate, fate_of};
use super::types::{Membership, Place, StoredMembership, Types};
use crate::cluster::{MemberId, added_member_id, quorum};
use crate::node::fault::Fault;
use crate::proto::etcdserverpb::Member;

/// A learner that is to be promoted has this part of the log (etcd's `readyPercent`), in tenths.
const READY_TENTHS: u64 = 9;

/// A change that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Change {
    Add { peer_urls: Vec<String>, as_learner: bool },
    Remove { id: MemberId },
    Update { id: MemberId, peer_urls: Vec<String> },
    Promote { id: MemberId },
}

/// A change that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Changed {
    /// The entry from which on it holds.
    index: u64,
    /// Who was changed.
    pub(super) id: MemberId,
}

/// Why a change was not made, or not yet.
enum Trouble {
    Fault(Fault),
    /// Nothing has come of it; it can be tried again.
    Again,
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Trouble::Fault(fault)
    }
}

impl Inner {
    /// Makes a change, wherever it is asked for, and returns once this member has it.
    pub(super) async fn change_members(&self, change: &Change) -> Result<Changed, Fault> {
        if self.is_stopping() {
            return Err(Fault::Stopped);
        }
        let begun = self.shared.clock.monotonic();
        let changed = tokio::time::timeout(self.limit(), async {
            let changed = self.ask_change(change).await?;
            let applied = self.shared.wait_applied(changed.index);
            if changed.id == self.own() && matches!(change, Change::Remove { .. }) {
                // Nobody need tell a member of its own removal; whoever asked it is told all the
                // same.
                let _ = tokio::time::timeout(self.options.heartbeat, applied).await;
            } else {
                applied.await;
            }
            Ok(changed)
        });
        let changed = changed.await.unwrap_or_else(|_| Err(self.timed_out(begun)));
        match &changed {
            Ok(it) => tracing::info!(member = %it.id, ?change, "the members have changed"),
            Err(fault) => tracing::info!(%fault, ?change, "the members have not been changed"),
        }
        changed
    }

    async fn ask_change(&self, change: &Change) -> Result<Changed, Fault> {
        loop {
            let leader = self.leader();
            let made = match leader.map(|it| (it, self.links.peer(it, None))) {
                Some((leader, _)) if leader == self.own() => self.make(change).await,
                Some((_, Some(peer))) => {
                    // Names and addresses always have a JSON form.
                    let body = serde_json::to_vec(change).unwrap_or_default();
                    match peer.call(methods::MEMBERS, &body, self.limit()).await {
                        Ok(answer) => serde_json::from_slice::<Result<Changed, usize>>(&answer)
                            .map_err(|_| Fault::Unhealthy)?
                            .map_err(named),
                        Err(error) if fate_of(&error) == Fate::NotTaken => Err(Fault::NotLeader),
                        // It may have been made. A leader that removes itself is gone soon after.
                        Err(_) => return self.seen_to_be_made(change).await,
                    }
                }
                _ => Err(Fault::NotLeader),
            };
            match made {
                Err(Fault::NotLeader) if !self.is_stopping() => self.pause().await,
                made => return made,
            }
        }
    }

    /// Looks whether a change was made whose answer was lost. Otherwise whoever asked looks at the
    /// list.
    async fn seen_to_be_made(&self, change: &Change) -> Result<Changed, Fault> {
        let until = self.shared.clock.monotonic().after(self.options.election);
        loop {
            if let Change::Remove { id } = change
                && self.shared.replicated.read().state.is_removed(*id)
            {
                let index = self.shared.applied.borrow().saturating_sub(1);
                return Ok(Changed { index, id: *id });
            }
            if self.shared.clock.monotonic() >= until {
                return Err(Fault::TimeoutConnectionLost);
            }
            self.pause().await;
        }
    }

    /// Answers another member's request for a change.
    pub(super) async fn change_for(&self, body: &[u8]) -> Option<Bytes> {
        let change = serde_json::from_slice(body).ok()?;
        Some(encode(self.make(&change).await))
    }

    /// Makes a change, on the leader.
    async fn make(&self, change: &Change) -> Result<Changed, Fault> {
        let work = async {
            let _one = self.changing.lock().await;
            loop {
                match self.try_change(change).await {
                    Ok(changed) => return Ok(changed),
                    Err(Trouble::Fault(fault)) => return Err(fault),
                    // Right after an election, or behind a change that is not committed yet.
                    Err(Trouble::Again) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let made = tokio::time::timeout(self.limit(), work).await;
        made.unwrap_or(Err(Fault::Timeout))
    }

    async fn try_change(&self, change: &Change) -> Result<Changed, Trouble> {
        if !self.leads() {
            return Err(Fault::NotLeader.into());
        }
        let effective = self.raft.server_metrics().borrow_watched().membership_config.clone();
        // What is checked is what was applied: until the last change is, there is none to make.
        if effective.log_id() != self.shared.replicated.read().membership.log_id() {
            return Err(Trouble::Again);
        }
        let id = self.check(change)?;
        let (mut voters, mut places) = parts(&effective);
        match change {
            Change::Add { peer_urls, as_learner } => {
                let place = Place { peer_urls: peer_urls.clone(), wants_vote: !as_learner };
                places.insert(id.0, place);
            }
            Change::Remove { .. } => {
                voters.remove(&id.0);
                places.remove(&id.0);
            }
            Change::Promote { .. } => {
                voters.insert(id.0);
            }
            Change::Update { peer_urls, .. } => {
                let wants_vote = places.get(&id.0).is_some_and(|it| it.wants_vote);
                let place = Place { peer_urls: peer_urls.clone(), wants_vote };
                let nodes = ChangeMembers::SetNodes(BTreeMap::from([(id.0, place)]));
                let written = self.raft.change_membership(nodes, true).await;
                return settled(written, id);
            }
        }
        let is_of_voters = matches!(change, Change::Remove { .. } | Change::Promote { .. });
        if self.options.strict_reconfig_check && is_of_voters && !self.quorum_answers(&voters).await
        {
            return Err(Fault::Unhealthy.into());
        }
        let membership = Membership::new(vec![voters], places).map_err(|error| {
            tracing::error!(%error, "a change makes no membership");
            Fault::Unhealthy
        })?;
        let only_after =
            Precondition::LastMembershipLogId { last_membership_log_id: *effective.log_id() };
        let written =
            self.raft.append_membership(membership, EntryPayload::Blank, [only_after]).await;
        settled(written, id)
    }

    /// Whether a change may be made, and of whom.
    fn check(&self, change: &Change) -> Result<MemberId, Fault> {
        let replicated = self.shared.replicated.read();
        let list = replicated.state.member_list();
        let is_there = |id: MemberId| list.iter().find(|it| it.id == id.0);
        let clashes = |id: Option<MemberId>, urls: &[String]| {
            let mut others = list.iter().filter(|it| id.is_none_or(|id| it.id != id.0));
            others.any(|it| it.peer_urls.iter().any(|url| urls.contains(url)))
        };
        match change {
            Change::Add { peer_urls, as_learner } => {
                if self.options.strict_reconfig_check {
                    if !as_learner && !may_add(&list) {
                        return Err(Fault::MemberNotEnoughStarted);
                    }
                    self.all_are_heard(&list)?;
                }
                if clashes(None, peer_urls) {
                    return Err(Fault::PeerUrlExists);
                }
                if *as_learner && list.iter().any(|it| it.is_learner) {
                    return Err(Fault::TooManyLearners);
                }
                let seconds = self.shared.clock.now().0 / 1000;
                let ids =
                    (seconds..).map(|at| added_member_id(peer_urls.iter().map(String::as_str), at));
                // One that was removed within this second has this ID, which is used up.
                let is_free =
                    |id: &MemberId| is_there(*id).is_none() && !replicated.state.is_removed(*id);
                ids.take(1000).find(is_free).ok_or(Fault::MemberExists)
            }
            Change::Remove { id } => {
                let member = is_there(*id).ok_or(Fault::MemberNotFound)?;
                if self.options.strict_reconfig_check && !member.is_learner {
                    self.may_remove(&list, *id)?;
                }
                let voters = replicated.state.members().filter(|it| it.voter && it.id != *id);
                // The last voter takes the cluster with it.
                if voters.count() == 0 {
                    return Err(Fault::MemberNotEnoughStarted);
                }
                Ok(*id)
            }
            Change::Update { id, peer_urls } => {
                is_there(*id).ok_or(Fault::MemberNotFound)?;
                if clashes(Some(*id), peer_urls) {
                    return Err(Fault::PeerUrlExists);
                }
                Ok(*id)
            }
            Change::Promote { id } => {
                let member = is_there(*id).ok_or(Fault::MemberNotFound)?;
                if !member.is_learner {
                    return Err(Fault::MemberNotLearner);
                }
                if !self.has_caught_up(*id) {
                    return Err(Fault::LearnerNotReady);
                }
                if self.options.strict_reconfig_check && !may_promote(&list, *id) {
                    return Err(Fault::MemberNotEnoughStarted);
                }
                let voters: Vec<_> =
                    replicated.state.members().filter(|it| it.voter).map(|it| it.id).collect();
                self.quorum_holds_with_one_more(&voters)?;
                Ok(*id)
            }
        }
    }

    /// Has the leader promote a learner of its own accord, if it may be. Whether it is done.
    pub(super) async fn promote_now(&self, id: MemberId) -> bool {
        let _one = self.changing.lock().await;
        let effective = self.raft.server_metrics().borrow_watched().membership_config.clone();
        let voters: Vec<_> = effective.voter_ids().map(MemberId).collect();
        if voters.contains(&id) || effective.get_node(&id.0).is_none() {
            return false;
        }
        if !self.leads() || self.quorum_holds_with_one_more(&voters).is_err() {
            return false;
        }
        let (mut voters, places) = parts(&effective);
        voters.insert(id.0);
        if !self.quorum_answers(&voters).await {
            return false;
        }
        let Ok(membership) = Membership::new(vec![voters], places) else { return false };
        let only_after =
            Precondition::LastMembershipLogId { last_membership_log_id: *effective.log_id() };
        let append = self.raft.append_membership(membership, EntryPayload::Blank, [only_after]);
        matches!(tokio::time::timeout(self.limit(), append).await, Ok(Ok(_)))
    }

    /// Whether a quorum of those who are to vote answers now. That one was heard within an election
    /// timeout does not say that it lives: with one who has just died a change of the voters would
    /// never be committed, and every one after it wait for that.
    async fn quorum_answers(&self, voters: &BTreeSet<u64>) -> bool {
        let others = voters.iter().map(|id| MemberId(*id)).filter(|id| *id != self.own());
        let mut pings: FuturesUnordered<_> = others
            .map(|id| async move {
                let Some(peer) = self.links.peer(id, self.place(id).as_ref()) else { return false };
                peer.call(methods::PING, b"", self.options.election).await.is_ok()
            })
            .collect();
        let mut there = usize::from(voters.contains(&self.own().0));
        while there < quorum(voters.len()) {
            match pings.next().await {
                Some(answered) => there += usize::from(answered),
                None => return false,
            }
        }
        true
    }

    /// Whether one more voter leaves a quorum of them alive.
    fn quorum_holds_with_one_more(&self, voters: &[MemberId]) -> Result<(), Fault> {
        let alive = voters.iter().filter(|it| self.hears(**it)).count();
        if alive + 1 >= quorum(voters.len() + 1) { Ok(()) } else { Err(Fault::Unhealthy) }
    }

    /// Whether a learner lives and has so much of the log that it may vote.
    fn has_caught_up(&self, id: MemberId) -> bool {
        let (own, its) = self.matched(id);
        self.hears(id)
            && its.unwrap_or(0).saturating_mul(10) >= own.saturating_mul(READY_TENTHS)
            && its.is_some()
    }

    /// How far the leader's log goes, and how much of it a member has.
    pub(super) fn matched(&self, id: MemberId) -> (u64, Option<u64>) {
        let metrics = self.raft.data_metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_log.map_or(0, |it| it.index);
        let its = metrics.replication.as_ref().and_then(|it| it.get(&id.0).copied().flatten());
        (last, its.map(|it| it.index))
    }

    fn all_are_heard(&self, list: &[Member]) -> Result<(), Fault> {
        let mut voters = list.iter().filter(|it| !it.is_learner);
        if voters.all(|it| self.hears(MemberId(it.id))) { Ok(()) } else { Err(Fault::Unhealthy) }
    }

    fn may_remove(&self, list: &[Member], id: MemberId) -> Result<(), Fault> {
        let voters: Vec<_> = list.iter().filter(|it| !it.is_learner).collect();
        let rest: Vec<_> = voters.iter().filter(|it| it.id != id.0).collect();
        let started = rest.iter().filter(|it| is_started(it)).count();
        if started < quorum(rest.len()) {
            return Err(Fault::MemberNotEnoughStarted);
        }
        // One that is down takes nothing away.
        if !self.hears(id) {
            return Ok(());
        }
        let alive = rest.iter().filter(|it| self.hears(MemberId(it.id))).count();
        if alive < quorum(rest.len()) { Err(Fault::Unhealthy) } else { Ok(()) }
    }
}

/// Whether a member has published its name.
fn is_started(member: &Member) -> bool {
    !member.name.is_empty()
}

/// etcd's `IsReadyToAddVotingMember`.
fn may_add(list: &[Member]) -> bool {
    let (started, all) = count(list.iter().filter(|it| !it.is_learner));
    // A cluster of one may always get its second.
    (started == 1 && all == 1) || started >= quorum(all + 1)
}

/// etcd's `IsReadyToPromoteMember`.
fn may_promote(list: &[Member], id: MemberId) -> bool {
    let (started, all) = count(list.iter().filter(|it| !it.is_learner && it.id != id.0));
    started + 1 >= quorum(all + 1)
}

fn count<'a>(members: impl Iterator<Item = &'a Member>) -> (usize, usize) {
    members.fold((0, 0), |(started, all), it| (started + usize::from(is_started(it)), all + 1))
}

fn parts(membership: &StoredMembership) -> (BTreeSet<u64>, BTreeMap<u64, Place>) {
    let places = membership.nodes().map(|(id, place)| (*id, place.clone())).collect();
    (membership.voter_ids().collect(), places)
}

type Written = Result<ClientWriteResponse<Types>, RaftError<Types, ClientWriteError<Types>>>;

fn settled(written: Written, id: MemberId) -> Result<Changed, Trouble> {
    let error = match written {
        Ok(it) => return Ok(Changed { index: it.log_id.index, id }),
        Err(RaftError::Fatal(_)) => return Err(Fault::Stopped.into()),
        Err(RaftError::APIError(error)) => error,
    };
    Err(match error {
        ClientWriteError::ForwardToLeader(it) => match it.reason {
            // A moment after an election.
            openraft::errors::ForwardReason::LeaseExpired => Trouble::Again,
            _ => Trouble::Fault(Fault::NotLeader),
        },
        ClientWriteError::LogEntryDiscarded(_) => Trouble::Fault(Fault::LeaderChanged),
        ClientWriteError::PreconditionFailed(_)
        | ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
        ) => Trouble::Again,
        ClientWriteError::ChangeMembershipError(error) => {
            tracing::error!(%error, "a change of the members was refused");
            Trouble::Fault(Fault::Unhealthy)
        }
    })
}

/// A fault's number on the wire between members.
pub(super) fn number(fault: Fault) -> usize {
    Fault::ALL.iter().position(|it| *it == fault).unwrap_or(usize::MAX)
}

/// The answer to another member's request for a change.
fn encode(made: Result<Changed, Fault>) -> Bytes {
    // Numbers always have a JSON form.
    serde_json::to_vec(&made.map_err(number)).unwrap_or_default().into()
}

/// The answer to one that is not listened to.
pub(super) fn refused(fault: Fault) -> Bytes {
    encode(Err(fault))
}

/// The fault of a number.
pub(super) fn named(number: usize) -> Fault {
    Fault::ALL.get(number).copied().unwrap_or(Fault::Unhealthy)
}
