//! The part `data`: what a cluster does that holds so much.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use quorate::proto::etcdserverpb as pb;

use crate::engine::{Engine, Load, leader_url, load};
use crate::figures::Cost::{Each, Whole};
use crate::figures::{Figure, Line, figure, line};
use crate::measure::{as_f64, first_answer, number, read};
use crate::settings::{OPERATION, PATIENCE, Settings, engines_of, largest_mib};
use crate::support::cluster::Cluster;
use crate::support::process::{Process, Signal};
use crate::support::wait::{eventually, now};
use crate::support::wire::{block_on, channel, status};

/// Keys of the last part of a filling, whose rate is that of a full cluster; the same number at
/// every size.
const LAST: u64 = 16 * 1024;
/// Clients of a load, which share one connection.
const CLIENTS: &str = "100";

pub(crate) const LINES: &[Line] = &[
    line("fill", "put of new keys, 100 clients, all", "/s", Each),
    line("put", "put of new keys, 100 clients, last 16 MiB", "/s", Each),
    line("put-p99", "  p99", "ms", Whole),
    line("get", "linearizable get, 100 clients", "/s", Each),
    line("get-p99", "  p99", "ms", Whole),
    line("memory", "RSS, largest member", "MiB", Whole),
    line("memory-peak", "  its most while it was filled", "MiB", Whole),
    line("disk", "data dir, largest", "MiB", Whole),
    line("stop", "stop of all", "s", Whole),
    line("restart", "start of all to a read by each", "s", Whole),
    line("wiped", "data dir gone to a voter in sync", "s", Whole),
    line("wiped-put", "  worst put meanwhile, 100/s of 1 client", "ms", Whole),
    line("wiped-peak", "  most RSS of a member until then", "MiB", Whole),
    line("overwrite", "put over a tenth, 100 clients", "/s", Each),
    line("quiet-put", "worst put of 5 s, 100/s of 1 client", "ms", Whole),
    line("compact", "compaction, until it has answered", "s", Whole),
    line("compact-put", "  worst put meanwhile, 100/s of 1 client", "ms", Whole),
    line("get-after", "linearizable get of what is left, 100 clients", "/s", Each),
    line("memory-after", "  RSS, largest member", "MiB", Whole),
];

/// Fills a cluster with so many MiB and does all that is done to one.
pub(crate) fn data(engine: &Engine, settings: &Settings, mib: u64) -> Vec<Figure> {
    let keys = mib * 1024;
    let first = keys - LAST.min(keys / 2);
    let cluster = settings.cluster(engine);
    let mut found = fill(&cluster, keys, first);
    found.extend(get(&cluster, settings, first, ["get", "get-p99"]));
    let disk = settled(&cluster);
    let members = engines_of(&cluster);
    found.extend([
        figure("memory", largest_mib(&members, Process::resident_kib), 0),
        figure("memory-peak", largest_mib(&members, Process::peak_kib), 0),
        figure("disk", disk, 0),
    ]);
    found.extend(restart(&cluster));
    if settings.members >= 3 {
        found.extend(wiped(&cluster));
    }
    found.extend(compaction(&cluster, first));
    // The followers delete theirs after the leader has answered.
    settled(&cluster);
    let [rate, _] = get(&cluster, settings, first, ["get-after", ""]);
    found.push(rate);
    let members = engines_of(&cluster);
    found.push(figure("memory-after", largest_mib(&members, Process::resident_kib), 0));
    let held = count(&cluster.endpoints()[0]);
    assert!(held >= keys, "{held} keys are left of {keys}");
    found
}

/// Puts of 1 KiB by 100 clients on one connection.
fn puts(url: &str, prefix: &str, total: u64, keys: u64) -> serde_json::Value {
    let (total, keys) = (total.to_string(), keys.to_string());
    let mut all = vec!["put", "--sequential", "--value-size", "1KiB", "--prefix", prefix];
    all.extend(["--total", &total, "--key-space", &keys]);
    all.extend(["--clients", CLIENTS, "--timeout", OPERATION]);
    load(url, &all)
}

/// All keys but the last, then these, below a prefix of their own.
fn fill(cluster: &Cluster, keys: u64, first: u64) -> Vec<Figure> {
    let url = leader_url(cluster);
    let [body, last] = [("bench/", first), ("last/", keys - first)]
        .map(|(prefix, count)| puts(&url, prefix, count, count));
    let seconds = number(&body, "/seconds") + number(&last, "/seconds");
    vec![
        figure("fill", as_f64(keys) / seconds, 1),
        figure("put", number(&last, "/opsPerSecond"), 1),
        figure("put-p99", number(&last, "/latencyMs/p99"), 1),
    ]
}

