//! What permits a member to be given up, and what does not (safety 9-12).

use super::step::{Obstacle, Step};
use super::view::{Data, View, stamped};
use crate::cluster::{
    Evidence, Exit, ExitKind, LedgerEntry, LedgerKind, Member, NodeName, NodeSeen, Observed,
    Process, Role, Timestamp, Wanted,
};

/// A second damaged log on another node within this long points to a bad binary, not to bad
/// disks.
const SAME_CAUSE_MS: u64 = 10 * 60 * 1000;
/// Ledger lines older than this do not count.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The evidence against each node's member in an observation, for people.
pub fn evidence_of(wanted: &Wanted, seen: &Observed) -> Vec<(NodeName, Evidence)> {
    let Some(list) = seen.members.known() else { return Vec::new() };
    let view = View::new(wanted, seen, list);
    view.placed().filter_map(|(m, name, _)| Some((name.clone(), evidence(&view, m)?))).collect()
}

/// All evidence against a member: what its node shows, a person's wish, silence past the delay.
pub(super) fn evidence(view: &View<'_>, member: &Member) -> Option<Evidence> {
    let node = view.seen_of(member)?;
    shown(view, member, node)
        .or_else(|| is_requested(view, member).then_some(Evidence::Requested))
        .or_else(|| is_silent(view, member, node).then_some(Evidence::Silent))
}

/// What the node itself shows, running or not.
pub(super) fn shown(view: &View<'_>, member: &Member, node: &NodeSeen) -> Option<Evidence> {
    match &node.process {
        // A restart would only make one healthy voter fewer: it is replaced while it serves.
        Process::Running { .. } => node.data_gone.then_some(Evidence::DataGone),
        Process::Stopped => of_stopped(view, member, node),
        Process::Preparing | Process::Unknown(_) => None,
    }
}

fn of_stopped(view: &View<'_>, member: &Member, node: &NodeSeen) -> Option<Evidence> {
    let exit = node.exit.as_ref().filter(|e| e.member == Some(member.id)).map(|e| e.kind);
    let has_run = has_run(view, member, node);
    match Data::of(view.seen, node) {
        // The engine may find damage that its IDs do not show. Every other report is older than
        // this look at the disk: the data has been put back since, or the list (which has the
        // member) knows better.
        Data::Holds(id) if id == member.id => {
            (exit == Some(ExitKind::DataDamaged)).then_some(Evidence::DataDamaged)
        }
        Data::Damaged(id) if id == member.id => Some(Evidence::DataDamaged),
        Data::Empty if has_run || exit == Some(ExitKind::DataLost) => Some(Evidence::DataLost),
        Data::Holds(id) | Data::Stale(id) | Data::Damaged(id) => {
            // Another living member's data is here, so its own may be there: a mix-up that only
            // a person can undo.
            (has_run && (id == member.id || !view.is_listed(id))).then_some(Evidence::StaleData)
        }
        Data::Empty | Data::Foreign(_) | Data::Unknown(_) => None,
    }
}

/// Whether the member's data has existed. A founding member bears its name in the list from the
/// beginning; one that was added has one only once it has run. A voter that a person added may
/// have run, and voted, before it could say so: its stamp tells, or the record of its start.
fn has_run(view: &View<'_>, member: &Member, node: &NodeSeen) -> bool {
    let was_seen_to = stamped(view.seen, node) == Some(member.id)
        || view.seen.record.adopted.contains(&member.id);
    member.is_started() || member.role == Role::Voter && was_seen_to
}

/// A person asked for this very member to be replaced.
pub(super) fn is_requested(view: &View<'_>, member: &Member) -> bool {
    let request = view.node_of(member).and_then(|n| view.seen.record.requests.get(n));
    request.is_some_and(|r| r.member == Some(member.id))
}

/// A voter that does not answer, or takes no part although the others do. A learner has its own,
/// longer delay (safety 18).
fn is_silent(view: &View<'_>, member: &Member, node: &NodeSeen) -> bool {
    member.role == Role::Voter
        && complaint(node).is_none()
        && silent_until(view, member, node).is_some_and(|until| view.seen.now >= until)
}

