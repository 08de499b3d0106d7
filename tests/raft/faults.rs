//! Members that cannot be reached, and those that nobody speaks to.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate::cluster::{ClusterId, Incarnation, MemberId};
use quorate::node::fault::Fault;
use quorate::node::raft::{End, Options};
use tempfile::tempdir;
use tokio::net::TcpListener;

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

/// Short, so that one that has to ask does so soon, and often within the test.
fn eager() -> Options {
    let ms = Duration::from_millis;
    Options { heartbeat: ms(50), election: ms(250), ..options() }
}

/// Listens where no member does, and counts who comes.
async fn witness() -> (String, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            *counted.lock() += 1;
        }
    });
    (url(port), count)
}

/// It has not ended, and does not within some rounds.
async fn waits(member: &Member) {
    let ended = tokio::time::timeout(eager().election * 10, member.ended()).await;
    assert!(ended.is_err(), "{ended:?}");
}

#[tokio::test]
async fn a_joiner_that_was_removed_before_its_first_entry_asks_those_it_was_told_of_and_ends() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 3, &options()).await;
    let port = free_port();
    let id = patiently(async || add(&members[0], port, false).await).await.unwrap();
    let leads = leader(&members).await;
    // This one does not hear of the removal until the others are back.
    let mut away = vec![members.remove((leads + 1) % 3).kill()];
    let list = remove(&members[0], MemberId(id)).await.unwrap();
    assert_eq!(list.len(), 3);
    away.extend(members.drain(..).map(Member::kill));
    let late = away.remove(0);

    let mut seat = joiner(&late, "n3", id, port);
    let (witness, asked) = witness().await;
    seat.peers = vec![url(free_port()), seat.url(), late.url(), witness];
    seat.options = eager();
    let lags = late.start();
    let joiner = seat.start();
    until("it has asked all, twice", || *asked.lock() >= 2).await;
    waits(&joiner).await;
    let others: Vec<_> = away.iter().map(Seat::start).collect();
    assert_eq!(joiner.ended().await, End::Removed);
    assert!(lags.state(|it| it.is_removed(joiner.id())));
    // It learns the same again.
    let again = joiner.kill().start();
    assert_eq!(again.ended().await, End::Removed);
    put_somewhere(&[&lags, &others[0]], "k", "v").await;
}

#[tokio::test]
async fn one_whom_nobody_knows_and_one_of_another_cluster_are_told_nothing_and_wait() {
    let root = tempdir().unwrap();
    let members = cluster(root.path(), 3, &options()).await;
    let port = free_port();
    let removed = patiently(async || add(&members[0], port, true).await).await.unwrap();
    remove(&members[0], MemberId(removed)).await.unwrap();
    agree(&members.iter().collect::<Vec<_>>()).await;
    let (witness, asked) = witness().await;
    let mut peers: Vec<_> = members.iter().map(|it| it.seat.url()).collect();
    peers.push(witness);
    let start = |name: &str, id: u64, cluster: ClusterId| {
        let mut seat = joiner(&members[0].seat, name, id, free_port());
        (seat.peers, seat.options) = (peers.clone(), eager());
        seat.ids.cluster = cluster;
        seat.start()
    };
    let own = members[0].seat.ids.cluster;
    let unknown = start("n3", 77, own);
    // Of that ID, but not of that cluster.
    let strange = start("n4", removed, ClusterId(own.0 ^ 1));
    until("both have asked all, twice", || *asked.lock() >= 6).await;
    waits(&unknown).await;
    waits(&strange).await;
}
