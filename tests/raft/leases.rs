//! Leases, whose time the leader keeps.

use std::time::Duration;

use quorate::node::apply::{Operation, Response};
use quorate::node::fault::Fault;
use quorate::node::replica::Replica;
use quorate::proto::etcdserverpb::{LeaseGrantRequest, PutRequest};
use tempfile::tempdir;

use crate::support::*;

async fn grant(on: &Member, id: i64, ttl: i64) {
    let grant = Operation::LeaseGrant(LeaseGrantRequest { id, ttl });
    assert!(matches!(on.propose(grant).await, Ok(Response::LeaseGrant(_))));
    let put = Operation::Put(PutRequest {
        key: format!("lease/{id}").into(),
        value: "v".into(),
        lease: id,
        ..PutRequest::default()
    });
    on.propose(put).await.unwrap();
}

#[tokio::test]
async fn a_lease_ends_on_every_member_when_it_is_not_renewed_and_lives_on_when_it_is() {
    let root = tempdir().unwrap();
    let members = cluster(root.path(), 3, &options()).await;
    let asked = now();
    grant(&members[0], 1, 1).await;
    // Long enough for a busy machine to renew it in time.
    grant(&members[1], 2, 4).await;
    let begun = now();
    // From any member, right after it was granted on another.
    for member in &members {
        assert_eq!(member.on(|node| async move { node.renew_lease(2).await }).await, Ok(4));
        let left = member.on(|node| async move { node.lease_left(2).await }).await.unwrap();
        assert!(left.is_some_and(|(left, ttl)| ttl == 4 && (1..=4).contains(&left)), "{left:?}");
        assert_eq!(member.on(|node| async move { node.lease_left(3).await }).await, Ok(None));
        assert_eq!(member.on(|node| async move { node.renew_lease(3).await }).await, Ok(0));
    }
    let mut ended = None;
    // Longer than the other lives by itself.
    while ended.is_none() || now().since(begun) < Duration::from_secs(6) {
        assert!(now().since(begun) < LONG, "a lease of 1 s does not end");
        members[2].on(|node| async move { node.renew_lease(2).await }).await.unwrap();
        if ended.is_none() && members.iter().all(|it| it.local("lease/1").is_none()) {
            ended = Some(now().since(asked));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ended = ended.unwrap();
    eprintln!("a lease of 1 s has ended after {ended:?}");
    assert!(ended > Duration::from_millis(900) && ended < Duration::from_secs(15));
    for member in &members {
        assert!(member.local("lease/2").is_some());
        assert!(member.state(|it| it.lease(1).is_none()));
    }
    until("the other ends, too", || members.iter().all(|it| it.local("lease/2").is_none())).await;
    agree(&members.iter().collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_new_leader_gives_every_lease_its_time_anew_and_ends_it_then() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 3, &options()).await;
    grant(&members[0], 1, 4).await;
    let granted = now();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let leads = leader(&members).await;
    let killed = members.remove(leads).kill();
    until("another leads", || {
        let leader = members[0].standing().leader;
        leader.is_some() && leader != Some(killed.ids.member)
    })
    .await;
    let renewed = members[1].on(|node| async move { node.renew_lease(1).await }).await;
    let slow = [Fault::Timeout, Fault::TimeoutConnectionLost, Fault::TimeoutLeaderFail];
    assert!(renewed.map_or_else(|it| slow.contains(&it), |ttl| ttl == 4), "{renewed:?}");
    until("it ends", || members.iter().all(|it| it.local("lease/1").is_none())).await;
    let lived = now().since(granted);
    eprintln!("a lease of 4 s lived {lived:?} across a change of leader");
    assert!(lived > Duration::from_secs(5) && lived < Duration::from_secs(30));
}
