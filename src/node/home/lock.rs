//! The node's lock: held while any process of the node lives.
//!
//! A flock belongs to the open file, not to a process: the engine inherits the descriptor, so
//! the lock outlives a killed `quorate node` for as long as its engine runs (safety 13).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

use super::{HomeError, NodeHome, ProcessRef, io_error};

/// The right to use a node's home.
#[derive(Debug)]
pub struct HomeLock {
    file: File,
}

impl HomeLock {
    /// Lets every process started from now on inherit the lock.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn make_inheritable(&self, home: &NodeHome) -> Result<(), HomeError> {
        let fd = self.file.as_fd();
        fcntl_getfd(fd)
            .and_then(|flags| fcntl_setfd(fd, flags.difference(FdFlags::CLOEXEC)))
            .map_err(|e| io_error("share", &home.dir().join("lock"))(e.into()))
    }
}

impl NodeHome {
    /// Takes the lock; `None` while another process of the node has it.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn try_lock(&self) -> Result<Option<HomeLock>, HomeError> {
        let path = self.dir().join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(HomeLock { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
        }
    }

    /// Whether a process of the node lives.
    ///
    /// Asks with a shared lock, so that several who ask do not take each other for the node; a
    /// node that starts in that very instant tries again.
    ///
    /// # Errors
    ///
    /// [`HomeError::Io`].
    pub fn is_locked(&self) -> Result<bool, HomeError> {
        let path = self.dir().join("lock");
        let file = match File::open(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(io_error("open", &path))?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
        }
    }

    /// The processes that keep the lock and are recorded nowhere, as far as the system tells: an
    /// engine whose `quorate node` died before it could write it down, or a `quorate node` that
    /// has not written itself down yet.
    pub fn holders(&self) -> Vec<Holder> {
        let Ok(lock) = fs::metadata(self.dir().join("lock")) else { return Vec::new() };
        let lockers = lockers(lock.ino());
        let ours = fs::read_link("/proc/self/exe").ok();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = processes.filter_map(|p| p.file_name().to_str()?.parse::<u32>().ok());
        let holders = pids.filter(|pid| has_open(*pid, &lock)).filter_map(|pid| {
            let is_engine = fs::read_link(format!("/proc/{pid}/exe")).ok() != ours;
            // Who runs this very program may only be looking at the lock.
            let holds = is_engine || lockers.contains(&pid);
            holds.then(|| ProcessRef::of(pid).ok().map(|process| Holder { process, is_engine }))?
        });
        holders.collect()
    }
}

/// A process that keeps a node's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub process: ProcessRef,
    /// It runs another program than this one, so it is the engine, which inherited the lock.
    pub is_engine: bool,
}

/// Who took locks on files of this number; a process that inherited one is not told here.
fn lockers(inode: u64) -> Vec<u32> {
    let table = fs::read_to_string("/proc/locks").unwrap_or_default();
    let end = format!(":{inode}");
    let pid = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_it = fields.contains(&"WRITE") && fields.iter().any(|f| f.ends_with(&end));
        is_it.then(|| fields.get(4)?.parse().ok())?
    };
    table.lines().filter_map(pid).collect()
}

fn has_open(pid: u32, file: &fs::Metadata) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors
        .filter_map(|d| fs::metadata(d.path()).ok())
        .any(|m| (m.dev(), m.ino()) == (file.dev(), file.ino()))
}
