//! Walks every state a small cluster can reach under the planner and a bounded number of faults,
//! and checks that each step is safe and that every road ends.

#![allow(
    clippy::needless_for_each,
    clippy::single_match_else,
    clippy::struct_excessive_bools,
    reason = "a model is small, dense and all flags"
)]

mod acts;
mod faults;
mod walk;
mod words;
mod world;

use acts::Act;
use walk::Walk;
use world::{Kind, Node, World};

/// What our own act must never do (safety 14 and the promise behind it).
pub(crate) fn check(before: &World, after: &World, act: &Act) {
    let is_roll_of_one = before.voters() == 1 && act.kind == Kind::Stop;
    assert!(
        !before.has_quorum() || after.has_quorum() || is_roll_of_one,
        "safety 14: {act:?} cost the quorum\n{before}"
    );
    assert!(
        !before.acked || before.may_forget() || !after.may_forget() || act.kind == Kind::FoundAnew,
        "{act:?} endangered what was acknowledged\n{before}\n{after}"
    );
    let takes = matches!(act.kind, Kind::Stop | Kind::StopByForce | Kind::Remove);
    let from = |i: usize| takes && act.parts[i].is_some();
    let serves_clients = |n: &&Node| before.answers(n);
    let others = before.nodes().iter().enumerate().filter(|(i, _)| !from(*i)).map(|(_, n)| n);
    let leads = |n: &Node| n.entry.is_some_and(|e| e.leads) && before.answers(n);
    let taken = before.nodes().iter().enumerate().filter(|(i, n)| from(*i) && leads(n)).count();
    assert!(
        taken == 0 || others.filter(serves_clients).count() == 0,
        "safety 15: {act:?} takes a leader that could have handed over first\n{before}"
    );
}

/// What must not even be planned, though a fence would refuse it: a founding where one may have
/// come to something (safety 1).
pub(crate) fn check_plan(w: &World, act: &Act) {
    let is_clean = |n: &&Node| {
        n.data == world::Data::Empty
            && n.stamp.is_none()
            && !matches!(n.proc, world::Proc::Running { .. })
    };
    assert!(
        act.kind != Kind::FoundAnew
            || w.latched != Some(true)
                && w.nodes().iter().filter(is_clean).count() == w.nodes().len(),
        "safety 1: a second founding is planned\n{w}"
    );
}

/// Whatever happens, a quorum that forms knows what was acknowledged.
pub(crate) fn check_memory(before: &World, after: &World) {
    assert!(
        !before.acked || before.has_quorum() || !after.has_quorum() || !before.may_forget(),
        "a quorum came back that may not know what was acknowledged\n{before}\n{after}"
    );
}

/// The steps that take something away: an executor plans them again on a fresh observation just
/// before it acts, and refuses them if that gives another step.
pub(crate) fn needs_second_look(kind: Kind) -> bool {
    match kind {
        Kind::FoundMore | Kind::Start | Kind::MoveLeader | Kind::AddLearner => false,
        Kind::FoundAnew
        | Kind::Stop
        | Kind::StopUnfounded
        | Kind::StopByForce
        | Kind::Remove
        | Kind::RemoveStranger
        | Kind::Promote
        | Kind::UpdateUrl
        | Kind::Forget => true,
    }
}

/// `make torture` goes one fault further; mutation testing makes do with fewer.
fn faults(usual: usize) -> usize {
    match std::env::var("QUORATE_WALK").as_deref() {
        Ok("deep") => usual + 1,
        Ok("short") => usual.saturating_sub(1).max(1),
        _ => usual,
    }
}

fn walk(wanted: usize, spare: usize, usual: usize) {
    Walk::run(World::new(wanted, spare), faults(usual));
}

#[test]
fn one_node_is_safe_and_comes_to_rest() {
    walk(1, 1, 3);
}

#[test]
fn two_nodes_are_safe_and_come_to_rest() {
    walk(2, 0, 3);
}

#[test]
fn three_nodes_are_safe_and_come_to_rest() {
    walk(3, 0, 3);
}

#[test]
fn three_nodes_and_one_to_spare_are_safe_and_come_to_rest() {
    walk(3, 1, 2);
}

#[test]
fn four_nodes_are_safe_and_come_to_rest() {
    walk(4, 0, 2);
}

#[test]
fn five_nodes_are_safe_and_come_to_rest() {
    walk(5, 0, 2);
}
