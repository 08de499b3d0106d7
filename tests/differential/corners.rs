//! What chance would seldom meet, in an order that a fresh store needs.

use prost::bytes::Bytes;
use quorate::proto::etcdserverpb::request_op::Request;
use quorate::proto::etcdserverpb::{
    AlarmRequest, AuthStatusRequest, CompactionRequest, DefragmentRequest, DeleteRangeRequest,
    HashKvRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberAddRequest, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest, MoveLeaderRequest, PutRequest, RangeRequest,
    RequestOp, StatusRequest, TxnRequest, WatchCreateRequest,
};

use crate::asks::Ask;
use crate::plain::{OWN, OWN_PEER_URL};

fn put(key: &'static str, lease: i64) -> PutRequest {
    PutRequest { key: key.into(), lease, ..PutRequest::default() }
}

fn get(key: &'static str) -> RangeRequest {
    let range_end = Bytes::from_static(b"\0");
    RangeRequest { key: key.into(), range_end, ..RangeRequest::default() }
}

fn txn(ops: Vec<Request>) -> Ask {
    let success = ops.into_iter().map(|it| RequestOp { request: Some(it) }).collect();
    Ask::Txn(TxnRequest { success, ..TxnRequest::default() })
}

fn compact(revision: i64) -> Ask {
    Ask::Compact(CompactionRequest { revision, physical: true })
}

fn watch(key: &'static str, start_revision: i64, watch_id: i64) -> Ask {
    Ask::Watch(WatchCreateRequest {
        key: key.into(),
        start_revision,
        watch_id,
        prev_kv: true,
        ..WatchCreateRequest::default()
    })
}

/// Where a key is deleted and written again at once.
const REWRITTEN: i64 = 7;
/// Where the corners compact: at the deletion of a key.
const TOMBSTONE: i64 = 12;

/// Seconds; longer than any test.
const LONG: i64 = 86_400;

/// Leases and keys to begin any sequence with.
pub fn beginning() -> Vec<Ask> {
    let keys = [put("a", 1), put("b", 0), put("aa", 2), put("ab", 0)].map(Ask::Put);
    [grant(1, LONG), grant(2, LONG)].into_iter().chain(keys).collect()
}

fn range(it: RangeRequest) -> Request {
    Request::RequestRange(it)
}

fn write(it: PutRequest) -> Request {
    Request::RequestPut(it)
}

fn delete(key: &'static str) -> DeleteRangeRequest {
    let range_end = Bytes::from_static(b"\0");
    DeleteRangeRequest { key: key.into(), range_end, prev_kv: true }
}

fn grant(id: i64, ttl: i64) -> Ask {
    Ask::Grant(LeaseGrantRequest { id, ttl })
}

/// All of them, in the one order that they have.
pub fn corners() -> Vec<Ask> {
    [beginning(), requests(), leases(), watches(), past(), members(), alarms(1), alarms(2)].concat()
}

/// Requests that are none, or too much.
fn requests() -> Vec<Ask> {
    let sorted = |sort_order, sort_target| RangeRequest { sort_order, sort_target, ..get("a") };
    vec![
        compact(0),
        Ask::HashKv(HashKvRequest { revision: 0 }),
        Ask::AuthStatus(AuthStatusRequest {}),
        // Sort options that there are not.
        Ask::Range(sorted(3, 0)),
        Ask::Range(sorted(1, 5)),
        Ask::Range(sorted(-1, 0)),
        txn(vec![range(sorted(3, 0))]),
        // Transactions that are none, or too much.
        txn(Vec::new()),
        Ask::Txn(TxnRequest { success: vec![RequestOp::default()], ..Default::default() }),
        txn(vec![range(get("a")); 6]),
        txn(vec![range(get("a")); 7]),
        txn(vec![write(put("a", 0)), write(put("a", 0))]),
        txn(vec![write(put("c", 0)), Request::RequestDeleteRange(delete("a"))]),
        txn(vec![write(put("c", 99))]),
        txn(vec![
            Request::RequestDeleteRange(delete("a")),
            write(PutRequest { ignore_lease: true, ..put("a", 0) }),
        ]),
        txn(vec![range(RangeRequest { revision: 99, ..get("a") })]),
        // Keys that are none.
        Ask::Put(put("", 0)),
        Ask::Put(put("a", 99)),
        Ask::Put(PutRequest { ignore_value: true, value: "x".into(), ..put("a", 0) }),
        Ask::Put(PutRequest { ignore_lease: true, ..put("a", 1) }),
        Ask::Put(PutRequest { ignore_lease: true, ..put("none", 0) }),
        Ask::Put(PutRequest {
            ignore_lease: true,
            ignore_value: true,
            prev_kv: true,
            ..put("a", 0)
        }),
    ]
}

/// Leases drawn, short, taken, too long, of no ID, and what is bound to them.
fn leases() -> Vec<Ask> {
    vec![
        grant(0, LONG),
        grant(0, 0),
        grant(1000, -1),
        grant(1001, i64::MIN),
        grant(1, LONG),
        grant(3, 9_000_000_000),
        grant(4, 9_000_000_001),
        grant(-7, LONG),
        Ask::Leases(LeaseLeasesRequest {}),
        Ask::Put(put("x", 1)),
        Ask::Put(put("y", 1)),
        Ask::TimeToLive(LeaseTimeToLiveRequest { id: 1, keys: true }),
        Ask::TimeToLive(LeaseTimeToLiveRequest { id: -7, keys: true }),
        Ask::TimeToLive(LeaseTimeToLiveRequest { id: 0, keys: true }),
        Ask::KeepAlive(LeaseKeepAliveRequest { id: 1 }),
        Ask::KeepAlive(LeaseKeepAliveRequest { id: 99 }),
        Ask::KeepAlive(LeaseKeepAliveRequest { id: 0 }),
        Ask::Revoke(LeaseRevokeRequest { id: 0 }),
        Ask::Revoke(LeaseRevokeRequest { id: 99 }),
        Ask::Revoke(LeaseRevokeRequest { id: -7 }),
        Ask::Revoke(LeaseRevokeRequest { id: 3 }),
        Ask::Leases(LeaseLeasesRequest {}),
    ]
}

