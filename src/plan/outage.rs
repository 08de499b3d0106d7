//! No quorum answers: everything that holds data is started, all at once, and nothing is
//! removed, set aside or founded (safety 3, 5). No engine is stopped either, however silent:
//! without a list the silence may be ours, and the engine one that a quorum needs.

use super::evidence::delay;
use super::restart::{ended, without_list};
use super::step::{Obstacle, Step, StopReason, Waiting};
use super::view::{Data, stamped};
use crate::cluster::{
    Answer, ExitKind, Founding, Health, NodeName, NodeSeen, Observed, Process, Role, Timestamp,
    Wanted, quorum,
};

/// How long a loss is looked at before it is told, in milliseconds: time to hear that a data dir
/// was put back.
const LOSS_TOLD_AFTER_MS: u64 = 10_000;

/// The next step while no quorum answers.
pub(super) fn step(wanted: &Wanted, seen: &Observed) -> Step {
    if let Some(moved) = majority_moved(wanted, seen) {
        return moved;
    }
    let (nodes, hold) = without_list(seen);
    if !nodes.is_empty() {
        return Step::Start { nodes };
    }
    if let Some(stuck) = stuck_start(wanted, seen) {
        return stuck;
    }
    if let Answer::Refused(why) = &seen.members {
        return blocked(
            "ReadRefused",
            format!("the members answer, and refuse to be asked: {why}"),
            "let quorate read: give it a user, or turn auth off".to_owned(),
        );
    }
    hold.unwrap_or_else(|| lost_quorum(wanted, seen))
}

/// A start from data that has not got on for longer than the remediation delay hangs. Its
/// engine does not run, so no quorum can need it; it is ended and started again.
fn stuck_start(wanted: &Wanted, seen: &Observed) -> Option<Step> {
    let (node, _) = seen.nodes.iter().find(|(_, n)| {
        n.process == Process::Preparing
            && matches!(Data::of(seen, n), Data::Holds(_))
            && seen.now.since(n.process_since) >= delay(wanted)
    })?;
    Some(Step::Stop { node: node.clone(), member: None, why: StopReason::Silent })
}

fn blocked(reason: &'static str, what: String, unblock: String) -> Step {
    Step::Blocked { why: Obstacle { reason, what, unblock } }
}

/// Members find each other at the addresses their logs hold. If most of them would start
/// elsewhere, no quorum can ever meet to learn of it (safety 20).
fn majority_moved(wanted: &Wanted, seen: &Observed) -> Option<Step> {
    let is_founding = seen.record.founding.as_ref().is_some_and(|f| f.cluster.is_none());
    let holders: Vec<_> = seen
        .nodes
        .iter()
        .filter(|(_, n)| match n.process {
            Process::Running { .. } => true,
            Process::Preparing if is_founding => true,
            _ => matches!(Data::of(seen, n), Data::Holds(_)),
        })
        .collect();
    let has_moved = |(name, node): &&(&NodeName, &NodeSeen)| {
        let wanted = wanted.nodes.get(*name).map(|w| &w.peer_url);
        let last = node.peer_url.as_ref();
        node.process == Process::Stopped && wanted.is_some() && last.is_some() && last != wanted
    };
    let moved: Vec<_> = holders.iter().filter(has_moved).map(|(n, _)| n.to_string()).collect();
    let all = holders.len();
    if all < 2 || moved.is_empty() || all - moved.len() >= quorum(all) {
        return None;
    }
    Some(blocked(
        "MajorityMoved",
        format!("{} would start at new addresses, where the others do not look", moved.join(", ")),
        "put the old addresses back, start, then change one at a time".to_owned(),
    ))
}

