//! The newest entries, held in memory: what has just come is what is asked for most.

use std::collections::VecDeque;

use super::{Entry, Options};

#[derive(Debug)]
struct Held {
    entry: Entry,
    /// Which of all entries ever taken this is. An index may come again after a truncation, while
    /// the writer is still busy with what had it before.
    ordinal: u64,
}

/// The end of the log in memory. An entry that has not been written yet is always in it.
#[derive(Debug, Default)]
pub(super) struct Tail {
    held: VecDeque<Held>,
    bytes: usize,
    taken: u64,
    written: u64,
}

impl Tail {
    /// Holds an entry.
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += cost(&entry);
        self.taken += 1;
        self.held.push_back(Held { entry, ordinal: self.taken });
    }

    /// So many more entries of those that were pushed are on the disk, in their order.
    pub(super) fn written(&mut self, count: u64) {
        self.written += count;
    }

    /// Lets go of the oldest entries that are on the disk until the rest keeps within the limits.
    pub(super) fn evict(&mut self, options: &Options) {
        while self.held.len() > options.memory_entries || self.bytes > options.memory_bytes {
            match self.held.front() {
                Some(oldest) if oldest.ordinal <= self.written => self.pop_front(),
                _ => break,
            }
        }
    }

    /// Lets go of the entries from an index on.
    pub(super) fn cut_from(&mut self, index: u64) {
        while self.held.back().is_some_and(|held| held.entry.index >= index) {
            if let Some(held) = self.held.pop_back() {
                self.bytes -= cost(&held.entry);
            }
        }
    }

    /// Lets go of the entries below an index.
    pub(super) fn drop_below(&mut self, index: u64) {
        while self.held.front().is_some_and(|held| held.entry.index < index) {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        if let Some(held) = self.held.pop_front() {
            self.bytes -= cost(&held.entry);
        }
    }

    /// How many entries are held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// The entries from an index on that are held, at most up to `to` and in so many bytes, but
    /// one at least.
    pub(super) fn copy(&self, from: u64, to: u64, max_bytes: usize) -> Vec<Entry> {
        let first = self.held.front().map_or(from, |held| held.entry.index);
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut budget = Budget::new(max_bytes);
        let entries = self.held.iter().skip(skip).map(|held| &held.entry);
        entries.take_while(|entry| entry.index < to && budget.takes(entry)).cloned().collect()
    }
}

/// What an entry counts for, in bytes.
fn cost(entry: &Entry) -> usize {
    entry.payload.len() + size_of::<Held>()
}

/// How much an answer may still take. The first entry always fits.
pub(super) struct Budget {
    left: usize,
    any: bool,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Budget {
        Budget { left: bytes, any: false }
    }

    /// Whether the entry still fits.
    pub(super) fn takes(&mut self, entry: &Entry) -> bool {
        let fits = !self.any || entry.payload.len() <= self.left;
        self.any = true;
        self.left = self.left.saturating_sub(entry.payload.len());
        fits
    }
}
