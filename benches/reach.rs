//! The figures that `up` must reach, measured on the real thing: `make bench`.
//!
//! Prints a table with the median, the best and the worst of `QUORATE_BENCH_RUNS` runs (5), with
//! the goal beside them, and ends with 1 if a goal is missed: by the median of a time or a cost,
//! by a single run of what clients feel. Arguments that do not begin with a dash choose measures
//! by a part of their name.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench that cannot go on ends here")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use quorate::proto::etcdserverpb::PutRequest;
use quorate::proto::etcdserverpb::kv_client::KvClient;

use support::cluster::{Cluster, SOON};
use support::wait::now;
use support::wire::{block_on, channel, spawn};
use support::writer::Writer;

/// One line of the table.
struct Figure {
    what: &'static str,
    unit: &'static str,
    /// To stay below; zero means exactly zero, infinity that none is set.
    goal: f64,
    /// Whether the worst run counts, not the median.
    always: bool,
    runs: Vec<f64>,
}

impl Figure {
    fn new(what: &'static str, unit: &'static str, goal: f64) -> Figure {
        Figure { what, unit, goal, always: false, runs: Vec::new() }
    }

    /// A goal that holds for every single run.
    fn always(self) -> Figure {
        Figure { always: true, ..self }
    }

    fn sorted(&self) -> Vec<f64> {
        let mut runs = self.runs.clone();
        runs.sort_by(f64::total_cmp);
        runs
    }

    fn is_reached(&self) -> bool {
        let sorted = self.sorted();
        let counts = if self.always { sorted.last() } else { sorted.get(sorted.len() / 2) };
        counts.is_none_or(|run| *run < self.goal || (self.goal == 0.0 && *run == 0.0))
    }

    fn print(&self) {
        let sorted = self.sorted();
        let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else { return };
        let median = sorted[sorted.len() / 2];
        let goal = match self.goal {
            0.0 => "0".to_owned(),
            f64::INFINITY => "-".to_owned(),
            goal => format!("< {goal}"),
        };
        let verdict = if self.is_reached() { "reached" } else { "MISSED" };
        println!(
            "{:58} {:>10} {median:>9.2} {least:>9.2} {most:>9.2}  {:4} {:>4}  {verdict}",
            self.what,
            goal,
            self.unit,
            sorted.len()
        );
    }
}

/// Takes the number of runs.
type Measure = fn(usize) -> Vec<Figure>;

fn main() -> ExitCode {
    let runs = std::env::var("QUORATE_BENCH_RUNS").ok().and_then(|runs| runs.parse().ok());
    let runs: usize = runs.unwrap_or(5);
    let chosen: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let measures: [(&str, Measure); 5] = [
        ("three", |runs| ready(3, Figure::new("up to three ready voters", "s", 3.0), runs)),
        ("seven", |runs| ready(7, Figure::new("up to seven ready voters", "s", 6.0), runs)),
        ("lost-disk", lost_disk),
        ("replace", replacement),
        ("idle", idle),
    ];
    let mut figures = Vec::new();
    for (name, measure) in measures {
        if chosen.is_empty() || chosen.iter().any(|part| name.contains(part.as_str())) {
            figures.extend(measure(runs));
        }
    }
    println!(
        "\n{:58} {:>10} {:>9} {:>9} {:>9}  {:4} {:>4}",
        "what", "goal", "median", "best", "worst", "unit", "runs"
    );
    figures.iter().for_each(Figure::print);
    if figures.iter().all(Figure::is_reached) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// From the start of `up` on an empty home to its line that says ready.
fn ready(nodes: u8, mut figure: Figure, runs: usize) -> Vec<Figure> {
    for run in 0..runs {
        let cluster = Cluster::declared(nodes);
        let begun = now();
        cluster.up();
        let took = begun.elapsed();
        // It must not say so before it is true.
        let list = cluster.list().expect("a cluster that is said to be ready answers");
        let voters = list.members.iter().filter(|it| !it.learner && !it.name.is_empty()).count();
        assert_eq!(voters, usize::from(nodes), "{list:#?}");
        eprintln!("{} {}: {took:?}", figure.what, run + 1);
        figure.runs.push(took.as_secs_f64());
    }
    vec![figure]
}

const KEYS: u32 = 100_000;

/// From the deletion of a data dir to three ready voters again; each member gets its turn.
fn lost_disk(runs: usize) -> Vec<Figure> {
    let what = "deleted data dir, 100,000 keys x 256 B: three voters again";
    let mut figure = Figure::new(what, "s", 20.0);
    let cluster = Cluster::ready(3);
    let begun = now();
    fill(&cluster);
    eprintln!("{KEYS} keys written in {:?}", begun.elapsed());
    let names = cluster.spec.names();
    for run in 0..runs {
        let node = &names[run % names.len()];
        let old = cluster.member_id(node);
        let led = cluster.leader() == *node;
        let begun = now();
        std::fs::remove_dir_all(cluster.data(node)).expect("the data dir is there");
        cluster.replaced(node, old);
        let took = begun.elapsed();
        eprintln!("{what} {}: {took:?}{}", run + 1, if led { " (the leader)" } else { "" });
        figure.runs.push(took.as_secs_f64());
    }
    let keys = support::wire::local_keys(&cluster.endpoints()[0], "filled/").expect("it answers");
    assert_eq!(keys.len(), KEYS as usize, "keys were lost");
    vec![figure]
}

/// Writes the keys one by one, many at once, as clients would.
fn fill(cluster: &Cluster) {
    let next = Arc::new(AtomicU32::new(0));
    let endpoints = cluster.endpoints();
    let writers: Vec<_> = (0..128)
        .map(|at| {
            let next = Arc::clone(&next);
            let mut client = KvClient::new(channel(&endpoints[at % endpoints.len()]));
            spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= KEYS {
                        return;
                    }
                    let key = format!("filled/{number:06}").into();
                    let value = vec![b'v'; 256].into();
                    let request = PutRequest { key, value, ..Default::default() };
                    client.put(request).await.expect("a healthy cluster takes a write");
                }
            })
        })
        .collect();
    for writer in writers {
        block_on(writer).expect("a writer does not panic");
    }
}

