//! The one thread that writes: takes all that waits, writes it at once, makes it durable at once,
//! and answers in order.
//!
//! After a failure it writes nothing more; it only answers, with that failure.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::handle::Done;
use super::marks::{Mark, Marker};
use super::record::{self, Head, Kind};
use super::replay::Replay;
use super::segment::{START, Segment, SegmentHead};
use super::shared::Shared;
use super::{Bounds, Entry, LogError, Position};
use crate::node::ground::work::{Queue, RecvTimeoutError, Sender};

/// How long a commit may wait for something it can be written along with.
const LINGER: Duration = Duration::from_millis(20);

/// A buffer that one long entry has made larger than this is given back.
const KEPT_BUFFER: usize = 16 << 20;

/// What the writer is asked for.
pub(super) enum Work {
    Append(Vec<Entry>),
    Vote(Bytes),
    Truncate {
        from: u64,
        left: Option<Position>,
    },
    Purge(Position),
    /// Wakes it up to write the commit.
    Nudge,
    /// Answers in its turn.
    Nothing,
    Close,
}

/// A request.
pub(super) struct Job {
    pub(super) work: Work,
    /// Room it takes in the queue.
    pub(super) permits: u32,
    pub(super) done: Done,
}

impl Job {
    pub(super) fn nudge() -> Job {
        Job { work: Work::Nudge, permits: 0, done: Box::new(|_| ()) }
    }
}

/// What the readers have to know of records that are written.
enum Change {
    Mark(Mark),
    CutFrom(u64),
    DropBelow { first: u64, next: u64 },
    Vote(Bytes),
}

/// The writer's own state.
pub(super) struct Writer {
    dir: PathBuf,
    shared: Arc<Shared>,
    /// What the records have led to that are encoded so far.
    replay: Replay,
    segments: VecDeque<Arc<Segment>>,
    segment: Arc<Segment>,
    /// Where the next write goes, ...
    at: u64,
    /// ... up to where everything is durable, ...
    synced: u64,
    /// ... where the segment's first record of its own may stand ...
    begins: u64,
    /// ... and where the file ends. All is zero between `at` and there.
    length: u64,
    buffer: Vec<u8>,
    marker: Marker,
    changes: Vec<Change>,
    entries: u64,
    swept: Sender<Arc<Segment>>,
}

impl Writer {
    /// Goes on where the last record ends, at byte `at` of the last of `segments`; all before it
    /// is durable, and zero behind it.
    pub(super) fn new(
        dir: PathBuf,
        shared: Arc<Shared>,
        replay: Replay,
        segments: VecDeque<Arc<Segment>>,
        at: u64,
        swept: Sender<Arc<Segment>>,
    ) -> Result<Writer, LogError> {
        let Some(segment) = segments.back().cloned() else { return Err(LogError::Missing(dir)) };
        let length = segment.length()?;
        Ok(Writer {
            dir,
            shared,
            replay,
            segments,
            segment,
            at,
            synced: at,
            begins: START,
            length,
            buffer: Vec::new(),
            marker: Marker::new(),
            changes: Vec::new(),
            entries: 0,
            swept,
        })
    }

    /// Works until the log is closed or nobody holds it any more.
    pub(super) async fn run(mut self, mut jobs: Queue<Job>) {
        self.take_up_sweeping().await;
        let most = self.shared.options.group_bytes;
        let mut group = Vec::new();
        while let Some(first) = self.next(&mut jobs).await {
            let mut bytes = first.permits as usize;
            group.push(first);
            while bytes < most
                && let Some(job) = jobs.try_recv()
            {
                bytes += job.permits as usize;
                group.push(job);
            }
            let closes = group.iter().any(|job| matches!(job.work, Work::Close));
            let result = self.write(&mut group).await;
            self.answer(&mut group, &result);
            if closes {
                return;
            }
        }
        // Nobody is left to hear of a failure here; the next start reads what there is.
        let _ = self.write(&mut [Job { work: Work::Close, ..Job::nudge() }]).await;
    }

