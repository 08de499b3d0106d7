//! A node that runs: what its parts are, how it stands, and how it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use super::barrier::Barrier;
use super::config::Options;
use super::end::End;
use super::keeper::Keeper;
use super::links::Links;
use super::receive::Receiver;
use super::shared::Shared;
use super::types::Raft;
use crate::clock::Moment;
use crate::cluster::{Incarnation, MemberId};
use crate::node::log::Log;
use crate::node::replica::Standing;

/// A node that runs. Clones are the same node; with the last of them it stops at once, as if it
/// had been killed. [`Node::shutdown`] is the polite way.
#[derive(Clone)]
pub struct Node {
    pub(super) inner: Arc<Inner>,
    pub(super) tasks: Arc<Tasks>,
}

/// What the parts of a node share once it runs.
pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) links: Links,
    pub(super) raft: Raft,
    pub(super) log: Log,
    pub(super) receiver: Receiver,
    pub(super) options: Options,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) barrier: Barrier,
    /// One change of the members at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// Who leads as its messages say, and when the last one came.
    pub(super) heard: Mutex<Option<(MemberId, Moment)>>,
    /// When the present leader was first known.
    pub(super) elected: Mutex<Option<Moment>>,
    /// What data members were seen to run on before they published it.
    pub(super) seen: Mutex<BTreeMap<MemberId, Incarnation>>,
    /// It takes nothing more.
    pub(super) stopping: watch::Sender<bool>,
}

/// What runs for a node; stopped with it.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    handles: Mutex<Vec<AbortHandle>>,
    door: Mutex<Option<JoinHandle<()>>>,
}

impl Tasks {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handles.lock().push(tokio::spawn(task).abort_handle());
    }

    pub(super) fn serve(&self, task: impl Future<Output = ()> + Send + 'static) {
        *self.door.lock() = Some(tokio::spawn(task));
    }

    fn stop(&self) {
        self.handles.lock().drain(..).for_each(|it| it.abort());
        self.door.lock().iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inner {
    /// This member.
    pub(super) fn own(&self) -> MemberId {
        self.shared.ids.member
    }

    /// Who leads, as far as raft knows; whether it is alive is another question.
    pub(super) fn leader(&self) -> Option<MemberId> {
        self.raft.server_metrics().borrow_watched().current_leader.map(MemberId)
    }

    /// Whether this member leads.
    pub(super) fn leads(&self) -> bool {
        self.leader() == Some(self.own())
    }

    /// Returns once somebody leads or led a moment ago, or after a while.
    pub(super) async fn pause(&self) {
        let mut changes = self.standing.subscribe();
        let _ = tokio::time::timeout(Duration::from_millis(20), changes.changed()).await;
    }

    /// How long a request may take here: a little less than the services give it, whose own time
    /// limit cannot say why.
    pub(super) fn limit(&self) -> Duration {
        self.options.request_timeout().saturating_sub(Duration::from_millis(50))
    }

    /// Whether a member was heard within one election timeout.
    pub(super) fn hears(&self, member: MemberId) -> bool {
        let hearing = self.links.peers.hearing();
        member == self.own()
            || hearing
                .last_heard(member)
                .is_some_and(|at| hearing.now().since(at) <= self.options.election)
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.stopping.borrow() || self.shared.ends.said().is_some()
    }
}

impl Node {
    /// Returns when the node has ended by itself, and says why.
    pub async fn ended(&self) -> End {
        self.inner.shared.ends.wait().await
    }

    /// Returns once this member has applied all that the cluster had committed when it started,
    /// and the cluster knows its name: before, it serves nothing.
    ///
    /// # Errors
    ///
    /// Why the node has ended.
    pub async fn ready(&self) -> Result<(), End> {
        let ready = async {
            // A linearizable read sees all of that.
            while self.inner.barrier().await.is_err() {
                self.inner.pause().await;
            }
            self.inner.published().await;
        };
        tokio::select! {
            biased;
            () = ready => Ok(()),
            end = self.ended() => Err(end),
        }
    }

    /// The first entry that its log still has.
    pub fn log_begins(&self) -> u64 {
        self.inner.log.bounds().first
    }

    /// Ends the node: hands the leadership over, lets the peer port close, and writes what is to
    /// be written.
    ///
    /// # Errors
    ///
    /// What could not be written; nothing that was acknowledged is lost by it.
    pub async fn shutdown(&self) -> Result<(), End> {
        let inner = &self.inner;
        // Before the peer port closes: the next leader may need this member's vote.
        inner.hand_over().await;
        inner.stopping.send_replace(true);
        let door = self.tasks.door.lock().take();
        if let Some(door) = door {
            // It ends by itself now that the node is stopping.
            let _ = tokio::time::timeout(Duration::from_secs(1), door).await;
        }
        inner.links.peers.close();
        let _ = inner.raft.shutdown().await; // it may have stopped before
        let flushed = inner.keeper.flush(false).await.map_err(|it| End::from(&it));
        self.tasks.stop();
        let closed = inner.log.close().await.map_err(|it| End::from(&it));
        flushed.and(closed)
    }
}

#[cfg(feature = "simulation")]
impl Node {
    /// Ends it as if its process had been killed. What it stands on is to be taken from it before.
    pub fn kill(&self) {
        self.tasks.stop();
        self.inner.links.peers.close();
        let raft = self.inner.raft.clone();
        tokio::spawn(async move { raft.shutdown().await });
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("ids", &self.inner.shared.ids).finish_non_exhaustive()
    }
}
