//! The store itself: what is in memory, and how it is read.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::error::{ReadError, StoreError};
use super::index::{Index, Life, Mark};
use super::range::KeyRange;
use super::revision::{Record, Revision, Seen};
use super::scan::{Counts, Hashed, Scan};
use super::txn::Txn;
use crate::proto::mvccpb::KeyValue;

/// Where records are that are not in memory any more.
pub trait Records: Send + Sync {
    /// One record; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: what could not be read is not missing.
    fn get(&self, at: Revision) -> Result<Option<Record>, StoreError>;

    /// Shows the records from one place on, up to all those of a revision, in order, until told
    /// to break off.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn scan(
        &self,
        from: Revision,
        to_main_inclusive: i64,
        see: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;
}

/// What a range held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranged {
    /// The keys, ascending; at most as many as asked for.
    pub kvs: Vec<KeyValue>,
    /// How many there were in all.
    pub count: i64,
    /// The store's revision.
    pub revision: i64,
}

/// One change, as those are told who watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The key, and what became of it.
    pub record: Record,
}

/// The store.
pub struct Store {
    pub(super) index: Index,
    records: Arc<dyn Records>,
    /// The newest records: those not known to be written, and any after them.
    pub(super) tail: VecDeque<Record>,
    /// What was taken for writing, up to here.
    taken: Revision,
    pub(super) revision: i64,
    pub(super) bytes: u64,
    /// Records that nothing leads to any more, to be deleted where they are kept.
    gone: BTreeSet<Revision>,
    /// Those that were handed out for that and may still be there; after how many others.
    leaving: VecDeque<Revision>,
    left: u64,
    /// Held by every scan: nothing is deleted under it.
    hold: Arc<()>,
}

impl Store {
    /// An empty store. Its revision is 1: the first transaction makes 2, as in etcd.
    pub fn new(records: Arc<dyn Records>) -> Store {
        Store {
            index: Index::default(),
            records,
            tail: VecDeque::new(),
            taken: Revision::default(),
            revision: 1,
            bytes: 0,
            gone: BTreeSet::new(),
            leaving: VecDeque::new(),
            left: 0,
            hold: Arc::new(()),
        }
    }

    /// The store as it was at a revision, from records that are written.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if they cannot be read, or do not follow from each other.
    pub fn open(
        records: Arc<dyn Records>,
        revision: i64,
        compacted: i64,
    ) -> Result<Store, StoreError> {
        Store::open_showing(records, revision, compacted, |_| {})
    }

    /// As [`Store::open`], showing each record that it reads.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open_showing(
        records: Arc<dyn Records>,
        revision: i64,
        compacted: i64,
        mut show: impl FnMut(&Seen<'_>),
    ) -> Result<Store, StoreError> {
        let mut store = Store::new(Arc::clone(&records));
        let mut wrong = None;
        let mut last = Revision::default();
        records.scan(Revision::default(), revision, &mut |record| {
            if record.revision <= last {
                wrong =
                    Some(format!("revision {} stands after {}", record.revision.main, last.main));
                return ControlFlow::Break(());
            }
            last = record.revision;
            store.note(&record);
            show(&record);
            ControlFlow::Continue(())
        })?;
        if let Some(what) = wrong {
            return Err(StoreError::Damaged(what));
        }
        store.revision = revision;
        store.taken = Revision { main: revision, sub: i64::MAX };
        store.index.compact(compacted);
        store.forget(usize::MAX);
        Ok(store)
    }

    /// The revision of the last transaction.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Up to where history is given up; 0 if nothing ever was.
    pub fn compacted(&self) -> i64 {
        self.index.compacted()
    }

    /// Bytes of every record that something leads to: the same on every member, once what was
    /// compacted is forgotten.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keys in memory, deleted ones with history among them.
    pub fn keys(&self) -> usize {
        self.index.len()
    }