    /// The next request. While there is none, the commit is written, and then nothing is done
    /// until there is one.
    async fn next(&self, jobs: &mut Queue<Job>) -> Option<Job> {
        match jobs.recv_timeout(LINGER).await {
            Ok(job) => return Some(job),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        {
            let mut state = self.shared.state.lock();
            let may_be_written = state.commit.is_some_and(|at| at.index < self.replay.bounds.next);
            if may_be_written && state.failure.is_none() {
                return Some(Job::nudge());
            }
            state.asleep = true;
        }
        let job = jobs.recv().await;
        self.shared.state.lock().asleep = false;
        job
    }

    fn answer(&self, group: &mut Vec<Job>, result: &Result<(), LogError>) {
        let room = group.iter().map(|job| job.permits as usize).sum();
        self.shared.room.add_permits(room);
        for job in group.drain(..) {
            (job.done)(result.clone());
        }
    }

    /// Writes what is asked for and makes it durable.
    async fn write(&mut self, group: &mut [Job]) -> Result<(), LogError> {
        // Closed is no failure: what was asked for before that is still done.
        if let Some(failure) = self.failed() {
            return Err(failure);
        }
        self.try_write(group).await.map_err(|error| {
            tracing::error!(%error, "the log has failed and takes nothing more");
            self.shared.fail(error)
        })
    }

    fn failed(&self) -> Option<LogError> {
        let state = self.shared.state.lock();
        state.failure.clone().filter(|failure| !matches!(failure, LogError::Closed))
    }

    async fn try_write(&mut self, group: &mut [Job]) -> Result<(), LogError> {
        let mut purges = false;
        for job in group.iter_mut() {
            purges |= matches!(job.work, Work::Purge(_));
            self.encode(&job.work).await?;
        }
        let commit = {
            let mut state = self.shared.state.lock();
            let next = self.replay.bounds.next;
            state.commit.take_if(|at| at.index < next)
        };
        if let Some(at) = commit {
            self.record(Head::plain(Kind::Committed, at.term, at.index), &[]).await?;
            self.replay.bounds.committed = Some(at);
        }
        self.flush()?;
        if group.iter().any(|job| !matches!(job.work, Work::Nudge)) {
            self.sync().await?;
        }
        self.publish(group.len() as u64);
        if purges {
            self.sweep();
        }
        Ok(())
    }

    async fn encode(&mut self, work: &Work) -> Result<(), LogError> {
        match work {
            Work::Append(entries) => {
                for entry in entries {
                    self.entry(entry).await?;
                }
            }
            Work::Vote(vote) => {
                self.record(Head::plain(Kind::Vote, 0, 0), vote).await?;
                self.replay.vote = Some(vote.clone());
                self.changes.push(Change::Vote(vote.clone()));
            }
            Work::Truncate { from, left } => {
                let term = left.map_or(0, |position| position.term);
                let tag = u8::from(left.is_some());
                self.record(Head { tag, ..Head::plain(Kind::Truncate, term, *from) }, &[]).await?;
                self.replay.bounds.truncate(*from, *left);
                self.changes.push(Change::CutFrom(*from));
                self.marker.breaks();
            }
            Work::Purge(up_to) => {
                self.record(Head::plain(Kind::Purge, up_to.term, up_to.index), &[]).await?;
                self.replay.bounds.purge(*up_to);
                let (first, next) = (self.replay.bounds.first, self.replay.bounds.next);
                self.changes.push(Change::DropBelow { first, next });
                self.marker.breaks();
            }
            Work::Nudge | Work::Nothing | Work::Close => {}
        }
        Ok(())
    }

    async fn entry(&mut self, entry: &Entry) -> Result<(), LogError> {
        let head = Head { tag: entry.kind, ..Head::plain(Kind::Entry, entry.term, entry.index) };
        let offset = self.record(head, &entry.payload).await?;
        self.replay.bounds.entry(entry.position());
        self.entries += 1;
        if self.marker.marks(record::size(entry.payload.len())) {
            let segment = Arc::clone(&self.segment);
            self.changes.push(Change::Mark(Mark { index: entry.index, segment, offset }));
        }
        Ok(())
    }

    /// Encodes a record, in a new segment if this one is full. Where it will stand.
    async fn record(&mut self, head: Head, payload: &[u8]) -> Result<u64, LogError> {
        let mut offset = self.at + self.buffer.len() as u64;
        let end = offset + record::size(payload.len());
        if end > self.shared.options.segment_bytes && offset > self.begins {
            self.rotate().await?;
            offset = self.at;
        }
        let salt = self.segment.head.salt();
        record::encode(&mut self.buffer, salt, offset - self.synced, &head, payload);
        Ok(offset)
    }

    /// Writes what is encoded, and zeros ahead of it if it reaches beyond them.
    fn flush(&mut self) -> Result<(), LogError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.buffer.len();
        let end = self.at + written as u64;
        if end > self.length {
            let options = &self.shared.options;
            let length = (end + options.ahead_bytes).min(options.segment_bytes.max(end));
            let zeros = usize::try_from(length - end).unwrap_or(0);
            self.buffer.resize(written + zeros, 0);
            self.length = end + zeros as u64;
        }
        let write = self.segment.file.write_all_at(&self.buffer, self.at);
        write.map_err(LogError::io("write", &self.segment.path))?;
        self.at = end;
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER);
        self.shared.state.lock().stats.bytes += written as u64;
        Ok(())
    }

    /// Makes what is written durable.
    async fn sync(&mut self) -> Result<(), LogError> {
        if self.synced < self.at {
            let sync = self.segment.file.sync_data().await;
            sync.map_err(LogError::io("sync", &self.segment.path))?;
            self.synced = self.at;
            self.shared.state.lock().stats.syncs += 1;
        }
        Ok(())
    }

    /// Goes on in a new segment. This one is durable before, and says at its end that another one
    /// follows before anything is written there: none can go missing unnoticed.
    async fn rotate(&mut self) -> Result<(), LogError> {
        self.flush()?;
        self.sync().await?;
        let mut head = SegmentHead {
            sequence: self.segment.head.sequence + 1,
            first: self.replay.bounds.next,
            former_end: self.at,
            ..self.segment.head
        };
        let records = self.restated(head.salt());
        head.restated = records.len() as u64;
        let begins = START + head.restated;
        let options = &self.shared.options;
        let length = (begins + options.ahead_bytes).min(options.segment_bytes).max(begins);
        let segment = Arc::new(Segment::begin(&self.dir, head, &records, length)?);

        let mut seal = Vec::new();
        let salt = self.segment.head.salt();
        record::encode(&mut seal, salt, 0, &Head::plain(Kind::Seal, 0, 0), &[]);
        let failed = LogError::io("write", &self.segment.path);
        let written = self.segment.file.write_all_at(&seal, self.at);
        let synced = match written {
            Ok(()) => self.segment.file.sync_data().await,
            error => error,
        };
        synced.map_err(failed)?;

        self.segments.push_back(Arc::clone(&segment));
        self.segment = segment;
        (self.at, self.synced, self.begins) = (begins, begins, begins);
        self.length = length;
        self.marker.breaks();
        Ok(())
    }

    /// What has to outlive the segments before: each segment begins with it.
    fn restated(&self, salt: u32) -> Vec<u8> {
        let mut records = Vec::new();
        let mut say = |head: Head, payload: &[u8]| {
            let back = records.len() as u64;
            record::encode(&mut records, salt, back, &head, payload);
        };
        if let Some(vote) = &self.replay.vote {
            say(Head::plain(Kind::Vote, 0, 0), vote);
        }
        if let Some(at) = self.replay.bounds.purged {
            say(Head::plain(Kind::Purge, at.term, at.index), &[]);
        }
        if let Some(at) = self.replay.bounds.committed {
            say(Head::plain(Kind::Committed, at.term, at.index), &[]);
        }
        records
    }

    /// Lets the readers know of what is on the disk.
    fn publish(&mut self, requests: u64) {
        let mut state = self.shared.state.lock();
        for change in self.changes.drain(..) {
            match change {
                Change::Mark(mark) => state.marks.push(mark),
                Change::CutFrom(index) => state.marks.cut_from(index),
                Change::DropBelow { first, next } => state.marks.drop_below(first, next),
                Change::Vote(vote) => state.vote = Some(vote),
            }
        }
        state.tail.written(std::mem::take(&mut self.entries));
        state.tail.evict(&self.shared.options);
        state.stats.requests += requests;
        state.stats.segments = self.segments.len();
    }

    /// A purge may have broken off before its segments were removed. What they say is said again
    /// before that: that this segment did so when it began is not taken on trust.
    async fn take_up_sweeping(&mut self) {
        let first = self.segments.front().map(|segment| segment.head.sequence);
        if self.replay.bounds.purged.is_none() || first.is_none_or(|it| it >= self.oldest()) {
            return;
        }
        match self.say_again().await {
            Ok(()) => self.sweep(),
            Err(error) => {
                self.shared.fail(error);
            }
        }
    }

    async fn say_again(&mut self) -> Result<(), LogError> {
        if let Some(vote) = self.replay.vote.clone() {
            self.record(Head::plain(Kind::Vote, 0, 0), &vote).await?;
        }
        let Bounds { purged, committed, .. } = self.replay.bounds;
        for (kind, at) in [(Kind::Purge, purged), (Kind::Committed, committed)] {
            if let Some(at) = at {
                self.record(Head::plain(kind, at.term, at.index), &[]).await?;
            }
        }
        self.flush()?;
        self.sync().await
    }

    /// The oldest segment with an entry that may be read, or else the one that is written.
    fn oldest(&self) -> u64 {
        let active = self.segment.head.sequence;
        self.shared.state.lock().marks.oldest().unwrap_or(active).min(active)
    }

    /// Has the segments removed in which no entry is left that may be read, oldest first. The
    /// purge that allows it is durable.
    fn sweep(&mut self) {
        if self.replay.bounds.purged.is_none() {
            return; // segments that are gone have to be explained by a purge
        }
        let oldest = self.oldest();
        while self.segments.front().is_some_and(|segment| segment.head.sequence < oldest) {
            if let Some(segment) = self.segments.pop_front() {
                let _ = self.swept.send(segment); // the sweeper has given up: left for later
            }
        }
        self.shared.state.lock().stats.segments = self.segments.len();
    }
}
