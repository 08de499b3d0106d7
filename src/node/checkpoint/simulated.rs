//! What stands for sled in a simulation: all in memory, and with each flush written whole to a
//! simulated drive, which loses it or keeps it with all else that is on it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};
use prost::Message;

use super::files::{make_dir, read_if_there, write_whole};
use super::{Batch, Checkpoint, Memory, Trim};
use crate::node::mvcc::{Record, Records, Revision, Seen, StoreError};
use crate::proto::mvccpb::KeyValue;

const FILE: &str = "content";

/// See [the module](self).
#[derive(Debug)]
pub struct Simulated {
    dir: PathBuf,
    memory: Memory,
}

impl Simulated {
    /// Makes an empty one, durably.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn create(dir: &Path) -> Result<Simulated, StoreError> {
        make_dir(dir)?;
        let it = Simulated { dir: dir.to_owned(), memory: Memory::default() };
        it.flush()?;
        Ok(it)
    }

    /// Opens one that was made.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if it is not there, or cannot be read.
    pub fn open(dir: &Path) -> Result<Simulated, StoreError> {
        let damaged = || StoreError::Damaged(format!("the store in {}", dir.display()));
        let bytes = read_if_there(&dir.join(FILE))?.ok_or_else(damaged)?;
        let batch = decode(bytes.into()).ok_or_else(damaged)?;
        let memory = Memory::default();
        memory.write(&batch)?;
        Ok(Simulated { dir: dir.to_owned(), memory })
    }

    pub(super) fn is_made(dir: &Path) -> Result<bool, StoreError> {
        Ok(read_if_there(&dir.join(FILE))?.is_some())
    }
}

impl Records for Simulated {
    fn get(&self, at: Revision) -> Result<Option<Record>, StoreError> {
        self.memory.get(at)
    }

    fn scan(
        &self,
        from: Revision,
        to_main_inclusive: i64,
        see: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.memory.scan(from, to_main_inclusive, see)
    }
}

impl Checkpoint for Simulated {
    fn applied(&self) -> Result<u64, StoreError> {
        self.memory.applied()
    }

    fn last(&self) -> Result<Revision, StoreError> {
        self.memory.last()
    }

    fn meta(&self, name: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.memory.meta(name)
    }

    fn metas(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.memory.metas(prefix)
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.memory.write(batch)
    }

    fn flush(&self) -> Result<(), StoreError> {
        let mut puts = Vec::new();
        self.scan(Revision::default(), i64::MAX, &mut |record| {
            puts.push(record.to_record());
            ControlFlow::Continue(())
        })?;
        let meta = self.metas(b"")?.into_iter().map(|(name, blob)| (name, Some(blob))).collect();
        let batch = Batch { puts, removes: Vec::new(), meta, applied: self.applied()? };
        write_whole(&self.dir, FILE, &encode(&batch))
    }

    fn trim(&self, _: Trim) -> Result<(), StoreError> {
        self.flush()
    }

    fn disk_size(&self) -> u64 {
        self.memory.disk_size()
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u64(bytes.len() as u64);
    out.put_slice(bytes);
}

fn encode(all: &Batch) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u64(all.applied);
    out.put_u64(all.puts.len() as u64);
    for it in &all.puts {
        out.put_i64(it.revision.main);
        out.put_i64(it.revision.sub);
        out.put_u8(u8::from(it.tombstone));
        put(&mut out, &it.kv.encode_to_vec());
    }
    for (name, blob) in &all.meta {
        put(&mut out, name);
        put(&mut out, blob.as_deref().unwrap_or_default());
    }
    out
}

fn take(from: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(from.try_get_u64().ok()?).ok()?;
    (from.len() >= length).then(|| from.split_to(length))
}

fn decode(mut from: Bytes) -> Option<Batch> {
    let mut all = Batch { applied: from.try_get_u64().ok()?, ..Batch::default() };
    for _ in 0..from.try_get_u64().ok()? {
        let (main, sub) = (from.try_get_i64().ok()?, from.try_get_i64().ok()?);
        let tombstone = from.try_get_u8().ok()? == 1;
        let kv = KeyValue::decode(take(&mut from)?).ok()?;
        all.puts.push(Record { revision: Revision { main, sub }, kv, tombstone });
    }
    while !from.is_empty() {
        let name = take(&mut from)?;
        all.meta.push((name, Some(take(&mut from)?)));
    }
    Some(all)
}
