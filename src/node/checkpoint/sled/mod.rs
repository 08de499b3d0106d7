//! The checkpoint in sled 1.0 alpha, and all that has to be done so that it can be trusted with it.
//!
//! - What it does not sync itself is synced here ([`Sled::create`]): its cookie and its
//!   directories. Without, no store was readable after a loss of power (storage.md).
//! - What it does not check is checked here: its metadata before it is opened (`seal.rs`), and
//!   with the first scan that every record is there (`layout.rs`).
//! - Its panics are errors (`pool.rs`; so this may not be built with `panic = "abort"`), and its
//!   endless loops as well (`watched.rs`).
//! - It never forgets pages that were written since it was opened, so it is opened again now and
//!   then ([`Checkpoint::trim`]).
//! - Pages that lose all of their records are merged only by single removals, never by batches.
//!
//! Only one thread writes at a time. What makes a batch one is the flush: all that happened
//! before it, by the same thread, comes to the disk as one, and nothing else flushes.

mod hot;
mod layout;
mod pool;
mod seal;
mod watched;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use self::hot::Hot;
use self::layout::{HEAD, Head, Mark, Tally};
use self::layout::{blob_key, blob_name, record_key, record_revision};
use self::pool::{Db, FANOUT, Pool};
use self::watched::{Out, Watched};
use super::files::{disk_use, failed, make_dir, sync_dir};
use super::{Batch, Checkpoint, Trim};
use crate::node::mvcc::{Record, Records, Revision, Seen, StoreError};

/// A trim is worth it once so many bytes were written since the last: they take a third more than
/// that in memory, and a trim makes readers wait for some 20 ms.
const TRIM_AT: usize = 16 << 20;
/// What a trim costs grows with the store, as sled reads all its metadata then. So it waits for so
/// many bytes more for each record that is there, and all trims of a store that grows cost no more
/// than in proportion to its size.
const TRIM_AT_A_RECORD: u64 = 32;
/// The same where nothing comes to be written any more, so that who waits is few.
const QUIET_TRIM_AT: usize = 2 << 20;
/// How much a scan reads at a time, in records and bytes.
const CHUNK: (usize, usize) = (512, 512 << 10);
/// How many of these wait to be taken.
const AHEAD: usize = 2;

/// A checkpoint in sled.
pub struct Sled {
    dir: PathBuf,
    pool: Arc<Pool>,
    hot: Hot,
    /// Held by whoever writes.
    written: Mutex<Written>,
    /// How often the files may have changed since it was opened, and what they took at which of
    /// these: measuring them looks at some fifty files, and everybody who asks for a status asks.
    changes: AtomicU64,
    measured: Mutex<Option<(u64, u64)>>,
}

/// What is written, whether flushed or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Written {
    head: Head,
    last: Revision,
    /// How many batches came since it was opened.
    batches: u64,
    /// Bytes since the last trim.
    bytes: usize,
    is_flushed: bool,
}

