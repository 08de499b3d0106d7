//! Members that can be started, killed and started again, and what is asked of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate::clock::{Clock, Moment};
use quorate::cluster::{ClusterId, Incarnation, MemberId, founding_cluster_id, founding_member_id};
use quorate::node::apply::{Operation, Response, State};
use quorate::node::fault::{Code, Fault};
use quorate::node::log::Ids;
use quorate::node::mvcc::Change;
use quorate::node::port;
use quorate::node::raft::{Config, End, Founder, Node, Options, StartError, Watchers, start};
use quorate::node::replica::{Replica, Standing};
use quorate::proto::etcdserverpb::{PutRequest, RangeRequest};
use tokio::net::TcpSocket;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::ports;

/// Long enough for anything that is to happen.
pub const LONG: Duration = Duration::from_secs(60);

/// Timings that make a test short, and yet elections rare that nobody wants: on a busy machine a
/// member may not have its turn for a good part of a second.
pub fn options() -> Options {
    Options {
        heartbeat: Duration::from_millis(50),
        election: Duration::from_secs(2),
        ..Options::default()
    }
}

/// Timings with which nobody is elected because a machine is busy: for what holds under one leader.
pub fn calm() -> Options {
    Options { election: Duration::from_secs(10), ..options() }
}

/// Writes down what it hears.
#[derive(Default)]
pub struct Heard(pub Mutex<Vec<(Bytes, i64)>>);

impl Watchers for Heard {
    fn applied(&self, changes: &[Change], revision: i64) {
        assert!(changes.iter().all(|it| it.record.revision.main <= revision));
        let key = |it: &Change| (it.record.kv.key.clone(), it.record.revision.main);
        self.0.lock().extend(changes.iter().map(key));
    }

    fn replaced(&self) {}
}

/// What a member keeps while it is down.
#[derive(Clone, Debug)]
pub struct Seat {
    pub name: String,
    pub ids: Ids,
    pub port: u16,
    pub dir: PathBuf,
    pub founders: Option<Vec<Founder>>,
    /// Whom it may ask.
    pub peers: Vec<String>,
    pub options: Options,
}

impl Seat {
    pub fn url(&self) -> String {
        url(self.port)
    }

    pub fn start(&self) -> Member {
        self.try_start().expect("it starts")
    }

    pub fn config(self, ports: Vec<TcpSocket>, watchers: Arc<dyn Watchers>) -> Config {
        Config {
            ids: self.ids,
            is_first: !self.dir.join("log").exists(),
            dir: self.dir,
            founders: self.founders,
            peers: self.peers,
            ports,
            client_urls: vec![format!("http://{}:1", self.name)],
            name: self.name,
            options: self.options,
            watchers,
        }
    }

    /// Starts it on a thread and a runtime of its own, as its process would.
    pub fn try_start(&self) -> Result<Member, StartError> {
        let seat = self.clone();
        let heard = Arc::new(Heard::default());
        let watchers = Arc::clone(&heard) as Arc<dyn Watchers>;
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap();
            runtime.block_on(async {
                let address = (std::net::Ipv4Addr::LOCALHOST, seat.port).into();
                let ports = vec![port::bind(address).unwrap()];
                let node = start(seat.config(ports, watchers)).await;
                let is_up = node.is_ok();
                tell.send(node.map(|node| (node, Handle::current()))).unwrap();
                if is_up {
                    let _ = stopped.await;
                }
            });
        });
        let (node, runtime) = told.recv().unwrap()?;
        Ok(Member {
            seat: self.clone(),
            node,
            runtime,
            heard,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

/// A member that runs.
pub struct Member {
    pub seat: Seat,
    pub node: Node,
    pub heard: Arc<Heard>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Member {
    pub fn id(&self) -> MemberId {
        self.seat.ids.member
    }

    /// Does something on the member's own runtime.
    pub async fn on<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        work: impl FnOnce(Node) -> F + Send + 'static,
    ) -> T {
        let node = self.node.clone();
        let work = self.runtime.spawn(async move { work(node).await });
        tokio::time::timeout(LONG, work).await.expect("in time").expect("no panic")
    }

    pub async fn propose(&self, operation: Operation) -> Result<Response, Fault> {
        self.on(|node| async move { propose(&node, operation).await }).await
    }

    pub async fn put(&self, key: &str, value: &str) -> Result<i64, Fault> {
        let put = PutRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ..PutRequest::default()
        };
        match self.propose(Operation::Put(put)).await? {
            Response::Put(it) => Ok(it.header.unwrap().revision),
            other => panic!("{other:?}"),
        }
    }

    /// What a key holds here, whether or not that is the last.
    pub fn local(&self, key: &str) -> Option<Bytes> {
        let get =
            RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..RangeRequest::default() };
        let found = self.node.read(|it| it.range(&get)).unwrap();
        found.kvs.first().map(|it| it.value.clone())
    }

    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Fault> {
        self.on(|node| async move { node.read_barrier().await }).await?;
        Ok(self.local(key))
    }

    pub async fn ready(&self) {
        self.on(|node| async move { node.ready().await }).await.expect("it does not end");
    }

    pub async fn ended(&self) -> End {
        self.on(|node| async move { node.ended().await }).await
    }

    pub fn standing(&self) -> Standing {
        self.node.standing()
    }

    pub fn state<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.node.read(look)
    }

    /// The hash of all keys.
    pub fn hash(&self) -> u32 {
        self.state(|it| it.kv.hash(0)).unwrap().hash
    }

    pub async fn shutdown(mut self) -> Seat {
        self.on(|node| async move { node.shutdown().await }).await.expect("it ends well");
        self.end()
    }

    /// Ends it where it stands.
    pub fn kill(mut self) -> Seat {
        self.end()
    }

    fn end(&mut self) -> Seat {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
        self.seat.clone()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

/// Proposes an operation, and again if an election came between, as it may on a busy machine:
/// nothing has come of it then.
pub async fn propose(node: &Node, operation: Operation) -> Result<Response, Fault> {
    loop {
        let answer = node.propose(operation.clone()).await;
        if answer != Err(Fault::LeaderChanged) {
            return answer;
        }
    }
}

/// Asks for a change of the members, and again while that is refused because somebody was not heard
/// for a moment, as it may be on a busy machine: nothing has come of it then.
pub async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, Fault>) -> Result<T, Fault> {
    let begun = now();
    loop {
        match ask().await {
            Err(Fault::Unhealthy | Fault::LearnerNotReady | Fault::LeaderChanged)
                if now().since(begun) < LONG =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            answer => return answer,
        }
    }
}

