//! What goes into the log and what it tells about itself.

use bytes::Bytes;

use super::Spot;
use crate::cluster::{ClusterId, Incarnation, MemberId};

/// Who writes a log, by its own word: each of its segments opens with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
    /// Drawn when this member's data was first created: a copy put back later is told apart.
    pub incarnation: Incarnation,
}

/// A place in the raft log (Raft thesis §3.5): two logs that agree on it agree on all before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The term of the leader that made the entry.
    pub term: u64,
    /// The entry's index.
    pub index: u64,
}

/// One raft entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term of the leader that made it.
    pub term: u64,
    /// Its place: one more than the one before.
    pub index: u64,
    /// What the payload is; the log hands it back as it came.
    pub kind: u8,
    /// The payload, at most [`Entry::LONGEST`]. It is held in memory for a while: copy it out of
    /// a network buffer first.
    pub payload: Bytes,
}

impl Entry {
    /// The longest payload, in bytes: far above any `--max-request-bytes` that makes sense.
    pub const LONGEST: usize = 64 << 20;

    /// Where it stands.
    pub fn position(&self) -> Position {
        Position { term: self.term, index: self.index }
    }
}

/// How a log is kept. The defaults are what was measured best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A segment that would become longer than this is followed by a new one. In bytes.
    pub segment_bytes: u64,
    /// How far a segment is filled with zeros ahead of what is written, so that an fdatasync has
    /// no metadata to write. In bytes.
    pub ahead_bytes: u64,
    /// The newest entries stay in memory up to this many bytes ...
    pub memory_bytes: usize,
    /// ... and this many entries. Older ones are read from the disk.
    pub memory_entries: usize,
    /// Encoded bytes that may wait for the writer; who brings more waits for room.
    pub queue_bytes: u32,
    /// The most bytes that are written before one fdatasync, give or take one request.
    pub group_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        // In a simulation segments end and entries leave memory within a run.
        if cfg!(feature = "simulation") {
            return Options {
                segment_bytes: 16 << 10,
                ahead_bytes: 4 << 10,
                memory_bytes: 4 << 10,
                memory_entries: 32,
                queue_bytes: 1 << 20,
                group_bytes: 8 << 10,
            };
        }
        Options {
            segment_bytes: 64 << 20,
            ahead_bytes: 1 << 20,
            memory_bytes: 4 << 20,
            memory_entries: 10_000,
            queue_bytes: 32 << 20,
            group_bytes: 4 << 20,
        }
    }
}

/// The bounds of a log at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The first entry that can be read, if there is any.
    pub first: u64,
    /// The index that the next entry has to have.
    pub next: u64,
    /// The last entry; what was purged last if none follows it.
    pub last: Option<Position>,
    /// Everything up to here was purged.
    pub purged: Option<Position>,
    /// The last commit that was saved.
    pub committed: Option<Position>,
}

impl Bounds {
    /// How many entries can be read.
    pub fn count(&self) -> u64 {
        self.next.saturating_sub(self.first)
    }
}

/// What an opened log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Who writes it.
    pub ids: Ids,
    /// The last vote saved, as it came.
    pub vote: Option<Bytes>,
    /// The log's bounds. Its entries are read through [`Log::read`](super::Log::read), so that
    /// opening a long log does not take its length in memory.
    pub bounds: Bounds,
    /// Where the last write had broken off, if it had; that is repaired by now. Nothing in it was
    /// acknowledged.
    pub repaired: Option<Spot>,
}

/// What the writer has done since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Fdatasyncs of groups.
    pub syncs: u64,
    /// Requests that were answered by them.
    pub requests: u64,
    /// Bytes written, without the zeros ahead.
    pub bytes: u64,
    /// Segments that are there.
    pub segments: usize,
    /// Entries held in memory.
    pub held: usize,
}

/// All that a log tells when it is read from end to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Who writes it.
    pub ids: Ids,
    /// How many segments there are.
    pub segments: usize,
    /// Their records' bytes; segments are filled with zeros ahead, so they take more on disk.
    pub bytes: u64,
    /// How many records could be read.
    pub records: u64,
    /// The last vote, as it came.
    pub vote: Option<Bytes>,
    /// The bounds, as far as it could be read.
    pub bounds: Bounds,
    /// Where the last write broke off. [`Log::open`](super::Log::open) repairs that by itself:
    /// it was never acknowledged.
    pub torn_tail: Option<Spot>,
    /// Where the log is damaged: acknowledged entries are unreadable from here on.
    pub damage: Option<Spot>,
}
