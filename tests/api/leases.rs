//! Leases over gRPC.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{iter, pending};
use quorate::node::api::Options;
use quorate::node::apply::NO_QUOTA;
use quorate::proto::etcdserverpb::kv_client::KvClient;
use quorate::proto::etcdserverpb::lease_client::LeaseClient;
use quorate::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest,
};
use tonic::{Code, Request};

use crate::support::{MEMBER, PATIENCE, Served, get, put};

#[tokio::test]
async fn a_lease_is_granted_kept_alive_looked_at_and_revoked() {
    let served = Served::start().await;
    let channel = served.channel().await;
    let mut lease = LeaseClient::new(channel.clone());
    let mut kv = KvClient::new(channel);

    // An ID is drawn, and a TTL below what the timings allow is raised.
    for (asked, granted) in [(1, 2), (-5, 2), (0, 2), (60, 60), (9_000_000_000, 9_000_000_000)] {
        let request = LeaseGrantRequest { ttl: asked, id: 0 };
        let answer = lease.lease_grant(request).await.unwrap().into_inner();
        assert!(answer.id > 0 && answer.error.is_empty(), "{answer:?}");
        assert_eq!((answer.ttl, answer.header.unwrap().revision), (granted, 1));
    }
    let leases = lease.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner().leases;
    assert_eq!(leases.len(), 5);
    lease.lease_grant(LeaseGrantRequest { ttl: 60, id: 77 }).await.unwrap();
    for key in ["b", "a"] {
        kv.put(PutRequest { lease: 77, ..put(key, "") }).await.unwrap();
    }

    let look = |id, keys| LeaseTimeToLiveRequest { id, keys };
    let answer = lease.lease_time_to_live(look(77, true)).await.unwrap().into_inner();
    assert_eq!((answer.id, answer.ttl, answer.granted_ttl), (77, 60, 60));
    assert_eq!(
        (&answer.keys[..], answer.header.unwrap().revision),
        (&["a".into(), "b".into()][..], 3)
    );
    assert!(lease.lease_time_to_live(look(77, false)).await.unwrap().into_inner().keys.is_empty());
    let answer = lease.lease_time_to_live(look(78, true)).await.unwrap().into_inner();
    assert_eq!((answer.id, answer.ttl, answer.granted_ttl), (78, -1, 0));

    let renewals = iter([77, 78, 77]).map(|id| LeaseKeepAliveRequest { id });
    let answers = lease.lease_keep_alive(renewals).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(Result::unwrap).collect().await;
    let seen: Vec<_> = answers.iter().map(|it| (it.id, it.ttl)).collect();
    assert_eq!(seen, [(77, 60), (78, 0), (77, 60)]);
    assert_eq!(answers[0].header.unwrap().revision, 3);

    let revoke = LeaseRevokeRequest { id: 77 };
    let answer = lease.lease_revoke(revoke).await.unwrap().into_inner();
    assert_eq!(answer.header.unwrap().revision, 4);
    assert_eq!(kv.range(get("a")).await.unwrap().into_inner().count, 0);
}

#[tokio::test]
async fn a_stream_of_renewals_ends_when_its_leader_or_its_server_does() {
    let options = Options { election: Duration::from_millis(300), ..Options::default() };
    let mut served = Served::start_with(options, NO_QUOTA).await;
    let mut lease = LeaseClient::new(served.channel().await);
    let mut required = Request::new(pending());
    required.metadata_mut().insert("hasleader", "true".parse().unwrap());
    let mut required = lease.lease_keep_alive(required).await.unwrap().into_inner();
    let mut other = lease.lease_keep_alive(pending()).await.unwrap().into_inner();

    // Gone for a moment only, far less than three elections even on a busy machine: nothing happens
    // for longer than those.
    let leader = MEMBER;
    served.alone.stand(|it| it.leader = None);
    tokio::time::sleep(Duration::from_millis(5)).await;
    served.alone.stand(|it| it.leader = Some(leader));
    let wait = Duration::from_millis(1200);
    assert!(tokio::time::timeout(wait, required.message()).await.is_err());

    served.alone.stand(|it| it.leader = None);
    let end = tokio::time::timeout(PATIENCE, required.message()).await.unwrap().unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::Unavailable, "etcdserver: no leader"));
    assert!(tokio::time::timeout(wait, other.message()).await.is_err());

    served.begin_to_stop();
    let end = tokio::time::timeout(PATIENCE, other.message()).await.unwrap().unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::Unavailable, "etcdserver: server stopped"));
}