impl Sled {
    /// Makes an empty one in a directory that is not there yet, durably. What was begun and not
    /// finished is to be removed by the caller before the next try.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn create(dir: &Path) -> Result<Sled, StoreError> {
        make_dir(dir)?;
        let inner = inner(dir);
        make_dir(&inner)?;
        let pool = Pool::open(&inner)?;
        let cookie = inner.join("durability_cookie");
        File::open(&cookie).and_then(|it| it.sync_all()).map_err(failed("sync", &cookie))?;
        for part in ["slabs", "metadata"] {
            sync_dir(&inner.join(part))?;
        }
        sync_dir(&inner)?;
        let sled = Sled {
            dir: dir.to_owned(),
            pool: Arc::new(pool),
            hot: Hot::new(),
            written: Mutex::new(Written::default()),
            changes: AtomicU64::new(0),
            measured: Mutex::new(None),
        };
        // A first frame, so that there is metadata to speak of.
        sled.write(&Batch::default())?;
        sled.flush()?;
        Ok(sled)
    }

    /// Opens one that [`Sled::create`] has made. That every record is there is only known after
    /// a whole [`Records::scan`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`] if it was not made here, or anything in it is not as it must be.
    pub fn open(dir: &Path) -> Result<Sled, StoreError> {
        let inner = inner(dir);
        seal::check(dir, &inner)?;
        let open = move |out: &Out<(Pool, Head, Revision)>| {
            let _ = out.send(open_pool(&inner));
        };
        let (pool, head, last) = Watched::start(1, open)?
            .next()?
            .ok_or_else(|| StoreError::Io("sled could not be opened".to_owned()))?;
        let written = Written { head, last, is_flushed: true, ..Written::default() };
        Ok(Sled {
            dir: dir.to_owned(),
            pool: Arc::new(pool),
            hot: Hot::new(),
            written: Mutex::new(written),
            changes: AtomicU64::new(0),
            measured: Mutex::new(None),
        })
    }

    /// Whether [`Sled::create`] was finished there.
    #[cfg(not(feature = "simulation"))]
    pub(super) fn is_made(dir: &Path) -> Result<bool, StoreError> {
        seal::is_sealed(dir)
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged(format!("the store in {}: {what}", self.dir.display()))
    }

    /// Files have changed; what was measured while they did counts for before.
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn flush_now(&self, written: &mut Written) -> Result<(), StoreError> {
        if !written.is_flushed {
            self.pool.with("flush sled", |db| db.flush().map(drop))?;
            if let Err(error) = seal::seal(&self.dir, &inner(&self.dir)) {
                self.pool.fail(&error);
                return Err(error);
            }
            written.is_flushed = true;
            self.changed();
        }
        Ok(())
    }
}

/// sled's own directory; nothing of ours is in there.
fn inner(dir: &Path) -> PathBuf {
    dir.join("sled")
}

fn open_pool(inner: &Path) -> Result<(Pool, Head, Revision), StoreError> {
    let damaged = |what| StoreError::Damaged(format!("{}: {what}", inner.display()));
    let pool = Pool::open(inner)?;
    let (head, last) = pool.with("read the head", |db| Ok((db.get(HEAD)?, db.last()?)))?;
    let head = head.ok_or_else(|| damaged("its head is gone".to_owned()))?;
    let head = Head::decode(&head).map_err(damaged)?;
    let last = last.and_then(|(key, _)| record_revision(&key)).unwrap_or_default();
    Ok((pool, head, last))
}

impl Records for Sled {
    fn get(&self, at: Revision) -> Result<Option<Record>, StoreError> {
        if let Some(record) = self.hot.get(at) {
            return Ok(Some(record));
        }
        let found = self.pool.with("read a record", |db| db.get(record_key(at)))?;
        let found = found.map(|bytes| Record::decode(at, &bytes)).transpose()?;
        if let Some(record) = &found {
            self.hot.keep(record);
        }
        Ok(found)
    }

    /// A scan of all records, with no write beside it, also makes sure that there are those, and
    /// the blobs, that there must be.
    fn scan(
        &self,
        from: Revision,
        to_main_inclusive: i64,
        see: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let before = *self.written.lock();
        let pool = Arc::clone(&self.pool);
        let read = move |out: &Out<Entries>| read_on(&pool, from, out);
        let chunks = Watched::start(AHEAD, read)?;
        let mut tally = Tally::default();
        loop {
            let chunk = match chunks.next() {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => {
                    self.pool.fail(&error);
                    return Err(error);
                }
            };
            for (key, value) in chunk {
                let record = decode(&key, &value).inspect_err(|error| self.pool.fail(error))?;
                let is_due = record.revision.main <= to_main_inclusive;
                tally.add(Mark::record(record.revision));
                if !is_due || see(record).is_break() {
                    return Ok(());
                }
            }
        }
        if from != Revision::default() {
            return Ok(());
        }
        for (name, blob) in self.metas(b"")? {
            tally.add(Mark::blob(&name, &blob));
        }
        let same = self.written.lock().batches == before.batches;
        if same && tally != before.head.tally {
            let expected = before.head.tally.count;
            let what = format!("{} entries are there, and not the right {expected}", tally.count);
            let error = self.damaged(&what);
            self.pool.fail(&error);
            return Err(error);
        }
        Ok(())
    }
}

