//! One node's home on disk: who may use it, who wrote its data, what was set aside.
//!
//! ```text
//! HOME/NODE/config.env   what it was last started with
//! HOME/NODE/state.json   who runs, and how it ended
//! HOME/NODE/member.json  the stamp: cluster, member, incarnation, founding; copied into data/
//! HOME/NODE/promise.json a founding that it has agreed to; gone once its engine has started
//! HOME/NODE/data/        the engine's data; mode 0700
//! HOME/NODE/lock         a flock that the engine inherits
//! HOME/NODE/aside/       data of former incarnations, ID-TIME each
//! HOME/NODE/log          the node's log; what came before it in log.1
//! ```
//!
//! Data is never deleted here but renamed aside, and only under the lock, and only if it is the
//! data of the member that the caller names. What cannot be read is unknown, never empty.

mod aside;
mod disk;
mod file;
mod lock;
mod log_file;
mod process;
mod state;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use aside::Aside;
pub use file::{read_json, write_json, write_text};
pub use lock::{Holder, HomeLock};
pub use log_file::{LIMIT as LOG_LIMIT, LogFile};
pub use process::ProcessRef;
pub use state::{NodeState, Stamp};

pub use crate::cluster::Phase;
use crate::cluster::{FoundingId, MemberId};

const PROMISE: &str = "promise.json";
/// A file whose only use is the room it takes.
const SPARE: &str = ".spare";

/// Why a node's home could not be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The file system refused; check the path and its permissions.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The file system's own error.
        source: io::Error,
    },
    /// A file of ours cannot be understood; it is left as it is. Restore it, or set the whole
    /// home aside by hand.
    #[error("{} cannot be understood", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where reading it failed.
        source: serde_json::Error,
    },
    /// The step was planned on an old observation; observe again and replan.
    #[error("{} holds the data of {found}, not of member {expected}: left alone", path.display())]
    OtherMember {
        /// The data directory.
        path: PathBuf,
        /// The member whose data was expected.
        expected: MemberId,
        /// What is there instead.
        found: String,
    },
    /// There is no set-aside of that name; `quorate aside list` shows those that are.
    #[error("{} has no set-aside {name}", path.display())]
    NoSuchAside {
        /// The directory of set-asides.
        path: PathBuf,
        /// The name that was asked for.
        name: String,
    },
}

impl HomeError {
    /// Whether the file system, or the user's part of it, is full.
    pub fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, HomeError::Io { source, .. }
            if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HomeError {
    let path = path.to_owned();
    move |source| HomeError::Io { action, path, source }
}

/// The paths of one node's home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeHome {
    dir: PathBuf,
    data: PathBuf,
}

