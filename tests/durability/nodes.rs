//! Real nodes, each started as `quorate node` in a home of its own, and what each of them has.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate::cluster::ExitKind;
use quorate::proto::etcdserverpb as pb;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::power::Power;
use crate::support::spec::Addresses;
use crate::support::undo::{Loss, Taken};
use crate::support::wait::eventually;
use crate::support::wire::{self, block_on, channel};

/// Far more than anything here takes; what takes this long has failed.
pub(crate) const LONG: Duration = Duration::from_secs(180);

/// The machine is small: one cluster at a time.
static ONE: Mutex<()> = Mutex::new(());

/// A key as one member has it: its value, and the revision that it was last changed in.
pub(crate) type Held = BTreeMap<Vec<u8>, (Vec<u8>, i64)>;

/// Nodes of one cluster.
pub(crate) struct Nodes {
    // Dropped before the place they run in.
    pub(crate) all: Vec<Node>,
    settings: Vec<(&'static str, String)>,
    power: Option<Power>,
    root: TempDir,
    _addresses: Addresses,
    _turn: MutexGuard<'static, ()>,
}

/// One of them.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) peer: String,
    pub(crate) client: String,
    /// What is the node's on the disk: its stamp, and `data`.
    pub(crate) home: PathBuf,
    undo: PathBuf,
    printed: PathBuf,
    child: RefCell<Option<Child>>,
}

impl Nodes {
    /// Places for so many; nothing runs yet.
    pub(crate) fn of(count: u8) -> Nodes {
        let turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let root = tempfile::tempdir().expect("a directory");
        let addresses = Addresses::claim();
        let node = |at: u8| {
            let (name, host) = (format!("n{at}"), addresses.host(at));
            let dir = |kind: &str| root.path().join(format!("{name}.{kind}"));
            let (home, undo) = (dir("home"), dir("undo"));
            fs::create_dir(&home).expect("a home");
            fs::create_dir(&undo).expect("a directory");
            Node {
                peer: format!("http://{host}:2380"),
                client: format!("http://{host}:2379"),
                printed: dir("printed"),
                child: RefCell::new(None),
                name,
                home,
                undo,
            }
        };
        let all = (1..=count).map(node).collect();
        let settings =
            vec![("HEARTBEAT_INTERVAL", "50".into()), ("ELECTION_TIMEOUT", "1000".into())];
        Nodes { all, settings, power: None, root, _addresses: addresses, _turn: turn }
    }

    /// With a setting for all, as etcd's variable without `ETCD_`.
    pub(crate) fn set(mut self, variable: &'static str, value: impl ToString) -> Nodes {
        self.settings.push((variable, value.to_string()));
        self
    }

    /// Whose logs are purged early and hold little, so that whoever lags gets a snapshot.
    pub(crate) fn with_short_logs(self) -> Nodes {
        self.set("SNAPSHOT_COUNT", 200).set("EXPERIMENTAL_SNAPSHOT_CATCHUP_ENTRIES", 50)
    }

    /// Whose disks can lose what was not synced.
    pub(crate) fn under(mut self, power: Power) -> Nodes {
        self.power = Some(power);
        self
    }

    pub(crate) fn has_power_to_lose(&self) -> bool {
        self.power.is_some()
    }

    /// Starts all that do not run, and waits until they serve.
    #[track_caller]
    pub(crate) fn run(self) -> Nodes {
        self.all.iter().filter(|it| !it.runs()).for_each(|it| self.start(it));
        self.all.iter().for_each(Node::serves);
        self
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.all.iter().map(|it| it.client.clone()).collect()
    }

    /// Starts a node as a founder, or on its data.
    pub(crate) fn start(&self, node: &Node) {
        self.start_as(node, "new");
    }

