//! Clients that ask any member for something, and remember what they were told.

use std::time::Duration;

use bytes::Bytes;
use quorate::node::apply::{Operation, Response};
use quorate::node::ground::simulated::{below, happens};
use quorate::node::raft::Node;
use quorate::node::replica::Replica;
use quorate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate::proto::etcdserverpb::request_op::Request;
use quorate::proto::etcdserverpb::response_op::Response as Answered;
use quorate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
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

/// A client, until the run is over.
pub async fn client(world: Shared, number: usize, reads_locally: bool) {
    let mut over = world.is_over.subscribe();
    let mut last: Option<(String, Value)> = None;
    let mut serial = 0;
    while !*over.borrow_and_update() {
        tokio::time::sleep(Duration::from_micros(below(40_000))).await;
        let running = world.running();
        if running.is_empty() {
            continue;
        }
        let chosen = usize::try_from(below(running.len() as u64)).unwrap_or(0);
        let (_, life) = running[chosen].clone();
        serial += 1;
        let asked = next(number, serial, last.as_ref());
        let begun = world.history.lock().begin(asked.clone());
        let mut gone = life.gone.clone();
        let told = tokio::select! {
            biased;
            told = ask(&life.node, &asked, reads_locally) => told,
            _ = gone.wait_for(|it| *it) => None,
            () = tokio::time::sleep(PATIENCE) => None,
        };
        let Some(told) = told else { continue };
        match &asked {
            Asked::Put { key, value } => last = Some((key.clone(), value.clone())),
            Asked::Swap { puts, .. } if told.done => last = puts.last().cloned(),
            _ => {
                last =
                    told.found.first().map(|(key, value, _)| (key.clone(), value.clone())).or(last);
            }
        }
        world.history.lock().end(begun, told);
    }
}

fn next(client: usize, serial: u64, last: Option<&(String, Value)>) -> Asked {
    let value = |n: u64| format!("c{client}-{serial}.{n}");
    match below(100) {
        0..30 => Asked::Put { key: key(), value: value(0) },
        30..40 => Asked::Delete { key: key() },
        40..65 => {
            let (key, expect) = match last {
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
        65..95 => Asked::Get { key: key() },
        _ => Asked::All,
    }
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() }
}

fn range(key: &str) -> RangeRequest {
    RangeRequest { key: bytes(key), ..RangeRequest::default() }
}

fn operation(asked: &Asked) -> Option<Operation> {
    Some(match asked {
        Asked::Put { key, value } => Operation::Put(put(key, value)),
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
                puts.iter().map(|it| op(Request::RequestPut(put(&it.0, &it.1)))).collect();
            let failure = vec![op(Request::RequestRange(range(key)))];
            Operation::Txn(TxnRequest { compare: vec![compare], success, failure })
        }
        Asked::Get { .. } | Asked::All => return None,
    })
}

fn found(it: &RangeResponse) -> Vec<(String, Value, i64)> {
    let text = |it: &Bytes| String::from_utf8_lossy(it).into_owned();
    it.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value), kv.mod_revision)).collect()
}

/// Asks; `None` if it is not known what came of it.
async fn ask(node: &Node, asked: &Asked, reads_locally: bool) -> Option<Told> {
    let Some(operation) = operation(asked) else { return read(node, asked, reads_locally).await };
    let (header, done, found) = match node.propose(operation).await.ok()? {
        Response::Put(it) => (it.header, true, Vec::new()),
        Response::DeleteRange(it) => (it.header, it.deleted > 0, Vec::new()),
        Response::Txn(it) => {
            let read = it.responses.iter().find_map(|it| match &it.response {
                Some(Answered::ResponseRange(it)) => Some(found(it)),
                _ => None,
            });
            (it.header, it.succeeded, read.unwrap_or_default())
        }
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
        _ => RangeRequest { key: bytes("k"), range_end: bytes("l"), ..RangeRequest::default() },
    };
    let it = node.read(|state| state.range(&range)).ok()?;
    Some(Told { revision: it.header.as_ref()?.revision, done: true, found: found(&it) })
}

/// Writes once more, and has to succeed: the cluster is whole.
pub async fn last_word(world: &Shared) -> bool {
    for (_, life) in world.running() {
        let value = format!("last-{}", below(u64::MAX));
        let asked = Asked::Put { key: "last".to_owned(), value };
        let begun = world.history.lock().begin(asked.clone());
        let told = tokio::time::timeout(PATIENCE, ask(&life.node, &asked, false)).await;
        let Ok(Some(told)) = told else { return false };
        world.history.lock().end(begun, told);
    }
    true
}