/// Reads of single keys, at random out of all but the last.
fn get(cluster: &Cluster, settings: &Settings, keys: u64, ids: [&'static str; 2]) -> [Figure; 2] {
    let (keys, time) = (keys.to_string(), format!("{}s", settings.seconds));
    let mut all = vec!["range", "--key-space", &keys, "--clients", CLIENTS];
    all.extend(["--duration", &time, "--warm-up", "1s", "--timeout", OPERATION]);
    let report = load(&leader_url(cluster), &all);
    let read = number(&report, "/keysRead");
    assert!(read >= number(&report, "/operations"), "keys were lost: {report:#}");
    [
        figure(ids[0], number(&report, "/opsPerSecond"), 1),
        figure(ids[1], number(&report, "/latencyMs/p99"), 1),
    ]
}

/// Everybody stops in good order and comes back.
fn restart(cluster: &Cluster) -> [Figure; 2] {
    let begun = now();
    assert_eq!(cluster.interrupt_up(Signal::TERM), Some(0), "{}", cluster.printed());
    let stopped = begun.elapsed();
    let begun = now();
    cluster.start_up(&[]);
    for endpoint in cluster.endpoints() {
        first_answer(&[endpoint], PATIENCE, read);
    }
    let started = begun.elapsed();
    cluster.healed();
    [figure("stop", stopped.as_secs_f64(), 0), figure("restart", started.as_secs_f64(), 0)]
}

/// A follower loses its data dir. It is moved away and deleted later: to free so many blocks, and to
/// discard them, keeps every fsync of that file system waiting, which here is also that of the two
/// others, and which no disk that fails asks for.
fn wiped(cluster: &Cluster) -> Vec<Figure> {
    let url = leader_url(cluster);
    let node = cluster.follower();
    let away = cluster.home.path().with_extension("away");
    let old = cluster.member_id(&node);
    let (seconds, worst) = beside(&url, || {
        let begun = now();
        std::fs::rename(cluster.data(&node), &away).expect("the data dir is there");
        cluster.replaced(&node, old);
        let wanted = status(&url).expect("the leader answers").revision;
        let new = cluster.spec.client_url(&node);
        eventually("the new member to have it all", PATIENCE, || {
            let revision = status(&new)?.revision;
            if revision < wanted { Err(format!("{revision} of {wanted}")) } else { Ok(()) }
        });
        begun.elapsed().as_secs_f64()
    });
    let peak = largest_mib(&engines_of(cluster), Process::peak_kib);
    std::fs::remove_dir_all(&away).expect("it was moved there");
    settled(cluster);
    vec![figure("wiped", seconds, 0), figure("wiped-put", worst, 1), figure("wiped-peak", peak, 0)]
}

/// A tenth is overwritten, so that there is something to compact.
fn compaction(cluster: &Cluster, keys: u64) -> Vec<Figure> {
    let url = leader_url(cluster);
    let overwritten = puts(&url, "bench/", keys / 10, keys);
    settled(cluster);
    let ((), quiet) = beside(&url, || std::thread::sleep(Duration::from_secs(5)));
    let revision = status(&url).expect("the leader answers").revision;
    let (seconds, worst) = beside(&url, || {
        let request = pb::CompactionRequest { revision, physical: true };
        let mut client = pb::kv_client::KvClient::new(channel(&url));
        let begun = now();
        block_on(client.compact(request)).expect("it is compacted");
        begun.elapsed().as_secs_f64()
    });
    vec![
        figure("overwrite", number(&overwritten, "/opsPerSecond"), 1),
        figure("quiet-put", quiet, 1),
        figure("compact", seconds, 1),
        figure("compact-put", worst, 1),
    ]
}

/// Does something while one client puts at 100 a second, from a second before to a second after;
/// what it took, and the slowest put in milliseconds.
fn beside<T>(url: &str, act: impl FnOnce() -> T) -> (T, f64) {
    const BEFORE: Duration = Duration::from_secs(1);
    let mut all = vec!["put", "--rate", "100", "--prefix", "beside/", "--key-space", "100"];
    all.extend(["--duration", "2h", "--timeout", OPERATION]);
    let puts = Load::start(url, &all);
    std::thread::sleep(BEFORE);
    let result = act();
    std::thread::sleep(BEFORE);
    (result, number(&puts.stop(), "/latencyMs/max"))
}

/// Waits until no data dir changes its size any more, for a minute at most, so that what was put
/// off is done; MiB on disk of the largest.
fn settled(cluster: &Cluster) -> f64 {
    const STILL: Duration = Duration::from_secs(3);
    let sizes = || cluster.spec.names().iter().map(|it| on_disk(&cluster.data(it))).collect();
    let begun = now();
    let mut before: Vec<u64> = sizes();
    loop {
        std::thread::sleep(STILL);
        let after = sizes();
        if after == before || begun.elapsed() > Duration::from_mins(1) {
            return as_f64(after.into_iter().max().unwrap_or(0)) / as_f64(1 << 20);
        }
        before = after;
    }
}

/// Bytes that a directory takes; a file that goes meanwhile takes none.
fn on_disk(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(it) if it.is_dir() => on_disk(&entry.path()),
        Ok(it) => it.blocks() * 512,
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

/// How many keys a member has.
fn count(url: &str) -> u64 {
    let all = pb::RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        count_only: true,
        ..Default::default()
    };
    let answer = block_on(pb::kv_client::KvClient::new(channel(url)).range(all));
    u64::try_from(answer.expect("it counts").into_inner().count).unwrap_or(0)
}