/// Reads records in chunks, from a place to the end or until nobody wants them any more.
fn read_on(pool: &Pool, from: Revision, out: &Out<Entries>) {
    let mut next = record_key(from).to_vec();
    loop {
        let chunk = pool.with("read the records", |db| read_chunk(db, &next));
        let is_last = match &chunk {
            Ok(chunk) => match chunk.last() {
                Some((last, _)) => {
                    next = last.to_vec();
                    // The first key after it.
                    next.push(0);
                    false
                }
                None => return,
            },
            Err(_) => true,
        };
        if out.send(chunk).is_err() || is_last {
            return;
        }
    }
}

fn decode<'a>(key: &[u8], value: &'a [u8]) -> Result<Seen<'a>, StoreError> {
    let at = record_revision(key);
    let at = at.ok_or_else(|| StoreError::Damaged("a key is none".to_owned()))?;
    Seen::decode(at, value)
}

type Entries = Vec<(::sled::InlineArray, ::sled::InlineArray)>;

fn read_chunk(db: &Db, from: &[u8]) -> io::Result<Entries> {
    let mut found: Entries = Vec::new();
    let mut bytes = 0;
    for entry in db.range(from..) {
        let (key, value) = entry?;
        bytes += value.len();
        found.push((key, value));
        if found.len() >= CHUNK.0 || bytes >= CHUNK.1 {
            break;
        }
    }
    // sled tells its cache of every 32nd leaf that was read, each iterator by its own count, so of
    // a chunk, which ends sooner, it tells nothing: its leaves would stay in memory, and after a
    // scan the whole store. Reading them once more is counted by the handle, which lives on. Of
    // leaves that removals have left less than half full one may be missed.
    for (key, _) in found.iter().step_by(FANOUT / 2) {
        db.get(key)?;
    }
    Ok(found)
}

impl Checkpoint for Sled {
    fn applied(&self) -> Result<u64, StoreError> {
        Ok(self.written.lock().head.applied)
    }

    fn last(&self) -> Result<Revision, StoreError> {
        Ok(self.written.lock().last)
    }

    fn meta(&self, name: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self.pool.with("read a blob", |db| db.get(blob_key(name)))?;
        Ok(found.map(|it| Bytes::copy_from_slice(&it)))
    }

    fn metas(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        self.pool.with("read the blobs", |db| {
            let mut found = Vec::new();
            // Not `scan_prefix`: it reads on to the last leaf.
            for entry in db.range(blob_key(prefix)..) {
                let (key, value) = entry?;
                match blob_name(&key) {
                    Some(name) if name.starts_with(prefix) => {
                        let name = Bytes::copy_from_slice(name);
                        found.push((name, Bytes::copy_from_slice(&value)));
                    }
                    _ => break,
                }
            }
            Ok(found)
        })
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut written = self.written.lock();
        let mut now = *written;
        now.head.applied = batch.applied;
        now.batches += 1;
        now.is_flushed = false;
        let removes: BTreeSet<_> = batch.removes.iter().copied().collect();
        // Of two with one name the latter counts.
        let metas: BTreeMap<_, _> = batch.meta.iter().map(|(name, blob)| (name, blob)).collect();
        self.pool.with("write to sled", |db| {
            // A batch goes past the check that everything else makes.
            db.check_error()?;
            for at in &removes {
                if db.remove(record_key(*at))?.is_some() {
                    now.head.tally.remove(Mark::record(*at));
                }
            }
            let mut entries = ::sled::Batch::default();
            for record in batch.puts.iter().filter(|it| !removes.contains(&it.revision)) {
                let (key, value) = (record_key(record.revision), record.encode());
                // An older one is there already, if it is the same entry applied again.
                if record.revision > now.last || !db.contains_key(key)? {
                    now.head.tally.add(Mark::record(record.revision));
                }
                now.last = now.last.max(record.revision);
                now.bytes += value.len();
                entries.insert(&key[..], &value[..]);
            }
            for (name, blob) in metas {
                let key = blob_key(name);
                if let Some(former) = db.get(&key)? {
                    now.head.tally.remove(Mark::blob(name, &former));
                }
                match blob {
                    Some(blob) => {
                        now.head.tally.add(Mark::blob(name, blob));
                        entries.insert(key, &blob[..]);
                    }
                    None => entries.remove(key),
                }
            }
            entries.insert(HEAD, now.head.encode());
            db.apply_batch(entries)
        })?;
        for at in &removes {
            self.hot.forget(*at);
        }
        *written = now;
        self.changed();
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.flush_now(&mut self.written.lock())
    }

