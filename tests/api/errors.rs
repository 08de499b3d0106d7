//! Refusals: each with etcd's words and code, for clients decide by them.

use std::time::Duration;

use quorate::cluster::MemberId;
use quorate::node::api::Options;
use quorate::node::apply::NO_QUOTA;
use quorate::node::fault::Fault;
use quorate::proto::etcdserverpb::auth_client::AuthClient;
use quorate::proto::etcdserverpb::cluster_client::ClusterClient;
use quorate::proto::etcdserverpb::kv_client::KvClient;
use quorate::proto::etcdserverpb::lease_client::LeaseClient;
use quorate::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate::proto::etcdserverpb::request_op::Request as Op;
use quorate::proto::etcdserverpb::watch_client::WatchClient;
use quorate::proto::etcdserverpb::{
    AuthStatusRequest, AuthenticateRequest, CompactionRequest, DeleteRangeRequest,
    DowngradeRequest, HashKvRequest, LeaseGrantRequest, LeaseRevokeRequest, MemberAddRequest,
    MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest,
    MoveLeaderRequest, PutRequest, RangeRequest, RequestOp, SnapshotRequest, StatusRequest,
    TxnRequest,
};
use quorate::proto::v3electionpb::election_client::ElectionClient;
use quorate::proto::v3lockpb::lock_client::LockClient;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Response, Status};

use crate::support::{MEMBER, Served, bytes, get, put};

#[track_caller]
fn refused<T>(result: Result<Response<T>, Status>, code: Code, text: &str) {
    let status = result.map(|_| "it was done").unwrap_err();
    assert_eq!((status.code(), status.message()), (code, text));
}

