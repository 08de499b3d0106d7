//! A cluster of real etcd processes on loopback addresses of its own.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use futures_util::Stream;
use quorate::client::{Client, ClientError};
use quorate::cluster::MemberId;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tonic::transport::{Channel, Endpoint};

/// Generous: a machine under load must not fail a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Clusters started by this process, each with its own address.
static CLUSTERS: AtomicU8 = AtomicU8::new(1);

pub(crate) struct Etcd {
    home: TempDir,
    host: String,
    members: Vec<Option<Child>>,
    extra: Vec<String>,
}

impl Etcd {
    /// Starts `size` members and waits until each knows a leader.
    pub(crate) async fn start(size: usize) -> Etcd {
        Etcd::start_with(size, &[]).await
    }

    pub(crate) async fn start_with(size: usize, extra: &[&str]) -> Etcd {
        let pid = std::process::id();
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let mut etcd = Etcd {
            home: TempDir::new().unwrap(),
            host: format!("127.{number}.{}.{}", pid >> 8 & 0xff, pid & 0xff),
            members: Vec::new(),
            extra: extra.iter().map(ToString::to_string).collect(),
        };
        let initial: Vec<_> = (0..size).map(|it| etcd.named_peer(it)).collect();
        for index in 0..size {
            etcd.run(index, &initial.join(","), "new");
        }
        for index in 0..size {
            etcd.wait_for_leader(index).await;
        }
        etcd
    }

    /// Starts the next member, which was added to the list before, and returns its index.
    pub(crate) fn join(&mut self) -> usize {
        let index = self.members.len();
        let all: Vec<_> = (0..=index).map(|it| self.named_peer(it)).collect();
        self.run(index, &all.join(","), "existing");
        index
    }

    /// Starts a killed member again, from its data.
    pub(crate) fn restart(&mut self, index: usize) {
        self.run(index, "", "existing");
    }

    fn run(&mut self, index: usize, initial: &str, state: &str) {
        let dir = self.home.path().join(index.to_string());
        let log = File::options().create(true).append(true).open(self.log(index)).unwrap();
        let mut command = Command::new("etcd");
        command
            .env_clear()
            .args(["--name", &format!("m{index}"), "--data-dir"])
            .arg(&dir)
            .args(["--listen-client-urls", &self.client(index)])
            .args(["--advertise-client-urls", &self.client(index)])
            .args(["--listen-peer-urls", &self.peer(index)])
            .args(["--initial-advertise-peer-urls", &self.peer(index)])
            .args(["--initial-cluster-token", "client-test", "--logger", "zap"])
            .args(&self.extra)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if !initial.is_empty() {
            command.args(["--initial-cluster", initial, "--initial-cluster-state", state]);
        }
        let child = command.spawn().expect("etcd runs");
        if index == self.members.len() {
            self.members.push(Some(child));
        } else {
            self.members[index] = Some(child);
        }
    }

    pub(crate) fn kill(&mut self, index: usize) {
        let mut child = self.members[index].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops a member's process in its tracks; its sockets stay open.
    pub(crate) fn freeze(&self, index: usize) {
        self.signal(index, Signal::STOP);
    }

    pub(crate) fn thaw(&self, index: usize) {
        self.signal(index, Signal::CONT);
    }

    fn signal(&self, index: usize, signal: Signal) {
        let pid = Pid::from_child(self.members[index].as_ref().unwrap());
        kill_process(pid, signal).unwrap();
    }

    fn log(&self, index: usize) -> PathBuf {
        self.home.path().join(format!("{index}.log"))
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    fn named_peer(&self, index: usize) -> String {
        format!("m{index}={}", self.peer(index))
    }

    pub(crate) fn peer(&self, index: usize) -> String {
        format!("http://{}:{}", self.host, 12380 + 10 * index)
    }

    pub(crate) fn client(&self, index: usize) -> String {
        format!("http://{}:{}", self.host, 12379 + 10 * index)
    }

    pub(crate) fn clients(&self) -> Vec<String> {
        (0..self.members.len()).map(|it| self.client(it)).collect()
    }

    /// Waits until a member follows a leader or is one; returns the leader.
    pub(crate) async fn wait_for_leader(&self, index: usize) -> MemberId {
        let client = Client::new(Duration::from_secs(2));
        let endpoint = self.client(index);
        let end = Instant::now() + PATIENCE;
        loop {
            let status = client.status(&endpoint).await;
            if let Ok(Some(leader)) = status.as_ref().map(|it| it.leader) {
                return leader;
            }
            assert!(Instant::now() < end, "m{index}: {status:?}\n{}", self.last_words(index));
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The index of the leader, and of one that is not.
    pub(crate) async fn leader_and_follower(&self) -> (usize, usize) {
        let client = Client::new(PATIENCE);
        let leader = self.wait_for_leader(0).await;
        for index in 0..self.members.len() {
            if client.status(&self.client(index)).await.unwrap().member == leader {
                return (index, (index + 1) % self.members.len());
            }
        }
        panic!("no member has the leader's ID");
    }

    fn last_words(&self, index: usize) -> String {
        let log = std::fs::read_to_string(self.log(index)).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        lines.join("\n")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for child in self.members.iter_mut().flatten() {
            // A frozen process dies of this too. There is nobody to tell of a failure.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Repeats a call for as long as it fails with what `patient` accepts.
pub(crate) async fn until<T>(
    mut attempt: impl AsyncFnMut() -> Result<T, ClientError>,
    patient: impl Fn(&ClientError) -> bool,
) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) if patient(&error) && Instant::now() < end => {
                sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// A connection to the first member, for the generated clients.
pub(crate) async fn connect(etcd: &Etcd) -> Channel {
    Endpoint::from_shared(etcd.client(0)).unwrap().connect().await.unwrap()
}

/// The sending end of a stream of requests, and the stream.
pub(crate) fn feed<T>() -> (mpsc::Sender<T>, impl Stream<Item = T>) {
    let (sender, mut receiver) = mpsc::channel(8);
    (sender, futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)))
}
