//! Where each microsecond of an operation goes: `cargo bench --bench profile`, a part of
//! `make bench`.
//!
//! Samples every process of the machine with `perf` while `quorate bench` loads the leader of a
//! three-node cluster that `quorate up` runs on loopback, and prints for each process that took
//! part what it spent for one operation, in microseconds of processor time, and on what: the
//! system's own work by its subsystem, ours by module, that of libraries by their name. It decides
//! nothing and has no goals. Without `perf` it says so and ends well.
//!
//! `QUORATE_PROFILE_SECONDS` is how long each load runs (8). An argument that does not begin with
//! a dash chooses loads by a part of their name.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench that cannot go on ends here")]

#[path = "race/engine.rs"]
#[allow(dead_code, reason = "a race asks more of it")]
mod engine;
#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use engine::{EMBEDDED, Engine, leader_url};
use serde_json::Value;
use support::cluster::Cluster;
use support::up::QUORATE;

/// Samples a second and core; a prime, so that it keeps step with nothing.
const RATE: u32 = 1999;

/// A load by its name, what one of its operations is, and its arguments.
type Load = (&'static str, &'static str, &'static [&'static str]);

const LOADS: &[Load] = &[
    ("put", "put of 256 B, 100 clients, 1 connection", &["put", "--clients", "100"]),
    ("get", "linearizable get, 100 clients, 1 connection", &["range", "--clients", "100"]),
    (
        "local-get",
        "serializable get, 100 clients, 1 connection",
        &["range", "--serializable", "--clients", "100"],
    ),
    ("watch", "event at one of 1,000 watchers, 1 connection", &["watch", "--watchers", "1000"]),
];

fn main() -> ExitCode {
    let chosen: Vec<_> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let is_chosen = |what: &str| chosen.is_empty() || chosen.iter().any(|it| what.contains(it));
    // `cargo bench profile` is for this bench, and all of it.
    let loads = LOADS.iter().filter(|(name, ..)| is_chosen(name) || is_chosen("profile"));
    let loads: Vec<_> = loads.collect();
    if loads.is_empty() {
        return ExitCode::SUCCESS;
    }
    if Command::new("perf").arg("--version").output().is_err() {
        println!("profile: there is no `perf` here (package linux-perf), so nothing is measured");
        return ExitCode::SUCCESS;
    }
    for load in loads {
        profile(load);
    }
    ExitCode::SUCCESS
}

fn profile((_, operation, args): &Load) {
    let (cluster, _) = Engine::new('A', EMBEDDED).ready(3);
    let url = leader_url(&cluster);
    if args[0] == "range" {
        engine::load(&url, &["put", "--sequential", "--clients", "100", "--total", "10000"]);
    }
    let seconds = std::env::var("QUORATE_PROFILE_SECONDS").unwrap_or_else(|_| "8".to_owned());
    let samples = cluster.home.dir().join("perf.data");
    let output = Command::new("perf")
        .args(["record", "-q", "-a", "-e", "cpu-clock", "-F", &RATE.to_string(), "-o"])
        .arg(&samples)
        // It says first which process it is.
        .args(["--", "sh", "-c", "echo $$; exec \"$@\"", "sh", QUORATE, "bench"])
        .args(*args)
        .args(["--connections", "1", "--duration", &format!("{seconds}s")])
        .args(["--endpoints", &url, "-o", "json"])
        .stderr(Stdio::inherit())
        .output()
        .expect("perf can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let (load, report) = text.split_once('\n').expect("a report after a number");
    let report: Value = serde_json::from_str(report).expect("a report");
    let mut roles = roles(&cluster, &url);
    roles.insert(load.parse().expect("the number of a process"), "load");
    let number = |path| report.pointer(path).and_then(Value::as_f64);
    let seconds: f64 = seconds.parse().expect("a number of seconds");
    let count = number("/events").or_else(|| Some(number("/opsPerSecond")? * seconds));
    let count = count.unwrap_or_else(|| panic!("nothing is counted in {report:#}"));
    print(operation, count / seconds, count, &spent(&samples, &roles));
}

/// Who is who, by process.
fn roles(cluster: &Cluster, leader: &str) -> HashMap<i32, &'static str> {
    let nodes = cluster.spec.names().into_iter().flat_map(|node| {
        let role = if cluster.spec.client_url(&node) == leader { "leader" } else { "followers" };
        cluster.running(&node).all().map(move |it| (it.pid, role)).collect::<Vec<_>>()
    });
    nodes.collect()
}

/// Microseconds by role and by area.
type Spent = BTreeMap<&'static str, BTreeMap<String, f64>>;