#[tokio::test]
async fn every_fault_travels_with_its_code_and_words() {
    let served = Served::start().await;
    let mut kv = KvClient::new(served.channel().await);
    for fault in Fault::ALL {
        served.alone.refuse(Some(*fault));
        // tonic has the same names; `Code` of a fault is an enum of our own.
        let status = kv.put(put("a", "b")).await.unwrap_err();
        assert_eq!(format!("{:?}", status.code()), format!("{:?}", fault.code()));
        assert_eq!(status.message(), fault.to_string());
        let status = kv.range(get("a")).await.unwrap_err();
        assert_eq!(status.message(), fault.to_string());
    }
    // A read of one's own state needs nobody.
    kv.range(RangeRequest { serializable: true, ..get("a") }).await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_before_it_is_proposed() {
    use Code::{FailedPrecondition, InvalidArgument, NotFound, OutOfRange};
    let served = Served::start().await;
    let channel = served.channel().await;
    let mut kv = KvClient::new(channel.clone());
    let op = |it| RequestOp { request: Some(it) };
    let txn = |success| TxnRequest { success, ..TxnRequest::default() };

    let empty = "etcdserver: key is not provided";
    refused(kv.range(RangeRequest::default()).await, InvalidArgument, empty);
    refused(kv.range_stream(RangeRequest::default()).await, InvalidArgument, empty);
    refused(kv.put(PutRequest::default()).await, InvalidArgument, empty);
    refused(kv.delete_range(DeleteRangeRequest::default()).await, InvalidArgument, empty);
    let nested = txn(vec![op(Op::RequestTxn(txn(vec![op(Op::RequestPut(put("", "")))])))]);
    refused(kv.txn(nested).await, InvalidArgument, empty);
    let words = "etcdserver: invalid sort option";
    refused(kv.range(RangeRequest { sort_order: 7, ..get("a") }).await, InvalidArgument, words);
    let both = PutRequest { ignore_value: true, ..put("a", "b") };
    refused(kv.put(both).await, InvalidArgument, "etcdserver: value is provided");
    let both = PutRequest { ignore_lease: true, lease: 7, ..put("a", "b") };
    refused(kv.put(both).await, InvalidArgument, "etcdserver: lease is provided");
    let absent = PutRequest { ignore_value: true, ..put("a", "") };
    refused(kv.put(absent).await, InvalidArgument, "etcdserver: key not found");
    let unset = txn(vec![RequestOp::default()]);
    refused(kv.txn(unset).await, InvalidArgument, "etcdserver: key not found");
    let twice = txn(vec![op(Op::RequestPut(put("a", ""))), op(Op::RequestPut(put("a", "")))]);
    let words = "etcdserver: duplicate key given in txn request";
    refused(kv.txn(twice).await, InvalidArgument, words);
    let many = txn(vec![op(Op::RequestRange(get("a"))); 129]);
    let words = "etcdserver: too many operations in txn request";
    refused(kv.txn(many).await, InvalidArgument, words);
    kv.txn(txn(vec![op(Op::RequestRange(get("a"))); 128])).await.unwrap();
    let future = "etcdserver: mvcc: required revision is a future revision";
    refused(kv.range(RangeRequest { revision: 99, ..get("a") }).await, OutOfRange, future);
    let compact = |revision| CompactionRequest { revision, physical: false };
    refused(kv.compact(compact(99)).await, OutOfRange, future);
    kv.put(put("a", "")).await.unwrap();
    kv.compact(compact(2)).await.unwrap();
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    refused(kv.compact(compact(2)).await, OutOfRange, compacted);
    let old = RangeRequest { revision: 1, ..get("a") };
    refused(kv.range(old.clone()).await, OutOfRange, compacted);
    refused(kv.txn(txn(vec![op(Op::RequestRange(old))])).await, OutOfRange, compacted);

    let lost = "etcdserver: requested lease not found";
    refused(kv.put(PutRequest { lease: 7, ..put("a", "") }).await, NotFound, lost);
    let mut lease = LeaseClient::new(channel.clone());
    refused(lease.lease_revoke(LeaseRevokeRequest { id: 7 }).await, NotFound, lost);
    let grant = |id, ttl| LeaseGrantRequest { id, ttl };
    lease.lease_grant(grant(7, 10)).await.unwrap();
    let words = "etcdserver: lease already exists";
    refused(lease.lease_grant(grant(7, 10)).await, FailedPrecondition, words);
    let words = "etcdserver: too large lease TTL";
    refused(lease.lease_grant(grant(8, 9_000_000_001)).await, OutOfRange, words);

    let mut cluster = ClusterClient::new(channel.clone());
    let urls = |url: &str| vec![url.to_owned()];
    let bad = "etcdserver: given member URLs are invalid";
    for url in ["", "x", "ftp://x:1", "http://x", "http://x:1/y"] {
        let request = MemberAddRequest { peer_urls: urls(url), is_learner: false };
        refused(cluster.member_add(request).await, InvalidArgument, bad);
    }
    refused(cluster.member_add(MemberAddRequest::default()).await, InvalidArgument, bad);
    let taken = "etcdserver: Peer URLs already exists";
    let request = MemberAddRequest { peer_urls: urls("http://127.0.0.1:2380"), is_learner: true };
    refused(cluster.member_add(request).await, FailedPrecondition, taken);
    let lost = "etcdserver: member not found";
    refused(cluster.member_remove(MemberRemoveRequest { id: 7 }).await, NotFound, lost);
    let request = MemberUpdateRequest { id: 7, peer_urls: urls("http://x:1") };
    refused(cluster.member_update(request).await, NotFound, lost);
    refused(cluster.member_promote(MemberPromoteRequest { id: 7 }).await, NotFound, lost);
    let words = "etcdserver: can only promote a learner member";
    let request = MemberPromoteRequest { id: MEMBER.0 };
    refused(cluster.member_promote(request).await, FailedPrecondition, words);

    let mut maintenance = MaintenanceClient::new(channel);
    refused(maintenance.hash_kv(HashKvRequest { revision: 99 }).await, OutOfRange, future);
    refused(maintenance.hash_kv(HashKvRequest { revision: 1 }).await, OutOfRange, compacted);
    let words = "etcdserver: bad leader transferee";
    let request = MoveLeaderRequest { target_id: 7 };
    refused(maintenance.move_leader(request).await, FailedPrecondition, words);
    served.alone.stand(|it| it.leader = Some(MemberId(7)));
    let words = "etcdserver: not leader";
    refused(maintenance.move_leader(request).await, FailedPrecondition, words);
}

#[tokio::test]
async fn a_request_beyond_the_limits_is_refused_and_the_connection_lives_on() {
    let options = Options { max_request_bytes: 1000, ..Options::default() };
    let served = Served::start_with(options, NO_QUOTA).await;
    let mut kv = KvClient::new(served.channel().await);
    // Key and value have a tag and a length each: 2 + 1 and 3 + 994.
    kv.put(put("a", &"x".repeat(994))).await.unwrap();
    let large = "etcdserver: request is too large";
    refused(kv.put(put("a", &"x".repeat(995))).await, Code::InvalidArgument, large);
    refused(kv.put(put("a", &"x".repeat(500_000))).await, Code::InvalidArgument, large);
    let size = 600_000 + 3 + 4;
    let words =
        format!("grpc: received message larger than max ({size} vs. {})", 1000 + (512 << 10));
    refused(kv.put(put("a", &"x".repeat(600_000))).await, Code::ResourceExhausted, &words);
    let read = RangeRequest { key: bytes(vec![b'x'; 600_000]), ..RangeRequest::default() };
    assert_eq!(kv.range(read).await.unwrap_err().code(), Code::ResourceExhausted);
    kv.put(put("a", "b")).await.unwrap();

    let served = Served::start().await;
    let mut kv = KvClient::new(served.channel().await);
    kv.put(put("a", &"x".repeat((3 << 19) - 16))).await.unwrap();
    refused(kv.put(put("a", &"x".repeat(3 << 19))).await, Code::InvalidArgument, large);
    let words = "grpc: received message larger than max (2097158 vs. 2097152)";
    refused(kv.put(put("a", &"x".repeat((2 << 20) - 1))).await, Code::ResourceExhausted, words);
}

fn with<T>(message: T, name: &'static str, value: &'static [u8]) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(name, MetadataValue::try_from(value).unwrap());
    request
}

