//! The same random writes and watches on this server and on a real etcd. `ETCD` names another
//! binary, `ROUNDS` how many fresh ones of it: 1 if nothing is said.
//!
//! Compared is what each watch hears: every event with all its fields, how it begins and ends, and
//! that no revision is split. Not compared: how revisions are put together into answers.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use quorate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate::proto::etcdserverpb::kv_client::KvClient;
use quorate::proto::etcdserverpb::request_op::Request;
use quorate::proto::etcdserverpb::watch_create_request::FilterType;
use quorate::proto::etcdserverpb::watch_request::RequestUnion;
use quorate::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest,
    WatchCreateRequest, WatchRequest,
};
use quorate::proto::mvccpb::Event;
use tonic::transport::Channel;

use crate::lone_etcd::LoneEtcd;
use crate::support::{Served, Watching, bytes, watch};

#[derive(Clone, Debug)]
enum Op {
    Put(u8, u8),
    Delete(u8, Option<u8>),
    Txn(Vec<(u8, Option<u8>)>),
    Compact(u8),
    Watch { from: u8, to: Option<u8>, start: i64, prev_kv: bool, filter: u8, fragment: bool },
    Cancel(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let end = || prop::option::of(0_u8..8);
    let writes = prop::collection::vec((0_u8..7, prop::option::of(any::<u8>())), 1..6);
    prop_oneof![
        30 => (0_u8..7, any::<u8>()).prop_map(|(key, value)| Op::Put(key, value)),
        8 => (0_u8..7, end()).prop_map(|(key, to)| Op::Delete(key, to)),
        12 => writes.prop_map(Op::Txn),
        1 => (0_u8..30).prop_map(Op::Compact),
        12 => (0_u8..7, end(), -30_i64..90, any::<bool>(), 0_u8..6, any::<bool>()).prop_map(
            |(from, to, start, prev_kv, filter, fragment)| {
                Op::Watch { from, to, start, prev_kv, filter, fragment }
            }
        ),
        2 => any::<u8>().prop_map(Op::Cancel),
    ]
}

fn key(n: u8) -> prost::bytes::Bytes {
    bytes(&format!("k{n}"))
}

fn end(n: Option<u8>) -> prost::bytes::Bytes {
    match n {
        None => prost::bytes::Bytes::new(),
        Some(7) => bytes("\0"),
        Some(n) => key(n),
    }
}

/// What one watch heard.
#[derive(Clone, Debug, Default, PartialEq)]
struct Heard {
    created_at: i64,
    events: Vec<Event>,
    canceled: bool,
    compacted: i64,
    reason: String,
    header_at_end: i64,
}

struct Side {
    kv: KvClient<Channel>,
    stream: Watching,
    heard: BTreeMap<usize, Heard>,
    /// Watches by ID.
    ids: BTreeMap<i64, usize>,
    revision: i64,
}

impl Side {
    async fn new(channel: Channel) -> Side {
        let request_union = Some(RequestUnion::CreateRequest(watch("none")));
        let first = Some(WatchRequest { request_union });
        let stream = Watching::open_with(channel.clone(), false, first).await.unwrap();
        let kv = KvClient::new(channel);
        let (heard, ids) = (BTreeMap::new(), BTreeMap::new());
        let mut side = Side { kv, stream, heard, ids, revision: 1 };
        side.hear(Some(usize::MAX)).await;
        side
    }

    /// Takes one answer.
    async fn hear(&mut self, creating: Option<usize>) -> bool {
        let answer = self.stream.next().await;
        let revision = answer.header.as_ref().unwrap().revision;
        if answer.created {
            let number = creating.expect("a watch is being created");
            let heard = self.heard.entry(number).or_default();
            heard.created_at = revision;
            heard.canceled = answer.canceled;
            heard.reason = answer.cancel_reason;
            if !answer.canceled {
                self.ids.insert(answer.watch_id, number);
            }
            return true;
        }
        let number = self.ids[&answer.watch_id];
        let heard = self.heard.get_mut(&number).unwrap();
        assert!(!heard.canceled, "nothing after the end");
        if let Some(first) = answer.events.first() {
            let first = first.kv.as_ref().unwrap().mod_revision;
            let last = heard.events.last().map_or(0, |it| it.kv.as_ref().unwrap().mod_revision);
            assert!(first > last, "a revision is split");
        }
        heard.events.extend(answer.events);
        if answer.canceled {
            heard.canceled = true;
            heard.compacted = answer.compact_revision;
            heard.reason = answer.cancel_reason;
            heard.header_at_end = revision;
            self.ids.remove(&answer.watch_id);
        }
        false
    }

