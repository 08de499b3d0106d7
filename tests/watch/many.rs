//! What a put costs when many watch.

use std::time::{Duration, Instant};

use quorate::node::mvcc::{Change, KeyRange, Records, Store};
use quorate::node::watch::{Feed, Hub, Limits, Taken, Watchers};
use quorate::proto::etcdserverpb::WatchCreateRequest;

struct Nowhere;

impl Records for Nowhere {
    fn get(
        &self,
        _: quorate::node::mvcc::Revision,
    ) -> Result<Option<quorate::node::mvcc::Record>, quorate::node::mvcc::StoreError> {
        Ok(None)
    }

    fn scan(
        &self,
        _: quorate::node::mvcc::Revision,
        _: i64,
        _: &mut dyn FnMut(quorate::node::mvcc::Seen<'_>) -> std::ops::ControlFlow<()>,
    ) -> Result<(), quorate::node::mvcc::StoreError> {
        Ok(())
    }
}

const WATCHES: usize = 10_000;
const PUTS: usize = 20_000;
/// Puts that are measured together.
const SOME: usize = 1000;

fn key(n: usize) -> String {
    format!("/registry/pods/{:05}", n % WATCHES)
}

/// Tells of all changes; what some of them take when nobody else has the machine meanwhile.
fn tell(hub: &Hub, changes: &[Change]) -> Duration {
    let tell = |some: &[Change]| {
        #[allow(clippy::disallowed_methods, reason = "a measurement")]
        let begun = Instant::now();
        for change in some {
            hub.applied(std::slice::from_ref(change), change.record.revision.main);
        }
        begun.elapsed()
    };
    changes.chunks(SOME).map(tell).min().unwrap()
}

#[test]
fn ten_thousand_watches_of_their_own_keys_cost_a_put_what_one_does() {
    let mut store = Store::new(std::sync::Arc::new(Nowhere));
    let mut costs = Vec::new();
    for (what, watches) in [("one", 1), ("keys", WATCHES), ("prefixes", WATCHES)] {
        let hub = Hub::new(Limits::default());
        let mut feeds: Vec<Feed> = (0..100).map(|_| Feed::new(&hub, 1 << 20)).collect();
        for n in 0..watches {
            let key = key(n).into_bytes();
            let mut range_end = key.clone();
            *range_end.last_mut().unwrap() += 1;
            let range_end = if what == "prefixes" { range_end } else { Vec::new() };
            let request = WatchCreateRequest {
                key: key.into(),
                range_end: range_end.into(),
                ..WatchCreateRequest::default()
            };
            feeds[n % 100].create(&store, &request);
        }
        let mut changes = Vec::new();
        for n in 0..PUTS {
            let mut txn = store.begin();
            txn.put(key(n * 7919).as_bytes(), b"value", 0).unwrap();
            changes.extend(txn.commit());
        }
        let took = tell(&hub, &changes);
        println!("{what}: {} ns a put", took.as_nanos() / SOME as u128);
        costs.push(took);
        let mut events = 0;
        for feed in &mut feeds {
            while let Taken::Answer(answer) = feed.take() {
                events += answer.events.len();
            }
        }
        assert_eq!(events, if watches == 1 { PUTS / WATCHES } else { PUTS });
        assert_eq!(hub.figures().lagging, 0);
    }
    // O(watches) would be thousands of times as much; a machine under load is not.
    let limit = (costs[0] * 100).max(Duration::from_millis(50));
    assert!(costs[1] < limit && costs[2] < limit, "{costs:?}");
    let all = KeyRange::From("".into());
    assert_eq!(store.range(&all, 0, 1, false).unwrap().count, i64::try_from(WATCHES).unwrap());
}
