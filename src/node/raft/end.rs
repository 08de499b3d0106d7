//! Why a member ends that was not asked to.

use tokio::sync::watch;

use crate::node::apply::Halt;
use crate::node::log::LogError;
use crate::node::mvcc::StoreError;

/// Why the node does not go on. What has been acknowledged is as safe as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// It was removed from the cluster, for good; its data is of no use any more.
    #[error("the member has been permanently removed from the cluster")]
    Removed,
    /// Another copy of its data is the member now: this one was emptied, or put back.
    #[error("the cluster knows this member by other data: {0}")]
    StaleData(String),
    /// What was written cannot be read any more. Replace it while the others hold quorum.
    #[error("the data is damaged: {0}")]
    StorageDamaged(String),
    /// The disk is full. Make room and start it again.
    #[error("the disk is full: {0}")]
    DiskFull(String),
    /// Anything else; a restart may help.
    #[error("the node cannot go on: {0}")]
    Fatal(String),
}

impl From<&StoreError> for End {
    fn from(error: &StoreError) -> End {
        match error {
            StoreError::Damaged(_) => End::StorageDamaged(error.to_string()),
            StoreError::Full(_) => End::DiskFull(error.to_string()),
            StoreError::Io(_) => End::Fatal(error.to_string()),
        }
    }
}

impl From<&LogError> for End {
    fn from(error: &LogError) -> End {
        match error {
            LogError::Damaged(_) => End::StorageDamaged(error.to_string()),
            LogError::Full { .. } => End::DiskFull(error.to_string()),
            LogError::Io { source, .. } => End::Fatal(format!("{error}: {source}")),
            other => End::Fatal(other.to_string()),
        }
    }
}

impl From<&Halt> for End {
    fn from(halt: &Halt) -> End {
        match halt {
            Halt::Entry { source, .. } => End::StorageDamaged(format!("{halt}: {source}")),
            Halt::Store { source, .. } => End::from(source),
            Halt::Order { .. } => End::Fatal(halt.to_string()),
        }
    }
}

/// Where the end is said; the first reason is the reason.
#[derive(Debug)]
pub(super) struct Ends(watch::Sender<Option<End>>);

impl Ends {
    pub(super) fn new() -> Ends {
        Ends(watch::Sender::new(None))
    }

    pub(super) fn say(&self, end: End) {
        self.0.send_if_modified(|it| {
            if it.is_some() {
                return false;
            }
            if end == End::Removed {
                tracing::warn!(%end, "the node ends");
            } else {
                tracing::error!(%end, "the node ends");
            }
            *it = Some(end);
            true
        });
    }

    pub(super) fn said(&self) -> Option<End> {
        self.0.borrow().clone()
    }

    pub(super) async fn wait(&self) -> End {
        let mut ends = self.0.subscribe();
        // The sender is in `self`, so it cannot be gone.
        let end = ends.wait_for(Option::is_some).await.ok().and_then(|it| it.clone());
        end.unwrap_or_else(|| End::Fatal("nobody is left to say why".to_owned()))
    }
}
