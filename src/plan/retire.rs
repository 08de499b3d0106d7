//! Takes out of the list, then off the machine, what the spec no longer wants.

use std::cmp::Reverse;

use super::Say;
use super::evidence::delay;
use super::join::{foreign, unknown};
use super::repair::too_few;
use super::step::{RemoveReason, Step, StopReason};
use super::view::{Data, View, runs};
use crate::cluster::{Health, NodeName, NodeSeen, Process, Role};

/// Ends processes whose member is not in the list: that of a removed member must be gone before
/// its node is started anew.
pub(super) fn stop_strays(view: &View<'_>) -> Say {
    let strays = view.seen.nodes.iter().find(|(name, node)| is_stray(view, name, node));
    strays.map_or(Say::Pass, |(name, node)| {
        let why = match node.health {
            Health::Silent => StopReason::Silent,
            Health::NotAsked | Health::Answers { .. } => StopReason::Retired,
        };
        // What only prepares runs no member yet, whatever its home says of the past.
        let is_up = matches!(node.process, Process::Running { .. });
        let member = runs(view.seen, node).filter(|_| is_up);
        Say::Act(Step::Stop { node: name.clone(), member, why })
    })
}

fn is_stray(view: &View<'_>, name: &NodeName, node: &NodeSeen) -> bool {
    let has_member = view.member_of(name).is_some();
    match node.process {
        Process::Stopped | Process::Unknown(_) => false,
        // It may be about to set that very data aside for a member that was added.
        Process::Preparing => !has_member,
        Process::Running { .. } => match runs(view.seen, node) {
            Some(id) => !view.is_listed(id),
            // It may just have been started, and will say in time what it is.
            None => !has_member && view.is_past(node.process_since, delay(view.wanted)),
        },
    }
}

/// Removes voters whose nodes are not wanted, once every wanted node votes (join before retire:
/// the cluster never shrinks below what is wanted), or earlier one whose very address a joining
/// node needs. What is not well goes first, then the highest name (safety 15).
pub(super) fn retire(view: &View<'_>) -> Say {
    let is_needed_at = |url: &String| {
        let joins = view.wanted.nodes.iter().filter(|(name, _)| view.member_of(name).is_none());
        joins.into_iter().any(|(_, w)| w.peer_url == *url)
    };
    let surplus = view.placed().filter(|(m, name, _)| {
        let may_go = || view.is_complete() || m.peer_urls.iter().any(is_needed_at);
        m.role == Role::Voter && !view.wants(name) && may_go()
    });
    let first = surplus.min_by_key(|(m, name, _)| (view.is_healthy(m), Reverse(*name)));
    let Some((member, name, _)) = first else { return Say::Pass };
    if view.has_learner() || !view.can_remove(member) {
        return Say::Hold(too_few(view, member));
    }
    if view.is_leader(member) {
        return view.move_leader(member).map_or_else(|| Say::Hold(too_few(view, member)), Say::Act);
    }
    let why = RemoveReason::Unwanted;
    Say::Act(Step::Remove { member: member.id, node: Some(name.clone()), why })
}

/// Lets go of nodes that are not wanted and that no member uses.
pub(super) fn forget(view: &View<'_>) -> Say {
    let left = view.seen.nodes.iter().filter(|(name, node)| {
        !view.wants(name) && view.member_of(name).is_none() && node.process == Process::Stopped
    });
    Say::first(left.map(|(name, node)| forget_one(view, name, node)))
}

fn forget_one(view: &View<'_>, name: &NodeName, node: &NodeSeen) -> Say {
    match Data::of(view.seen, node) {
        Data::Unknown(why) => Say::Hold(unknown(name, &why)),
        // Not ours to move; the node is not ours either then.
        Data::Foreign(_) => Say::Pass,
        Data::Empty => Say::Act(Step::ForgetNode { node: name.clone(), data_of: None }),
        Data::Holds(id) | Data::Stale(id) | Data::Damaged(id) if view.is_listed(id) => {
            Say::Hold(foreign(name, &format!("data of member {id}, which is in the list")))
        }
        Data::Holds(id) | Data::Stale(id) | Data::Damaged(id) => {
            Say::Act(Step::ForgetNode { node: name.clone(), data_of: Some(id) })
        }
    }
}
