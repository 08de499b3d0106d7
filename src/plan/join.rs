//! Brings a member in: added as learner, started, promoted; one at a time.

use super::Say;
use super::evidence::shown;
use super::restart::held_back;
use super::step::{Obstacle, StartNode, Step, Waiting};
use super::view::{Data, View, answers_as, former};
use crate::cluster::{Health, Member, MemberId, NodeName, NodeSeen, Process, Role, WantedNode};

/// Starts the node of a member that has no data yet: added by us as a learner, or by hand with
/// the URL of a wanted node (safety 19).
pub(super) fn start_added(view: &View<'_>) -> Say {
    let stopped = view.placed().filter(|(m, name, node)| {
        view.wants(name)
            && node.process == Process::Stopped
            && Data::of(view.seen, node) != Data::Holds(m.id)
            && shown(view, m, node).is_none()
    });
    Say::first(stopped.map(|(m, name, node)| start_one(view, m, name, node)))
}

fn start_one(view: &View<'_>, member: &Member, name: &NodeName, node: &NodeSeen) -> Say {
    let replaces = match vacancy(view, name, node) {
        Ok(replaces) => replaces,
        Err(obstacle) => return Say::Hold(obstacle),
    };
    if let Some(hold) = held_back(view.seen, name, node, member.id) {
        return Say::Hold(hold);
    }
    let start = StartNode { node: name.clone(), member: member.id, replaces };
    Say::Act(Step::Start { nodes: vec![start] })
}

/// Whose data has to be set aside before a new member starts here: nobody's, or that of a member
/// that is in the list no more (safety 13). Anything else is left alone.
fn vacancy(view: &View<'_>, name: &NodeName, node: &NodeSeen) -> Result<Option<MemberId>, Step> {
    match Data::of(view.seen, node) {
        Data::Empty => Ok(None),
        Data::Unknown(why) => Err(unknown(name, &why)),
        Data::Foreign(what) => Err(foreign(name, &what)),
        Data::Holds(id) | Data::Stale(id) | Data::Damaged(id) if view.is_listed(id) => {
            Err(foreign(name, &format!("data of member {id}, which is in the list")))
        }
        Data::Holds(id) | Data::Stale(id) | Data::Damaged(id) => Ok(Some(id)),
    }
}

/// Makes a learner that has caught up a voter.
pub(super) fn promote(view: &View<'_>) -> Say {
    let running = view.placed().filter(|(m, name, node)| {
        m.role == Role::Learner && view.wants(name) && node.process != Process::Stopped
    });
    Say::first(running.map(|(m, name, node)| promote_one(view, m, name, node)))
}

fn promote_one(view: &View<'_>, member: &Member, name: &NodeName, node: &NodeSeen) -> Say {
    let caught_up = matches!(node.health, Health::Answers { caught_up: true, .. });
    if !answers_as(node, member, Role::Learner) || !caught_up {
        let since = Some(view.first_seen(member));
        return Say::Hold(Step::Wait { what: Waiting::CatchUp(member.id), since });
    }
    if !view.can_promote() {
        let text = format!("{name} can only vote while a quorum of the others is healthy");
        return Say::Hold(Step::Wait { what: Waiting::HealthyVoters(text), since: None });
    }
    Say::Act(Step::Promote { member: member.id, node: name.clone() })
}

/// Adds a learner for the first wanted node that has no member and can take one.
pub(super) fn add_learner(view: &View<'_>) -> Say {
    let missing = view.wanted.nodes.iter().filter(|(name, _)| view.member_of(name).is_none());
    Say::first(missing.map(|(name, wanted)| add_one(view, name, wanted)))
}

fn add_one(view: &View<'_>, name: &NodeName, wanted: &WantedNode) -> Say {
    // etcd takes one learner at a time, and adds nothing while a voter is down (safety 16).
    if let Some(learner) = view.learners().next() {
        return Say::Hold(Step::Wait { what: Waiting::CatchUp(learner.id), since: None });
    }
    let ailing = view.voters().count() - view.healthy();
    if ailing > 0 {
        let text = format!("{name} joins when every voter is healthy; {ailing} are not");
        return Say::Hold(Step::Wait { what: Waiting::HealthyVoters(text), since: None });
    }
    let Some(node) = view.seen.nodes.get(name) else {
        return Say::Hold(unknown(name, "it was not looked at"));
    };
    match &node.process {
        Process::Stopped => {}
        Process::Unknown(why) => return Say::Hold(unknown(name, why)),
        // Whatever it is, it ends by itself or is stopped as a stray first.
        Process::Preparing | Process::Running { .. } => {
            let what = Waiting::Starting(vec![name.clone()]);
            return Say::Hold(Step::Wait { what, since: Some(node.process_since) });
        }
    }
    if let Err(obstacle) = vacancy(view, name, node) {
        return Say::Hold(obstacle);
    }
    if let Some(other) = view.holder_of(&wanted.peer_url, None) {
        // A node that is to go leaves its address to this one (safety 20); see `retire`.
        let leaves = view.node_of(other).is_some_and(|n| !view.wants(n));
        let taken = || Say::Hold(address_taken(name, &wanted.peer_url, other));
        return if leaves { Say::Pass } else { taken() };
    }
    if let Some(obstacle) = not_by_itself(view, name, node) {
        return Say::Hold(obstacle);
    }
    Say::Act(Step::AddLearner { node: name.clone(), peer_url: wanted.peer_url.clone() })
}

/// With remediation off a node that had a member gets a new one only if a person says so, or if
/// its replacement was begun before.
fn not_by_itself(view: &View<'_>, name: &NodeName, node: &NodeSeen) -> Option<Step> {
    let former = former(view.seen, node)?;
    let record = &view.seen.record;
    let was_begun = record.ledger.iter().any(|e| e.node == *name && e.member == former);
    // A wish that spoke of an earlier member was fulfilled long ago.
    let is_asked = record.requests.get(name).is_some_and(|r| r.member == Some(former));
    if view.wanted.remediation.enabled || is_asked || was_begun {
        return None;
    }
    Some(Step::Blocked {
        why: Obstacle {
            reason: "RemediationDisabled",
            what: format!(
                "{name} ran member {former}, which is in the list no more, and remediation is off"
            ),
            unblock: format!("look at {name}, then say: quorate replace {name}"),
        },
    })
}

pub(super) fn unknown(name: &NodeName, why: &str) -> Step {
    Step::Wait { what: Waiting::Unknown(format!("{name}: {why}")), since: None }
}

pub(super) fn foreign(name: &NodeName, what: &str) -> Step {
    Step::Blocked {
        why: Obstacle {
            reason: "ForeignData",
            what: format!("{name} holds {what}: it is left alone"),
            unblock: format!("move it out of the home of {name}; the rest then goes by itself"),
        },
    }
}

pub(super) fn address_taken(name: &NodeName, url: &str, other: &Member) -> Step {
    Step::Blocked {
        why: Obstacle {
            reason: "AddressTaken",
            what: format!("{name} is to be at {url}, which member {} has", other.id),
            unblock: "addresses cannot be swapped in one go: move one to a free address first"
                .to_owned(),
        },
    }
}