/// Removes a member.
pub async fn remove(
    on: &Member,
    id: MemberId,
) -> Result<Vec<quorate::proto::etcdserverpb::Member>, Fault> {
    patiently(async || on.on(move |node| async move { node.remove_member(id).await }).await).await
}

/// What all members of all tests log as errors.
static ERRORS: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Errors;

impl std::io::Write for Errors {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        ERRORS.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// From now on they are written down.
pub fn listen_to_errors() {
    let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR);
    // Another test may have begun to.
    let _ = lines.with_ansi(false).with_writer(|| Errors).try_init();
}

/// How often this was.
pub fn said(words: &str) -> usize {
    String::from_utf8_lossy(&ERRORS.lock()).matches(words).count()
}

/// Takes a directory away at one stroke: threads of a member that was killed may not have noticed
/// yet, and would put files into one that is being emptied.
pub fn take_away(dir: &Path) {
    std::fs::rename(dir, dir.with_extension("gone")).unwrap();
}

pub fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// A port of this machine's own address.
pub fn free_port() -> u16 {
    ports::free_port("127.0.0.1")
}

/// The seats of a cluster that is founded by so many.
pub fn seats(root: &Path, count: usize, options: &Options) -> Vec<Seat> {
    let ports: Vec<_> = (0..count).map(|_| free_port()).collect();
    let urls: Vec<_> = ports.iter().map(|it| url(*it)).collect();
    let founders: Vec<_> = urls
        .iter()
        .map(|it| Founder {
            id: founding_member_id([it.as_str()], "t"),
            peer_urls: vec![it.clone()],
        })
        .collect();
    let cluster = founding_cluster_id(founders.iter().map(|it| it.id));
    let seat = |n: usize| Seat {
        name: format!("n{n}"),
        ids: ids(cluster, founders[n].id),
        port: ports[n],
        dir: root.join(format!("n{n}")),
        founders: Some(founders.clone()),
        peers: Vec::new(),
        options: options.clone(),
    };
    (0..count).map(seat).collect()
}

pub fn ids(cluster: ClusterId, member: MemberId) -> Ids {
    Ids { cluster, member, incarnation: Incarnation(member.0 ^ 0xfeed) }
}

/// The seat of a member that was added.
pub fn joiner(of: &Seat, name: &str, id: u64, port: u16) -> Seat {
    let mut seat = of.clone();
    name.clone_into(&mut seat.name);
    seat.ids.member = MemberId(id);
    seat.ids.incarnation = Incarnation(id ^ 7);
    seat.port = port;
    seat.dir = of.dir.parent().unwrap().join(name);
    seat.founders = None;
    seat
}

pub async fn add(on: &Member, port: u16, as_learner: bool) -> Result<u64, Fault> {
    let urls = vec![url(port)];
    on.on(move |node| async move { node.add_member(urls, as_learner).await })
        .await
        .map(|it| it.0.id)
}

/// A cluster of so many, all ready.
pub async fn cluster(root: &Path, count: usize, options: &Options) -> Vec<Member> {
    let members: Vec<_> = seats(root, count, options).iter().map(Seat::start).collect();
    for member in &members {
        member.ready().await;
    }
    members
}

/// The place of the one that leads.
pub async fn leader(members: &[Member]) -> usize {
    let mut found = None;
    until("somebody leads", || {
        let leads = |it: &Member| it.standing().leader == Some(it.id());
        found = members.iter().position(leads);
        found.is_some()
    })
    .await;
    found.unwrap()
}

pub fn now() -> Moment {
    Clock.monotonic()
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = now();
    while !holds() {
        assert!(now().since(begun) < LONG, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Puts a key until it is acknowledged, on one member after the other. The time it took.
pub async fn put_somewhere(members: &[&Member], key: &str, value: &str) -> Duration {
    let begun = now();
    for member in members.iter().cycle() {
        match member.put(key, value).await {
            Ok(_) => return now().since(begun),
            Err(fault) => assert_eq!(fault.code(), Code::Unavailable, "{fault}"),
        }
        assert!(now().since(begun) < LONG, "nobody takes it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    unreachable!("a cycle has no end")
}

/// Waits until all have applied the same and agree on every key.
pub async fn agree(members: &[&Member]) {
    let revision = |it: &&Member| it.state(State::revision);
    loop {
        until("all have applied the same", || {
            let first = revision(&members[0]);
            members.iter().all(|it| revision(it) == first)
        })
        .await;
        // A write that nobody waited for any more may come only now: both are of one moment.
        let seen = |it: &&Member| it.state(|it| (it.revision(), it.kv.hash(0).unwrap().hash));
        let seen: Vec<_> = members.iter().map(seen).collect();
        if seen.iter().all(|it| it.0 == seen[0].0) {
            assert!(seen.iter().all(|it| *it == seen[0]), "{seen:x?}");
            return;
        }
    }
}
