//! A snapshot as a follower receives it: into a store of its own beside the current one, checked
//! and on the disk before openraft hears of it. What has come durably is still there after a
//! break.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::codec::Malformed;
use super::machine;
use super::offer::{self, Begin, Chunk, Finish, Pieces};
use super::types::LogId;
use crate::node::apply::{OpenError, State};
use crate::node::checkpoint::{Checkpoint, Import, Imported, Place};
use crate::node::ground::work;
use crate::node::mvcc::{Records, StoreError};

/// Bytes that may be lost to a break.
const FLUSH: usize = if cfg!(feature = "simulation") { 4 << 10 } else { 16 << 20 };

/// Why a snapshot is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    /// What came cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// What came is of another snapshot than the one that was begun.
    #[error("snapshot {0} was not begun")]
    NotBegun(LogId),
    /// The checkpoint failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its blobs make no state.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is not what the leader has.
    #[error("the snapshot is not what was sent: {0}")]
    Different(String),
    /// The node is stopping.
    #[error("stopping")]
    Stopping,
}

/// A snapshot that is complete.
pub(super) struct Received {
    pub(super) state: State,
    pub(super) imported: Imported,
    pub(super) place: Place,
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Received").field("applied", &self.state.applied()).finish_non_exhaustive()
    }
}

/// What comes in; one at a time.
#[derive(Debug)]
pub(super) struct Receiver {
    place: Place,
    quota: u64,
    coming: Arc<Mutex<Option<Coming>>>,
}

#[derive(Debug)]
struct Coming {
    id: LogId,
    import: Import,
    pieces: Pieces,
    unflushed: usize,
}

impl Receiver {
    pub(super) fn new(place: Place, quota: u64) -> Receiver {
        Receiver { place, quota, coming: Arc::default() }
    }

    /// Begins a snapshot, or goes on with it; the answer says after which record.
    pub(super) async fn begin(&self, bytes: Bytes) -> Result<Bytes, ReceiveError> {
        let Begin { id } = Begin::decode(bytes)?;
        let place = self.place.clone();
        let mut coming = Arc::clone(&self.coming).lock_owned().await;
        blocking(move || {
            let it = match coming.take() {
                Some(it) if it.id == id => it,
                // Another one: what came of the former is given up with it.
                former => {
                    drop(former);
                    let name = format!("{}-{}", *id.leader_id, id.index);
                    let import = place.begin_import(name.as_bytes())?;
                    Coming { id, import, pieces: Pieces::default(), unflushed: 0 }
                }
            };
            let received = it.import.received()?;
            *coming = Some(it);
            Ok(offer::received(received))
        })
        .await
    }

    /// Takes in some records.
    pub(super) async fn chunk(&self, bytes: Bytes) -> Result<Bytes, ReceiveError> {
        let mut coming = Arc::clone(&self.coming).lock_owned().await;
        blocking(move || {
            let size = bytes.len();
            let Chunk { id, records } = Chunk::decode(bytes)?;
            let it = coming.as_mut().filter(|it| it.id == id);
            let it = it.ok_or(ReceiveError::NotBegun(id))?;
            it.import.append(records)?;
            it.unflushed += size;
            if it.unflushed >= FLUSH {
                it.import.flush()?;
                it.unflushed = 0;
            }
            Ok(Bytes::new())
        })
        .await
    }

    /// Takes in a piece of the end; after the last one, the whole.
    pub(super) async fn finish(
        &self,
        bytes: Bytes,
    ) -> Result<Option<(Finish, Received)>, ReceiveError> {
        let (place, quota) = (self.place.clone(), self.quota);
        let mut coming = Arc::clone(&self.coming).lock_owned().await;
        blocking(move || {
            let it = coming.as_mut().ok_or_else(|| Malformed("nothing was begun".to_owned()))?;
            let (id, finish) = it.pieces.take(bytes)?;
            if it.id != id {
                return Err(ReceiveError::NotBegun(id));
            }
            let Some(finish) = finish else { return Ok(None) };
            let Some(Coming { import, .. }) = coming.take() else { return Ok(None) };
            let received = complete(import, place.clone(), &finish, id, quota);
            if received.is_err() {
                // It cannot be trusted to go on from.
                place.drop_import()?;
            }
            Ok(Some((finish, received?)))
        })
        .await
    }
}

/// Makes a state of what has come, and makes sure that it is the leader's.
fn complete(
    import: Import,
    place: Place,
    finish: &Finish,
    id: LogId,
    quota: u64,
) -> Result<Received, ReceiveError> {
    let blobs = blobs(finish)?;
    let imported = import.complete(blobs.clone(), id.index)?;
    let store = imported.store();
    let state = open(Arc::clone(&store) as Arc<dyn Records>, blobs, finish, id, quota)?;
    // Sealed: all of it is on the disk.
    store.flush()?;
    Ok(Received { state, imported, place })
}

/// All that stands beside the records.
pub(super) fn blobs(finish: &Finish) -> Result<Vec<(Bytes, Bytes)>, ReceiveError> {
    Ok(machine::blobs(finish.head.clone(), &finish.meta.last_membership)?)
}

/// The state of these records and blobs, if it is the one that was offered.
pub(super) fn open(
    records: Arc<dyn Records>,
    blobs: Vec<(Bytes, Bytes)>,
    finish: &Finish,
    id: LogId,
    quota: u64,
) -> Result<State, ReceiveError> {
    let (state, hashed) = State::open_hashed(records, blobs, quota)?;
    let applied = state.applied().map(|it| super::types::log_id(it.term, it.index));
    if applied != Some(id) || finish.meta.last_log_id != Some(id) {
        return Err(ReceiveError::Different(format!("it is of {applied:?}, not of {id}")));
    }
    if (hashed.hash, hashed.revision) != (finish.hash, finish.revision) {
        let what =
            format!("its records have the hash {:08x}, not {:08x}", hashed.hash, finish.hash);
        return Err(ReceiveError::Different(what));
    }
    Ok(state)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReceiveError> + Send + 'static,
) -> Result<T, ReceiveError> {
    work::blocking(work).await.unwrap_or(Err(ReceiveError::Stopping))
}
