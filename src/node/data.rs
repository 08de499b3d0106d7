//! Which log lies in a data directory, an upstream etcd's or our own, and what it says.
//!
//! ```text
//! DATA/member/wal/*.wal   an upstream etcd's            read by `wal`
//! DATA/log/*.log          the embedded engine's         read by `log`
//! ```
//!
//! It never writes. An engine never runs on the other one's data: it would take it for none, and
//! vote again under an ID that has voted.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::log::{self, LogError};
use super::wal::{self, Spot, WalError, WalIds, WalReport};
use crate::cluster::{ClusterId, Incarnation, MemberId};

/// Which engine writes a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// An upstream etcd.
    Upstream,
    /// The embedded engine.
    Embedded,
}

impl Writer {
    /// What its log takes on the disk beside the store, in bytes, when it is that of a member that
    /// joins: etcd reserves two segments of 64 MiB at once (its `wal.SegmentSizeBytes`), ours grows
    /// up to one until the store has the entries.
    pub fn log_room(self) -> u64 {
        match self {
            Writer::Upstream => 128 << 20,
            Writer::Embedded => 64 << 20,
        }
    }
}

/// Whose log it is, by its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataIds {
    /// Which engine writes it.
    pub writer: Writer,
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
    /// When the data was begun; etcd's log does not say.
    pub incarnation: Option<Incarnation>,
}

/// The directory of our own log.
pub fn log_dir(data: &Path) -> PathBuf {
    data.join("log")
}

/// Reads whose log lies in a data directory; `None` if there is none.
///
/// # Errors
///
/// [`WalError::Io`] if anything could not be read or is of a later version, [`WalError::Damaged`]
/// if a log does not say whose it is, or there are two.
pub fn ids(data: &Path) -> Result<Option<DataIds>, WalError> {
    let upstream = wal::ids(data)?.map(|it| DataIds {
        writer: Writer::Upstream,
        cluster: it.cluster,
        member: it.member,
        incarnation: None,
    });
    let own = log::read_ids(&log_dir(data)).map_err(|it| unread(data, it))?;
    let own = own.map(|it| DataIds {
        writer: Writer::Embedded,
        cluster: it.cluster,
        member: it.member,
        incarnation: Some(it.incarnation),
    });
    match (upstream, own) {
        (Some(_), Some(_)) => Err(WalError::Damaged(both(data))),
        (upstream, own) => Ok(upstream.or(own)),
    }
}

/// Reads the whole log of a data directory and checks every record; `None` if there is none. What
/// is broken is told in the report.
///
/// # Errors
///
/// [`WalError::Io`] if anything could not be read.
pub fn check(data: &Path) -> Result<Option<WalReport>, WalError> {
    let upstream = wal::check(data)?;
    let own = match log::check(&log_dir(data)) {
        Ok(own) => own.map(report),
        Err(LogError::Damaged(spot)) => {
            Some(WalReport { damage: Some(spot), ..WalReport::default() })
        }
        Err(error) => return Err(unread(data, error)),
    };
    Ok(match (upstream, own) {
        (Some(it), Some(_)) => Some(WalReport { damage: Some(both(data)), ..it }),
        (upstream, own) => upstream.or(own),
    })
}

/// The files of the log that are there, by name.
///
/// # Errors
///
/// If a directory or file could not be looked at.
fn segments(data: &Path) -> io::Result<BTreeMap<OsString, FileId>> {
    let mut found = BTreeMap::new();
    for (dir, extension) in [(wal::wal_dir(data), "wal"), (log_dir(data), "log")] {
        let entries = match fs::read_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == extension)
                && let (Some(name), Some(id)) = (path.file_name(), file_id(&path)?)
            {
                found.insert(name.to_owned(), id);
            }
        }
    }
    Ok(found)
}

/// A file, whatever its name.
type FileId = (u64, u64);

