//! One reading of this machine and of the cluster on it.
//!
//! Each source is asked on its own and may fail on its own: homes and locks on disk, each
//! member's Status, the member list. What could not be read is unknown, never empty.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use super::home::ClusterFile;
use super::process::{self, Running};
use super::{Local, LocalError};
use crate::client::{Status, peer};
use crate::cluster::{
    Disk, Exit, Founding, Health, Identity, NodeName, NodeSeen, Observed, Process, Timestamp,
    Wanted,
};
use crate::execute::change::{self, closed_to_us};
use crate::node::home::{NodeHome, NodeState, Phase};
use crate::render::{self, NodeConfig};

/// A process that did not end when it was killed is left alone for this long.
const UNSTOPPABLE_MS: u64 = 30_000;

/// More about a member than the planner needs, for people.
#[derive(Clone, Debug)]
pub struct MemberFigures {
    /// What its Status said.
    pub status: Status,
    /// When.
    pub at: Timestamp,
}

/// What the members that were asked said of themselves.
#[derive(Debug, Default)]
struct Answers {
    statuses: BTreeMap<NodeName, Status>,
    /// Those that answered that we may not ask, with the reason.
    refused: BTreeMap<NodeName, String>,
}

/// What was read of one node before any member was asked.
struct Local1 {
    running: Running,
    disk: Disk,
    config: Option<NodeConfig>,
}

impl Local {
    /// Reads everything once.
    pub(super) async fn read_world(&mut self, wanted: &Wanted) -> Result<Observed, LocalError> {
        let file =
            self.home.read()?.unwrap_or_else(|| ClusterFile::new(&wanted.name, &wanted.token));
        let names: BTreeSet<_> =
            self.home.nodes()?.into_iter().chain(wanted.nodes.keys().cloned()).collect();
        let read = |name: NodeName| {
            let mut local = read_node(&self.home.node(&name));
            if self.is_unstoppable(&name) && local.running.process != Process::Stopped {
                let why = "it was killed and its process has not ended: its disk may hang";
                local.running.process = Process::Unknown(why.to_owned());
            }
            (name, local)
        };
        let local: BTreeMap<_, _> = names.into_iter().map(read).collect();

        let endpoints: BTreeMap<_, _> = local
            .iter()
            .filter(|(_, l)| matches!(l.running.process, Process::Running { .. }))
            .filter_map(|(n, l)| Some((n.clone(), client_url(wanted, n, l)?)))
            .collect();
        let Answers { statuses, refused } = self.ask_all(&endpoints).await;
        // A stranger's cluster on our ports is not ours, whatever it answers.
        let expected = file.record.founding.as_ref().map(Founding::cluster_id);
        let ours = |s: &Status| expected.is_none_or(|cluster| s.cluster == cluster);
        // Neither of these is silent: one is starting, the other answers that we may not ask.
        let mut not_to_blame = ask_peer_ports(&local, &statuses).await;
        not_to_blame.extend(refused.keys().cloned());
        let answering: Vec<_> = endpoints
            .iter()
            .filter(|(n, _)| statuses.get(*n).is_some_and(|s| ours(s) && s.leader.is_some()))
            .map(|(_, url)| url.clone())
            .collect();
        let members = change::ask_members(
            &self.client,
            &answering,
            statuses.len(),
            refused.values().next(),
            file.record.founding.as_ref(),
        )
        .await;
        if !answering.is_empty() {
            self.endpoints = answering;
        }

        // Read after the answers came: a dwell must not count the time spent asking.
        // A clock that is set must neither end a dwell nor make one last.
        let now = self.clock.steady();
        self.figures = statuses
            .iter()
            .map(|(n, s)| (n.clone(), MemberFigures { status: s.clone(), at: now }))
            .collect();
        let lead = statuses.values().map(|s| s.raft_index).max().unwrap_or(0);
        let nodes = local
            .into_iter()
            .map(|(name, l)| {
                let health = self.memory.health(&l.running.process, statuses.get(&name), lead, now);
                if not_to_blame.contains(&name) {
                    self.memory.excuse(&name, now);
                }
                let seen = self.node_seen(wanted, &name, l, health, members.known().is_some(), now);
                (name, seen)
            })
            .collect();
        let first_seen = self.memory.list(members.known(), now);
        Ok(Observed { now, record: file.record, members, first_seen, nodes })
    }

