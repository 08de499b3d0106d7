//! Members that come and go.

use std::time::Duration;

use quorate::cluster::MemberId;
use quorate::node::apply::State;
use quorate::node::fault::Fault;
use quorate::node::raft::End;
use quorate::node::replica::Replica;
use tempfile::tempdir;

use crate::support::*;

#[tokio::test]
async fn from_one_to_two_to_three_writes_never_stall_however_late_the_new_member_starts() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 1, &options()).await;
    for n in 1..3 {
        let port = free_port();
        let begun = now();
        let id = patiently(async || add(&members[0], port, false).await).await.unwrap();
        assert!(now().since(begun) < Duration::from_secs(5));
        // Not started, and nothing waits for it.
        for i in 0..20 {
            let begun = now();
            members[0].put(&format!("{n}/{i}"), "v").await.unwrap();
            assert!(now().since(begun) < Duration::from_secs(5));
        }
        let listed = members[0].node.members().iter().find(|it| it.id == id).cloned().unwrap();
        assert!(!listed.is_learner && listed.name.is_empty() && listed.client_urls.is_empty());
        // One more would be too many that have not started, and one is not heard.
        let more = add(&members[0], free_port(), false).await;
        assert_eq!(more, Err(Fault::MemberNotEnoughStarted));
        assert_eq!(add(&members[0], free_port(), true).await, Err(Fault::Unhealthy));
        assert_eq!(add(&members[0], members[0].seat.port, true).await, Err(Fault::Unhealthy));

        let votes = |it: &State| it.member(MemberId(id)).is_some_and(|it| it.voter);
        assert!(!members[0].state(votes), "it is promoted when it has caught up");
        let member = joiner(&members[0].seat, &format!("n{n}"), id, port).start();
        member.ready().await;
        until("it votes", || !member.standing().is_learner).await;
        eprintln!("a voter {:?} after it was added", now().since(begun));
        members.push(member);
        until("all list it as started", || {
            members.iter().all(|it| it.node.members().iter().all(|it| !it.name.is_empty()))
        })
        .await;
    }
    agree(&members.iter().collect::<Vec<_>>()).await;
    let taken = members[0].seat.port;
    let clash = patiently(async || add(&members[1], taken, false).await).await;
    assert_eq!(clash, Err(Fault::PeerUrlExists));
}

#[tokio::test]
async fn a_learner_reads_and_does_not_vote_until_it_is_promoted_and_there_is_one_at_a_time() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 3, &options()).await;
    for n in 0..50 {
        members[0].put(&format!("k{n}"), "v").await.unwrap();
    }
    let port = free_port();
    // Asked of any member.
    let id = patiently(async || add(&members[1], port, true).await).await.unwrap();
    let promote = |on: usize| {
        let member = &members[on];
        member.on(move |node| async move { node.promote_member(MemberId(id)).await })
    };
    assert_eq!(promote(2).await, Err(Fault::LearnerNotReady));
    let other = free_port();
    let second = patiently(async || add(&members[2], other, true).await).await;
    assert_eq!(second, Err(Fault::TooManyLearners));
    let learner = joiner(&members[0].seat, "n3", id, port).start();
    learner.ready().await;
    assert_eq!(learner.local("k49").unwrap(), "v");
    assert!(learner.standing().is_learner);
    until("it is listed by its name", || {
        let list = members[2].node.members();
        list.iter().any(|it| it.id == id && it.is_learner && it.name == "n3")
    })
    .await;
    // Nobody promotes it of their own accord.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(learner.standing().is_learner);
    let list = patiently(async || promote(2).await).await.unwrap();
    assert!(list.iter().all(|it| !it.is_learner) && list.len() == 4);
    until("it knows", || !learner.standing().is_learner).await;
    assert_eq!(promote(0).await, Err(Fault::MemberNotLearner));
    let stranger = MemberId(5);
    let unknown = members[0].on(move |node| async move { node.promote_member(stranger).await });
    assert_eq!(unknown.await, Err(Fault::MemberNotFound));
    members.push(learner);
    agree(&members.iter().collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_leader_that_is_removed_hands_over_and_ends_and_its_id_is_never_used_again() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 3, &options()).await;
    let leads = leader(&members).await;
    let id = members[leads].id();
    // Asked of another one.
    let asked = &members[(leads + 1) % 3];
    let list = remove(asked, id).await.unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(members[leads].ended().await, End::Removed);
    let removed = members.remove(leads).kill();
    let rest: Vec<_> = members.iter().collect();
    let took = put_somewhere(&rest, "k", "v").await;
    eprintln!("the next write {took:?} after the leader was gone");
    let again = members[0].on(move |node| async move { node.remove_member(id).await }).await;
    assert_eq!(again, Err(Fault::MemberNotFound));
    let port = removed.port;
    let new = patiently(async || add(&members[1], port, false).await).await.unwrap();
    assert_ne!(new, id.0);
    // Its old data does not come back.
    let old = removed.start();
    assert_eq!(old.ended().await, End::Removed);
}

