//! Handles of an open sled, and the wall around it: no panic of sled gets past here.
//!
//! A handle is not to be shared between threads, so there is a pool of them. Once anything has
//! failed in sled it may neither be asked nor flushed again, nor even dropped: dropping flushes,
//! and a flush after one that failed waits for ever. Its handles are then left where they are.

use std::io;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use ::sled::Config;
use parking_lot::{Mutex, RwLock};

use super::seal;
use crate::node::checkpoint::files::store_error;
use crate::node::mvcc::StoreError;

/// Entries in a leaf: what is read and written as one. A cold read of 256 bytes takes two thirds
/// of what it takes with 64, and no less with fewer, which only make the index of leaves larger.
pub(super) const FANOUT: usize = 32;

/// A handle.
pub(super) type Db = ::sled::Db<FANOUT>;

/// Leaves that are only read are kept up to this. Those written to since the store was opened
/// stay in memory whatever it says, for which [`Pool::reopen`] is the only cure.
const CACHE: usize = 16 << 20;

/// sled flushes by itself only when it is dropped: with no interval at all, every iterator would
/// flush when it ends.
const NEVER_MS: usize = 1 << 34;

/// The lock on the directory may outlive its holder for a moment.
const LOCK_TRIES: u32 = 500;
const LOCK_WAIT: Duration = Duration::from_millis(10);

pub(super) struct Pool {
    config: Config,
    /// Why nobody is let in any more. Beside the lock: whoever is lost in sled holds that.
    failed: OnceLock<StoreError>,
    handles: RwLock<Handles>,
}

/// Never empty but while they are dropped; the first is not lent.
struct Handles(Mutex<Vec<ManuallyDrop<Db>>>);

impl Handles {
    fn new(db: Db) -> Handles {
        Handles(Mutex::new(vec![ManuallyDrop::new(db)]))
    }

    fn lend(&self) -> Option<ManuallyDrop<Db>> {
        let mut idle = self.0.lock();
        if idle.len() > 1 { idle.pop() } else { idle.first().cloned() }
    }

    fn close(&self) -> Result<(), StoreError> {
        for handle in self.0.lock().drain(..) {
            guarded("close sled", || {
                drop(ManuallyDrop::into_inner(handle));
                Ok(())
            })?;
        }
        Ok(())
    }
}

impl Pool {
    /// Opens sled in `dir`, which it makes if it is not there.
    pub(super) fn open(dir: &Path) -> Result<Pool, StoreError> {
        let config = Config::new()
            .path(dir)
            .cache_capacity_bytes(CACHE)
            .zstd_compression_level(1)
            .flush_every_ms(Some(NEVER_MS));
        let handles = RwLock::new(Handles::new(open(&config)?));
        Ok(Pool { config, failed: OnceLock::new(), handles })
    }

    /// Lends a handle. After an error or a panic nobody gets one any more.
    pub(super) fn with<T>(
        &self,
        doing: &str,
        work: impl FnOnce(&Db) -> io::Result<T>,
    ) -> Result<T, StoreError> {
        let handles = self.handles.read();
        if let Some(error) = self.failed.get() {
            return Err(error.clone());
        }
        let Some(handle) = handles.lend() else {
            return Err(StoreError::Io("sled is closed".to_owned()));
        };
        let result = guarded(doing, || work(&handle));
        match &result {
            Ok(_) => handles.0.lock().push(handle),
            Err(error) => self.fail(error),
        }
        result
    }

    /// Lets nobody in any more; the first reason stays.
    pub(super) fn fail(&self, error: &StoreError) {
        let _ = self.failed.set(error.clone());
    }

    /// Closes sled and opens it again, with nothing in memory. It must be flushed.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        // sled's opening has the whole machine synced; what takes long of that is done before
        // anyone has to wait.
        rustix::fs::sync();
        let mut handles = self.handles.write();
        if let Some(error) = self.failed.get() {
            return Err(error.clone());
        }
        match handles.close().and_then(|()| open(&self.config)) {
            Ok(db) => {
                *handles = Handles::new(db);
                Ok(())
            }
            Err(error) => {
                self.fail(&error);
                Err(error)
            }
        }
    }
}

impl Drop for Pool {
    /// Whatever is written is flushed; after a failure nothing is.
    fn drop(&mut self) {
        let handles = self.handles.get_mut();
        if self.failed.get().is_none() && flush(handles).is_ok() {
            let _ = handles.close();
        }
    }
}

/// Flushed here and not by the drop, which would end the process if it fails.
fn flush(handles: &Handles) -> Result<(), StoreError> {
    let Some(handle) = handles.lend() else { return Ok(()) };
    guarded("flush sled", || handle.flush().map(drop))?;
    handles.0.lock().push(handle);
    Ok(())
}

fn open(config: &Config) -> Result<Db, StoreError> {
    seal::leave_a_log(&config.path)?;
    let doing = format!("open sled in {}", config.path.display());
    for _ in 1..LOCK_TRIES {
        let mut locked = false;
        let opened = guarded(&doing, || match config.open::<FANOUT>() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                locked = true;
                Err(error)
            }
            other => other,
        });
        if !locked {
            return opened;
        }
        thread::sleep(LOCK_WAIT);
    }
    guarded(&doing, || config.open::<FANOUT>())
}

/// Runs a piece of sled. Its panics come of data that it did not expect.
pub(super) fn guarded<T>(
    doing: &str,
    work: impl FnOnce() -> io::Result<T>,
) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| store_error(doing, &error)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("");
            Err(StoreError::Damaged(format!("{doing}: sled gave up: {text}")))
        }
    }
}
