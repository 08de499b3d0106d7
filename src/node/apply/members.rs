//! Who the members are, what they published of themselves, and who was removed. Who may become
//! one is decided by the raft above, before the log has it.
//!
//! Source: etcd's `etcdserver/api/membership/cluster.go`.

use std::collections::{BTreeMap, BTreeSet};

use super::Published;
use crate::cluster::{Incarnation, MemberId};
use crate::node::fault::Fault;
use crate::proto::etcdserverpb::Member;

/// A member's place in the cluster, as an entry of the log gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The member.
    pub id: MemberId,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it is a learner that was added as a voter, to be promoted when it has caught up.
    pub wants_vote: bool,
}

/// A member: its place, and what it published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberEntry {
    /// Its ID.
    pub id: MemberId,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it is a learner that was added as a voter.
    pub wants_vote: bool,
    /// Its name; empty until it has published.
    pub name: String,
    /// Where clients reach it; empty until it has published.
    pub client_urls: Vec<String>,
    /// Which of its data it is; `None` until it has published.
    pub incarnation: Option<Incarnation>,
}

impl MemberEntry {
    /// The member as etcd's list would have it: one that was added as a voter is shown as a voter
    /// that has not started, until it is one (safety 7).
    pub fn shown(&self) -> Member {
        let waits = !self.voter && self.wants_vote;
        Member {
            id: self.id.0,
            name: if waits { String::new() } else { self.name.clone() },
            peer_urls: self.peer_urls.clone(),
            client_urls: if waits { Vec::new() } else { self.client_urls.clone() },
            is_learner: !self.voter && !self.wants_vote,
        }
    }
}

/// All members, and all that were.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    list: BTreeMap<MemberId, MemberEntry>,
    removed: BTreeSet<MemberId>,
}

impl Members {
    /// As they were kept.
    pub(super) fn from_parts(
        list: impl IntoIterator<Item = MemberEntry>,
        removed: impl IntoIterator<Item = MemberId>,
    ) -> Members {
        let list = list.into_iter().map(|it| (it.id, it)).collect();
        Members { list, removed: removed.into_iter().collect() }
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &MemberEntry> {
        self.list.values()
    }

    pub(super) fn get(&self, id: MemberId) -> Option<&MemberEntry> {
        self.list.get(&id)
    }

    pub(super) fn is_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id)
    }

    pub(super) fn removed(&self) -> impl ExactSizeIterator<Item = MemberId> {
        self.removed.iter().copied()
    }

    /// Takes over the whole list.
    pub(super) fn seat(&mut self, seats: Vec<Seat>) {
        let mut former = std::mem::take(&mut self.list);
        for Seat { id, peer_urls, voter, wants_vote } in seats {
            let (name, client_urls, incarnation) = former
                .remove(&id)
                .map(|it| (it.name, it.client_urls, it.incarnation))
                .unwrap_or_default();
            // IDs do not come back. Should one, then this list is what the quorum is counted by,
            // and a voter that everybody refuses would only stop the cluster.
            self.removed.remove(&id);
            let entry = MemberEntry {
                id,
                peer_urls,
                voter,
                wants_vote: wants_vote && !voter,
                name,
                client_urls,
                incarnation,
            };
            self.list.insert(id, entry);
        }
        self.removed.extend(former.into_keys());
    }

    /// Writes down what a member says of itself. The first incarnation counts: whoever comes
    /// later under the same ID with other data is not that member (safety 12).
    pub(super) fn publish(&mut self, it: Published) -> Result<(), Fault> {
        let entry = self.list.get_mut(&MemberId(it.member)).ok_or(Fault::MemberNotFound)?;
        let incarnation = Incarnation(it.incarnation);
        if entry.incarnation.is_some_and(|known| known != incarnation) {
            return Err(Fault::MemberExists);
        }
        entry.incarnation = Some(incarnation);
        entry.name = it.name;
        entry.client_urls = it.client_urls;
        Ok(())
    }
}