    /// The keys of a range at a revision; `at` of 0 or less means now, a `limit` of 0 all of them.
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
        let at = self.readable(at)?;
        let limit = if limit == 0 { usize::MAX } else { limit };
        let (mut kvs, mut count) = (Vec::new(), 0);
        for (_, place) in self.index.live(range, at) {
            count += 1;
            if !count_only && kvs.len() < limit {
                kvs.push(self.record(place)?.kv);
            }
        }
        Ok(Ranged { kvs, count, revision: self.revision })
    }

    /// The revision a read means, if it can be read.
    pub(super) fn readable(&self, at: i64) -> Result<i64, ReadError> {
        match at {
            _ if at > self.revision => Err(ReadError::Future),
            ..=0 => Ok(self.revision),
            _ if at < self.compacted() => Err(ReadError::Compacted),
            _ => Ok(at),
        }
    }

    /// Begins a transaction: all that is written in it is one revision. Dropped without
    /// [`Txn::commit`], it leaves nothing behind.
    pub fn begin(&mut self) -> Txn<'_> {
        Txn::new(self)
    }

    /// The changes of a range from one revision to another, oldest first, and the revision to go
    /// on from. At most `max` changes (0: all of them), but a revision is never split.
    ///
    /// # Errors
    ///
    /// [`ReadError::Compacted`] if history before `from` is all there is.
    pub fn changes(
        &self,
        from: i64,
        to: i64,
        range: &KeyRange,
        max: usize,
    ) -> Result<(Vec<Change>, i64), ReadError> {
        if from < self.compacted() {
            return Err(ReadError::Compacted);
        }
        let to = to.min(self.revision);
        let places = self.index.changes(range, from, to, max);
        let next = match places.last() {
            Some(last) if max > 0 && places.len() >= max => last.main + 1,
            _ => to + 1,
        };
        let changes = places.into_iter().map(|at| Ok(Change { record: self.record(at)? }));
        Ok((changes.collect::<Result<_, StoreError>>()?, next))
    }

    /// The key of a change as it was before the transaction that changed it; `None` if it was not
    /// there, or if that is compacted away. What a transaction writes and deletes again was not
    /// there for anybody (etcd reads at the revision before, too).
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn before(&self, change: &Change) -> Result<Option<KeyValue>, StoreError> {
        let record = &change.record;
        let place = self.index.before(&record.kv.key, record.revision.main);
        place.map(|at| Ok(self.record(at)?.kv)).transpose()
    }

    /// Gives up history up to a revision, at which and after which all can still be read. What takes
    /// longer the more keys there are is left to [`Store::forget`].
    ///
    /// # Errors
    ///
    /// [`ReadError::Compacted`] if that was done before, [`ReadError::Future`].
    pub fn compact(&mut self, revision: i64) -> Result<(), ReadError> {
        if revision <= self.compacted() {
            return Err(ReadError::Compacted);
        }
        if revision > self.revision {
            return Err(ReadError::Future);
        }
        self.index.compact(revision);
        Ok(())
    }

    /// Whether there is more to [`Store::forget`].
    pub fn is_forgetting(&self) -> bool {
        self.index.is_forgetting()
    }

    /// Forgets of so many keys what compaction has given up. It makes no difference to a reader; that
    /// it is done in parts lets others in between.
    pub fn forget(&mut self, keys: usize) {
        let Store { index, gone, bytes, .. } = self;
        index.forget(keys, |at, size| {
            gone.insert(at);
            *bytes = bytes.saturating_sub(size);
        });
    }

    /// Some of the records that a compaction made unreachable, to be deleted where they are kept;
    /// each is told once. None while a [`Scan`] may still want them or not all are known, as those
    /// that stand together go cheapest together, and none that was not taken for writing yet.
    pub fn sweep(&mut self, limit: usize) -> Vec<Revision> {
        if Arc::strong_count(&self.hold) > 1 || self.is_forgetting() {
            return Vec::new();
        }
        let mut swept = Vec::new();
        while swept.len() < limit
            && let Some(at) = self.gone.first().filter(|at| **at <= self.taken).copied()
        {
            self.gone.remove(&at);
            swept.push(at);
        }
        self.leaving.extend(&swept);
        swept
    }

    /// The records that came since the last call, oldest first, to be written.
    pub fn take_new(&mut self) -> Vec<Record> {
        let begin = self.tail.partition_point(|it| it.revision <= self.taken);
        let new: Vec<_> = self.tail.range(begin..).cloned().collect();
        if let Some(last) = new.last() {
            self.taken = last.revision;
        }
        new
    }

    /// Says that all records up to a revision can be had from [`Records`] now, and that of all that
    /// [`Store::sweep`] ever gave so many, of revisions up to there, cannot be had any more.
    pub fn written_up_to(&mut self, main: i64, removed: u64) {
        let main = main.min(self.taken.main);
        let end = self.tail.partition_point(|it| it.revision.main <= main);
        self.tail.drain(..end);
        while self.left < removed && self.leaving.pop_front().is_some() {
            self.left += 1;
        }
        // What a burst took is given back.
        if self.tail.is_empty() {
            self.tail.shrink_to(1024);
        }
        if self.leaving.is_empty() {
            self.leaving.shrink_to(1024);
        }
    }

    /// Bytes of the records held in memory.
    pub fn bytes_in_memory(&self) -> u64 {
        self.tail.iter().map(Record::size).sum()
    }

    /// A hash of all records up to a revision (0: now) that something leads to: the same on every
    /// member that was compacted to the same revision.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn hash(&self, at: i64) -> Result<Hashed, ReadError> {
        Ok(self.scan(at)?.hash()?)
    }

    /// All records up to a revision (0: now) that something leads to, to be read in peace, on
    /// another thread, while writes go on.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn scan(&self, at: i64) -> Result<Scan, ReadError> {
        let at = self.readable(at)?;
        let end = self.tail.partition_point(|it| it.revision.main <= at);
        Ok(Scan {
            records: Arc::clone(&self.records),
            tail: self.tail.range(..end).cloned().collect(),
            counts: self.counts(),
            revision: at,
            compacted: self.compacted(),
            _hold: Arc::clone(&self.hold),
        })
    }

    /// Which records of the compacted time count. What does not is less than what does, but it is
    /// not known before all of it is forgotten.
    fn counts(&self) -> Counts {
        if self.is_forgetting() {
            return Counts::These(self.index.kept());
        }
        let mut not: Vec<_> = self.gone.iter().chain(&self.leaving).copied().collect();
        not.sort_unstable();
        Counts::AllBut(not)
    }

    pub(super) fn records(&self) -> &dyn Records {
        &*self.records
    }

    pub(super) fn record(&self, at: Revision) -> Result<Record, StoreError> {
        if self.tail.front().is_some_and(|first| first.revision <= at)
            && let Ok(found) = self.tail.binary_search_by_key(&at, |it| it.revision)
        {
            return Ok(self.tail[found].clone());
        }
        let missing = || StoreError::Damaged(format!("revision {}.{} is missing", at.main, at.sub));
        self.records.get(at)?.ok_or_else(missing)
    }

    /// Takes a record into the index.
    pub(super) fn note(&mut self, record: &Seen<'_>) {
        let size = record.size();
        let mark = Mark { at: record.revision, is_delete: record.tombstone, size };
        let life = if record.tombstone {
            Life { created: 0, version: 0 }
        } else {
            Life { created: record.created, version: record.version }
        };
        self.index.note(record.key, mark, life);
        self.bytes += size;
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("revision", &self.revision)
            .field("compacted", &self.compacted())
            .field("keys", &self.index.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
