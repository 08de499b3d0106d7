//! Gives up members that are of no more use: learners that lead nowhere, strangers, voters that
//! are dead; and, once all else is well, voters that still serve but must go.

use super::Say;
use super::evidence::{complaint, delay, evidence, given_up, objection, silent_until};
use super::join::unknown;
use super::step::{Obstacle, RemoveReason, Step, Waiting};
use super::view::{Data, View};
use crate::cluster::{
    Evidence, Exit, Health, LedgerKind, Member, NodeName, NodeSeen, Process, Role, Timestamp,
};

/// A learner that made no progress is tried anew this often before a person is asked.
const LEARNER_TRIES: u64 = 2;
/// A member nobody here knows may take this long to start before it is removed.
const FOREIGN_MS: u64 = 60_000;

/// Removes learners that are not wanted, have lost their data, or do not get on (safety 15, 18).
/// None of them votes, but each stands in the way of the next change.
pub(super) fn drop_learners(view: &View<'_>) -> Say {
    let learners = view.placed().filter(|(m, ..)| m.role == Role::Learner);
    Say::first(learners.map(|(m, name, node)| judge_learner(view, m, name, node)))
}

fn judge_learner(view: &View<'_>, member: &Member, name: &NodeName, node: &NodeSeen) -> Say {
    let remove = |why| Say::Act(Step::Remove { member: member.id, node: Some(name.clone()), why });
    if !view.wants(name) {
        return remove(RemoveReason::Unwanted);
    }
    if let Some(evidence) = evidence(view, member) {
        return match objection(view, name, member, evidence) {
            Some(obstacle) => Say::Hold(obstacle),
            None => remove(RemoveReason::Replace(evidence)),
        };
    }
    let timeout = view.wanted.remediation.learner_timeout_seconds.saturating_mul(1000);
    let since = match node.health {
        Health::Answers { caught_up: true, member: id, .. } if id == member.id => return Say::Pass,
        Health::Answers { progress_at, member: id, .. } if id == member.id => progress_at,
        Health::Answers { .. } | Health::NotAsked | Health::Silent => {
            node.unhealthy_since.unwrap_or(view.seen.now)
        }
    };
    if !view.is_past(since.max(view.first_seen(member)), timeout) {
        return Say::Pass;
    }
    if given_up(view, name, member, |what| what == LedgerKind::LearnerGaveUp) < LEARNER_TRIES {
        return remove(RemoveReason::NoProgress);
    }
    Say::Hold(Step::Blocked {
        why: Obstacle {
            reason: "LearnerStuck",
            what: format!(
                "the learner {} of {name} makes no progress, like {LEARNER_TRIES} before it",
                member.id
            ),
            unblock: format!("look at the log of {name}, then say: quorate replace {name}"),
        },
    })
}

/// Deals with members that are none of our nodes' (safety 19): one that never starts lowers what
/// the cluster can bear and goes; one that has started may be somebody's, and stays.
pub(super) fn remove_strangers(view: &View<'_>) -> Say {
    let strangers = view.members().filter(|m| view.node_of(m).is_none());
    Say::first(strangers.map(|m| judge_stranger(view, m)))
}

fn judge_stranger(view: &View<'_>, member: &Member) -> Say {
    if member.is_started() {
        return Say::Hold(Step::Blocked {
            why: Obstacle {
                reason: "ForeignMember",
                what: format!(
                    "member {} ({}) is in the list and runs on none of this cluster's nodes",
                    member.id, member.name
                ),
                unblock: format!(
                    "add its node to the spec, or remove it: etcdctl member remove {}",
                    member.id
                ),
            },
        });
    }
    let since = view.first_seen(member);
    if !view.is_past(since, FOREIGN_MS) {
        let what = Waiting::ForeignMember(member.id);
        return Say::Hold(Step::Wait { what, since: Some(since) });
    }
    if !view.can_remove(member) {
        return Say::Hold(too_few(view, member));
    }
    Say::Act(Step::Remove { member: member.id, node: None, why: RemoveReason::ForeignUnstarted })
}

/// Removes a voter that serves no more and cannot be brought back, while the others hold a
/// quorum without it. All of them go before anything joins: etcd adds nothing while a voter is
/// down (safety 15, 16).
pub(super) fn remove_dead(view: &View<'_>) -> Say {
    let mut dead: Vec<_> =
        view.placed().filter(|(m, ..)| m.role == Role::Voter && !view.is_healthy(m)).collect();
    // What nobody wants needs no successor.
    dead.sort_by_key(|(_, name, _)| (view.wants(name), *name));
    let says = dead.into_iter().map(|(m, name, node)| judge_dead(view, m, name, node));
    match Say::first(says) {
        Say::Pass => dwell(view),
        say => say,
    }
}

fn judge_dead(view: &View<'_>, member: &Member, name: &NodeName, node: &NodeSeen) -> Say {
    // It may be well, and even lead; then it must not go without handing over first.
    if let Process::Unknown(why) = &node.process {
        return Say::Hold(unknown(name, why));
    }
    let found = evidence(view, member);
    let why = match found {
        _ if !view.wants(name) => {
            if found.is_none() && node.process != Process::Stopped {
                return Say::Pass;
            }
            RemoveReason::Unwanted
        }
        Some(evidence) => RemoveReason::Replace(evidence),
        None => return complaint(node).map_or(Say::Pass, |it| Say::Hold(refused(name, it))),
    };
    if let RemoveReason::Replace(evidence) = why {
        if view.voters().count() == 1 {
            return Say::Hold(only_voter(name, evidence));
        }
        if let Some(obstacle) = objection(view, name, member, evidence) {
            return Say::Hold(obstacle);
        }
    }
    if !view.can_remove(member) {
        return Say::Hold(too_few(view, member));
    }
    Say::Act(Step::Remove { member: member.id, node: Some(name.clone()), why })
}

