//! What openraft asks of a state machine, over [`State`](crate::node::apply::State).
//!
//! A snapshot is not built: what is on the disk of the state is the checkpoint, which is always
//! there and never far behind. What openraft takes for a built snapshot is the checkpoint's place;
//! what it sends to a follower is a scan of the state as it is then.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use parking_lot::Mutex;

use super::end::End;
use super::keeper::{self, Keeper, Stand};
use super::offer::{self, Offer};
use super::receive::Received;
use super::shared::Shared;
use super::types::{LogId, Snapshot, SnapshotMeta, StoredMembership, Types};
use crate::clock::Moment;
use crate::node::checkpoint::Checkpoint;
use crate::node::ground::work;
use crate::node::mvcc::StoreError;

/// Entries that are applied under one lock.
const TOGETHER: usize = 64;
/// An offer is used again within this time: a follower that was cut off goes on where it was.
const OFFER_LIVES: Duration = Duration::from_secs(60);

/// What a snapshot is to us.
#[derive(Debug)]
pub(super) enum Parcel {
    /// A place only.
    Empty,
    /// To be sent.
    Offer(Arc<Offer>),
    /// Received, checked and on the disk.
    Received(Box<Received>),
}

/// See [the module](self).
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) shared: Arc<Shared>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) offers: Arc<Offers>,
}

/// The last snapshot that was offered.
#[derive(Debug, Default)]
pub(super) struct Offers(Mutex<Option<(Moment, Arc<Offer>)>>);

impl Offers {
    /// Lets go of one that nobody has used for a while: it keeps what compaction would delete.
    pub(super) fn forget(&self, now: Moment) {
        self.0.lock().take_if(|(used, _)| now.since(*used) > OFFER_LIVES);
    }

    /// It is still in use, or was until now.
    pub(super) fn used(&self, now: Moment) {
        if let Some((used, _)) = &mut *self.0.lock() {
            *used = now;
        }
    }

    /// Lets go of it: its receiver has all.
    pub(super) fn done(&self, id: LogId) {
        self.0.lock().take_if(|(_, it)| it.id == id);
    }
}

/// Takes the place of building a snapshot.
#[derive(Debug)]
pub(super) struct Builder(Stand);

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Parcel;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        Ok(Snapshot { meta: meta(&self.0), snapshot: Parcel::Empty })
    }
}

fn meta(stand: &Stand) -> SnapshotMeta {
    SnapshotMeta { last_log_id: Some(stand.id), last_membership: stand.membership.clone() }
}

impl Machine {
    /// The state as it is now, or as it was offered shortly before.
    fn offer(&self) -> Result<Option<Arc<Offer>>, io::Error> {
        let now = self.shared.clock.monotonic();
        self.offers.forget(now);
        let mut last = self.offers.0.lock();
        if let Some((used, offer)) = &mut *last
            && self.keeper.goes_on_after(&offer.id)
        {
            *used = now;
            return Ok(Some(Arc::clone(offer)));
        }
        let replicated = self.shared.replicated.read();
        let Some(id) = replicated.applied() else { return Ok(None) };
        let scan = replicated.state.kv.scan(0).map_err(|it| offer::cannot_scan(&it))?;
        let last_membership = replicated.membership.clone();
        let meta = SnapshotMeta { last_log_id: Some(id), last_membership };
        let offer = Offer::new(id, meta, replicated.state.snapshot_meta(), scan);
        *last = Some((now, Arc::clone(&offer)));
        Ok(Some(offer))
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Parcel;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let replicated = self.shared.replicated.read();
        Ok((replicated.applied(), replicated.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut entries = entries.ready_chunks(TOGETHER);
        while let Some(some) = entries.next().await {
            let bytes = self.shared.apply(some)?;
            self.keeper.applied(bytes).await;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        self.keeper.purgeable().map(Builder)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // openraft asks the other one; before the first checkpoint there is nothing to purge.
        let nowhere = || Stand {
            id: super::types::log_id(0, 0),
            membership: self.shared.replicated.read().membership.clone(),
        };
        Builder(self.keeper.purgeable().unwrap_or_else(nowhere))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Parcel,
    ) -> Result<(), io::Error> {
        let Parcel::Received(received) = snapshot else {
            return Err(io::Error::other("a snapshot to install that was not received"));
        };
        let Received { state, imported, place } = *received;
        let Some(id) = meta.last_log_id else {
            return Err(io::Error::other("a snapshot of nothing"));
        };
        let stand = Stand { id, membership: meta.last_membership.clone() };
        let shared = Arc::clone(&self.shared);
        let membership = stand.membership.clone();
        let switch = async move {
            let switched = work::blocking(move || {
                imported.switch()?;
                // Whoever still reads the old state's records holds their files.
                shared.replace(state, membership);
                let store = imported.store();
                place.drop_import()?;
                Ok::<_, StoreError>(store)
            });
            let ended = || Err(StoreError::Io("what switches stores has ended".to_owned()));
            let store = switched.await.unwrap_or_else(ended)?;
            Ok::<_, StoreError>(store as Arc<dyn Checkpoint>)
        };
        let replaced = self.keeper.replace(switch, stand).await;
        replaced.map_err(|error| {
            self.shared.ends.say(End::from(&error));
            io::Error::other(error)
        })?;
        tracing::info!(index = id.index, "a snapshot of the leader took the state's place");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        if !self.keeper.is_running() {
            // At the start openraft asks how far the state is kept, and no more.
            let stand = self.keeper.durable();
            return Ok(stand.map(|it| Snapshot { meta: meta(&it), snapshot: Parcel::Empty }));
        }
        let offer = self.offer()?;
        Ok(offer.map(|it| Snapshot { meta: it.meta.clone(), snapshot: Parcel::Offer(it) }))
    }
}

/// The blobs of an offer, for a checkpoint: the state's and openraft's.
pub(super) fn blobs(
    head: bytes::Bytes,
    membership: &StoredMembership,
) -> Result<Vec<(bytes::Bytes, bytes::Bytes)>, crate::node::apply::OpenError> {
    let mut blobs = crate::node::apply::read_snapshot_meta(head)?;
    blobs.push((bytes::Bytes::from_static(keeper::MEMBERSHIP), keeper::blob(membership)));
    Ok(blobs)
}
