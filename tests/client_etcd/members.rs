//! The member list and its changes, in a cluster's ordinary life.

use std::time::Duration;

use quorate::client::{Client, Refusal, peer};
use quorate::cluster::{ClusterId, MemberId, Role, founding_cluster_id, founding_member_id};
use tokio::time::{Instant, sleep};

use crate::etcd::{Etcd, PATIENCE, until};

const NOBODY: MemberId = MemberId(0xdead);

#[tokio::test]
async fn agreeing_on_nothing_is_an_entry_of_the_log_and_no_revision() {
    let etcd = Etcd::start(1).await;
    let client = Client::new(PATIENCE);
    let all = ["http://127.0.0.1:1".to_owned(), etcd.client(0)];
    let before = until(async || client.status(&all[1]).await, |_| true).await;
    client.agree_on_nothing(&all).await.unwrap();
    let after = client.status(&all[1]).await.unwrap();
    assert!(after.applied_index > before.applied_index, "{after:?}");
    assert_eq!(after.revision, before.revision);
}

#[tokio::test]
async fn a_learner_is_added_caught_up_promoted_and_removed() {
    let mut etcd = Etcd::start(3).await;
    let client = Client::new(PATIENCE);
    let all = etcd.clients();
    let new_url = [etcd.peer(3)];

    // Refused within 5 s of the boot (on a machine that stalls they may be over), not later.
    let learner = until(
        async || client.add_learner(&all, &new_url).await,
        |it| it.refusal() == Some(Refusal::UnhealthyCluster) && !it.is_ambiguous(),
    )
    .await;
    assert_eq!((learner.role, learner.is_started()), (Role::Learner, false));
    assert_eq!(learner.peer_urls, new_url);

    let second = client.add_learner(&all, &["http://127.0.0.1:1".to_owned()]).await.unwrap_err();
    assert_eq!(second.refusal(), Some(Refusal::TooManyLearners), "{second:?}");
    // Within the same second it would even be the same ID.
    sleep(Duration::from_millis(1100)).await;
    let again = client.add_learner(&all, &new_url).await.unwrap_err();
    assert_eq!(again.refusal(), Some(Refusal::PeerUrlExists), "{again:?}");
    let behind = client.promote(&all, learner.id).await.unwrap_err();
    assert_eq!(behind.refusal(), Some(Refusal::NotInSync), "{behind:?}");

    let joined = etcd.join();
    let endpoint = etcd.client(joined);
    let status = until(async || client.status(&endpoint).await, |_| true).await;
    assert_eq!((status.member, status.role), (learner.id, Role::Learner));
    let no_vouching = client.vouched_members(std::slice::from_ref(&endpoint)).await.unwrap_err();
    assert_eq!(no_vouching.refusal(), Some(Refusal::Learner), "{no_vouching:?}");
    let by_peer_port = peer::members(&etcd.peer(0), PATIENCE).await.unwrap();
    let by_client_port = client.vouched_members(&all).await.unwrap();
    assert_eq!(by_peer_port.cluster, by_client_port.cluster);
    // The name and client URLs of the learner may still be on their way to one of the two.
    let roles = |members: &[quorate::cluster::Member]| -> Vec<_> {
        members.iter().map(|it| (it.id, it.peer_urls.clone(), it.role)).collect()
    };
    assert_eq!(roles(&by_peer_port.members), roles(&by_client_port.members));
    assert!(by_peer_port.members.iter().any(|it| it.id == learner.id && it.role == Role::Learner));

    until(
        async || client.promote(&all, learner.id).await,
        |it| matches!(it.refusal(), Some(Refusal::NotInSync | Refusal::UnhealthyCluster)),
    )
    .await;
    let done = client.promote(&all, learner.id).await.unwrap_err();
    assert_eq!(done.refusal(), Some(Refusal::NotLearner), "{done:?}");
    until(
        async || client.remove(&all, learner.id).await,
        |it| it.refusal() == Some(Refusal::UnhealthyCluster),
    )
    .await;
    let gone = client.remove(&all, learner.id).await.unwrap_err();
    assert_eq!(gone.refusal(), Some(Refusal::MemberNotFound), "{gone:?}");
    assert_eq!(client.vouched_members(&all).await.unwrap().members.len(), 3);
}