/// An engine that its peers refuse goes on running and never becomes ready.
fn refused(name: &NodeName, complaint: &Exit) -> Step {
    Step::Blocked {
        why: Obstacle {
            reason: "ClusterIdMismatch",
            what: format!("{name} runs and takes no part: {}", complaint.detail),
            unblock: format!(
                "look at whose data {name} has; to give it a new member, say: quorate replace {name}"
            ),
        },
    }
}

/// Replaces a voter that still serves: a person asked for it, or its data dir is deleted under
/// it (safety 10). Only while nothing else is under way, one at a time.
pub(super) fn replace_serving(view: &View<'_>) -> Say {
    let serving = view
        .placed()
        .filter(|(m, name, _)| m.role == Role::Voter && view.wants(name) && view.is_healthy(m));
    // The leader last: whoever takes over from it had better stay.
    let mut serving: Vec<_> = serving.collect();
    serving.sort_by_key(|(m, name, _)| (view.is_leader(m), *name));
    Say::first(serving.into_iter().map(|(m, name, _)| judge_serving(view, m, name)))
}

fn judge_serving(view: &View<'_>, member: &Member, name: &NodeName) -> Say {
    let Some(evidence) = evidence(view, member) else { return Say::Pass };
    if view.voters().count() == 1 {
        return Say::Hold(only_voter(name, evidence));
    }
    if let Some(obstacle) = objection(view, name, member, evidence) {
        return Say::Hold(obstacle);
    }
    if !view.is_complete() || !view.others_are_well(member) || !view.can_remove(member) {
        return Say::Hold(too_few(view, member));
    }
    if view.is_leader(member) {
        return view.move_leader(member).map_or_else(|| Say::Hold(too_few(view, member)), Say::Act);
    }
    let why = RemoveReason::Replace(evidence);
    Say::Act(Step::Remove { member: member.id, node: Some(name.clone()), why })
}

fn only_voter(name: &NodeName, evidence: Evidence) -> Step {
    let (reason, what, unblock) = if evidence == Evidence::Requested {
        (
            "OnlyVoter",
            format!("{name} runs the only voter, so its data is the only copy: not replaced"),
            "scale to 3 nodes first".to_owned(),
        )
    } else {
        (
            "RecoveryRequired",
            format!("{name} runs the only voter, and it is lost ({evidence})"),
            "if it still serves, save it now: etcdctl snapshot save; then restore it into a new \
             cluster"
                .to_owned(),
        )
    };
    Step::Blocked { why: Obstacle { reason, what, unblock } }
}

/// A member can only go, or be stopped, while the others are well enough. They may become so;
/// those that have been ailing for longer than the remediation delay will not by themselves.
pub(super) fn too_few(view: &View<'_>, member: &Member) -> Step {
    let others = || view.voters().filter(|m| m.id != member.id);
    let title = |m: &Member| view.node_of(m).map_or_else(|| m.id.to_string(), ToString::to_string);
    let ailing: Vec<_> = others().filter(|m| !view.is_healthy(m)).collect();
    let has_hope = |m: &&Member| {
        let Some(node) = view.seen_of(m).filter(|_| evidence(view, m).is_none()) else {
            return false;
        };
        match (&node.process, Data::of(view.seen, node)) {
            (Process::Stopped, Data::Foreign(_)) => false,
            (Process::Stopped, _) => true,
            _ => {
                let since = node.unhealthy_since.unwrap_or(node.process_since);
                !view.is_past(since.max(node.process_since), delay(view.wanted))
            }
        }
    };
    let names: Vec<_> = ailing.iter().map(|m| title(m)).collect();
    let text = format!(
        "{} can only go while the others hold a quorum and nothing else is under way; {} of {} \
         are well",
        title(member),
        others().count() - ailing.len(),
        others().count()
    );
    if ailing.is_empty() || ailing.iter().any(has_hope) {
        return Step::Wait { what: Waiting::HealthyVoters(text), since: None };
    }
    Step::Blocked {
        why: Obstacle {
            reason: "TooFewHealthy",
            what: text,
            unblock: format!(
                "bring {} back: look at the log, end what hangs (kill -9), start what is not ours",
                names.join(", ")
            ),
        },
    }
}

/// The silent node whose time is up next; one whose time is up has been judged already.
fn dwell(view: &View<'_>) -> Say {
    let silent = view
        .placed()
        .filter(|(m, ..)| m.role == Role::Voter)
        .filter_map(|(m, name, n)| Some((silent_until(view, m, n)?, name)));
    silent.min().map_or(Say::Pass, |(until, node)| {
        let since = Some(Timestamp(until.0.saturating_sub(delay(view.wanted))));
        Say::Hold(Step::Wait { what: Waiting::Dwell { node: node.clone(), until }, since })
    })
}
