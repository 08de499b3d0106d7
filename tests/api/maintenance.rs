//! Status, hashes, alarms, leadership and health over gRPC.

use quorate::cluster::MemberId;
use quorate::node::apply::Operation;
use quorate::proto::etcdserverpb::alarm_request::AlarmAction;
use quorate::proto::etcdserverpb::cluster_client::ClusterClient;
use quorate::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate::proto::etcdserverpb::{
    AlarmRequest, AlarmType, DefragmentRequest, DowngradeInfo, HashKvRequest, HashRequest,
    MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MemberUpdateRequest, MoveLeaderRequest, StatusRequest,
};
use quorate::proto::health::HealthCheckRequest;
use quorate::proto::health::health_check_response::ServingStatus;
use quorate::proto::health::health_client::HealthClient;
use tonic::Code;

use crate::support::{CLUSTER, MEMBER, PATIENCE, Served, put};

#[tokio::test]
async fn a_member_tells_all_that_etcd_tells_of_itself() {
    let served = Served::start().await;
    let mut maintenance = MaintenanceClient::new(served.channel().await);
    served.alone.apply(&Operation::Put(put("a", "b"))).unwrap();
    let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    let header = status.header.unwrap();
    assert_eq!((header.cluster_id, header.member_id), (CLUSTER.0, MEMBER.0));
    assert_eq!((header.revision, header.raft_term), (2, 1));
    assert_eq!((&*status.version, &*status.storage_version), ("3.7.3", "3.7.0"));
    assert_eq!((status.leader, status.raft_term), (MEMBER.0, 1));
    assert!(status.raft_index > 1 && status.raft_applied_index == status.raft_index);
    assert!(status.db_size >= status.db_size_in_use && status.db_size_in_use > 0);
    assert_eq!((status.db_size_quota, status.downgrade_info), (-1, Some(DowngradeInfo::default())));
    assert!(!status.is_learner && status.errors.is_empty());

    let of = |revision| HashKvRequest { revision };
    let hash = maintenance.hash_kv(of(2)).await.unwrap().into_inner();
    served.alone.apply(&Operation::Put(put("a", "c"))).unwrap();
    let again = maintenance.hash_kv(of(2)).await.unwrap().into_inner();
    assert_eq!(
        (again.hash, again.hash_revision, again.header.unwrap().revision),
        (hash.hash, 2, 3)
    );
    let now = maintenance.hash_kv(of(0)).await.unwrap().into_inner();
    assert_eq!(now.hash_revision, 3);
    assert_ne!(now.hash, hash.hash);
    assert_ne!(maintenance.hash(HashRequest {}).await.unwrap().into_inner().hash, 0);
    maintenance.defragment(DefragmentRequest {}).await.unwrap();
}

#[tokio::test]
async fn alarms_are_raised_listed_and_dropped() {
    let served = Served::start().await;
    let mut maintenance = MaintenanceClient::new(served.channel().await);
    let alarm = |action: AlarmAction, member_id, alarm: AlarmType| AlarmRequest {
        action: action.into(),
        member_id,
        alarm: alarm.into(),
    };
    let raise = alarm(AlarmAction::Activate, 7, AlarmType::Corrupt);
    let raised = maintenance.alarm(raise).await.unwrap().into_inner();
    assert_eq!((raised.alarms[0].member_id, raised.header.unwrap().raft_term), (7, 1));
    for (kind, count) in [(AlarmType::None, 1), (AlarmType::Corrupt, 1), (AlarmType::Nospace, 0)] {
        let listed = maintenance.alarm(alarm(AlarmAction::Get, 0, kind)).await.unwrap();
        assert_eq!(listed.into_inner().alarms.len(), count, "{kind:?}");
    }
    let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.errors, ["memberID:7 alarm:CORRUPT "]);
    let dropped = alarm(AlarmAction::Deactivate, 7, AlarmType::Corrupt);
    maintenance.alarm(dropped).await.unwrap();
    let listed = maintenance.alarm(alarm(AlarmAction::Get, 0, AlarmType::None)).await.unwrap();
    assert!(listed.into_inner().alarms.is_empty());
}

#[tokio::test]
async fn members_are_added_changed_promoted_and_removed() {
    let served = Served::start().await;
    let channel = served.channel().await;
    let mut cluster = ClusterClient::new(channel.clone());
    let urls = vec!["http://b:2".to_owned(), "http://a:1".to_owned()];
    let request = MemberAddRequest { peer_urls: urls, is_learner: true };
    let added = cluster.member_add(request).await.unwrap().into_inner();
    // The list has nothing to do with the store.
    assert_eq!((added.header.unwrap().revision, added.header.unwrap().member_id), (0, MEMBER.0));
    let member = added.member.unwrap();
    assert_eq!((member.is_learner, &*member.name, added.members.len()), (true, "", 2));
    assert_eq!(member.peer_urls, ["http://a:1", "http://b:2"]);
    let peer_urls = vec!["http://c:3".to_owned()];
    let request = MemberUpdateRequest { id: member.id, peer_urls };
    cluster.member_update(request).await.unwrap();
    cluster.member_promote(MemberPromoteRequest { id: member.id }).await.unwrap();
    for linearizable in [false, true] {
        let list = cluster.member_list(MemberListRequest { linearizable }).await.unwrap();
        let list = list.into_inner();
        assert_eq!((list.header.unwrap().revision, list.members.len()), (0, 2));
        let found = list.members.iter().find(|it| it.id == member.id).unwrap();
        assert_eq!(
            (found.is_learner, &found.peer_urls[..]),
            (false, &["http://c:3".to_owned()][..])
        );
    }
    // The flag decides whether a quorum is needed.
    served.alone.stand(|it| it.leader = None);
    cluster.member_list(MemberListRequest { linearizable: false }).await.unwrap();
    let refused = cluster.member_list(MemberListRequest { linearizable: true }).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
    served.alone.stand(|it| it.leader = Some(MEMBER));

    let mut maintenance = MaintenanceClient::new(channel);
    maintenance.move_leader(MoveLeaderRequest { target_id: member.id }).await.unwrap();
    let status = maintenance.status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(MemberId(status.leader), MemberId(member.id));
    let left = cluster.member_remove(MemberRemoveRequest { id: member.id }).await.unwrap();
    assert_eq!(left.into_inner().members.len(), 1);
}

#[tokio::test]
async fn the_common_health_protocol_says_serving_until_the_end() {
    let mut served = Served::start().await;
    let mut health = HealthClient::new(served.channel().await);
    let of = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let whole = health.check(of("")).await.unwrap().into_inner();
    assert_eq!(whole.status(), ServingStatus::Serving);
    let other = health.check(of("x")).await.unwrap_err();
    assert_eq!((other.code(), other.message()), (Code::NotFound, "unknown service"));
    let mut other = health.watch(of("x")).await.unwrap().into_inner();
    let first = other.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::ServiceUnknown);
    let mut watch = health.watch(of("")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    served.begin_to_stop();
    let next = tokio::time::timeout(PATIENCE, watch.message()).await.unwrap();
    assert_eq!(next.unwrap().unwrap().status(), ServingStatus::NotServing);
}
