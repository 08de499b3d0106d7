//! Changes to the member list, the same wherever the nodes run.
//!
//! Each reads the live list first and refuses a step that was planned on an older one (safety 6).
//! No refusal of the cluster is an error: what counts is what the next observation shows, all the
//! more when nobody knows whether a call was applied (safety 17).

use std::time::Duration;

use super::Outcome;
use crate::client::{Client, ClientError, Refusal};
use crate::cluster::{
    Answer, Founding, LedgerEntry, LedgerKind, MemberId, MemberList, NodeName, Observed, Record,
    Role, Timestamp,
};
use crate::plan::{RemoveReason, Step};

/// How long the member list may take: a linearizable read waits for a quorum.
const LIST_LIMIT: Duration = Duration::from_secs(3);
/// A day: ledger lines older than this no longer count against any limit.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

pub(super) fn not_now(why: impl Into<String>) -> Outcome {
    Outcome::NotNow(why.into())
}

/// The members that answered last, and how to ask them.
pub(super) struct Change<'a> {
    pub(super) client: &'a Client,
    pub(super) endpoints: &'a [String],
}

impl Change<'_> {
    /// The list as it is now, or the refusal to act without it.
    async fn live_members(&self) -> Result<MemberList, Outcome> {
        let vouched = self.client.vouched_members(self.endpoints);
        match tokio::time::timeout(LIST_LIMIT, vouched).await {
            Ok(Ok(list)) => Ok(list),
            Ok(Err(e)) => Err(not_now(format!("the member list cannot be read: {e}"))),
            Err(_) => Err(not_now("the member list cannot be read in time")),
        }
    }

    /// Hands the leadership over; `leader` is the leader's own endpoint.
    pub(super) async fn move_leader(
        &self,
        leader: Option<String>,
        from: MemberId,
        to: MemberId,
    ) -> Outcome {
        let list = match self.live_members().await {
            Ok(list) => list,
            Err(refusal) => return refusal,
        };
        if list.leader != Some(from) {
            return not_now("the leader has changed");
        }
        let Some(endpoint) = leader else {
            return not_now(format!("the leader {from} has no endpoint"));
        };
        settle(self.client.move_leader(&endpoint, to).await, &[])
    }

    /// Whether a member may be removed as planned. `Err(Outcome::Done)` if it is gone already.
    pub(super) async fn may_remove(
        &self,
        seen: &Observed,
        member: MemberId,
    ) -> Result<(), Outcome> {
        let list = self.live_members().await?;
        if list.members.iter().all(|m| m.id != member) {
            return Err(Outcome::Done);
        }
        if seen.members.known().is_none_or(|planned| planned.members != list.members) {
            return Err(not_now(format!("the member list changed since {member} was looked at")));
        }
        Ok(())
    }

    /// Removes a member; `own` is its own endpoint. It is asked only if it is the only one: it
    /// would have to answer while it ends.
    pub(super) async fn remove(&self, own: Option<&String>, member: MemberId) -> Outcome {
        let others: Vec<_> = self.endpoints.iter().filter(|e| Some(*e) != own).cloned().collect();
        let ask = if others.is_empty() { self.endpoints } else { &others };
        let outcome = settle(self.client.remove(ask, member).await, &[Refusal::MemberNotFound]);
        // It may have been carried out all the same: the list tells (safety 17).
        if let (Outcome::NotNow(_), Ok(list)) = (&outcome, self.live_members().await)
            && list.members.iter().all(|m| m.id != member)
        {
            return Outcome::Done;
        }
        outcome
    }

    /// Adds a learner, the only one there is.
    pub(super) async fn add_learner(&self, node: &NodeName, peer_url: &str) -> Outcome {
        let list = match self.live_members().await {
            Ok(list) => list,
            Err(refusal) => return refusal,
        };
        if list.members.iter().any(|m| m.peer_urls.iter().any(|u| u == peer_url)) {
            return not_now(format!("{peer_url} of {node} is in the list already"));
        }
        if list.members.iter().any(|m| m.role == Role::Learner) {
            return not_now("another learner is joining");
        }
        settle(self.client.add_learner(self.endpoints, &[peer_url.to_owned()]).await, &[])
    }

    /// Makes a learner a voter.
    pub(super) async fn promote(&self, member: MemberId) -> Outcome {
        settle(self.client.promote(self.endpoints, member).await, &[Refusal::NotLearner])
    }

    /// Replaces a member's peer URLs.
    pub(super) async fn update_peer_urls(&self, member: MemberId, peer_urls: &[String]) -> Outcome {
        let list = match self.live_members().await {
            Ok(list) => list,
            Err(refusal) => return refusal,
        };
        let mut others = list.members.iter().filter(|m| m.id != member);
        if let Some(other) = others.find(|m| m.peer_urls.iter().any(|u| peer_urls.contains(u))) {
            return not_now(format!("member {} already has {}", other.id, peer_urls.join(",")));
        }
        settle(self.client.update_peer_urls(self.endpoints, member, peer_urls).await, &[])
    }
}

