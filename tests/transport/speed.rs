//! How fast calls are on the loopback; run by hand, in a release build:
//! `cargo test --release --test transport -- --ignored --nocapture speed`.

use std::time::Duration;

use quorate::clock::Clock;
use quorate::node::transport::{Limits, Peers};
use tokio::runtime::Builder;

use crate::support::*;

const BODY: [u8; 256] = [7; 256];
const SPAN: Duration = Duration::from_secs(3);

#[test]
#[ignore = "measures; run by hand"]
fn speed_of_calls_with_both_sides_on_one_thread() {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let port = Port::with(House::new(identity(2)), Limits::default(), None).await;
        measure("one thread ", &port.url()).await;
    });
}

#[test]
#[ignore = "measures; run by hand"]
fn speed_of_calls_with_a_thread_for_each_side() {
    let (tell, url) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let port = Port::with(House::new(identity(2)), Limits::default(), None).await;
            tell.send(port.url()).unwrap();
            // Until the process ends.
            std::future::pending::<()>().await;
        });
    });
    let url = url.recv().unwrap();
    Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(measure("two threads", &url));
}

async fn measure(what: &str, url: &str) {
    let peers = Peers::new(identity(1), Limits::default(), Clock);
    let address = quorate::node::transport::Address {
        id: identity(2).member,
        urls: vec![url.to_owned()],
        incarnation: None,
    };
    let peer = peers.peer(&address);
    for in_flight in [1, 100] {
        peer.call(ECHO, &BODY, LONG).await.unwrap();
        let end = now().after(SPAN);
        let tasks = (0..in_flight).map(|_| {
            let peer = peer.clone();
            tokio::spawn(async move {
                let mut count = 0_u64;
                while now() < end {
                    peer.call(ECHO, &BODY, LONG).await.unwrap();
                    count += 1;
                }
                count
            })
        });
        let counts = futures_util::future::join_all(tasks).await;
        let count: u64 = counts.into_iter().map(Result::unwrap).sum();
        println!("{what}, calls of 256 B, {in_flight:>3} in flight: {}/s", count / SPAN.as_secs());
    }
    for depth in [1, 2, 8] {
        let (mut sender, mut receiver) = peer.append(depth, LONG).await.unwrap();
        let end = now().after(SPAN);
        let sending = async move {
            while now() < end {
                sender.send(ECHO, &BODY).await.unwrap();
            }
        };
        let receiving = async move {
            let mut count = 0_u64;
            while let Some(answer) = receiver.recv(LONG).await {
                answer.unwrap();
                count += 1;
            }
            count
        };
        let ((), count) = tokio::join!(sending, receiving);
        println!("{what}, append of 256 B, {depth} in flight: {}/s", count / SPAN.as_secs());
    }
    let chunk = vec![7; 1 << 20];
    let (end, mut count) = (now().after(SPAN), 0_u64);
    while now() < end {
        peer.bulk(ECHO, &chunk, LONG).await.unwrap();
        count += 1;
    }
    println!("{what}, bulk of 1 MiB and back, 1 in flight: {} MiB/s", count / SPAN.as_secs());
}
