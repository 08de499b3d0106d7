//! Lock and Election: every call.

use std::time::Duration;

use quorate::proto::etcdserverpb::{LeaseGrantRequest, lease_client::LeaseClient};
use quorate::proto::v3electionpb::election_client::ElectionClient;
use quorate::proto::v3electionpb::{
    CampaignRequest, LeaderRequest, ProclaimRequest, ResignRequest,
};
use quorate::proto::v3lockpb::lock_client::LockClient;
use quorate::proto::v3lockpb::{LockRequest, UnlockRequest};

use crate::etcd::{Etcd, connect};

#[tokio::test]
async fn a_lock_is_held_by_one_at_a_time() {
    let etcd = Etcd::start(1).await;
    let channel = connect(&etcd).await;
    let mut lock = LockClient::new(channel.clone());
    for id in [1, 2] {
        let grant = LeaseGrantRequest { ttl: 60, id };
        LeaseClient::new(channel.clone()).lease_grant(grant).await.unwrap();
    }
    let request = |lease| LockRequest { name: "l".into(), lease };
    let held = lock.lock(request(1)).await.unwrap().into_inner();
    assert_eq!(&held.key[..], b"l/1");
    assert!(held.header.is_some());

    let mut other = lock.clone();
    let mut waiting = tokio::spawn(async move { other.lock(request(2)).await });
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut waiting).await.is_err());
    lock.unlock(UnlockRequest { key: held.key }).await.unwrap();
    let next = waiting.await.unwrap().unwrap().into_inner();
    assert_eq!(&next.key[..], b"l/2");
}

#[tokio::test]
async fn an_election_is_won_observed_and_given_up() {
    let etcd = Etcd::start(1).await;
    let channel = connect(&etcd).await;
    let mut election = ElectionClient::new(channel.clone());
    let grant = LeaseGrantRequest { ttl: 60, id: 0xabc };
    LeaseClient::new(channel).lease_grant(grant).await.unwrap();

    let campaign = CampaignRequest { name: "e".into(), lease: 0xabc, value: "one".into() };
    let won = election.campaign(campaign).await.unwrap().into_inner().leader.unwrap();
    assert_eq!((&won.name[..], &won.key[..]), (&b"e"[..], &b"e/abc"[..]));
    assert_eq!((won.rev, won.lease), (2, 0xabc));
    let name = LeaderRequest { name: "e".into() };
    let leader = election.leader(name.clone()).await.unwrap().into_inner().kv.unwrap();
    assert_eq!((&leader.value[..], leader.lease), (&b"one"[..], 0xabc));

    let mut changes = election.observe(name.clone()).await.unwrap().into_inner();
    let now = changes.message().await.unwrap().unwrap().kv.unwrap();
    assert_eq!(&now.value[..], b"one");
    let proclaim = ProclaimRequest { leader: Some(won.clone()), value: "two".into() };
    election.proclaim(proclaim).await.unwrap();
    let then = changes.message().await.unwrap().unwrap().kv.unwrap();
    assert_eq!((&then.value[..], then.version), (&b"two"[..], 2));
    election.resign(ResignRequest { leader: Some(won) }).await.unwrap();
    let nobody = election.leader(name).await.unwrap_err();
    assert_eq!(nobody.message(), "election: no leader");
}
