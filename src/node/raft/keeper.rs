//! Keeps the checkpoint behind the state, and the log no longer than it has to be.
//!
//! ```text
//! state ── progress ──> queue ── once the log has it on the disk ──> checkpoint's writer
//!                                                                        │ durable
//!             openraft's purge <── up to the checkpoint before that <────┘
//! ```
//!
//! A follower applies what a quorum has, which may be more than its own log has on the disk: so
//! what the checkpoint gets waits for the log, or after a crash it would be ahead of it. And the
//! log is purged up to the last durable checkpoint but one: should the last one turn out not to
//! be, there is still all that is needed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::end::End;
use super::shared::Shared;
use super::store::Durable;
use super::types::{LogId, Raft, StoredMembership};
use crate::node::apply::{AT_ONCE, Progress};
use crate::node::checkpoint::{Batch, Checkpoint, Full, Limits, Positions, Reached, Writer};
use crate::node::ground::{self, Fault};
use crate::node::mvcc::StoreError;

/// The blob that holds openraft's membership, in a checkpoint and in a snapshot.
pub(super) const MEMBERSHIP: &[u8] = b"raft/membership";

/// Between two looks at the state; what changes meanwhile is written together.
const PAUSE: Duration = Duration::from_millis(20);
/// Records that one look takes away at most.
const SWEEP: usize = 2000;
/// Parts of what was compacted that are forgotten between two looks; a member reads and writes
/// between any two of them.
const FORGET: usize = 8;
/// Bytes that were applied and are not with the writer yet; beyond it, applying waits.
const AHEAD: usize = 64 << 20;
/// Applied bytes between two marks of how long the log is.
const MARK: usize = 1 << 20;
/// Beyond so many bytes the log is purged without regard for followers that lag: they are sent a
/// snapshot.
const LOG_BYTES: usize = 256 << 20;

/// How much of the log is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    /// Entries between two purges (`--snapshot-count`).
    pub(super) every: u64,
    /// Entries left for followers that lag (`--snapshot-catchup-entries`).
    pub(super) behind: u64,
}

/// A place that a checkpoint has reached.
#[derive(Clone, Debug)]
pub(super) struct Stand {
    pub(super) id: LogId,
    pub(super) membership: StoredMembership,
}

/// See [the module](self).
pub(super) struct Keeper {
    shared: Arc<Shared>,
    durable: Arc<Durable>,
    keep: Keep,
    kept: Mutex<Kept>,
    /// Held while the checkpoint is worked on, so that it is not replaced meanwhile.
    gate: tokio::sync::Mutex<()>,
    nudged: Notify,
    /// Bytes applied that are not with the writer.
    ahead: AtomicUsize,
    eased: Notify,
    /// Snapshots that are being sent: the log is kept for what comes after them.
    sending: AtomicUsize,
    raft: OnceLock<Raft>,
    /// The log is purged up to here, or will be.
    purged: AtomicU64,
}

struct Kept {
    writer: Arc<Writer>,
    checkpoint: Arc<dyn Checkpoint>,
    positions: watch::Receiver<Positions>,
    /// Taken from the state, for the writer; with the bytes that were applied for it.
    queue: VecDeque<(Stand, Batch, usize)>,
    /// With the writer.
    sent: VecDeque<Stand>,
    durable: Option<Stand>,
    /// The durable checkpoint at the last purge, and what the next one may take.
    before: Option<Stand>,
    /// What is to be purged now: up to this index, which a checkpoint has that went so far.
    due: Option<(u64, Stand)>,
    /// Bytes applied by now and at some indexes, ascending.
    total: usize,
    marks: VecDeque<(u64, usize)>,
    /// Whether the last look left nothing to be taken away.
    is_swept: bool,
    looks: u64,
}

/// A snapshot is being sent while this lives.
pub(super) struct Sending(Arc<Keeper>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.sending.fetch_sub(1, Ordering::Relaxed);
        self.0.nudge();
    }
}

