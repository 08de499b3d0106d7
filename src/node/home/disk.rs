//! Whose data is on the disk: the stamp, its copy and the log's own IDs, held together.

use std::fs;
use std::io;
use std::path::Path;

use super::{HomeError, HomeLock, NodeHome, Stamp, io_error, read_json, write_json};
use crate::cluster::{Disk, Identity};
use crate::node::data;
use crate::node::wal::WalError;

/// The stamp's copy beside the data; etcd passes over files it does not know.
const COPY: &str = "quorate-stamp.json";

impl NodeHome {
    /// Reads who wrote the data here. Any disagreement is [`Disk::Stale`], data without a stamp
    /// is [`Disk::Foreign`], and what cannot be read is [`Disk::Unknown`]; none of them is empty.
    ///
    /// In a place of ours, a data dir without a log is empty, whatever a start that failed left
    /// in it: no engine has voted or acknowledged anything from it. If there was a log once, the
    /// stamp says so (see [`NodeHome::clear_leftovers`] for what becomes of the rest).
    pub fn disk(&self) -> Disk {
        match self.read_disk() {
            Ok(disk) => disk,
            Err(error) => Disk::Unknown(with_source(&error)),
        }
    }

    fn read_disk(&self) -> Result<Disk, HomeError> {
        let data = self.data();
        if is_empty(&data)? {
            return Ok(Disk::Empty);
        }
        // A stamp that cannot be understood is no stamp of ours: never a reason to move data.
        let (stamp, copy) = (understood(self.stamp())?, understood(self.stamp_copy())?);
        let ids = match data::ids(&data) {
            Ok(Some(ids)) => ids,
            Ok(None) if stamp.or(copy).is_some() || !holds_files(&data)? => return Ok(Disk::Empty),
            Ok(None) => {
                let what = format!("{} holds files that are not ours", data.display());
                return Ok(Disk::Foreign(what));
            }
            Err(WalError::Io { path, source }) => {
                return Err(HomeError::Io { action: "read", path, source });
            }
            Err(WalError::Damaged(spot)) => {
                return Ok(match stamp.or(copy) {
                    Some(known) => Disk::Damaged { stamp: known.identity() },
                    None => Disk::Foreign(format!("without a stamp, and damaged: {spot}")),
                });
            }
        };
        let agrees = |stamp: &Stamp| {
            (stamp.member, stamp.cluster) == (ids.member, ids.cluster)
                && ids.incarnation.is_none_or(|it| it == stamp.incarnation)
        };
        Ok(match (stamp, copy) {
            (Some(stamp), Some(copy)) if stamp == copy && agrees(&stamp) => {
                Disk::Holds(stamp.identity())
            }
            (None, None) => Disk::Foreign(format!(
                "{} holds data of member {} of cluster {} that was not started here",
                data.display(),
                ids.member,
                ids.cluster
            )),
            // The copy is laid before the engine first runs: data without it came from elsewhere.
            (_, copy) => Disk::Stale {
                log: Identity {
                    cluster: ids.cluster,
                    member: ids.member,
                    founding: copy.filter(agrees).and_then(|copy| copy.founding),
                },
            },
        })
    }

    /// Lays the stamp's copy beside the data.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn copy_stamp(&self, _lock: &HomeLock, stamp: &Stamp) -> Result<(), HomeError> {
        write_json(&self.data(), COPY, stamp)
    }

    /// Whether a first start was cut short before its engine had written a single file: only the
    /// stamp's copy lies in the data directory. Nobody has heard from such a member.
    pub fn is_cut_short(&self) -> bool {
        let only_copy = || {
            let entries = fs::read_dir(self.data())?;
            let names: Vec<_> =
                entries.map(|e| e.map(|e| e.file_name())).collect::<io::Result<_>>()?;
            io::Result::Ok(names == [COPY])
        };
        // What cannot be listed is not known to be cut short.
        only_copy().unwrap_or(false)
    }

    /// The copy of the stamp beside the data.
    ///
    /// # Errors
    ///
    /// [`HomeError`] if it is there and cannot be read.
    pub fn stamp_copy(&self) -> Result<Option<Stamp>, HomeError> {
        read_json(&self.data().join(COPY))
    }
}

fn is_empty(dir: &Path) -> Result<bool, HomeError> {
    match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        other => Ok(other.map_err(io_error("list", dir))?.next().is_none()),
    }
}

fn understood(stamp: Result<Option<Stamp>, HomeError>) -> Result<Option<Stamp>, HomeError> {
    match stamp {
        Err(HomeError::Corrupt { .. }) => Ok(None),
        other => other,
    }
}

/// Whether anything but our own copy of the stamp is there. Directories without a single file
/// do not count: etcd makes them first.
pub(super) fn holds_files(dir: &Path) -> Result<bool, HomeError> {
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let path = entry.map_err(io_error("list", dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Its draft is called after it, with a dot before.
        if name.trim_start_matches('.').starts_with(COPY) {
            continue;
        }
        if !path.is_dir() || holds_files(&path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn with_source(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
