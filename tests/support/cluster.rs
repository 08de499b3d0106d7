//! A cluster under test: its manifest, its home, the `up` that looks after it, and a client's
//! view of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::history::History;
use super::home::Home;
use super::process::{NodeProcesses, Process, Ran, Signal};
use super::report::Report;
use super::spec::{Addresses, Spec};
use super::up::{QUORATE, Up, engine_arguments};
use super::wait::eventually;
use super::wire::{self, List, Member};
use super::writer::{PREFIX, Writer, Written, value_of};

/// How long a cluster may take to come up, or to heal once the cause is known. Far more than it
/// takes, also where several members join one after the other; a test that waits this long has
/// failed.
pub(crate) const SOON: Duration = Duration::from_mins(2);

/// A remediation delay that is over before any test has looked on for long.
pub(crate) const HASTY: &str = "unhealthySeconds: 3";

/// A cluster that one test owns.
pub(crate) struct Cluster {
    pub(crate) spec: Spec,
    // Dropped before the home: first the one who restarts members, then the members.
    up: RefCell<Option<Up>>,
    pub(crate) home: Home,
    pub(crate) addresses: Addresses,
    /// As first seen; another one later would be a second founding.
    id: Cell<Option<u64>>,
    /// What earlier runs of `up` printed.
    printed: RefCell<String>,
    /// The arguments of `up` that choose the engine.
    engine: Vec<String>,
    /// How long coming up, healing and ending may take.
    patience: Duration,
}

impl Cluster {
    /// A manifest and an empty home; nothing runs yet.
    pub(crate) fn declared(count: u8) -> Cluster {
        let addresses = Addresses::claim();
        let spec = Spec::of(count, &addresses);
        Cluster::with(spec, addresses)
    }

    /// As [`Cluster::declared`], of a spec of the test's own.
    pub(crate) fn with(spec: Spec, addresses: Addresses) -> Cluster {
        let home = Home::new();
        spec.write(&home.manifest());
        let (id, printed) = (Cell::new(None), RefCell::default());
        let engine = engine_arguments();
        let up = RefCell::new(None);
        Cluster { spec, up, home, addresses, id, printed, engine, patience: SOON }
    }

    /// The same, run by another engine: by what these arguments of `up` choose.
    pub(crate) fn on_engine(mut self, engine: &[String]) -> Cluster {
        self.engine = engine.to_vec();
        self
    }

    /// The same, which is given this long where [`SOON`] is too short: there is much data.
    pub(crate) fn patient(mut self, patience: Duration) -> Cluster {
        self.patience = patience;
        self
    }

    /// A cluster that is up and ready.
    #[track_caller]
    pub(crate) fn ready(count: u8) -> Cluster {
        let cluster = Cluster::declared(count);
        cluster.up();
        cluster.healed();
        cluster
    }

    /// As [`Cluster::ready`], with a remediation delay that is soon over: for a test that waits for
    /// longer than that.
    #[track_caller]
    pub(crate) fn hasty(count: u8) -> Cluster {
        let mut cluster = Cluster::declared(count);
        cluster.spec.remediation = vec![HASTY.to_owned()];
        cluster.write_spec();
        cluster.up();
        cluster.healed();
        cluster
    }

    /// Starts `up` and waits until it is ready.
    #[track_caller]
    pub(crate) fn up(&self) {
        self.start_up(&[]);
        self.with_up(|up| up.wait_ready(self.patience));
    }

    /// Starts `up`, with variables of the test's own, and does not wait.
    pub(crate) fn start_up(&self, env: &[(&str, &str)]) {
        self.forget_up();
        let manifest = self.home.manifest();
        let (dir, home) = (self.home.dir(), self.home.path());
        let up = Up::start_on(&self.engine, dir, Some(&manifest), &home, env);
        *self.up.borrow_mut() = Some(up);
    }

    /// Starts an `up` that aborts at this step, and waits until it has.
    #[track_caller]
    pub(crate) fn up_aborts_at(&self, step: &str) {
        self.start_up(&[("QUORATE_TEST_ABORT", step)]);
        self.up_has_aborted(step);
    }