fn spent(samples: &Path, roles: &HashMap<i32, &'static str>) -> Spent {
    let output = Command::new("perf")
        .args(["script", "-F", "pid,ip,sym,dso", "-i"])
        .arg(samples)
        .output()
        .expect("perf can be started");
    let mut all = Spent::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some((role, area)) = read(line, roles) else { continue };
        *all.entry(role).or_default().entry(area).or_default() += 1e6 / f64::from(RATE);
    }
    all
}

/// A sample: `pid address symbol (object)`. `None` for one of an idle processor.
fn read(line: &str, roles: &HashMap<i32, &'static str>) -> Option<(&'static str, String)> {
    let (rest, object) = line.trim_end().trim_end_matches(')').rsplit_once(" (")?;
    let mut words = rest.split_whitespace();
    let pid: i32 = words.next()?.parse().ok()?;
    let symbol = words.skip(1).collect::<Vec<_>>().join(" ");
    let role = match roles.get(&pid) {
        Some(role) => role,
        _ if pid == 0 => return None,
        _ => "other processes",
    };
    Some((role, area(&symbol, object)))
}

/// What a function belongs to.
fn area(symbol: &str, object: &str) -> String {
    const NETWORK: &[&str] = &[
        "tcp", "skb", "sock", "inet", "ip_", "net", "xmit", "loopback", "napi", "nf_", "ipt",
        "dev_", "epoll", "ep_", "lock_bh",
    ];
    const DISK: &[&str] = &["ext4", "jbd2", "blk", "bio", "virt", "iomap", "filemap", "folio"];
    let has = |all: &[&str]| all.iter().any(|it| symbol.contains(it));
    if object.contains("kernel") || object.starts_with('[') {
        let part = match () {
            () if has(NETWORK) => "network",
            () if has(DISK) => "files",
            () => "system calls, scheduling, the rest",
        };
        return format!("kernel: {part}");
    }
    if object.contains("libc") {
        return "memory: allocated, freed, copied".to_owned();
    }
    if ["ZSTD_", "HUF_", "FSE_", "XXH"].iter().any(|it| symbol.starts_with(it)) {
        return "zstd".to_owned(); // written in C, where names have no path
    }
    // The first path of the name that is not the language's own.
    let paths = symbol.split(|it: char| !(it.is_alphanumeric() || it == '_' || it == ':'));
    let path = paths
        .filter(|it| it.contains("::"))
        .find(|it| !["core::", "alloc::", "std::"].iter().any(|own| it.starts_with(own)));
    let mut path = path.unwrap_or_default().split("::");
    match path.next().unwrap_or_default() {
        "h2" | "hyper" | "http" | "hyper_util" | "http_body_util" => "HTTP/2".to_owned(),
        "tonic" | "prost" | "tonic_prost" => "gRPC, protobuf".to_owned(),
        "tokio" | "parking_lot" | "parking_lot_core" | "futures_util" => {
            "runtime, locks".to_owned()
        }
        "openraft" | "openraft_rt_tokio" => "openraft".to_owned(),
        "quorate" => match (path.next(), path.next()) {
            (Some("proto"), _) => "gRPC, protobuf".to_owned(),
            (Some("cli"), _) => "ours: load".to_owned(),
            (Some("node"), Some(room)) | (Some(room), _) => format!("ours: {room}"),
            (None, _) => "ours".to_owned(),
        },
        "bytes" | "hashbrown" | "" => "the language: collections, formatting".to_owned(),
        name => name.to_owned(),
    }
}

fn print(operation: &str, rate: f64, operations: f64, spent: &Spent) {
    let roles: Vec<_> = spent.keys().copied().collect();
    let areas: BTreeMap<&str, f64> =
        spent.values().flatten().fold(BTreeMap::new(), |mut all, it| {
            *all.entry(it.0.as_str()).or_default() += it.1;
            all
        });
    let mut areas: Vec<_> = areas.into_iter().filter(|(_, all)| all / operations >= 0.05).collect();
    areas.sort_by(|a, b| b.1.total_cmp(&a.1));
    println!("One {operation}: {rate:.0}/s; microseconds of processor time\n");
    println!("| | {} | all |", roles.join(" | "));
    println!("|---|{}---|", "---|".repeat(roles.len()));
    let row = |name: &str, of: &dyn Fn(&BTreeMap<String, f64>) -> f64| {
        let each = roles.iter().map(|role| of(&spent[role]) / operations);
        let cells: Vec<_> = each.clone().map(|it| format!("{it:.2}")).collect();
        println!("| {name} | {} | {:.2} |", cells.join(" | "), each.sum::<f64>());
    };
    for (name, _) in areas {
        row(name, &|all| all.get(name).copied().unwrap_or_default());
    }
    row("**all**", &|all| all.values().sum());
    println!();
}
