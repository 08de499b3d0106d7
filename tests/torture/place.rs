//! Where a round happens: a cluster under `up`, and the handles at which it is broken.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::apart::Means;
use crate::support::cluster::{Cluster, SOON};
use crate::support::home::Home;
use crate::support::power::SYNC_MICROS;
use crate::support::process::{Process, Signal, kill_all_of};
use crate::support::undo::{Loss, Taken, take_away};
use crate::support::wait::{eventually, now};
use crate::support::wire;

/// After how long a silent member is replaced.
pub(crate) const DWELL: Duration = Duration::from_secs(5);

/// What was done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// It cannot do or say anything.
    Frozen,
    /// It hears no other node, and no other hears it.
    Isolated,
    /// Some of what it says or hears is late or lost.
    Troubled,
    /// What was on its disk is not there.
    Emptied,
    /// What is on its disk is not what was written.
    Damaged,
    /// The clock of `up` is not what it was.
    Stepped,
}

/// That, to whom, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Harmed {
    pub(crate) node: String,
    pub(crate) harm: Harm,
    pub(crate) from: Instant,
    pub(crate) until: Option<Instant>,
}

pub(crate) struct Place {
    pub(crate) cluster: Cluster,
    pub(crate) harmed: Vec<Harmed>,
    env: Vec<(String, String)>,
}

/// What a place has to have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    pub(crate) nodes: u8,
    pub(crate) snapshots: u64,
    /// Disks whose power can fail.
    pub(crate) power: bool,
    /// The last node has a small disk.
    pub(crate) small_disk: bool,
}

impl Place {
    /// A cluster that is up and healthy.
    #[track_caller]
    pub(crate) fn new(needs: Needs, means: &Means) -> Place {
        let mut cluster = Cluster::declared(needs.nodes);
        let dwell = format!("unhealthySeconds: {}", DWELL.as_secs());
        cluster.spec.remediation = vec![dwell];
        cluster.spec.options = vec![format!("snapshotCount: {}", needs.snapshots)];
        cluster.write_spec();
        if needs.small_disk {
            let last = cluster.spec.names().pop().expect("nodes");
            assert!(cluster.home.mount_small(cluster.home.node(&last), 200));
        }
        let env = env(&cluster, needs, means);
        let place = Place { cluster, harmed: Vec::new(), env };
        place.starts_up();
        place.cluster.healed();
        place
    }

    pub(crate) fn starts_up(&self) {
        let env: Vec<_> = self.env.iter().map(|it| (it.0.as_str(), it.1.as_str())).collect();
        self.cluster.start_up(&env);
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.cluster.spec.names()
    }

    pub(crate) fn home(&self) -> &Home {
        &self.cluster.home
    }

    pub(crate) fn address(&self, node: &str) -> &str {
        self.cluster.spec.address(node)
    }

