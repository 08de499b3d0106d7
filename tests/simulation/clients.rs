//! Clients that ask any member for something, and remember what they were told.

use std::time::Duration;

use bytes::Bytes;
use quorate::node::apply::{Operation, Response};
use quorate::node::fault::Fault;
use quorate::node::ground::simulated::{below, happens};
use quorate::node::raft::Node;
use quorate::node::replica::Replica;
use quorate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate::proto::etcdserverpb::request_op::Request;
use quorate::proto::etcdserverpb::response_op::Response as Answered;
use quorate::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
};

use super::cluster::Shared;
use super::history::{Asked, Told, Value};

/// Keys that there are; few, so that clients meet.
const KEYS: u64 = 5;
/// After so long a client gives up.
const PATIENCE: Duration = Duration::from_secs(8);

fn key() -> String {
    format!("k{}", below(KEYS))
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// What a client keeps in mind.
#[derive(Default)]
struct Mind {
    number: usize,
    serial: u64,
    /// A key, and what it held.
    last: Option<(String, Value)>,
    /// The last revision it was told.
    revision: i64,
    /// Its lease.
    lease: Option<i64>,
}

/// A client, until the run is over.
pub async fn client(world: Shared, number: usize, reads_locally: bool) {
    let mut over = world.is_over.subscribe();
    let mut mind = Mind { number, ..Mind::default() };
    while !*over.borrow_and_update() {
        tokio::time::sleep(Duration::from_micros(below(40_000))).await;
        let running = world.running();
        if running.is_empty() {
            continue;
        }
        let chosen = usize::try_from(below(running.len() as u64)).unwrap_or(0);
        let (_, life) = running[chosen].clone();
        let asked = mind.next();
        let begun = world.history.lock().begin(asked.clone());
        let mut gone = life.gone.clone();
        let told = tokio::select! {
            biased;
            told = ask(&life.node, &asked, reads_locally) => told,
            _ = gone.wait_for(|it| *it) => None,
            () = tokio::time::sleep(PATIENCE) => None,
        };
        let Some(told) = told else { continue };
        mind.hear(&asked, &told);
        world.history.lock().end(begun, told);
    }
}

impl Mind {
    fn hear(&mut self, asked: &Asked, told: &Told) {
        self.revision = self.revision.max(told.revision);
        match asked {
            Asked::Put { lease: 1.., .. } | Asked::Past { .. } | Asked::Compact { .. } => {}
            Asked::Put { key, value, .. } => self.last = Some((key.clone(), value.clone())),
            Asked::Swap { puts, .. } if told.done => self.last = puts.last().cloned(),
            Asked::Grant { lease, .. } => self.lease = Some(*lease),
            Asked::KeepAlive { .. } if told.done => {}
            Asked::KeepAlive { .. } | Asked::Revoke { .. } => self.lease = None,
            _ => {
                let found = told.found.first();
                let found = found.map(|(key, value, _)| (key.clone(), value.clone()));
                self.last = found.or(self.last.take());
            }
        }
    }

    fn next(&mut self) -> Asked {
        self.serial += 1;
        let value = |n: u64| format!("c{}-{}.{n}", self.number, self.serial);
        match below(100) {
            0..28 => Asked::Put { key: key(), value: value(0), lease: 0 },
            28..37 => Asked::Delete { key: key() },
            37..58 => {
                let (key, expect) = match &self.last {
                    Some((key, value)) if happens(80) => (key.clone(), Some(value.clone())),
                    _ => (key(), None),
                };
                let mut puts = vec![(key.clone(), value(0))];
                let other = self::key();
                if other != key {
                    puts.push((other, value(1)));
                }
                Asked::Swap { key, expect, puts }
            }
            58..80 => Asked::Get { key: key() },
            80..84 => Asked::All,
            84..88 => Asked::Past { key: key(), revision: self.before(60) },
            88..90 => Asked::Compact { revision: self.before(30), physical: happens(50) },
            _ => self.about_a_lease(value(0)),
        }
    }

    /// A revision of late.
    fn before(&self, most: u64) -> i64 {
        (self.revision - below(most).cast_signed()).max(1)
    }

    fn about_a_lease(&mut self, value: Value) -> Asked {
        let Some(lease) = self.lease else {
            let serial = 1000 * (self.number as u64 + 1) + self.serial;
            let ttl = 1 + below(3).cast_signed();
            return Asked::Grant { lease: serial.cast_signed(), ttl };
        };
        match below(100) {
            0..40 => Asked::Put { key: format!("l{lease}.{}", below(3)), value, lease },
            40..85 => Asked::KeepAlive { lease },
            85..92 => Asked::Revoke { lease },
            // It is left alone, and ends.
            _ => {
                self.lease = None;
                Asked::KeepAlive { lease }
            }
        }
    }
}

fn put(key: &str, value: &str, lease: i64) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), lease, ..PutRequest::default() }
}

