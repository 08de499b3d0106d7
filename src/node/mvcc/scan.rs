//! Reading all of the store at one revision while it goes on.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::error::StoreError;
use super::revision::{Record, Revision, Seen};
use super::store::Records;

/// All records up to a revision. While it lives, no record it wants is deleted.
pub struct Scan {
    pub(super) records: Arc<dyn Records>,
    /// Those that were in memory.
    pub(super) tail: Vec<Record>,
    /// Which records of the compacted time still count.
    pub(super) counts: Counts,
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) _hold: Arc<()>,
}

/// Some records of those that are there; sorted.
pub(super) enum Counts {
    These(Vec<Revision>),
    AllBut(Vec<Revision>),
}

impl Counts {
    fn has(&self, at: Revision) -> bool {
        match self {
            Counts::These(these) => these.binary_search(&at).is_ok(),
            Counts::AllBut(others) => others.binary_search(&at).is_err(),
        }
    }
}

/// A hash of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// CRC-32C over place and content of every record that counts, in order.
    pub hash: u32,
    /// Up to which revision.
    pub revision: i64,
    /// The compacted revision, on which the hash depends, too.
    pub compacted: i64,
}

impl Scan {
    /// The revision it stands at.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// What the store was compacted to when this was made.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Shows every record from a place on, in order, until told to break off.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn each(
        &self,
        from: Revision,
        see: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let counts = |at: Revision| at.main > self.compacted || self.counts.has(at);
        let first_in_memory = self.tail.first().map(|it| it.revision);
        let mut goes_on = ControlFlow::Continue(());
        self.records.scan(from, self.revision, &mut |record| {
            if first_in_memory.is_some_and(|first| record.revision >= first) {
                return ControlFlow::Break(());
            }
            if counts(record.revision) {
                goes_on = see(record);
            }
            goes_on
        })?;
        for record in self.tail.iter().filter(|it| it.revision >= from && counts(it.revision)) {
            if goes_on.is_break() {
                break;
            }
            goes_on = see(record.seen());
        }
        Ok(())
    }

    /// The hash of all that is in it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn hash(&self) -> Result<Hashed, StoreError> {
        let mut hashing = Hashing::new(self.compacted);
        self.each(Revision::default(), &mut |record| {
            hashing.take(&record);
            ControlFlow::Continue(())
        })?;
        Ok(hashing.end(self.revision))
    }
}

/// A hash that is being made.
#[derive(Clone, Copy, Debug)]
pub struct Hashing {
    hash: u32,
    compacted: i64,
}

impl Hashing {
    /// Of a store that was compacted to a revision, before its first record.
    pub fn new(compacted: i64) -> Hashing {
        Hashing { hash: crc32c::crc32c(&compacted.to_le_bytes()), compacted }
    }

    /// Takes the next record.
    pub fn take(&mut self, record: &Seen<'_>) {
        self.hash = crc32c::crc32c_append(self.hash, &record.revision.to_key());
        record.parts(|part| self.hash = crc32c::crc32c_append(self.hash, part));
    }

    /// All were taken, up to a revision.
    pub fn end(self, revision: i64) -> Hashed {
        Hashed { hash: self.hash, revision, compacted: self.compacted }
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan")
            .field("revision", &self.revision)
            .field("compacted", &self.compacted)
            .finish_non_exhaustive()
    }
}
