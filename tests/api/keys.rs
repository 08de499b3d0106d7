//! KV over gRPC: every call, header and option that the services have a hand in. What ranges and
//! transactions mean is tested with `apply`.

use futures_util::TryStreamExt;
use quorate::node::api::Options;
use quorate::node::apply::NO_QUOTA;
use quorate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate::proto::etcdserverpb::kv_client::KvClient;
use quorate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use quorate::proto::etcdserverpb::request_op::Request;
use quorate::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse,
    RequestOp, ResponseHeader, TxnRequest,
};
use tonic::Code;

use crate::support::{CLUSTER, MEMBER, Served, bytes, get, put};

#[expect(clippy::unnecessary_wraps, reason = "answers have it in an option")]
fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { cluster_id: CLUSTER.0, member_id: MEMBER.0, revision, raft_term: 1 })
}

#[tokio::test]
async fn every_answer_says_whose_it_is_and_as_of_when() {
    let served = Served::start().await;
    let mut kv = KvClient::new(served.channel().await);
    let empty = kv.range(get("a")).await.unwrap().into_inner();
    assert_eq!((empty.header, empty.count), (header(1), 0));
    for revision in 2..5 {
        let done = kv.put(put("a", "b")).await.unwrap().into_inner();
        assert_eq!(done.header, header(revision));
    }
    let prev = PutRequest { prev_kv: true, ..put("a", "c") };
    let done = kv.put(prev).await.unwrap().into_inner();
    assert_eq!(done.prev_kv.unwrap().version, 3);
    let read = kv.range(get("a")).await.unwrap().into_inner();
    assert_eq!(
        (read.header, &read.kvs[0].value[..], read.kvs[0].version),
        (header(5), &b"c"[..], 4)
    );
    let old = RangeRequest { revision: 2, serializable: true, ..get("a") };
    let old = kv.range(old).await.unwrap().into_inner();
    assert_eq!((old.header, &old.kvs[0].value[..]), (header(5), &b"b"[..]));

    // Several puts in a transaction are one revision; one that only reads makes none.
    let op = |it| RequestOp { request: Some(it) };
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Version.into(),
        key: bytes("a"),
        target_union: Some(TargetUnion::Version(4)),
        ..Compare::default()
    };
    let puts = ["x", "y"].map(|it| op(Request::RequestPut(put(it, "1"))));
    let txn = TxnRequest { compare: vec![compare.clone()], success: puts.into(), failure: vec![] };
    let done = kv.txn(txn).await.unwrap().into_inner();
    assert_eq!((done.header, done.succeeded), (header(6), true));
    let reads = vec![op(Request::RequestRange(get("x")))];
    let txn = TxnRequest { compare: vec![compare], success: reads, failure: vec![] };
    let done = kv.txn(txn).await.unwrap().into_inner();
    assert_eq!((done.header, done.responses.len()), (header(6), 1));

    let gone = DeleteRangeRequest { key: bytes("x"), range_end: bytes("z"), prev_kv: true };
    let gone = kv.delete_range(gone).await.unwrap().into_inner();
    assert_eq!((gone.header, gone.deleted, gone.prev_kvs.len()), (header(7), 2, 2));
    let none = DeleteRangeRequest { key: bytes("x"), ..DeleteRangeRequest::default() };
    let none = kv.delete_range(none).await.unwrap().into_inner();
    assert_eq!((none.header, none.deleted), (header(7), 0));

    let compact = CompactionRequest { revision: 6, physical: true };
    assert_eq!(kv.compact(compact).await.unwrap().into_inner().header, header(7));
    let lost = RangeRequest { revision: 5, ..get("a") };
    assert_eq!(kv.range(lost).await.unwrap_err().code(), Code::OutOfRange);
}

async fn stream(
    kv: &mut KvClient<tonic::transport::Channel>,
    request: RangeRequest,
) -> Vec<RangeResponse> {
    let stream = kv.range_stream(request).await.unwrap().into_inner();
    let chunks: Vec<_> = stream.try_collect().await.unwrap();
    chunks.into_iter().map(|it| it.range_response.unwrap()).collect()
}

#[tokio::test]
async fn a_streamed_range_is_of_one_revision_and_ends_with_what_a_range_begins_with() {
    // Small requests make small chunks, and so many of them.
    let options = Options { max_request_bytes: 4096, ..Options::default() };
    let served = Served::start_with(options, NO_QUOTA).await;
    let mut kv = KvClient::new(served.channel().await);
    for number in 0..300 {
        kv.put(put(&format!("k{number:03}"), &"v".repeat(100))).await.unwrap();
    }
    let all = RangeRequest { key: bytes("k"), range_end: bytes("l"), ..RangeRequest::default() };
    let whole = kv.range(all.clone()).await.unwrap().into_inner();
    for limit in [0, 1, 10, 11, 25, 299, 300, 301] {
        let chunks = stream(&mut kv, RangeRequest { limit, ..all.clone() }).await;
        let (last, others) = chunks.split_last().unwrap();
        let bare = |it: &RangeResponse| it.header.is_none() && !it.more && it.count == 0;
        assert!(others.iter().all(bare), "limit {limit}");
        let wanted = RangeRequest { limit, ..all.clone() };
        let wanted = kv.range(wanted).await.unwrap().into_inner();
        assert_eq!((last.header, last.more, last.count), (wanted.header, wanted.more, 300));
        assert!(chunks[0].kvs.len() <= 10);
        let kvs: Vec<_> = chunks.into_iter().flat_map(|it| it.kvs).collect();
        assert_eq!(kvs, wanted.kvs, "limit {limit}");
    }
    assert!(stream(&mut kv, all.clone()).await.len() > 5);

    // Writes after the first chunk are not seen.
    let mut chunks = kv.range_stream(all.clone()).await.unwrap().into_inner();
    let mut kvs = chunks.message().await.unwrap().unwrap().range_response.unwrap().kvs;
    for number in 0..300 {
        let request = put(&format!("k{number:03}"), "new");
        served.alone.apply(&quorate::node::apply::Operation::Put(request)).unwrap();
    }
    let rest: Vec<_> = chunks.try_collect().await.unwrap();
    let last = rest.last().unwrap().range_response.clone().unwrap();
    kvs.extend(rest.into_iter().flat_map(|it| it.range_response.unwrap().kvs));
    assert_eq!((kvs, last.header), (whole.kvs, whole.header));

    let count = RangeRequest { count_only: true, ..all.clone() };
    let counted = stream(&mut kv, count).await;
    assert_eq!((counted.len(), counted[0].count, counted[0].kvs.len()), (1, 300, 0));
    let nothing =
        stream(&mut kv, RangeRequest { key: bytes("x"), ..RangeRequest::default() }).await;
    assert_eq!((nothing.len(), nothing[0].count, nothing[0].header), (1, 0, header(601)));

    let by = |order: SortOrder, target: SortTarget| RangeRequest {
        sort_order: order.into(),
        sort_target: target.into(),
        ..all.clone()
    };
    for (refused, words) in [
        (by(SortOrder::Descend, SortTarget::Key), "custom sort orders"),
        (by(SortOrder::None, SortTarget::Mod), "custom sort orders"),
        (RangeRequest { max_mod_revision: 9, ..all.clone() }, "revision filters"),
    ] {
        let refused = kv.range_stream(refused).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented);
        assert_eq!(refused.message(), format!("RangeStream does not support {words}"));
    }
    assert_eq!(
        stream(&mut kv, by(SortOrder::Ascend, SortTarget::Key)).await.last().unwrap().count,
        300
    );
}