    /// Starts a node; `existing` for one that was added.
    pub(crate) fn start_as(&self, node: &Node, state: &str) {
        let members: Vec<_> = self.all.iter().map(|n| format!("{}={}", n.name, n.peer)).collect();
        let data = node.home.join("data").display().to_string();
        let members = members.join(",");
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.arg("node").env_clear().stdin(Stdio::null()).current_dir(self.root.path());
        for (variable, value) in [
            ("NAME", node.name.as_str()),
            ("DATA_DIR", &data),
            ("LISTEN_PEER_URLS", &node.peer),
            ("LISTEN_CLIENT_URLS", &node.client),
            ("INITIAL_ADVERTISE_PEER_URLS", &node.peer),
            ("ADVERTISE_CLIENT_URLS", &node.client),
            ("INITIAL_CLUSTER", &members),
            ("INITIAL_CLUSTER_STATE", state),
            ("INITIAL_CLUSTER_TOKEN", "durability"),
        ] {
            command.env(format!("ETCD_{variable}"), value);
        }
        for (variable, value) in &self.settings {
            command.env(format!("ETCD_{variable}"), value);
        }
        if let Some(power) = &self.power {
            power.on(&mut command, &node.home, &node.undo);
        }
        let out = File::options().create(true).append(true).open(&node.printed).expect("a file");
        command.stdout(out.try_clone().expect("a file")).stderr(out);
        let former = node.child.replace(Some(command.spawn().expect("quorate runs")));
        assert!(former.is_none(), "{} runs already", node.name);
    }

    /// The node that leads, as it says itself.
    #[track_caller]
    pub(crate) fn leader(&self) -> &Node {
        let at = eventually("a leader", LONG, || {
            let leads = |it: &Node| wire::status(&it.client).is_ok_and(|s| s.leader == s.member);
            self.all.iter().position(|it| it.runs() && leads(it)).ok_or("none leads")
        });
        &self.all[at]
    }

    /// Takes away what the node, which does not run, has not synced.
    pub(crate) fn loses_power(node: &Node, loss: Loss) -> Taken {
        assert!(!node.runs());
        crate::support::undo::take_away(&node.home, &node.undo, loss)
    }

    /// Waits until these have the same history; the revision at which they were compared.
    #[track_caller]
    pub(crate) fn agree(&self) -> i64 {
        agree(&self.all.iter().collect::<Vec<_>>())
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.all.clear();
        if std::env::var_os("QUORATE_TEST_KEEP").is_some() || std::thread::panicking() {
            self.root.disable_cleanup(true);
            eprintln!("kept: {}", self.root.path().display());
        }
    }
}

/// Waits until these have the same history up to where the first is now, and returns that.
#[track_caller]
pub(crate) fn agree(nodes: &[&Node]) -> i64 {
    eventually("the same HashKV everywhere", LONG, || {
        let at = nodes[0].linear_revision()?;
        let hash = |it: &&Node| -> Result<_, String> {
            let (hash, compacted) = wire::hash_kv(&it.client, at)?;
            Ok((hash, compacted, it.name.clone()))
        };
        let hashes = nodes.iter().map(hash).collect::<Result<Vec<_>, _>>()?;
        let same = hashes.iter().all(|it| (it.0, it.1) == (hashes[0].0, hashes[0].1));
        if same { Ok(at) } else { Err(format!("at {at}: {hashes:?}")) }
    })
}

/// How a node ended by itself: its code, its JSON line, and all that it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    code: Option<i32>,
    exit: Value,
    printed: String,
}

impl Ended {
    /// Code and JSON line must tell the same typed reason.
    #[track_caller]
    pub(crate) fn is(&self, kind: ExitKind) -> &Ended {
        assert_eq!(self.exit["exit"], kind.to_string(), "{}", self.printed);
        assert_eq!(self.code, Some(i32::from(kind.code())), "{}", self.printed);
        self
    }
}

