//! Begins a log, or opens one: reads all of it, repairs the end if a write broke off there, and
//! starts the writer.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::marks::{Mark, Marker};
use super::record::{Head, Kind};
use super::replay::Replay;
use super::scan::{Scan, scan};
use super::segment::{START, Segment, SegmentHead, list, sync_dir, write_zeros};
use super::shared::{Shared, State};
use super::writer::Writer;
use super::{Ids, Log, LogError, Options, Recovered};
use crate::node::ground::disk;
use crate::node::ground::work::{Queue, Thread, queue};

impl Log {
    /// Begins a log in a directory, which is made if need be. Its segments say from the first
    /// byte whose it is.
    ///
    /// # Errors
    ///
    /// [`LogError::Exists`] if there is one, [`LogError::Full`], [`LogError::Io`].
    pub fn create(dir: &Path, ids: Ids, options: Options) -> Result<Log, LogError> {
        let listing = list(dir)?;
        if !listing.segments.is_empty() {
            return Err(LogError::Exists(dir.to_owned()));
        }
        make_dir(dir)?;
        remove(&listing.drafts)?;
        let head = SegmentHead { ids, sequence: 1, first: 0, former_end: 0, restated: 0 };
        let length = (START + options.ahead_bytes).min(options.segment_bytes).max(START);
        let segment = Arc::new(Segment::begin(dir, head, &[], length)?);
        start(dir, ids, options, Replay::default(), State::default(), vec![segment], START)
    }

    /// Opens the log in a directory. What is broken for good stays as it is and is told; what a
    /// write that broke off has left behind is repaired.
    ///
    /// # Errors
    ///
    /// [`LogError::Missing`], [`LogError::Damaged`], [`LogError::Version`], [`LogError::Full`],
    /// [`LogError::Io`].
    pub fn open(dir: &Path, options: Options) -> Result<(Log, Recovered), LogError> {
        let mut gathered = Gathered::new();
        let scan = scan(dir, true, &mut |segment, at, head, _| {
            gathered.take(segment, at, head);
        })?;
        let missing = || LogError::Missing(dir.to_owned());
        let scan = scan.ok_or_else(missing)?;
        if let Some(spot) = scan.damage {
            return Err(LogError::Damaged(spot));
        }
        let last = scan.segments.last().cloned().ok_or_else(missing)?;
        remove(&list(dir)?.drafts)?;
        settle(&last, &scan).map_err(LogError::io("repair", &last.path))?;
        sync_dir(dir)?;

        let Scan { segments, replay, end, torn, .. } = scan;
        if let Some(spot) = &torn {
            tracing::warn!(%spot, "the last write to the log had broken off; it was repaired");
        }
        let recovered = Recovered {
            ids: last.head.ids,
            vote: replay.vote.clone(),
            bounds: replay.bounds,
            repaired: torn,
        };
        let mut state = gathered.state;
        state.bounds = replay.bounds;
        state.vote.clone_from(&replay.vote);
        state.marks.drop_below(replay.bounds.first, replay.bounds.next);
        let log = start(dir, last.head.ids, options, replay, state, segments, end)?;
        Ok((log, recovered))
    }
}

/// What the readers need of the records, gathered while they go by. The entries themselves are
/// read once more when they are asked for: most of them never are.
struct Gathered {
    state: State,
    marker: Marker,
    /// The segment of the last record.
    within: u64,
}

impl Gathered {
    fn new() -> Gathered {
        Gathered { state: State::default(), marker: Marker::new(), within: 0 }
    }

    fn take(&mut self, segment: &Arc<Segment>, offset: u64, head: &Head) {
        if self.within != segment.head.sequence {
            self.within = segment.head.sequence;
            self.marker.breaks();
        }
        let marks = &mut self.state.marks;
        match head.kind {
            Kind::Entry => {
                if self.marker.marks(head.size()) {
                    marks.push(Mark { index: head.index, segment: Arc::clone(segment), offset });
                }
            }
            Kind::Truncate => {
                marks.cut_from(head.index);
                self.marker.breaks();
            }
            Kind::Purge => self.marker.breaks(),
            Kind::Vote | Kind::Committed | Kind::Seal => {}
        }
    }
}

