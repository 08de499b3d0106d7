//! Members that cannot be reached, and those that nobody speaks to.

use std::time::Duration;

use quorate::cluster::Incarnation;
use quorate::node::fault::Fault;
use quorate::node::raft::End;
use tempfile::tempdir;

use crate::files::copy_dir;
use crate::support::*;

#[tokio::test]
async fn a_follower_that_is_gone_does_not_slow_the_others_and_catches_up_when_it_is_back() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 3, &options()).await;
    let leads = leader(&members).await;
    let begun = now();
    for n in 0..100 {
        members[leads].put(&format!("a{n}"), "v").await.unwrap();
    }
    let with_all = now().since(begun);
    let away = members.remove((leads + 1) % 3).kill();
    let leads = leader(&members).await;
    let begun = now();
    for n in 0..100 {
        members[leads].put(&format!("b{n}"), "v").await.unwrap();
    }
    let without = now().since(begun);
    eprintln!("100 puts: {with_all:?} with all three, {without:?} with two");
    // If each waited for the one that is gone it would be far more, on a busy machine, too.
    assert!(without < with_all * 10 + Duration::from_secs(5));
    let back = away.start();
    back.ready().await;
    assert_eq!(back.local("b99").unwrap(), "v");
    agree(&members.iter().chain([&back]).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn without_a_quorum_nothing_is_acknowledged_and_nobody_is_said_to_lead() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 3, &options()).await;
    let leads = leader(&members).await;
    members.swap(0, leads);
    let away: Vec<_> = members.drain(1..).map(Member::kill).collect();
    let alone = members.remove(0);
    until("it says so", || alone.standing().leader.is_none()).await;
    let begun = now();
    let (put, read) = tokio::join!(alone.put("k", "v"), alone.get("k"));
    assert!(now().since(begun) >= Duration::from_secs(5));
    let slow = [Fault::Timeout, Fault::TimeoutConnectionLost, Fault::TimeoutLeaderFail];
    assert!(slow.contains(&put.unwrap_err()));
    assert!(slow.contains(&read.unwrap_err()));
    let others: Vec<_> = away.iter().map(Seat::start).collect();
    for member in &others {
        member.ready().await;
    }
    put_somewhere(&[&alone], "k", "w").await;
    agree(&others.iter().chain([&alone]).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn an_emptied_disk_under_an_old_id_is_not_spoken_to_and_ends_as_stale() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 3, &options()).await;
    let leads = leader(&members).await;
    let mut seat = members.remove((leads + 1) % 3).kill();
    take_away(&seat.dir);
    seat.ids.incarnation = Incarnation(666);
    let emptied = seat.start();
    assert!(matches!(emptied.ended().await, End::StaleData(_)));
    emptied.kill();
    members[0].put("k", "v").await.unwrap();
}

#[tokio::test]
async fn an_older_copy_of_a_members_own_data_ends_that_member_and_nobody_else() {
    listen_to_errors();
    let root = tempdir().unwrap();
    // Another leader would bring it up to date.
    let mut members = cluster(root.path(), 3, &calm()).await;
    let leads = leader(&members).await;
    members[leads].put("k", "v").await.unwrap();
    let seat = members.remove((leads + 1) % 3).shutdown().await;
    let copy = seat.dir.with_extension("copy");
    copy_dir(&seat.dir, &copy);
    let back = seat.start();
    back.ready().await;
    let leads = leader(&members).await;
    for n in 0..50 {
        members[leads].put(&format!("a{n}"), "v").await.unwrap();
    }
    until("it has all", || back.local("a49").is_some()).await;
    let term = members[leads].standing().term;
    let seat = back.shutdown().await;
    take_away(&seat.dir);
    copy_dir(&copy, &seat.dir);

    let back = seat.start();
    let end = back.ended().await;
    assert!(matches!(&end, End::StorageDamaged(why) if why.contains("acknowledged")), "{end:?}");
    // A process would be gone now. As long as it is there, each of the leader's heartbeats finds the
    // same; it is said once.
    tokio::time::sleep(calm().heartbeat * 20).await;
    let id = back.id();
    let news = said(&format!("a member is not sent anything member={id} "));
    assert_eq!(news, 1, "it is said once");
    back.kill();
    members[leads].put("k", "w").await.unwrap();
    assert_eq!(members[leads].standing().term, term, "nobody else took notice");
}

#[tokio::test]
async fn one_that_was_removed_while_it_was_away_learns_it_from_the_others_and_ends() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 3, &options()).await;
    let leads = leader(&members).await;
    let away = members.remove((leads + 1) % 3).kill();
    let id = away.ids.member;
    let leads = leader(&members).await;
    let list = remove(&members[leads], id).await;
    assert_eq!(list.unwrap().len(), 2);
    let back = away.start();
    assert_eq!(back.ended().await, End::Removed);
    back.kill();
    members[0].put("k", "v").await.unwrap();
}
