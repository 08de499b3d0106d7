//! What openraft asks of a log, over ours.
//!
//! One ordered log holds entries, vote and commit, so whatever is durable has all before it
//! durable as well: openraft takes a saved vote for the flush of every earlier append.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::Notify;

use super::codec::{self, Malformed};
use super::types::{Entry, LogId, Types, Vote};
use crate::node::ground::{self, Fault};
use crate::node::log::{Log, LogError};

/// How much one read gives at most, in bytes of payload: what one message to a follower carries.
const AT_ONCE: usize = 1 << 20;

/// How far the log is on the disk: entries up to here are found again after a power loss.
#[derive(Debug, Default)]
pub(super) struct Durable {
    /// One more than the index; 0 for nothing.
    next: AtomicU64,
    moved: Notify,
}

impl Durable {
    /// Whether the entry of this index is on the disk, or was and is purged.
    pub(super) fn covers(&self, index: u64) -> bool {
        index < self.next.load(Ordering::Acquire)
    }

    /// Returns after the next advance.
    pub(super) async fn moved(&self) {
        self.moved.notified().await;
    }

    /// Entries up to `index` are, and so is all before.
    fn up_to(&self, index: u64) {
        self.next.fetch_max(index + 1, Ordering::AcqRel);
        self.moved.notify_one();
    }

    /// Entries from `next` on are none any more.
    fn cut(&self, next: u64) {
        self.next.fetch_min(next, Ordering::AcqRel);
    }
}

/// The log as openraft has it. Clones are the same log.
#[derive(Clone, Debug)]
pub(super) struct Store {
    log: Log,
    durable: Arc<Durable>,
}

impl Store {
    /// Over a log that was just opened: all of it is on the disk.
    pub(super) fn new(log: Log) -> Store {
        let durable = Durable::default();
        durable.next.store(log.bounds().next, Ordering::Release);
        Store { log, durable: Arc::new(durable) }
    }

    /// How far it is on the disk.
    pub(super) fn durable(&self) -> Arc<Durable> {
        Arc::clone(&self.durable)
    }
}

impl From<Malformed> for io::Error {
    fn from(error: Malformed) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

impl RaftLogReader<Types> for Store {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let mut next = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => self.log.bounds().first,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let mut entries = Vec::new();
        while next < end {
            let some = self.log.read(next..end, AT_ONCE).await?;
            let Some(last) = some.last() else { break };
            next = last.index + 1;
            for entry in some {
                entries.push(codec::from_log(entry)?);
            }
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let some = self.log.read(start..end, AT_ONCE).await?;
        if some.first().is_some_and(|it| it.index != start) {
            // Nothing is purged while it is in use; a hole would be a follower's for good.
            let what = format!("entry {start} is purged from the log");
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        Ok(some.into_iter().map(codec::from_log).collect::<Result<_, _>>()?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.log.vote().map(codec::read_vote).transpose()?)
    }
}

impl RaftLogStorage<Types> for Store {
    type LogReader = Store;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let bounds = self.log.bounds();
        Ok(LogState {
            last_purged_log_id: bounds.purged.map(codec::at),
            last_log_id: bounds.last.map(codec::at),
        })
    }

    async fn get_log_reader(&mut self) -> Store {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if ground::has(Fault::VoteNotSaved) {
            return Ok(());
        }
        Ok(self.log.save_vote(codec::vote(vote)).await?)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.log.save_committed(codec::position(&committed))?;
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.log.bounds().committed.map(codec::at))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<_> = entries.into_iter().map(|it| codec::to_log(&it)).collect();
        let last = entries.last().map(|it| it.index);
        let durable = Arc::clone(&self.durable);
        let done = move |result: Result<(), LogError>| {
            if result.is_ok()
                && let Some(last) = last
            {
                durable.up_to(last);
            }
            callback.io_completed(result.map_err(io::Error::from));
        };
        Ok(self.log.append(entries, Box::new(done)).await?)
    }

    async fn truncate_after(&mut self, left: Option<LogId>) -> Result<(), io::Error> {
        self.log.truncate_after(left.as_ref().map(codec::position)).await?;
        // All appends before it have reported by now, and none came after it.
        self.durable.cut(left.map_or(0, |it| it.index + 1));
        Ok(())
    }

    async fn purge(&mut self, up_to: LogId) -> Result<(), io::Error> {
        self.log.purge(codec::position(&up_to)).await?;
        self.durable.up_to(up_to.index);
        Ok(())
    }
}