    /// Waits until `up` has aborted, as if killed: not ended by an orderly exit.
    #[track_caller]
    pub(crate) fn up_has_aborted(&self, step: &str) {
        let status = self.with_up(|up| up.wait(SOON));
        assert_eq!(status.code(), None, "`up` was to abort at {step}, but:\n{}", self.printed());
        self.forget_up();
    }

    fn forget_up(&self) {
        if let Some(up) = self.up.borrow_mut().take() {
            let mut printed = self.printed.borrow_mut();
            *printed = format!("{printed}{}\n=== the next `up`\n", up.text());
        }
    }

    #[track_caller]
    pub(crate) fn with_up<T>(&self, act: impl FnOnce(&mut Up) -> T) -> T {
        let mut up = self.up.borrow_mut();
        act(up.as_mut().expect("`up` was started"))
    }

    pub(crate) fn up_process(&self) -> Process {
        self.with_up(|up| up.process())
    }

    /// `kill -9` of `up` alone.
    pub(crate) fn kill_up(&self) {
        self.with_up(Up::kill_9);
        self.forget_up();
    }

    /// Ctrl-C, as a terminal sends it to `up`; waits for its end and returns its exit code.
    #[track_caller]
    pub(crate) fn interrupt_up(&self, signal: Signal) -> Option<i32> {
        let status = self.with_up(|up| {
            up.signal(signal);
            up.wait(self.patience)
        });
        self.forget_up();
        status.code()
    }

    /// Does something while the reconciler cannot see it.
    pub(crate) fn while_up_is_frozen<T>(&self, act: impl FnOnce() -> T) -> T {
        let up = self.up_process();
        up.signal(Signal::STOP);
        let result = act();
        up.signal(Signal::CONT);
        result
    }

    /// Everything that any `up` of this test printed.
    pub(crate) fn printed(&self) -> String {
        let now = self.up.borrow().as_ref().map(Up::text).unwrap_or_default();
        format!("{}{now}", self.printed.borrow())
    }

    /// Waits until what `up` printed tells of these in this order: it may print a little later
    /// than the cluster shows.
    #[track_caller]
    pub(crate) fn told_in_order(&self, parts: &[&str]) {
        eventually("`up` to tell of each step in its turn", SOON, || {
            let printed = self.printed();
            let mut rest = printed.as_str();
            for part in parts {
                let at = rest.find(part).ok_or_else(|| format!("{part:?} in:\n{printed}"))?;
                rest = &rest[at + part.len()..];
            }
            Ok::<_, String>(())
        });
    }

    /// Makes the spec the test now has the one that `up` reads.
    pub(crate) fn write_spec(&self) {
        self.spec.write(&self.home.manifest());
    }

    /// Runs a command of the program under test on this home.
    pub(crate) fn quorate(&self, args: &[&str]) -> Ran {
        let home = self.home.path();
        let mut args = args.to_vec();
        args.extend(["--home", home.to_str().expect("the path is UTF-8")]);
        Ran::of(QUORATE, &args)
    }

    /// `quorate status`: its exit code and its report.
    #[track_caller]
    pub(crate) fn status(&self) -> (Option<i32>, Report) {
        match self.try_status() {
            Ok(status) => status,
            Err(error) => panic!("{error}"),
        }
    }

    /// As [`Cluster::status`], or why there is none.
    pub(crate) fn try_status(&self) -> Result<(Option<i32>, Report), String> {
        let ran = self.quorate(&["status", "-o", "json"]);
        let report = serde_json::from_str(&ran.stdout);
        report.map(|report| (ran.code, report)).map_err(|error| format!("{error}: {ran:#?}"))
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.spec.endpoints()
    }

    /// The member list that a quorum vouches for.
    pub(crate) fn list(&self) -> Result<List, String> {
        wire::vouched_list(&self.endpoints())
    }

    /// The same, as soon as a quorum answers: a busy machine may hold an election at any time.
    #[track_caller]
    pub(crate) fn answered(&self) -> List {
        eventually("a quorum to answer", SOON, || self.list())
    }