    async fn do_one(&mut self, number: usize, op: &Op) {
        match op.clone() {
            Op::Put(at, value) => {
                let value = bytes(&value.to_string());
                let put = PutRequest { key: key(at), value, ..PutRequest::default() };
                self.kv.put(put).await.unwrap();
            }
            Op::Delete(at, to) => {
                let (key, range_end) = (key(at), end(to));
                let delete = DeleteRangeRequest { key, range_end, prev_kv: false };
                self.kv.delete_range(delete).await.unwrap();
            }
            Op::Txn(writes) => {
                let mut keys = std::collections::BTreeSet::new();
                let success =
                    writes.into_iter().filter(|it| keys.insert(it.0)).map(|(at, value)| {
                        let key = key(at);
                        let request = match value {
                            Some(value) => Request::RequestPut(PutRequest {
                                key,
                                value: bytes(&value.to_string()),
                                ..PutRequest::default()
                            }),
                            None => Request::RequestDeleteRange(DeleteRangeRequest {
                                key,
                                ..DeleteRangeRequest::default()
                            }),
                        };
                        RequestOp { request: Some(request) }
                    });
                let always = Compare {
                    key: bytes("none"),
                    result: CompareResult::Equal.into(),
                    target: CompareTarget::Version.into(),
                    target_union: Some(TargetUnion::Version(0)),
                    ..Compare::default()
                };
                let success = success.collect();
                let txn = TxnRequest { compare: vec![always], success, failure: Vec::new() };
                self.kv.txn(txn).await.unwrap();
            }
            Op::Compact(back) => {
                let revision = self.revision - i64::from(back);
                if revision > 1 {
                    let compact = CompactionRequest { revision, physical: true };
                    let _ = self.kv.compact(compact).await;
                }
            }
            Op::Watch { from, to, start, prev_kv, filter, fragment } => {
                let mut filters = Vec::new();
                if filter == 1 || filter == 3 {
                    filters.push(FilterType::Noput.into());
                }
                if filter == 2 || filter == 3 {
                    filters.push(FilterType::Nodelete.into());
                }
                let request = WatchCreateRequest {
                    key: key(from),
                    range_end: end(to),
                    start_revision: start.max(0),
                    filters,
                    prev_kv,
                    fragment,
                    ..WatchCreateRequest::default()
                };
                self.stream.create(request).await;
                while !self.hear(Some(number)).await {}
                // What is told of history needs to be there before the next compaction.
                self.hear_all().await;
            }
            Op::Cancel(n) => {
                let ids: Vec<i64> = self.ids.keys().copied().collect();
                if let Some(id) = ids.get(usize::from(n) % ids.len().max(1)) {
                    self.stream.cancel(*id).await;
                    while self.ids.contains_key(id) {
                        self.hear(None).await;
                    }
                }
            }
        }
        let range =
            quorate::proto::etcdserverpb::RangeRequest { key: bytes("none"), ..Default::default() };
        let answer = self.kv.range(range).await.unwrap().into_inner();
        self.revision = answer.header.unwrap().revision;
    }

    /// Hears until nothing has come for a while.
    async fn hear_all(&mut self) {
        // A real etcd looks at those who lag every 100 ms.
        let wait = Duration::from_millis(if self.ids.is_empty() { 0 } else { 140 });
        loop {
            let next = tokio::time::timeout(wait, self.peek()).await;
            if next.is_err() {
                return;
            }
        }
    }

    async fn peek(&mut self) {
        self.hear(None).await;
    }

    /// How much was heard: events, and ends of watches.
    fn much(&self) -> usize {
        self.heard.values().map(|it| it.events.len() + usize::from(it.canceled)).sum()
    }
}

/// On a busy machine one may say nothing for a while and yet have more to say: has the one that is
/// behind hear on until both have heard as much, or until it is plain that they never will.
async fn level(theirs: &mut Side, ours: &mut Side) {
    while theirs.much() != ours.much() {
        let is_ours = ours.much() < theirs.much();
        let behind = if is_ours { &mut *ours } else { &mut *theirs };
        if tokio::time::timeout(Duration::from_secs(10), behind.peek()).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn every_watch_hears_what_it_hears_of_a_real_etcd() {
    let mut runner = TestRunner::default();
    let rounds = std::env::var("ROUNDS").map_or(1, |it| it.parse().unwrap());
    let (mut watches, mut events, mut compacted) = (0, 0, 0);
    for round in 0..rounds {
        let etcd = LoneEtcd::start(&[]).await;
        let served = Served::start().await;
        let mut theirs = Side::new(etcd.channel.clone()).await;
        let mut ours = Side::new(served.channel().await).await;
        let ops = prop::collection::vec(op(), 200..201).new_tree(&mut runner).unwrap().current();
        for (number, op) in ops.iter().enumerate() {
            if matches!(op, Op::Compact(_) | Op::Watch { .. } | Op::Cancel(_)) {
                // Everyone has heard all before, or how far they got would be chance.
                tokio::join!(theirs.hear_all(), ours.hear_all());
                level(&mut theirs, &mut ours).await;
            }
            tokio::join!(theirs.do_one(number, op), ours.do_one(number, op));
            assert_eq!(ours.revision, theirs.revision, "round {round}, operation {number}: {op:?}");
        }
        tokio::join!(theirs.hear_all(), ours.hear_all());
        level(&mut theirs, &mut ours).await;
        for (number, heard) in &ours.heard {
            let op = ops.get(*number);
            assert_eq!(Some(heard), theirs.heard.get(number), "round {round}: {op:?}");
            watches += 1;
            events += heard.events.len();
            compacted += i32::from(heard.compacted > 0);
        }
        assert_eq!(ours.heard.len(), theirs.heard.len());
    }
    println!("{watches} watches heard {events} events; {compacted} ended as compacted");
}
