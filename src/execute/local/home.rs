//! The home of a cluster on one machine: what is remembered in it, and who may act on it.
//!
//! ```text
//! HOME/cluster.json    founding, ledger, open requests, allocated ports (fsynced, renamed)
//! HOME/up.lock         held by the one `quorate up` that may act here
//! HOME/up.json         what that `up` is doing, for `status`
//! HOME/up.requests/NODE a person's wish to replace a node, until `up` has taken it up
//! HOME/NODE/           one node's home (see node::home)
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cluster::spec::NodePorts;
use crate::cluster::{Exit, NodeName, Record, ReplaceRequest, Timestamp};
use crate::node::home::{NodeHome, ProcessRef};

/// The layout of `cluster.json`; a later one is refused, not guessed at.
const FORMAT: u32 = 1;

/// Why the home could not be read, written or held.
#[derive(Debug, thiserror::Error)]
pub enum ClusterHomeError {
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
    /// A file of ours cannot be understood. It is never overwritten: restore it from a backup,
    /// or move the home away.
    #[error("{} cannot be understood; nothing was changed", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where reading it failed.
        source: serde_json::Error,
    },
    /// The home was written by a later version; use that one.
    #[error("{} has format {found}, and this quorate knows {FORMAT}: use the newer one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Another `quorate up` acts on this home; stop it first, or let it do the work.
    #[error("{} is held by another `quorate up`{}", home.display(), holder_text(*holder))]
    Held {
        /// The home.
        home: PathBuf,
        /// The holder's pid, if it could be read.
        holder: Option<u32>,
    },
}

fn holder_text(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |pid| format!(" (pid {pid}); stop it with: kill {pid}"))
}

/// What is remembered of the cluster that lives here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterFile {
    format: u32,
    /// The cluster's name; a spec with another one is refused here.
    pub name: String,
    /// The cluster token, likewise.
    pub token: String,
    /// Ports handed to nodes of a `replicas` spec; kept for the life of the home.
    #[serde(default)]
    pub ports: BTreeMap<NodeName, NodePorts>,
    /// The founding, the ledger and open requests.
    #[serde(flatten)]
    pub record: Record,
}

impl ClusterFile {
    /// A file for a cluster that is yet to be founded.
    pub fn new(name: &str, token: &str) -> Self {
        ClusterFile {
            format: FORMAT,
            name: name.to_owned(),
            token: token.to_owned(),
            ports: BTreeMap::new(),
            record: Record::default(),
        }
    }
}

/// What an `up` is doing right now, for other commands to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpState {
    /// The process.
    pub process: ProcessRef,
    /// Its last step, in words.
    pub step: String,
    /// Since when that is its step.
    pub since: Timestamp,
    /// Why the spec file is not followed at present, if it is not (safety 21).
    pub spec_problem: Option<String>,
    /// How nodes ended that could not write it down themselves.
    #[serde(default)]
    pub ends: BTreeMap<NodeName, Exit>,
}

/// A cluster's home.
#[derive(Clone, Debug)]
pub struct ClusterHome {
    dir: PathBuf,
}

/// The right to act on a home, for as long as it lives.
#[derive(Debug)]
pub struct UpLock {
    _file: File,
}

impl ClusterHome {
    /// Names a home; touches nothing.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        ClusterHome { dir: dir.into() }
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The home of one of its nodes.
    pub fn node(&self, node: &NodeName) -> NodeHome {
        NodeHome::new(self.dir.join(&node.0))
    }

