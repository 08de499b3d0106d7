//! Work that may never end, on a thread of its own.
//!
//! In some damaged stores sled looks for a page for ever (`page_in` in its `tree.rs`). What runs
//! here hands over results one by one; if none comes and the thread only burns time, that is
//! taken for damage. A thread that waits for a slow disk is waited for.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::node::mvcc::StoreError;

/// How often a quiet thread is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often in a row it may be found at work without a result: 20 s of pure computing, for what
/// takes milliseconds.
const PATIENCE: u32 = 40;

/// Results of a watched thread, in order.
pub(super) struct Watched<T> {
    results: Receiver<Result<T, StoreError>>,
    thread: Option<PathBuf>,
}

/// Takes the results on the other side; an error means that nobody wants them any more.
pub(super) type Out<T> = SyncSender<Result<T, StoreError>>;

impl<T: Send + 'static> Watched<T> {
    /// Starts `work` on a thread; at most `ahead` results wait to be taken.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if no thread can be had.
    pub(super) fn start(
        ahead: usize,
        work: impl FnOnce(&Out<T>) + Send + 'static,
    ) -> Result<Watched<T>, StoreError> {
        let (out, results) = sync_channel(ahead);
        let (name, named) = sync_channel(1);
        let run = move || {
            // `PID/task/TID`; nothing is watched where it cannot be had.
            let _ = name.send(fs::read_link("/proc/thread-self").ok());
            work(&out);
        };
        let thread = thread::Builder::new().name("checkpoint-read".to_owned()).spawn(run);
        thread.map_err(|error| StoreError::Io(format!("start a thread: {error}")))?;
        let thread = named.recv().ok().flatten().map(|it| PathBuf::from("/proc").join(it));
        Ok(Watched { results, thread })
    }

    /// The next result; `None` after the last.
    ///
    /// # Errors
    ///
    /// What the work failed with; [`StoreError::Damaged`] if it will never end.
    pub(super) fn next(&self) -> Result<Option<T>, StoreError> {
        let mut busy = 0;
        loop {
            match self.results.recv_timeout(LOOK) {
                Ok(result) => return result.map(Some),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {
                    busy = if self.is_running() { busy + 1 } else { 0 };
                    if busy > PATIENCE {
                        let what = "sled looks without end for a page that is not there";
                        return Err(StoreError::Damaged(what.to_owned()));
                    }
                }
            }
        }
    }

    /// Whether the thread computes at this moment, rather than waiting for something.
    fn is_running(&self) -> bool {
        let stat = self.thread.as_ref().and_then(|it| fs::read_to_string(it.join("stat")).ok());
        // `TID (name) STATE ...`, and the name may have anything in it.
        let state = stat.as_deref().and_then(|it| it.rsplit_once(") ")).map(|(_, rest)| rest);
        state.is_some_and(|it| it.starts_with('R'))
    }
}