    /// Whether a node was killed a moment ago, in vain: another try would only keep all the others
    /// from being looked after.
    fn is_unstoppable(&self, name: &NodeName) -> bool {
        let since = |at: &Timestamp| self.clock.steady().since(*at);
        self.unstoppable.get(name).is_some_and(|at| since(at) < UNSTOPPABLE_MS)
    }

    async fn ask_all(&self, endpoints: &BTreeMap<NodeName, String>) -> Answers {
        let asked = endpoints
            .iter()
            .map(|(name, url)| async move { (name.clone(), self.probe.status(url).await) });
        let mut answers = Answers::default();
        for (name, answer) in join_all(asked).await {
            match answer {
                Ok(status) => drop(answers.statuses.insert(name, status)),
                // Why one did not answer is in its log; here only that it did not.
                Err(e) => {
                    if let Some(why) = closed_to_us(&e) {
                        answers.refused.insert(name, why);
                    }
                }
            }
        }
        answers
    }

    fn node_seen(
        &mut self,
        wanted: &Wanted,
        name: &NodeName,
        l: Local1,
        health: Health,
        quorum_answers: bool,
        now: Timestamp,
    ) -> NodeSeen {
        let (process, state) = (&l.running.process, l.running.state.as_ref());
        let read = state.map_or(0, |it| it.read_mib);
        let since = self.memory.note(name, process, read, health, quorum_answers, now);
        let exit = last_exit(&l.running.process, state, self.ends.of(name));
        NodeSeen {
            process_since: since.process,
            stamp: stamp_of(&self.home.node(name)),
            promised: self.home.node(name).promise().ok().flatten(),
            exit: exit.map(|it| self.memory.dated(name, it, self.clock.now(), now)),
            data_gone: state.is_some_and(|s| s.data_gone)
                && matches!(l.running.process, Process::Running { .. }),
            peer_url: l
                .config
                .as_ref()
                .and_then(|c| c.initial_advertise_peer_urls.first().cloned()),
            outdated: is_outdated(wanted, name, &self.home.node(name), &l),
            unhealthy_since: since.unhealthy,
            process: l.running.process,
            disk: l.disk,
            health,
        }
    }
}