fn range(key: &str) -> RangeRequest {
    RangeRequest { key: bytes(key), ..RangeRequest::default() }
}

fn operation(asked: &Asked) -> Option<Operation> {
    Some(match asked {
        Asked::Put { key, value, lease } => Operation::Put(put(key, value, *lease)),
        Asked::Delete { key } => {
            Operation::DeleteRange(DeleteRangeRequest { key: bytes(key), ..Default::default() })
        }
        Asked::Swap { key, expect, puts } => {
            let (target, union) = match expect {
                Some(value) => (CompareTarget::Value, TargetUnion::Value(bytes(value))),
                None => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
            };
            let compare = Compare {
                result: CompareResult::Equal as i32,
                target: target as i32,
                key: bytes(key),
                target_union: Some(union),
                ..Compare::default()
            };
            let op = |request| RequestOp { request: Some(request) };
            let success =
                puts.iter().map(|it| op(Request::RequestPut(put(&it.0, &it.1, 0)))).collect();
            let failure = vec![op(Request::RequestRange(range(key)))];
            Operation::Txn(TxnRequest { compare: vec![compare], success, failure })
        }
        Asked::Compact { revision, physical } => {
            Operation::Compact(CompactionRequest { revision: *revision, physical: *physical })
        }
        Asked::Grant { lease, ttl } => {
            Operation::LeaseGrant(LeaseGrantRequest { id: *lease, ttl: *ttl })
        }
        Asked::Revoke { lease } => Operation::LeaseRevoke(LeaseRevokeRequest { id: *lease }),
        Asked::Get { .. } | Asked::All | Asked::Past { .. } | Asked::KeepAlive { .. } => {
            return None;
        }
    })
}

fn found(it: &RangeResponse) -> Vec<(String, Value, i64)> {
    let text = |it: &Bytes| String::from_utf8_lossy(it).into_owned();
    it.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value), kv.mod_revision)).collect()
}

/// Asks; `None` if it is not known what came of it.
async fn ask(node: &Node, asked: &Asked, reads_locally: bool) -> Option<Told> {
    let no = Told { revision: 0, done: false, found: Vec::new() };
    if let Asked::KeepAlive { lease } = asked {
        let ttl = node.renew_lease(*lease).await.ok()?;
        return Some(Told { done: ttl > 0, ..no });
    }
    let Some(operation) = operation(asked) else { return read(node, asked, reads_locally).await };
    let answer = match node.propose(operation).await {
        Err(Fault::Compacted | Fault::LeaseNotFound) => return Some(no),
        answer => answer.ok()?,
    };
    if matches!(asked, Asked::Compact { physical: true, .. }) {
        node.swept().await.ok()?;
    }
    let (header, done, found) = match answer {
        Response::Put(it) => (it.header, true, Vec::new()),
        Response::DeleteRange(it) => (it.header, it.deleted > 0, Vec::new()),
        Response::Txn(it) => {
            let read = it.responses.iter().find_map(|it| match &it.response {
                Some(Answered::ResponseRange(it)) => Some(found(it)),
                _ => None,
            });
            (it.header, it.succeeded, read.unwrap_or_default())
        }
        Response::Compact(it) => (it.header, true, Vec::new()),
        Response::LeaseGrant(it) => (it.header, true, Vec::new()),
        // It may stand as a change or behind one.
        Response::LeaseRevoke(_) => return Some(Told { done: true, ..no }),
        other => panic!("{other:?}"),
    };
    Some(Told { revision: header?.revision, done, found })
}

async fn read(node: &Node, asked: &Asked, reads_locally: bool) -> Option<Told> {
    if !reads_locally {
        node.read_barrier().await.ok()?;
    }
    let range = match asked {
        Asked::Get { key } => range(key),
        Asked::Past { key, revision } => RangeRequest { revision: *revision, ..range(key) },
        _ => RangeRequest { key: bytes("k"), range_end: bytes("l"), ..RangeRequest::default() },
    };
    let it = match node.read(|state| state.range(&range)) {
        Err(Fault::Compacted) => {
            return Some(Told { revision: 0, done: false, found: Vec::new() });
        }
        it => it.ok()?,
    };
    Some(Told { revision: it.header.as_ref()?.revision, done: true, found: found(&it) })
}

/// Writes once more, and has to succeed: the cluster is whole.
pub async fn last_word(world: &Shared) -> bool {
    for (_, life) in world.running() {
        let value = format!("last-{}", below(u64::MAX));
        let asked = Asked::Put { key: "last".to_owned(), value, lease: 0 };
        let begun = world.history.lock().begin(asked.clone());
        let told = tokio::time::timeout(PATIENCE, ask(&life.node, &asked, false)).await;
        let Ok(Some(told)) = told else { return false };
        world.history.lock().end(begun, told);
    }
    true
}
