//! What takes part in a race.

use std::fmt;
use std::process::{Child, Command, Stdio};

use crate::support::cluster::{Cluster, SOON};
use crate::support::process::{Process, Ran, Signal};
use crate::support::up::QUORATE;
use crate::support::wait::{eventually, now};
use crate::support::wire;

/// The name of our own engine.
pub(crate) const EMBEDDED: &str = "embedded";

/// An engine, as `quorate up` is told of it.
pub(crate) struct Engine {
    pub(crate) side: char,
    name: String,
    version: String,
    arguments: Vec<String>,
}

impl Engine {
    /// The engine that a variable names: a path, or [`EMBEDDED`]. `up` gets either as it is.
    pub(crate) fn new(side: char, name: &str) -> Engine {
        let version = if name == EMBEDDED {
            String::new()
        } else {
            let text = Ran::of(name, &["--version"]).text();
            text.lines().next().unwrap_or_default().trim().to_owned()
        };
        let arguments = vec!["--engine".to_owned(), name.to_owned()];
        Engine { side, name: name.to_owned(), version, arguments }
    }

    /// Whether it is ours, which the goals are for.
    pub(crate) fn is_ours(&self) -> bool {
        self.name == EMBEDDED
    }

    /// What it is called in a picture.
    pub(crate) fn title(&self) -> String {
        self.version.rsplit(' ').next().map_or_else(String::new, |it| format!("etcd {it}"))
    }

    /// Whether it is an etcd that reads faster and holds less than Debian's: 3.5 or newer.
    pub(crate) fn is_new(&self) -> bool {
        let version = self.version.rsplit(' ').next().unwrap_or_default();
        let mut numbers = version.trim_start_matches('v').split('.').map(str::parse::<u32>);
        let (major, minor) = (numbers.next(), numbers.next());
        matches!((major, minor), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (3, 5))
    }

    /// A cluster that is not started yet.
    pub(crate) fn cluster(&self, nodes: u8) -> Cluster {
        Cluster::declared(nodes).on_engine(&self.arguments)
    }

    /// A cluster that is up, and the seconds from the start of `up` on an empty home until a
    /// quorum served and `up` had said so.
    pub(crate) fn ready(&self, nodes: u8) -> (Cluster, f64) {
        self.bring_up(self.cluster(nodes))
    }

    /// The same of one that was declared before.
    pub(crate) fn bring_up(&self, cluster: Cluster) -> (Cluster, f64) {
        let begun = now();
        cluster.up();
        let took = begun.elapsed().as_secs_f64();
        // It must not say so before it is true.
        let list = cluster.list().expect("a cluster that is said to be ready answers");
        let voters = list.members.iter().filter(|it| !it.learner && !it.name.is_empty()).count();
        assert_eq!(voters, cluster.spec.nodes.len(), "{list:#?}");
        cluster.healed();
        for node in cluster.spec.names() {
            let running = cluster.running(&node);
            let is_embedded = running.engine == running.wrapper;
            assert_eq!(is_embedded, self.is_ours(), "{node} does not run {}", self.name);
        }
        (cluster, took)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = if self.version.is_empty() { "this build" } else { &self.version };
        write!(f, "{} ({version})", self.name)
    }
}

/// The client URL of the member that leads, once all members agree on it.
pub(crate) fn leader_url(cluster: &Cluster) -> String {
    let endpoints = cluster.endpoints();
    eventually("one leader that all follow", SOON, || {
        let all = endpoints.iter().map(|it| wire::status(it)).collect::<Result<Vec<_>, _>>()?;
        let leader = all[0].leader;
        if leader == 0 || all.iter().any(|it| it.leader != leader) {
            return Err(format!("{all:?}"));
        }
        let at = all.iter().position(|it| it.member == leader);
        at.map(|at| endpoints[at].clone()).ok_or_else(|| format!("{all:?}"))
    })
}

/// Runs `quorate bench` and reads its report; a load with failed operations is no figure.
pub(crate) fn load(url: &str, args: &[&str]) -> serde_json::Value {
    Load::start(url, args).report()
}

/// A `quorate bench` under way.
pub(crate) struct Load(Child);

impl Load {
    pub(crate) fn start(url: &str, args: &[&str]) -> Load {
        let child = Command::new(QUORATE)
            .arg("bench")
            .args(args)
            .args(["--endpoints", url, "-o", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Load(child.expect("the program under test can be started"))
    }

    /// Ends it before its time; what was measured until then is reported.
    #[allow(dead_code, reason = "no load of the race ends early")]
    pub(crate) fn stop(self) -> serde_json::Value {
        let process = i32::try_from(self.0.id()).ok().and_then(Process::of);
        process.expect("a load runs until it is stopped").signal(Signal::INT);
        self.report()
    }

    /// Waits for its end.
    pub(crate) fn report(self) -> serde_json::Value {
        let output = self.0.wait_with_output().expect("a child can be waited for");
        let report = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "a load failed: {report}{output:?}");
        serde_json::from_str(&report).expect("a report")
    }
}
