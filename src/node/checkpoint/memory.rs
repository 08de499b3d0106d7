//! A checkpoint that ends with the process: for tests of what stands on one.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use parking_lot::RwLock;

use super::{Batch, Checkpoint, Trim};
use crate::node::mvcc::{Record, Records, Revision, Seen, StoreError};

/// Holds everything in memory; never fails.
#[derive(Debug, Default)]
pub struct Memory {
    content: RwLock<Content>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    records: BTreeMap<Revision, Record>,
    metas: BTreeMap<Bytes, Bytes>,
    applied: u64,
}

impl Memory {
    /// A copy of all that it holds now.
    #[must_use]
    pub fn copy(&self) -> Memory {
        Memory { content: RwLock::new(self.content.read().clone()) }
    }
}

impl Records for Memory {
    fn get(&self, at: Revision) -> Result<Option<Record>, StoreError> {
        Ok(self.content.read().records.get(&at).cloned())
    }

    fn scan(
        &self,
        from: Revision,
        to_main_inclusive: i64,
        see: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        // One at a time, so that writes go on meanwhile.
        let mut next = Bound::Included(from);
        loop {
            let range = (next, Bound::Unbounded);
            let found = self.content.read().records.range(range).next().map(|(_, it)| it.clone());
            match found {
                Some(record) if record.revision.main <= to_main_inclusive => {
                    next = Bound::Excluded(record.revision);
                    if see(record.seen()).is_break() {
                        return Ok(());
                    }
                }
                _ => return Ok(()),
            }
        }
    }
}

impl Checkpoint for Memory {
    fn applied(&self) -> Result<u64, StoreError> {
        Ok(self.content.read().applied)
    }

    fn last(&self) -> Result<Revision, StoreError> {
        let content = self.content.read();
        Ok(content.records.last_key_value().map(|(at, _)| *at).unwrap_or_default())
    }

    fn meta(&self, name: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.content.read().metas.get(name).cloned())
    }

    fn metas(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let content = self.content.read();
        let from = content.metas.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
        let these = from.take_while(|(name, _)| name.starts_with(prefix));
        Ok(these.map(|(name, blob)| (name.clone(), blob.clone())).collect())
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut content = self.content.write();
        for record in &batch.puts {
            content.records.insert(record.revision, record.clone());
        }
        for at in &batch.removes {
            content.records.remove(at);
        }
        for (name, blob) in &batch.meta {
            match blob {
                Some(blob) => content.metas.insert(name.clone(), blob.clone()),
                None => content.metas.remove(name),
            };
        }
        content.applied = batch.applied;
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn trim(&self, _: Trim) -> Result<(), StoreError> {
        Ok(())
    }

    fn disk_size(&self) -> u64 {
        let content = self.content.read();
        content.records.values().map(Record::size).sum::<u64>().max(1)
    }
}
