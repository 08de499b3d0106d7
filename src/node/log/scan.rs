//! Reads a whole log: what it holds, where it ends, and whether anything in it is broken.
//!
//! Never writes: a log that is found damaged stays as it is.

use std::path::Path;
use std::sync::Arc;

use super::record::{Head, Kind};
use super::replay::Replay;
use super::segment::{START, Segment, list, path_of};
use super::window::{Found, Window};
use super::{Ids, LogError, Report, Spot};

/// A log that was read from end to end.
pub(super) struct Scan {
    pub(super) segments: Vec<Arc<Segment>>,
    pub(super) replay: Replay,
    /// Where the last record of the last segment ends.
    pub(super) end: u64,
    /// Where the group begins that the last record belongs to: only that one may not have been
    /// synced.
    pub(super) group: u64,
    pub(super) bytes: u64,
    pub(super) records: u64,
    pub(super) torn: Option<Spot>,
    pub(super) damage: Option<Spot>,
}

/// Reads whose log it is; `None` if there is no log. A segment that was still being created does
/// not count: nothing was acknowledged from it.
///
/// # Errors
///
/// [`LogError::Io`] if a segment could not be read, [`LogError::Damaged`] if one does not open
/// with who writes it, one is missing, or two disagree, [`LogError::Version`].
pub fn read_ids(dir: &Path) -> Result<Option<Ids>, LogError> {
    Ok(segments(dir, false)?.last().map(|segment| segment.head.ids))
}

/// Reads the whole log and checks every record; `None` if there is no log. Changes nothing. What
/// is broken is told in the report.
///
/// # Errors
///
/// As [`read_ids`]: a log whose segments do not say whose they are has no report.
pub fn check(dir: &Path) -> Result<Option<Report>, LogError> {
    let Some(scan) = scan(dir, false, &mut |_, _, _, _| ())? else { return Ok(None) };
    let Some(last) = scan.segments.last() else { return Ok(None) };
    Ok(Some(Report {
        ids: last.head.ids,
        segments: scan.segments.len(),
        bytes: scan.bytes,
        records: scan.records,
        vote: scan.replay.vote,
        bounds: scan.replay.bounds,
        torn_tail: scan.torn,
        damage: scan.damage,
    }))
}

/// Opens all segments in order; the last one for writing if asked to.
fn segments(dir: &Path, writing: bool) -> Result<Vec<Arc<Segment>>, LogError> {
    let paths = list(dir)?.segments;
    let count = paths.len();
    let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(count);
    for (n, path) in paths.into_iter().enumerate() {
        let segment = Segment::open(path, writing && n + 1 == count)?;
        if let Some(former) = segments.last() {
            let expected = former.head.sequence + 1;
            if segment.head.sequence != expected {
                return Err(LogError::Damaged(missing(dir, expected)));
            }
            if segment.head.ids != former.head.ids {
                let what = "another member wrote the segment before this one";
                return Err(LogError::damaged(&segment.path, 0, what));
            }
        }
        segments.push(Arc::new(segment));
    }
    Ok(segments)
}

fn missing(dir: &Path, sequence: u64) -> Spot {
    Spot { file: path_of(dir, sequence), offset: 0, what: "the segment is missing".to_owned() }
}

/// Who hears of each record: its segment, its offset there, its head and payload.
pub(super) type Hear<'a> = &'a mut dyn FnMut(&Arc<Segment>, u64, &Head, &[u8]);

/// Reads a log; `None` if there is none. `hear` is told of each record that counts.
pub(super) fn scan(dir: &Path, writing: bool, hear: Hear<'_>) -> Result<Option<Scan>, LogError> {
    let segments = segments(dir, writing)?;
    let Some(first) = segments.first() else { return Ok(None) };
    let mut replay = Replay::default();
    replay.begin_at(first.head.first);
    let mut scan = Scan {
        segments: Vec::new(),
        replay,
        end: START,
        group: START,
        bytes: 0,
        records: 0,
        torn: None,
        damage: None,
    };
    for (n, segment) in segments.iter().enumerate() {
        let next = segments.get(n + 1).map(|next| next.head.former_end);
        let mut heard = |at, head: &Head, payload: &[u8]| hear(segment, at, head, payload);
        scan.segment(dir, segment, next, &mut heard)?;
        if scan.damage.is_some() {
            break;
        }
    }
    let head = first.head;
    scan.replay.settle();
    let bounds = scan.replay.bounds;
    let explained = bounds.purged.is_some_and(|purged| bounds.first <= purged.index + 1);
    if head.sequence > 1 && !explained && scan.damage.is_none() {
        scan.damage = Some(missing(dir, head.sequence - 1));
    }
    scan.segments = segments;
    Ok(Some(scan))
}

impl Scan {
    /// Reads one segment. `former_end`: where it ends, by the word of the next one.
    fn segment(
        &mut self,
        dir: &Path,
        segment: &Segment,
        former_end: Option<u64>,
        heard: &mut dyn FnMut(u64, &Head, &[u8]),
    ) -> Result<(), LogError> {
        let spot =
            |offset, what: &str| Spot { file: segment.path.clone(), offset, what: what.to_owned() };
        (self.end, self.group) = (START, START);
        if segment.head.first != self.replay.bounds.next {
            self.damage = Some(spot(0, "raft entries are missing before this segment"));
            return Ok(());
        }
        let mut window = Window::new(segment)?;
        while former_end != Some(self.end) {
            let at = self.end;
            let (what, torn) = match window.record_at(at)? {
                Found::Record(head, payload) if head.kind != Kind::Seal => {
                    match self.replay.take(&head, payload) {
                        Ok(()) => {
                            heard(at, &head, payload);
                            self.end = at + head.size();
                            self.group = at.saturating_sub(u64::from(head.back)).max(START);
                            self.bytes += head.size();
                            self.records += 1;
                            continue;
                        }
                        Err(what) => (what, false),
                    }
                }
                Found::Record(..) if former_end.is_some() => {
                    ("the segment ends before the next one begins", false)
                }
                Found::Record(..) => {
                    // The next segment was durable before this record was written.
                    self.damage = Some(missing(dir, segment.head.sequence + 1));
                    return Ok(());
                }
                Found::Nothing => ("nothing stands here", true),
                Found::Broken { what, torn } => (what, torn),
            };
            let was_durable =
                former_end.is_some() || at < START.saturating_add(segment.head.restated);
            if was_durable || !torn {
                self.damage = Some(spot(at, what));
            } else if let Some(later) = window.later_group(at)? {
                let what = format!("{what}, and what was written later stands at byte {later}");
                self.damage = Some(spot(at, &what));
            } else if window.anything_from(at)? {
                self.torn = Some(spot(at, what));
            }
            return Ok(());
        }
        Ok(())
    }
}