#[tokio::test]
async fn the_list_has_the_ids_urls_and_leader_that_etcd_gives() {
    let etcd = Etcd::start(3).await;
    let client = Client::new(PATIENCE);
    let list = client.vouched_members(&etcd.clients()).await.unwrap();

    let id = |it: usize| founding_member_id([&*etcd.peer(it)], "client-test");
    assert_eq!(list.cluster, founding_cluster_id([id(0), id(1), id(2)]));
    for index in 0..3 {
        let member = list.members.iter().find(|it| it.id == id(index)).unwrap();
        assert_eq!(member.name, format!("m{index}"));
        assert_eq!(member.peer_urls, [etcd.peer(index)]);
        assert_eq!(member.client_urls, [etcd.client(index)]);
        assert_eq!(member.role, Role::Voter);
    }
    assert!(list.members.is_sorted_by_key(|it| it.id));
    assert_eq!(list.leader, Some(etcd.wait_for_leader(1).await));
    // Another member may have it a moment later.
    let end = Instant::now() + PATIENCE;
    loop {
        let local = client.local_members(&etcd.client(2)).await.unwrap();
        if local == list {
            break;
        }
        assert!(Instant::now() < end, "{local:?}");
        sleep(Duration::from_millis(50)).await;
    }

    let status = client.status(&etcd.client(1)).await.unwrap();
    assert_eq!((status.cluster, status.member, status.role), (list.cluster, id(1), Role::Voter));
    assert_eq!(status.leader, list.leader);
    assert!(status.version.starts_with("3."), "{status:?}");
    assert!(status.raft_term >= 2 && status.raft_index >= status.applied_index, "{status:?}");
    assert!(status.applied_index > 0 && status.db_size > 0 && status.errors.is_empty());

    let version = peer::version(&etcd.peer(1), PATIENCE).await.unwrap();
    assert_eq!(version.server, status.version);
    let end = Instant::now() + PATIENCE;
    while peer::version(&etcd.peer(1), PATIENCE).await.unwrap().cluster.is_none() {
        assert!(Instant::now() < end, "the cluster never agreed on a version");
        sleep(Duration::from_millis(50)).await;
    }
    let by_peer_port = peer::members(&etcd.peer(2), PATIENCE).await.unwrap();
    assert_eq!((by_peer_port.cluster, by_peer_port.members), (list.cluster, list.members));
    assert_ne!(by_peer_port.cluster, ClusterId(0));
}

#[tokio::test]
async fn a_moved_member_and_a_moved_leader_are_told_apart_from_impossible_ones() {
    let etcd = Etcd::start(3).await;
    let client = Client::new(PATIENCE);
    let all = etcd.clients();
    let (leader, follower) = etcd.leader_and_follower().await;
    let ids: Vec<_> =
        [leader, follower].map(|it| founding_member_id([&*etcd.peer(it)], "client-test")).into();

    let taken = client.update_peer_urls(&all, ids[1], &[etcd.peer(leader)]).await.unwrap_err();
    assert_eq!(taken.refusal(), Some(Refusal::PeerUrlExists), "{taken:?}");
    let nobody = client.update_peer_urls(&all, NOBODY, &[etcd.peer(7)]).await.unwrap_err();
    assert_eq!(nobody.refusal(), Some(Refusal::MemberNotFound), "{nobody:?}");
    let bad = client.add_learner(&all, &["ftp://x".to_owned()]).await.unwrap_err();
    assert_eq!(bad.refusal(), Some(Refusal::BadPeerUrls), "{bad:?}");
    let two = [etcd.peer(follower), etcd.peer(8)];
    client.update_peer_urls(&all, ids[1], &two).await.unwrap();
    let list = client.vouched_members(&all).await.unwrap();
    assert!(list.members.iter().any(|it| it.id == ids[1] && it.peer_urls == two), "{list:?}");

    let not_leader = client.move_leader(&etcd.client(follower), ids[1]).await.unwrap_err();
    assert_eq!(not_leader.refusal(), Some(Refusal::NotLeader), "{not_leader:?}");
    let bad = client.move_leader(&etcd.client(leader), NOBODY).await.unwrap_err();
    assert_eq!(bad.refusal(), Some(Refusal::BadTransferee), "{bad:?}");
    client.move_leader(&etcd.client(leader), ids[0]).await.unwrap();
    client.move_leader(&etcd.client(leader), ids[1]).await.unwrap();
    let status = client.status(&etcd.client(leader)).await.unwrap();
    assert_eq!(status.leader, Some(ids[1]));
}

#[tokio::test]
async fn a_voter_is_added_by_hand_and_then_counts_as_unstarted() {
    let etcd = Etcd::start(1).await;
    let client = Client::new(PATIENCE);
    let all = etcd.clients();
    let added = until(
        async || client.add_voter(&all, &["http://127.0.0.1:1".to_owned()]).await,
        |it| it.refusal() == Some(Refusal::UnhealthyCluster),
    )
    .await;
    assert_eq!((added.role, added.is_started()), (Role::Voter, false));
    // Of two voters one never started: there is no quorum for another read.
    let silence = Client::new(Duration::from_millis(500)).vouched_members(&all).await;
    assert!(!silence.unwrap_err().is_ambiguous());
    let list = client.local_members(&etcd.client(0)).await.unwrap();
    assert!(list.members.iter().any(|it| it.id == added.id && !it.is_started()), "{list:?}");
}