/// Says what is known of every node, and what would help.
fn lost_quorum(wanted: &Wanted, seen: &Observed) -> Step {
    let founding = seen.record.founding.as_ref();
    let known: Vec<_> =
        seen.nodes.iter().filter(|(name, n)| had_part(seen, founding, name, n)).collect();
    let list = |keep: &dyn Fn(&NodeSeen) -> bool| {
        let found = known.iter().filter(|(_, n)| keep(n)).map(|(name, n)| describe(seen, name, n));
        let names: Vec<_> = found.collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let has_hope = |n: &NodeSeen| has_hope(seen, n);
    let hope = known.iter().filter(|(_, n)| has_hope(n)).count();
    let voters = known.iter().filter(|(_, n)| !was_removed(seen, n)).count();
    let heard = match &seen.members {
        Answer::Unknown(why) | Answer::Refused(why) => why.as_str(),
        Answer::Known(_) => "",
    };
    let facts = format!("left: {}; lost: {}", list(&has_hope), list(&|n: &NodeSeen| !has_hope(n)));
    let follows = |n: &NodeSeen| matches!(n.health, Health::Answers { has_leader: true, .. });
    // Learners vouch for nothing.
    let votes = |n: &NodeSeen| matches!(n.health, Health::Answers { role: Role::Voter, .. });
    if known.iter().filter(|(_, n)| follows(n) && votes(n)).count() >= quorum(voters) {
        let what = Waiting::Unknown(format!("the member list: {heard}"));
        return Step::Wait { what, since: None };
    }
    let silent = known.iter().filter(|(_, n)| n.health == Health::Silent);
    let silent: Vec<_> = silent.map(|(name, _)| name.to_string()).collect();
    // One that hangs may be all that is missing: nobody knows how many vote.
    let is_lost = silent.is_empty() && hope < quorum(voters);
    // A process that was started a moment ago may yet be heard; of a loss that no process can make
    // good a person hears soon, however long others are waited for.
    let patience = if is_lost { delay(wanted).min(LOSS_TOLD_AFTER_MS) } else { delay(wanted) };
    let is_young = |n: &NodeSeen| {
        n.process != Process::Stopped && !follows(n) && seen.now.since(n.process_since) < patience
    };
    let young = known.iter().filter(|(_, n)| is_young(n)).map(|(_, n)| n.process_since);
    let young: Option<Timestamp> = young.max();
    if young.is_some() {
        let what = Waiting::Quorum(format!("{heard}; {facts}"));
        return Step::Wait { what, since: young };
    }
    if is_lost {
        return blocked(
            "RecoveryRequired",
            format!("the quorum is lost, and what is left stays as it is; {facts}"),
            "bring a lost data dir back (quorate aside list NODE); if data is damaged, put back the \
             version of quorate that ran last: it is looked at again every minute; or restore a \
             snapshot into a new cluster"
                .to_owned(),
        );
    }
    let unblock = if silent.is_empty() {
        "look at the logs of those that are left; if an address was changed, put the old one back"
            .to_owned()
    } else {
        format!(
            "end the processes of {} if they hang (kill -9): they are started again from their \
             data",
            silent.join(", ")
        )
    };
    blocked("QuorumLost", format!("no quorum answers ({heard}); {facts}"), unblock)
}

/// Without a list nobody knows who votes. Whoever ever ran, or was to found, may.
fn had_part(
    seen: &Observed,
    founding: Option<&Founding>,
    name: &NodeName,
    node: &NodeSeen,
) -> bool {
    let was_to_found = founding.is_some_and(|f| f.cluster.is_none() && f.started.contains(name));
    node.process != Process::Stopped
        || Data::of(seen, node) != Data::Empty
        || stamped(seen, node).is_some()
        || node.peer_url.is_some()
        || was_to_found
}

/// A quorum told it so when it last tried to start.
fn was_removed(seen: &Observed, node: &NodeSeen) -> bool {
    Data::of(seen, node).owner().is_some_and(|id| ended(node, id, ExitKind::Removed))
}

/// It may yet take part with what it has.
fn has_hope(seen: &Observed, node: &NodeSeen) -> bool {
    match Data::of(seen, node) {
        _ if node.process != Process::Stopped => !node.data_gone,
        Data::Holds(id) => {
            !ended(node, id, ExitKind::DataDamaged) && !ended(node, id, ExitKind::Removed)
        }
        Data::Unknown(_) => true,
        Data::Empty | Data::Stale(_) | Data::Damaged(_) | Data::Foreign(_) => false,
    }
}

fn describe(seen: &Observed, name: &NodeName, node: &NodeSeen) -> String {
    let what = match (&node.process, Data::of(seen, node)) {
        (Process::Running { .. }, _) if node.data_gone => "runs, its data dir deleted",
        (Process::Running { .. }, _) => match node.health {
            Health::Silent => "runs and does not answer",
            Health::Answers { has_leader: true, .. } => "answers and has a leader",
            Health::Answers { .. } => "answers and has no leader",
            Health::NotAsked => "runs",
        },
        (Process::Preparing, _) => "prepares",
        (_, Data::Unknown(_)) => "cannot be read",
        (_, Data::Empty) => "has no data",
        (_, Data::Holds(id)) if ended(node, id, ExitKind::DataDamaged) => "has damaged data",
        (_, Data::Holds(_)) if was_removed(seen, node) => "was removed from the list",
        (_, Data::Holds(_)) => "holds data",
        (_, Data::Stale(_)) => "holds a former member's data",
        (_, Data::Damaged(_)) => "has damaged data",
        (_, Data::Foreign(_)) => "holds data that is not ours",
    };
    format!("{name} {what}")
}