/// Which file is there; `None` if there is none.
fn file_id(path: &Path) -> io::Result<Option<FileId>> {
    match fs::metadata(path) {
        Ok(m) => Ok(Some((m.dev(), m.ino()))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn both(data: &Path) -> Spot {
    let what = "an upstream etcd's log lies beside the embedded engine's".to_owned();
    Spot { file: log_dir(data), offset: 0, what }
}

/// What could not be read is unknown, a later version's format included: never empty, never
/// damaged.
fn unread(data: &Path, error: LogError) -> WalError {
    match error {
        LogError::Damaged(spot) => WalError::Damaged(spot),
        other => WalError::Io { path: log_dir(data), source: io::Error::from(other) },
    }
}

fn report(it: log::Report) -> WalReport {
    let index = |position: Option<log::Position>| position.map_or(0, |it| it.index);
    WalReport {
        ids: Some(WalIds { member: it.ids.member, cluster: it.ids.cluster }),
        segments: it.segments,
        bytes: it.bytes,
        records: it.records,
        first_index: (it.bounds.count() > 0).then_some(it.bounds.first),
        last_index: index(it.bounds.last),
        term: it.bounds.last.map_or(0, |last| last.term),
        commit: index(it.bounds.committed),
        snapshot: index(it.bounds.purged),
        torn_tail: it.torn_tail,
        damage: it.damage,
    }
}

/// Watches that the files under a running engine are still the ones it has open: an
/// engine itself does not notice when they are deleted (safety 10).
#[derive(Debug)]
pub struct DataWatch {
    data: PathBuf,
    id: Option<FileId>,
    segments: BTreeMap<OsString, FileId>,
    gone: bool,
}

impl DataWatch {
    /// Begins to watch a data directory.
    pub fn new(data: PathBuf) -> Self {
        DataWatch { data, id: None, segments: BTreeMap::new(), gone: false }
    }

    /// Whether the directory, or its newest log file, was deleted or replaced. What cannot be
    /// looked at is as it was at the last look: a failed look is no evidence.
    pub fn is_gone(&mut self) -> bool {
        self.gone = self.look().unwrap_or(self.gone);
        self.gone
    }

    fn look(&mut self) -> io::Result<bool> {
        let id = file_id(&self.data)?;
        if self.id.is_none() {
            self.id = id;
        }
        if id.is_none() || id != self.id {
            return Ok(true);
        }
        let segments = segments(&self.data)?;
        let gone = match self.segments.last_key_value() {
            // Old segments are purged; the newest is only ever followed by a newer one.
            Some((newest, id)) => match segments.get(newest) {
                Some(now) => now != id,
                None => segments.keys().all(|name| name < newest),
            },
            None => false,
        };
        if !gone {
            self.segments = segments;
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::wal;

    #[test]
    fn safety_10_a_deleted_or_swapped_data_dir_is_noticed_and_a_purge_is_not() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        let wal = wal::wal_dir(&data);
        fs::create_dir_all(&wal).unwrap();
        let mut watch = DataWatch::new(data.clone());
        assert!(!watch.is_gone());
        fs::write(wal.join("0.wal"), "a").unwrap();
        assert!(!watch.is_gone());
        fs::write(wal.join("1.wal"), "b").unwrap();
        assert!(!watch.is_gone());
        fs::remove_file(wal.join("0.wal")).unwrap();
        assert!(!watch.is_gone(), "an old segment was purged");

        let mut inside = DataWatch::new(data.clone());
        assert!(!inside.is_gone());
        fs::remove_dir_all(data.join("member")).unwrap();
        assert!(inside.is_gone(), "the log was deleted");

        fs::rename(&data, root.path().join("old")).unwrap();
        assert!(watch.is_gone(), "the directory was moved away");
        fs::create_dir_all(&wal).unwrap();
        assert!(watch.is_gone(), "another directory took its place");
    }

    #[test]
    fn a_look_that_fails_is_no_evidence() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("node/data");
        fs::create_dir_all(wal::wal_dir(&data)).unwrap();
        fs::write(wal::wal_dir(&data).join("0.wal"), "a").unwrap();
        let mut watch = DataWatch::new(data.clone());
        assert!(!watch.is_gone());
        // A file where a directory was: "not a directory", which is not "not there".
        fs::rename(root.path().join("node"), root.path().join("elsewhere")).unwrap();
        fs::write(root.path().join("node"), "").unwrap();
        assert!(!watch.is_gone(), "nobody could look");
        fs::remove_file(root.path().join("node")).unwrap();
        assert!(watch.is_gone(), "now it is known");
    }
}
