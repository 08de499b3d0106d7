//! Random operations on few keys, so that they meet.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use quorate::node::apply::Operation;
use quorate::proto::etcdserverpb::compare::TargetUnion;
use quorate::proto::etcdserverpb::request_op::Request;
use quorate::proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// What a client may ask for.
#[derive(Clone, Debug)]
pub enum Op {
    /// A read.
    Range(RangeRequest),
    /// Anything else.
    Do(Operation),
}

/// Small, so that it is met.
pub const MAX_TXN_OPS: usize = 6;

const KEYS: [&[u8]; 9] = [b"\0", b"a", b"a\0", b"a:b", b"aa", b"ab", b"b", b"\xff", b"\xff\xff"];
const ENDS: [&[u8]; 6] = [b"\0", b"a", b"ab", b"b", b"c", b"\xff"];
const VALUES: [&[u8]; 4] = [b"", b"x", b"y\0", b"\xff"];

fn bytes(of: &'static [&'static [u8]]) -> impl Strategy<Value = Bytes> {
    proptest::sample::select(of).prop_map(Bytes::from_static)
}

/// Now and then no key at all.
fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![150 => bytes(&KEYS), 1 => Just(Bytes::new())]
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![3 => Just(Bytes::new()), 3 => Just(Bytes::from_static(b"\0")), 3 => bytes(&ENDS)]
}

fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![40 => Just(0), 12 => 1..30i64, 1 => -3..0i64, 1 => Just(i64::MAX)]
}

fn limit() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0), 6 => 1..5i64, 1 => -2..0i64, 1 => Just(i64::MAX)]
}

fn bound() -> impl Strategy<Value = i64> {
    prop_oneof![8 => Just(0), 3 => 2..12i64]
}

fn range() -> impl Strategy<Value = RangeRequest> {
    let order = prop_oneof![16 => Just(0), 24 => 1..3, 1 => Just(3)];
    let target = prop_oneof![20 => Just(0), 20 => 1..5, 1 => Just(5)];
    let flags = (any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.15));
    let bounds = (bound(), bound(), bound(), bound());
    let what = (key(), range_end(), limit(), revision());
    (what, order, target, flags, bounds).prop_map(
        |((key, range_end, limit, revision), order, target, flags, bounds)| RangeRequest {
            key,
            range_end,
            limit,
            revision,
            sort_order: order,
            sort_target: target,
            serializable: flags.0,
            keys_only: flags.1,
            count_only: flags.2,
            min_mod_revision: bounds.0,
            max_mod_revision: bounds.1,
            min_create_revision: bounds.2,
            max_create_revision: bounds.3,
        },
    )
}

