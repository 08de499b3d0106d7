//! Where entries stand on the disk: a mark now and then, the entries after it found by reading on.

use std::collections::VecDeque;
use std::sync::Arc;

use super::segment::Segment;

/// Records' bytes from one mark to the next.
const STRIDE: u64 = 64 << 10;

/// An entry's place. The entries after it, up to the next mark's, follow it in the same segment,
/// with nothing but other kinds of records between.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) index: u64,
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u64,
}

/// Says which entries get a mark.
#[derive(Debug)]
pub(super) struct Marker {
    due: bool,
    since: u64,
}

impl Marker {
    pub(super) fn new() -> Marker {
        Marker { due: true, since: 0 }
    }

    /// The next entry does not follow the last one in place: it gets a mark.
    pub(super) fn breaks(&mut self) {
        self.due = true;
    }

    /// An entry takes so many bytes; whether it gets a mark.
    pub(super) fn marks(&mut self, size: u64) -> bool {
        let marks = self.due || self.since >= STRIDE;
        if marks {
            self.since = 0;
        }
        self.due = false;
        self.since += size;
        marks
    }
}

/// The marks of all entries that are on the disk, ascending by index.
#[derive(Debug, Default)]
pub(super) struct Marks(VecDeque<Mark>);

impl Marks {
    pub(super) fn push(&mut self, mark: Mark) {
        self.0.push_back(mark);
    }

    /// The entries from an index on are gone.
    pub(super) fn cut_from(&mut self, index: u64) {
        while self.0.back().is_some_and(|mark| mark.index >= index) {
            self.0.pop_back();
        }
    }

    /// The entries below `first` are not read any more; `next` follows the last one on the disk.
    pub(super) fn drop_below(&mut self, first: u64, next: u64) {
        let past = |marks: &VecDeque<Mark>| {
            let end = marks.get(1).map_or(next, |mark| mark.index);
            !marks.is_empty() && end <= first
        };
        while past(&self.0) {
            self.0.pop_front();
        }
    }

    /// The segment in which the oldest entry stands.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.0.front().map(|mark| mark.segment.head.sequence)
    }

    /// From which marks on to read the entries `from..to`, each with the index where the next one
    /// takes over. At most `limit` of them.
    pub(super) fn covering(&self, from: u64, to: u64, limit: usize) -> Vec<(Mark, u64)> {
        let start = self.0.partition_point(|mark| mark.index <= from).saturating_sub(1);
        let marks = self.0.iter().skip(start).take_while(|mark| mark.index < to).take(limit);
        marks
            .enumerate()
            .map(|(n, mark)| {
                let end = self.0.get(start + n + 1).map_or(to, |next| next.index.min(to));
                (mark.clone(), end)
            })
            .collect()
    }
}