#[tokio::test]
async fn no_removal_costs_the_quorum() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 3, &options()).await;
    let leads = leader(&members).await;
    members.swap(0, leads);
    let away = members.pop().unwrap().kill();
    until("it is missed", || {
        // Heard within the last election timeout no more.
        members[0].standing().leader.is_some()
    })
    .await;
    tokio::time::sleep(options().election * 3 / 2).await;
    // Of three one is down: without a healthy one the rest would have no quorum.
    let id = members[1].id();
    let healthy = members[0].on(move |node| async move { node.remove_member(id).await }).await;
    assert_eq!(healthy, Err(Fault::Unhealthy));
    let id = away.ids.member;
    let down = remove(&members[1], id).await;
    assert_eq!(down.unwrap().len(), 2);
    let id = members[1].id();
    remove(&members[0], id).await.unwrap();
    let id = members[0].id();
    until("it leads again", || members[0].standing().leader == Some(id)).await;
    let last = members[0].on(move |node| async move { node.remove_member(id).await }).await;
    assert_eq!(last, Err(Fault::MemberNotEnoughStarted));
    members[0].put("k", "v").await.unwrap();
}

#[tokio::test]
async fn a_member_that_moves_to_another_address_is_found_there() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 3, &options()).await;
    let leads = leader(&members).await;
    members.swap(0, leads);
    let mut seat = members.pop().unwrap().kill();
    seat.port = free_port();
    let (id, urls) = (seat.ids.member, vec![seat.url()]);
    let taken = vec![members[1].seat.url()];
    let clash = members[0].on(move |node| async move { node.update_member(id, taken).await }).await;
    assert_eq!(clash, Err(Fault::PeerUrlExists));
    let list = members[1].on(move |node| async move { node.update_member(id, urls).await }).await;
    assert_eq!(list.unwrap().iter().find(|it| it.id == id.0).unwrap().peer_urls, [seat.url()]);
    members[0].put("k", "v").await.unwrap();
    let moved = seat.start();
    moved.ready().await;
    assert_eq!(moved.local("k").unwrap(), "v");
    drop(members.pop().unwrap().kill());
    put_somewhere(&[&members[0], &moved], "k", "w").await;
}

#[tokio::test]
async fn a_member_that_is_asked_for_its_own_removal_says_that_it_is_made() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 3, &options()).await;
    let leads = leader(&members).await;
    let goes = members.remove((leads + 1) % 3);
    let id = goes.seat.ids.member;
    let list = remove(&goes, id).await.unwrap();
    assert!(list.len() == 2 && list.iter().all(|it| it.id != id.0), "{list:?}");
    // Until it ends it takes nothing that it could not answer for.
    let urls = vec![goes.seat.url()];
    let added = goes.on(move |node| async move { node.add_member(urls, false).await }).await;
    assert_eq!(added.unwrap_err(), Fault::Stopped);
    assert!(goes.put("k", "by nobody").await.is_err());
    assert_eq!(goes.ended().await, End::Removed);
    goes.kill();
    let left: Vec<_> = members.iter().collect();
    put_somewhere(&left, "k", "v").await;
    // The answer is of the one that was asked; the other applies in its own time.
    agree(&left).await;
    for member in left {
        assert_eq!(member.on(|node| async move { node.members() }).await.len(), 2);
        assert_eq!(member.state(State::revision), 2, "one write, by somebody");
    }
}
