//! The log as its users hold it. Asks the writer for everything that changes the disk.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::record;
use super::shared::{Shared, State};
use super::writer::{Job, Work};
use super::{Bounds, Entry, Ids, LogError, Position, Stats};
use crate::node::ground::work::{self, Sender, Thread};

/// Hears how a request ended, on the writer's thread: short, and never waiting for the log.
pub type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// A log that is open. Clones are the same log; it is closed with the last one of them.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    /// Gone only while the log is dropped.
    jobs: Option<Sender<Job>>,
    writer: Option<Thread>,
}

impl Log {
    pub(super) fn new(shared: Arc<Shared>, jobs: Sender<Job>, writer: Thread) -> Log {
        Log { inner: Arc::new(Inner { shared, jobs: Some(jobs), writer: Some(writer) }) }
    }

    /// Who writes it.
    pub fn ids(&self) -> Ids {
        self.inner.shared.ids
    }

    /// Its bounds; what was asked for and is not on the disk yet counts.
    pub fn bounds(&self) -> Bounds {
        self.inner.shared.state.lock().bounds
    }

    /// The last vote that is on the disk.
    pub fn vote(&self) -> Option<Bytes> {
        self.inner.shared.state.lock().vote.clone()
    }

    /// What the writer has done so far.
    pub fn stats(&self) -> Stats {
        let state = self.inner.shared.state.lock();
        Stats { held: state.tail.len(), ..state.stats }
    }

    /// Why the log takes nothing any more, if so. The member has to end then.
    pub fn failure(&self) -> Option<LogError> {
        self.inner.shared.state.lock().failure.clone()
    }

    /// Appends entries: they can be read once this returns, and `done` hears when they are on the
    /// disk. Answers come in the order of the requests. Waits while the queue is full; whoever
    /// appends from several tasks has to see to the order.
    ///
    /// # Errors
    ///
    /// [`LogError::Order`] if an entry does not follow the one before, [`LogError::TooLong`]; the
    /// log is as it was, and `done` does not hear of it. Otherwise what the log has failed with.
    pub async fn append(&self, entries: Vec<Entry>, done: Done) -> Result<(), LogError> {
        let long = entries.iter().map(|e| e.payload.len()).find(|l| *l > Entry::LONGEST);
        if let Some(length) = long {
            return Err(LogError::TooLong(length));
        }
        let size = entries.iter().map(|e| record::size(e.payload.len())).sum();
        let take = |state: &mut State| {
            let mut bounds = state.bounds;
            for entry in &entries {
                if !bounds.may_follow(entry.index) {
                    return Err(LogError::Order { expected: bounds.next, found: entry.index });
                }
                bounds.entry(entry.position());
            }
            state.bounds = bounds;
            for entry in &entries {
                state.tail.push(entry.clone());
            }
            Ok(Work::Append(entries))
        };
        self.submit(size, take, done).await
    }

    /// Saves a vote, at most [`Entry::LONGEST`]: it is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// [`LogError::TooLong`], or what the log has failed with.
    pub async fn save_vote(&self, vote: Bytes) -> Result<(), LogError> {
        if vote.len() > Entry::LONGEST {
            return Err(LogError::TooLong(vote.len()));
        }
        self.ask(record::size(vote.len()), |_| Ok(Work::Vote(vote))).await
    }

    /// Saves how far the log is committed. It goes to the disk along with what comes next, or
    /// some milliseconds later, without an fsync of its own: after a power loss an earlier commit
    /// may be found, but never one beyond the last entry.
    ///
    /// # Errors
    ///
    /// What the log has failed with.
    pub fn save_committed(&self, at: Position) -> Result<(), LogError> {
        let mut state = self.inner.shared.state.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        state.bounds.committed = Some(at);
        state.commit = Some(at);
        if std::mem::take(&mut state.asleep) {
            self.send(Job::nudge())?;
        }
        Ok(())
    }

    /// Removes all entries after `left`, all of them with `None`: that is on the disk when this
    /// returns, and comes before whatever is appended later.
    ///
    /// # Errors
    ///
    /// [`LogError::Order`] if entries that were purged would have to go, or what the log has
    /// failed with.
    pub async fn truncate_after(&self, left: Option<Position>) -> Result<(), LogError> {
        let from = left.map_or(0, |position| position.index + 1);
        let take = |state: &mut State| {
            let bounds = &mut state.bounds;
            if bounds.purged.is_some_and(|purged| from <= purged.index) {
                return Err(LogError::Order { expected: bounds.first, found: from });
            }
            if from >= bounds.next {
                return Ok(Work::Nothing);
            }
            bounds.truncate(from, left);
            state.tail.cut_from(from);
            Ok(Work::Truncate { from, left })
        };
        self.ask(record::size(0), take).await
    }