impl Node {
    /// All that it printed, in all of its lives.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.printed).unwrap_or_default()
    }

    fn last_said(&self) -> String {
        let said = self.said();
        let lines: Vec<_> = said.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    pub(crate) fn runs(&self) -> bool {
        self.child.borrow().is_some()
    }

    fn status(&self) -> Option<ExitStatus> {
        self.child.borrow_mut().as_mut().expect("started").try_wait().expect("ours")
    }

    /// Whether it was started and is still there.
    pub(crate) fn has_not_ended(&self) -> bool {
        self.status().is_none()
    }

    /// Panics if the node has ended by itself.
    #[track_caller]
    pub(crate) fn is_alive(&self) {
        let status = self.status();
        assert!(status.is_none(), "{} has ended, {status:?}:\n{}", self.name, self.last_said());
    }

    /// `kill -9`, and waits until it is gone. It must not have ended before.
    #[track_caller]
    pub(crate) fn kill_9(&self) {
        self.is_alive();
        let mut child = self.child.take().expect("started");
        child.kill().expect("ours");
        child.wait().expect("ours");
    }

    /// Asks it to stop, and waits until it has.
    #[track_caller]
    pub(crate) fn stop(&self) {
        {
            let child = self.child.borrow();
            let pid = Pid::from_child(child.as_ref().expect("started"));
            kill_process(pid, Signal::TERM).expect("ours");
        }
        self.ended().is(ExitKind::Clean);
    }

    /// Waits for it to end by itself.
    #[track_caller]
    pub(crate) fn ended(&self) -> Ended {
        let status = eventually(&format!("{} ends", self.name), LONG, || {
            self.status().ok_or_else(|| self.last_said())
        });
        self.child.replace(None);
        let printed = self.last_said();
        let exit = printed.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        Ended { code: status.code(), exit: exit.unwrap_or_default(), printed }
    }

    /// Waits until it answers a quorum read.
    #[track_caller]
    pub(crate) fn serves(&self) {
        eventually(&format!("{} serves", self.name), LONG, || {
            self.is_alive();
            self.linear_revision().map_err(|why| format!("{why}\n{}", self.last_said()))
        });
    }

    /// Where a quorum read through this node finds the store.
    pub(crate) fn linear_revision(&self) -> Result<i64, String> {
        let request = pb::RangeRequest { key: "none".into(), ..Default::default() };
        Ok(self.range(request)?.header.unwrap_or_default().revision)
    }

    pub(crate) fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, String> {
        let mut client = pb::kv_client::KvClient::new(channel(&self.client))
            .max_decoding_message_size(256 << 20);
        let call =
            async { tokio::time::timeout(Duration::from_secs(10), client.range(request)).await };
        match block_on(call) {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(format!("{}: {status}", self.name)),
            Err(_) => Err(format!("{}: no answer", self.name)),
        }
    }

    /// All that this one member has, or what begins with these bytes.
    pub(crate) fn holds(&self, prefix: &str) -> Result<Held, String> {
        let mut end = prefix.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let mut held = Held::new();
        let mut key = prefix.as_bytes().to_vec();
        loop {
            let answer = self.range(pb::RangeRequest {
                key: key.clone().into(),
                range_end: end.clone().into(),
                limit: 3000,
                serializable: true,
                ..Default::default()
            })?;
            let Some(last) = answer.kvs.last() else { return Ok(held) };
            key = [&last.key[..], &[0]].concat();
            held.extend(
                answer
                    .kvs
                    .into_iter()
                    .map(|it| (it.key.to_vec(), (it.value.to_vec(), it.mod_revision))),
            );
            if !answer.more {
                return Ok(held);
            }
        }
    }

    /// The engine's data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Empties its place, as one does by hand who has a disk replaced.
    pub(crate) fn wipe(&self) {
        assert!(!self.runs());
        fs::remove_dir_all(&self.home).expect("ours");
        fs::create_dir(&self.home).expect("ours");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Gone already, or gone now.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// All files below a directory.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}
