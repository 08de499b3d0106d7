//! The history of a range, read piece by piece by those who follow it.

use std::ops::ControlFlow;

use super::error::{ReadError, StoreError};
use super::range::KeyRange;
use super::revision::{Record, Revision, Seen};
use super::store::{Change, Store};

/// A range of no more keys than this is looked up key by key, however long its history.
const FEW_KEYS: usize = 1000;

/// How much is read at a time. A transaction is never split, so the last one may pass each bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount {
    /// Changes of the range.
    pub changes: usize,
    /// Bytes of them, as [`Record::size`] counts.
    pub bytes: u64,
    /// Records that are looked at, of the range or not.
    pub looked_at: usize,
}

impl Store {
    /// The changes of a range from a revision on, oldest first, and the revision to go on from:
    /// one more than the store's own once there is nothing left.
    ///
    /// It costs what is looked at, not what the range or the store holds: those who lag are many.
    ///
    /// # Errors
    ///
    /// [`ReadError::Compacted`] if history before `from` is given up and that of `from` with it.
    pub fn history(
        &self,
        from: i64,
        range: &KeyRange,
        amount: Amount,
    ) -> Result<(Vec<Change>, i64), ReadError> {
        if from < self.compacted() {
            return Err(ReadError::Compacted);
        }
        let end = self.revision + 1;
        if from >= end {
            return Ok((Vec::new(), from));
        }
        let mut piece =
            Piece { amount, changes: Vec::new(), bytes: 0, looked_at: 0, last: 0, next: end };
        if self.index.has_at_most(range, FEW_KEYS) {
            for at in self.index.changes(range, from, self.revision, amount.changes) {
                if piece.is_full_before(at.main) {
                    return Ok((piece.changes, piece.next));
                }
                piece.add(self.record(at)?);
            }
            // What the index left out begins after the last that it gave.
            let last = piece.changes.last().map_or(0, |it| it.record.revision.main);
            let is_all = piece.changes.len() < amount.changes;
            return Ok((piece.changes, if is_all { end } else { last + 1 }));
        }
        self.each_record(from, &mut |record| {
            if piece.is_full_before(record.revision.main) {
                return ControlFlow::Break(());
            }
            piece.looked_at += 1;
            piece.last = record.revision.main;
            if range.contains(record.key) {
                piece.add(record.to_record());
            }
            ControlFlow::Continue(())
        })?;
        Ok((piece.changes, piece.next))
    }

    /// Shows every record from a revision on that something leads to.
    fn each_record(
        &self,
        from: i64,
        see: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let from = Revision::first_of(from);
        // Of the compacted revision itself some may be gone; after it, none.
        let counts = |record: &Seen<'_>| {
            record.revision.main > self.compacted() || self.index.has(record.key, record.revision)
        };
        let first_in_memory = self.tail.front().map(|it| it.revision);
        let mut goes_on = ControlFlow::Continue(());
        if first_in_memory.is_none_or(|it| from < it) {
            self.records().scan(from, self.revision, &mut |record| {
                if first_in_memory.is_some_and(|first| record.revision >= first) {
                    return ControlFlow::Break(());
                }
                if counts(&record) {
                    goes_on = see(record);
                }
                goes_on
            })?;
        }
        let begin = self.tail.partition_point(|it| it.revision < from);
        for record in self.tail.range(begin..).map(Record::seen).filter(counts) {
            if goes_on.is_break() {
                break;
            }
            goes_on = see(record);
        }
        Ok(())
    }
}

/// What was read so far.
struct Piece {
    amount: Amount,
    changes: Vec<Change>,
    bytes: u64,
    looked_at: usize,
    /// The last revision that was looked at.
    last: i64,
    next: i64,
}

impl Piece {
    fn add(&mut self, record: Record) {
        self.bytes += record.size();
        self.last = record.revision.main;
        self.changes.push(Change { record });
    }

    /// Whether it ends before this revision, which is not the one it is at.
    fn is_full_before(&mut self, main: i64) -> bool {
        let is_full = main > self.last
            && (self.changes.len() >= self.amount.changes
                || self.bytes >= self.amount.bytes
                || self.looked_at >= self.amount.looked_at);
        if is_full {
            self.next = main;
        }
        is_full
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::node::mvcc::Records;

    /// What is written.
    #[derive(Default)]
    struct Written(Mutex<Vec<Record>>);

    impl Records for Written {
        fn get(&self, at: Revision) -> Result<Option<Record>, StoreError> {
            Ok(self.0.lock().iter().find(|it| it.revision == at).cloned())
        }

        fn scan(
            &self,
            from: Revision,
            to: i64,
            see: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
        ) -> Result<(), StoreError> {
            for record in self.0.lock().iter() {
                let is_in = record.revision >= from && record.revision.main <= to;
                if is_in && see(record.seen()).is_break() {
                    break;
                }
            }
            Ok(())
        }
    }

    /// Pieces of any size, of ranges with few keys and with many, from memory and from where it is
    /// written, give what there is: in order, once, and no transaction in two.
    #[test]
    fn pieces_make_up_the_whole() {
        let records = Arc::new(Written::default());
        let mut store = Store::new(Arc::clone(&records) as Arc<dyn Records>);
        for n in 0..3000_u32 {
            let mut txn = store.begin();
            for key in [n * 7919 % 2000, n % 5] {
                txn.put(format!("k{key:04}").as_bytes(), &n.to_le_bytes(), 0).unwrap();
            }
            if n % 10 == 3 {
                let key = format!("k{:04}", n * 31 % 2000);
                txn.delete(&KeyRange::One(key.into()), false).unwrap();
            }
            txn.commit();
            if n == 1500 {
                *records.0.lock() = store.take_new();
                store.written_up_to(1200, 0);
            }
        }
        store.compact(700).unwrap();
        let span = |from: &str, to: &str| KeyRange::Span {
            from: from.to_owned().into(),
            to: to.to_owned().into(),
        };
        let ranges = [
            span("k", "l"),
            span("k0003", "k1999"),
            span("k01", "k02"),
            KeyRange::One("k0004".into()),
        ];
        for range in ranges {
            let whole = store.changes(700, i64::MAX - 1, &range, 0).unwrap().0;
            assert!(whole.len() > 100);
            for (changes, bytes, looked_at) in
                [(1, u64::MAX, 9999), (9999, 1, 9999), (9999, u64::MAX, 10), (50, 2000, 300)]
            {
                let amount = Amount { changes, bytes, looked_at };
                let (mut from, mut all) = (700, Vec::new());
                while from <= store.revision() {
                    let (piece, next) = store.history(from, &range, amount).unwrap();
                    assert!(next > from && piece.len() <= changes.saturating_add(3));
                    let is_within = |it: &Change| (from..next).contains(&it.record.revision.main);
                    assert!(piece.iter().all(is_within));
                    all.extend(piece);
                    from = next;
                }
                assert_eq!(from, store.revision() + 1);
                assert!(all == whole, "{range:?} {amount:?}");
            }
            let none = store.history(699, &range, Amount { changes: 1, bytes: 1, looked_at: 1 });
            assert_eq!(none, Err(ReadError::Compacted));
        }
    }
}