impl Keeper {
    /// Behind a state that was just opened from this checkpoint.
    pub(super) fn new(
        shared: Arc<Shared>,
        durable: Arc<Durable>,
        keep: Keep,
        checkpoint: Arc<dyn Checkpoint>,
    ) -> Result<Arc<Keeper>, StoreError> {
        let stand = stand(&shared);
        let kept = Kept::new(checkpoint, stand)?;
        Ok(Arc::new(Keeper {
            shared,
            durable,
            keep,
            kept: Mutex::new(kept),
            gate: tokio::sync::Mutex::new(()),
            nudged: Notify::new(),
            ahead: AtomicUsize::new(0),
            eased: Notify::new(),
            sending: AtomicUsize::new(0),
            raft: OnceLock::new(),
            purged: AtomicU64::new(0),
        }))
    }

    /// Whose log is purged.
    pub(super) fn purges(&self, raft: &Raft) {
        let _ = self.raft.set(raft.clone());
    }

    /// Whether the node runs, rather than being put together.
    pub(super) fn is_running(&self) -> bool {
        self.raft.get().is_some()
    }

    /// So many bytes were applied. Waits if the checkpoint is too far behind.
    pub(super) async fn applied(&self, bytes: usize) {
        self.ahead.fetch_add(bytes, Ordering::Relaxed);
        self.nudge();
        while self.ahead.load(Ordering::Relaxed) > AHEAD && self.shared.ends.said().is_none() {
            let eased = self.eased.notified();
            if self.ahead.load(Ordering::Relaxed) <= AHEAD {
                return;
            }
            // A notice that came in between must not leave us waiting for ever.
            let _ = tokio::time::timeout(PAUSE * 5, eased).await;
        }
    }

    /// There may be something to do.
    pub(super) fn nudge(&self) {
        self.nudged.notify_one();
    }

    /// The log is kept for as long as this is.
    pub(super) fn sending(self: &Arc<Self>) -> Sending {
        self.sending.fetch_add(1, Ordering::Relaxed);
        Sending(Arc::clone(self))
    }

    /// The checkpoint up to which openraft may purge; what it takes for a snapshot that was built.
    pub(super) fn purgeable(&self) -> Option<Stand> {
        let kept = self.kept.lock();
        kept.due.as_ref().map(|it| it.1.clone()).or_else(|| kept.durable.clone())
    }

    /// Whether the log still has what comes after an entry.
    pub(super) fn goes_on_after(&self, id: &LogId) -> bool {
        id.index >= self.purged.load(Ordering::Relaxed)
    }

    /// The checkpoint that is on the disk.
    pub(super) fn durable(&self) -> Option<Stand> {
        self.kept.lock().durable.clone()
    }

    /// Bytes of the checkpoint on the disk.
    pub(super) fn disk_size(&self) -> u64 {
        let checkpoint = Arc::clone(&self.kept.lock().checkpoint);
        checkpoint.disk_size()
    }

    /// Runs until the checkpoint fails.
    pub(super) async fn run(self: Arc<Self>) {
        if let Err(error) = self.go_on().await {
            if self.kept.lock().checkpoint.was_deleted() {
                self.do_without().await;
            }
            self.shared.ends.say(End::from(&error));
            self.eased.notify_waiters();
        }
    }

    /// Somebody has deleted the data directory. This member votes, and has what it acknowledged,
    /// for as long as it runs, and the others may need it (safety 10): it goes on until what it
    /// cannot write any more takes too much memory.
    async fn do_without(&self) {
        tracing::warn!("the store's files are gone; the node goes on without, while memory lasts");
        while self.ahead.load(Ordering::Relaxed) < AHEAD / 2 {
            self.nudged.notified().await;
        }
    }

