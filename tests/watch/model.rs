//! The hub and a stream's feed against what a watcher is to hear, written down plainly: every
//! change of its range since it began, in order, whole revisions, once.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;
use prost::Message;
use prost::bytes::{Bytes, BytesMut};
use quorate::node::mvcc::{Change, KeyRange, Record, Records, Revision, Seen, Store, StoreError};
use quorate::node::watch::{Answer, Feed, Hub, Limits, Taken, Watchers};
use quorate::proto::etcdserverpb::watch_create_request::FilterType;
use quorate::proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};

#[derive(Clone, Debug)]
enum Step {
    /// A transaction: puts and deletions of single keys; whether the hub is told of it at once.
    Write {
        keys: Vec<(u8, bool)>,
        tell: bool,
    },
    /// Keys from the first to the last are deleted.
    DeleteRange(u8, u8),
    /// A snapshot took the place of the state, and of everything nobody was told of.
    Replace,
    Compact(u8),
    Sweep,
    Create {
        from: u8,
        to: Option<u8>,
        start: Start,
        prev_kv: bool,
        filter: u8,
        fragment: bool,
    },
    Cancel(u8),
    Progress,
    Tick,
    /// The client reads so many answers.
    Read(u8),
}

#[derive(Clone, Copy, Debug)]
enum Start {
    Now,
    Past(u8),
    Future(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let start = prop_oneof![
        3 => Just(Start::Now),
        3 => (0_u8..40).prop_map(Start::Past),
        1 => (1_u8..10).prop_map(Start::Future),
    ];
    let keys = prop::collection::vec((0_u8..12, prop::bool::weighted(0.3)), 1..5);
    prop_oneof![
        12 => (keys, prop::bool::weighted(0.9)).prop_map(|(keys, tell)| Step::Write { keys, tell }),
        1 => (0_u8..12, 0_u8..12).prop_map(|(from, to)| Step::DeleteRange(from, to)),
        1 => Just(Step::Replace),
        1 => (0_u8..20).prop_map(Step::Compact),
        2 => Just(Step::Sweep),
        4 => (0_u8..12, prop::option::of(0_u8..14), start, any::<bool>(), 0_u8..4, any::<bool>())
            .prop_map(|(from, to, start, prev_kv, filter, fragment)| {
                Step::Create { from, to, start, prev_kv, filter, fragment }
            }),
        1 => any::<u8>().prop_map(Step::Cancel),
        1 => Just(Step::Progress),
        1 => Just(Step::Tick),
        6 => (1_u8..12).prop_map(Step::Read),
    ]
}

/// What is written, as a checkpoint has it.
#[derive(Default)]
struct Written(Mutex<BTreeMap<Revision, Record>>);

impl Records for Written {
    fn get(&self, at: Revision) -> Result<Option<Record>, StoreError> {
        Ok(self.0.lock().get(&at).cloned())
    }