    /// The members by node name, of a cluster that answers.
    #[track_caller]
    pub(crate) fn members(&self) -> BTreeMap<String, Member> {
        let list = self.answered();
        list.members.into_iter().map(|member| (member.name.clone(), member)).collect()
    }

    /// The ID of a node's member.
    #[track_caller]
    pub(crate) fn member_id(&self, node: &str) -> u64 {
        let members = self.members();
        let found = members.get(node);
        found.unwrap_or_else(|| panic!("{node} is not a member: {members:#?}")).id
    }

    /// The node that leads.
    #[track_caller]
    pub(crate) fn leader(&self) -> String {
        eventually("a leader", SOON, || {
            let names = self.spec.names();
            let leads = |node: &&String| {
                wire::status(&self.spec.client_url(node))
                    .is_ok_and(|status| status.leader == status.member)
            };
            names.iter().find(leads).cloned().ok_or("nobody leads")
        })
    }

    /// The first node that does not lead.
    #[track_caller]
    pub(crate) fn follower(&self) -> String {
        let leader = self.leader();
        self.spec.names().into_iter().find(|node| *node != leader).expect("there are followers")
    }

    /// What runs for a node, once both are there.
    #[track_caller]
    pub(crate) fn running(&self, node: &str) -> NodeProcesses {
        eventually(&format!("{node} to run"), SOON, || {
            let seen = self.home.processes(node);
            let whole = seen.wrapper.is_some() && seen.engine.is_some();
            if whole { Ok(seen) } else { Err(format!("{seen:?}")) }
        })
    }

    /// The engine of a node.
    #[track_caller]
    pub(crate) fn engine(&self, node: &str) -> Process {
        self.running(node).engine.expect("it was just there")
    }

    /// `kill -9` of wrapper and engine together.
    #[track_caller]
    pub(crate) fn kill_node(&self, node: &str) {
        let seen = self.running(node);
        seen.all().for_each(|process| process.signal(Signal::KILL));
        seen.all().for_each(Process::kill_9);
    }

    pub(crate) fn data(&self, node: &str) -> PathBuf {
        self.home.node(node).join("data")
    }

    /// Waits until the cluster is exactly as declared: as any client sees it, and as `quorate
    /// status` says.
    #[track_caller]
    pub(crate) fn healed(&self) -> BTreeMap<String, Member> {
        self.healed_when("the cluster to be as declared", |_| Ok(()))
    }

    /// Waits until the cluster is as declared and `node` has another member than `old`.
    #[track_caller]
    pub(crate) fn replaced(&self, node: &str, old: u64) -> u64 {
        let members = self.healed_when(&format!("{node} to be replaced"), |members| {
            let now = members[node].id;
            if now == old { Err(format!("{node} is still {old:x}")) } else { Ok(()) }
        });
        members[node].id
    }

    /// Waits until the cluster is as declared and something else holds, too.
    #[track_caller]
    pub(crate) fn healed_when(
        &self,
        what: &str,
        mut holds: impl FnMut(&BTreeMap<String, Member>) -> Result<(), String>,
    ) -> BTreeMap<String, Member> {
        eventually(what, self.patience, || {
            let members = self.as_declared()?;
            holds(&members)?;
            match self.try_status()? {
                (Some(0), report) if report.verdict == "healthy" => Ok(members),
                (code, report) => Err(format!("status ends with {code:?} and says {report:#?}")),
            }
        })
    }

    /// A client's view: every declared node is a started voter that follows a leader, where it
    /// was declared to be; there is no other member.
    fn as_declared(&self) -> Result<BTreeMap<String, Member>, String> {
        let list = self.list()?;
        match self.id.get() {
            None => self.id.set(Some(list.cluster)),
            Some(id) => assert_eq!(list.cluster, id, "this is another cluster: founded twice"),
        }
        let members: BTreeMap<_, _> =
            list.members.iter().map(|member| (member.name.clone(), member.clone())).collect();
        let listed: Vec<_> = members.keys().cloned().collect();
        let mut declared = self.spec.names();
        declared.sort();
        if listed != declared || list.members.len() != declared.len() {
            return Err(format!("{list:#?} instead of {declared:?}"));
        }
        for (node, member) in &members {
            if member.learner || member.peer_urls != [self.spec.peer_url(node)] {
                return Err(format!("{member:?} is not as declared"));
            }
            let status = wire::status(&self.spec.client_url(node))?;
            let follows = status.leader != 0 && !status.learner && status.errors.is_empty();
            if status.member != member.id || !follows {
                return Err(format!("{node} says {status:?}"));
            }
        }
        Ok(members)
    }

