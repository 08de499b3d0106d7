//! Which revisions each key has: all of the store that is always in memory.
//!
//! Most keys have one revision, which costs no allocation of its own. Values are elsewhere.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::range::KeyRange;
use super::revision::Revision;

/// One change of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) at: Revision,
    pub(super) is_delete: bool,
    /// Bytes its record counts for.
    pub(super) size: u64,
}

/// A [`Mark`] in sixteen bytes: no transaction has 2^31 changes, and no record 4 GiB.
#[derive(Clone, Copy, Debug)]
struct Packed {
    main: i64,
    sub_and_kind: u32,
    size: u32,
}

const DELETED: u32 = 1 << 31;

impl Packed {
    fn new(mark: Mark) -> Packed {
        let sub = u32::try_from(mark.at.sub).unwrap_or(DELETED - 1) & !DELETED;
        let sub_and_kind = if mark.is_delete { sub | DELETED } else { sub };
        let size = u32::try_from(mark.size).unwrap_or(u32::MAX);
        Packed { main: mark.at.main, sub_and_kind, size }
    }

    fn at(self) -> Revision {
        Revision { main: self.main, sub: i64::from(self.sub_and_kind & !DELETED) }
    }

    fn is_delete(self) -> bool {
        self.sub_and_kind & DELETED != 0
    }
}

/// The changes of one key, oldest first; never none.
#[derive(Debug)]
enum Marks {
    One(Packed),
    Many(Vec<Packed>),
}

impl Marks {
    fn as_slice(&self) -> &[Packed] {
        match self {
            Marks::One(mark) => std::slice::from_ref(mark),
            Marks::Many(marks) => marks,
        }
    }

    fn push(&mut self, mark: Packed) {
        match self {
            Marks::One(first) => *self = Marks::Many(vec![*first, mark]),
            Marks::Many(marks) => marks.push(mark),
        }
    }

    /// The newest at or before a revision.
    fn last_until(&self, main: i64) -> Option<usize> {
        let end = self.as_slice().partition_point(|it| it.main <= main);
        end.checked_sub(1)
    }
}

/// What the next write of a key goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) created: i64,
    pub(super) version: i64,
}

#[derive(Debug)]
struct History {
    /// Of the life it is in; both 0 while it is deleted.
    created: i64,
    version: i64,
    marks: Marks,
}

/// All keys.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: BTreeMap<Box<[u8]>, History>,
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Notes a change; they come in the order of revisions.
    pub(super) fn note(&mut self, key: &[u8], mark: Mark, life: Life) {
        let packed = Packed::new(mark);
        let Life { created, version } = life;
        // One way down the tree, which costs more than a copy of the key that is thrown away.
        match self.keys.entry(key.into()) {
            Entry::Occupied(mut known) => {
                let history = known.get_mut();
                history.marks.push(packed);
                (history.created, history.version) = (created, version);
            }
            Entry::Vacant(place) => {
                place.insert(History { created, version, marks: Marks::One(packed) });
            }
        }
    }

    /// The life a key is in now; `None` if it is not there.
    pub(super) fn life(&self, key: &[u8]) -> Option<Life> {
        let history = self.keys.get(key).filter(|it| it.version > 0)?;
        Some(Life { created: history.created, version: history.version })
    }

    /// The keys of a range that are there at a revision, in order, with where each last changed.
    pub(super) fn live<'a>(
        &'a self,
        range: &'a KeyRange,
        main: i64,
    ) -> impl Iterator<Item = (&'a [u8], Revision)> + 'a {
        let keys = range.bounds().map(|bounds| self.keys.range::<[u8], _>(bounds));
        keys.into_iter().flatten().filter_map(move |(key, history)| {
            let marks = history.marks.as_slice();
            let mark = marks[history.marks.last_until(main)?];
            (!mark.is_delete()).then(|| (&key[..], mark.at()))
        })
    }

    /// Where a key last changed before this transaction, if it was there then.
    pub(super) fn before(&self, key: &[u8], main: i64) -> Option<Revision> {
        let marks = &self.keys.get(key)?.marks;
        let mark = marks.as_slice()[marks.last_until(main - 1)?];
        (!mark.is_delete()).then(|| mark.at())
    }

    /// Whether a key has a change at just this place.
    pub(super) fn has(&self, key: &[u8], at: Revision) -> bool {
        let marks = self.keys.get(key).map(|it| it.marks.as_slice());
        marks.is_some_and(|it| it.binary_search_by_key(&at, |it| it.at()).is_ok())
    }

    /// Whether a range has no more keys than that, deleted ones counted.
    pub(super) fn has_at_most(&self, range: &KeyRange, count: usize) -> bool {
        let keys = range.bounds().map(|bounds| self.keys.range::<[u8], _>(bounds));
        keys.into_iter().flatten().nth(count).is_none()
    }

    /// Where a range changed, from one revision to another, in the order of revisions; at most
    /// `max` places and those of the same transaction as the last of them.
    pub(super) fn changes(
        &self,
        range: &KeyRange,
        from: i64,
        to: i64,
        max: usize,
    ) -> Vec<Revision> {
        let keys = range.bounds().map(|bounds| self.keys.range::<[u8], _>(bounds));
        let mut found = Vec::new();
        for (_, history) in keys.into_iter().flatten() {
            let marks = history.marks.as_slice();
            let begin = marks.partition_point(|it| it.main < from);
            let due = marks[begin..].iter().take_while(|it| it.main <= to);
            found.extend(due.map(|it| it.at()));
        }
        if max > 0 && found.len() > max {
            let last = found.select_nth_unstable(max - 1).1.main;
            found.retain(|it| it.main <= last);
        }
        found.sort_unstable();
        found
    }

    /// Every place up to a revision, in order.
    pub(super) fn places_until(&self, main: i64) -> Vec<Revision> {
        let until = |history: &History| {
            let marks = history.marks.as_slice();
            marks[..marks.partition_point(|it| it.main <= main)].to_vec()
        };
        let mut places: Vec<_> = self.keys.values().flat_map(until).map(Packed::at).collect();
        places.sort_unstable();
        places
    }

    /// Forgets what a compaction gives up and hands it over, with the bytes it counted for.
    ///
    /// Of the time up to its revision a compaction keeps, of each key, the newest change, if the
    /// key is there after it. A deletion at that very revision stays, too: who watches from there
    /// on is told of it (etcd's `mvcc/key_index.go`).
    pub(super) fn compact(&mut self, main: i64) -> (Vec<Revision>, u64) {
        let mut forgotten = Vec::new();
        let mut bytes = 0;
        self.keys.retain(|_, history| {
            let Some(newest) = history.marks.last_until(main) else { return true };
            let marks = history.marks.as_slice();
            let keep = !marks[newest].is_delete() || marks[newest].main == main;
            let first = if keep { newest } else { newest + 1 };
            for mark in &marks[..first] {
                forgotten.push(mark.at());
                bytes += u64::from(mark.size);
            }
            match &marks[first..] {
                [] => return false,
                [one] => history.marks = Marks::One(*one),
                rest if first > 0 => history.marks = Marks::Many(rest.to_vec()),
                _ => {}
            }
            true
        });
        forgotten.sort_unstable();
        (forgotten, bytes)
    }
}