    /// Creates the directory, readable by its owner only: it will hold the cluster's data.
    ///
    /// # Errors
    ///
    /// [`ClusterHomeError::Io`].
    pub fn create(&self) -> Result<(), ClusterHomeError> {
        use std::os::unix::fs::DirBuilderExt;
        if self.dir.is_dir() {
            return Ok(());
        }
        let create = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            // A founding record must not vanish with the name of its directory.
            self.dir.parent().map_or(Ok(()), |above| File::open(above)?.sync_all())
        };
        create().map_err(io_error("create", &self.dir))
    }

    /// What is remembered here; `None` if nothing ever was.
    ///
    /// # Errors
    ///
    /// An unreadable record is an error, never an empty record (safety 4).
    pub fn read(&self) -> Result<Option<ClusterFile>, ClusterHomeError> {
        let file: Option<ClusterFile> = read_json(&self.dir.join("cluster.json"))?;
        match file {
            Some(f) if f.format > FORMAT => Err(ClusterHomeError::Newer {
                path: self.dir.join("cluster.json"),
                found: f.format,
            }),
            other => Ok(other),
        }
    }

    /// Remembers `file`: durable when this returns.
    ///
    /// # Errors
    ///
    /// [`ClusterHomeError::Io`]; the former record is then still whole.
    pub fn write(&self, file: &ClusterFile) -> Result<(), ClusterHomeError> {
        write_json(&self.dir, "cluster.json", file)
    }

    /// What the `up` of this home last said it does; `None` if none runs.
    ///
    /// # Errors
    ///
    /// [`ClusterHomeError`], if the file is there and cannot be read.
    pub fn up_state(&self) -> Result<Option<UpState>, ClusterHomeError> {
        let state: Option<UpState> = read_json(&self.dir.join("up.json"))?;
        Ok(state.filter(|s| s.process.alive()))
    }

    /// Tells other commands what this `up` does.
    ///
    /// # Errors
    ///
    /// [`ClusterHomeError::Io`].
    pub fn write_up_state(&self, state: &UpState) -> Result<(), ClusterHomeError> {
        write_json(&self.dir, "up.json", state)
    }

    /// Takes the right to act on this home.
    ///
    /// # Errors
    ///
    /// [`ClusterHomeError::Held`] while another process has it.
    pub fn lock(&self) -> Result<UpLock, ClusterHomeError> {
        let path = self.dir.join("up.lock");
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let holder =
                    file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(ClusterHomeError::Held { home: self.dir.clone(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(io_error("lock", &path)(source)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(io_error("write", &path))?;
        Ok(UpLock { _file: file })
    }

    /// The nodes that have a home here: those that were started and not forgotten since.
    ///
    /// # Errors
    ///
    /// [`ClusterHomeError::Io`] if the directory cannot be listed: that is not "no nodes".
    pub fn nodes(&self) -> Result<Vec<NodeName>, ClusterHomeError> {
        let mut nodes = Vec::new();
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(nodes),
            other => other.map_err(io_error("list", &self.dir))?,
        };
        for entry in entries {
            let entry = entry.map_err(io_error("list", &self.dir))?;
            let config = entry.path().join("config.env");
            // Beside the nodes lie files, below which nothing is. One whose disk cannot be read is
            // a node of which nothing is known, and no reason to look after no other.
            let is_node = entry.path().is_dir() && config.try_exists().unwrap_or(true);
            if is_node && let Ok(name) = entry.file_name().into_string() {
                nodes.push(NodeName(name));
            }
        }
        nodes.sort();
        Ok(nodes)
    }

    /// Leaves a person's wish to replace `node` for `up` to take up.
    ///
    /// # Errors
    ///
    /// [`ClusterHomeError::Io`].
    pub fn leave_request(
        &self,
        node: &NodeName,
        request: &ReplaceRequest,
    ) -> Result<(), ClusterHomeError> {
        let dir = self.requests();
        fs::create_dir_all(&dir).map_err(io_error("create", &dir))?;
        write_json(&dir, &node.0, request)
    }

    /// The wishes left and not yet taken up.
    ///
    /// # Errors
    ///
    /// [`ClusterHomeError`], if one is there and cannot be read.
    pub fn requests_left(&self) -> Result<BTreeMap<NodeName, ReplaceRequest>, ClusterHomeError> {
        let mut found = BTreeMap::new();
        let dir = self.requests();
        let entries = match fs::read_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
            other => other.map_err(io_error("list", &dir))?,
        };
        for entry in entries {
            let entry = entry.map_err(io_error("list", &dir))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // A dot begins the name of a file that is still being written.
            if !name.starts_with('.')
                && let Some(request) = read_json(&entry.path())?
            {
                found.insert(NodeName(name), request);
            }
        }
        Ok(found)
    }

    /// Forgets a wish that is now part of the record.
    ///
    /// # Errors
    ///
    /// [`ClusterHomeError::Io`].
    pub fn request_taken(&self, node: &NodeName) -> Result<(), ClusterHomeError> {
        let path = self.requests().join(&node.0);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(e)),
            _ => Ok(()),
        }
    }

    /// Writes a file of the home, whole or not at all.
    ///
    /// # Errors
    ///
    /// [`ClusterHomeError::Io`].
    pub fn write_text(&self, name: &str, text: &str) -> Result<(), ClusterHomeError> {
        write_text(&self.dir, name, text)
    }

    fn requests(&self) -> PathBuf {
        // No node can have a name with a dot.
        self.dir.join("up.requests")
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, ClusterHomeError> {
    let text = match fs::read_to_string(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(io_error("read", path))?,
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|source| ClusterHomeError::Corrupt { path: path.to_owned(), source })
}

fn write_json<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<(), ClusterHomeError> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| io_error("write", &dir.join(name))(io::Error::other(e)))?;
    text.push('\n');
    write_text(dir, name, &text)
}

/// Writes beside the file, fsyncs, renames, fsyncs the directory: whole or not at all.
fn write_text(dir: &Path, name: &str, text: &str) -> Result<(), ClusterHomeError> {
    let (path, draft) = (dir.join(name), dir.join(format!(".{name}.new")));
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(io_error("write", &path))
}

pub(super) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> ClusterHomeError {
    let path = path.to_owned();
    move |source| ClusterHomeError::Io { action, path, source }
}
