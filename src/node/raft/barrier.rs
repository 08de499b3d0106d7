//! Linearizable reads: up to which entry one has to see.
//!
//! The leader asks a quorum whether it still leads (Raft thesis §6.4); one such round serves all
//! reads that were there when it began. Those that come meanwhile wait for the next one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::ReadPolicy;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::methods;
use super::node::Inner;
use crate::node::fault::Fault;

/// Reads that wait for a round at most.
const MOST: usize = 50_000;
/// After a round that came to nothing.
const PAUSE: Duration = Duration::from_millis(10);

/// All that wait for the next round.
#[derive(Debug, Default)]
pub(super) struct Barrier {
    waiting: Mutex<Vec<Reader>>,
    nudged: Notify,
}

#[derive(Debug)]
struct Reader {
    index: oneshot::Sender<u64>,
    /// Asked for by another member: only the leader answers that.
    is_remote: bool,
}

impl Barrier {
    /// The index that a read has to see which was asked for before this.
    pub(super) async fn index(&self, is_remote: bool) -> Result<u64, Fault> {
        let (tell, index) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock();
            if waiting.len() >= MOST {
                return Err(Fault::TooManyRequests);
            }
            waiting.push(Reader { index: tell, is_remote });
        }
        self.nudged.notify_one();
        index.await.map_err(|_| Fault::LeaderChanged)
    }
}

impl Inner {
    /// Carries out rounds for as long as the node runs.
    pub(super) async fn carry_reads(self: Arc<Self>) {
        loop {
            let mut readers = std::mem::take(&mut *self.barrier.waiting.lock());
            // Those that have given up are not waited for.
            readers.retain(|it| !it.index.is_closed());
            if readers.is_empty() {
                self.barrier.nudged.notified().await;
                continue;
            }
            if !self.leads() {
                // They are told by being dropped.
                readers.retain(|it| !it.is_remote);
            }
            if let Some(index) = self.round().await {
                for reader in readers {
                    let _ = reader.index.send(index); // it may have given up
                }
            } else {
                self.barrier.waiting.lock().append(&mut readers);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// One round; `None` if it came to nothing.
    async fn round(&self) -> Option<u64> {
        let leader = self.leader()?;
        if leader == self.own() {
            let linearizer = self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await.ok()?;
            return Some(linearizer.read_log_id().index());
        }
        let peer = self.links.peer(leader, None)?;
        let answer = peer.call(methods::READ_INDEX, b"", self.options.election).await.ok()?;
        super::codec::Reader(answer).u64().ok()
    }

    /// Answers another member's round.
    pub(super) async fn read_index(&self) -> Result<Bytes, Fault> {
        if !self.leads() {
            return Err(Fault::NotLeader);
        }
        let index = self.barrier.index(true).await?;
        let mut out = super::codec::Writer::default();
        out.u64(index);
        Ok(out.0.freeze())
    }

    /// Returns once this member has applied all that was acknowledged anywhere before.
    pub(super) async fn barrier(&self) -> Result<(), Fault> {
        if self.is_stopping() {
            return Err(Fault::Stopped);
        }
        let begun = self.shared.clock.monotonic();
        let limit = self.limit();
        let index = tokio::time::timeout(limit, self.barrier.index(false)).await;
        let index = index.unwrap_or_else(|_| Err(self.timed_out(begun)))?;
        let rest = limit.saturating_sub(self.shared.clock.monotonic().since(begun));
        let applied = tokio::time::timeout(rest, self.shared.wait_applied(index)).await;
        applied.map_err(|_| Fault::TimeoutWaitAppliedIndex)
    }
}
