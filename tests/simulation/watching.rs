//! Watchers that go from member to member, and must hear of every change once and in order.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use quorate::node::ground::simulated::below;
use quorate::node::replica::Replica;
use quorate::node::watch::{Feed, Taken};
use quorate::proto::etcdserverpb::{WatchCreateRequest, WatchResponse};

use super::cluster::{Life, Shared};
use super::history::{Changes, Event};

/// A watcher of all keys from the first revision on, until the run is over; what it heard.
pub async fn watcher(world: Shared) -> Changes {
    let mut heard = Changes::new();
    let over = world.is_over.subscribe();
    loop {
        let running = world.running();
        if !running.is_empty() {
            let chosen = usize::try_from(below(running.len() as u64)).unwrap_or(0);
            let (_, life) = running[chosen].clone();
            let mut gone = life.gone.clone();
            let mut over = over.clone();
            // Now and then it leaves of its own accord.
            let stay = Duration::from_millis(100 + below(3000));
            tokio::select! {
                biased;
                () = hear(&world, &life, &mut heard) => {}
                _ = gone.wait_for(|it| *it) => {}
                _ = over.wait_for(|it| *it) => return heard,
                () = tokio::time::sleep(stay) => {}
            }
        }
        if *over.borrow() {
            return heard;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn hear(world: &Shared, life: &Life, heard: &mut Changes) {
    let mut feed = Feed::new(&life.hub, 1 << 20);
    let request = WatchCreateRequest {
        key: Bytes::from_static(b"k"),
        range_end: Bytes::from_static(b"m"),
        start_revision: heard.last_key_value().map_or(1, |it| it.0 + 1),
        ..WatchCreateRequest::default()
    };
    life.node.read(|state| feed.create(&state.kv, &request));
    loop {
        match feed.take() {
            Taken::Answer(answer) => {
                if answer.canceled {
                    return world.violated(format!("a watch was cancelled: {answer:?}"));
                }
                for event in answer.events {
                    let it = WatchResponse::decode(event).expect("a field of it");
                    for event in it.events {
                        let is_put = event.r#type == 0;
                        let Some(kv) = event.kv else { continue };
                        let text = |it: &Bytes| String::from_utf8_lossy(it).into_owned();
                        let value = is_put.then(|| text(&kv.value));
                        let last = heard.last_key_value().map_or(0, |it| *it.0);
                        if kv.mod_revision < last {
                            world.violated(format!(
                                "an event of {} after one of {last}",
                                kv.mod_revision
                            ));
                        }
                        let event = Event { key: text(&kv.key), value };
                        heard.entry(kv.mod_revision).or_default().push(event);
                    }
                }
            }
            Taken::Store => {
                if life.node.read(|state| feed.look(&state.kv)).is_err() {
                    return;
                }
            }
            Taken::Nothing => poll_fn(|context| feed.poll_ready(context)).await,
        }
    }
}

/// What is wrong with what a watcher heard.
pub fn check(heard: &Changes, changes: &Changes) -> Option<String> {
    let last = *heard.last_key_value()?.0;
    let expected = changes.range(..=last);
    let differs = expected.map(Some).zip(heard.iter().map(Some).chain(std::iter::repeat(None)));
    for (expected, heard) in differs {
        if expected != heard {
            return Some(format!("a watcher heard {heard:?} where {expected:?} was"));
        }
    }
    None
}
