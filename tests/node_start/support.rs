//! Nodes of one small cluster, each in a home of its own, run by the real `quorate node` on its own
//! engine or on the real etcd.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use quorate::cluster::{ExitKind, MemberId, founding_member_id};
use quorate::node::home::{NodeHome, NodeState, Phase};
use quorate::node::{data, wal};
use rustix::process::Signal;
use serde_json::Value;

use super::ports;
use super::small_disk::SmallDisk;

/// Far more than anything here takes; who waits this long has failed.
const LONG: Duration = Duration::from_mins(2);
pub(crate) const QUORATE: &str = env!("CARGO_BIN_EXE_quorate");
pub(crate) const HOST: &str = "127.9.3.1";

/// The time now.
#[allow(clippy::disallowed_methods, reason = "tests measure what really happens")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Waits until `found` has something.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = now();
    // A look may itself take long.
    while begun.elapsed() < LONG {
        if let Some(it) = found() {
            return it;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("not within {LONG:?}: {what}");
}

/// A port of the host of all nodes here.
pub(crate) fn free_port() -> u16 {
    ports::free_port(HOST)
}

/// A program without the test's own ETCD* environment.
pub(crate) fn bare(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).stdin(Stdio::null());
    command
}

/// What serves behind `quorate node`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The real etcd, as `--exec`.
    Upstream,
    /// The process itself.
    Embedded,
}

impl Engine {
    /// The start, with its flag that says which engine.
    pub(crate) fn named(self, start: Start) -> Start {
        match self {
            Engine::Upstream => start.arg("--exec", "etcd"),
            Engine::Embedded => start,
        }
    }

    /// The other one.
    pub(crate) fn other(self) -> Engine {
        match self {
            Engine::Upstream => Engine::Embedded,
            Engine::Embedded => Engine::Upstream,
        }
    }

    /// Where it keeps its log.
    pub(crate) fn log_dir(self, data: &Path) -> PathBuf {
        match self {
            Engine::Upstream => wal::wal_dir(data),
            Engine::Embedded => data::log_dir(data),
        }
    }
}

/// Makes a test on each engine of stories that take one; its name begins with that of the engine.
macro_rules! on_both_engines {
    ($($story:ident),+ $(,)?) => {
        mod upstream {
            $(#[test] fn $story() { super::$story(crate::support::Engine::Upstream); })+
        }
        mod embedded {
            $(#[test] fn $story() { super::$story(crate::support::Engine::Embedded); })+
        }
    };
}
pub(crate) use on_both_engines;

/// Nodes `n1`, `n2`, … of one cluster.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    /// Of one of the nodes, dropped after all of them.
    pub(crate) disk: Option<SmallDisk>,
    // Dropped last: the nodes' homes say which engines are left to end.
    root: tempfile::TempDir,
}

/// One node: its place, and what runs there.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) peer: String,
    pub(crate) client: String,
    pub(crate) home: NodeHome,
    engine: Engine,
    wrapper: RefCell<Option<Child>>,
}

/// How a node is started: its environment and its arguments.
#[derive(Clone)]
pub(crate) struct Start {
    env: BTreeMap<String, String>,
    args: Vec<String>,
}

impl Start {
    pub(crate) fn set(mut self, variable: &str, value: impl Into<String>) -> Start {
        self.env.insert(variable.to_owned(), value.into());
        self
    }

    pub(crate) fn arg(mut self, flag: &str, value: impl ToString) -> Start {
        self.args.extend([flag.to_owned(), value.to_string()]);
        self
    }

    pub(crate) fn existing(self) -> Start {
        self.set("ETCD_INITIAL_CLUSTER_STATE", "existing")
    }

    /// The same with all of it on the command line.
    pub(crate) fn into_flags(self) -> Start {
        Start { args: [self.flags(), self.args].concat(), env: BTreeMap::new() }
    }

