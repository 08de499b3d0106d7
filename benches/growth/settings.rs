//! What is asked for: sizes, and the parts that are measured at them.

use std::fmt;
use std::time::Duration;

use crate::choice::variable;
use crate::engine::Engine;
use crate::figures::{Figure, Line};
use crate::support::cluster::Cluster;
use crate::support::process::Process;
use crate::{clients, data, leases};

/// What a member may store: twice what etcd advises, so that 8 GiB and their history fit.
const QUOTA: u64 = 16 << 30;
/// How long a cluster of that much data may take to come up, heal or end.
pub(crate) const PATIENCE: Duration = Duration::from_mins(20);
/// The same, as `quorate bench` reads it: for each operation of a load.
pub(crate) const OPERATION: &str = "2m";

/// How a run is.
pub(crate) struct Settings {
    pub(crate) mib: Vec<u64>,
    pub(crate) watchers: Vec<u64>,
    pub(crate) leases: Vec<u64>,
    pub(crate) connections: Vec<u64>,
    pub(crate) members: u8,
    pub(crate) seconds: u64,
    pub(crate) repeats: usize,
}

impl Settings {
    /// As the environment has it.
    pub(crate) fn new() -> Settings {
        Settings {
            mib: sizes("QUORATE_GROWTH_MIB", "128,1024"),
            watchers: sizes("QUORATE_GROWTH_WATCHERS", "1000,10000"),
            leases: sizes("QUORATE_GROWTH_LEASES", "1000,10000"),
            connections: sizes("QUORATE_GROWTH_CONNECTIONS", "100,1000"),
            members: variable("QUORATE_GROWTH_MEMBERS", 3),
            seconds: variable("QUORATE_GROWTH_SECONDS", 5),
            repeats: variable("QUORATE_GROWTH_REPEATS", 1),
        }
    }

    /// A cluster that is up and has room for what it is to hold.
    pub(crate) fn cluster(&self, engine: &Engine) -> Cluster {
        let mut cluster = engine.cluster(self.members).patient(PATIENCE);
        cluster.spec.options.push(format!("quotaBackendBytes: {QUOTA}"));
        // Those of a test are in a hurry; here all is as it is by default.
        cluster.spec.remediation = Vec::new();
        cluster.write_spec();
        engine.bring_up(cluster).0
    }
}

/// Ascending sizes, such as `128,1024`.
fn sizes(name: &str, default: &str) -> Vec<u64> {
    let text = variable(name, default.to_owned());
    let sizes: Option<Vec<u64>> = text.split(',').map(|it| it.trim().parse().ok()).collect();
    let sizes = sizes.filter(|it| it.is_sorted_by(|a, b| a < b) && !it.contains(&0));
    sizes.unwrap_or_else(|| {
        eprintln!("error: {name}={text}: give ascending sizes, such as {default}");
        std::process::exit(2)
    })
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { members, seconds, repeats, .. } = self;
        write!(f, "{members} member(s), {seconds} s a load, everything measured {repeats} time(s)")
    }
}

/// What is measured at several sizes.
pub(crate) struct Part {
    /// What a size counts.
    pub(crate) unit: &'static str,
    pub(crate) sizes: fn(&Settings) -> &[u64],
    pub(crate) run: fn(&Engine, &Settings, u64) -> Vec<Figure>,
    pub(crate) lines: &'static [Line],
}

/// The parts, by the names that choose them.
pub(crate) const PARTS: &[(&str, Part)] = &[
    ("data", Part { unit: "MiB", sizes: |it| &it.mib, run: data::data, lines: data::LINES }),
    (
        "watchers",
        Part {
            unit: "watchers",
            sizes: |it| &it.watchers,
            run: clients::watchers,
            lines: clients::WATCHERS,
        },
    ),
    (
        "leases",
        Part { unit: "leases", sizes: |it| &it.leases, run: leases::leases, lines: leases::LINES },
    ),
    (
        "connections",
        Part {
            unit: "connections",
            sizes: |it| &it.connections,
            run: clients::connections,
            lines: clients::CONNECTIONS,
        },
    ),
];

/// What serves, of every member.
pub(crate) fn engines_of(cluster: &Cluster) -> Vec<Process> {
    cluster.spec.names().iter().map(|node| cluster.engine(node)).collect()
}

/// The largest of what its members hold, in MiB.
pub(crate) fn largest_mib(processes: &[Process], kib: impl Fn(Process) -> u64) -> f64 {
    let largest = processes.iter().map(|it| kib(*it)).max().unwrap_or(0);
    crate::measure::as_f64(largest) / 1024.0
}
