//! Torture of real processes: a whole cluster under `quorate up`, clients that write and read all
//! the time, and faults at random moments. Each round ends with a healed cluster whose history is
//! linearizable, whose members hold the same, and whose `up` took no step that was not safe.
//!
//! `make torture ROUNDS=n` plays n rounds. `QUORATE_SEED` is the number of the first one, and a
//! round is repeated by its own; what faults it has and when follows from that alone, what the
//! processes make of it does not. `QUORATE_TEST_KEEP=failed` keeps the home of a round that failed.
//!
//! The process and all that it starts have a network and a mount namespace of their own, so that
//! partitions, full disks and slow networks are nobody else's. That takes root.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod apart;
mod check;
mod clients;
mod faults;
mod network;
mod operation;
mod place;
mod rounds;
mod steps;
mod tally;
mod truth;
mod watchers;

use apart::Apart;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn three_rounds_of_faults_lose_nothing_and_no_step_is_unsafe() {
    let name = "three_rounds_of_faults_lose_nothing_and_no_step_is_unsafe";
    let apart = apart::entered(name, false);
    let Apart::Inside(means) = apart else { return };
    // What is soon healed, so that this stays short: the other kinds are in the long run. By this
    // number all clocks go back by a day first, and then everybody has to be started again.
    rounds::play(&rounds::SHORT, means, 4);
}

#[test]
#[ignore = "takes some ten seconds for each round; QUORATE_ROUNDS sets how many, 25 by default"]
fn torture_under_up_loses_nothing_and_no_step_is_unsafe() {
    let name = "torture_under_up_loses_nothing_and_no_step_is_unsafe";
    let Apart::Inside(means) = apart::entered(name, true) else { return };
    let rounds = number("QUORATE_ROUNDS").unwrap_or(25);
    let first = number("QUORATE_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 1000);
    rounds::play_many(first, rounds, means);
}

/// The instruments themselves: if they did nothing, the rounds would prove nothing.
#[test]
fn the_shim_steps_the_wall_clock_of_whom_it_is_told_to() {
    let Some(power) = support::power::Power::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let date = |node: &str| -> i64 {
        let mut date = std::process::Command::new("date");
        date.arg("+%s").env("LD_PRELOAD", power.shim()).env("PL_CLOCKS", dir.path());
        if node != "up" {
            date.env("ETCD_DATA_DIR", format!("/nowhere/{node}/data"));
        }
        let output = date.output().expect("coreutils' date");
        String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
    };
    for name in ["n1", "n2", "up"] {
        std::fs::write(dir.path().join(name), [0; 8]).unwrap();
    }
    let (before, by) = (date("up"), 86_400_i64);
    std::fs::write(dir.path().join("n1"), (by * 1_000_000_000).to_le_bytes()).unwrap();
    std::fs::write(dir.path().join("up"), (-by * 1_000_000_000).to_le_bytes()).unwrap();
    assert!((before..before + 60).contains(&date("n2")));
    assert!((before + by..before + by + 60).contains(&date("n1")));
    assert!((before - by..before - by + 60).contains(&date("up")));
}
