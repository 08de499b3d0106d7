//! Which revisions each key has: all of the store that is always in memory.
//!
//! Most keys have one revision, which costs no allocation of its own. Values are elsewhere.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

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

    /// Those that are left of it once history is given up to a revision.
    ///
    /// Of the time up to there, the newest change, if the key is there after it. A deletion at that
    /// very revision stays, too: who watches from there on is told of it (etcd's
    /// `mvcc/key_index.go`).
    fn kept(&self, compacted: i64) -> &[Packed] {
        let marks = self.as_slice();
        let Some(newest) = self.last_until(compacted) else { return marks };
        let is_kept = !marks[newest].is_delete() || marks[newest].main == compacted;
        &marks[if is_kept { newest } else { newest + 1 }..]
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
///
/// What a compaction gives up is gone for every reader at once, and forgotten key by key after it
/// ([`Index::forget`]): to look at millions of keys takes longer than a write may wait.
#[derive(Debug, Default)]
pub(super) struct Index {
    keys: BTreeMap<Box<[u8]>, History>,
    /// History is given up to here.
    compacted: i64,
    forgetting: Option<Forgetting>,
}

/// A walk over all keys that forgets what is given up.
#[derive(Debug)]
struct Forgetting {
    /// What was given up when it began.
    until: i64,
    /// The last key it was at; `None` before the first.
    after: Option<Box<[u8]>>,
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

    /// Where a key last changed before this transaction, if it was there then and that is not given
    /// up, as all is that was before a change at the compacted revision.
    pub(super) fn before(&self, key: &[u8], main: i64) -> Option<Revision> {
        if main <= self.compacted {
            return None;
        }
        let marks = &self.keys.get(key)?.marks;
        let mark = marks.as_slice()[marks.last_until(main - 1)?];
        (!mark.is_delete()).then(|| mark.at())
    }

    /// Whether a key has a change at just this place.
    pub(super) fn has(&self, key: &[u8], at: Revision) -> bool {
        let marks = self.keys.get(key).map(|it| it.marks.kept(self.compacted));
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
            let marks = history.marks.kept(self.compacted);
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

    /// Every place of the time that is given up that still counts, in order.
    pub(super) fn kept(&self) -> Vec<Revision> {
        let kept = |history: &History| {
            let marks = history.marks.kept(self.compacted);
            marks[..marks.partition_point(|it| it.main <= self.compacted)].to_vec()
        };
        let mut places: Vec<_> = self.keys.values().flat_map(kept).map(Packed::at).collect();
        places.sort_unstable();
        places
    }

    /// Up to where history is given up; 0 if nothing ever was.
    pub(super) fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Gives up history to a revision.
    pub(super) fn compact(&mut self, until: i64) {
        self.compacted = until;
        self.forgetting.get_or_insert(Forgetting { until, after: None });
    }

    /// Whether there may be something that is given up and not forgotten.
    pub(super) fn is_forgetting(&self) -> bool {
        self.forgetting.is_some()
    }

    /// Forgets of so many keys what is given up, and shows it with the bytes that it counted for.
    pub(super) fn forget(&mut self, keys: usize, mut see: impl FnMut(Revision, u64)) {
        let Some(Forgetting { until, after }) = self.forgetting.take() else { return };
        let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut empty, mut last, mut count) = (Vec::new(), None, 0);
        for (key, history) in self.keys.range_mut::<[u8], _>((from, Bound::Unbounded)).take(keys) {
            count += 1;
            last = Some(key);
            let kept = history.marks.kept(self.compacted);
            let all = history.marks.as_slice();
            let given_up = &all[..all.len() - kept.len()];
            if given_up.is_empty() {
                continue;
            }
            for it in given_up {
                see(it.at(), u64::from(it.size));
            }
            match kept {
                [] => empty.push(key.clone()),
                [one] => history.marks = Marks::One(*one),
                rest => history.marks = Marks::Many(rest.to_vec()),
            }
        }
        self.forgetting = match last {
            Some(last) if count == keys => Some(Forgetting { until, after: Some(last.clone()) }),
            // What was given up meanwhile was not, where it had been before.
            _ => (until < self.compacted)
                .then_some(Forgetting { until: self.compacted, after: None }),
        };
        for key in empty {
            self.keys.remove(&key);
        }
    }
}