/// Watches that begin as they should not.
fn watches() -> Vec<Ask> {
    vec![
        watch("a", -1, 0),
        watch("a", 2, 7),
        watch("nobody", 2, 0),
        watch("a", 0, 7),
        watch("", 0, 0),
        watch("a", 0, -5),
        Ask::Watch(WatchCreateRequest {
            key: "b".into(),
            range_end: "a".into(),
            ..Default::default()
        }),
        Ask::Watch(WatchCreateRequest {
            key: "b".into(),
            range_end: "b".into(),
            ..Default::default()
        }),
        Ask::Watch(WatchCreateRequest { key: "b".into(), filters: vec![9], ..Default::default() }),
        watch("a", 999, 60),
        Ask::Progress,
        Ask::Cancel(60),
        Ask::Progress,
        Ask::Cancel(99),
        Ask::Cancel(7),
        watch("a", 0, 7),
    ]
}

/// A tombstone at the compacted revision, and a past that is gone.
fn past() -> Vec<Ask> {
    vec![
        Ask::Put(put("b", 0)),
        Ask::DeleteRange(DeleteRangeRequest { key: "b".into(), ..Default::default() }),
        Ask::Put(put("a", 0)),
        Ask::Put(put("b", 0)),
        compact(REWRITTEN),
        compact(TOMBSTONE),
        compact(TOMBSTONE),
        compact(0),
        compact(-1),
        compact(i64::MAX),
        watch("b", TOMBSTONE, 0),
        watch("a", 3, 0),
        watch("a", 3, 50),
        Ask::HashKv(HashKvRequest { revision: TOMBSTONE }),
        Ask::HashKv(HashKvRequest { revision: TOMBSTONE - 1 }),
        Ask::HashKv(HashKvRequest { revision: TOMBSTONE + 1 }),
        Ask::HashKv(HashKvRequest { revision: 99 }),
        Ask::Range(RangeRequest { revision: TOMBSTONE - 1, ..get("a") }),
        Ask::Range(RangeRequest { revision: TOMBSTONE, ..get("a") }),
        txn(vec![range(RangeRequest { revision: 3, ..get("a") }), write(put("c", 99))]),
        Ask::Range(RangeRequest { revision: -1, ..get("a") }),
        txn(vec![range(RangeRequest { revision: -1, ..get("a") })]),
        Ask::Progress,
    ]
}

/// Members, none of whom is changed. A write comes after each: raft lets a second change of the
/// members fall while the first is not yet behind it, and etcd then never answers.
fn members() -> Vec<Ask> {
    let add = |url: &str, is_learner| {
        Ask::MemberAdd(MemberAddRequest { peer_urls: vec![url.to_owned()], is_learner })
    };
    let update = |id, url: &str| {
        Ask::MemberUpdate(MemberUpdateRequest { id, peer_urls: vec![url.to_owned()] })
    };
    let asks = [
        add("", false),
        add("x", false),
        add("http://127.0.0.1", false),
        add(OWN_PEER_URL, false),
        add(OWN_PEER_URL, true),
        update(99, "http://127.0.0.1:1"),
        update(99, "x"),
        Ask::MemberRemove(MemberRemoveRequest { id: 99 }),
        Ask::MemberPromote(MemberPromoteRequest { id: 99 }),
        Ask::MemberPromote(MemberPromoteRequest { id: OWN }),
        Ask::MoveLeader(MoveLeaderRequest { target_id: 99 }),
        Ask::MoveLeader(MoveLeaderRequest { target_id: OWN }),
        Ask::Defragment(DefragmentRequest {}),
    ];
    asks.into_iter().flat_map(|it| [it, Ask::Put(put("a", 0))]).collect()
}

/// An alarm, and what it forbids.
fn alarms(kind: i32) -> Vec<Ask> {
    let alarm = |action, alarm| Ask::Alarm(AlarmRequest { action, member_id: OWN, alarm });
    vec![
        alarm(1, kind),
        alarm(1, kind),
        alarm(0, 0),
        alarm(0, 1),
        alarm(0, 2),
        Ask::Status(StatusRequest {}),
        Ask::Put(put("a", 0)),
        Ask::Range(get("a")),
        Ask::Range(RangeRequest { serializable: true, ..get("a") }),
        txn(vec![write(put("a", 0))]),
        txn(vec![range(get("a"))]),
        txn(Vec::new()),
        grant(5, LONG),
        Ask::TimeToLive(LeaseTimeToLiveRequest { id: 1, keys: true }),
        Ask::KeepAlive(LeaseKeepAliveRequest { id: 1 }),
        Ask::DeleteRange(delete("b")),
        compact(TOMBSTONE + 1),
        Ask::HashKv(HashKvRequest { revision: 0 }),
        alarm(2, kind),
        alarm(2, kind),
        alarm(0, 0),
    ]
}
