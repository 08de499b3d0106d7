//! An observation read against what is wanted: whose member each is, whose data lies where, who
//! is well, and the quorum arithmetic of safety 14.

use std::collections::{BTreeMap, BTreeSet};

use super::step::Step;
use crate::cluster::{
    ClusterId, Disk, Health, Identity, Member, MemberId, MemberList, NodeName, NodeSeen, Observed,
    Process, Role, Timestamp, Wanted, WantedNode, quorum,
};

/// What a disk means to this cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// Could not be read; not the same as empty.
    Unknown(String),
    Empty,
    /// Good data of this member.
    Holds(MemberId),
    /// Data of this member that the home's stamp does not vouch for.
    Stale(MemberId),
    /// Data of this member that cannot be read.
    Damaged(MemberId),
    /// Somebody else's: without a stamp, of another cluster, of another founding.
    Foreign(String),
}

impl Data {
    /// Reads a disk. Data of another founding may carry the very same IDs (they are derived from
    /// URLs and token), so the founding decides as well as the cluster.
    pub(super) fn of(seen: &Observed, node: &NodeSeen) -> Data {
        let strange = |id: &Identity| match strangeness(seen, id) {
            Some(why) => Err(Data::Foreign(why)),
            None => Ok(id.member),
        };
        let read = match &node.disk {
            Disk::Unknown(why) => return Data::Unknown(why.clone()),
            Disk::Empty => return Data::Empty,
            Disk::Foreign(what) => return Data::Foreign(what.clone()),
            Disk::Holds(id) => strange(id).map(Data::Holds),
            Disk::Stale { log } => strange(log).map(Data::Stale),
            Disk::Damaged { stamp } => strange(stamp).map(Data::Damaged),
        };
        read.unwrap_or_else(|foreign| foreign)
    }

    /// Whose data it is, if it is this cluster's.
    pub(super) fn owner(&self) -> Option<MemberId> {
        match self {
            Data::Holds(id) | Data::Stale(id) | Data::Damaged(id) => Some(*id),
            Data::Unknown(_) | Data::Empty | Data::Foreign(_) => None,
        }
    }
}

/// Why an identity is not of this cluster; `None` if it is, or if that cannot be told.
fn strangeness(seen: &Observed, id: &Identity) -> Option<String> {
    let founding = seen.record.founding.as_ref();
    let ours: Option<ClusterId> =
        seen.members.known().map(|l| l.cluster).or(founding.and_then(|f| f.cluster));
    if let Some(ours) = ours.filter(|ours| *ours != id.cluster) {
        return Some(format!("data of cluster {}, which is not this one ({ours})", id.cluster));
    }
    let other = id.founding.filter(|own| founding.is_some_and(|f| f.id != *own))?;
    Some(format!("data of another founding ({other}) of this cluster"))
}

/// The stamp of a node, unless it speaks of another cluster or founding.
pub(super) fn stamped(seen: &Observed, node: &NodeSeen) -> Option<MemberId> {
    let stamp = node.stamp.as_ref().filter(|id| strangeness(seen, id).is_none())?;
    Some(stamp.member)
}

/// The member whose engine a node runs, or ran last: what it answers goes before what it was
/// started for, and that before what lies on its disk.
pub(super) fn runs(seen: &Observed, node: &NodeSeen) -> Option<MemberId> {
    let answers = match node.health {
        Health::Answers { member, .. } => Some(member),
        Health::NotAsked | Health::Silent => None,
    };
    let holds = || match Data::of(seen, node) {
        Data::Holds(id) => Some(id),
        _ => None,
    };
    answers.or_else(|| stamped(seen, node)).or_else(holds)
}

/// The member that a node had last, as far as it shows: the one it runs or ran, else whosever
/// data lies there.
pub(super) fn former(seen: &Observed, node: &NodeSeen) -> Option<MemberId> {
    runs(seen, node).or_else(|| Data::of(seen, node).owner())
}

/// The member of a node: the one in the list that the planner takes for this node's, by ID and
/// stamp first, then by peer URL. If the list has none, or is not known, the member that the node
/// had last. `None` if it shows no trace of one, or only of a member that is another node's.
///
/// It is what a [`crate::cluster::ReplaceRequest`] has to name: a wish for another member is
/// taken for one that is fulfilled already.
pub fn member_of(wanted: &Wanted, seen: &Observed, node: &NodeName) -> Option<MemberId> {
    let list = seen.members.known();
    let view = list.map(|list| View::new(wanted, seen, list));
    let listed = view.as_ref().and_then(|view| view.member_of(node));
    listed.map(|m| m.id).or_else(|| {
        let is_others = |id: &MemberId| view.as_ref().is_some_and(|view| view.is_listed(*id));
        former(seen, seen.nodes.get(node)?).filter(|id| !is_others(id))
    })
}