/// Each member, the leader included, is replaced on request under 200 puts a second.
fn replacement(runs: usize) -> Vec<Figure> {
    let mut failed =
        Figure::new("planned replacement, 200 puts/s: failed writes", "", 0.0).always();
    let mut slowest =
        Figure::new("planned replacement, 200 puts/s: slowest write", "s", 2.0).always();
    let mut took = Figure::new("planned replacement: until three ready voters", "s", f64::INFINITY);
    let cluster = Cluster::ready(3);
    for run in 0..runs {
        // The leader first: it is the one whose loss clients could notice.
        let mut nodes = cluster.spec.names();
        let leader = cluster.leader();
        nodes.sort_by_key(|node| *node != leader);
        for node in nodes {
            let old = cluster.member_id(&node);
            let led = cluster.leader() == node;
            let writer = Writer::start(&cluster.endpoints(), 200);
            writer.goes_on(200);
            let begun = now();
            cluster.quorate(&["replace", &node, "-y", "--no-wait"]).ok();
            cluster.replaced(&node, old);
            let time = begun.elapsed();
            writer.goes_on(200);
            let written = cluster.verify(writer);
            eprintln!(
                "replacement {} of {node}{}: {time:?}, {} writes, {} failed, slowest {:?}",
                run + 1,
                if led { " (the leader)" } else { "" },
                written.acked.len(),
                written.failed.len(),
                written.slowest()
            );
            failed.runs.push(f64::from(u32::try_from(written.failed.len()).unwrap_or(u32::MAX)));
            slowest.runs.push(written.slowest().as_secs_f64());
            took.runs.push(time.as_secs_f64());
        }
    }
    vec![failed, slowest, took]
}

/// What `up` itself costs while nothing happens.
fn idle(runs: usize) -> Vec<Figure> {
    const WHILE: Duration = Duration::from_secs(30);
    let mut cpu = Figure::new("idle up: CPU of the reconciler, of one core", "%", 0.5);
    let mut memory = Figure::new("idle up: memory of the reconciler", "MiB", 20.0);
    let cluster = Cluster::ready(3);
    cluster.with_up(|up| up.wait_ready(SOON));
    let up = cluster.up_process();
    for run in 0..runs {
        let (begun, ticks) = (now(), up.cpu_ticks());
        std::thread::sleep(WHILE);
        let used = f64::from(u32::try_from(up.cpu_ticks() - ticks).unwrap_or(u32::MAX)) / 100.0;
        let share = 100.0 * used / begun.elapsed().as_secs_f64();
        let mebibytes = f64::from(u32::try_from(up.resident_kib()).unwrap_or(u32::MAX)) / 1024.0;
        eprintln!("idle {}: {share:.2} % of a core, {mebibytes:.1} MiB", run + 1);
        cpu.runs.push(share);
        memory.runs.push(mebibytes);
    }
    vec![cpu, memory]
}