    fn scan(
        &self,
        from: Revision,
        to: i64,
        see: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        for (_, record) in self.0.lock().range(from..) {
            if record.revision.main > to || see(record.seen()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// One watch, and what it has heard.
#[expect(clippy::struct_excessive_bools, reason = "what a client may ask for, one by one")]
struct Watcher {
    range: KeyRange,
    filter: u8,
    prev_kv: bool,
    fragment: bool,
    start: i64,
    heard: Vec<(i64, Bytes, bool)>,
    /// Up to here it said to have told everything.
    claimed: i64,
    /// The last answer was cut.
    is_cut: bool,
    is_over: bool,
}

struct World {
    records: Arc<Written>,
    store: Store,
    hub: Arc<Hub>,
    feed: Feed,
    /// Everything that ever happened.
    all: Vec<Change>,
    /// Up to here the hub was told, in order.
    told: i64,
    waiting: Vec<Change>,
    watchers: BTreeMap<i64, Watcher>,
    pending: Vec<Watcher>,
    most: usize,
}

fn key(n: u8) -> Bytes {
    // Beside them stand so many others that ranges are read by revision as well as by key.
    Bytes::from(format!("k{n:02}"))
}

impl World {
    fn new(buffer: usize, many: bool) -> World {
        let records = Arc::new(Written::default());
        let hub = Hub::new(Limits { buffer });
        let feed = Feed::new(&hub, 400);
        let store = Store::new(Arc::clone(&records) as Arc<dyn Records>);
        let mut world = World {
            records,
            store,
            hub,
            feed,
            all: Vec::new(),
            told: 1,
            waiting: Vec::new(),
            watchers: BTreeMap::new(),
            pending: Vec::new(),
            most: 4 * buffer + 500,
        };
        if many {
            let mut txn = world.store.begin();
            for n in 0..1500 {
                txn.put(format!("k05-{n}").as_bytes(), b"", 0).unwrap();
            }
            let changes = txn.commit();
            world.all.extend(changes.iter().cloned());
            world.waiting.extend(changes);
            world.tell();
        }
        world
    }

    fn tell(&mut self) {
        let revision = self.store.revision();
        self.hub.applied(&self.waiting, revision);
        self.waiting.clear();
        self.told = revision;
        assert!(self.feed.waiting() <= self.most, "{} wait", self.feed.waiting());
    }

    fn wrote(&mut self, changes: Vec<Change>, tell: bool) {
        self.all.extend(changes.iter().cloned());
        self.waiting.extend(changes);
        // What was left out is told with it: changes of several revisions at once.
        if tell && !self.waiting.is_empty() {
            self.tell();
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write { keys, tell } => {
                let mut txn = self.store.begin();
                for (n, (at, delete)) in keys.iter().enumerate() {
                    if keys[..n].iter().any(|it| it.0 == *at) {
                        continue; // etcd writes a key once in a transaction
                    }
                    if *delete {
                        txn.delete(&KeyRange::One(key(*at)), false).unwrap();
                    } else {
                        txn.put(&key(*at), format!("v{n}").as_bytes(), 0).unwrap();
                    }
                }
                let changes = txn.commit();
                self.wrote(changes, tell);
            }
            Step::DeleteRange(from, to) => {
                let mut txn = self.store.begin();
                txn.delete(&KeyRange::Span { from: key(from), to: key(to) }, false).unwrap();
                let changes = txn.commit();
                self.wrote(changes, true);
            }
            Step::Replace => {
                self.waiting.clear();
                self.hub.replaced();
            }
            Step::Compact(back) => {
                let _ = self.store.compact(self.store.revision() - i64::from(back));
            }
            Step::Sweep => {
                self.records.0.lock().extend(
                    self.store.take_new().into_iter().map(|record| (record.revision, record)),
                );
                self.store.written_up_to(i64::MAX, 0);
                for gone in self.store.sweep(usize::MAX) {
                    self.records.0.lock().remove(&gone);
                }
            }
            Step::Create { from, to, start, prev_kv, filter, fragment } => {
                self.create(from, to, start, prev_kv, filter, fragment);
            }
            Step::Cancel(n) => {
                let ids: Vec<i64> = self.watchers.keys().copied().collect();
                if let Some(id) = ids.get(usize::from(n) % ids.len().max(1)) {
                    self.feed.cancel(&self.store, *id);
                }
            }
            Step::Progress => self.feed.ask_progress(),
            Step::Tick => self.feed.tick(),
            Step::Read(count) => {
                for _ in 0..count {
                    if !self.read() {
                        break;
                    }
                }
            }
        }
    }

    fn create(
        &mut self,
        from: u8,
        to: Option<u8>,
        start: Start,
        prev_kv: bool,
        filter: u8,
        fragment: bool,
    ) {
        let revision = self.store.revision();
        let start_revision = match start {
            Start::Now => 0,
            Start::Past(back) => (revision - i64::from(back)).max(1),
            Start::Future(more) => revision + i64::from(more),
        };
        let range_end = match to {
            None => Bytes::new(),
            Some(13) => Bytes::from_static(b"\0"),
            Some(to) => key(to),
        };
        let mut filters = Vec::new();
        if filter & 1 > 0 {
            filters.push(FilterType::Noput.into());
        }
        if filter & 2 > 0 {
            filters.push(FilterType::Nodelete.into());
        }
        let request = WatchCreateRequest {
            key: key(from),
            range_end: range_end.clone(),
            start_revision,
            progress_notify: true,
            filters,
            prev_kv,
            watch_id: 0,
            fragment,
        };
        self.feed.create(&self.store, &request);
        let start = if start_revision == 0 { revision + 1 } else { start_revision };
        self.pending.push(Watcher {
            range: KeyRange::new(key(from), range_end),
            filter,
            prev_kv,
            fragment,
            start,
            heard: Vec::new(),
            claimed: 0,
            is_cut: false,
            is_over: false,
        });
    }

    /// Reads one answer, if there is one.
    fn read(&mut self) -> bool {
        loop {
            match self.feed.take() {
                Taken::Answer(answer) => {
                    self.check(answer);
                    return true;
                }
                Taken::Store => self.feed.look(&self.store).unwrap(),
                Taken::Nothing => return false,
            }
        }
    }

    fn check(&mut self, answer: Answer) {
        let mut bytes = BytesMut::new();
        let header = ResponseHeader { revision: answer.revision, ..ResponseHeader::default() };
        answer.encode(header, &mut bytes);
        let answer = WatchResponse::decode(bytes.freeze()).unwrap();
        let revision = answer.header.as_ref().unwrap().revision;
        if answer.created {
            let watcher = self.pending.remove(0);
            if answer.canceled {
                assert!(matches!(watcher.range, KeyRange::Span { from, to } if from >= to));
                assert_eq!(answer.watch_id, -1);
            } else {
                let before = self.watchers.insert(answer.watch_id, watcher);
                assert!(before.is_none_or(|it| it.is_over));
            }
            return;
        }
        if answer.watch_id == -1 {
            let live: Vec<i64> = self.watchers.keys().copied().collect();
            for id in live {
                self.claim(id, revision);
            }
            return;
        }
        let watcher = self.watchers.get_mut(&answer.watch_id).expect("it was created");
        assert!(!watcher.is_over, "nothing is said after the end");
        if answer.canceled {
            watcher.is_over = true;
            if answer.compact_revision > 0 {
                assert_eq!(answer.compact_revision, self.store.compacted());
                assert!(!watcher.is_cut);
                let next = watcher.heard.last().map_or(watcher.start, |it| it.0 + 1);
                assert!(next < answer.compact_revision, "it lagged");
            }
            return;
        }
        if answer.events.is_empty() {
            self.claim(answer.watch_id, revision);
            return;
        }
        for (n, event) in answer.events.iter().enumerate() {
            let kv = event.kv.as_ref().unwrap();
            let main = kv.mod_revision;
            if n == 0 && !watcher.is_cut {
                let last = watcher.heard.last().map_or(0, |it| it.0);
                assert!(main > last, "a revision is split");
            }
            assert!(main > watcher.claimed && revision >= main);
            watcher.heard.push((main, kv.key.clone(), event.r#type == 1));
            let place = self
                .all
                .iter()
                .rposition(|it| it.record.revision.main == main && it.record.kv.key == kv.key);
            let place = place.expect("it has happened");
            assert_eq!(&self.all[place].record.kv, kv);
            let earlier = self.all[..place].iter().rev().find(|it| it.record.kv.key == kv.key);
            let earlier = earlier.filter(|it| !it.record.tombstone).map(|it| &it.record.kv);
            match &event.prev_kv {
                Some(previous) => assert_eq!(Some(previous), earlier),
                None if watcher.prev_kv && earlier.is_some() => {
                    assert!(main <= self.store.compacted(), "what was before is still there");
                }
                None => {}
            }
            assert!(watcher.prev_kv || event.prev_kv.is_none());
        }
        assert!(watcher.fragment || !answer.fragment);
        assert!(!answer.fragment || answer.events.len() == 1 || answer.encoded_len() <= 400);
        watcher.is_cut = answer.fragment;
    }

    /// Everything up to a revision was told, it says.
    fn claim(&mut self, id: i64, revision: i64) {
        let due = self.due(id, revision);
        let watcher = self.watchers.get_mut(&id).unwrap();
        if watcher.is_over {
            return;
        }
        assert!(revision <= self.store.revision());
        assert_eq!(watcher.heard, due, "told everything up to {revision}");
        watcher.claimed = revision;
    }

    fn due(&self, id: i64, until: i64) -> Vec<(i64, Bytes, bool)> {
        let watcher = &self.watchers[&id];
        let wanted = self.all.iter().map(|it| &it.record).filter(|it| {
            (watcher.start..=until).contains(&it.revision.main)
                && watcher.range.contains(&it.kv.key)
                && watcher.filter & (if it.tombstone { 2 } else { 1 }) == 0
        });
        wanted.map(|it| (it.revision.main, it.kv.key.clone(), it.tombstone)).collect()
    }

    /// All is read to the end; now each has heard everything, or was told that it is gone.
    fn finish(mut self) {
        if !self.waiting.is_empty() {
            self.tell();
        }
        while self.read() {}
        assert!(self.pending.is_empty());
        for (id, watcher) in &self.watchers {
            let due = self.due(*id, self.store.revision());
            if watcher.is_over {
                assert!(due.starts_with(&watcher.heard), "{id}");
            } else {
                assert_eq!(watcher.heard, due, "{id}");
            }
        }
        let live = self.watchers.values().filter(|it| !it.is_over).count();
        let figures = self.hub.figures();
        assert_eq!(usize::try_from(figures.watches).unwrap(), live);
        assert_eq!((figures.lagging, figures.streams), (0, 1));
        drop(self.feed);
        assert_eq!(self.hub.figures(), quorate::node::watch::Figures::default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn everyone_hears_everything_once_and_in_order_or_is_told_that_it_is_gone(
        steps in prop::collection::vec(step(), 1..120),
        buffer in prop_oneof![Just(150_usize), Just(600), Just(1 << 20)],
        many in prop::bool::weighted(0.3),
    ) {
        let mut world = World::new(buffer, many);
        for step in steps {
            world.step(step);
        }
        world.finish();
    }
}
