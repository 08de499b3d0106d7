//! The thread that writes behind: takes batches in order, flushes now and then, and says how far
//! it is.
//!
//! What waits for it is bounded in bytes: whoever applies has to wait when it is full
//! ([`Writer::room`]), and the log still holds what is not durable. After an error it writes
//! nothing more, and everyone who asks is told that error.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::{Batch, Checkpoint, Trim};
use crate::clock::{Clock, Moment};
use crate::node::ground::work::{Queue, RecvTimeoutError, Sender, Thread, queue};
use crate::node::mvcc::StoreError;

/// A flush comes before its time once so many bytes wait for it: it takes as much memory again.
const FLUSH_AT: usize = 8 << 20;
/// Batches that wait are written as one up to this many bytes; it spares writing head and blobs.
const TOGETHER: usize = 2 << 20;

/// What a writer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long what is written may wait for its flush.
    pub flush_every: Duration,
    /// Bytes that may wait to be written; one batch may go over.
    pub backlog: usize,
}

impl Default for Limits {
    /// A second, and 32 MiB.
    fn default() -> Self {
        Limits { flush_every: Duration::from_secs(1), backlog: 32 << 20 }
    }
}

/// How far it is in the log and in the history; all count what is in the batches, no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// The log index: [`Batch::applied`].
    pub applied: u64,
    /// The revision of the last record.
    pub revision: i64,
    /// Records that were removed, since the writer started.
    pub removed: u64,
}

/// How far the checkpoint is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// What can be read from it: the store may forget its records up to there.
    pub written: Reached,
    /// What is on the disk: the log may be purged up to there.
    pub durable: Reached,
    /// Why it does nothing more, if so.
    pub failed: Option<StoreError>,
}

/// Why a batch was not taken; it is handed back.
#[derive(Debug, thiserror::Error)]
pub enum Full {
    /// There is no room: wait for [`Writer::room`].
    #[error("more waits for the checkpoint than may")]
    NoRoom(Batch),
    /// It has failed.
    #[error("the checkpoint has failed")]
    Failed(Batch, #[source] StoreError),
}

enum Order {
    Write(Batch, usize),
    Flush(oneshot::Sender<Result<Reached, StoreError>>),
    Trim(oneshot::Sender<Result<Reached, StoreError>>),
    Stop,
}

/// See [the module](self). Dropped, it writes and flushes what it was sent, and ends.
#[derive(Debug)]
pub struct Writer {
    orders: Sender<Order>,
    limits: Limits,
    backlog: Arc<AtomicUsize>,
    positions: watch::Receiver<Positions>,
    thread: Option<Thread>,
}

impl Writer {
    /// Starts the thread, from where the checkpoint is.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if that cannot be read, or no thread be had.
    pub fn start(checkpoint: Arc<dyn Checkpoint>, limits: Limits) -> Result<Writer, StoreError> {
        let (applied, revision) = (checkpoint.applied()?, checkpoint.last()?.main);
        let at = Reached { applied, revision, removed: 0 };
        // What was read when it was opened is on the disk; what is flushed twice does no harm.
        checkpoint.flush()?;
        let start = Positions { written: at, durable: at, failed: None };
        let (say, positions) = watch::channel(start);
        let (orders, received) = queue();
        let backlog = Arc::new(AtomicUsize::new(0));
        let work = Work {
            checkpoint,
            every: limits.flush_every,
            backlog: Arc::clone(&backlog),
            say,
            due: None,
            unflushed: 0,
        };
        let thread = Thread::start("checkpoint", work.run(received));
        let thread = thread.map_err(|error| StoreError::Io(format!("start a thread: {error}")))?;
        Ok(Writer { orders, limits, backlog, positions, thread: Some(thread) })
    }

    /// Hands a batch over. Never blocks.
    ///
    /// # Errors
    ///
    /// [`Full`], with the batch.
    pub fn send(&self, batch: Batch) -> Result<(), Full> {
        if let Some(error) = &self.positions.borrow().failed {
            return Err(Full::Failed(batch, error.clone()));
        }
        if self.backlog() >= self.limits.backlog {
            return Err(Full::NoRoom(batch));
        }
        let size = batch.size();
        self.backlog.fetch_add(size, Ordering::Relaxed);
        match self.orders.send(Order::Write(batch, size)) {
            Err(refused) => {
                let Order::Write(batch, _) = refused.0 else { return Ok(()) };
                Err(Full::Failed(batch, self.failure()))
            }
            Ok(()) => Ok(()),
        }
    }

    /// Bytes that wait to be written.
    pub fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Returns once [`Writer::send`] would take a batch.
    ///
    /// # Errors
    ///
    /// What the checkpoint has failed with.
    pub async fn room(&self) -> Result<(), StoreError> {
        let mut positions = self.positions.clone();
        loop {
            if let Some(error) = &positions.borrow_and_update().failed {
                return Err(error.clone());
            }
            if self.backlog() < self.limits.backlog {
                return Ok(());
            }
            if positions.changed().await.is_err() {
                return Err(self.failure());
            }
        }
    }

    /// How far it is, and every change of that.
    pub fn positions(&self) -> watch::Receiver<Positions> {
        self.positions.clone()
    }

    /// What can be read from the checkpoint.
    pub fn written(&self) -> Reached {
        self.positions.borrow().written
    }

    /// What is on the disk.
    pub fn durable(&self) -> Reached {
        self.positions.borrow().durable
    }