fn put() -> impl Strategy<Value = PutRequest> {
    let lease = prop_oneof![12 => Just(0), 8 => 1..3i64, 1 => 3..5i64];
    let flags = (any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    // What is kept is mostly not brought as well.
    (key(), bytes(&VALUES), lease, flags, prop::bool::weighted(0.9)).prop_map(
        |(key, value, lease, (prev_kv, ignore_value, ignore_lease), fits)| PutRequest {
            key,
            value: if ignore_value && fits { Bytes::new() } else { value },
            lease: if ignore_lease && fits { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete_range() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    let result = prop_oneof![30 => 0..4, 1 => Just(4)];
    let target = prop_oneof![30 => 0..5, 1 => Just(5)];
    let fits = prop::bool::weighted(0.9);
    let number = prop_oneof![2 => Just(0), 3 => 0..4i64, 3 => 1..20i64];
    (result, target, key(), range_end(), fits, number, bytes(&VALUES)).prop_map(
        |(result, target, key, range_end, fits, number, value)| {
            let given = match if fits { target } else { target + 1 } {
                0 => Some(TargetUnion::Version(number)),
                1 => Some(TargetUnion::CreateRevision(number)),
                2 => Some(TargetUnion::ModRevision(number)),
                3 => Some(TargetUnion::Value(value)),
                4 => Some(TargetUnion::Lease(number)),
                _ => None,
            };
            Compare { result, target, key, range_end, target_union: given }
        },
    )
}

fn request(nested: Option<BoxedStrategy<TxnRequest>>) -> BoxedStrategy<RequestOp> {
    let simple = prop_oneof![
        4 => range().prop_map(Request::RequestRange),
        8 => put().prop_map(Request::RequestPut),
        3 => delete_range().prop_map(Request::RequestDeleteRange),
    ];
    let some = match nested {
        None => simple.boxed(),
        Some(txn) => prop_oneof![5 => simple, 2 => txn.prop_map(Request::RequestTxn)].boxed(),
    };
    prop_oneof![200 => some.prop_map(Some), 1 => Just(None)]
        .prop_map(|request| RequestOp { request })
        .boxed()
}

fn txn(depth: usize) -> BoxedStrategy<TxnRequest> {
    let ops = || vec(request((depth > 0).then(|| txn(depth - 1))), 0..4);
    (vec(compare(), 0..3), ops(), ops())
        .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
        .boxed()
}

/// One operation.
pub fn op() -> impl Strategy<Value = Op> {
    let lease = (1..5i64, prop_oneof![8 => Just(60_000), 1 => Just(9_000_000_001)]);
    prop_oneof![
        8 => range().prop_map(Op::Range),
        8 => put().prop_map(|it| Op::Do(Operation::Put(it))),
        3 => delete_range().prop_map(|it| Op::Do(Operation::DeleteRange(it))),
        8 => txn(2).prop_map(|it| Op::Do(Operation::Txn(it))),
        1 => (prop_oneof![20 => 1..25i64, 1 => Just(-1)], any::<bool>()).prop_map(|(revision, physical)| {
            Op::Do(Operation::Compact(CompactionRequest { revision, physical }))
        }),
        3 => lease.prop_map(|(id, ttl)| {
            Op::Do(Operation::LeaseGrant(LeaseGrantRequest { id, ttl }))
        }),
        1 => (1..6i64).prop_map(|id| Op::Do(Operation::LeaseRevoke(LeaseRevokeRequest { id }))),
    ]
}

/// An alarm; the more seldom raised, the more is done without.
pub fn alarm() -> impl Strategy<Value = Op> {
    let action = prop_oneof![1 => Just(0), 1 => Just(1), 4 => Just(2)];
    let kind = prop_oneof![1 => Just(0), 4 => Just(1), 2 => Just(2)];
    (action, 0..2u64, kind).prop_map(|(action, member_id, alarm)| {
        Op::Do(Operation::Alarm(AlarmRequest { action, member_id, alarm }))
    })
}

/// Operations, with leases and keys at hand from the start.
pub fn sequence(length: usize) -> impl Strategy<Value = Vec<Op>> {
    let any = prop_oneof![40 => op(), 1 => alarm()];
    with_leases(any, length)
}

/// The same without alarms.
pub fn calm_sequence(length: usize) -> impl Strategy<Value = Vec<Op>> {
    with_leases(op(), length)
}

fn with_leases(any: impl Strategy<Value = Op>, length: usize) -> impl Strategy<Value = Vec<Op>> {
    let grant = |id| Op::Do(Operation::LeaseGrant(LeaseGrantRequest { id, ttl: 60_000 }));
    vec(any, 1..length).prop_map(move |mut ops| {
        let keys = [(b"a" as &[u8], 1), (b"b", 0), (b"aa", 2), (b"\xff", 0), (b"ab", 0)];
        let put = |(key, lease): (&'static [u8], _)| {
            let key = Bytes::from_static(key);
            Op::Do(Operation::Put(PutRequest { key, lease, ..PutRequest::default() }))
        };
        ops.splice(0..0, [grant(1), grant(2)].into_iter().chain(keys.map(put)));
        ops
    })
}

/// What chance would seldom meet, and where etcd is not as one would think.
pub fn corners() -> Vec<Op> {
    let put = |key: &'static str, value: &'static str| {
        let (key, value) = (key.into(), value.into());
        Request::RequestPut(PutRequest { key, value, ..PutRequest::default() })
    };
    let get = |key: &'static str, revision| {
        let (key, range_end) = (key.into(), Bytes::from_static(b"\0"));
        let limit = 5;
        let it = RangeRequest { key, range_end, revision, limit, ..RangeRequest::default() };
        Request::RequestRange(it)
    };
    let delete = |key: &'static str, range_end: &'static str| {
        let (key, range_end) = (key.into(), range_end.into());
        Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv: true })
    };
    let ops = |all: Vec<Request>| {
        all.into_iter().map(|it| RequestOp { request: Some(it) }).collect::<Vec<_>>()
    };
    let inner = |all| TxnRequest { success: ops(all), ..TxnRequest::default() };
    let nested = |all| Request::RequestTxn(inner(all));
    let txn = |all| Op::Do(Operation::Txn(inner(all)));
    let compact =
        |revision| Op::Do(Operation::Compact(CompactionRequest { revision, physical: true }));
    let is_new = |key: &'static str| Compare {
        target: 0,
        key: key.into(),
        target_union: Some(TargetUnion::Version(0)),
        ..Compare::default()
    };
    // Sees the store as it was before the put beside it.
    let late = TxnRequest { compare: vec![is_new("n")], ..inner(vec![put("m", "late")]) };
    vec![
        txn(vec![put("a", "1"), put("b", "2"), get("a", 0), get("a", 1), delete("c", "")]),
        // Keys deleted and written in one revision, where the check is blind.
        txn(vec![delete("a", "\0"), put("b", "3"), get("a", 0)]),
        txn(vec![nested(vec![put("b", "4")]), nested(vec![delete("a", "c")]), get("a", 0)]),
        txn(vec![delete("a", "\0"), get("a", 0), put("a", "5"), put("c", "6")]),
        txn(vec![put("n", "7"), Request::RequestTxn(late), get("m", 0)]),
        // The future and the past from inside.
        txn(vec![put("a", "8"), get("a", 7)]),
        txn(vec![get("a", -1), put("a", "9")]),
        txn(vec![get("a", -2), put("a", "9")]),
        txn(vec![get("a", -2)]),
        compact(4),
        txn(vec![get("a", -1), put("a", "10")]),
        txn(vec![put("a", "11"), get("a", 4), get("a", 3)]),
        txn(vec![put("a", "11"), get("a", 4)]),
        txn(vec![delete("a", "\0"), delete("a", "\0"), delete("z", "a")]),
        txn(vec![delete("a", "\0"), get("a", 0), delete("a", "")]),
        txn(vec![]),
        compact(4),
        compact(i64::MAX),
    ]
}
