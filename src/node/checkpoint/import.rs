//! A snapshot that comes in, record by record, into a store of its own.
//!
//! It is not the current store before [`Import::finish`], and what came durably is still there
//! after a break: whoever sends goes on behind [`Import::received`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::files::{read_if_there, remove_file, write_whole};
use super::place::Place;
use super::{Batch, Checkpoint, Stored, Trim};
use crate::node::mvcc::{Record, Revision, StoreError};

/// Says of which snapshot a store is; only in stores that are no checkpoint yet.
const ID: &str = "import";

/// A snapshot that comes in.
#[derive(Debug)]
pub struct Import {
    place: Place,
    store: PathBuf,
    stored: Stored,
}

/// Whether a store is an import that can go on.
pub(super) fn is_begun(store: &Path) -> bool {
    read_if_there(&store.join(ID)).is_ok_and(|it| it.is_some())
        && Stored::is_made(store).unwrap_or(false)
}

/// Whether it is that of this snapshot.
pub(super) fn is_of(store: &Path, id: &[u8]) -> bool {
    is_begun(store) && read_if_there(&store.join(ID)).is_ok_and(|it| it.as_deref() == Some(id))
}

/// Makes sure that a store is taken for no import any more.
pub(super) fn end(store: &Path) -> Result<(), StoreError> {
    if read_if_there(&store.join(ID))?.is_some() { remove_file(store, ID) } else { Ok(()) }
}

impl Import {
    pub(super) fn begin(place: Place, store: &Path, id: &[u8]) -> Result<Import, StoreError> {
        let stored = Stored::create(store)?;
        // Last, so that what bears it is whole.
        write_whole(store, ID, id)?;
        Ok(Import { place, store: store.to_owned(), stored })
    }

    pub(super) fn resume(place: Place, store: &Path) -> Result<Import, StoreError> {
        let stored = Stored::open(store)?;
        Ok(Import { place, store: store.to_owned(), stored })
    }

    /// The last record that has come, to be asked for the rest after it; the default revision if
    /// none has. Right after [`Place::begin_import`], all up to here is durable.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn received(&self) -> Result<Revision, StoreError> {
        self.stored.last()
    }

    /// Takes in records, in order. Those that it has are passed over, so what was sent twice does
    /// no harm.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn append(&self, mut records: Vec<Record>) -> Result<(), StoreError> {
        let last = self.stored.last()?;
        records.retain(|it| it.revision > last);
        self.stored.write(&Batch { puts: records, ..Batch::default() })?;
        self.stored.trim(Trim::Busy)
    }

    /// Makes durable what has come; a break costs no more than what came after.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn flush(&self) -> Result<(), StoreError> {
        self.stored.flush()
    }

    /// Completes it with its blobs, durably. It is not the current store yet, and can be read.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn complete(self, meta: Vec<(Bytes, Bytes)>, applied: u64) -> Result<Imported, StoreError> {
        let Import { place, store, stored } = self;
        let meta = meta.into_iter().map(|(name, blob)| (name, Some(blob))).collect();
        stored.write(&Batch { meta, applied, ..Batch::default() })?;
        stored.flush()?;
        Ok(Imported { place, store, stored: Arc::new(stored) })
    }

    /// Completes it and makes it the current store, durably. Blocks for as long as the disk
    /// needs. [`Place::open`] opens it then; the former store must be closed before.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; unless CURRENT itself could not be synced, the former store is still the
    /// current one.
    pub fn finish(self, meta: Vec<(Bytes, Bytes)>, applied: u64) -> Result<(), StoreError> {
        let imported = self.complete(meta, applied)?;
        imported.switch()
    }
}

/// A snapshot that has come whole, to be looked at before it becomes the current store.
#[derive(Debug)]
pub struct Imported {
    place: Place,
    store: PathBuf,
    stored: Arc<Stored>,
}

impl Imported {
    /// What has come.
    pub fn store(&self) -> Arc<Stored> {
        Arc::clone(&self.stored)
    }

    /// Makes it the current store, durably: no more than a rename. It goes on being used through
    /// [`Imported::store`]; the former one is to be given up before, and [`Place::drop_import`]
    /// removes it after.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; unless CURRENT itself could not be synced, the former store is still the
    /// current one.
    pub fn switch(&self) -> Result<(), StoreError> {
        self.place.switch_to(&self.store)?;
        end(&self.store)
    }
}
