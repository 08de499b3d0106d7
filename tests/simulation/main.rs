//! Clusters of three to five members in one thread, on a simulated ground: the real raft adapter,
//! log, checkpoint, transport and apply, a clock that jumps, and everything that is up to chance
//! from one seed.
//!
//! A run founds a cluster, lets clients and watchers at it, and does to it what the seed says:
//! kills, power losses of one or of all, partitions in both directions or one, broken and slow
//! connections, slow and full disks, changes of the members. Then all is healed, and what every
//! client was told has to have one order that explains it. What was compacted is told to be so and
//! to nobody else, and a lease lives for its time after whoever keeps it alive was last told so.
//!
//! `SEEDS=n` runs so many, `SEED=n` that one, and says what happened.

#![allow(unreachable_pub, missing_docs, reason = "a test's own modules have no outside")]

mod clients;
mod cluster;
mod history;
mod promises;
mod run;
mod trouble;
mod watching;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quorate::node::ground::Fault;
use run::{Flaw, Outcome, Plan, run};

/// Runs of `make verify`; `make simulate SEEDS=n` asks for more.
const SEEDS: u64 = 2000;
/// Seeds within which each flaw has to be found.
const FOUND_WITHIN: u64 = 400;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

/// What one run says, on a thread of its own.
fn alone(seed: u64, flaw: Option<Flaw>) -> Outcome {
    std::thread::spawn(move || run(&Plan { seed, flaw })).join().expect("the run itself is right")
}

/// Runs seeds on all cores until one fails; the first that did.
fn search(seeds: std::ops::Range<u64>, flaw: Option<Flaw>) -> (u64, u64, Option<Outcome>) {
    let next = Arc::new(AtomicU64::new(seeds.start));
    let (runs, writes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let failed: Arc<Mutex<Option<Outcome>>> = Arc::default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let (next, runs, writes) = (Arc::clone(&next), Arc::clone(&runs), Arc::clone(&writes));
        let (failed, end) = (Arc::clone(&failed), seeds.end);
        std::thread::spawn(move || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end || failed.lock().is_some() {
                    return;
                }
                let outcome = alone(seed, flaw);
                runs.fetch_add(1, Ordering::Relaxed);
                writes.fetch_add(outcome.acknowledged, Ordering::Relaxed);
                if !outcome.violations.is_empty() {
                    failed.lock().get_or_insert(outcome);
                }
            }
        })
    };
    let workers: Vec<_> = (0..cores).map(|_| work()).collect();
    for it in workers {
        it.join().expect("a worker is right");
    }
    let failed = failed.lock().take();
    (runs.load(Ordering::Relaxed), writes.load(Ordering::Relaxed), failed)
}

/// The machine's own time: runs a second are.
#[allow(clippy::disallowed_methods, reason = "the simulation's clock is none")]
fn machine_time() -> std::time::Instant {
    std::time::Instant::now()
}

#[test]
fn every_history_has_an_order_that_explains_it() {
    let seeds = match (number("SEED"), number("SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, seeds) => 0..seeds.unwrap_or(SEEDS),
    };
    let begun = machine_time();
    let (runs, writes, failed) = search(seeds, None);
    let took = begun.elapsed();
    if let Some(failed) = failed {
        panic!("SEED={} fails:\n{failed}", failed.seed);
    }
    let rate =
        f64::from(u32::try_from(runs).unwrap()) / took.max(Duration::from_millis(1)).as_secs_f64();
    println!("{runs} runs, {writes} writes acknowledged, 0 lost; {rate:.1} runs a second");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 1000..1004 {
        let (one, two) = (alone(seed, None), alone(seed, None));
        assert_eq!(one.trace, two.trace, "seed {seed}");
        assert_ne!(one.trace, alone(seed + 100, None).trace);
    }
}

#[test]
fn flaws_that_are_put_in_are_found() {
    for flaw in [
        Flaw::NoFsync,
        Flaw::Node(Fault::VoteNotSaved),
        Flaw::ReadWithoutBarrier,
        Flaw::Node(Fault::MembershipNotKept),
        Flaw::Node(Fault::AppliedInMapOrder),
        Flaw::Node(Fault::LeasesNotGivenAnew),
        Flaw::Node(Fault::ReadNotConfirmed),
    ] {
        let (runs, _, failed) = search(0..FOUND_WITHIN, Some(flaw));
        let failed = failed.unwrap_or_else(|| panic!("{flaw:?} is not found in {runs} runs"));
        println!("{flaw:?} is found in {runs} runs: {}", failed.violations[0]);
    }
}