    /// The environment as flags, for an etcd that is started without `quorate node`.
    pub(crate) fn flags(&self) -> Vec<String> {
        let flag = |(name, value): (&String, &String)| {
            let name = name.trim_start_matches("ETCD_").to_lowercase().replace('_', "-");
            format!("--{name}={value}")
        };
        self.env.iter().map(flag).collect()
    }
}

/// How `quorate node` ended: its code, its JSON line, and all it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) exit: Value,
    pub(crate) printed: String,
}

impl Ended {
    /// Code, JSON line and the home's state must tell the same typed reason.
    #[track_caller]
    pub(crate) fn is(&self, kind: ExitKind) -> &Ended {
        assert_eq!(self.exit["exit"], kind.to_string(), "{self:?}");
        assert_eq!(self.code, i32::from(kind.code()), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn says(&self, text: impl AsRef<str>) -> &Ended {
        let (detail, text) = (self.exit["detail"].as_str().unwrap_or_default(), text.as_ref());
        assert!(detail.contains(text), "{text:?} is not in {detail:?}");
        self
    }
}

impl Cluster {
    pub(crate) fn of(engine: Engine, count: usize) -> Cluster {
        Cluster::named(engine, (1..=count).map(|i| format!("n{i}")))
    }

    /// One place for a node that is to join another cluster.
    pub(crate) fn spare(engine: Engine) -> Cluster {
        Cluster::named(engine, ["spare".to_owned()])
    }

    fn named(engine: Engine, names: impl IntoIterator<Item = String>) -> Cluster {
        let root = tempfile::tempdir().expect("a directory");
        let node = |name: String| Node {
            home: NodeHome::new(root.path().join(&name)),
            peer: format!("http://{HOST}:{}", free_port()),
            client: format!("http://{HOST}:{}", free_port()),
            name,
            engine,
            wrapper: RefCell::new(None),
        };
        let nodes = names.into_iter().map(node).collect();
        Cluster { nodes, disk: None, root }
    }

    /// A founded cluster with all its nodes running.
    pub(crate) fn running(engine: Engine, count: usize) -> Cluster {
        let cluster = Cluster::of(engine, count);
        for node in &cluster.nodes {
            node.run(cluster.start(node));
        }
        for node in &cluster.nodes {
            node.serves();
        }
        cluster
    }

    pub(crate) fn dir(&self) -> &Path {
        self.root.path()
    }

    /// How a founder is started.
    pub(crate) fn start(&self, node: &Node) -> Start {
        let members: Vec<_> = self.nodes.iter().map(|n| format!("{}={}", n.name, n.peer)).collect();
        let settings = [
            ("NAME", node.name.as_str()),
            ("DATA_DIR", &node.home.data().display().to_string()),
            ("LISTEN_PEER_URLS", &node.peer),
            ("LISTEN_CLIENT_URLS", &node.client),
            ("INITIAL_ADVERTISE_PEER_URLS", &node.peer),
            ("ADVERTISE_CLIENT_URLS", &node.client),
            ("INITIAL_CLUSTER", &members.join(",")),
            ("INITIAL_CLUSTER_STATE", "new"),
            ("INITIAL_CLUSTER_TOKEN", "story"),
            // Spares the tests etcd's five seconds before each change.
            ("STRICT_RECONFIG_CHECK", "false"),
            ("HEARTBEAT_INTERVAL", "50"),
            ("ELECTION_TIMEOUT", "500"),
        ];
        let env = settings.map(|(name, value)| (format!("ETCD_{name}"), value.to_owned())).into();
        Start { env, args: Vec::new() }
    }

    /// The member that this node became when it founded the cluster.
    pub(crate) fn founder(node: &Node) -> MemberId {
        founding_member_id([node.peer.as_str()], "story")
    }

    /// Removes a member, asking another one.
    #[track_caller]
    pub(crate) fn remove(by: &Node, member: MemberId) {
        eventually(&format!("{member} is removed"), || Cluster::is_removed(by, member));
    }

    /// Tries to remove a member. It may be done although nobody said so in time.
    pub(crate) fn is_removed(by: &Node, member: MemberId) -> Option<()> {
        let output = by.ctl(&["member", "remove", &member.to_string()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success() || said.contains("member not found")).then_some(())
    }

    /// Adds a node's peer URL as a learner; its ID.
    #[track_caller]
    pub(crate) fn add_learner(by: &Node, node: &Node) -> MemberId {
        Cluster::add(by, node, &["--learner"])
    }

    /// `member add` with these flags; the ID. That, too, may be done although nobody said so.
    #[track_caller]
    pub(crate) fn add(by: &Node, node: &Node, flags: &[&str]) -> MemberId {
        let urls = format!("--peer-urls={}", node.peer);
        let mut args = vec!["member", "add", node.name.as_str(), urls.as_str()];
        args.extend(flags);
        let id = eventually(&format!("{} is added", node.name), || {
            let output = by.ctl(&args);
            if output.status.success() {
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                return said.strip_prefix("Member ")?.split_whitespace().next().map(str::to_owned);
            }
            let list = by.ask(&["member", "list"]);
            let line = list.lines().find(|line| line.contains(&format!(" {},", node.peer)))?;
            line.split(',').next().map(str::to_owned)
        });
        id.parse().expect("hex")
    }

    /// Waits until a learner has caught up and votes.
    #[track_caller]
    pub(crate) fn promote(by: &Node, member: MemberId) {
        eventually("the learner has caught up and votes", || Cluster::is_promoted(by, member));
    }

    /// Tries to make a learner a voter; it is one already if that was done and nobody said so.
    pub(crate) fn is_promoted(by: &Node, member: MemberId) -> Option<()> {
        let output = by.ctl(&["member", "promote", &member.to_string()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let votes = said.contains("can only promote a learner member") && !said.contains("sync");
        (output.status.success() || votes).then_some(())
    }
}

impl Node {
    fn printed(&self) -> PathBuf {
        self.home.dir().join("printed")
    }

    /// What the node and its engine said so far.
    pub(crate) fn said(&self) -> String {
        let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        read(self.printed()) + &read(self.home.log())
    }

    /// Starts `quorate node` with the node's engine.
    pub(crate) fn run(&self, start: Start) {
        self.run_on(self.engine, start);
    }

    /// Starts `quorate node` with this engine, whichever the node's is.
    pub(crate) fn run_on(&self, engine: Engine, start: Start) {
        let home = self.home.dir().display();
        self.run_exactly(engine.named(start.arg("--node-home", home)));
    }

    /// Starts `quorate node` with these arguments and no others.
    pub(crate) fn run_exactly(&self, start: Start) {
        let mut command = bare(QUORATE);
        command.arg("node");
        self.spawn(command, start);
    }

    /// Starts a command that is this node, however it is called.
    pub(crate) fn spawn(&self, mut command: Command, start: Start) {
        fs::create_dir_all(self.home.dir()).expect("a home");
        let out = File::create(self.printed()).expect("a file");
        command.args(&start.args).envs(&start.env).current_dir(self.home.dir());
        command.stdout(out.try_clone().expect("a file")).stderr(out);
        let child = command.spawn().expect("quorate runs");
        let former = self.wrapper.replace(Some(child));
        assert!(former.is_none_or(|mut it| it.try_wait().expect("ours").is_some()), "it runs");
    }

    /// Starts it and waits for it to end.
    #[track_caller]
    pub(crate) fn refuses(&self, start: Start) -> Ended {
        self.run(start);
        self.ended()
    }

    /// Waits for `quorate node` to end.
    #[track_caller]
    pub(crate) fn ended(&self) -> Ended {
        let status = eventually(&format!("{} ends", self.name), || {
            self.wrapper.borrow_mut().as_mut().expect("started").try_wait().expect("ours")
        });
        let printed = fs::read_to_string(self.printed()).expect("what it printed");
        let exit = printed.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        Ended {
            code: status.code().unwrap_or(-1),
            exit: exit.unwrap_or_else(|| panic!("no JSON line in {printed:?}")),
            printed,
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        let mut child = self.wrapper.borrow_mut();
        child.as_mut().is_none_or(|it| it.try_wait().expect("ours").is_some())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.wrapper.borrow();
        let pid = rustix::process::Pid::from_child(child.as_ref().expect("started"));
        rustix::process::kill_process(pid, signal).expect("ours");
    }

    /// The process that was started.
    pub(crate) fn pid(&self) -> u32 {
        self.wrapper.borrow().as_ref().expect("started").id()
    }

    /// What it says of itself; `None` if it cannot be asked.
    pub(crate) fn status(&self) -> Option<Value> {
        let output = self.ctl(&["endpoint", "status", "-w", "json"]);
        let list: Value = serde_json::from_slice(&output.stdout).ok()?;
        Some(list.get(0)?["Status"].clone())
    }

    /// Asks it to stop, and waits.
    #[track_caller]
    pub(crate) fn stop(&self) {
        self.signal(Signal::TERM);
        self.ended().is(ExitKind::Clean);
    }

    /// Waits until the node answers a quorum read itself.
    #[track_caller]
    pub(crate) fn serves(&self) {
        eventually(&format!("{} serves\n{}", self.name, self.said()), || {
            assert!(!self.has_ended(), "{} has ended:\n{}", self.name, self.said());
            self.ctl(&["endpoint", "health"]).status.success().then_some(())
        });
    }

    pub(crate) fn ctl(&self, args: &[&str]) -> Output {
        Node::ctl_on(&self.client, args)
    }

    pub(crate) fn ctl_on(endpoint: &str, args: &[&str]) -> Output {
        let mut ctl = bare("etcdctl");
        ctl.env("ETCDCTL_API", "3").args(["--endpoints", endpoint, "--command-timeout=5s"]);
        ctl.args(args).output().expect("etcdctl")
    }

    /// As [`Node::ctl`], for a call that has to succeed, and may be made again until it does: with
    /// timings as short as here, a busy machine holds an election at any time.
    #[track_caller]
    pub(crate) fn ask(&self, args: &[&str]) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let begun = now();
        loop {
            let output = self.ctl(args);
            if output.status.success() {
                return text(&output.stdout);
            }
            assert!(begun.elapsed() < LONG, "{args:?}: {}", text(&output.stderr));
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    pub(crate) fn state(&self) -> Option<NodeState> {
        self.home.read_state().expect("a state that can be read")
    }

    /// Waits until its engine has read its log back: its peer port lists `count` members that
    /// have published where they serve.
    #[track_caller]
    pub(crate) fn remembers(&self, count: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        eventually(&format!("{} remembers its cluster", self.name), || {
            let limit = std::time::Duration::from_secs(1);
            let list = runtime.block_on(quorate::client::peer::members(&self.peer, limit)).ok()?;
            let published = list.members.iter().filter(|m| m.is_published()).count();
            (published == count).then_some(())
        });
    }

    pub(crate) fn reaches(&self, phase: Phase) {
        eventually(&format!("{} is {phase:?}", self.name), || {
            self.state().filter(|state| state.phase == phase)
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.wrapper.take() {
            // Gone already, or gone now.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(engine) = self.home.read_state().ok().flatten().and_then(|s| s.engine) {
            let _ = engine.signal(Signal::KILL);
            while engine.alive() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Turns bytes of a file around.
pub(crate) fn spoil(path: &Path, at: u64, length: usize) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("a file");
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, at).expect("so many bytes");
    for byte in &mut bytes {
        *byte = !*byte;
    }
    file.write_all_at(&bytes, at).expect("written");
}

/// Runs another command of quorate's; its code and what it printed.
pub(crate) fn quorate(args: &[&str]) -> (i32, String) {
    let output = bare(QUORATE).args(args).output().expect("quorate runs");
    let text = [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
    (output.status.code().unwrap_or(-1), text.concat())
}

/// The files of a log that end so, in order.
pub(crate) fn segments(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let dir = fs::read_dir(dir).expect("a log");
    let mut paths: Vec<_> = dir.map(|entry| entry.expect("a file").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == extension));
    paths.sort();
    paths
}
