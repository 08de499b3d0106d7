//! Starts what is stopped and holds its own member's data, and ends a start that got stuck.

use super::Say;
use super::evidence::{delay, is_requested, shown};
use super::roll;
use super::step::{Obstacle, StartNode, Step, StopReason, Waiting};
use super::view::{Data, View};
use crate::cluster::{Exit, ExitKind, MemberId, NodeName, NodeSeen, Observed, Process, Role};

/// A node whose start failed for a reason that its surroundings must mend is tried again after
/// this long.
const RETRY_MS: u64 = 5_000;
/// The same where only a person can mend it; a changed configuration is tried at once.
const LONG_RETRY_MS: u64 = 60_000;

/// With a list: the stopped nodes of its members, all in one step, unless there is evidence
/// against them. A dead voter that is not wanted, or that a person wants replaced, is removed
/// instead, if the others can do without it.
pub(super) fn restart(view: &View<'_>) -> Say {
    let mut nodes = Vec::new();
    let mut hold = None;
    for (member, name, node) in view.placed() {
        let holds = Data::of(view.seen, node) == Data::Holds(member.id);
        if node.process != Process::Stopped || !holds || shown(view, member, node).is_some() {
            continue;
        }
        let is_surplus = !view.wants(name) || is_requested(view, member);
        if is_surplus && member.role == Role::Voter && view.can_remove(member) {
            continue;
        }
        if let Some(say) = roll::correct_stopped(view, member, name) {
            match say {
                Say::Act(_) => return say,
                Say::Hold(step) => hold = hold.or(Some(step)),
                Say::Pass => {}
            }
            continue;
        }
        match held_back(view.seen, name, node, member.id) {
            Some(step) => hold = hold.or(Some(step)),
            None => nodes.push(StartNode { node: name.clone(), member: member.id, replaces: None }),
        }
    }
    match hold {
        _ if !nodes.is_empty() => Say::Act(Step::Start { nodes }),
        Some(step) => Say::Hold(step),
        None => Say::Pass,
    }
}

/// A member's node that prepares, and has not got on for longer than the remediation delay, is stuck
/// (frozen, or waiting for something that does not come); one that reads much data gets on. Its
/// engine does not run yet, so it is no loss to end it; [`restart`] starts it again.
pub(super) fn unstick(view: &View<'_>) -> Say {
    let stuck = view.placed().find(|(m, _, node)| {
        node.process == Process::Preparing
            && view.is_past(node.process_since, delay(view.wanted))
            && view.can_stop(m)
    });
    stuck.map_or(Say::Pass, |(_, name, _)| {
        Say::Act(Step::Stop { node: name.clone(), member: None, why: StopReason::Silent })
    })
}

/// Without a list: every stopped node that holds data of this cluster, whatever any list once
/// said (safety 3), and why the others are not started. Not those whose last start learned that the
/// member is gone for good: another would only find the same. One that found the log damaged is
/// given time: the binary may have been at fault, and a person may have put the former one back.
pub(super) fn without_list(seen: &Observed) -> (Vec<StartNode>, Option<Step>) {
    let mut nodes = Vec::new();
    let mut hold = None;
    for (name, node) in &seen.nodes {
        let Data::Holds(member) = Data::of(seen, node) else { continue };
        let is_useless = ended(node, member, ExitKind::Removed)
            || ended(node, member, ExitKind::DataDamaged) && !is_due(seen, node, LONG_RETRY_MS);
        if node.process != Process::Stopped || is_useless {
            continue;
        }
        match held_back(seen, name, node, member) {
            Some(step) => hold = hold.or(Some(step)),
            None => nodes.push(StartNode { node: name.clone(), member, replaces: None }),
        }
    }
    (nodes, hold)
}

/// How the node's last process as this member ended.
pub(super) fn ended(node: &NodeSeen, member: MemberId, kind: ExitKind) -> bool {
    node.exit.as_ref().is_some_and(|e| e.kind == kind && e.member == Some(member))
}

/// Whether a node that ended is tried again: a changed configuration may be the cure, and so may
/// time.
fn is_due(seen: &Observed, node: &NodeSeen, pause: u64) -> bool {
    node.outdated || node.exit.as_ref().is_none_or(|exit| seen.now.since(exit.at) >= pause)
}

/// Why a stopped node is not started as `member` right now, judged by how it last ended. How an
/// earlier member's process ended says nothing about this one.
pub(super) fn held_back(
    seen: &Observed,
    name: &NodeName,
    node: &NodeSeen,
    member: MemberId,
) -> Option<Step> {
    let exit = node.exit.as_ref().filter(|e| e.member.is_none_or(|m| m == member))?;
    let for_person = match exit.kind {
        ExitKind::Clean | ExitKind::Killed => return None,
        ExitKind::BadConfig | ExitKind::ClusterIdMismatch | ExitKind::NameNotInCluster => true,
        // What was found of the data is not what the disk shows now, or there would be evidence,
        // or an obstacle; and `Removed` is contradicted by whoever asks for the start.
        ExitKind::Foreign
        | ExitKind::Removed
        | ExitKind::StaleData
        | ExitKind::DataLost
        | ExitKind::DataGone
        | ExitKind::DataDamaged
        | ExitKind::AlreadyBootstrapped
        | ExitKind::MemberCountUnequal
        | ExitKind::NoPeers
        | ExitKind::AddressInUse
        | ExitKind::DiskFull
        | ExitKind::Locked
        | ExitKind::Unknown => false,
    };
    if is_due(seen, node, if for_person { LONG_RETRY_MS } else { RETRY_MS }) {
        return None;
    }
    Some(if for_person {
        blocked(name, exit)
    } else {
        let detail = format!("{}: {}", exit.kind, exit.detail);
        Step::Wait { what: Waiting::Retry { node: name.clone(), detail }, since: Some(exit.at) }
    })
}

fn blocked(name: &NodeName, exit: &Exit) -> Step {
    let unblock = match exit.kind {
        ExitKind::BadConfig => "correct the spec; the node is started again at once".to_owned(),
        _ => format!("look at the log of {name}; it is tried again every minute"),
    };
    Step::Blocked {
        why: Obstacle {
            reason: "StartRefused",
            what: format!("{name} does not start ({}): {}", exit.kind, exit.detail),
            unblock,
        },
    }
}
