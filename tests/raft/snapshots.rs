//! Members that are too far behind for the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use quorate::cluster::Incarnation;
use quorate::node::raft::Options;
use quorate::node::replica::Replica;
use tempfile::tempdir;

use crate::support::*;

/// A log that is purged often.
fn short_log() -> Options {
    Options { snapshot_count: 200, catch_up: 50, ..options() }
}

/// Keeps writing on some members until it is told to stop; how many were acknowledged.
async fn write_on(members: Vec<&Member>, stop: Arc<AtomicBool>, count: Arc<AtomicUsize>) {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        put_somewhere(&members, &format!("w{n}"), "during").await;
        n += 1;
        count.store(n, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_member_is_replaced_under_a_new_id_and_catches_up_by_snapshot_while_writes_go_on() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 3, &short_log()).await;
    let value = "x".repeat(2000);
    for n in 0..1200 {
        members[n % 3].put(&format!("k{}", n % 700), &value).await.unwrap();
    }
    // The log does not go back to the beginning any more.
    let leads = leader(&members).await;
    until("the log is purged", || members[leads].node.log_begins() > 300).await;

    let lost = members.remove((leads + 1) % 3);
    let lost_seat = lost.kill();
    take_away(&lost_seat.dir);
    let survivors: Vec<_> = members.iter().collect();
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let writing = write_on(survivors.clone(), Arc::clone(&stop), Arc::clone(&written));
    let repair = async {
        let id = lost_seat.ids.member;
        let leads = &survivors[leader_of(&survivors).await];
        remove(leads, id).await.unwrap();
        let added = patiently(async || {
            let urls = vec![lost_seat.url()];
            leads.on(move |node| async move { node.add_member(urls, false).await }).await
        });
        let (added, list) = added.await.unwrap();
        // Listed as a voter that has not started.
        assert!(!added.is_learner && added.name.is_empty());
        assert_eq!(list.len(), 3);
        assert_ne!(added.id, id.0);
        let before = written.load(Ordering::Relaxed);
        let begun = now();
        let mut seat = lost_seat.clone();
        seat.ids.member = quorate::cluster::MemberId(added.id);
        seat.ids.incarnation = Incarnation(99);
        seat.founders = None;
        let member = seat.start();
        member.ready().await;
        until("it votes", || !member.standing().is_learner).await;
        eprintln!("a voter again after {:?}", now().since(begun));
        until("writes went on", || written.load(Ordering::Relaxed) > before + 20).await;
        stop.store(true, Ordering::Relaxed);
        member
    };
    let ((), member) = tokio::join!(writing, repair);
    until("it came by a snapshot", || member.node.log_begins() > 300).await;
    let count = written.load(Ordering::Relaxed);
    let all: Vec<_> = survivors.iter().copied().chain([&member]).collect();
    agree(&all).await;
    for n in 0..700 {
        assert_eq!(member.local(&format!("k{n}")).unwrap(), value);
    }
    for n in 0..count {
        assert_eq!(member.local(&format!("w{n}")).unwrap(), "during");
    }
    // It is a member like any other: it takes writes, keeps them, and counts for the quorum.
    member.put("mine", "1").await.unwrap();
    let name = member.node.members().iter().find(|it| it.id == member.id().0).cloned().unwrap();
    assert_eq!(name.name, member.seat.name);
    let hash = member.hash();
    let member = member.kill().start();
    member.ready().await;
    assert_eq!(member.hash(), hash);
    drop(members.remove(0).kill());
    let all: Vec<_> = members.iter().chain([&member]).collect();
    put_somewhere(&all, "with two of three", "1").await;
}

async fn leader_of(members: &[&Member]) -> usize {
    let mut found = None;
    until("one leads", || {
        found = members.iter().position(|it| it.standing().leader == Some(it.id()));
        found.is_some()
    })
    .await;
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_away_for_longer_than_the_log_goes_back_gets_a_snapshot_and_keeps_it() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 3, &short_log()).await;
    members[0].put("before", "1").await.unwrap();
    let leads = leader(&members).await;
    let away = members.remove((leads + 1) % 3).kill();
    for n in 0..1500 {
        put_somewhere(&[&members[n % 2]], &format!("k{n}"), &"y".repeat(500)).await;
    }
    let leads = leader(&members).await;
    until("the log is purged", || members[leads].node.log_begins() > 500).await;
    let member = away.start();
    member.ready().await;
    until("it came by a snapshot", || member.node.log_begins() > 500).await;
    assert_eq!(member.local("before").unwrap(), "1");
    let all: Vec<_> = members.iter().chain([&member]).collect();
    agree(&all).await;
    // Killed right after, it starts from what it was sent.
    let member = member.kill().start();
    member.ready().await;
    let all: Vec<_> = members.iter().chain([&member]).collect();
    agree(&all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_breaks_off_goes_on_and_is_never_taken_by_halves() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 3, &short_log()).await;
    let leads = leader(&members).await;
    let away = members.remove((leads + 1) % 3).kill();
    let value = "z".repeat(100_000);
    for n in 0..600 {
        put_somewhere(&[&members[n % 2]], &format!("k{n}"), &value).await;
    }
    let leads = leader(&members).await;
    // It is purged when the checkpoint has come further twice.
    let mut n = 0;
    while members[leads].node.log_begins() < 100 {
        assert!(n < 20_000, "the log is not purged");
        put_somewhere(&[&members[leads]], "more", &n.to_string()).await;
        n += 1;
    }
    // Killed a few times while it comes in: 60 MB do not come at once.
    for wait in [30, 60, 90, 120, 150] {
        let member = away.start();
        tokio::time::sleep(Duration::from_millis(wait)).await;
        member.kill();
    }
    let member = away.start();
    member.ready().await;
    let all: Vec<_> = members.iter().chain([&member]).collect();
    agree(&all).await;
}