    fn trim(&self, when: Trim) -> Result<(), StoreError> {
        let mut written = self.written.lock();
        let least = match when {
            Trim::Busy => {
                let all = written.head.tally.count.saturating_mul(TRIM_AT_A_RECORD);
                TRIM_AT.max(usize::try_from(all).unwrap_or(usize::MAX))
            }
            Trim::Quiet => QUIET_TRIM_AT,
            Trim::Now => 0,
        };
        if written.bytes >= least {
            self.flush_now(&mut written)?;
            self.pool.reopen()?;
            written.bytes = 0;
            self.changed();
        }
        Ok(())
    }

    fn was_deleted(&self) -> bool {
        self.dir.try_exists().is_ok_and(|is_there| !is_there)
    }

    fn disk_size(&self) -> u64 {
        let changes = self.changes.load(Ordering::Acquire);
        if let Some((_, size)) = self.measured.lock().filter(|it| it.0 == changes) {
            return size;
        }
        let size = disk_use(&self.dir).max(1);
        *self.measured.lock() = Some((changes, size));
        size
    }
}

impl std::fmt::Debug for Sled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sled").field("dir", &self.dir).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::mvccpb::KeyValue;

    /// Else a member that has started again holds its whole store in memory.
    #[test]
    fn what_a_scan_has_read_is_not_all_kept_in_memory() {
        const RECORDS: i64 = 40 << 10;
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("store");
        let sled = Sled::create(&dir).unwrap();
        let value = Bytes::from(vec![b'v'; 1 << 10]);
        let record = |main: i64| Record {
            revision: Revision { main, sub: 0 },
            kv: KeyValue { key: "k".into(), value: value.clone(), ..KeyValue::default() },
            tombstone: false,
        };
        let puts = (1..=RECORDS).map(record).collect();
        sled.write(&Batch { puts, applied: 1, ..Batch::default() }).unwrap();
        sled.trim(Trim::Now).unwrap();
        let read_anew = || {
            let misses = || {
                let stats = sled.pool.with("count", |db| Ok(db.stats())).unwrap();
                stats.cache.cache_misses
            };
            let (before, mut seen) = (misses(), 0);
            let mut see = |_: Seen<'_>| {
                seen += 1;
                ControlFlow::Continue(())
            };
            sled.scan(Revision::default(), RECORDS, &mut see).unwrap();
            assert_eq!(seen, RECORDS);
            misses() - before
        };
        let (first, second) = (read_anew(), read_anew());
        assert!(second > first / 2, "of {first} leaves only {second} had been let go of");
    }

    #[test]
    fn keys_stand_in_the_order_head_blobs_records() {
        let first = record_key(Revision { main: 1, sub: 0 });
        let later = record_key(Revision { main: 1 << 40, sub: 3 });
        assert!(HEAD < &blob_key(b"")[..] && blob_key(&[0xff; 9])[..] < first[..]);
        assert!(first < later);
        assert_eq!(record_revision(&later), Some(Revision { main: 1 << 40, sub: 3 }));
        assert_eq!(record_revision(b"\x01name"), None);
    }
}
