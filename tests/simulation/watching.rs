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
use super::history::{Changes, Event, History};

/// What a watcher was told.
#[derive(Default)]
pub struct Heard {
    changes: Changes,
    /// From where on it asked, and where what is left began.
    gaps: Vec<(i64, i64)>,
}

impl Heard {
    /// The next revision it wants.
    fn next(&self) -> i64 {
        let gone = self.gaps.last().map_or(1, |it| it.1);
        self.changes.last_key_value().map_or(1, |it| it.0 + 1).max(gone)
    }
}

/// A watcher of all keys from the first revision on, until the run is over; what it heard.
pub async fn watcher(world: Shared) -> Heard {
    let mut heard = Heard::default();
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

async fn hear(world: &Shared, life: &Life, heard: &mut Heard) {
    let mut feed = Feed::new(&life.hub, 1 << 20);
    let request = WatchCreateRequest {
        key: Bytes::from_static(b"k"),
        range_end: Bytes::from_static(b"m"),
        start_revision: heard.next(),
        ..WatchCreateRequest::default()
    };
    life.node.read(|state| feed.create(&state.kv, &request));
    loop {
        match feed.take() {
            Taken::Answer(answer) => {
                if answer.canceled && answer.compact_revision > heard.next() {
                    return heard.gaps.push((heard.next(), answer.compact_revision));
                }
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
                        let last = heard.changes.last_key_value().map_or(0, |it| *it.0);
                        if kv.mod_revision < last {
                            world.violated(format!(
                                "an event of {} after one of {last}",
                                kv.mod_revision
                            ));
                        }
                        let event = Event { key: text(&kv.key), value };
                        heard.changes.entry(kv.mod_revision).or_default().push(event);
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
pub fn check(heard: &Heard, changes: &Changes, history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    for (from, to) in &heard.gaps {
        if !history.was_compacted(*to) {
            wrong.push(format!("a watcher from {from} on was told of a compaction at {to}"));
        }
    }
    let Some((last, _)) = heard.changes.last_key_value() else { return wrong };
    let is_gone = |at: i64| heard.gaps.iter().any(|(from, to)| (*from..*to).contains(&at));
    let expected = changes.range(..=*last).filter(|it| !is_gone(*it.0));
    let all = heard.changes.iter().map(Some).chain(std::iter::repeat(None));
    for (expected, heard) in expected.map(Some).zip(all) {
        if expected != heard {
            wrong.push(format!("a watcher heard {heard:?} where {expected:?} was"));
            return wrong;
        }
    }
    wrong
}
