//! The store beside a list of all that ever happened: random transactions, reads at old
//! revisions, compactions and sweeps give the same, whatever is in memory and whatever is written.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;
use quorate::node::mvcc::{
    Change, KeyRange, ReadError, Record, Records, Revision, Seen, Store, StoreError,
};
use quorate::proto::mvccpb::KeyValue;

/// What is written, as it would lie on a disk, and what is to be deleted there.
#[derive(Default)]
struct Disk(Mutex<BTreeMap<Revision, Bytes>>, Mutex<Vec<Revision>>);

impl Disk {
    fn take(&self, store: &mut Store, sweep: usize) {
        let mut disk = self.0.lock().unwrap();
        for record in store.take_new() {
            disk.insert(record.revision, record.encode());
        }
        let mut going = self.1.lock().unwrap();
        for gone in store.sweep(sweep) {
            assert!(disk.contains_key(&gone), "{gone:?} was told to be deleted and never was");
            going.push(gone);
        }
    }

    /// Deletes what it was told to.
    fn delete(&self) -> u64 {
        let mut disk = self.0.lock().unwrap();
        let going: Vec<_> = self.1.lock().unwrap().drain(..).collect();
        for gone in &going {
            assert!(disk.remove(gone).is_some(), "{gone:?} was told to be deleted twice");
        }
        going.len() as u64
    }
}

impl Records for Disk {
    fn get(&self, at: Revision) -> Result<Option<Record>, StoreError> {
        self.0.lock().unwrap().get(&at).map(|bytes| Record::decode(at, bytes)).transpose()
    }

