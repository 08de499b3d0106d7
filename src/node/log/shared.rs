//! What the log's users and its writer both look at: the bounds, the tail in memory, and where
//! older entries stand on the disk.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::marks::{Mark, Marks};
use super::record::Kind;
use super::segment::Segment;
use super::tail::{Budget, Tail};
use super::window::{Found, Window};
use super::{Bounds, Entry, Ids, LogError, Options, Position, Stats};

/// What both sides share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) ids: Ids,
    pub(super) options: Options,
    /// One permit per byte that may wait for the writer. Closed when the log has failed.
    pub(super) room: Semaphore,
    pub(super) state: Mutex<State>,
}

/// What changes.
#[derive(Debug, Default)]
pub(super) struct State {
    /// As the users see it: what was asked for and not written yet counts.
    pub(super) bounds: Bounds,
    /// The last vote that is on the disk.
    pub(super) vote: Option<Bytes>,
    pub(super) tail: Tail,
    /// Only the writer adds to these and removes from them.
    pub(super) marks: Marks,
    /// A commit that is not written yet.
    pub(super) commit: Option<Position>,
    /// The writer waits for a request, and does not look after the commit by itself.
    pub(super) asleep: bool,
    pub(super) stats: Stats,
    pub(super) failure: Option<LogError>,
}

impl Shared {
    /// The log has failed: the first failure is what everyone hears.
    pub(super) fn fail(&self, error: LogError) -> LogError {
        let mut state = self.state.lock();
        let first = state.failure.take().filter(|failure| !matches!(failure, LogError::Closed));
        let told = first.unwrap_or(error);
        state.failure = Some(told.clone());
        drop(state);
        self.room.close();
        told
    }

    /// Whether the log still takes anything.
    pub(super) fn alive(&self) -> Result<(), LogError> {
        self.state.lock().failure.clone().map_or(Ok(()), Err)
    }
}

/// How to read some entries: first from the disk, then from memory.
pub(super) struct Plan {
    from: u64,
    pieces: Vec<(Mark, u64)>,
    /// Whether the pieces end before what is in memory begins.
    cut: bool,
    held: Vec<Entry>,
    max_bytes: usize,
}

impl State {
    /// Plans to read the entries of a range that are there.
    pub(super) fn plan(&self, range: Range<u64>, max_bytes: usize) -> Plan {
        let from = range.start.max(self.bounds.first);
        let to = range.end.min(self.bounds.next);
        let mut plan = Plan { from, pieces: Vec::new(), cut: false, held: Vec::new(), max_bytes };
        if from >= to {
            return plan;
        }
        let held_from = self.bounds.next - self.tail.len() as u64;
        if from < held_from {
            // A piece holds at least a stride of records, unless it was cut short by a new
            // segment or a truncation; who gets less than there is asks again.
            let limit = max_bytes / (64 << 10) + 2;
            let on_disk = to.min(held_from);
            plan.pieces = self.marks.covering(from, on_disk, limit);
            plan.cut = plan.pieces.last().is_none_or(|(_, end)| *end < on_disk);
        }
        if !plan.cut && to > held_from {
            plan.held = self.tail.copy(from.max(held_from), to, max_bytes);
        }
        plan
    }
}

impl Plan {
    /// The entries, if none of them has to be read from the disk.
    pub(super) fn in_memory(self) -> Result<Vec<Entry>, Plan> {
        if self.pieces.is_empty() && !self.cut { Ok(self.held) } else { Err(self) }
    }

    /// Reads the entries. May wait for the disk.
    pub(super) fn read(self) -> Result<Vec<Entry>, LogError> {
        let mut entries = Vec::new();
        let mut budget = Budget::new(self.max_bytes);
        let mut next = self.from;
        for (mark, end) in &self.pieces {
            if !read_piece(mark, &mut next, *end, &mut budget, &mut entries)? {
                return Ok(entries);
            }
        }
        entries.extend(self.held.into_iter().take_while(|entry| budget.takes(entry)));
        Ok(entries)
    }
}

/// Reads the entries `next..end`, which a mark covers. Whether the budget has room for more.
fn read_piece(
    mark: &Mark,
    next: &mut u64,
    end: u64,
    budget: &mut Budget,
    entries: &mut Vec<Entry>,
) -> Result<bool, LogError> {
    let segment: &Arc<Segment> = &mark.segment;
    let mut window = Window::new(segment)?;
    let mut at = mark.offset;
    while *next < end {
        let what = match window.record_at(at)? {
            Found::Record(head, payload) => {
                at += head.size();
                if head.kind != Kind::Entry || head.index < *next {
                    continue;
                }
                if head.index == *next {
                    let entry = Entry {
                        term: head.term,
                        index: head.index,
                        kind: head.tag,
                        payload: Bytes::copy_from_slice(payload),
                    };
                    if !budget.takes(&entry) {
                        return Ok(false);
                    }
                    entries.push(entry);
                    *next += 1;
                    continue;
                }
                "raft entries are missing before this one"
            }
            Found::Nothing => "nothing stands here",
            Found::Broken { what, .. } => what,
        };
        return Err(LogError::damaged(&segment.path, at, what));
    }
    Ok(true)
}