    /// Gives up the entries up to a place, and those before it. The log has to go on from there,
    /// even if it has not come that far: a snapshot has taken its place then. The mark is on the
    /// disk when this returns; segments that hold nothing else are removed after that.
    ///
    /// # Errors
    ///
    /// What the log has failed with.
    pub async fn purge(&self, up_to: Position) -> Result<(), LogError> {
        let take = |state: &mut State| {
            if state.bounds.purged.is_some_and(|purged| purged.index >= up_to.index) {
                return Ok(Work::Nothing);
            }
            state.bounds.purge(up_to);
            state.tail.drop_below(up_to.index + 1);
            Ok(Work::Purge(up_to))
        };
        self.ask(record::size(0), take).await
    }

    /// Reads entries: those of the range that are there, from its start on, as long as their
    /// payloads keep within `max_bytes`, but one at least. Fewer may come than would fit: ask
    /// again from the one after the last. Those that are not in memory are read from the disk, on
    /// a thread that may wait.
    ///
    /// # Errors
    ///
    /// [`LogError::Damaged`], [`LogError::Io`].
    pub async fn read(&self, range: Range<u64>, max_bytes: usize) -> Result<Vec<Entry>, LogError> {
        let plan = self.inner.shared.state.lock().plan(range, max_bytes);
        match plan.in_memory() {
            Ok(entries) => Ok(entries),
            // None: the runtime is ending.
            Err(plan) => work::blocking(|| plan.read()).await.unwrap_or(Err(LogError::Closed)),
        }
    }

    /// As [`Log::read`], for a thread that may wait for the disk.
    ///
    /// # Errors
    ///
    /// As [`Log::read`].
    pub fn read_blocking(
        &self,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, LogError> {
        let plan = self.inner.shared.state.lock().plan(range, max_bytes);
        plan.in_memory().or_else(super::shared::Plan::read)
    }

    /// Writes what still waits, the commit included, makes it durable and takes nothing more.
    ///
    /// # Errors
    ///
    /// What the log has failed with.
    pub async fn close(&self) -> Result<(), LogError> {
        self.ask(0, |_| Ok(Work::Close)).await
    }

    /// Hands the writer some work and waits until it is done.
    async fn ask(
        &self,
        size: u64,
        take: impl FnOnce(&mut State) -> Result<Work, LogError>,
    ) -> Result<(), LogError> {
        let (tell, told) = oneshot::channel();
        let done = Box::new(move |result| {
            let _ = tell.send(result); // who asked may have gone
        });
        self.submit(size, take, done).await?;
        match told.await {
            Ok(result) => result,
            Err(_) => Err(self.failure().unwrap_or(LogError::Closed)),
        }
    }

    /// Waits for room, then has `take` change the state and hands its work to the writer in one:
    /// the writer sees all changes in the order in which they were made.
    async fn submit(
        &self,
        size: u64,
        take: impl FnOnce(&mut State) -> Result<Work, LogError>,
        done: Done,
    ) -> Result<(), LogError> {
        let shared = &self.inner.shared;
        let limit = shared.options.queue_bytes.max(1);
        let permits = u32::try_from(size).unwrap_or(limit).clamp(1, limit);
        let permit = shared.room.acquire_many(permits).await;
        let mut state = shared.state.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let permit = permit.map_err(|_| LogError::Closed)?;
        let work = take(&mut state)?;
        let closes = matches!(work, Work::Close);
        self.send(Job { work, permits, done })?;
        permit.forget(); // the writer gives it back
        if closes {
            state.failure = Some(LogError::Closed);
        }
        Ok(())
    }

    fn send(&self, job: Job) -> Result<(), LogError> {
        let jobs = self.inner.jobs.as_ref().ok_or(LogError::Closed)?;
        jobs.send(job).map_err(|_| LogError::Closed)
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("ids", &self.ids()).field("bounds", &self.bounds()).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.jobs = None; // the writer ends after what it has
        // An answer may hold the last clone: then this runs on the writer itself.
        self.writer.take().map(Thread::join);
    }
}
