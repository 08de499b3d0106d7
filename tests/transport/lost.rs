//! Peers that are gone, come back, move, or are there and say nothing.

use std::time::Duration;

use quorate::clock::Clock;
use quorate::cluster::MemberId;
use quorate::node::transport::{Address, CallError, Limits, LinkError, Peers};
use tokio::net::TcpListener;

use crate::ports::free_port;
use crate::support::*;

#[tokio::test]
async fn a_peer_that_comes_back_is_connected_to_again() {
    let port = Port::new(2).await;
    let (at, address) = (port.at, port.address());
    let peers = peers(1);
    let (peer, hearing) = (peers.peer(&address), peers.hearing());
    let id = MemberId(2);
    assert_eq!((hearing.connected_since(id), hearing.last_heard(id)), (None, None));
    peer.call(ECHO, b"1", LONG).await.unwrap();
    let since = hearing.connected_since(id).unwrap();
    assert!(hearing.last_heard(id).unwrap() >= since);
    let (mut sender, mut receiver) = peer.append(2, LONG).await.unwrap();
    sender.send(HELD, b"1").await.unwrap();
    port.house.begun(1).await;

    let before = now();
    port.kill().await;
    let error = receiver.recv(LONG).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Lost { .. }) && error.may_have_happened(), "{error:?}");
    assert!(sender.send(ECHO, b"2").await.is_err());
    // Nobody listens: each call hears so soon, and nothing is waited for in vain.
    for _ in 0..3 {
        let error = peer.call(ECHO, b"2", LONG).await.unwrap_err();
        assert!(
            matches!(error, CallError::Unreachable { .. } | CallError::Lost { .. }),
            "{error:?}"
        );
    }
    assert_eq!(hearing.connected_since(id), None);
    assert!(now().since(before) < LONG / 3);

    let _port = Port::with(House::new(identity(2)), limits(), Some(at)).await;
    // The call waits for the next attempt.
    assert_eq!(peer.call(ECHO, b"3", LONG).await.unwrap(), "3");
    assert!(hearing.connected_since(id).unwrap() > since);
    let (mut sender, mut receiver) = peer.append(2, LONG).await.unwrap();
    sender.send(ECHO, b"4").await.unwrap();
    assert_eq!(receiver.recv(LONG).await.unwrap().unwrap(), "4");
}

#[tokio::test]
async fn a_frozen_peer_costs_its_own_calls_their_time_and_others_nothing() {
    let well = Port::new(2).await;
    // One accepts and says nothing; the other greets first.
    let listeners = [
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    ];
    let urls = listeners.each_ref().map(|it| format!("http://{}", it.local_addr().unwrap()));
    let [deaf, frozen] = listeners;
    let deaf = tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            kept.push(deaf.accept().await.unwrap());
        }
    });
    let frozen = tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let mut raw = Raw::new(frozen.accept().await.unwrap().0);
            raw.head().await;
            raw.send(yes(identity(4)).as_bytes()).await;
            kept.push(raw);
        }
    });
    let peers = peers(1);
    // Less than the silence after which it is given up, and enough to be greeted in.
    let limit = limits().silence / 2;
    let mut stuck = Vec::new();
    for (id, url) in [(3, &urls[0]), (4, &urls[1])] {
        let address = Address { id: MemberId(id), urls: vec![url.clone()], incarnation: None };
        let peer = peers.peer(&address);
        for n in 0..50 {
            let peer = peer.clone();
            // Far more than the sockets between us hold.
            let body = vec![n; 1 << 20];
            stuck.push(tokio::spawn(async move {
                (id, peer.call(ECHO, &body, limit).await.unwrap_err())
            }));
        }
    }
    let peer = peers.peer(&well.address());
    let began = now();
    for n in 0..200_u8 {
        peer.call(ECHO, &[n], LONG).await.unwrap();
    }
    // Behind those that are stuck, each would take as long as one of them.
    assert!(now().since(began) < LONG / 3, "{:?}", now().since(began));
    for stuck in stuck {
        let (id, error) = stuck.await.unwrap();
        match error {
            CallError::Timeout { after, was_sent, .. } => {
                assert_eq!((after, was_sent), (limit, id == 4));
            }
            error => panic!("{error:?}"),
        }
    }
    // Silence is noticed whether or not somebody calls, and ends what waits.
    let frozen_peer = peers.known(MemberId(4)).unwrap();
    let error = frozen_peer.call(ECHO, b"", LONG).await.unwrap_err();
    let CallError::Lost { source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(&**source, LinkError::Silent(after) if *after == limits().silence));
    assert_eq!(peers.hearing().connected_since(MemberId(4)), None);
    deaf.abort();
    frozen.abort();
}