    /// A writer of twenty keys a second to every declared node.
    pub(crate) fn writer(&self) -> Writer {
        Writer::start(&self.endpoints(), 20)
    }

    /// A watch on the member list.
    pub(crate) fn history(&self) -> History {
        History::start(&self.endpoints())
    }

    /// Panics unless every acknowledged write is on every member, and all members hold the same.
    #[track_caller]
    pub(crate) fn verify_all(&self, written: &Written) {
        assert!(!written.acked.is_empty(), "nothing was written, so nothing was tested");
        let members = self.healed();
        let endpoints: Vec<_> = members.keys().map(|node| self.spec.client_url(node)).collect();
        // Of every member: the only one that has all may be the one that is slow to answer.
        let status = |it: &String| eventually("a member's revision", SOON, || wire::status(it));
        let revision = endpoints.iter().map(|it| status(it).revision).max();
        let revision = revision.expect("there are members");
        let mut hashes = BTreeMap::new();
        for endpoint in &endpoints {
            let hash = eventually("a member to have applied everything", SOON, || {
                wire::hash_kv(endpoint, revision)
            });
            hashes.insert(endpoint, hash);
            let keys =
                eventually("a member's own keys", SOON, || wire::local_keys(endpoint, PREFIX));
            for acked in &written.acked {
                let found = keys.get(acked.key.as_bytes());
                assert_eq!(
                    found,
                    Some(&value_of(&acked.key)),
                    "{} was acknowledged, but this is what {endpoint} has",
                    acked.key
                );
            }
        }
        let first = hashes.values().next();
        assert!(
            hashes.values().all(|hash| Some(hash) == first),
            "members differ at revision {revision}: {hashes:#?}"
        );
    }

    /// Stops the writer and checks what it was promised.
    #[track_caller]
    pub(crate) fn verify(&self, writer: Writer) -> Written {
        let written = writer.stop();
        self.verify_all(&written);
        written
    }

    /// etcdctl with this API version on all endpoints.
    pub(crate) fn etcdctl(&self, api: u8, args: &[&str]) -> Ran {
        etcdctl(api, &self.endpoints(), args)
    }

    /// What etcdctl prints, of a command that may be given again: a busy machine may hold an
    /// election at any time, during which none succeeds.
    #[track_caller]
    pub(crate) fn etcdctl_says(&self, api: u8, args: &[&str]) -> String {
        eventually(&format!("etcdctl {args:?}"), SOON, || {
            let ran = self.etcdctl(api, args);
            if ran.code == Some(0) { Ok(ran.stdout) } else { Err(format!("{ran:#?}")) }
        })
    }
}

/// Runs an unmodified etcdctl, with more patience than its five seconds.
pub(crate) fn etcdctl(api: u8, endpoints: &[String], args: &[&str]) -> Ran {
    let endpoints = endpoints.join(",");
    let mut all = vec!["--endpoints", endpoints.as_str()];
    all.extend(match api {
        2 => ["--timeout=30s", "--total-timeout=30s"],
        _ => ["--dial-timeout=30s", "--command-timeout=30s"],
    });
    all.extend(args);
    Ran::with_env("etcdctl", &all, &[("ETCDCTL_API", &api.to_string())])
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status = self.quorate(&["status"]);
            let list = self.etcdctl(3, &["member", "list"]).text();
            eprintln!(
                "=== what `up` printed\n{}\n=== status\n{}\n=== member list\n{list}\n\
                 === the home\n{}",
                self.printed(),
                status.text(),
                self.home.dump()
            );
        }
    }
}