    /// The node that leads, if one does within a while.
    pub(crate) fn leader(&self) -> Option<String> {
        let names = self.names();
        let begun = now();
        loop {
            let leads = |node: &&String| {
                let status = wire::status(&self.cluster.spec.client_url(node));
                status.is_ok_and(|it| it.leader == it.member)
            };
            let found = names.iter().find(leads).cloned();
            if found.is_some() || begun.elapsed() > Duration::from_secs(2) {
                return found;
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// What runs of a node.
    pub(crate) fn processes(&self, node: &str) -> Vec<Process> {
        self.home().processes(node).all().collect()
    }

    /// `kill -9` of what runs of these, all before the first is awaited.
    pub(crate) fn kill(&self, nodes: &[String]) {
        let all: Vec<_> = nodes.iter().flat_map(|it| self.processes(it)).collect();
        for it in &all {
            it.signal(Signal::KILL);
        }
        for it in all {
            it.kill_9();
        }
    }

    /// Does something to nodes that do not run, while `up` does not look.
    pub(crate) fn while_down<T>(&self, nodes: &[String], act: impl FnOnce() -> T) -> T {
        self.cluster.while_up_is_frozen(|| {
            self.kill(nodes);
            for it in nodes {
                kill_all_of(&self.home().node(it));
            }
            act()
        })
    }

    /// Takes away what this node, which does not run, has not synced.
    pub(crate) fn loses_power(&self, node: &str, loss: Loss) -> Taken {
        take_away(&self.home().node(node), &self.dir("undo").join(node), loss)
    }

    /// How much this one's clock is off from now on; `up` is one, too.
    pub(crate) fn step_clock(&self, whose: &str, by: i64) {
        let file = OpenOptions::new().write(true).open(self.dir("clocks").join(whose));
        let nanos = by.saturating_mul(1_000_000_000).to_le_bytes();
        file.and_then(|it| it.write_all_at(&nanos, 0)).expect("a clock");
    }

    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.home().dir().join(name)
    }

    pub(crate) fn harm(&mut self, node: &str, harm: Harm) {
        let node = node.to_owned();
        self.harmed.push(Harmed { node, harm, from: now(), until: None });
    }

    /// The last of these is over.
    pub(crate) fn relieve(&mut self, node: &str, harm: Harm) {
        let mut last = self.harmed.iter_mut().rev();
        let last = last.find(|it| it.node == node && it.harm == harm && it.until.is_none());
        if let Some(last) = last {
            last.until = Some(now());
        }
    }

    /// One that was frozen, and killed since, runs anew.
    pub(crate) fn forgets_who_is_not_frozen(&mut self) {
        let is_open = |it: &&Harmed| it.harm == Harm::Frozen && it.until.is_none();
        let open: Vec<_> = self.harmed.iter().filter(is_open).map(|it| it.node.clone()).collect();
        for node in open {
            let is_stopped = |it: &Process| {
                let stat = fs::read_to_string(format!("/proc/{}/stat", it.pid));
                stat.is_ok_and(|it| it.contains(") T "))
            };
            if !self.processes(&node).iter().any(is_stopped) {
                self.relieve(&node, Harm::Frozen);
            }
        }
    }

    /// Waits until all is as declared, and every node that was emptied has another member.
    #[track_caller]
    pub(crate) fn heals(&self, before: &[(String, u64)]) {
        let emptied =
            |node: &str| self.harmed.iter().any(|it| it.node == node && it.harm == Harm::Emptied);
        self.cluster.healed_when("the cluster to heal", |members| {
            for (node, old) in before.iter().filter(|it| emptied(&it.0)) {
                if members[node].id == *old {
                    return Err(format!("{node} is still {old:x}"));
                }
            }
            Ok(())
        });
    }

    /// Where a quorum read finds the store.
    #[track_caller]
    pub(crate) fn revision(&self) -> i64 {
        eventually("a quorum read", SOON, || wire::linear_revision(&self.cluster.endpoints()))
    }
}

/// What makes `up` and its nodes go by our clocks, addresses and disks.
fn env(cluster: &Cluster, needs: Needs, means: &Means) -> Vec<(String, String)> {
    let Some(power) = &means.power else { return Vec::new() };
    let dir = |name: &str| cluster.home.dir().join(name);
    let (undo, clocks) = (dir("undo"), dir("clocks"));
    fs::create_dir(&undo).expect("ours");
    fs::create_dir(&clocks).expect("ours");
    for node in cluster.spec.names() {
        fs::write(clocks.join(&node), [0; 8]).expect("ours");
        if needs.power {
            fs::create_dir(undo.join(&node)).expect("ours");
        }
    }
    fs::write(clocks.join("up"), [0; 8]).expect("ours");
    [
        ("LD_PRELOAD", power.shim().display().to_string()),
        ("PL_UNDOS", undo.display().to_string()),
        ("PL_CLOCKS", clocks.display().to_string()),
        ("PL_SYNC_MICROS", SYNC_MICROS.to_owned()),
        ("PL_BIND", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