#[tokio::test]
async fn an_idle_connection_is_kept_by_pings_and_a_silent_caller_is_given_up() {
    let port = Port::new(2).await;
    let peers = peers(1);
    let peer = peers.peer(&port.address());
    peer.call(ECHO, b"", LONG).await.unwrap();
    let since = peers.hearing().connected_since(MemberId(2));
    let mut raw = Raw::connect(port.at).await;
    raw.greet(identity(5), 2, quorate::node::transport::Lane::Calls).await;
    let began = now();
    raw.call(1, b"x").await;
    assert_eq!(raw.frame().await.unwrap().unwrap().body, "x");
    raw.until_closed().await;
    assert!(now().since(began) >= limits().silence);
    tokio::time::sleep(limits().silence).await;
    assert_eq!(peers.hearing().connected_since(MemberId(2)), since);
    let heard = peers.hearing().last_heard(MemberId(2)).unwrap();
    assert!(now().since(heard) < limits().silence);
    peer.call(ECHO, b"", LONG).await.unwrap();
}

#[tokio::test]
async fn urls_are_tried_in_turn_and_a_new_address_is_taken_over_at_once() {
    let (old, new) = (Port::new(2).await, Port::new(2).await);
    let dead = format!("127.0.0.1:{}", free_port("127.0.0.1"));
    let mut address = Address {
        id: MemberId(2),
        urls: vec![format!("http://{dead}"), old.url()],
        incarnation: None,
    };
    // After a failure there is a wait that a busy machine does not miss.
    let slow = Limits { backoff: (LONG / 2, LONG / 2), ..limits() };
    let peers = Peers::new(identity(1), slow, Clock);
    let peer = peers.peer(&address);
    peer.call(ECHO, b"old", LONG).await.unwrap();
    let held = tokio::spawn({
        let peer = peer.clone();
        async move { peer.call(HELD, b"1", LONG).await }
    });
    old.house.begun(1).await;
    address.urls = vec![new.url()];
    peers.peer(&address);
    // What was under way at the old address is lost; the handle that was held calls the new one.
    assert!(matches!(held.await.unwrap().unwrap_err(), CallError::Lost { .. }));
    old.kill().await;
    assert_eq!(peer.call(ECHO, b"new", LONG).await.unwrap(), "new");

    // A call that waits for a dead address is taken along to the living one.
    address.urls = vec![format!("http://{dead}")];
    let peer = peers.peer(&address);
    while peer.call(ECHO, b"", LONG).await.is_ok() {}
    let waiting = tokio::spawn(async move { peer.call(ECHO, b"along", LONG).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    address.urls = vec![new.url()];
    let peer = peers.peer(&address);
    assert_eq!(waiting.await.unwrap().unwrap(), "along");

    peers.forget(MemberId(2));
    let error = peer.call(ECHO, b"", LONG).await.unwrap_err();
    assert!(matches!(error, CallError::Unreachable { .. }), "{error:?}");
    assert_eq!(peers.peer(&address).call(ECHO, b"anew", LONG).await.unwrap(), "anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn restarts_under_load_lose_calls_but_never_mix_or_forget_them() {
    let mut port = Port::new(2).await;
    let (at, address) = (port.at, port.address());
    let peers = peers(1);
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let tasks: Vec<_> = (0..40_u32)
        .map(|n| {
            let (peer, over) = (peers.peer(&address), std::sync::Arc::clone(&over));
            tokio::spawn(async move {
                let (mut done, mut lost) = (0_u32, 0_u32);
                // However slow the machine is, each is answered now that the port stays.
                while !over.load(std::sync::atomic::Ordering::Relaxed) || done < 30 {
                    let mut body = vec![2; 100 + n as usize * 1000];
                    body[1..5].copy_from_slice(&n.to_le_bytes());
                    body[5..9].copy_from_slice(&done.to_le_bytes());
                    match peer.call(LATER, &body, LONG).await {
                        Ok(answer) => {
                            assert_eq!(answer, body);
                            done += 1;
                        }
                        // Declined: the port was going as the call came, and did not take it.
                        Err(
                            CallError::Lost { .. }
                            | CallError::Unreachable { .. }
                            | CallError::Declined { .. },
                        ) => lost += 1,
                        Err(error) => panic!("{error:?}"),
                    }
                }
                (done, lost)
            })
        })
        .collect();
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        port.kill().await;
        port = Port::with(House::new(identity(2)), limits(), Some(at)).await;
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    let (mut done, mut lost) = (0, 0);
    for task in tasks {
        let (some, others) = tokio::time::timeout(LONG, task).await.unwrap().unwrap();
        assert!(some > 0);
        done += some;
        lost += others;
    }
    assert!(lost > 0 && done > 1000, "{done} done, {lost} lost");
}