/// What the rules look at.
pub(super) struct View<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) seen: &'a Observed,
    pub(super) list: &'a MemberList,
    /// Whose member each is: by ID and stamp first, then by peer URL, never by name or position.
    node_of: BTreeMap<MemberId, &'a NodeName>,
}

impl<'a> View<'a> {
    pub(super) fn new(wanted: &'a Wanted, seen: &'a Observed, list: &'a MemberList) -> Self {
        View { wanted, seen, list, node_of: match_nodes(wanted, seen, list) }
    }

    pub(super) fn node_of(&self, member: &Member) -> Option<&'a NodeName> {
        self.node_of.get(&member.id).copied()
    }

    pub(super) fn seen_of(&self, member: &Member) -> Option<&'a NodeSeen> {
        self.seen.nodes.get(self.node_of(member)?)
    }

    /// A member with its node, for those that have one.
    pub(super) fn placed(&self) -> impl Iterator<Item = (&'a Member, &'a NodeName, &'a NodeSeen)> {
        self.members().filter_map(|m| {
            let name = self.node_of(m)?;
            Some((m, name, self.seen.nodes.get(name)?))
        })
    }

    /// The member of a node, if the list has one.
    pub(super) fn member_of(&self, node: &NodeName) -> Option<&'a Member> {
        self.members().find(|m| self.node_of(m) == Some(node))
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &'a Member> + use<'a> {
        self.list.members.iter()
    }

    pub(super) fn voters(&self) -> impl Iterator<Item = &'a Member> + use<'a> {
        self.members().filter(|m| m.role == Role::Voter)
    }

    pub(super) fn learners(&self) -> impl Iterator<Item = &'a Member> + use<'a> {
        self.members().filter(|m| m.role == Role::Learner)
    }

    pub(super) fn has_learner(&self) -> bool {
        self.learners().next().is_some()
    }

    pub(super) fn is_listed(&self, id: MemberId) -> bool {
        self.members().any(|m| m.id == id)
    }

    pub(super) fn wants(&self, node: &NodeName) -> bool {
        self.wanted.nodes.contains_key(node)
    }

    pub(super) fn wanted_of(&self, member: &Member) -> Option<&'a WantedNode> {
        self.wanted.nodes.get(self.node_of(member)?)
    }

    /// The other member that has this peer URL.
    pub(super) fn holder_of(&self, url: &str, but: Option<MemberId>) -> Option<&'a Member> {
        self.members().find(|m| Some(m.id) != but && m.peer_urls.iter().any(|u| u == url))
    }

    /// Every wanted node has a voter, healthy or not: nobody is joining or about to.
    pub(super) fn is_complete(&self) -> bool {
        let votes = |name| self.member_of(name).is_some_and(|m| m.role == Role::Voter);
        self.wanted.nodes.keys().all(votes) && !self.has_learner()
    }

    /// A voter counts as one only when the list and its own Status agree (safety 7).
    pub(super) fn is_healthy(&self, member: &Member) -> bool {
        self.seen_of(member).is_some_and(|node| answers_as(node, member, Role::Voter))
    }

    pub(super) fn healthy(&self) -> usize {
        self.voters().filter(|m| self.is_healthy(m)).count()
    }

    /// All voters but this one are well.
    pub(super) fn others_are_well(&self, member: &Member) -> bool {
        self.voters().filter(|m| m.id != member.id).all(|m| self.is_healthy(m))
    }

    pub(super) fn healthy_without(&self, member: &Member) -> usize {
        self.voters().filter(|m| m.id != member.id && self.is_healthy(m)).count()
    }

    /// Safety 14 for taking `member` out of the list: those that remain hold a quorum of their
    /// own; none is no quorum. A learner has no vote to lose.
    pub(super) fn can_remove(&self, member: &Member) -> bool {
        let remain = self.voters().filter(|m| m.id != member.id).count();
        member.role == Role::Learner || self.healthy_without(member) >= quorum(remain)
    }

    /// Safety 14 for stopping the node of `member`: the others are a quorum of all.
    pub(super) fn can_stop(&self, member: &Member) -> bool {
        member.role == Role::Learner
            || self.healthy_without(member) >= quorum(self.voters().count())
    }

    /// Safety 14 for one voter more.
    pub(super) fn can_promote(&self) -> bool {
        self.healthy() + 1 >= quorum(self.voters().count() + 1)
    }

    pub(super) fn is_leader(&self, member: &Member) -> bool {
        self.list.leader == Some(member.id)
    }

    /// Hands the leadership of `from` to a healthy voter that has caught up and is to stay.
    pub(super) fn move_leader(&self, from: &Member) -> Option<Step> {
        let caught_up =
            |node: &NodeSeen| matches!(node.health, Health::Answers { caught_up: true, .. });
        let able = self
            .placed()
            .filter(|(m, _, node)| m.id != from.id && self.is_healthy(m) && caught_up(node));
        let (to, ..) = able.min_by_key(|(m, name, node)| {
            // Whoever is about to go or to be restarted would only hand it on again.
            let leaves =
                !self.wants(name) || node.data_gone || super::evidence::is_requested(self, m);
            (leaves, node.outdated, *name)
        })?;
        Some(Step::MoveLeader { from: from.id, to: to.id })
    }

    /// True once `since` is at least this long ago.
    pub(super) fn is_past(&self, since: Timestamp, millis: u64) -> bool {
        self.seen.now.since(since) >= millis
    }

    /// Since when a member is in the list, as far as this reconciler knows.
    pub(super) fn first_seen(&self, member: &Member) -> Timestamp {
        self.seen.first_seen.get(&member.id).copied().unwrap_or(self.seen.now)
    }
}