/// The member list, from those that answer and follow a leader. `answering` counts all that
/// answer; `refused` is what one of them said that does not let us ask.
pub(super) async fn ask_members(
    client: &Client,
    endpoints: &[String],
    answering: usize,
    refused: Option<&String>,
    founding: Option<&Founding>,
) -> Answer<MemberList> {
    if endpoints.is_empty() {
        if let Some(why) = refused {
            return Answer::Refused(why.clone());
        }
        return Answer::Unknown(match answering {
            0 => "no member answers".to_owned(),
            1 => "the one member that answers has no leader".to_owned(),
            n => format!("{n} members answer and none has a leader"),
        });
    }
    let list = match tokio::time::timeout(LIST_LIMIT, client.vouched_members(endpoints)).await {
        Ok(Ok(list)) => list,
        Ok(Err(e)) => {
            return match closed_to_us(&e) {
                Some(why) => Answer::Refused(why),
                None => Answer::Unknown(format!("no quorum vouches for the member list: {e}")),
            };
        }
        Err(_) => {
            return Answer::Unknown("no quorum vouched for the member list in time".to_owned());
        }
    };
    // A stranger's cluster on our ports is not ours, whatever it answers.
    let ours = founding.map(|f| f.cluster.unwrap_or_else(|| f.cluster_id()));
    match ours.filter(|ours| *ours != list.cluster) {
        Some(ours) => {
            Answer::Unknown(format!("cluster {} answers where {ours} was founded", list.cluster))
        }
        None => Answer::Known(list),
    }
}

/// What a member says that answers and does not let us ask (safety 5).
pub(super) fn closed_to_us(error: &ClientError) -> Option<String> {
    let why = error.refusal()?;
    matches!(why, Refusal::AuthRequired | Refusal::PermissionDenied).then(|| why.to_string())
}

/// Whether a step takes something away that a quorum may need, or decides once and for all.
pub(super) fn is_destructive(step: &Step) -> bool {
    match step {
        Step::Found { founding, .. } => founding.is_none(),
        // A promotion, too: etcd looks at how far the learner's log is, not at whether its
        // process still lives.
        Step::Stop { .. }
        | Step::Remove { .. }
        | Step::Promote { .. }
        | Step::UpdatePeerUrls { .. }
        | Step::ForgetNode { .. } => true,
        Step::Start { .. }
        | Step::MoveLeader { .. }
        | Step::AddLearner { .. }
        | Step::Wait { .. }
        | Step::Blocked { .. }
        | Step::Done => false,
    }
}

/// Writes a removal into the ledger, once per member however often the call has to be repeated.
/// True if the record has changed.
pub(super) fn note_removal(
    record: &mut Record,
    node: Option<&NodeName>,
    member: MemberId,
    why: RemoveReason,
    at: Timestamp,
) -> bool {
    let what = match why {
        RemoveReason::Replace(evidence) => LedgerKind::Replaced(evidence),
        RemoveReason::NoProgress => LedgerKind::LearnerGaveUp,
        RemoveReason::Unwanted | RemoveReason::ForeignUnstarted => return false,
    };
    let Some(node) = node else { return false };
    if record.ledger.iter().any(|e| e.member == member && e.what == what) {
        return false;
    }
    record.ledger.retain(|e| at.since(e.at) <= DAY_MS);
    record.ledger.push(LedgerEntry { node: node.clone(), member, at, what });
    true
}

/// Latches the cluster's ID once a quorum of this founding has answered with it. True if the
/// record has changed.
pub(super) fn latch(record: &mut Record, list: Option<&MemberList>) -> bool {
    let (Some(founding), Some(list)) = (record.founding.as_mut(), list) else { return false };
    if founding.cluster.is_some() || founding.cluster_id() != list.cluster {
        return false;
    }
    founding.cluster = Some(list.cluster);
    true
}

/// Reads the cluster's answer to a change.
fn settle<T>(answer: Result<T, ClientError>, fine: &[Refusal]) -> Outcome {
    match answer {
        Ok(_) => Outcome::Done,
        Err(e) if e.refusal().is_some_and(|refusal| fine.contains(&refusal)) => Outcome::Done,
        Err(error) => not_now(error.to_string()),
    }
}
