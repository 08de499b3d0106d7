//! The time before the first quorum has answered: founding is a record, not a guess (safety 1).

use std::collections::BTreeSet;

use super::evidence::delay;
use super::join::{foreign, unknown};
use super::outage;
use super::step::{Obstacle, Step, StopReason, Waiting};
use super::view::Data;
use crate::cluster::{
    ClusterId, Disk, Founding, FoundingId, NodeName, NodeSeen, Observed, Process, Wanted,
};

/// Once one founding node is lost, those at the barrier that already know all they need are
/// given this long to leave it before the founding is given up.
const LEAVING_MS: u64 = 3_000;

/// The next step while no member list is known and no cluster ID was ever latched.
pub(super) fn step(wanted: &Wanted, seen: &Observed, founding: Option<&Founding>) -> Step {
    if let Some(unknown) = unreadable(wanted, seen) {
        return unknown;
    }
    // Any trace of data says that a member may have run, and served: nothing is founded then.
    if seen.nodes.values().any(|node| has_trace(seen, node, founding)) {
        return disagreement(seen, founding)
            .or_else(|| take_part(wanted, seen, founding?))
            .unwrap_or_else(|| outage::step(wanted, seen));
    }
    if let Some(foreign) = seen.nodes.iter().find_map(|(name, n)| foreign_data(seen, name, n)) {
        return foreign;
    }
    match founding {
        Some(founding) => found(wanted, seen, founding),
        None => give_up(wanted, seen),
    }
}

/// What cannot be read may hold data, so nothing is concluded from it; what holds data is
/// started all the same.
fn unreadable(wanted: &Wanted, seen: &Observed) -> Option<Step> {
    let missing = wanted.nodes.keys().find(|name| !seen.nodes.contains_key(*name));
    let unread = || {
        seen.nodes.iter().find_map(|(name, node)| match (&node.process, &node.disk) {
            (Process::Unknown(why), _) | (_, Disk::Unknown(why)) => Some(unknown(name, why)),
            _ => None,
        })
    };
    let unknown = missing.map(|name| unknown(name, "it was not looked at")).or_else(unread)?;
    let (nodes, _) = super::restart::without_list(seen);
    Some(if nodes.is_empty() { unknown } else { Step::Start { nodes } })
}

/// Whether anything says that this node was ever past the barrier of this founding: an engine,
/// data, or a stamp, which is written before the engine's first start.
fn has_trace(seen: &Observed, node: &NodeSeen, founding: Option<&Founding>) -> bool {
    let is_of_this =
        |id: Option<FoundingId>| founding.is_none_or(|f| id.is_none_or(|own| own == f.id));
    matches!(node.process, Process::Running { .. })
        || Data::of(seen, node).owner().is_some()
        || node.stamp.as_ref().is_some_and(|stamp| is_of_this(stamp.founding))
}

/// Starts those that ended after they had agreed to found, and before their engines ran: the others
/// may have left the barrier on their word, and have no quorum without them. What holds data goes
/// first, as whoever left the barrier answers those that are still there.
fn take_part(wanted: &Wanted, seen: &Observed, founding: &Founding) -> Option<Step> {
    let (holders, _) = super::restart::without_list(seen);
    let may = |name: &&NodeName| {
        let node = seen.nodes.get(*name);
        wanted.nodes.contains_key(*name)
            && node.is_some_and(|node| {
                node.process == Process::Stopped
                    && node.promised == Some(founding.id)
                    && Data::of(seen, node) == Data::Empty
            })
    };
    let nodes: Vec<_> = founding.nodes.keys().filter(may).cloned().collect();
    let is_due = holders.is_empty() && !nodes.is_empty();
    is_due.then_some(Step::Found { nodes, founding: Some(founding.id) })
}

/// Without a record, homes that remember different clusters or foundings are not started
/// together: they would answer differently under the same IDs.
fn disagreement(seen: &Observed, founding: Option<&Founding>) -> Option<Step> {
    let held = |node: &NodeSeen| match &node.disk {
        Disk::Holds(id) => Some((id.cluster, id.founding)),
        _ => None,
    };
    let kinds: BTreeSet<(ClusterId, Option<FoundingId>)> =
        seen.nodes.values().filter_map(held).collect();
    if founding.is_some() || kinds.len() < 2 {
        return None;
    }
    let names: Vec<_> =
        seen.nodes.iter().filter(|(_, n)| held(n).is_some()).map(|(n, _)| n.to_string()).collect();
    Some(Step::Blocked {
        why: Obstacle {
            reason: "MixedHomes",
            what: format!("{} hold data of different clusters or foundings", names.join(", ")),
            unblock: "move the data that does not belong here out of its home".to_owned(),
        },
    })
}

fn foreign_data(seen: &Observed, name: &NodeName, node: &NodeSeen) -> Option<Step> {
    match Data::of(seen, node) {
        Data::Foreign(what) => Some(foreign(name, &what)),
        _ => None,
    }
}

/// No node holds data, and the record says who was started.
fn found(wanted: &Wanted, seen: &Observed, founding: &Founding) -> Step {
    let since = |name: &NodeName| {
        seen.nodes.get(name).filter(|n| n.process == Process::Preparing).map(|n| n.process_since)
    };
    let missing: Vec<_> =
        founding.nodes.keys().filter(|n| !founding.started.contains(*n)).cloned().collect();
    // Started and not there: it may have agreed to found, so it never may again.
    let lost: Vec<_> = founding.started.iter().filter(|n| since(n).is_none()).collect();
    let waiting = || {
        let what = Waiting::Starting(founding.nodes.keys().cloned().collect());
        Step::Wait { what, since: founding.started.iter().filter_map(since).min() }
    };
    if lost.is_empty() && missing.is_empty() {
        // All of them wait for all of them. The spec may have changed meanwhile: they found what
        // was recorded, and the cluster then becomes what is wanted, step by step.
        let youngest = founding.started.iter().filter_map(since).max();
        let is_stuck = youngest.is_none_or(|since| seen.now.since(since) >= delay(wanted));
        return if is_stuck { give_up(wanted, seen) } else { waiting() };
    }
    if lost.is_empty() && is_wanted(wanted, founding) {
        return Step::Found { nodes: missing, founding: Some(founding.id) };
    }
    let is_fresh = |name: &&NodeName| {
        let node = seen.nodes.get(*name);
        node.is_some_and(|n| seen.now.since(n.process_since) < LEAVING_MS)
    };
    let any_waits = founding.started.iter().any(|n| since(n).is_some());
    if missing.is_empty() && any_waits && lost.iter().any(is_fresh) {
        return waiting();
    }
    give_up(wanted, seen)
}

fn is_wanted(wanted: &Wanted, founding: &Founding) -> bool {
    founding.token == wanted.token
        && founding.nodes.len() == wanted.nodes.len()
        && wanted.nodes.iter().all(|(n, w)| founding.nodes.get(n) == Some(&w.peer_url))
}

/// Ends what waits at the barrier, then founds anew under a new founding.
fn give_up(wanted: &Wanted, seen: &Observed) -> Step {
    let at_barrier = seen.nodes.iter().find(|(_, n)| n.process != Process::Stopped);
    match at_barrier {
        Some((name, _)) => {
            Step::Stop { node: name.clone(), member: None, why: StopReason::Unfounded }
        }
        None => Step::Found { nodes: wanted.nodes.keys().cloned().collect(), founding: None },
    }
}
