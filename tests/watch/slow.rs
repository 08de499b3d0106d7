//! Clients that do not read, beside clients that do.

use std::sync::Arc;
use std::time::Duration;

use quorate::node::api::Options;
use quorate::node::apply::Operation;
use quorate::node::watch::Limits;
use quorate::proto::etcdserverpb::{PutRequest, WatchCreateRequest};
use tokio::time::{sleep, timeout};

use crate::support::{PATIENCE, Served, bytes, watch_range};

const PUTS: i64 = 50_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_does_not_read_hinders_nobody_and_misses_nothing() {
    let limits = Limits { buffer: 256 << 10 };
    let served = Served::start_with(Options::default(), limits, Duration::from_secs(600)).await;
    let mut slow = served.watch().await;
    slow.created(watch_range("k", "l")).await;
    slow.created(WatchCreateRequest { prev_kv: true, ..watch_range("k", "l") }).await;
    let mut quick = served.watch().await;
    quick.created(watch_range("k", "l")).await;

    let alone = Arc::clone(&served.alone);
    let writer = tokio::spawn(async move {
        for n in 0..PUTS {
            let put = PutRequest {
                key: bytes(&format!("k{}", n % 7)),
                value: bytes(&format!("{n:0100}")),
                ..PutRequest::default()
            };
            alone.apply(&Operation::Put(put)).unwrap();
            if n % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    let mut next = 2;
    while next < 2 + PUTS {
        for event in quick.next().await.events {
            assert_eq!(event.kv.unwrap().mod_revision, next);
            next += 1;
        }
    }
    writer.await.unwrap();
    // The quick one may have lagged as well; that it does no more is noticed a moment later.
    timeout(PATIENCE, async {
        while served.hub.figures().lagging > 2 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the quick one has caught up");
    let figures = served.hub.figures();
    assert_eq!((figures.watches, figures.lagging), (3, 2), "both watches of the slow one lag");

    let mut next = [2; 2];
    while next != [2 + PUTS; 2] {
        let answer = slow.next().await;
        let watch = usize::try_from(answer.watch_id).unwrap();
        for event in answer.events {
            let kv = event.kv.unwrap();
            assert_eq!(kv.mod_revision, next[watch]);
            if watch == 1 && next[watch] >= 2 + 7 {
                assert_eq!(event.prev_kv.unwrap().mod_revision, next[watch] - 7);
            }
            next[watch] += 1;
        }
    }
    for stream in [&mut slow, &mut quick] {
        stream.progress().await;
        let answer = stream.next().await;
        assert_eq!((answer.watch_id, answer.header.unwrap().revision), (-1, 1 + PUTS));
        stream.is_silent().await;
    }
    assert_eq!(served.hub.figures().lagging, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_lag_is_compacted_away_is_told_so_and_the_others_go_on() {
    let limits = Limits { buffer: 64 << 10 };
    let served = Served::start_with(Options::default(), limits, Duration::from_secs(600)).await;
    let mut slow = served.watch().await;
    slow.created(watch_range("k", "l")).await;
    let mut last = 0;
    // More than the sockets between the two hold.
    for n in 0..3000 {
        last = served.put("k", &format!("{n:010000}"));
    }
    assert_eq!(served.hub.figures().lagging, 1);
    served.compact(last);
    let (mut next, mut is_over) = (2, false);
    while !is_over {
        let answer = slow.next().await;
        for event in &answer.events {
            assert_eq!(event.kv.as_ref().unwrap().mod_revision, next);
            next += 1;
        }
        is_over = answer.canceled;
        if is_over {
            assert_eq!((answer.compact_revision, answer.events.len()), (last, 0));
        }
    }
    assert!(next < last, "it lagged");
    let from = WatchCreateRequest { start_revision: last, ..watch_range("k", "l") };
    slow.created(from).await;
    assert_eq!(slow.next().await.events.len(), 1);
}
