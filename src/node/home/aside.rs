//! Setting data aside, and bringing it back.
//!
//! A set-aside is one directory, `aside/MEMBER-TIME/`, with the data and the stamp it had. It is
//! made by renaming, so it costs no space and nothing is ever half moved.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::disk::holds_files;
use super::{
    HomeError, HomeLock, NodeHome, Stamp, file, io_error, make_dir, read_json, write_json,
};
use crate::clock::Clock;
use crate::cluster::{Disk, Identity, MemberId, Timestamp};

/// How set-asides begin that are being deleted: never listed, never restored.
const CONDEMNED: &str = ".pruned-";

/// One set-aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// Its name: the member's ID and the time, `ID-MILLISECONDS`.
    pub name: String,
    /// Whose data it is.
    pub member: MemberId,
    /// When it was set aside.
    pub at: Timestamp,
    /// Where it lies.
    pub path: PathBuf,
}

impl NodeHome {
    /// Renames the data into `aside/`, if it is the data of `expect`. `None` if there is none.
    ///
    /// The caller has made sure that the live cluster no longer lists `expect` (safety 13).
    ///
    /// # Errors
    ///
    /// [`HomeError::OtherMember`] if other data lies there; nothing is moved then.
    pub fn set_aside(
        &self,
        lock: &HomeLock,
        expect: MemberId,
    ) -> Result<Option<PathBuf>, HomeError> {
        let other =
            |found: String| HomeError::OtherMember { path: self.data(), expected: expect, found };
        match self.disk() {
            Disk::Empty => return Ok(None),
            Disk::Holds(Identity { member, .. })
            | Disk::Stale { log: Identity { member, .. } }
            | Disk::Damaged { stamp: Identity { member, .. } } => {
                if member != expect {
                    return Err(other(format!("member {member}")));
                }
            }
            Disk::Foreign(what) | Disk::Unknown(what) => return Err(other(what)),
        }
        self.move_aside(lock, expect).map(Some)
    }

    /// Moves away what a start that failed left: files, but no log among them. An engine that
    /// starts afresh would take them for its own.
    ///
    /// # Errors
    ///
    /// [`HomeError::OtherMember`] if there is a log; nothing is moved then.
    pub fn clear_leftovers(
        &self,
        lock: &HomeLock,
        member: MemberId,
    ) -> Result<Option<PathBuf>, HomeError> {
        let data = self.data();
        if self.disk() != Disk::Empty {
            let found = "data with a log".to_owned();
            return Err(HomeError::OtherMember { path: data, expected: member, found });
        }
        if !data.exists() || !holds_files(&data)? {
            return Ok(None);
        }
        self.move_aside(lock, member).map(Some)
    }

    fn move_aside(&self, lock: &HomeLock, member: MemberId) -> Result<PathBuf, HomeError> {
        let target = self.aside_dir().join(format!("{member}-{}", Clock.now().0));
        make_dir(&target)?;
        if let Some(stamp) = self.stamp()? {
            write_json(&target, "member.json", &stamp)?;
        }
        let (from, to) = (self.data(), target.join("data"));
        fs::rename(&from, &to).map_err(io_error("set aside", &from))?;
        file::sync_dir(&target)?;
        file::sync_dir(&self.aside_dir())?;
        file::sync_dir(from.parent().unwrap_or(self.dir()))?;
        // The stamp goes last: without data it would say that data was lost.
        self.clear_stamp(lock)?;
        Ok(target)
    }

    /// The set-asides, oldest first.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn asides(&self) -> Result<Vec<Aside>, HomeError> {
        let dir = self.aside_dir();
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io_error("list", &dir))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(io_error("list", &dir))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((member, at)) = name.split_once('-') else { continue };
            // One without data was cut short before anything was moved.
            if !entry.path().join("data").exists() {
                continue;
            }
            if let (Ok(member), Ok(at)) = (member.parse(), at.parse()) {
                found.push(Aside { member, at: Timestamp(at), path: entry.path(), name });
            }
        }
        found.sort_by_key(|a| a.at);
        Ok(found)
    }

    /// What all set-asides take on the disk, in bytes.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn aside_bytes(&self) -> Result<u64, HomeError> {
        file::disk_use(&self.aside_dir())
    }

    /// Deletes the oldest set-asides until `keep` are left; returns the names of those deleted.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn prune_asides(&self, keep: usize) -> Result<Vec<String>, HomeError> {
        let asides = self.asides()?;
        let surplus = asides.len().saturating_sub(keep);
        let mut gone = Vec::new();
        for aside in asides.into_iter().take(surplus) {
            // Out of sight first, so that a half-deleted one is never brought back.
            let condemned = self.aside_dir().join(format!("{CONDEMNED}{}", aside.name));
            fs::rename(&aside.path, &condemned).map_err(io_error("delete", &aside.path))?;
            gone.push(aside.name);
        }
        self.delete_condemned()?;
        Ok(gone)
    }

    /// Also those that an earlier pruning was killed in.
    fn delete_condemned(&self) -> Result<(), HomeError> {
        let dir = self.aside_dir();
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(io_error("list", &dir))?,
        };
        for entry in entries {
            let entry = entry.map_err(io_error("list", &dir))?;
            if entry.file_name().to_string_lossy().starts_with(CONDEMNED) {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(io_error("delete", &path))?;
            }
        }
        Ok(())
    }

    /// Brings a set-aside back; what lies in its place is set aside in turn. Returns the name of
    /// that one.
    ///
    /// # Errors
    ///
    /// [`HomeError::NoSuchAside`], or a refusal of the file system.
    pub fn restore_aside(&self, lock: &HomeLock, name: &str) -> Result<Option<PathBuf>, HomeError> {
        let asides = self.asides()?;
        let Some(aside) = asides.into_iter().find(|a| a.name == name) else {
            return Err(HomeError::NoSuchAside { path: self.aside_dir(), name: name.to_owned() });
        };
        let stamp: Option<Stamp> = read_json(&aside.path.join("member.json"))?;
        let data = self.data();
        let swapped = match self.disk() {
            Disk::Empty => self.clear_leftovers(lock, aside.member)?,
            Disk::Holds(id) | Disk::Stale { log: id } | Disk::Damaged { stamp: id } => {
                Some(self.move_aside(lock, id.member)?)
            }
            Disk::Foreign(found) | Disk::Unknown(found) => {
                return Err(HomeError::OtherMember { path: data, expected: aside.member, found });
            }
        };
        match &stamp {
            Some(stamp) => self.write_stamp(lock, stamp)?,
            None => self.clear_stamp(lock)?,
        }
        // What is left there is our copy of a stamp and empty directories.
        match fs::remove_dir_all(&data) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("replace", &data)(e));
            }
            _ => {}
        }
        let from = aside.path.join("data");
        fs::rename(&from, &data).map_err(io_error("restore", &from))?;
        file::sync_dir(data.parent().unwrap_or(self.dir()))?;
        fs::remove_dir_all(&aside.path).map_err(io_error("delete", &aside.path))?;
        Ok(swapped)
    }
}

impl Aside {
    /// What it takes on the disk, in bytes.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn bytes(&self) -> Result<u64, HomeError> {
        file::disk_use(&self.path)
    }
}
