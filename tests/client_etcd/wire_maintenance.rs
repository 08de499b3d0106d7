//! Maintenance, Cluster as far as the client does not show it, and health.

use quorate::proto::etcdserverpb::alarm_request::AlarmAction;
use quorate::proto::etcdserverpb::downgrade_request::DowngradeAction;
use quorate::proto::etcdserverpb::{
    AlarmRequest, AlarmType, DefragmentRequest, DowngradeRequest, HashKvRequest, HashRequest,
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, MoveLeaderRequest, PutRequest, SnapshotRequest, StatusRequest,
    cluster_client::ClusterClient, kv_client::KvClient, maintenance_client::MaintenanceClient,
};
use quorate::proto::health::health_check_response::ServingStatus;
use quorate::proto::health::{HealthCheckRequest, health_client::HealthClient};
use tonic::Code;

use crate::etcd::{Etcd, connect};

#[tokio::test]
async fn a_member_is_looked_after_with_every_call() {
    let etcd = Etcd::start(1).await;
    let channel = connect(&etcd).await;
    let mut care = MaintenanceClient::new(channel.clone());
    let put = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
    KvClient::new(channel.clone()).put(put).await.unwrap();

    let status = care.status(StatusRequest {}).await.unwrap().into_inner();
    let header = status.header.unwrap();
    assert_eq!((status.leader, header.revision), (header.member_id, 2));
    assert!(status.version.starts_with("3."), "{status:?}");
    assert!(status.db_size >= status.db_size_in_use && status.db_size_in_use > 0);
    assert!(status.raft_index >= status.raft_applied_index && status.raft_applied_index > 2);
    assert_eq!(status.raft_term, header.raft_term);
    assert!(!status.is_learner && status.errors.is_empty());

    let activate = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: header.member_id,
        alarm: AlarmType::Nospace.into(),
    };
    let raised = care.alarm(activate).await.unwrap().into_inner().alarms;
    assert_eq!((raised[0].member_id, raised[0].alarm()), (header.member_id, AlarmType::Nospace));
    let status = care.status(StatusRequest {}).await.unwrap().into_inner();
    assert!(status.errors[0].contains("NOSPACE"), "{status:?}");
    let get = AlarmRequest::default();
    assert_eq!(care.alarm(get).await.unwrap().into_inner().alarms, raised);
    let clear = AlarmRequest { action: AlarmAction::Deactivate.into(), ..activate };
    care.alarm(clear).await.unwrap();
    assert!(care.alarm(get).await.unwrap().into_inner().alarms.is_empty());

    let hash = care.hash_kv(HashKvRequest { revision: 2 }).await.unwrap().into_inner();
    assert!(hash.hash != 0 && hash.compact_revision <= 0, "{hash:?}");
    assert_eq!(hash, care.hash_kv(HashKvRequest { revision: 2 }).await.unwrap().into_inner());
    assert!(care.hash(HashRequest {}).await.unwrap().into_inner().hash != 0);
    // The one answer that comes without a header.
    care.defragment(DefragmentRequest {}).await.unwrap();

    let mut stream = care.snapshot(SnapshotRequest {}).await.unwrap().into_inner();
    let (mut file, mut pieces) = (Vec::new(), Vec::new());
    while let Some(piece) = stream.message().await.unwrap() {
        file.extend_from_slice(&piece.blob);
        pieces.push((piece.remaining_bytes, piece.blob.len() as u64));
    }
    // The store's file, which begins with bbolt's magic number, and its SHA-256.
    assert_eq!(file[16..20], 0xed0c_daed_u32.to_le_bytes());
    assert_eq!(file.len() % 512, 32);
    assert_eq!(pieces.last().unwrap().1, 32);
    let total: u64 = pieces.iter().map(|it| it.1).sum();
    assert_eq!(pieces[0].0 + pieces[0].1 + 32, total);

    let request = MoveLeaderRequest { target_id: 1 };
    let nobody = care.move_leader(request).await.unwrap_err();
    assert_eq!(nobody.message(), "etcdserver: bad leader transferee");
    let validate =
        DowngradeRequest { action: DowngradeAction::Validate.into(), version: "3.3".to_owned() };
    if status.version.starts_with("3.4.") {
        let unknown = care.downgrade(validate).await.unwrap_err();
        assert_eq!(unknown.code(), Code::Unimplemented);
        assert!(unknown.message().starts_with("unknown method"), "{}", unknown.message());
    }

    let mut health = HealthClient::new(channel);
    let check = HealthCheckRequest::default();
    let answer = health.check(check.clone()).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
    let mut changes = health.watch(check).await.unwrap().into_inner();
    let now = changes.message().await.unwrap().unwrap();
    assert_eq!(now.status(), ServingStatus::Serving);
}

#[tokio::test]
async fn the_member_list_travels_whole() {
    let etcd = Etcd::start(1).await;
    let mut cluster = ClusterClient::new(connect(&etcd).await);
    let request = MemberListRequest { linearizable: true };
    let list = cluster.member_list(request).await.unwrap().into_inner();
    let header = list.header.unwrap();
    assert_eq!((list.members.len(), list.members[0].id), (1, header.member_id));

    let peer_urls = vec!["http://127.0.0.1:1".to_owned(), "http://127.0.0.1:2".to_owned()];
    let add = MemberAddRequest { peer_urls: peer_urls.clone(), is_learner: true };
    let added = cluster.member_add(add).await.unwrap().into_inner();
    let learner = added.member.unwrap();
    assert_eq!((learner.is_learner, &*learner.name, &learner.peer_urls), (true, "", &peer_urls));
    assert!(learner.client_urls.is_empty());
    assert!(added.members.len() == 2 && added.members.contains(&learner));

    let moved = vec!["http://127.0.0.1:3".to_owned()];
    let update = MemberUpdateRequest { id: learner.id, peer_urls: moved.clone() };
    let updated = cluster.member_update(update).await.unwrap().into_inner();
    assert!(updated.members.iter().any(|it| it.id == learner.id && it.peer_urls == moved));
    let promote = MemberPromoteRequest { id: learner.id };
    let behind = cluster.member_promote(promote).await.unwrap_err();
    assert_eq!(behind.code(), Code::FailedPrecondition);
    let remove = MemberRemoveRequest { id: learner.id };
    let left = cluster.member_remove(remove).await.unwrap().into_inner();
    assert_eq!(left.members, list.members);
}