    fn scan(
        &self,
        from: Revision,
        to: i64,
        see: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let all: Vec<_> = {
            let disk = self.0.lock().unwrap();
            disk.range(from..)
                .take_while(|(at, _)| at.main <= to)
                .map(|(a, b)| (*a, b.clone()))
                .collect()
        };
        for (at, bytes) in all {
            if see(Seen::decode(at, &bytes)?).is_break() {
                break;
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Write {
    Put(u8, u8),
    Delete(u8, u8),
}

#[derive(Clone, Debug)]
enum Op {
    /// All of it, and whether it is committed.
    Txn(Vec<Write>, bool),
    Compact(u8),
    /// Forgets of so many keys what was compacted.
    Forget(usize),
    /// Deletes what was swept.
    Delete,
    /// Takes what is new, sweeps up to so much, and says up to where it is written.
    Persist(usize, u8),
    Reopen,
    /// A scan that is held for a while.
    Hold,
    LetGo,
}

fn key(n: u8) -> Bytes {
    // Among them NUL, 0xff, a separator, and prefixes of each other.
    const KEYS: [&[u8]; 8] = [b"\0", b"a", b"a:", b"a:b", b"a\0", b"b", b"\xff", b"\xff\xff"];
    Bytes::from_static(KEYS[usize::from(n) % KEYS.len()])
}

fn range(from: u8, to: u8) -> KeyRange {
    let end = match to % 10 {
        8 => Bytes::new(),
        9 => Bytes::from_static(&[0]),
        n => key(n),
    };
    KeyRange::new(key(from), end)
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let write = prop_oneof![
        3 => (any::<u8>(), any::<u8>()).prop_map(|(k, v)| Write::Put(k, v)),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(a, b)| Write::Delete(a, b)),
    ];
    let op = prop_oneof![
        8 => (prop::collection::vec(write, 0..4), prop::bool::weighted(0.8))
            .prop_map(|(w, c)| Op::Txn(w, c)),
        1 => any::<u8>().prop_map(Op::Compact),
        2 => (1..6_usize).prop_map(Op::Forget),
        1 => Just(Op::Delete),
        2 => (0..6_usize, any::<u8>()).prop_map(|(s, w)| Op::Persist(s, w)),
        1 => Just(Op::Reopen),
        1 => Just(Op::Hold),
        1 => Just(Op::LetGo),
    ];
    prop::collection::vec(op, 1..60)
}

/// Every state there ever was, and every change.
#[derive(Default)]
struct Model {
    states: Vec<BTreeMap<Bytes, KeyValue>>,
    changes: Vec<(Revision, KeyValue, bool)>,
    compacted: i64,
}

impl Model {
    fn revision(&self) -> i64 {
        i64::try_from(self.states.len()).unwrap()
    }

    fn at(&self, revision: i64) -> BTreeMap<Bytes, KeyValue> {
        self.states[usize::try_from(revision - 1).unwrap()].clone()
    }

    fn txn(&mut self, writes: &[Write], commit: bool) {
        let mut now = self.states.last().unwrap().clone();
        let main = self.revision() + 1;
        let mut changes = Vec::new();
        let sub = |changes: &Vec<_>| Revision { main, sub: i64::try_from(changes.len()).unwrap() };
        for write in writes {
            match write {
                Write::Put(k, v) => {
                    let before = now.get(&key(*k));
                    let kv = KeyValue {
                        key: key(*k),
                        value: vec![*v; usize::from(*v % 5)].into(),
                        create_revision: before.map_or(main, |it| it.create_revision),
                        mod_revision: main,
                        version: before.map_or(1, |it| it.version + 1),
                        lease: i64::from(*v % 2),
                    };
                    changes.push((sub(&changes), kv.clone(), false));
                    now.insert(kv.key.clone(), kv);
                }
                Write::Delete(from, to) => {
                    let range = range(*from, *to);
                    let keys: Vec<_> =
                        now.keys().filter(|it| range.contains(it)).cloned().collect();
                    for key in keys {
                        now.remove(&key);
                        let kv = KeyValue { key, mod_revision: main, ..KeyValue::default() };
                        changes.push((sub(&changes), kv, true));
                    }
                }
            }
        }
        if commit && !changes.is_empty() {
            self.states.push(now);
            self.changes.extend(changes);
        }
    }
}

fn run(store: &mut Store, writes: &[Write], commit: bool) -> Vec<Change> {
    let mut txn = store.begin();
    for write in writes {
        match write {
            Write::Put(k, v) => {
                txn.put(&key(*k), &vec![*v; usize::from(*v % 5)], i64::from(*v % 2)).unwrap();
            }
            Write::Delete(from, to) => {
                let range = range(*from, *to);
                let seen = txn.range(&range, 0, 0, false).unwrap();
                let deleted = txn.delete(&range, true).unwrap();
                assert_eq!(deleted.previous, seen.kvs);
            }
        }
    }
    if commit { txn.commit() } else { Vec::new() }
}

fn compare(store: &Store, model: &Model) {
    assert_eq!(store.revision(), model.revision());
    let everything = KeyRange::From(Bytes::from_static(&[0]));
    for revision in 1..=model.revision() {
        let found = store.range(&everything, revision, 0, false);
        if revision < model.compacted {
            assert!(matches!(found, Err(ReadError::Compacted)));
            continue;
        }
        let state = model.at(revision);
        let found = found.unwrap();
        assert_eq!(found.kvs, state.values().cloned().collect::<Vec<_>>());
        let limited = store.range(&everything, revision, 2, false).unwrap();
        assert_eq!(limited.kvs, found.kvs[..found.kvs.len().min(2)]);
        assert_eq!(limited.count, i64::try_from(state.len()).unwrap());
        for n in 0..8 {
            for m in 0..10 {
                let some = range(n, m);
                let expected = state.keys().filter(|it| some.contains(it)).count();
                let found = store.range(&some, revision, 0, true).unwrap();
                assert_eq!(found.count, i64::try_from(expected).unwrap());
            }
        }
    }
    assert!(matches!(
        store.range(&everything, model.revision() + 1, 0, false),
        Err(ReadError::Future)
    ));
    // Whoever watches sees every change that a compaction has not given up, in chunks as well.
    let from = model.compacted.max(1);
    let expected: Vec<_> =
        model.changes.iter().filter(|it| it.0.main > from || kept(model, it)).collect();
    let expected: Vec<_> = expected.into_iter().filter(|it| it.0.main >= from).collect();
    for max in [0, 1, 3] {
        let mut seen = Vec::new();
        let mut next = from;
        while next <= store.revision() {
            let (changes, then) = store.changes(next, store.revision(), &everything, max).unwrap();
            assert!(then > next, "it does not go on");
            seen.extend(changes);
            next = then;
        }
        let seen: Vec<_> = seen
            .iter()
            .map(|it| (it.record.revision, &it.record.kv, it.record.tombstone))
            .collect();
        let expected: Vec<_> = expected.iter().map(|it| (it.0, &it.1, it.2)).collect();
        assert_eq!(seen, expected, "in chunks of {max}");
    }
}

/// At the compacted revision itself every newest change of a key is kept, deletions as well.
fn kept(model: &Model, change: &(Revision, KeyValue, bool)) -> bool {
    let later = |it: &&(Revision, KeyValue, bool)| {
        it.1.key == change.1.key && it.0 > change.0 && it.0.main <= model.compacted
    };
    change.0.main == model.compacted.max(1) && !model.changes.iter().any(|it| later(&it))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_what_a_list_of_all_that_happened_says(ops in ops()) {
        let disk = Arc::new(Disk::default());
        let mut store = Store::new(disk.clone());
        // Another member, that forgets, writes and sweeps at other times: never.
        let mut lazy = Store::new(Arc::new(Disk::default()));
        let mut model = Model { states: vec![BTreeMap::new()], ..Model::default() };
        let mut held = Vec::new();
        let (mut taken, mut deleted) = (0, 0);
        for op in ops {
            match op {
                Op::Txn(writes, commit) => {
                    let changes = run(&mut store, &writes, commit);
                    run(&mut lazy, &writes, commit);
                    model.txn(&writes, commit);
                    for change in &changes {
                        let before = store.before(change).unwrap();
                        let at = change.record.revision;
                        let earlier = model.changes.iter().rfind(|it| {
                            it.1.key == change.record.kv.key && it.0.main < at.main
                        });
                        let expected = earlier.filter(|it| !it.2).map(|it| it.1.clone());
                        prop_assert_eq!(before, expected);
                    }
                }
                Op::Compact(n) => {
                    let revision = i64::from(n) % (model.revision() + 2);
                    let expected = if revision <= model.compacted {
                        Err(ReadError::Compacted)
                    } else if revision > model.revision() {
                        Err(ReadError::Future)
                    } else {
                        model.compacted = revision;
                        Ok(())
                    };
                    prop_assert_eq!(store.compact(revision), expected.clone());
                    prop_assert_eq!(lazy.compact(revision), expected);
                }
                Op::Forget(keys) => store.forget(keys),
                Op::Delete => {
                    deleted += disk.delete();
                    store.written_up_to(taken, deleted);
                }
                Op::Persist(sweep, written) => {
                    disk.take(&mut store, sweep);
                    taken = model.revision();
                    store.written_up_to(i64::from(written) % (taken + 2), deleted);
                }
                Op::Reopen if held.is_empty() => {
                    disk.take(&mut store, 0);
                    disk.delete();
                    taken = model.revision();
                    deleted = 0;
                    store = Store::open(disk.clone(), store.revision(), store.compacted()).unwrap();
                }
                Op::Reopen => {}
                Op::Hold => held.push((store.scan(0).unwrap(), store.hash(0).unwrap())),
                Op::LetGo => {
                    for (scan, hash) in held.drain(..) {
                        // It reads what was there when it was made, whatever came since.
                        prop_assert_eq!(scan.hash().unwrap(), hash);
                    }
                }
            }
        }
        for (scan, hash) in held {
            prop_assert_eq!(scan.hash().unwrap(), hash);
        }
        // What is not forgotten yet makes no difference.
        compare(&store, &model);
        compare(&lazy, &model);
        for store in [&mut store, &mut lazy] {
            while store.is_forgetting() {
                store.forget(3);
            }
        }
        prop_assert_eq!(store.bytes(), lazy.bytes());
        compare(&store, &model);
        for revision in model.compacted.max(1)..=model.revision() {
            prop_assert_eq!(store.hash(revision).unwrap(), lazy.hash(revision).unwrap());
        }
    }
}

#[test]
fn a_scan_goes_on_where_it_broke_off() {
    let disk = Arc::new(Disk::default());
    let mut store = Store::new(disk.clone());
    for n in 0..20 {
        run(&mut store, &[Write::Put(n, n), Write::Put(n + 1, n)], true);
        if n == 9 {
            disk.take(&mut store, 0);
            store.written_up_to(8, 0);
        }
    }
    let scan = store.scan(0).unwrap();
    let mut all = Vec::new();
    scan.each(Revision::default(), &mut |it| {
        all.push(it.revision);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(all.len(), 40);
    let mut parts = Vec::new();
    let mut from = Revision::default();
    loop {
        let mut part = Vec::new();
        scan.each(from, &mut |it| {
            part.push(it.revision);
            if part.len() == 7 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
        let Some(last) = part.last() else { break };
        from = Revision { main: last.main, sub: last.sub + 1 };
        parts.extend(part);
    }
    assert_eq!(parts, all);
}