impl NodeHome {
    /// Names a home; touches nothing.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        NodeHome { data: dir.join("data"), dir }
    }

    /// A home whose data lies elsewhere, as with a node that is run without `quorate up`: the
    /// parent of a directory called `data`, else the sibling directory `DATA_DIR.quorate`.
    pub fn of_data_dir(data: &Path) -> Self {
        match (data.file_name(), data.parent()) {
            (Some(name), Some(parent)) if name == "data" => NodeHome::new(parent),
            _ => {
                let mut dir = data.as_os_str().to_owned();
                dir.push(".quorate");
                NodeHome { dir: dir.into(), data: data.to_owned() }
            }
        }
    }

    /// The same home with its data in another place.
    #[must_use]
    pub fn with_data(self, data: impl Into<PathBuf>) -> Self {
        NodeHome { data: data.into(), ..self }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The engine's data directory.
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// What the engine's data takes on the disk, in bytes.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn data_bytes(&self) -> Result<u64, HomeError> {
        file::disk_use(&self.data)
    }

    /// The log of the node and its engine.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// What the node was last started with.
    pub fn config_env(&self) -> PathBuf {
        self.dir.join("config.env")
    }

    /// Where former data goes.
    pub fn aside_dir(&self) -> PathBuf {
        self.dir.join("aside")
    }

    /// Creates the directory, for its owner only.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn create(&self) -> Result<(), HomeError> {
        make_dir(&self.dir)
    }

    /// Creates the engine's data directory, for its owner only, as etcd wants it.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn create_data(&self) -> Result<(), HomeError> {
        use std::os::unix::fs::PermissionsExt;
        make_dir(&self.data)?;
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(&self.data, mode).map_err(io_error("protect", &self.data))?;
        file::sync_dir(self.data.parent().unwrap_or(&self.dir))
    }

    /// Remembers what the node is about to be started with.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn write_config_env(&self, text: &str) -> Result<(), HomeError> {
        write_text(&self.dir, "config.env", text)
    }

    /// Who runs here, or ran last.
    ///
    /// # Errors
    ///
    /// [`HomeError`] if it is there and cannot be read.
    pub fn read_state(&self) -> Result<Option<NodeState>, HomeError> {
        read_json(&self.dir.join("state.json"))
    }

    /// Says who runs here. Works on a full file system too, out of a spare block kept for it:
    /// that the disk is full is the very thing to be said then.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn write_state(&self, state: &NodeState) -> Result<(), HomeError> {
        let spare = self.dir.join(SPARE);
        let write = || write_json(&self.dir, "state.json", state);
        let mut result = write();
        if result.as_ref().is_err_and(HomeError::is_disk_full) && fs::remove_file(&spare).is_ok() {
            result = write();
        }
        // The former state's block is free again now.
        file::keep_spare(&spare);
        result
    }

    /// The bytes that can still be written where the home lies.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn free_bytes(&self) -> Result<u64, HomeError> {
        let stat = rustix::fs::statvfs(&self.dir)
            .map_err(|error| io_error("measure", &self.dir)(error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Whose place this is.
    ///
    /// # Errors
    ///
    /// [`HomeError`] if the stamp is there and cannot be read: that is not "no stamp".
    pub fn stamp(&self) -> Result<Option<Stamp>, HomeError> {
        read_json(&self.dir.join("member.json"))
    }

    /// Stamps the place for a member, before its engine first runs.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn write_stamp(&self, _lock: &HomeLock, stamp: &Stamp) -> Result<(), HomeError> {
        write_json(&self.dir, "member.json", stamp)
    }

    /// Removes the stamp of a member that nothing came of. Data, if there is any, is then
    /// foreign: callers make sure that there is none.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn clear_stamp(&self, _lock: &HomeLock) -> Result<(), HomeError> {
        self.remove("member.json")
    }

    /// The founding of which this node has promised to take part, and has not run since.
    ///
    /// # Errors
    ///
    /// [`HomeError`] if the promise is there and cannot be read.
    pub fn promise(&self) -> Result<Option<FoundingId>, HomeError> {
        read_json(&self.dir.join(PROMISE))
    }

    /// Writes the promise down.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn write_promise(&self, _lock: &HomeLock, founding: FoundingId) -> Result<(), HomeError> {
        write_json(&self.dir, PROMISE, &founding)
    }

    /// The promise is kept, or void: from now on an empty disk means lost data.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn clear_promise(&self, _lock: &HomeLock) -> Result<(), HomeError> {
        if self.dir.join(PROMISE).exists() { self.remove(PROMISE) } else { Ok(()) }
    }

    /// Makes this no longer a managed node: its set-asides and its log stay, for undo.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn forget(&self, lock: &HomeLock) -> Result<(), HomeError> {
        self.clear_stamp(lock)?;
        self.clear_promise(lock)?;
        self.remove("state.json")?;
        // Last: while it is there, the node is still one of ours.
        self.remove("config.env")
    }

    fn remove(&self, name: &str) -> Result<(), HomeError> {
        let path = self.dir.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(e)),
            _ => file::sync_dir(&self.dir),
        }
    }
}

/// Makes a directory that only its owner may enter, and its name in the one above durable.
fn make_dir(dir: &Path) -> Result<(), HomeError> {
    use std::os::unix::fs::DirBuilderExt;
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(io_error("create", dir))?;
    dir.parent().map_or(Ok(()), file::sync_dir)
}
