//! The parts `watchers` and `connections`: what many clients cost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::engine::{Engine, leader_url, load};
use crate::figures::Cost::{Each, Whole};
use crate::figures::{Figure, Line, figure, line};
use crate::measure::number;
use crate::settings::{OPERATION, Settings, engines_of, largest_mib};
use crate::support::cluster::Cluster;
use crate::support::process::Process;

pub(crate) const WATCHERS: &[Line] = &[
    line("one-key", "all on one key: put to the last, p50", "ms", Whole),
    line("one-key-p99", "  p99", "ms", Whole),
    line("one-key-memory", "  most RSS, largest member", "MiB", Whole),
    line("own-keys", "each on its own: put to the watcher, p50", "ms", Whole),
    line("own-keys-p99", "  p99", "ms", Whole),
    line("own-keys-memory", "  most RSS, largest member", "MiB", Whole),
];

pub(crate) const CONNECTIONS: &[Line] = &[
    line("spread-get", "linearizable get, a client each", "/s", Each),
    line("spread-get-p99", "  p99", "ms", Whole),
    line("spread-memory", "  most RSS, largest member", "MiB", Whole),
    line("spread-put", "put 256 B, a client each", "/s", Each),
    line("spread-put-p99", "  p99", "ms", Whole),
];

/// Watchers that share a connection; each has a stream of its own on it.
const SHARING: u64 = 1000;
/// Keys that they read.
const KEYS: &str = "10000";

/// So many watchers on one key, then on a key each.
pub(crate) fn watchers(engine: &Engine, settings: &Settings, count: u64) -> Vec<Figure> {
    let connections = count.div_ceil(SHARING);
    let [one, own] = [
        (&[][..], ["one-key", "one-key-p99", "one-key-memory"]),
        (&["--distinct-keys"], ["own-keys", "own-keys-p99", "own-keys-memory"]),
    ]
    .map(|(args, [p50, p99, memory])| {
        // A cluster of its own, as memory that was once taken is seldom given back.
        let cluster = settings.cluster(engine);
        let (watchers, shared) = (count.to_string(), connections.to_string());
        let mut all = vec!["watch", "--watchers", &watchers, "--connections", &shared];
        all.extend(args);
        let (report, most) = watched(&cluster, settings, &all);
        [
            figure(p50, number(&report, "/latencyMs/p50"), connections),
            figure(p99, number(&report, "/latencyMs/p99"), connections),
            figure(memory, most, connections),
        ]
    });
    one.into_iter().chain(own).collect()
}

/// So many clients, each on a connection of its own.
pub(crate) fn connections(engine: &Engine, settings: &Settings, count: u64) -> Vec<Figure> {
    let cluster = settings.cluster(engine);
    let fill = ["put", "--sequential", "--clients", "100", "--total", KEYS, "--key-space", KEYS];
    load(&leader_url(&cluster), &fill);
    let clients = count.to_string();
    let run = |what| {
        let mut all = vec![what, "--key-space", KEYS];
        all.extend(["--clients", &clients, "--connections", &clients]);
        watched(&cluster, settings, &all)
    };
    // Reads first: they leave no data behind, so memory is what the connections take.
    let (get, most) = run("range");
    let (put, _) = run("put");
    vec![
        figure("spread-get", number(&get, "/opsPerSecond"), count),
        figure("spread-get-p99", number(&get, "/latencyMs/p99"), count),
        figure("spread-memory", most, count),
        figure("spread-put", number(&put, "/opsPerSecond"), count),
        figure("spread-put-p99", number(&put, "/latencyMs/p99"), count),
    ]
}

/// A load against the leader; its report, and the most MiB that a member held meanwhile.
fn watched(cluster: &Cluster, settings: &Settings, args: &[&str]) -> (serde_json::Value, f64) {
    const EVERY: Duration = Duration::from_millis(100);
    let (url, time) = (leader_url(cluster), format!("{}s", settings.seconds));
    let all = [args, &["--warm-up", "1s", "--duration", &time, "--timeout", OPERATION]].concat();
    let members = engines_of(cluster);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let look = scope.spawn(|| {
            let mut most: f64 = 0.0;
            while !is_over.load(Ordering::Relaxed) {
                most = most.max(largest_mib(&members, Process::resident_kib));
                std::thread::sleep(EVERY);
            }
            most
        });
        // Whatever becomes of the load, the looking ends.
        let report = std::panic::catch_unwind(|| load(&url, &all));
        is_over.store(true, Ordering::Relaxed);
        let most = look.join().expect("looking does not fail");
        (report.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), most)
    })
}
