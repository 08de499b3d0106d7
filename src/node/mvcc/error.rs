//! What can go wrong with the store.

/// Why records could not be had. Nothing is known then; it is not as if they were not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// What was read is not what was written; the member's data is lost to it (`DataDamaged`).
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The file system has no room left.
    #[error("the store has no room: {0}")]
    Full(String),
    /// The file system refused. After a failed write or sync nothing is tried again.
    #[error("the store failed: {0}")]
    Io(String),
}

/// Why a read was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The revision is compacted away.
    #[error("the revision has been compacted")]
    Compacted,
    /// The revision is yet to come.
    #[error("the revision is yet to come")]
    Future,
    /// The records failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