#[tokio::test]
async fn who_requires_a_leader_is_told_when_there_is_none() {
    let options = Options { election: Duration::from_millis(20), ..Options::default() };
    let served = Served::start_with(options, NO_QUOTA).await;
    let mut kv = KvClient::new(served.channel().await);
    let local = RangeRequest { serializable: true, ..get("a") };
    let required = |it: RangeRequest| with(it, "hasleader", b"true");
    kv.range(required(local.clone())).await.unwrap();
    served.alone.stand(|it| it.leader = None);
    let words = "etcdserver: no leader";
    refused(kv.range(required(local.clone())).await, Code::Unavailable, words);
    refused(kv.put(put("a", "")).await, Code::Unavailable, words);
    kv.range(with(local.clone(), "hasleader", b"false")).await.unwrap();
    kv.range(with(local.clone(), "client-api-version", b"3.4.23")).await.unwrap();
    let text = "etcdserver: invalid client api version";
    let request = with(local, "client-api-version", b"\xff");
    refused(kv.range(request).await, Code::InvalidArgument, text);
    let mut maintenance = MaintenanceClient::new(served.channel().await);
    let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.leader, &status.errors[..]), (0, &[words.to_owned()][..]));
}

#[tokio::test]
async fn a_learner_serves_its_own_state_and_nothing_else() {
    let served = Served::start().await;
    served.alone.stand(|it| it.is_learner = true);
    let channel = served.channel().await;
    let mut kv = KvClient::new(channel.clone());
    let words = "etcdserver: rpc not supported for learner";
    let no = Code::FailedPrecondition;
    refused(kv.range(get("a")).await, no, words);
    kv.range(RangeRequest { serializable: true, ..get("a") }).await.unwrap();
    refused(kv.range_stream(RangeRequest { serializable: true, ..get("a") }).await, no, words);
    refused(kv.put(put("a", "")).await, no, words);
    refused(kv.txn(TxnRequest::default()).await, no, words);
    let mut cluster = ClusterClient::new(channel.clone());
    refused(cluster.member_list(MemberListRequest::default()).await, no, words);
    let mut maintenance = MaintenanceClient::new(channel.clone());
    refused(maintenance.hash_kv(HashKvRequest::default()).await, no, words);
    assert!(maintenance.status(StatusRequest {}).await.unwrap().into_inner().is_learner);
    let mut lease = LeaseClient::new(channel);
    refused(lease.lease_grant(LeaseGrantRequest { ttl: 9, id: 1 }).await, no, words);
    refused(lease.lease_keep_alive(futures_util::stream::pending()).await, no, words);
}

