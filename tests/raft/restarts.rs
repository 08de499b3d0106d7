//! Members that are killed and started again.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quorate::node::apply::State;
use quorate::node::fault::Fault;
use quorate::node::port;
use quorate::node::raft::{Options, StartError, start};
use quorate::node::replica::Replica;
use tempfile::tempdir;

use crate::support::*;

#[tokio::test]
async fn killed_together_and_started_again_they_have_every_write_that_was_acknowledged() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 3, &options()).await;
    let mut written = 0;
    for round in 0..3 {
        let last = written + 150;
        while written < last {
            let all: Vec<_> = members.iter().collect();
            put_somewhere(&all, &format!("k{written}"), &round.to_string()).await;
            written += 1;
        }
        let seats: Vec<_> = members.into_iter().map(Member::kill).collect();
        members = seats.iter().map(Seat::start).collect();
        for member in &members {
            member.ready().await;
        }
        let all: Vec<_> = members.iter().collect();
        agree(&all).await;
        for member in &members {
            for n in 0..written {
                assert!(member.local(&format!("k{n}")).is_some(), "k{n} is lost");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn right_after_a_restart_of_all_a_linearizable_read_is_never_stale() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 3, &options()).await;
    for round in 0..4 {
        let puts = (0..400).map(|n| {
            let member = &members[n % 3];
            async move { member.put(&format!("r{round}/{n}"), "v").await }
        });
        for put in futures_util::future::join_all(puts).await {
            put.unwrap();
        }
        let seats: Vec<_> = members.into_iter().map(Member::kill).collect();
        members = seats.iter().map(Seat::start).collect();
        // At once, on all: none waits to be ready.
        let reads = members.iter().map(|member| async move {
            loop {
                match member.get(&format!("r{round}/399")).await {
                    Ok(found) => return (found, member.state(State::revision)),
                    Err(fault) => assert_ne!(fault, Fault::Stopped),
                }
            }
        });
        for (found, revision) in futures_util::future::join_all(reads).await {
            assert_eq!(found.unwrap(), "v");
            assert!(revision > 400 * (round + 1));
        }
    }
}

#[tokio::test]
async fn a_leader_that_is_killed_has_a_successor_within_the_election_timeout() {
    let root = tempdir().unwrap();
    // Long, so that little of it is what a busy machine takes for the rest.
    let options = Options { election: Duration::from_secs(3), ..options() };
    let mut members = cluster(root.path(), 3, &options).await;
    let mut took = Vec::new();
    for round in 0..4 {
        let leads = leader(&members).await;
        let killed = members.remove(leads).kill();
        let rest: Vec<_> = members.iter().collect();
        took.push(put_somewhere(&rest, &format!("k{round}"), "v").await);
        let again = killed.start();
        again.ready().await;
        members.push(again);
    }
    took.sort();
    eprintln!("from the kill of the leader to the next write: {took:?}");
    // Without a reason to be quick it would take up to twice the timeout.
    assert!(took[1] <= options.election + Duration::from_secs(2), "{took:?}");
    agree(&members.iter().collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn a_store_that_is_lost_is_made_anew_from_the_log_and_a_damaged_log_is_not_started_on() {
    let root = tempdir().unwrap();
    let members = cluster(root.path(), 1, &options()).await;
    for n in 0..50 {
        members[0].put(&format!("k{n}"), "v").await.unwrap();
    }
    let hash = members[0].hash();
    let mut members = members;
    let seat = members.remove(0).shutdown().await;
    take_away(&seat.dir.join("store"));
    let member = seat.start();
    member.ready().await;
    assert_eq!(member.hash(), hash);
    let revision = member.state(State::revision);
    assert_eq!(member.put("more", "v").await.unwrap(), revision + 1);
    let seat = member.shutdown().await;

    // One byte of an entry that was acknowledged.
    let segment = std::fs::read_dir(seat.dir.join("log")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(3).position(|it| it == b"k10").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let error = seat.try_start().err().expect("it does not start");
    assert!(error.is_damage(), "{error}");
}

#[tokio::test]
async fn a_member_of_one_starts_again_at_once_and_serves_what_it_had() {
    let root = tempdir().unwrap();
    let mut members = cluster(root.path(), 1, &options()).await;
    members[0].put("k", "v").await.unwrap();
    let seat = members.remove(0).kill();
    let begun = now();
    let member = seat.start();
    member.ready().await;
    eprintln!("ready after {:?}", now().since(begun));
    assert_eq!(member.get("k").await.unwrap().unwrap(), "v");
    let list = member.node.members();
    assert_eq!((list.len(), list[0].name.as_str()), (1, "n0"));
}

#[tokio::test]
async fn a_peer_port_that_somebody_takes_meanwhile_names_its_holder_and_leaves_nothing_behind() {
    let root = tempdir().unwrap();
    let seat = seats(root.path(), 1, &options()).remove(0);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, seat.port));
    let config = seat.clone();
    // On a runtime of its own, as its process would.
    let began = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // Both have the address; only one can listen, and the other one was quicker.
            let ours = port::bind(address).unwrap();
            let _other = port::bind(address).unwrap().listen(1).unwrap();
            start(config.config(vec![ours], Arc::new(Heard::default()))).await.err()
        })
    });
    let Some(StartError::Taken(taken)) = began.join().unwrap() else { panic!("it started") };
    let holder = format!("{address} is in use: pid {} ", std::process::id());
    assert!(taken.to_string().starts_with(&holder), "{taken}");
    // Its data is there, and nobody holds it.
    let member = seat.start();
    member.ready().await;
    member.put("k", "v").await.unwrap();
}
