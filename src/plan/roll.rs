//! Changes members that stay: restarts with a changed configuration or under a new supervisor,
//! and addresses. One at a time, the leader last.

use super::Say;
use super::join::address_taken;
use super::repair::too_few;
use super::step::{Obstacle, Step, StopReason};
use super::view::View;
use crate::cluster::{Member, NodeName, NodeSeen, Process, Role};

/// Restarts one voter whose configuration has changed, or that lost its supervisor. One whose
/// address has changed is restarted only once the cluster knows the new one (safety 20); that is
/// [`move_address`], which comes after this, so that the last move is over before the next.
pub(super) fn roll(view: &View<'_>) -> Say {
    let due = candidates(view).filter(|(m, name, node)| {
        view.wants(name) && !node.data_gone && needs_restart(node) && is_at_home(view, m)
    });
    next(view, due, |member, name| {
        let why = StopReason::Restart;
        Step::Stop { node: name.clone(), member: Some(member.id), why }
    })
}

/// Tells the cluster of one voter's new peer URL; [`roll`] then restarts it there.
pub(super) fn move_address(view: &View<'_>) -> Say {
    let mut clash = None;
    let due: Vec<_> = candidates(view)
        .filter(|(m, name, node)| {
            let Some(url) = home(view, m).filter(|_| !is_at_home(view, m)) else { return false };
            // No restart may follow where the data is gone, so only the list may be wrong.
            if node.data_gone && node.peer_url.as_ref() != Some(url) {
                return false;
            }
            let other = view.holder_of(url, Some(m.id));
            // Another may move on first and leave its address free.
            if let Some(other) = other {
                clash.get_or_insert(Say::Hold(address_taken(name, url, other)));
            }
            other.is_none()
        })
        .collect();
    let free = next(view, due.into_iter(), |member, name| update(view, member, name));
    match free {
        Say::Pass => clash.unwrap_or(Say::Pass),
        say => say,
    }
}

/// A learner whose address has changed, or that was started otherwise than is wanted now, is
/// seen to at once: it has no vote that a restart could cost.
pub(super) fn correct_learner(view: &View<'_>) -> Say {
    let learners = view.placed().filter(|(m, name, _)| m.role == Role::Learner && view.wants(name));
    Say::first(learners.map(|(member, name, node)| {
        if let Some(say) = correct_stopped(view, member, name) {
            return say;
        }
        if !node.outdated || !matches!(node.process, Process::Running { .. }) {
            return Say::Pass;
        }
        let why = StopReason::Restart;
        Say::Act(Step::Stop { node: name.clone(), member: Some(member.id), why })
    }))
}

/// Whoever takes no part yet, or is about to be started at its new address, can be moved in the
/// list at once; `None` if it is there already.
pub(super) fn correct_stopped(view: &View<'_>, member: &Member, name: &NodeName) -> Option<Say> {
    let url = home(view, member).filter(|_| !is_at_home(view, member))?;
    Some(match view.holder_of(url, Some(member.id)) {
        Some(other) => Say::Hold(address_taken(name, url, other)),
        None => Say::Act(update(view, member, name)),
    })
}

fn update(view: &View<'_>, member: &Member, name: &NodeName) -> Step {
    let peer_urls = home(view, member).cloned().into_iter().collect();
    Step::UpdatePeerUrls { member: member.id, node: name.clone(), peer_urls }
}

/// Voters that run.
fn candidates<'a>(
    view: &View<'a>,
) -> impl Iterator<Item = (&'a Member, &'a NodeName, &'a NodeSeen)> {
    view.placed().filter(|(m, _, node)| {
        m.role == Role::Voter && matches!(node.process, Process::Running { .. })
    })
}

/// Takes the first of those that are due, if it can be spared: what serves nothing comes first,
/// the leader last, and only once somebody else leads.
fn next<'a>(
    view: &View<'a>,
    due: impl Iterator<Item = (&'a Member, &'a NodeName, &'a NodeSeen)>,
    step: impl Fn(&Member, &NodeName) -> Step,
) -> Say {
    let first = due.min_by_key(|(m, name, _)| (view.is_leader(m), view.is_healthy(m), *name));
    let Some((member, name, _)) = first else { return Say::Pass };
    // Safety 14: the only exception is a cluster of one, which cannot be had without a pause.
    let is_only = view.voters().count() == 1;
    // A learner waits for nothing but a voter that is not well, and a move that was begun before
    // it came has to be finished.
    let disturbs = view.has_learner() && view.is_healthy(member);
    if disturbs || !view.others_are_well(member) || !is_only && !view.can_stop(member) {
        return Say::Hold(cannot_spare(view, member, name));
    }
    if view.is_leader(member) && !is_only {
        return view.move_leader(member).map_or_else(|| Say::Hold(too_few(view, member)), Say::Act);
    }
    Say::Act(step(member, name))
}

/// Two voters, both well, can never spare one; that takes a person.
fn cannot_spare(view: &View<'_>, member: &Member, name: &NodeName) -> Step {
    if (view.voters().count(), view.healthy_without(member)) != (2, 1) {
        return too_few(view, member);
    }
    Step::Blocked {
        why: Obstacle {
            reason: "TooFewVoters",
            what: format!("{name} is to be restarted, and a cluster of two cannot spare one"),
            unblock: "scale to 3 nodes".to_owned(),
        },
    }
}

/// Where a member is to be: where the spec says, or where its node runs if the spec no longer
/// says anything about it (it may have been about to move).
fn home<'a>(view: &View<'a>, member: &Member) -> Option<&'a String> {
    let wanted = view.wanted_of(member).map(|w| &w.peer_url);
    wanted.or_else(|| view.seen_of(member)?.peer_url.as_ref())
}

/// The list has the member where it is to be.
fn is_at_home(view: &View<'_>, member: &Member) -> bool {
    home(view, member).is_none_or(|url| member.peer_urls.iter().eq([url]))
}

fn needs_restart(node: &NodeSeen) -> bool {
    match node.process {
        Process::Running { supervised } => node.outdated || !supervised,
        Process::Stopped | Process::Preparing | Process::Unknown(_) => false,
    }
}
