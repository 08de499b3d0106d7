//! Why the log could not do what it was asked.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Spot;

/// Why the log could not be read or written.
///
/// It can be cloned: once a write or an fsync has failed, the log is finished, and everyone who
/// still waits or comes later is handed the same error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The file system has no room. Make some there, then start the member again; nothing that
    /// was acknowledged is lost.
    #[error("no space is left to {action} {}", path.display())]
    Full {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The file system's own error.
        source: Arc<io::Error>,
    },
    /// The file system refused. After a failed write or fsync only a fresh start tells what has
    /// reached the disk, so the member has to end.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The file system's own error.
        source: Arc<io::Error>,
    },
    /// Something that was acknowledged cannot be read any more. The member has to be replaced
    /// while the others hold quorum; nothing was changed on the disk.
    #[error("the log is damaged in {0}")]
    Damaged(Spot),
    /// A version of Quorate that is newer than this one wrote the segment: run that one.
    #[error("{} has format {version}; this version reads format {}", path.display(), super::segment::VERSION)]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
    /// There is a log here already; it is not begun anew.
    #[error("{} holds a log already", .0.display())]
    Exists(PathBuf),
    /// There is no log here.
    #[error("{} holds no log", .0.display())]
    Missing(PathBuf),
    /// The caller would leave a hole or remove what is not there. The log is as it was.
    #[error("index {found} does not follow on {expected} in the log")]
    Order {
        /// The index that could be taken.
        expected: u64,
        /// The index that came.
        found: u64,
    },
    /// A payload longer than the log takes. The log is as it was.
    #[error("a payload of {0} bytes is too long for the log")]
    TooLong(usize),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

impl LogError {
    /// Whether the file system is full.
    pub fn is_full(&self) -> bool {
        matches!(self, LogError::Full { .. })
    }

    /// What was tried on what, with the file system's answer.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
        let path = path.to_owned();
        move |source| {
            let full =
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            let source = Arc::new(source);
            if full {
                LogError::Full { action, path, source }
            } else {
                LogError::Io { action, path, source }
            }
        }
    }

    pub(super) fn damaged(file: &Path, offset: u64, what: impl Into<String>) -> LogError {
        LogError::Damaged(Spot { file: file.to_owned(), offset, what: what.into() })
    }
}

impl From<LogError> for io::Error {
    fn from(error: LogError) -> io::Error {
        let kind = match &error {
            LogError::Full { source, .. } | LogError::Io { source, .. } => source.kind(),
            LogError::Damaged(_) => io::ErrorKind::InvalidData,
            LogError::Version { .. } => io::ErrorKind::Unsupported,
            LogError::Exists(_) => io::ErrorKind::AlreadyExists,
            LogError::Missing(_) => io::ErrorKind::NotFound,
            LogError::Order { .. } | LogError::TooLong(_) => io::ErrorKind::InvalidInput,
            LogError::Closed => io::ErrorKind::BrokenPipe,
        };
        io::Error::new(kind, error)
    }
}