#[tokio::test]
async fn what_is_not_built_says_so() {
    let served = Served::start().await;
    let channel = served.channel().await;
    let words = "quorate does not serve this call yet";
    let no = Code::Unimplemented;
    let mut maintenance = MaintenanceClient::new(channel.clone());
    refused(maintenance.snapshot(SnapshotRequest {}).await, no, words);
    refused(maintenance.downgrade(DowngradeRequest::default()).await, no, words);
    let mut auth = AuthClient::new(channel.clone());
    refused(auth.authenticate(AuthenticateRequest::default()).await, no, words);
    refused(auth.auth_enable(quorate::proto::etcdserverpb::AuthEnableRequest {}).await, no, words);
    let status = auth.auth_status(AuthStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.enabled, status.auth_revision), (false, 1));
    assert_eq!(status.header.unwrap().member_id, MEMBER.0);
    let mut lock = LockClient::new(channel.clone());
    refused(lock.lock(quorate::proto::v3lockpb::LockRequest::default()).await, no, words);
    let mut election = ElectionClient::new(channel.clone());
    let request = quorate::proto::v3electionpb::LeaderRequest::default();
    refused(election.observe(request).await, no, words);
    // Handed in by whoever has it.
    let mut watch = WatchClient::new(channel.clone());
    refused(watch.watch(futures_util::stream::pending()).await, no, words);

    let mut grpc = tonic::client::Grpc::new(channel);
    for (path, words) in [
        ("/etcdserverpb.KV/Move", "unknown method Move for service etcdserverpb.KV"),
        ("/some.Service/Call", "unknown service some.Service"),
    ] {
        grpc.ready().await.unwrap();
        let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
        let codec = tonic_prost::ProstCodec::<RangeRequest, RangeRequest>::default();
        refused(grpc.unary(Request::new(get("a")), path, codec).await, no, words);
    }
}

#[tokio::test]
async fn a_store_that_is_full_says_so_and_raises_the_alarm() {
    let served = Served::start_with(Options::default(), 4096).await;
    let channel = served.channel().await;
    let mut kv = KvClient::new(channel.clone());
    let words = "etcdserver: mvcc: database space exceeded";
    let full = kv.put(put("a", &"x".repeat(5000))).await;
    refused(full, Code::ResourceExhausted, words);
    // The one that went over it was done.
    assert_eq!(kv.range(get("a")).await.unwrap().into_inner().count, 1);
    let mut maintenance = MaintenanceClient::new(channel.clone());
    let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.errors, [format!("memberID:{} alarm:NOSPACE ", MEMBER.0)]);
    refused(kv.put(put("b", "")).await, Code::ResourceExhausted, words);
    let mut lease = LeaseClient::new(channel);
    let grant = LeaseGrantRequest { ttl: 9, id: 1 };
    refused(lease.lease_grant(grant).await, Code::ResourceExhausted, words);
    assert_eq!(served.get("/health").await.0, 503);
    let gone = DeleteRangeRequest { key: bytes("a"), ..DeleteRangeRequest::default() };
    let gone = kv.delete_range(gone).await.unwrap().into_inner();
    let revision = gone.header.unwrap().revision;
    kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();
    served.ctl(&["defrag"]).await;
    let disarmed = served.ctl(&["alarm", "disarm"]).await;
    assert_eq!(disarmed.trim(), format!("memberID:{} alarm:NOSPACE", MEMBER.0));
    kv.put(put("b", "")).await.unwrap();
    assert_eq!(served.get("/health").await.0, 200);
}
