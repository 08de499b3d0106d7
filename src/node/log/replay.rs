//! What the records say, taken one after the other: the log's bounds, vote, commit and purge.

use bytes::Bytes;

use super::record::{Head, Kind};
use super::{Bounds, Position};

/// The state that the records so far have led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Replay {
    pub(super) bounds: Bounds,
    pub(super) vote: Option<Bytes>,
}

impl Replay {
    /// The first segment that is still there begins with such an index; what was before is purged.
    pub(super) fn begin_at(&mut self, first: u64) {
        self.bounds.first = first;
        self.bounds.next = first;
    }

    /// All records were taken. A commit beyond the last entry says no more than that entry.
    pub(super) fn settle(&mut self) {
        let Bounds { committed, last, .. } = &mut self.bounds;
        if committed.is_some_and(|at| last.is_none_or(|last| last.index < at.index)) {
            *committed = *last;
        }
    }

    /// Takes one record; what is wrong with it otherwise.
    pub(super) fn take(&mut self, head: &Head, payload: &[u8]) -> Result<(), &'static str> {
        let position = Position { term: head.term, index: head.index };
        if head.index == u64::MAX && matches!(head.kind, Kind::Entry | Kind::Purge) {
            return Err("nothing can follow on this index");
        }
        match head.kind {
            Kind::Entry => {
                if self.bounds.last.is_some_and(|last| last.term > head.term) {
                    return Err("an entry of a lower term than the one before");
                }
                if !self.bounds.may_follow(head.index) {
                    return Err("raft entries are missing before this one");
                }
                self.bounds.entry(position);
            }
            Kind::Vote => self.vote = Some(Bytes::copy_from_slice(payload)),
            Kind::Committed => self.bounds.committed = Some(position),
            Kind::Truncate => {
                if head.index > self.bounds.next {
                    return Err("raft entries are missing before this truncation");
                }
                if self.bounds.purged.is_some_and(|purged| head.index <= purged.index) {
                    return Err("a truncation of entries that were purged before");
                }
                let left = head.index.checked_sub(1).filter(|_| head.tag != 0);
                let left = left.map(|index| Position { term: head.term, index });
                self.bounds.truncate(head.index, left);
            }
            Kind::Purge => self.bounds.purge(position),
            Kind::Seal => {}
        }
        Ok(())
    }
}

impl Bounds {
    /// Whether an entry of this index may come next. The very first one may have index 0 or 1.
    pub(super) fn may_follow(&self, index: u64) -> bool {
        index == self.next || (index == 1 && self.next == 0 && self.last.is_none())
    }

    /// An entry that may follow has come.
    pub(super) fn entry(&mut self, at: Position) {
        if at.index > self.next {
            self.first = at.index;
        }
        self.next = at.index + 1;
        self.last = Some(at);
    }

    /// The entries from an index on are gone; `left` is the last one before.
    pub(super) fn truncate(&mut self, from: u64, left: Option<Position>) {
        self.next = from;
        self.first = self.first.min(from);
        self.last = left;
    }

    /// Nothing up to a place is read any more, and the next entry follows it at least.
    pub(super) fn purge(&mut self, up_to: Position) {
        if self.purged.is_some_and(|purged| purged.index >= up_to.index) {
            return;
        }
        self.purged = Some(up_to);
        self.first = self.first.max(up_to.index + 1);
        if self.next <= up_to.index + 1 {
            self.next = up_to.index + 1;
            self.last = Some(up_to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_nothing_can_follow_is_damage() {
        for kind in [Kind::Entry, Kind::Purge] {
            let mut replay = Replay::default();
            replay.begin_at(u64::MAX);
            let before = replay.clone();
            assert!(replay.take(&Head::plain(kind, 1, u64::MAX), b"").is_err());
            assert_eq!(replay, before);
        }
    }

    /// Else entries would be read that [`Bounds::purged`] says are none any more.
    #[test]
    fn a_truncation_of_what_was_purged_is_damage() {
        let mut replay = Replay::default();
        for index in 0..4 {
            replay.take(&Head::plain(Kind::Entry, 1, index), b"").unwrap();
        }
        replay.take(&Head::plain(Kind::Purge, 1, 2), b"").unwrap();
        let cut = |from| Head { tag: 1, ..Head::plain(Kind::Truncate, 1, from) };
        assert!(replay.clone().take(&cut(2), b"").is_err());
        replay.take(&cut(3), b"").unwrap();
        assert_eq!((replay.bounds.first, replay.bounds.next), (3, 3));
    }
}
