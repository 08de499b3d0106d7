//! The very same requests, over gRPC, to a whole node of ours and to a real etcd: what either
//! replies is compared field by field, headers, codes and texts of refusals included.
//!
//! `ETCD` names another binary than `etcd`. `SEED` is the first of the seeds, 1 if nothing is said,
//! and `ROUNDS` how many of them follow each other, each on fresh servers: 3. A failure says its
//! seed; with `SEED` set to it and `ROUNDS=1` exactly the same is asked again.
//!
//! What may differ is listed in `differences`, and only there. The IDs of cluster and member, the
//! term and the URLs are each server's own: they are compared as that, so they have to be the same
//! in all its replies. Of a watch is compared what it is told, and not how that is cut into
//! answers; `tests/watch/` has more of watches, and `tests/apply/` of transactions.

#![cfg(feature = "runtime")]
#![allow(unreachable_pub, missing_docs, reason = "a test's own modules have no outside")]
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests too")]

mod asks;
mod chance;
mod corners;
mod differences;
#[allow(dead_code, reason = "here it is started with more said")]
#[path = "../support/lone_etcd.rs"]
mod lone_etcd;
mod plain;
#[path = "../support/ports.rs"]
mod ports;
mod side;
mod watches;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use asks::Ask;
use chance::Now;
use differences::Met;
use side::Side;

/// Requests of one seed.
const LENGTH: usize = 300;

/// Both servers, and what they have been asked.
struct Pair {
    name: String,
    ours: Side,
    theirs: Side,
    asked: usize,
    refused: usize,
    known: Vec<Ask>,
}

impl Pair {
    async fn start(name: String) -> Pair {
        let (ours, theirs) = tokio::join!(Side::ours(), Side::theirs());
        Pair { name, ours, theirs, asked: 0, refused: 0, known: Vec::new() }
    }

    /// Both, on the same way to the same place.
    async fn level(&mut self) {
        tokio::join!(self.ours.level(), self.theirs.level());
        assert_eq!(self.ours.revision, self.theirs.revision, "{}", self.story());
        if let Some(difference) = self.ours.watches.difference(&self.theirs.watches) {
            panic!("{difference}\n{}", self.story());
        }
    }

    async fn ask(&mut self, ask: Ask, met: &mut Met) {
        if ask.needs_level_watches() {
            self.level().await;
        }
        let ask = met.askable(ask, &self.theirs);
        self.known.push(ask.clone());
        let (mut ours, mut theirs) = tokio::join!(self.ours.ask(&ask), self.theirs.ask(&ask));
        met.level(self.theirs.version, &ask, &mut ours, &mut theirs);
        assert_eq!(ours.said, theirs.said, "{ask:?} (ours, theirs)\n{}", self.story());
        self.asked += 1;
        self.refused += usize::from(ours.said.is_err());
    }

    /// How it came to this.
    fn story(&self) -> String {
        let last = self.known.iter().rev().take(8).rev();
        let lines: Vec<_> = last.map(|it| format!("  {it:?}")).collect();
        format!("{}, request {}; the last ones:\n{}", self.name, self.known.len(), lines.join("\n"))
    }
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |it| it.parse().unwrap())
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(Config::default(), rng)
}

#[tokio::test]
async fn every_reply_is_that_of_a_real_etcd() {
    let mut met = Met::default();
    let mut pair = Pair::start("the corners".to_owned()).await;
    for ask in corners::corners() {
        pair.ask(ask, &mut met).await;
    }
    pair.level().await;
    let (version, mut asked, mut refused) = (pair.theirs.version, pair.asked, pair.refused);
    let first = variable("SEED", 1);
    for seed in first..first + variable("ROUNDS", 3) {
        let mut pair = Pair::start(format!("SEED={seed} ROUNDS=1")).await;
        let mut runner = runner(seed);
        for ask in corners::beginning() {
            pair.ask(ask, &mut met).await;
        }
        for _ in 0..LENGTH {
            pair.theirs.level().await;
            let watches: Vec<_> = pair.theirs.watches.live().collect();
            let (revision, compacted) = (pair.theirs.revision, pair.theirs.compacted);
            let now = Now { revision, compacted, watches: &watches };
            let ask = now.ask().new_tree(&mut runner).unwrap().current();
            pair.ask(ask, &mut met).await;
        }
        pair.level().await;
        asked += pair.asked;
        refused += pair.refused;
    }
    println!("{asked} requests, {refused} of them refused; {met:?}");
    assert_eq!(met.missing(version), [], "listed, but not met");
}
