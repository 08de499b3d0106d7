//! The checkpoint: what of the replicated state is on the disk beside the log, written behind.
//!
//! ```text
//!  apply ── Batch ──> Writer (own thread) ── write, now and then flush ──> Sled in data/store/NAME
//!                        │ written, durable                                  ^           ^
//!                        v                                                   │ Records   │ CURRENT
//!              tail forgotten, log purged                              mvcc::Store     Place, Import
//! ```
//!
//! An acknowledgement never rests on it: whatever was not flushed is applied again from the log,
//! which is purged only up to what is durable here. So a checkpoint may be old, but never torn:
//! each [`Batch`] is in it as a whole or not at all, in order, and the applied index with it.
//!
//! It never repairs. A store that cannot be read whole is [`Damaged`](StoreError::Damaged), and
//! who opened it decides whether log or peers can make a new one. After a failed write or fsync
//! nothing is tried again; every later call is handed the same error.

mod files;
mod import;
mod memory;
mod place;
#[cfg(feature = "simulation")]
mod simulated;
mod sled;
mod writer;

use bytes::Bytes;

pub use self::import::{Import, Imported};
pub use self::memory::Memory;
pub use self::place::Place;
#[cfg(feature = "simulation")]
pub use self::simulated::Simulated as Stored;
pub use self::sled::Sled;
#[cfg(not(feature = "simulation"))]
pub use self::sled::Sled as Stored;
pub use self::writer::{Full, Limits, Positions, Reached, Writer};
use super::mvcc::{Record, Records, Revision, StoreError};

/// What is written as one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// New records, in order, later than all that were written before.
    pub puts: Vec<Record>,
    /// Records that nothing leads to any more.
    pub removes: Vec<Revision>,
    /// Blobs by name; `None` for one that is gone.
    pub meta: Vec<(Bytes, Option<Bytes>)>,
    /// The last log index that is in it; never less than that of the batch before.
    pub applied: u64,
}

impl Batch {
    /// Bytes it takes in memory, roughly.
    pub fn size(&self) -> usize {
        const EACH: usize = 64;
        let records = self.puts.iter().map(|it| it.kv.key.len() + it.kv.value.len() + EACH);
        let blob = |it: &Option<Bytes>| it.as_ref().map_or(0, Bytes::len);
        let metas = self.meta.iter().map(|(name, it)| name.len() + blob(it) + EACH);
        EACH + records.sum::<usize>() + self.removes.len() * 16 + metas.sum::<usize>()
    }

    /// Takes in a later one, as if both had been one.
    fn absorb(&mut self, later: Batch) {
        self.puts.extend(later.puts);
        self.removes.extend(later.removes);
        self.meta.extend(later.meta);
        self.applied = later.applied;
    }
}

/// When a checkpoint is trimmed, which makes reads wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// Between writes: only if much is to be had.
    Busy,
    /// Nothing has come to be written for a while: if there is something to be had.
    Quiet,
    /// In any case.
    Now,
}

/// Where a checkpoint is kept.
pub trait Checkpoint: Records {
    /// The log index that the last batch went up to; 0 before the first.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn applied(&self) -> Result<u64, StoreError>;

    /// The last record's revision; the default one if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn last(&self) -> Result<Revision, StoreError>;

    /// A blob by its name.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn meta(&self, name: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// All blobs whose names begin so, by name.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    fn metas(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StoreError>;

    /// Writes a batch. It can be read at once, and is durable after the next [`Self::flush`].
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the checkpoint does nothing more then.
    fn write(&self, batch: &Batch) -> Result<(), StoreError>;

    /// Makes durable what is written.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the checkpoint does nothing more then.
    fn flush(&self) -> Result<(), StoreError>;

    /// Gives back memory, and disk space where it can, if it is worth it; flushes first. Reads wait
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the checkpoint does nothing more then.
    fn trim(&self, when: Trim) -> Result<(), StoreError>;

    /// Bytes it takes on the disk; never 0.
    fn disk_size(&self) -> u64;

    /// Whether its files were deleted under it. What cannot be looked at was not.
    fn was_deleted(&self) -> bool {
        false
    }
}