/// Whether a member is to be taken for a node's, on one kind of ground.
type Claim<'a> = dyn Fn(&Member, &NodeName) -> bool + 'a;

/// Matches members to nodes, the strongest claim first; each node and each member only once.
fn match_nodes<'a>(
    wanted: &'a Wanted,
    seen: &'a Observed,
    list: &'a MemberList,
) -> BTreeMap<MemberId, &'a NodeName> {
    let mut node_of = BTreeMap::new();
    let mut taken = BTreeSet::new();
    let has = |member: &Member, url: Option<&String>| {
        url.is_some_and(|url| member.peer_urls.contains(url))
    };
    let by_spec =
        |member: &Member, name: &NodeName| has(member, wanted.nodes.get(name).map(|w| &w.peer_url));
    let by_start = |member: &Member, name: &NodeName| {
        has(member, seen.nodes.get(name).and_then(|n| n.peer_url.as_ref()))
    };
    let answers = |member: &Member, name: &NodeName| {
        let health = seen.nodes.get(name).map(|n| n.health);
        matches!(health, Some(Health::Answers { member: id, .. }) if id == member.id)
    };
    let owns = |member: &Member, name: &NodeName| {
        seen.nodes.get(name).and_then(|n| runs(seen, n)) == Some(member.id)
    };
    // A home that was copied claims its member twice; the one at the right address is meant.
    let claims: [&Claim<'_>; 5] = [
        &answers,
        &|m, n| owns(m, n) && (by_spec(m, n) || by_start(m, n)),
        &owns,
        &by_spec,
        &by_start,
    ];
    let names: BTreeSet<&NodeName> = wanted.nodes.keys().chain(seen.nodes.keys()).collect();
    for claim in claims {
        for member in &list.members {
            let free = |name: &&&NodeName| !taken.contains(**name) && claim(member, name);
            if !node_of.contains_key(&member.id)
                && let Some(name) = names.iter().find(free)
            {
                node_of.insert(member.id, *name);
                taken.insert(*name);
            }
        }
    }
    node_of
}

/// Whether the node answers for itself as this member, in this role, knows a leader, and is where
/// the list says: between a changed address and the restart there nobody may reach it.
pub(super) fn answers_as(node: &NodeSeen, member: &Member, role: Role) -> bool {
    let is_there = node.peer_url.as_ref().is_none_or(|url| member.peer_urls.contains(url));
    let is_right = matches!(
        node.health,
        Health::Answers { member: id, role: own, has_leader: true, .. }
            if id == member.id && own == role
    );
    member.role == role && matches!(node.process, Process::Running { .. }) && is_right && is_there
}
