//! Calls between healthy members: to each its own answer, order where it is promised, bounds.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use quorate::clock::Clock;
use quorate::node::transport::{Bound, CallError, Limits, Peers};

use crate::support::*;

#[tokio::test]
async fn many_tasks_get_each_its_own_answer_in_whatever_order_they_come() {
    let port = Port::new(2).await;
    let peer = peers(1).peer(&port.address());
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let tasks = (0..200_u8).map(|n| {
        let (peer, order) = (peer.clone(), Arc::clone(&order));
        tokio::spawn(async move {
            let body = [n, 200 - n, 0, 255];
            assert_eq!(peer.call(HELD, &body, LONG).await.unwrap(), &body[..]);
            order.lock().push(n);
        })
    });
    let tasks: Vec<_> = tasks.collect();
    port.house.begun(200).await;
    // Those that asked first are answered last.
    for (answered, n) in (0..200).rev().enumerate() {
        port.house.let_go(n);
        while order.lock().len() <= answered {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    join_all(tasks).await.into_iter().for_each(|it| it.unwrap());
    assert!(order.lock().iter().copied().eq((0..200).rev()), "{order:?}");
    let heard = port.hearing.last_heard(identity(1).member).unwrap();
    assert!(now().since(heard) < LONG);
}

#[tokio::test]
async fn the_append_lane_begins_and_answers_in_order_with_no_more_under_way_than_agreed() {
    let port = Port::new(2).await;
    let peer = peers(1).peer(&port.address());
    let (mut sender, mut receiver) = peer.append(2, LONG).await.unwrap();
    let sent = tokio::spawn(async move {
        for n in [1, 2, 3_u8] {
            sender.send(HELD, &[n]).await.unwrap();
        }
        sender
    });
    // Two are begun while none is answered; the third waits for its turn.
    port.house.begun(2).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!sent.is_finished());
    // The second is done first, and is answered second.
    port.house.let_go(2);
    let early = tokio::time::timeout(Duration::from_millis(50), receiver.recv(LONG)).await;
    assert!(early.is_err(), "{early:?}");
    port.house.let_go(1);
    port.house.let_go(3);
    for n in [1, 2, 3] {
        assert_eq!(receiver.recv(LONG).await.unwrap().unwrap(), &[n][..]);
    }
    drop(sent.await.unwrap());
    assert!(receiver.recv(LONG).await.is_none());

    // A long run of it, on the same connection: every other one ends later than the next.
    let (mut sender, mut receiver) = peer.append(8, LONG).await.unwrap();
    port.house.begun.lock().clear();
    (0..=255).for_each(|n| port.house.let_go(n));
    let sending = async {
        for n in 0..1000_u32 {
            let [low, high, ..] = n.to_le_bytes();
            let (method, first) = if n % 2 == 0 { (HELD, low) } else { (LATER, 0) };
            sender.send(method, &[first, low, high]).await.unwrap();
        }
        drop(sender);
    };
    let receiving = async {
        let mut found = Vec::new();
        while let Some(answer) = receiver.recv(LONG).await {
            let answer = answer.unwrap();
            found.push(u32::from(answer[1]) + 256 * u32::from(answer[2]));
        }
        found
    };
    let ((), found) = tokio::join!(sending, receiving);
    assert!(found.iter().copied().eq(0..1000), "{found:?}");
    let begun: Vec<_> = port
        .house
        .begun
        .lock()
        .iter()
        .map(|it| u32::from(it[1]) + 256 * u32::from(it[2]))
        .collect();
    assert!(begun.iter().copied().eq((0..1000).step_by(2)), "{begun:?}");
}

#[tokio::test]
async fn beyond_its_bounds_a_call_fails_at_once_and_places_come_free_again() {
    let port = Port::new(2).await;
    let bounds = [
        Bound { calls: 3, bytes: 1000 },
        Bound { calls: 3, bytes: 1000 },
        Bound { calls: 3, bytes: 1000 },
    ];
    let few = Limits { bounds, body: 900, ..limits() };
    let peers = Peers::new(identity(1), few.clone(), Clock);
    let peer = peers.peer(&port.address());
    // Those that still wait for a connection are counted as well.
    let held: Vec<_> = (0..3).map(|_| spawn_held(&peer)).collect();
    tokio::task::yield_now().await;
    let busy = |error: &CallError| matches!(error, CallError::Busy { .. });
    for _ in 0..2 {
        let error = peer.call(ECHO, b"x", LONG).await.unwrap_err();
        assert!(busy(&error) && !error.may_have_happened(), "{error:?}");
        port.house.begun(3).await;
    }
    // The append lane has its own bounds.
    let (mut sender, mut receiver) = peer.append(2, LONG).await.unwrap();
    sender.send(ECHO, &[1; 800]).await.unwrap();
    let error = sender.send(ECHO, &[1; 300]).await.unwrap_err();
    assert!(busy(&error), "{error:?}");
    assert_eq!(receiver.recv(LONG).await.unwrap().unwrap().len(), 800);

    // A call that is given up gives its place back.
    held[0].abort();
    while peer.call(ECHO, b"x", LONG).await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let error = peer.call(ECHO, &[0; 901], LONG).await.unwrap_err();
    assert!(matches!(error, CallError::TooLong { length: 901, most: 900, .. }), "{error:?}");
    let error = peer.call(ECHO, &[0; 900], LONG).await.unwrap();
    assert_eq!(error.len(), 900);
    let error = peer.call(FAIL, b"", LONG).await.unwrap_err();
    let CallError::Failed { failure, .. } = &error else { panic!("{error:?}") };
    assert_eq!((failure.code, &*failure.detail), (7, "no method 3"));
    port.house.let_go(9);
    for held in held.into_iter().skip(1) {
        held.await.unwrap().unwrap();
    }

    // The other side has bounds of its own, and says so.
    let narrow = Port::with(House::new(identity(3)), few, None).await;
    let peer = crate::support::peers(1).peer(&narrow.address());
    let held: Vec<_> = (0..3).map(|_| spawn_held(&peer)).collect();
    narrow.house.begun(3).await;
    let error = peer.call(ECHO, b"x", LONG).await.unwrap_err();
    assert!(matches!(error, CallError::Declined { .. }), "{error:?}");
    assert!(!error.may_have_happened());
    narrow.house.let_go(9);
    for held in held {
        held.await.unwrap().unwrap();
    }
    // An answer that cannot be sent is an error of its call alone.
    let peer = crate::support::peers(1).peer(&port.address());
    let error = peer.call(HUGE, b"", LONG).await.unwrap_err();
    assert!(matches!(error, CallError::Failed { .. }), "{error:?}");
    assert_eq!(peer.call(ECHO, b"y", LONG).await.unwrap(), "y");
}

fn spawn_held(
    peer: &quorate::node::transport::Peer,
) -> tokio::task::JoinHandle<Result<bytes::Bytes, CallError>> {
    let peer = peer.clone();
    tokio::spawn(async move { peer.call(HELD, &[9], LONG).await })
}

#[tokio::test]
async fn chunks_of_a_snapshot_pass_beside_the_calls_and_are_closed_when_idle() {
    let port = Port::new(2).await;
    let quick = Limits { bulk_idle: Duration::from_millis(300), ..limits() };
    let peers = Peers::new(identity(1), quick, Clock);
    let peer = peers.peer(&port.address());
    let chunk: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[n as usize % 3]).collect();
    let chunks = async {
        for _ in 0..20 {
            assert_eq!(peer.bulk(ECHO, &chunk, LONG).await.unwrap(), chunk);
        }
    };
    let calls = async {
        for n in 0..50_u8 {
            assert_eq!(peer.call(ECHO, &[n], LONG).await.unwrap(), &[n][..]);
        }
    };
    tokio::join!(chunks, calls);
    let error = peer.bulk(ECHO, &vec![0; 2 << 20], LONG).await.unwrap_err();
    assert!(matches!(error, CallError::TooLong { .. }), "{error:?}");
    // The largest body the calls take.
    let large = vec![7; limits().body];
    assert_eq!(peer.call(ECHO, &large, LONG).await.unwrap(), large);

    // Of its own, one can see it go.
    let quick = Limits { bulk_idle: Duration::from_secs(1), ..limits() };
    let peers = Peers::new(identity(3), quick, Clock);
    let peer = peers.peer(&port.address());
    peer.bulk(ECHO, b"some", LONG).await.unwrap();
    assert!(peers.hearing().connected_since(peer.id()).is_some());
    let begun = now();
    while peers.hearing().connected_since(peer.id()).is_some() {
        assert!(now().since(begun) < LONG, "it stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(peer.bulk(ECHO, b"again", LONG).await.unwrap(), "again");
}

#[tokio::test]
async fn a_port_that_closes_lets_calls_end_and_takes_no_new_ones() {
    let mut port = Port::new(2).await;
    let peer = peers(1).peer(&port.address());
    let held = spawn_held(&peer);
    port.house.begun(1).await;
    port.stop();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let error = peer.call(ECHO, b"late", LONG).await.unwrap_err();
    assert!(!error.may_have_happened(), "{error:?}");
    port.house.let_go(9);
    assert_eq!(held.await.unwrap().unwrap(), &[9][..]);
    port.closed().await;

    // One that never ends does not keep it open, and its caller hears that it may have happened.
    let short = Limits { drain: Duration::from_millis(200), ..limits() };
    let mut port = Port::with(House::new(identity(3)), short, None).await;
    let peer = peers(1).peer(&port.address());
    let held = spawn_held(&peer);
    port.house.begun(1).await;
    port.stop();
    port.closed().await;
    let error = held.await.unwrap().unwrap_err();
    assert!(error.may_have_happened(), "{error:?}");
}
