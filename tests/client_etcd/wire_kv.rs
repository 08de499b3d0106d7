//! KV: every request, option and answer.

use prost::bytes::Bytes;
use quorate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate::proto::etcdserverpb::request_op::Request;
use quorate::proto::etcdserverpb::response_op::Response;
use quorate::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest,
    RangeResponse, RequestOp, TxnRequest, kv_client::KvClient, lease_client::LeaseClient,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::etcd::{Etcd, connect};

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() }
}

/// All keys that begin with `k`.
fn all() -> RangeRequest {
    RangeRequest { key: bytes("k"), range_end: bytes("l"), ..RangeRequest::default() }
}

fn keys(answer: &RangeResponse) -> Vec<&str> {
    answer.kvs.iter().map(|it| std::str::from_utf8(&it.key).unwrap()).collect()
}

async fn read(kv: &mut KvClient<Channel>, request: RangeRequest) -> RangeResponse {
    kv.range(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn keys_are_written_read_in_every_way_deleted_and_compacted() {
    let etcd = Etcd::start(1).await;
    let channel = connect(&etcd).await;
    let mut kv = KvClient::new(channel.clone());

    // Revisions 2 to 5; k1 is written twice.
    let first = kv.put(put("k1", "c")).await.unwrap().into_inner();
    let header = first.header.unwrap();
    assert_eq!((header.revision, first.prev_kv), (2, None));
    assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term > 1);
    kv.put(put("k2", "a")).await.unwrap();
    kv.put(put("k3", "b")).await.unwrap();
    let again = kv.put(PutRequest { prev_kv: true, ..put("k1", "d") }).await.unwrap().into_inner();
    let previous = again.prev_kv.unwrap();
    assert_eq!((&previous.key[..], &previous.value[..]), (&b"k1"[..], &b"c"[..]));
    assert_eq!((previous.create_revision, previous.mod_revision, previous.version), (2, 2, 1));

    let found = read(&mut kv, RangeRequest { key: bytes("k1"), ..RangeRequest::default() }).await;
    let k1 = &found.kvs[0];
    assert_eq!((found.count, found.more), (1, false));
    assert_eq!((&k1.value[..], k1.create_revision, k1.mod_revision), (&b"d"[..], 2, 5));
    assert_eq!((k1.version, k1.lease), (2, 0));

    let limited = read(&mut kv, RangeRequest { limit: 2, ..all() }).await;
    assert_eq!((keys(&limited), limited.more, limited.count), (vec!["k1", "k2"], true, 3));
    let old = read(&mut kv, RangeRequest { revision: 3, ..all() }).await;
    assert_eq!((keys(&old), &old.kvs[0].value[..]), (vec!["k1", "k2"], &b"c"[..]));
    let bare = read(&mut kv, RangeRequest { keys_only: true, serializable: true, ..all() }).await;
    assert!(bare.kvs.iter().all(|it| it.value.is_empty()) && bare.kvs.len() == 3);
    let count = read(&mut kv, RangeRequest { count_only: true, ..all() }).await;
    assert_eq!((count.count, count.kvs.len()), (3, 0));
    for (order, target, expected) in [
        (SortOrder::Descend, SortTarget::Key, ["k3", "k2", "k1"]),
        (SortOrder::None, SortTarget::Value, ["k2", "k3", "k1"]),
        (SortOrder::Ascend, SortTarget::Mod, ["k2", "k3", "k1"]),
        (SortOrder::Descend, SortTarget::Create, ["k3", "k2", "k1"]),
        (SortOrder::Descend, SortTarget::Version, ["k1", "k2", "k3"]),
    ] {
        let sorted = RangeRequest { sort_order: order.into(), sort_target: target.into(), ..all() };
        assert_eq!(keys(&read(&mut kv, sorted).await), expected, "{order:?} {target:?}");
    }
    let filters: [(RangeRequest, &[&str]); 4] = [
        (RangeRequest { min_mod_revision: 4, ..all() }, &["k1", "k3"]),
        (RangeRequest { max_mod_revision: 4, ..all() }, &["k2", "k3"]),
        (RangeRequest { min_create_revision: 3, ..all() }, &["k2", "k3"]),
        (RangeRequest { max_create_revision: 3, ..all() }, &["k1", "k2"]),
    ];
    for (filter, expected) in filters {
        assert_eq!(keys(&read(&mut kv, filter.clone()).await), expected, "{filter:?}");
    }

    // A lease is bound, then kept while the value changes, then the value is kept.
    let grant = LeaseGrantRequest { ttl: 100, id: 77 };
    LeaseClient::new(channel).lease_grant(grant).await.unwrap();
    kv.put(PutRequest { lease: 77, ..put("k2", "a") }).await.unwrap();
    kv.put(PutRequest { ignore_lease: true, ..put("k2", "z") }).await.unwrap();
    let k2 = read(&mut kv, RangeRequest { key: bytes("k2"), ..RangeRequest::default() }).await;
    assert_eq!((k2.kvs[0].lease, &k2.kvs[0].value[..]), (77, &b"z"[..]));
    kv.put(PutRequest { ignore_value: true, ..put("k2", "") }).await.unwrap();
    let k2 = read(&mut kv, RangeRequest { key: bytes("k2"), ..RangeRequest::default() }).await;
    assert_eq!((k2.kvs[0].lease, &k2.kvs[0].value[..]), (0, &b"z"[..]));

    let delete = DeleteRangeRequest { key: bytes("k2"), range_end: bytes("k9"), prev_kv: true };
    let deleted = kv.delete_range(delete).await.unwrap().into_inner();
    assert_eq!((deleted.deleted, deleted.header.unwrap().revision), (2, 9));
    assert_eq!(deleted.prev_kvs.iter().map(|it| &it.key[..]).collect::<Vec<_>>(), [b"k2", b"k3"]);

    let compact = CompactionRequest { revision: 9, physical: true };
    let compacted = kv.compact(compact).await.unwrap().into_inner();
    assert_eq!(compacted.header.unwrap().revision, 9);
    let gone = kv.range(RangeRequest { revision: 3, ..all() }).await.unwrap_err();
    assert_eq!(gone.code(), Code::OutOfRange);
    assert_eq!(gone.message(), "etcdserver: mvcc: required revision has been compacted");
    // An etcd before 3.7 has the service, and not this call of it.
    let stream = kv.range_stream(all()).await.unwrap_err();
    assert_eq!(stream.code(), Code::Unimplemented);
    assert!(stream.message().starts_with("unknown method"), "{}", stream.message());
}

#[tokio::test]
async fn a_transaction_compares_by_everything_and_nests() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};

    let etcd = Etcd::start(1).await;
    let channel = connect(&etcd).await;
    let mut kv = KvClient::new(channel.clone());
    let grant = LeaseGrantRequest { ttl: 100, id: 5 };
    LeaseClient::new(channel).lease_grant(grant).await.unwrap();
    kv.put(put("k1", "m")).await.unwrap();
    kv.put(PutRequest { lease: 5, ..put("k1", "n") }).await.unwrap();
    kv.put(put("k2", "n")).await.unwrap();

    let compare = |result: CompareResult, target: CompareTarget, value: TargetUnion| Compare {
        result: result.into(),
        target: target.into(),
        key: bytes("k1"),
        target_union: Some(value),
        range_end: Bytes::new(),
    };
    let true_ones = [
        compare(Equal, Version, TargetUnion::Version(2)),
        compare(Equal, Create, TargetUnion::CreateRevision(2)),
        compare(Less, Mod, TargetUnion::ModRevision(4)),
        compare(Greater, Value, TargetUnion::Value(bytes("m"))),
        compare(NotEqual, Lease, TargetUnion::Lease(6)),
        compare(Equal, Lease, TargetUnion::Lease(5)),
        Compare { range_end: bytes("l"), ..compare(Equal, Value, TargetUnion::Value(bytes("n"))) },
    ];
    let false_ones = [
        compare(Equal, Version, TargetUnion::Version(1)),
        compare(Greater, Create, TargetUnion::CreateRevision(2)),
        compare(Equal, Mod, TargetUnion::ModRevision(2)),
        compare(Less, Value, TargetUnion::Value(bytes("n"))),
        compare(NotEqual, Lease, TargetUnion::Lease(5)),
        Compare { range_end: bytes("l"), ..compare(Equal, Lease, TargetUnion::Lease(5)) },
    ];
    for (comparisons, holds) in [(&true_ones[..], true), (&false_ones[..], false)] {
        for comparison in comparisons {
            let request = TxnRequest { compare: vec![comparison.clone()], ..TxnRequest::default() };
            let answer = kv.txn(request).await.unwrap().into_inner();
            assert_eq!(answer.succeeded, holds, "{comparison:?}");
        }
    }

    let op = |request| RequestOp { request: Some(request) };
    let range = || op(Request::RequestRange(all()));
    let inner = TxnRequest {
        compare: vec![false_ones[0].clone()],
        success: vec![],
        failure: vec![op(Request::RequestPut(put("k4", "in")))],
    };
    let delete = DeleteRangeRequest { key: bytes("k2"), ..DeleteRangeRequest::default() };
    let outer = TxnRequest {
        compare: true_ones.to_vec(),
        success: vec![
            range(),
            op(Request::RequestPut(PutRequest { prev_kv: true, ..put("k1", "o") })),
            op(Request::RequestDeleteRange(delete)),
            op(Request::RequestTxn(inner)),
        ],
        failure: vec![range()],
    };
    let answer = kv.txn(outer).await.unwrap().into_inner();
    assert_eq!((answer.succeeded, answer.header.unwrap().revision), (true, 5));
    let responses: Vec<_> = answer.responses.into_iter().map(|it| it.response.unwrap()).collect();
    let [
        Response::ResponseRange(range),
        Response::ResponsePut(put),
        Response::ResponseDeleteRange(deleted),
        Response::ResponseTxn(nested),
    ] = &responses[..]
    else {
        panic!("{responses:?}")
    };
    assert_eq!(keys(range), ["k1", "k2"]);
    assert_eq!(&put.prev_kv.as_ref().unwrap().value[..], b"n");
    assert_eq!(deleted.deleted, 1);
    assert!(!nested.succeeded);
    assert!(matches!(nested.responses[0].response, Some(Response::ResponsePut(_))));
    // All of it happened in one revision.
    let after = read(&mut kv, RangeRequest { min_mod_revision: 5, ..all() }).await;
    assert_eq!(keys(&after), ["k1", "k4"]);
    assert!(after.kvs.iter().all(|it| it.mod_revision == 5));
}