    /// Returns once all that was sent before is on the disk, and how far that is.
    ///
    /// # Errors
    ///
    /// What the checkpoint has failed with.
    pub async fn flush(&self) -> Result<Reached, StoreError> {
        self.ask(Order::Flush).await
    }

    /// The same, and then [`Checkpoint::trim`] in any case.
    ///
    /// # Errors
    ///
    /// What the checkpoint has failed with.
    pub async fn trim(&self) -> Result<Reached, StoreError> {
        self.ask(Order::Trim).await
    }

    async fn ask(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<Reached, StoreError>>) -> Order,
    ) -> Result<Reached, StoreError> {
        let (answer, answered) = oneshot::channel();
        if self.orders.send(order(answer)).is_err() {
            return Err(self.failure());
        }
        answered.await.unwrap_or_else(|_| Err(self.failure()))
    }

    /// Writes and flushes what it was sent, and ends; blocks until then.
    ///
    /// # Errors
    ///
    /// What the checkpoint has failed with, now or before.
    pub fn stop(mut self) -> Result<Reached, StoreError> {
        let _ = self.orders.send(Order::Stop);
        if self.thread.take().is_some_and(|it| !it.join()) {
            return Err(self.failure());
        }
        let Positions { durable, failed, .. } = self.positions.borrow().clone();
        failed.map_or(Ok(durable), Err)
    }

    fn failure(&self) -> StoreError {
        let failed = self.positions.borrow().failed.clone();
        failed.unwrap_or_else(|| StoreError::Io("the checkpoint's writer has ended".to_owned()))
    }
}

/// The thread's side.
struct Work {
    checkpoint: Arc<dyn Checkpoint>,
    every: Duration,
    backlog: Arc<AtomicUsize>,
    say: watch::Sender<Positions>,
    /// When the next flush is due; `None` if all is flushed.
    due: Option<Moment>,
    /// Bytes written since the last flush.
    unflushed: usize,
}

impl Work {
    async fn run(mut self, orders: Queue<Order>) {
        if let Err(error) = self.go_on(orders).await {
            tracing::error!(%error, "the checkpoint failed; nothing more is written to it");
            self.say.send_modify(|it| it.failed = Some(error));
        }
    }

    /// Until it is told to stop, or nobody is there to tell it anything any more.
    async fn go_on(&mut self, mut orders: Queue<Order>) -> Result<(), StoreError> {
        let mut set_aside = None;
        loop {
            let order = match set_aside.take() {
                Some(order) => Ok(order),
                None => self.next(&mut orders).await,
            };
            match order {
                Ok(Order::Write(mut batch, mut size)) => {
                    while size < TOGETHER && set_aside.is_none() {
                        match orders.try_recv() {
                            Some(Order::Write(later, more)) => {
                                batch.absorb(later);
                                size += more;
                            }
                            Some(other) => set_aside = Some(other),
                            None => break,
                        }
                    }
                    self.write(batch, size)?;
                    // Not only when nothing comes: under load something always does.
                    let is_due = self.due.is_some_and(|due| Clock.monotonic() >= due);
                    if is_due || self.unflushed >= FLUSH_AT {
                        self.flush(Trim::Busy)?;
                    }
                }
                Ok(Order::Flush(answer)) => self.answer(answer, false)?,
                Ok(Order::Trim(answer)) => self.answer(answer, true)?,
                Err(RecvTimeoutError::Timeout) => {
                    self.flush(Trim::Quiet)?;
                }
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    return self.flush(Trim::Busy).map(drop);
                }
            }
        }
    }

    /// The next order; a time-out when a flush is due.
    async fn next(&self, orders: &mut Queue<Order>) -> Result<Order, RecvTimeoutError> {
        match self.due {
            None => orders.recv().await.ok_or(RecvTimeoutError::Disconnected),
            Some(due) => orders.recv_timeout(due.since(Clock.monotonic())).await,
        }
    }

    fn write(&mut self, batch: Batch, size: usize) -> Result<(), StoreError> {
        self.checkpoint.write(&batch)?;
        self.backlog.fetch_sub(size, Ordering::Relaxed);
        self.unflushed += size;
        if self.due.is_none() {
            self.due = Some(Clock.monotonic().after(self.every));
        }
        let last = batch.puts.last().map(|it| it.revision.main);
        self.say.send_modify(|it| {
            it.written.applied = batch.applied;
            it.written.revision = last.unwrap_or(it.written.revision);
            it.written.removed += batch.removes.len() as u64;
        });
        Ok(())
    }

    /// Makes durable what is written, and then trims.
    fn flush(&mut self, trim: Trim) -> Result<Reached, StoreError> {
        if self.due.is_some() {
            self.checkpoint.flush()?;
            (self.due, self.unflushed) = (None, 0);
            self.say.send_modify(|it| it.durable = it.written);
            self.checkpoint.trim(trim)?;
        }
        Ok(self.say.borrow().durable)
    }

    fn answer(
        &mut self,
        answer: oneshot::Sender<Result<Reached, StoreError>>,
        trim: bool,
    ) -> Result<(), StoreError> {
        let mut result = self.flush(Trim::Busy);
        if trim && result.is_ok() {
            result = self.checkpoint.trim(Trim::Now).and(result);
        }
        let failed = result.as_ref().err().cloned();
        // Whoever asked may have gone.
        let _ = answer.send(result);
        failed.map_or(Ok(()), Err)
    }
}
