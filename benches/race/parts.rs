//! What is measured: each part brings up clusters of its own and returns figures by their names.

use std::fmt;
use std::time::Duration;

use crate::engine::{Engine, leader_url, load};
use crate::measure::{as_f64, first_answer, number, read, write};
use crate::support::cluster::{Cluster, SOON};
use crate::support::process::{Signal, all_of};
use crate::support::wait::now;
use crate::support::wire::local_keys;

/// How a run is.
pub(crate) struct Settings {
    pub(crate) pairs: usize,
    pub(crate) seconds: u64,
    pub(crate) connections: usize,
    pub(crate) keys: u64,
    pub(crate) rounds: usize,
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { pairs, seconds, connections, keys, rounds } = self;
        write!(
            f,
            "{pairs} rounds, {seconds} s a load, clients of a load on {connections} connection(s) \
             to the leader, {keys} keys x 256 B, {rounds} lost leaders"
        )
    }
}

type Found = Vec<(&'static str, f64)>;
type Part = fn(&Engine, &Settings) -> Found;

/// The parts, by the names that choose them.
pub(crate) const PARTS: &[(&str, Part)] = &[
    ("put", put),
    ("get", get),
    ("watch", watch),
    ("full", full),
    ("failover", failover),
    ("seven", seven),
    ("idle", idle),
];

/// One load of so many clients; throughput and p99.
fn clients(url: &str, settings: &Settings, clients: usize, args: &[&str]) -> (f64, f64) {
    let connections = settings.connections.min(clients).to_string();
    let (clients, time) = (clients.to_string(), format!("{}s", settings.seconds));
    let mut all = args.to_vec();
    all.extend(["--clients", &clients, "--connections", &connections]);
    all.extend(["--duration", &time, "--warm-up", "1s"]);
    let report = load(url, &all);
    (number(&report, "/opsPerSecond"), number(&report, "/latencyMs/p99"))
}

/// Puts of 256 B by 1, 100 and 1,000 clients; and, as a cluster is new, how soon it was ready.
fn put(engine: &Engine, settings: &Settings) -> Found {
    let (cluster, took) = engine.ready(3);
    let url = leader_url(&cluster);
    let mut found = vec![("up-3", took)];
    for (count, throughput, p99) in [
        (1, "put-1", "put-1-p99"),
        (100, "put-100", "put-100-p99"),
        (1000, "put-1000", "put-1000-p99"),
    ] {
        let (ops, worst) = clients(&url, settings, count, &["put"]);
        found.extend([(throughput, ops), (p99, worst)]);
    }
    found
}

/// Reads of single keys out of 10,000.
fn get(engine: &Engine, settings: &Settings) -> Found {
    let (cluster, took) = engine.ready(3);
    let url = leader_url(&cluster);
    fill(&url, 10_000);
    let mut found = vec![("up-3", took)];
    for (count, args, throughput, p99) in [
        (1, &[][..], "get-1", "get-1-p99"),
        (100, &[], "get-100", "get-100-p99"),
        (100, &["--serializable"], "local-get-100", "local-get-100-p99"),
    ] {
        let args = [&["range", "--key-space", "10000"], args].concat();
        let (ops, worst) = clients(&url, settings, count, &args);
        found.extend([(throughput, ops), (p99, worst)]);
    }
    found
}

/// 1,000 watchers of one key, each on a stream of its own.
fn watch(engine: &Engine, settings: &Settings) -> Found {
    let (cluster, took) = engine.ready(3);
    let url = leader_url(&cluster);
    let time = format!("{}s", settings.seconds);
    let connections = settings.connections.to_string();
    let mut args = vec!["watch", "--watchers", "1000", "--warm-up", "1s", "--duration", &time];
    args.extend(["--connections", &connections]);
    let report = load(&url, &args);
    vec![
        ("up-3", took),
        ("watch-1000", number(&report, "/latencyMs/p50")),
        ("watch-1000-p99", number(&report, "/latencyMs/p99")),
    ]
}

/// Writes so many keys of 256 B, each once.
fn fill(url: &str, keys: u64) {
    let keys = keys.to_string();
    let all = ["put", "--sequential", "--clients", "100", "--total", &keys, "--key-space", &keys];
    load(url, &all);
}

/// Memory, a whole restart, and a lost disk, with many keys.
fn full(engine: &Engine, settings: &Settings) -> Found {
    let (cluster, took) = engine.ready(3);
    fill(&leader_url(&cluster), settings.keys);
    std::thread::sleep(Duration::from_secs(3)); // what was put off is done by then
    let names = cluster.spec.names();
    let resident = names.iter().map(|node| cluster.engine(node).resident_kib());
    let mut found = vec![("up-3", took), ("memory", as_f64(resident.max().unwrap_or(0)) / 1024.0)];

    // Everybody stops in good order and comes back.
    assert_eq!(cluster.interrupt_up(Signal::TERM), Some(0), "{}", cluster.printed());
    let endpoints = cluster.endpoints();
    let begun = now();
    cluster.start_up(&[]);
    for endpoint in &endpoints {
        first_answer(std::slice::from_ref(endpoint), SOON, read);
    }
    found.push(("restart", begun.elapsed().as_secs_f64()));
    cluster.healed();

    // A follower, then the leader of that moment.
    let lost = [cluster.follower(), cluster.leader()].map(|node| lost_disk(&cluster, &node));
    let keys = local_keys(&endpoints[0], "bench/").expect("it answers");
    assert_eq!(keys.len(), usize::try_from(settings.keys).unwrap_or(0), "keys were lost");
    found.extend([("lost-disk", lost[0]), ("lost-disk", lost[1])]);
    found
}

/// Seconds from the deletion of a data dir until there are three voters again.
fn lost_disk(cluster: &Cluster, node: &str) -> f64 {
    let old = cluster.member_id(node);
    let begun = now();
    std::fs::remove_dir_all(cluster.data(node)).expect("the data dir is there");
    cluster.replaced(node, old);
    begun.elapsed().as_secs_f64()
}

/// The leader is killed with -9, at default timings: seconds until another member acknowledges a
/// put that was sent after the kill. The lost one comes back before the next round.
fn failover(engine: &Engine, settings: &Settings) -> Found {
    let (cluster, took) = engine.ready(3);
    let mut found = vec![("up-3", took)];
    for _ in 0..settings.rounds.div_ceil(settings.pairs) {
        let leader = cluster.leader();
        let url = cluster.spec.client_url(&leader);
        let others: Vec<_> = cluster.endpoints().into_iter().filter(|it| *it != url).collect();
        let seen = cluster.running(&leader);
        let begun = now();
        seen.all().for_each(|process| process.signal(Signal::KILL));
        found.push(("failover", (first_answer(&others, SOON, write) - begun).as_secs_f64()));
        cluster.healed();
        leader_url(&cluster);
    }
    found
}

/// Seven nodes.
fn seven(engine: &Engine, _: &Settings) -> Found {
    vec![("up-7", engine.ready(7).1)]
}

/// What three nodes and `up` cost while nothing happens.
fn idle(engine: &Engine, _: &Settings) -> Found {
    const WHILE: Duration = Duration::from_secs(20);
    let (cluster, took) = engine.ready(3);
    std::thread::sleep(Duration::from_secs(3));
    let processes = all_of(cluster.home.dir());
    let used = || processes.iter().map(|it| it.cpu_ticks()).sum::<u64>();
    let (begun, before) = (now(), used());
    std::thread::sleep(WHILE);
    let share = as_f64(used() - before) / begun.elapsed().as_secs_f64();
    assert!(processes.iter().all(|it| it.is_alive()), "a process ended while nothing happened");
    vec![("up-3", took), ("idle", share)] // a tick is a hundredth of a second
}