/// Makes the end of the log durable as it was read, and zero behind it.
///
/// The last group may never have been synced: a process that was killed, or whose fsync failed,
/// leaves it in the page cache, where it reads like any other. After a failed fsync the kernel
/// even believes it clean. So it is written once more, with the same bytes, before anyone relies
/// on it.
fn settle(last: &Segment, scan: &Scan) -> io::Result<()> {
    let length = last.file.length()?;
    let end = scan.end.min(length);
    let mut at = scan.group;
    let mut piece = vec![0; 256 << 10];
    while at < end {
        let count = usize::try_from(end - at).map_or(piece.len(), |left| left.min(piece.len()));
        last.file.read_exact_at(&mut piece[..count], at)?;
        last.file.write_all_at(&piece[..count], at)?;
        at += count as u64;
    }
    if scan.torn.is_some() {
        write_zeros(&last.file, scan.end, length)?;
    }
    last.file.sync_all()
}

/// Starts the two threads of an open log.
fn start(
    dir: &Path,
    ids: Ids,
    options: Options,
    replay: Replay,
    mut state: State,
    segments: Vec<Arc<Segment>>,
    end: u64,
) -> Result<Log, LogError> {
    state.stats.segments = segments.len();
    let room = Semaphore::new(options.queue_bytes.max(1) as usize);
    let shared = Arc::new(Shared { ids, options, room, state: Mutex::new(state) });
    let (jobs, taken) = queue();
    let (swept, sweeps) = queue();
    let segments = VecDeque::from(segments);
    let writer = Writer::new(dir.to_owned(), Arc::clone(&shared), replay, segments, end, swept)?;
    let cannot = || LogError::io("start the threads of the log in", dir);
    let sweeper = {
        let (dir, shared) = (dir.to_owned(), Arc::clone(&shared));
        let run = async move { sweep(&dir, &shared, sweeps).await };
        Thread::start("log-sweeper", run).map_err(cannot())?
    };
    let run = async move {
        writer.run(taken).await; // its end is the sweeper's
        sweeper.join();
    };
    let thread = Thread::start("log-writer", run).map_err(cannot())?;
    Ok(Log::new(shared, jobs, thread))
}

/// Removes segments one after the other: each is gone for good before the next one goes, so that
/// a power loss never leaves a hole. Apart from the writer, which must not wait for it.
async fn sweep(dir: &Path, shared: &Shared, mut sweeps: Queue<Arc<Segment>>) {
    while let Some(segment) = sweeps.recv().await {
        if shared.alive().is_err_and(|error| !matches!(error, LogError::Closed)) {
            return;
        }
        if let Err(error) = disk::remove_file(&segment.path) {
            // No harm is done; the next start tries again.
            let path = segment.path.display();
            tracing::warn!(%path, %error, "a purged segment of the log cannot be removed");
            return;
        }
        if let Err(error) = sync_dir(dir) {
            shared.fail(error);
            return;
        }
    }
}

/// Makes a directory, and every one above it that is missing, for good.
fn make_dir(dir: &Path) -> Result<(), LogError> {
    let missing: Vec<PathBuf> =
        dir.ancestors().take_while(|dir| !disk::is_there(dir)).map(Path::to_owned).collect();
    for dir in missing.iter().rev() {
        if dir.as_os_str().is_empty() {
            continue;
        }
        disk::make_dir(dir).map_err(LogError::io("create", dir))?;
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_dir(parent)?;
        }
    }
    Ok(())
}

fn remove(drafts: &[PathBuf]) -> Result<(), LogError> {
    for draft in drafts {
        disk::remove_file(draft).map_err(LogError::io("remove", draft))?;
    }
    Ok(())
}
