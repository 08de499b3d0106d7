//! Clients that write and read the same few keys, and remember what they asked for, when, and what
//! they were answered. No request is sent twice.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate::proto::etcdserverpb as pb;
use quorate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate::proto::etcdserverpb::kv_client::KvClient;
use quorate::proto::etcdserverpb::request_op::Request;
use quorate::proto::etcdserverpb::response_op::Response;
use quorate::proto::mvccpb;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use crate::operation::{Answer, Ask, Kv, Operation, PREFIX};
use crate::support::chance::{Chance, mix};
use crate::support::cluster::SOON;
use crate::support::wait::{eventually, now};
use crate::support::wire::{block_on, channel, spawn};

/// After this long without an answer nobody knows what became of a request.
const PATIENCE: Duration = Duration::from_secs(2);
const KEYS: u64 = 6;

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habit {
    pub(crate) clients: u64,
    /// Between two requests of one, in milliseconds, up to twice that.
    pub(crate) pause: u64,
    /// Every so many values are of 64 KiB; 0 for none.
    pub(crate) large: u64,
    pub(crate) seed: u64,
}

pub(crate) struct Clients {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    habit: Habit,
    endpoints: Vec<String>,
    stop: AtomicBool,
    acknowledged: AtomicUsize,
    done: Mutex<Vec<Operation>>,
}

impl Clients {
    pub(crate) fn start(endpoints: &[String], habit: Habit) -> Clients {
        let shared = Arc::new(Shared {
            habit,
            endpoints: endpoints.to_vec(),
            stop: AtomicBool::new(false),
            acknowledged: AtomicUsize::new(0),
            done: Mutex::default(),
        });
        let tasks = (0..habit.clients).map(|at| spawn(work(Arc::clone(&shared), at))).collect();
        Clients { shared, tasks }
    }

    /// Waits until so many more requests were answered.
    #[track_caller]
    pub(crate) fn goes_on(&self, more: usize) {
        let count = || self.shared.acknowledged.load(Ordering::Relaxed);
        let wanted = count() + more;
        eventually(&format!("{more} more answers"), SOON, || {
            if count() < wanted { Err(format!("{} of {wanted}", count())) } else { Ok(()) }
        });
    }

