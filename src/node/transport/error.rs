//! What goes wrong between members, and whether a call may have been carried out all the same.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::frame::FrameError;
use super::greeting::{Identity, Refusal};
use crate::cluster::MemberId;

/// What a handler answers when it fails; the codes are the caller's and the handler's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail} (code {code})")]
pub struct Failure {
    /// What failed, for programs.
    pub code: u16,
    /// What failed, for people.
    pub detail: String,
}

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The member does not speak to this one, and says why. Not carried out.
    #[error("member {member} refuses this member")]
    Refused {
        /// Who was called.
        member: MemberId,
        /// Why not.
        #[source]
        refusal: Refusal,
    },
    /// No connection. Not carried out.
    #[error("member {member} cannot be reached")]
    Unreachable {
        /// Who was called.
        member: MemberId,
        /// What was tried last.
        #[source]
        source: Arc<DialError>,
    },
    /// The connection ended before the answer. It may have been carried out.
    #[error("the connection to member {member} was lost")]
    Lost {
        /// Who was called.
        member: MemberId,
        /// How it ended.
        #[source]
        source: Arc<LinkError>,
    },
    /// No answer in time. It may have been carried out if it was sent.
    #[error("member {member} has not answered within {after:?}")]
    Timeout {
        /// Who was called.
        member: MemberId,
        /// The limit.
        after: Duration,
        /// Whether there was a connection to send it on.
        was_sent: bool,
    },
    /// So much is under way to this member already that nothing is added. Not carried out.
    #[error("too much is under way to member {member}")]
    Busy {
        /// Who was called.
        member: MemberId,
    },
    /// The member is closing, or has too much to do. Not carried out.
    #[error("member {member} takes no more calls for now")]
    Declined {
        /// Who was called.
        member: MemberId,
    },
    /// Longer than what is sent. Not carried out.
    #[error("{length} bytes for member {member}; at most {most} are sent at once")]
    TooLong {
        /// Who was called.
        member: MemberId,
        /// The length.
        length: usize,
        /// The limit.
        most: usize,
    },
    /// The handler failed.
    #[error("member {member} failed to answer")]
    Failed {
        /// Who was called.
        member: MemberId,
        /// What it says.
        #[source]
        failure: Failure,
    },
}

impl CallError {
    /// Whether the call may have been carried out.
    pub fn may_have_happened(&self) -> bool {
        match self {
            CallError::Lost { .. } | CallError::Failed { .. } => true,
            CallError::Timeout { was_sent, .. } => *was_sent,
            CallError::Refused { .. }
            | CallError::Unreachable { .. }
            | CallError::Busy { .. }
            | CallError::Declined { .. }
            | CallError::TooLong { .. } => false,
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The URL is none that can be dialled.
    #[error("{url}: not an http:// URL with a host")]
    Url {
        /// The URL.
        url: String,
    },
    /// The member has no URL.
    #[error("no peer URL is known")]
    NoUrl,
    /// The member was forgotten, or all of them: this node is closing.
    #[error("it is no peer any more")]
    Forgotten,
    /// TCP did not connect.
    #[error("cannot connect to {url}")]
    Connect {
        /// The URL.
        url: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No greeting in time.
    #[error("{url} has not greeted within {after:?}")]
    Slow {
        /// The URL.
        url: String,
        /// The limit.
        after: Duration,
    },
    /// What listens does not speak HTTP/1, or hung up.
    #[error("no greeting from {url}")]
    Http {
        /// The URL.
        url: String,
        /// Why not.
        #[source]
        source: hyper::Error,
    },
    /// An answer that is neither yes nor a typed no, such as that of a node at its founding
    /// barrier.
    #[error("{url} answers with HTTP status {status}")]
    Status {
        /// The URL.
        url: String,
        /// The status.
        status: u16,
    },
    /// What listens is not the member that was wanted. This side says so.
    #[error("{url} is not to be spoken to")]
    Mistaken {
        /// The URL.
        url: String,
        /// What is wrong with it.
        #[source]
        why: Refusal,
    },
    /// The member says no.
    #[error("{url} refuses")]
    Refused {
        /// The URL.
        url: String,
        /// Who says so, if it is of the same cluster.
        by: Option<Identity>,
        /// Why.
        #[source]
        refusal: Refusal,
    },
}

/// How a connection that was greeted ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other side closed it.
    #[error("it was closed by the other side")]
    Closed,
    /// This side closed it: the member has another address, was forgotten, or nobody used it.
    #[error("it was closed by this side")]
    Dropped,
    /// Nothing was heard for too long.
    #[error("nothing was heard on it for {0:?}")]
    Silent(Duration),
    /// What came was no frames.
    #[error("what came on it was no frames")]
    Frame(#[from] FrameError),
    /// The socket failed.
    #[error("its socket failed")]
    Io(#[from] io::Error),
    /// The member does not speak to the other any more.
    #[error("the two do not speak any more")]
    Refused(#[source] Refusal),
}
