//! Writers that remember what was acknowledged: each put has a key of its own and is never tried
//! again, so that the revision in its answer is the one the key must have for ever.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate::proto::etcdserverpb as pb;
use quorate::proto::etcdserverpb::kv_client::KvClient;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use crate::nodes::{LONG, Node};
use crate::support::chance::mix;
use crate::support::wait::eventually;
use crate::support::wire::{block_on, channel, spawn};

/// After this long without an answer, another member is asked.
const ATTEMPT: Duration = Duration::from_secs(1);
/// Between two attempts after a failure.
const PAUSE: Duration = Duration::from_millis(20);
/// Keys that are written over and over, while the history is compacted behind them.
const HOT: u64 = 10;

/// The value that belongs to a key, some hundred bytes of which each has to be right.
pub(crate) fn value_of(key: &str) -> Vec<u8> {
    let seed = key.bytes().fold(7, |sum, byte| mix(sum ^ u64::from(byte)));
    let words = 4 + seed % 60;
    (0..words).flat_map(|at| mix(seed ^ at).to_le_bytes()).collect()
}

/// What was promised so far.
#[derive(Default)]
pub(crate) struct Promised {
    /// Each key, and the revision that it was acknowledged with.
    keys: BTreeMap<String, i64>,
    revisions: BTreeMap<i64, String>,
    /// Of each hot key the last number that was acknowledged.
    hot: BTreeMap<String, u64>,
    /// What went against a promise at once.
    broken: Vec<String>,
    /// How many of those were.
    overwritten: u64,
    /// Puts that may or may not have happened.
    unknown: u64,
}

impl Promised {
    fn acknowledged(&mut self, key: String, revision: i64, former: i64) {
        if revision <= former {
            self.broken.push(format!("{key}: revision {revision} after {former}"));
        }
        if let Some(other) = self.revisions.insert(revision, key.clone()) {
            self.broken.push(format!("revision {revision} for {other} and for {key}"));
        }
        self.keys.insert(key, revision);
    }
}

/// Eight writers, and one that overwrites and compacts.
pub(crate) struct Load {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    /// No two loads share a key.
    load: u64,
    promised: Mutex<Promised>,
    stop: AtomicBool,
}

impl Shared {
    fn promised(&self) -> std::sync::MutexGuard<'_, Promised> {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prefix(&self, kind: &str) -> String {
        format!("{kind}/{}/", self.load)
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

impl Load {
    /// Begins to write to these, `writers` at a time.
    pub(crate) fn start(endpoints: &[String], writers: usize) -> Load {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let load = NEXT.fetch_add(1, Ordering::Relaxed);
        let stop = AtomicBool::new(false);
        let shared = Arc::new(Shared { load, promised: Mutex::default(), stop });
        let clients: Vec<Vec<_>> = (0..=writers)
            .map(|_| endpoints.iter().map(|it| KvClient::new(channel(it))).collect())
            .collect();
        let tasks = clients.into_iter().enumerate();
        let tasks = tasks.map(|(writer, clients)| match writer {
            0 => spawn(overwrite(Arc::clone(&shared), clients)),
            _ => spawn(write(Arc::clone(&shared), writer, clients)),
        });
        Load { tasks: tasks.collect(), shared }
    }

    /// Keys that were acknowledged.
    pub(crate) fn count(&self) -> usize {
        self.shared.promised().keys.len()
    }

    /// Waits until so many more are.
    #[track_caller]
    pub(crate) fn goes_on(&self, more: usize, nodes: &[Node]) {
        let wanted = self.count() + more;
        eventually(&format!("{more} more writes"), LONG, || {
            nodes.iter().filter(|it| it.runs()).for_each(Node::is_alive);
            let count = self.count();
            if count < wanted { Err(format!("{count} of {wanted}")) } else { Ok(()) }
        });
    }