/// What keeps a running engine from ever serving, if it says so: its peers refuse it. Its surroundings
/// are at fault then, or its data, which only a person can tell: no evidence (safety 9).
pub(super) fn complaint(node: &NodeSeen) -> Option<&Exit> {
    let runs = matches!(node.process, Process::Running { .. });
    node.exit.as_ref().filter(|e| runs && e.kind == ExitKind::ClusterIdMismatch)
}

/// When a running voter that is not well counts as lost. Only the silence of the process that
/// runs now counts, not what came before its start.
pub(super) fn silent_until(view: &View<'_>, member: &Member, node: &NodeSeen) -> Option<Timestamp> {
    let runs = matches!(node.process, Process::Running { .. });
    let since = node.unhealthy_since.filter(|_| runs && !view.is_healthy(member))?;
    Some(Timestamp(since.max(node.process_since).0.saturating_add(delay(view.wanted))))
}

/// The remediation delay in milliseconds.
pub(super) fn delay(wanted: &Wanted) -> u64 {
    wanted.remediation.unhealthy_seconds.saturating_mul(1000)
}

/// What keeps a member from being replaced by itself, whatever the quorum; `None` if nothing
/// does, or if a person asked for it.
pub(super) fn objection(
    view: &View<'_>,
    node: &NodeName,
    member: &Member,
    evidence: Evidence,
) -> Option<Step> {
    if is_requested(view, member) {
        return None;
    }
    let blocked = |reason, what| {
        let unblock = format!("look at {node}, then say: quorate replace {node}");
        Some(Step::Blocked { why: Obstacle { reason, what, unblock } })
    };
    let limits = &view.wanted.remediation;
    if !limits.enabled {
        let what = format!("{node} needs a new member ({evidence}), and remediation is off");
        return blocked("RemediationDisabled", what);
    }
    let is_replacement = |what| matches!(what, LedgerKind::Replaced(_));
    let times = given_up(view, node, member, is_replacement);
    if times >= limits.max_replacements_per_day {
        let what =
            format!("{node} was replaced {times} times in a day and is lost again ({evidence})");
        return blocked("TooManyReplacements", what);
    }
    if let Some(other) = damage_elsewhere(view, node).filter(|_| evidence == Evidence::DataDamaged)
    {
        let what = format!(
            "the logs of {node} and {other} were damaged within 10 minutes of each other, which \
             looks like a bad binary rather than two bad disks"
        );
        return blocked("DamageTwice", what);
    }
    None
}

/// Another node whose log was found damaged a short while ago.
fn damage_elsewhere<'a>(view: &View<'a>, node: &NodeName) -> Option<&'a NodeName> {
    let found_at = |name: &NodeName| {
        let exit = view.seen.nodes.get(name)?.exit.as_ref()?;
        (exit.kind == ExitKind::DataDamaged).then_some(exit.at)
    };
    let here = found_at(node).unwrap_or(view.seen.now);
    let is_near = |at: Timestamp| here.since(at).max(at.since(here)) <= SAME_CAUSE_MS;
    let past = recent(view, node)
        .filter(|e| e.what == LedgerKind::Replaced(Evidence::DataDamaged) && is_near(e.at))
        .map(|e| &e.node);
    let present = view.placed().filter(|(m, name, seen)| {
        shown(view, m, seen) == Some(Evidence::DataDamaged)
            && is_near(found_at(name).unwrap_or(view.seen.now))
    });
    past.chain(present.map(|(_, name, _)| name)).find(|other| *other != node)
}

/// How many of this node's members were given up like that in the last day, the present one
/// aside (its line may be written before its removal succeeds), since a person last lifted the
/// limit.
pub(super) fn given_up(
    view: &View<'_>,
    node: &NodeName,
    member: &Member,
    counts: impl Fn(LedgerKind) -> bool,
) -> u64 {
    let own = |e: &&LedgerEntry| e.node == *node && e.member != member.id && counts(e.what);
    recent(view, node).filter(own).map(|_| 1).sum()
}

/// The ledger of the last day, from when a person last asked for `node` to be replaced.
fn recent<'a>(view: &View<'a>, node: &NodeName) -> impl Iterator<Item = &'a LedgerEntry> {
    let reset = view.seen.record.requests.get(node).map(|r| r.at);
    let now = view.seen.now;
    view.seen
        .record
        .ledger
        .iter()
        .filter(move |e| now.since(e.at) <= DAY_MS && reset.is_none_or(|reset| e.at >= reset))
}