/// The nodes that do not answer clients yet and do answer peers.
///
/// etcd opens its client port only once the cluster has taken note of its start, which takes a
/// quorum and, if one proposal is lost, another 7 s. Such a node is starting, not silent: a
/// frozen one answers on neither port.
async fn ask_peer_ports(
    local: &BTreeMap<NodeName, Local1>,
    statuses: &BTreeMap<NodeName, Status>,
) -> BTreeSet<NodeName> {
    let silent = local.iter().filter(|(name, l)| {
        matches!(l.running.process, Process::Running { .. }) && !statuses.contains_key(*name)
    });
    let asked = silent.filter_map(|(name, l)| {
        let url = l.config.as_ref()?.initial_advertise_peer_urls.first()?;
        Some(async move {
            let answers = peer::version(url, super::PROBE_LIMIT).await.is_ok();
            answers.then(|| name.clone())
        })
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Where a running node answers clients: as it was started, or as it would be if nobody knows how
/// it was started.
fn client_url(wanted: &Wanted, name: &NodeName, local: &Local1) -> Option<String> {
    let urls = match &local.config {
        Some(config) => &config.advertise_client_urls,
        None => &wanted.nodes.get(name)?.client_urls,
    };
    urls.first().cloned()
}

fn read_node(home: &NodeHome) -> Local1 {
    let mut running = process::look(home);
    let disk = match running.process {
        Process::Running { .. } => disk_of_running(home, running.state.as_ref()),
        Process::Stopped | Process::Preparing | Process::Unknown(_) => home.disk(),
    };
    let config = match read_config(home) {
        Ok(config) => config,
        // Whom to ask is not known then, and a node that is not asked is not silent.
        Err(unread) => {
            running.process = Process::Unknown(unread);
            None
        }
    };
    Local1 { running, disk, config }
}

/// What the node was last started with; `None` if there is no such file.
fn read_config(home: &NodeHome) -> Result<Option<NodeConfig>, String> {
    let path = home.config_env();
    let text = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| format!("cannot read {}: {e}", path.display()))?,
    };
    render::parse_env(&text).map(Some).map_err(|e| format!("{}: {e}", path.display()))
}

/// A running engine's log is not read under it: the stamp says what it was started from.
fn disk_of_running(home: &NodeHome, state: Option<&NodeState>) -> Disk {
    match home.stamp() {
        Ok(Some(stamp)) => Disk::Holds(Identity {
            cluster: stamp.cluster,
            member: stamp.member,
            founding: stamp.founding,
        }),
        Ok(None) => Disk::Unknown(format!("{} runs without a stamp", home.dir().display())),
        Err(e) => Disk::Unknown(format!("{e} ({:?})", state.map(|s| s.phase))),
    }
}

/// The stamp, unless nothing ever came of it. One that cannot be read makes the disk unknown, so
/// nothing is concluded from its absence here.
fn stamp_of(home: &NodeHome) -> Option<Identity> {
    let stamp = home.stamp().ok().flatten().filter(|_| !home.is_cut_short());
    stamp.map(|s| s.identity())
}

/// How a stopped node ended: in its own words, or as its parent saw it; what the engine of one that
/// runs complains of.
fn last_exit(process: &Process, state: Option<&NodeState>, noted: Option<Exit>) -> Option<Exit> {
    match process {
        Process::Stopped => {}
        Process::Running { .. } => return state.and_then(|s| s.complaint.clone()),
        Process::Preparing | Process::Unknown(_) => return None,
    }
    let own = state.filter(|s| s.phase == Phase::Ended).and_then(|s| s.exit.clone());
    latest(own, noted)
}

/// A node's own words are the better ones. If it came to the same end again since, then later.
fn latest(own: Option<Exit>, noted: Option<Exit>) -> Option<Exit> {
    match (own, noted) {
        (Some(own), Some(noted)) if noted.at > own.at => {
            Some(if noted.kind == own.kind { Exit { at: noted.at, ..own } } else { noted })
        }
        (own, noted) => own.or(noted),
    }
}

/// Whether a restart would change anything: the initial-* settings do not matter to a node that
/// has data.
fn is_outdated(wanted: &Wanted, name: &NodeName, home: &NodeHome, local: &Local1) -> bool {
    if !wanted.nodes.contains_key(name) {
        return false;
    }
    // What runs with settings that nobody knows any more is started with the right ones.
    let Some(last) = &local.config else {
        return matches!(local.running.process, Process::Running { .. });
    };
    let data = home.data();
    let now = render::node_config(wanted, &[], name, &data.to_string_lossy());
    let lasting = |c: &NodeConfig| NodeConfig {
        initial_cluster: Vec::new(),
        initial_cluster_state: render::InitialState::New,
        initial_cluster_token: String::new(),
        initial_advertise_peer_urls: Vec::new(),
        ..c.clone()
    };
    lasting(last) != lasting(&now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ExitKind;

    /// That a disk is still full is news, however long ago it was first found full.
    #[test]
    fn the_latest_end_counts_and_is_told_in_the_nodes_own_words() {
        let end = |kind, at, detail: &str| {
            Some(Exit { kind, member: None, at: Timestamp(at), detail: detail.to_owned() })
        };
        let own = || end(ExitKind::DiskFull, 1_000, "no room for the log");
        let again = latest(own(), end(ExitKind::DiskFull, 9_000, "full"));
        assert_eq!(again, end(ExitKind::DiskFull, 9_000, "no room for the log"));
        let other = || end(ExitKind::Unknown, 9_000, "read-only");
        assert_eq!(latest(own(), other()), other());
        assert_eq!(latest(own(), end(ExitKind::Unknown, 500, "read-only")), own());
    }
}