    /// Lets what is under way end; all that was done.
    pub(crate) fn stop(mut self) -> Vec<Operation> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            block_on(task).expect("no client panics");
        }
        std::mem::take(&mut *self.shared.done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

async fn work(shared: Arc<Shared>, client: u64) {
    let habit = shared.habit;
    let mut chance = Chance(mix(habit.seed ^ mix(client)));
    let mut members: Vec<_> = shared.endpoints.iter().map(|it| kv_client(it)).collect();
    // When each key was last changed, as far as this client has heard.
    let mut modified = std::collections::BTreeMap::<String, i64>::new();
    for number in 0_u64.. {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let ask = next(&mut chance, habit, &format!("c{client}.{number}"), &modified);
        let at = usize::try_from(chance.below(members.len() as u64)).expect("an index");
        let invoked = now();
        let answer = timeout(PATIENCE, asked(&mut members[at], &ask)).await;
        let returned = now();
        let answer = answer.ok().and_then(Result::ok);
        if let Some(answer) = &answer {
            shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            for it in &answer.found {
                modified.insert(it.key.clone(), it.modified);
            }
            for key in ask.written().into_iter().filter(|_| answer.wrote) {
                let is_there = ask.value().is_some();
                modified.insert(key.to_owned(), if is_there { answer.revision } else { 0 });
            }
        }
        let failed = answer.is_none();
        // A read that nobody answered says nothing.
        if !failed || ask.writes() {
            let mut done = shared.done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push(Operation { ask, invoked, returned, answer });
        }
        let pause = if failed { 50 } else { chance.between(habit.pause / 2, habit.pause * 2 + 1) };
        sleep(Duration::from_millis(pause)).await;
    }
}

fn kv_client(endpoint: &str) -> KvClient<Channel> {
    KvClient::new(channel(endpoint)).max_decoding_message_size(64 << 20)
}

fn next(
    chance: &mut Chance,
    habit: Habit,
    name: &str,
    modified: &std::collections::BTreeMap<String, i64>,
) -> Ask {
    let of = |at: u64| format!("{PREFIX}{at}");
    let at = chance.below(KEYS);
    let key = of(at);
    let is_large = habit.large > 0 && chance.below(habit.large) == 0;
    let length = if is_large { 64 << 10 } else { chance.below(120) };
    let padding = "-".repeat(usize::try_from(length).expect("small"));
    let value = format!("{name}/{padding}");
    match chance.below(100) {
        0..30 => Ask::Put { key, value },
        30..40 => Ask::Pair { keys: [key, of((at + 1 + chance.below(KEYS - 1)) % KEYS)], value },
        40..58 => Ask::Swap { modified: modified.get(&key).copied().unwrap_or(0), key, value },
        58..66 => Ask::Delete { key },
        66..92 => Ask::Get { key },
        _ => Ask::All,
    }
}

async fn asked(client: &mut KvClient<Channel>, ask: &Ask) -> Result<Answer, tonic::Status> {
    match ask {
        Ask::Put { key, value } => {
            let answer = client.put(put(key, value)).await?.into_inner();
            Ok(answered(answer.header, true, answer.prev_kv))
        }
        Ask::Delete { key } => {
            let key = key.clone().into();
            let request = pb::DeleteRangeRequest { key, prev_kv: true, ..Default::default() };
            let answer = client.delete_range(request).await?.into_inner();
            Ok(answered(answer.header, answer.deleted > 0, answer.prev_kvs))
        }
        Ask::Get { key } => {
            let answer = client.range(range(key)).await?.into_inner();
            Ok(answered(answer.header, false, answer.kvs))
        }
        Ask::All => {
            let request = pb::RangeRequest { range_end: end().into(), ..range(PREFIX) };
            let answer = client.range(request).await?.into_inner();
            Ok(answered(answer.header, false, answer.kvs))
        }
        Ask::Pair { keys, value } => {
            let success = keys.iter().map(|key| op(Request::RequestPut(put(key, value)))).collect();
            let request = pb::TxnRequest { success, ..Default::default() };
            let answer = client.txn(request).await?.into_inner();
            Ok(of_txn(answer, true))
        }
        Ask::Swap { key, modified, value } => {
            let compare = pb::Compare {
                result: CompareResult::Equal.into(),
                target: CompareTarget::Mod.into(),
                key: key.clone().into(),
                target_union: Some(TargetUnion::ModRevision(*modified)),
                ..Default::default()
            };
            let request = pb::TxnRequest {
                compare: vec![compare],
                success: vec![op(Request::RequestPut(put(key, value)))],
                failure: vec![op(Request::RequestRange(range(key)))],
            };
            let answer = client.txn(request).await?.into_inner();
            let wrote = answer.succeeded;
            Ok(of_txn(answer, wrote))
        }
    }
}

/// One behind the last key of all.
pub(crate) fn end() -> Vec<u8> {
    let mut end = PREFIX.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    pb::PutRequest { key, value, prev_kv: true, ..Default::default() }
}

fn range(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

fn op(request: Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn of_txn(answer: pb::TxnResponse, wrote: bool) -> Answer {
    let found = answer.responses.into_iter().flat_map(|it| match it.response {
        Some(Response::ResponsePut(it)) => it.prev_kv.into_iter().collect(),
        Some(Response::ResponseRange(it)) => it.kvs,
        _ => Vec::new(),
    });
    answered(answer.header, wrote, found.collect::<Vec<_>>())
}

fn answered(
    header: Option<pb::ResponseHeader>,
    wrote: bool,
    found: impl IntoIterator<Item = mvccpb::KeyValue>,
) -> Answer {
    let header = header.unwrap_or_default();
    let found = found.into_iter().map(told).collect();
    Answer { revision: header.revision, cluster: header.cluster_id, wrote, found }
}

/// A key as it is told of on the wire.
pub(crate) fn told(it: mvccpb::KeyValue) -> Kv {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Kv {
        key: text(&it.key),
        value: text(&it.value),
        created: it.create_revision,
        modified: it.mod_revision,
        version: it.version,
    }
}