    async fn go_on(&self) -> Result<(), StoreError> {
        loop {
            let mut positions = {
                let _gate = self.gate.lock().await;
                self.forget();
                self.look();
                self.send().await?;
                let mut positions = self.kept.lock().positions.clone();
                positions.mark_unchanged();
                self.settle()?;
                self.purge().await;
                positions
            };
            tokio::time::sleep(PAUSE).await;
            tokio::select! {
                biased;
                () = self.nudged.notified() => {}
                () = self.durable.moved(), if !self.kept.lock().queue.is_empty() => {}
                changed = positions.changed() => if changed.is_err() {
                    // The writer has ended: replaced, or failed.
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Goes on with what a compaction has given up.
    fn forget(&self) {
        for _ in 0..FORGET {
            if !self.shared.replicated.read().state.kv.is_forgetting() {
                return;
            }
            self.shared.replicated.write().state.kv.forget(AT_ONCE);
        }
    }

    /// Takes from the state what is new.
    fn look(&self) {
        let mut replicated = self.shared.replicated.write();
        let Some(id) = replicated.applied() else { return };
        let mut kept = self.kept.lock();
        let last = kept.queue.back().map(|it| it.0.id).or(kept.sent.back().map(|it| it.id));
        let last = last.or(kept.durable.as_ref().map(|it| it.id));
        let is_new = last.is_none_or(|last| last < id);
        if !is_new && kept.is_swept && replicated.state.kv.compacted() == 0 {
            return;
        }
        let Progress { records, removed, mut metas, applied: _ } = replicated.state.progress(SWEEP);
        kept.is_swept = removed.len() < SWEEP && !replicated.state.kv.is_forgetting();
        kept.looks += 1;
        if !kept.is_swept {
            self.nudge();
        }
        if !is_new && removed.is_empty() {
            return;
        }
        let is_membership_new = std::mem::take(&mut replicated.is_membership_new)
            && !ground::has(Fault::MembershipNotKept);
        if is_membership_new || last.is_none() {
            metas.push((Bytes::from_static(MEMBERSHIP), Some(blob(&replicated.membership))));
        }
        let membership = replicated.membership.clone();
        drop(replicated);
        let batch = Batch { puts: records, removes: removed, meta: metas, applied: id.index };
        let bytes = self.ahead.load(Ordering::Relaxed).saturating_sub(kept.queued());
        kept.mark(id.index, bytes);
        kept.queue.push_back((Stand { id, membership }, batch, bytes));
    }

    /// Sends to the writer what the log has on the disk.
    async fn send(&self) -> Result<(), StoreError> {
        loop {
            let (writer, batch, stand, bytes) = {
                let mut kept = self.kept.lock();
                let is_due = |it: &(Stand, Batch, usize)| self.durable.covers(it.0.id.index);
                let Some((stand, batch, bytes)) = kept.queue.pop_front_if(|it| is_due(it)) else {
                    return Ok(());
                };
                (Arc::clone(&kept.writer), batch, stand, bytes)
            };
            let mut batch = Some(batch);
            while let Some(it) = batch.take() {
                match writer.send(it) {
                    Ok(()) => {}
                    Err(Full::NoRoom(it)) => {
                        writer.room().await?;
                        batch = Some(it);
                    }
                    Err(Full::Failed(_, error)) => return Err(error),
                }
            }
            self.kept.lock().sent.push_back(stand);
            self.ahead.fetch_sub(bytes, Ordering::Relaxed);
            self.eased.notify_waiters();
        }
    }

    /// Takes note of how far the writer is.
    fn settle(&self) -> Result<(), StoreError> {
        let Positions { written, durable, failed } = {
            let kept = self.kept.lock();
            kept.positions.borrow().clone()
        };
        if let Some(error) = failed {
            return Err(error);
        }
        let Reached { revision, removed, .. } = written;
        self.shared.replicated.write().state.kv.written_up_to(revision, removed);
        let mut kept = self.kept.lock();
        while let Some(stand) = kept.sent.pop_front_if(|it| it.id.index <= durable.applied) {
            kept.durable = Some(stand);
        }
        Ok(())
    }

    /// Has openraft purge what is not needed any more.
    async fn purge(&self) {
        let Some(raft) = self.raft.get() else { return };
        let due = {
            let mut kept = self.kept.lock();
            kept.step(self.keep);
            let is_sending = self.sending.load(Ordering::Relaxed) > 0;
            kept.due.clone().filter(|_| !is_sending || kept.log_bytes() > 4 * LOG_BYTES)
        };
        let Some((up_to, due)) = due else { return };
        let built = raft.data_metrics().borrow_watched().snapshot;
        // Errors mean that raft has stopped; who watches it says so.
        if built.is_some_and(|it| it.index >= due.id.index) {
            self.purged.fetch_max(up_to, Ordering::Relaxed);
            let _ = raft.trigger().purge_log(up_to).await;
            self.kept.lock().purged(up_to);
        } else {
            let _ = raft.trigger().snapshot().await;
        }
    }

    /// Writes and flushes what the log has on the disk.
    pub(super) async fn flush(&self, trim: bool) -> Result<(), StoreError> {
        let _gate = self.gate.lock().await;
        self.forget();
        self.look();
        self.send().await?;
        let writer = Arc::clone(&self.kept.lock().writer);
        if trim { writer.trim().await } else { writer.flush().await }?;
        self.settle()
    }

    /// Returns once the checkpoint holds nothing on disk that compaction has made unreachable
    /// before the call.
    pub(super) async fn swept(&self) -> Result<(), StoreError> {
        loop {
            let (before, is_swept) = {
                let kept = self.kept.lock();
                (kept.looks, kept.is_swept)
            };
            self.nudge();
            self.flush(false).await?;
            let is_done = {
                let kept = self.kept.lock();
                is_swept && kept.is_swept && kept.looks > before
            };
            if is_done {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Puts another checkpoint in the place of this one. `switch` gets the new one ready, with
    /// nobody at the old one any more.
    pub(super) async fn replace<E: From<StoreError>>(
        &self,
        switch: impl Future<Output = Result<Arc<dyn Checkpoint>, E>>,
        stand: Stand,
    ) -> Result<(), E> {
        let _gate = self.gate.lock().await;
        let old = Arc::clone(&self.kept.lock().writer);
        // What it has is of no use any more, but it is not to write while its files go.
        let _ = old.flush().await;
        drop(old);
        let kept = Kept::new(switch.await?, Some(stand))?;
        *self.kept.lock() = kept;
        self.ahead.store(0, Ordering::Relaxed);
        self.eased.notify_waiters();
        self.nudge();
        Ok(())
    }
}

impl Kept {
    fn new(checkpoint: Arc<dyn Checkpoint>, stand: Option<Stand>) -> Result<Kept, StoreError> {
        let writer = Arc::new(Writer::start(Arc::clone(&checkpoint), Limits::default())?);
        Ok(Kept {
            positions: writer.positions(),
            writer,
            checkpoint,
            queue: VecDeque::new(),
            sent: VecDeque::new(),
            before: stand.clone(),
            durable: stand,
            due: None,
            total: 0,
            marks: VecDeque::new(),
            is_swept: false,
            looks: 0,
        })
    }

    fn queued(&self) -> usize {
        self.queue.iter().map(|it| it.2).sum()
    }

    fn mark(&mut self, index: u64, bytes: usize) {
        self.total += bytes;
        if self.marks.back().is_none_or(|it| self.total - it.1 >= MARK) {
            self.marks.push_back((index, self.total));
        }
    }

    /// Bytes of applied entries that are in the log, roughly.
    fn log_bytes(&self) -> usize {
        self.total - self.marks.front().map_or(self.total, |it| it.1)
    }

    /// Decides whether something is to be purged, and how far.
    fn step(&mut self, keep: Keep) {
        if self.due.is_some() {
            return;
        }
        let Some(durable) = &self.durable else { return };
        let before = self.before.as_ref().map_or(0, |it| it.id.index);
        let since = durable.id.index.saturating_sub(before);
        if since < keep.every && self.log_bytes() < LOG_BYTES {
            return;
        }
        let former = self.before.replace(durable.clone());
        let Some(due) = former else { return };
        let long = self.marks.iter().take_while(|it| self.total - it.1 > LOG_BYTES).last();
        let left = durable.id.index.saturating_sub(keep.behind);
        let up_to = left.max(long.map_or(0, |it| it.0)).min(due.id.index);
        if up_to > 0 {
            self.due = Some((up_to, due));
        }
    }

    fn purged(&mut self, index: u64) {
        self.due = None;
        while self.marks.pop_front_if(|it| it.0 <= index).is_some() {}
    }
}

/// How a membership is kept: openraft's own JSON.
pub(super) fn blob(membership: &StoredMembership) -> Bytes {
    // Numbers for keys and lists of strings always have a JSON form.
    serde_json::to_vec(membership).unwrap_or_default().into()
}

fn stand(shared: &Shared) -> Option<Stand> {
    let replicated = shared.replicated.read();
    let membership = replicated.membership.clone();
    Some(Stand { id: replicated.applied()?, membership })
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}
