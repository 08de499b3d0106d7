//! Several changes at one revision.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

use super::error::{ReadError, StoreError};
use super::index::Life;
use super::range::KeyRange;
use super::revision::{Record, Revision};
use super::store::{Change, Ranged, Store};
use crate::proto::mvccpb::KeyValue;

/// A transaction: sees its own writes, and leaves nothing behind unless it is committed.
#[derive(Debug)]
pub struct Txn<'a> {
    store: &'a mut Store,
    own: Vec<Record>,
    /// Where in `own` each key was last changed.
    last: BTreeMap<Bytes, usize>,
}

/// What a deletion took away.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deleted {
    /// The names of the keys, ascending.
    pub keys: Vec<Bytes>,
    /// The keys as they were, if that was asked for.
    pub previous: Vec<KeyValue>,
}

impl<'a> Txn<'a> {
    pub(super) fn new(store: &'a mut Store) -> Txn<'a> {
        Txn { store, own: Vec::new(), last: BTreeMap::new() }
    }

    /// The revision as seen from inside: its own once something is written.
    pub fn revision(&self) -> i64 {
        self.store.revision + i64::from(!self.own.is_empty())
    }

    /// As [`Store::range`], with what is written here; only an older revision is without it.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn range(
        &self,
        range: &KeyRange,
        at: i64,
        limit: usize,
        count_only: bool,
    ) -> Result<Ranged, ReadError> {
        let is_now = at <= 0 || at == self.revision();
        if !is_now || self.own.is_empty() {
            let found = self.store.range(range, at, limit, count_only)?;
            return Ok(Ranged { revision: self.revision(), ..found });
        }
        let limit = if limit == 0 { usize::MAX } else { limit };
        let found = self.live(range);
        let count = i64::try_from(found.len()).unwrap_or(i64::MAX);
        let wanted = found.into_iter().take(if count_only { 0 } else { limit });
        let kvs = wanted.map(|(_, place)| self.at(place)).collect::<Result<_, _>>()?;
        Ok(Ranged { kvs, count, revision: self.revision() })
    }

    /// One key as it is now.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn one(&self, key: &[u8]) -> Result<Option<KeyValue>, StoreError> {
        let found = self.live(&KeyRange::One(Bytes::copy_from_slice(key))).pop();
        found.map(|(_, place)| self.at(place)).transpose()
    }

    /// Writes a key; copies both.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: i64) -> Result<(), StoreError> {
        let main = self.store.revision + 1;
        let before = match self.last.get(key) {
            Some(own) => {
                let record = &self.own[*own];
                let Record { kv, tombstone, .. } = record;
                let life = Life { created: kv.create_revision, version: kv.version };
                (!tombstone).then_some(life)
            }
            None => self.store.index.life(key),
        };
        // One allocation for both.
        let mut both = BytesMut::with_capacity(key.len() + value.len());
        both.put_slice(key);
        both.put_slice(value);
        let both = both.freeze();
        let kv = KeyValue {
            key: both.slice(..key.len()),
            value: both.slice(key.len()..),
            create_revision: before.map_or(main, |it| it.created),
            mod_revision: main,
            version: before.map_or(1, |it| it.version + 1),
            lease,
        };
        self.write(kv, false);
        Ok(())
    }

    /// Deletes the keys of a range, ascending.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn delete(&mut self, range: &KeyRange, with_previous: bool) -> Result<Deleted, StoreError> {
        let main = self.store.revision + 1;
        let mut deleted = Deleted::default();
        for (key, place) in self.live(range) {
            if with_previous {
                deleted.previous.push(self.at(place)?);
            }
            let kv = KeyValue { key: key.clone(), mod_revision: main, ..KeyValue::default() };
            self.write(kv, true);
            deleted.keys.push(key);
        }
        Ok(deleted)
    }

    /// Makes it so, and tells what has changed. Nothing written is no revision.
    pub fn commit(self) -> Vec<Change> {
        let Txn { store, own, .. } = self;
        if own.is_empty() {
            return Vec::new();
        }
        store.revision += 1;
        for record in &own {
            store.note(&record.seen());
        }
        store.tail.extend(own.iter().cloned());
        own.into_iter().map(|record| Change { record }).collect()
    }

    fn write(&mut self, kv: KeyValue, tombstone: bool) {
        let sub = i64::try_from(self.own.len()).unwrap_or(i64::MAX);
        let revision = Revision { main: self.store.revision + 1, sub };
        self.last.insert(kv.key.clone(), self.own.len());
        self.own.push(Record { revision, kv, tombstone });
    }

    /// The keys of a range as they are now, and where each last changed.
    fn live(&self, range: &KeyRange) -> Vec<(Bytes, Place)> {
        let before = self.store.index.live(range, self.store.revision);
        let before = before.map(|(key, at)| (Bytes::copy_from_slice(key), Place::Before(at)));
        let own: Vec<_> = self.last.iter().filter(|(key, _)| range.contains(key)).collect();
        if own.is_empty() {
            return before.collect();
        }
        let mut all: BTreeMap<_, _> = before.collect();
        for (key, at) in own {
            if self.own[*at].tombstone {
                all.remove(key);
            } else {
                all.insert(key.clone(), Place::Own(*at));
            }
        }
        all.into_iter().collect()
    }

    fn at(&self, place: Place) -> Result<KeyValue, StoreError> {
        match place {
            Place::Own(at) => Ok(self.own[at].kv.clone()),
            Place::Before(at) => Ok(self.store.record(at)?.kv),
        }
    }
}

/// Where a key last changed, seen from inside a transaction.
#[derive(Clone, Copy, Debug)]
enum Place {
    Own(usize),
    Before(Revision),
}
