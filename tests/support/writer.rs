//! A client that writes all the time and remembers what it was promised.
//!
//! Every write has a key of its own. As etcd's clients do not repeat a write that may have been
//! sent, the writer does: on any error it goes on to the next endpoint with the same key, for fifteen
//! seconds. A write fails when nobody acknowledged it by then.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use quorate::proto::etcdserverpb::PutRequest;
use quorate::proto::etcdserverpb::kv_client::KvClient;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use super::cluster::SOON;
use super::wait::{eventually, now};
use super::wire::{block_on, channel, spawn};

/// After this long without an acknowledgement, a write has failed. An election takes a second or
/// two; on a machine that others keep busy it may take several times that.
const GIVE_UP: Duration = Duration::from_secs(15);
/// How long one endpoint may take; a frozen one never answers.
const ATTEMPT: Duration = Duration::from_secs(1);
/// Between two attempts at one write.
const PAUSE: Duration = Duration::from_millis(20);
/// Keys begin with this.
pub(crate) const PREFIX: &str = "written/";

/// A promise: this key is in the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Acked {
    pub(crate) key: String,
    pub(crate) latency: Duration,
}

/// The value that belongs to a key, so that a test can tell a wrong one.
pub(crate) fn value_of(key: &str) -> Vec<u8> {
    format!("value of {key}").into_bytes()
}

/// A writer that runs until [`Writer::stop`].
pub(crate) struct Writer {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

struct Shared {
    name: String,
    endpoints: RwLock<Vec<(String, KvClient<Channel>)>>,
    stop: AtomicBool,
    count: AtomicU64,
    acked: Mutex<Vec<Acked>>,
    failed: Mutex<Vec<String>>,
}

/// What a writer was promised.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    pub(crate) acked: Vec<Acked>,
    /// One line for each write that nobody acknowledged, with the last error.
    pub(crate) failed: Vec<String>,
}

impl Written {
    /// The longest a write waited for its acknowledgement.
    pub(crate) fn slowest(&self) -> Duration {
        self.acked.iter().map(|acked| acked.latency).max().unwrap_or_default()
    }

    /// Panics if a write failed.
    #[track_caller]
    pub(crate) fn none_failed(&self) -> &Self {
        assert!(
            self.failed.is_empty(),
            "{} of {} writes failed: {:#?}",
            self.failed.len(),
            self.failed.len() + self.acked.len(),
            &self.failed[..self.failed.len().min(5)]
        );
        self
    }

    /// Panics if a write took longer.
    #[track_caller]
    pub(crate) fn none_slower_than(&self, limit: Duration) -> &Self {
        let slow: Vec<_> = self.acked.iter().filter(|acked| acked.latency > limit).collect();
        assert!(
            slow.is_empty(),
            "{} of {} writes took longer than {limit:?}, such as {:?}; the slowest {:?}",
            slow.len(),
            self.acked.len(),
            slow.first(),
            self.slowest()
        );
        self
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// Begins to write `rate` keys a second to these endpoints.
    pub(crate) fn start(endpoints: &[String], rate: u32) -> Writer {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let shared = Arc::new(Shared {
            name: format!("{PREFIX}{}", NEXT.fetch_add(1, Ordering::Relaxed)),
            endpoints: RwLock::new(Vec::new()),
            stop: AtomicBool::new(false),
            count: AtomicU64::new(0),
            acked: Mutex::default(),
            failed: Mutex::default(),
        });
        let mut writer = Writer { shared, task: None };
        writer.use_endpoints(endpoints);
        let shared = Arc::clone(&writer.shared);
        writer.task = Some(spawn(write(shared, Duration::from_secs(1) / rate)));
        writer
    }

    /// Goes on with other endpoints.
    pub(crate) fn use_endpoints(&self, endpoints: &[String]) {
        let clients = endpoints.iter().map(|it| (it.clone(), KvClient::new(channel(it))));
        *self.shared.endpoints.write().unwrap_or_else(PoisonError::into_inner) = clients.collect();
    }

    /// How many writes were acknowledged so far.
    pub(crate) fn acked(&self) -> usize {
        lock(&self.shared.acked).len()
    }

    /// Waits until the cluster has taken `more` writes from now on.
    #[track_caller]
    pub(crate) fn goes_on(&self, more: usize) {
        let wanted = self.acked() + more;
        eventually(&format!("{more} more writes"), SOON, || {
            let acked = self.acked();
            if acked < wanted { Err(format!("{acked} of {wanted}")) } else { Ok(()) }
        });
    }

    /// Lets the writes under way end, and tells what was promised.
    pub(crate) fn stop(mut self) -> Written {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(task) = self.task.take() {
            block_on(task).expect("the writer does not panic");
        }
        Written {
            acked: std::mem::take(&mut *lock(&self.shared.acked)),
            failed: std::mem::take(&mut *lock(&self.shared.failed)),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// Begins a write at each beat, whatever became of the ones before.
async fn write(shared: Arc<Shared>, beat: Duration) {
    let mut beats = tokio::time::interval(beat);
    let mut under_way = JoinSet::new();
    while !shared.stop.load(Ordering::Relaxed) {
        beats.tick().await;
        while under_way.try_join_next().is_some() {}
        let number = shared.count.fetch_add(1, Ordering::Relaxed);
        under_way.spawn(write_one(Arc::clone(&shared), number));
    }
    while under_way.join_next().await.is_some() {}
}

async fn write_one(shared: Arc<Shared>, number: u64) {
    let key = format!("{}/{number:08}", shared.name);
    let request =
        PutRequest { key: key.clone().into(), value: value_of(&key).into(), ..Default::default() };
    let begun: Instant = now();
    let mut turn = usize::try_from(number).unwrap_or(0);
    loop {
        let (endpoint, mut client) = {
            let endpoints = shared.endpoints.read().unwrap_or_else(PoisonError::into_inner);
            endpoints[turn % endpoints.len()].clone()
        };
        let why = match timeout(ATTEMPT, client.put(request.clone())).await {
            Ok(Ok(_)) => {
                let latency = begun.elapsed();
                lock(&shared.acked).push(Acked { key, latency });
                return;
            }
            Ok(Err(status)) => format!("{:?} {}", status.code(), status.message()),
            Err(_) => format!("no answer in {ATTEMPT:?}"),
        };
        if begun.elapsed() >= GIVE_UP {
            lock(&shared.failed).push(format!("{key}: {endpoint}: {why}"));
            return;
        }
        turn += 1;
        sleep(PAUSE).await;
    }
}
