//! How many appends a second. Run it alone, optimised:
//! `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test --test log -- --ignored --nocapture how_fast`

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate::node::log::{Entry, Options};

use crate::support::{Place, append};

#[test]
#[ignore = "a measurement"]
fn how_fast() {
    for ahead_kib in [256, 1_024, 4_096] {
        for appenders in [1, 10, 100] {
            let options = Options { ahead_bytes: ahead_kib << 10, ..Options::default() };
            let place = Place::new(options);
            let log = place.create();
            let passed = stopwatch();
            let limit = Duration::from_secs(3);
            let count = place.wait(async {
                let turn = Arc::new(tokio::sync::Mutex::new(()));
                let tasks: Vec<_> = (0..appenders)
                    .map(|_| {
                        let (log, turn) = (log.clone(), Arc::clone(&turn));
                        async move {
                            let payload = Bytes::from(vec![7; 256]);
                            let mut count = 0_u64;
                            while passed() < limit {
                                let (tell, told) = tokio::sync::oneshot::channel();
                                {
                                    let _turn = turn.lock().await;
                                    let index = log.bounds().next;
                                    let payload = payload.clone();
                                    let entry = Entry { term: 1, index, kind: 0, payload };
                                    let done = Box::new(move |result| {
                                        let _ = tell.send(result);
                                    });
                                    log.append(vec![entry], done).await.unwrap();
                                }
                                told.await.unwrap().unwrap();
                                count += 1;
                            }
                            count
                        }
                    })
                    .collect();
                futures_util::future::join_all(tasks).await.into_iter().sum::<u64>()
            });
            let took = passed().as_millis().max(1);
            let stats = log.stats();
            eprintln!(
                "{ahead_kib:5} KiB of zeros ahead, {appenders:3} appenders: {:6} appends/s, {:5} fdatasyncs/s",
                u128::from(count) * 1_000 / took,
                u128::from(stats.syncs) * 1_000 / took,
            );
        }
    }
    // One request of many entries, as a follower gets them.
    let place = Place::new(Options::default());
    let log = place.create();
    let passed = stopwatch();
    let mut next = 0;
    while passed() < Duration::from_secs(3) {
        let payload = Bytes::from(vec![7; 256]);
        let entries = (next..next + 100)
            .map(|index| Entry { term: 1, index, kind: 0, payload: payload.clone() })
            .collect();
        place.wait(append(&log, entries)).unwrap();
        next += 100;
    }
    eprintln!("requests of 100 entries, 1 appender: {} entries/s", next / 3);
    drop(log);
    let passed = stopwatch();
    drop(place.open());
    eprintln!("opened again with {next} entries in {} ms", passed().as_millis());
}

#[allow(clippy::disallowed_methods, reason = "a measurement needs a clock")]
fn stopwatch() -> impl Fn() -> Duration + Copy {
    let begun = std::time::Instant::now();
    move || begun.elapsed()
}