    /// Panics unless the nodes have everything that was acknowledged before this was called.
    #[track_caller]
    pub(crate) fn is_kept_by(&self, nodes: &[&Node], told: &str) {
        let (keys, hot) = {
            let promised = self.shared.promised();
            assert!(promised.broken.is_empty(), "{told}: {:#?}", promised.broken);
            (promised.keys.clone(), promised.hot.clone())
        };
        let last = keys.values().copied().max().unwrap_or(0);
        for node in nodes {
            let name = &node.name;
            // So that what is read from its own store next is not from before the call.
            let revision = eventually("a quorum read", LONG, || node.linear_revision());
            assert!(revision >= last, "{told}: {name} is at {revision}, {last} was acknowledged");
            let held = eventually("what it holds", LONG, || node.holds(&self.shared.prefix("w")));
            for (key, revision) in &keys {
                let Some((value, at)) = held.get(key.as_bytes()) else {
                    panic!("{told}: LOST on {name}: {key} of revision {revision}");
                };
                assert_eq!(at, revision, "{told}: {name}: the revision of {key}");
                assert!(*value == value_of(key), "{told}: {name}: the value of {key}: {value:?}");
            }
            let held = eventually("what it holds", LONG, || node.holds(&self.shared.prefix("hot")));
            for (key, number) in &hot {
                let value = held.get(key.as_bytes()).map(|it| it.0.clone()).unwrap_or_default();
                let found: u64 = String::from_utf8_lossy(&value).parse().unwrap_or(0);
                assert!(found >= *number, "{told}: {name}: {key} is {found}, was {number}");
            }
        }
    }

    /// Lets what is under way end.
    pub(crate) fn pause(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            block_on(task).expect("no writer panics");
        }
    }

    /// One line of what was written.
    pub(crate) fn summary(&self) -> String {
        let promised = self.shared.promised();
        format!(
            "{} acknowledged writes ({} unknown) and {} overwritten ones, 0 lost",
            promised.keys.len(),
            promised.unknown,
            promised.overwritten
        )
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

async fn write(shared: Arc<Shared>, writer: usize, mut clients: Vec<KvClient<Channel>>) {
    let (mut turn, mut former) = (writer, 0);
    for number in 0.. {
        if !shared.goes_on() {
            return;
        }
        let key = format!("{}{writer}/{number:08}", shared.prefix("w"));
        let (bytes, value) = (key.clone().into(), value_of(&key).into());
        let request = pb::PutRequest { key: bytes, value, ..Default::default() };
        let at = turn % clients.len();
        if let Ok(Ok(answer)) = timeout(ATTEMPT, clients[at].put(request)).await {
            let revision = answer.into_inner().header.map_or(0, |it| it.revision);
            shared.promised().acknowledged(key, revision, former);
            former = revision;
            // All members are written through, not only the first that answers.
            turn += usize::from(number % 50 == 0);
        } else {
            shared.promised().unknown += 1;
            turn += 1;
            sleep(PAUSE).await;
        }
    }
}

async fn overwrite(shared: Arc<Shared>, mut clients: Vec<KvClient<Channel>>) {
    let (mut turn, mut generation) = (0, 0);
    for number in 1_u64.. {
        if !shared.goes_on() {
            return;
        }
        sleep(Duration::from_millis(5)).await;
        let key = format!("{}{generation}/{}", shared.prefix("hot"), number % HOT);
        let at = turn % clients.len();
        let (bytes, value) = (key.clone().into(), number.to_string().into());
        let request = pb::PutRequest { key: bytes, value, ..Default::default() };
        let Ok(Ok(answer)) = timeout(ATTEMPT, clients[at].put(request)).await else {
            // It may still come to be, after the next one.
            shared.promised().hot.remove(&key);
            (turn, generation) = (turn + 1, generation + 1);
            sleep(PAUSE).await;
            continue;
        };
        {
            let mut promised = shared.promised();
            promised.hot.insert(key, number);
            promised.overwritten += 1;
        }
        let revision = answer.into_inner().header.map_or(0, |it| it.revision);
        if number % 100 == 0 && revision > 300 {
            let request = pb::CompactionRequest { revision: revision - 200, physical: false };
            // Whether it is done does not matter; that all do it alike does.
            let _ = timeout(ATTEMPT, clients[at].compact(request)).await;
        }
    }
}
