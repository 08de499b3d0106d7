//! Rounds: while eight clients write, nodes are killed or lose their power at random moments, and
//! come again. Nothing that was acknowledged may be missing on any of them afterwards.

use crate::load::Load;
use crate::nodes::{Node, Nodes, files};
use crate::support::chance::Chance;
use crate::support::power::Power;
use crate::support::undo::{Loss, Taken};
use crate::support::wait::now;

#[test]
fn three_rounds_of_kill_9_lose_nothing_that_was_acknowledged() {
    play(Nodes::of(3).with_short_logs(), 3, seed(4));
}

#[test]
fn three_rounds_without_power_lose_nothing_that_was_acknowledged() {
    let Some(power) = Power::new() else { return };
    play(Nodes::of(3).with_short_logs().under(power), 3, seed(7));
}

/// The instrument itself: if it missed how nodes write, the rounds above would prove nothing.
#[test]
fn of_what_is_written_without_a_sync_nothing_is_left() {
    let Some(power) = Power::new() else { return };
    let nodes = Nodes::of(3).with_short_logs().under(power.deaf()).run();
    let load = Load::start(&nodes.endpoints(), 8);
    load.goes_on(1000, &nodes.all);
    for node in &nodes.all {
        node.kill_9();
        assert!(!files(&node.data()).is_empty());
        Nodes::loses_power(node, Loss::All);
        assert_eq!(files(&node.home), Vec::<std::path::PathBuf>::new(), "{}", node.name);
    }
}

#[test]
#[ignore = "takes minutes; QUORATE_ROUNDS sets how many, 25 by default"]
fn torture_rounds_of_kill_9_lose_nothing_that_was_acknowledged() {
    play(Nodes::of(3).with_short_logs(), rounds(), seed(u64::from(std::process::id())));
}

#[test]
#[ignore = "takes minutes; QUORATE_ROUNDS sets how many, 25 by default"]
fn torture_rounds_without_power_lose_nothing_that_was_acknowledged() {
    let Some(power) = Power::new() else { return };
    play(
        Nodes::of(3).with_short_logs().under(power),
        rounds(),
        seed(u64::from(std::process::id())),
    );
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn rounds() -> u64 {
    number("QUORATE_ROUNDS").unwrap_or(25)
}

fn seed(default: u64) -> u64 {
    number("QUORATE_SEED").unwrap_or(default)
}

fn play(nodes: Nodes, rounds: u64, seed: u64) {
    let begun = now();
    let has_power_to_lose = nodes.has_power_to_lose();
    let nodes = nodes.run();
    let mut load = Load::start(&nodes.endpoints(), 8);
    let mut chance = Chance(seed);
    let (mut kills, mut outages, mut taken) = (0, 0, Taken::default());
    load.goes_on(300, &nodes.all);
    for round in 0..rounds {
        let told = format!("round {round} of seed {seed}");
        chance.pause(100, 1200);
        // All at once most of the time where power fails, as it does for a room.
        let count = match has_power_to_lose {
            true if round % 4 == 1 => 1,
            true => 3,
            false => 1 + round % 3,
        };
        let first = chance.below(3);
        let victims: Vec<&Node> =
            (first..first + count).map(|it| &nodes.all[usize::try_from(it % 3).unwrap()]).collect();
        let mut fall = |node: &Node, chance: &mut Chance| {
            kills += 1;
            if has_power_to_lose {
                let loss = match chance.below(3) {
                    0 => Loss::All,
                    _ => Loss::Part(chance.below(u64::MAX)),
                };
                taken += Nodes::loses_power(node, loss);
            }
        };
        for it in &victims {
            it.kill_9();
        }
        for it in &victims {
            fall(it, &mut chance);
        }
        outages += u64::from(count > 1);
        chance.pause(0, 400);
        for node in &victims {
            nodes.start(node);
        }
        // Now and then it happens again while they come up.
        if chance.below(3) == 0 {
            chance.pause(20, 900);
            let again = victims[usize::try_from(chance.below(count)).unwrap()];
            again.kill_9();
            fall(again, &mut chance);
            nodes.start(again);
        }
        nodes.all.iter().for_each(Node::serves);
        load.goes_on(200, &nodes.all);
        nodes.agree();
        load.is_kept_by(&nodes.all.iter().collect::<Vec<_>>(), &told);
    }
    load.pause();
    nodes.agree();
    load.is_kept_by(&nodes.all.iter().collect::<Vec<_>>(), "at the end");
    // What is on the disks is the same once more.
    for node in &nodes.all {
        node.stop();
        if has_power_to_lose {
            taken += Nodes::loses_power(node, Loss::All);
        }
    }
    let nodes = nodes.run();
    nodes.agree();
    load.is_kept_by(&nodes.all.iter().collect::<Vec<_>>(), "after a clean restart");
    eprintln!(
        "seed {seed}: {rounds} rounds in {:?}: {kills} kills, {outages} outages, {}, {taken:?}",
        begun.elapsed(),
        load.summary()
    );
}
