//! What can go wrong with a call, by meaning rather than by status code.

use std::error::Error as StdError;
use std::time::Duration;

use tonic::Code;

/// Why a call failed. Every kind names the call and the endpoint it was made on; the cause, where
/// there is one, is the error's `source`.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The member understood the request and declined; what to do depends on [`Refusal`].
    #[error("{call} on {endpoint}: {why}")]
    Refused {
        /// The call, in words, such as `add learner`.
        call: &'static str,
        /// Who declined.
        endpoint: String,
        /// Why.
        why: Refusal,
    },
    /// No connection could be made, so nothing was sent. Try another endpoint, or this one later.
    #[error("{call} on {endpoint}: not reachable")]
    Unreachable {
        /// The call, in words.
        call: &'static str,
        /// Who was dialled.
        endpoint: String,
        /// Why no connection came about.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// No answer within the client's deadline: the member is frozen, cut off, or waits for a
    /// quorum. The request may have been, or may still be, carried out.
    #[error("{call} on {endpoint}: no answer within {after:?}")]
    Timeout {
        /// The call, in words.
        call: &'static str,
        /// Who did not answer.
        endpoint: String,
        /// The deadline.
        after: Duration,
    },
    /// The connection broke after the request was sent. It may have been carried out.
    #[error("{call} on {endpoint}: the connection broke before the answer came")]
    Interrupted {
        /// The call, in words.
        call: &'static str,
        /// Who was asked.
        endpoint: String,
        /// What broke.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// An error that this version does not know by name.
    #[error("{call} on {endpoint}: {message} ({code:?})")]
    Other {
        /// The call, in words.
        call: &'static str,
        /// Who answered.
        endpoint: String,
        /// The gRPC status code.
        code: Code,
        /// The member's own words.
        message: String,
    },
    /// An answer came that cannot be understood: no member, or no etcd, listens there.
    #[error("{call} on {endpoint}: {what}")]
    BadAnswer {
        /// The call, in words.
        call: &'static str,
        /// Who answered.
        endpoint: String,
        /// What is wrong with the answer.
        what: String,
    },
    /// No endpoint spoke for a quorum, so nothing was sent that changes anything.
    #[error("{call}: none of {tried} endpoints answered for a quorum within {after:?}")]
    NoEndpoint {
        /// The call, in words.
        call: &'static str,
        /// How many endpoints there were.
        tried: usize,
        /// The deadline.
        after: Duration,
        /// The failure that says most, if any came in time: a refusal before a silence before a
        /// closed port.
        source: Option<Box<ClientError>>,
    },
}

/// A refusal in etcd's own words (its `api/v3rpc/rpctypes`), by meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// The list holds no member of this ID. For a removal, this is success.
    #[error("the member list holds no such member")]
    MemberNotFound,
    /// The same peer URLs were added within this second: the ID, made from both, exists. For an
    /// addition, this is success if the list agrees.
    #[error("a member with this ID is in the list already")]
    MemberExists,
    /// Another member, or this one, has the peer URL already.
    #[error("a member has this peer URL already")]
    PeerUrlExists,
    /// A peer URL is not one.
    #[error("a peer URL is not valid")]
    BadPeerUrls,
    /// Not every voter has been connected for 5 s; wait (safety 16).
    #[error("not every voter has been connected for long enough")]
    UnhealthyCluster,
    /// One learner is in the list already; wait for its promotion (safety 16).
    #[error("there is a learner already")]
    TooManyLearners,
    /// The learner's log is not near enough to the leader's; wait.
    #[error("the learner has not caught up yet")]
    NotInSync,
    /// The member to promote is a voter already. For a promotion, this is success.
    #[error("the member is a voter already")]
    NotLearner,
    /// The change would leave fewer started voters than a quorum; wait for them to start.
    #[error("not enough voters have started")]
    NotEnoughStarted,
    /// Only the leader takes this call.
    #[error("this member is not the leader")]
    NotLeader,
    /// The member that is to lead cannot.
    #[error("the chosen member cannot lead")]
    BadTransferee,
    /// A learner does not serve this call.
    #[error("a learner does not serve this call")]
    Learner,
    /// The member knows no leader: an election is under way, or the quorum is lost.
    #[error("the member knows no leader")]
    NoLeader,
    /// The leader changed during the call. A mutation may have been carried out.
    #[error("the leader changed during the call")]
    LeaderChanged,
    /// The member gave up waiting for the cluster. A mutation may still be carried out.
    #[error("the member gave up waiting for the cluster to agree")]
    ServerTimeout,
    /// The member is on its way down. A mutation may have been carried out.
    #[error("the member is stopping")]
    Stopped,
    /// Too many requests are under way; nothing was done.
    #[error("the member has too many requests under way")]
    TooManyRequests,
    /// Authentication is on and no credentials, or old ones, were given.
    #[error("authentication is on and the call carried no valid credentials")]
    AuthRequired,
    /// The user may not do this.
    #[error("permission denied")]
    PermissionDenied,
    /// The store has reached its quota.
    #[error("the store has reached its quota")]
    NoSpace,
    /// The revision asked for is compacted away.
    #[error("the revision has been compacted")]
    Compacted,
    /// The revision asked for is yet to come.
    #[error("the revision is yet to come")]
    FutureRevision,
    /// The store is damaged, says the member's own check.
    #[error("the member found its store corrupt")]
    Corrupt,
    /// The member (or its cluster version) does not know the call.
    #[error("the member does not know this call")]
    Unsupported,
}

impl ClientError {
    /// Why the member declined, if it did; also when it declined the read before a change.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            ClientError::Refused { why, .. } => Some(*why),
            ClientError::NoEndpoint { source, .. } => source.as_ref().and_then(|it| it.refusal()),
            _ => None,
        }
    }

    /// True if a mutation that failed like this may have been carried out, or may still be:
    /// observe before asking again.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            // An unreadable answer is an answer: the request arrived.
            ClientError::Timeout { .. }
            | ClientError::Interrupted { .. }
            | ClientError::BadAnswer { .. } => true,
            ClientError::Refused { why, .. } => matches!(
                why,
                // The write that fills the store is applied and reported as refused.
                Refusal::LeaderChanged
                    | Refusal::ServerTimeout
                    | Refusal::Stopped
                    | Refusal::NoSpace
            ),
            ClientError::Unreachable { .. } | ClientError::NoEndpoint { .. } => false,
            ClientError::Other { code, message, .. } => {
                message != "raft proposal dropped"
                    && !matches!(
                        code,
                        Code::InvalidArgument
                            | Code::NotFound
                            | Code::AlreadyExists
                            | Code::PermissionDenied
                            | Code::FailedPrecondition
                            | Code::OutOfRange
                            | Code::Unimplemented
                            | Code::Unauthenticated
                            | Code::ResourceExhausted
                    )
            }
        }
    }

    /// How much a failure tells about the cluster, compared with others.
    pub(super) fn weight(&self) -> u8 {
        match self {
            ClientError::Unreachable { .. } | ClientError::NoEndpoint { .. } => 0,
            ClientError::Timeout { .. } | ClientError::Interrupted { .. } => 1,
            ClientError::Other { .. } | ClientError::BadAnswer { .. } => 2,
            ClientError::Refused { .. } => 3,
        }
    }

    /// What a gRPC status means.
    pub(super) fn from_status(
        call: &'static str,
        endpoint: &str,
        status: tonic::Status,
    ) -> ClientError {
        let endpoint = endpoint.to_owned();
        // A status that the member sent has no source; one made here has what broke.
        if has_connect_error(&status) {
            return ClientError::Unreachable { call, endpoint, source: Box::new(status) };
        }
        if status.source().is_some() {
            return ClientError::Interrupted { call, endpoint, source: Box::new(status) };
        }
        match Refusal::recognise(status.code(), status.message()) {
            Some(why) => ClientError::Refused { call, endpoint, why },
            None => ClientError::Other {
                call,
                endpoint,
                code: status.code(),
                message: status.message().to_owned(),
            },
        }
    }
}

/// True if the connection never came about, so that nothing was sent.
fn has_connect_error(status: &tonic::Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

impl Refusal {
    /// Reads etcd's words, which are the same through all its versions; the codes are not.
    fn recognise(code: Code, message: &str) -> Option<Refusal> {
        let known = match message.strip_prefix("etcdserver: ").unwrap_or(message) {
            "member not found" => Refusal::MemberNotFound,
            "member ID already exist" => Refusal::MemberExists,
            "Peer URLs already exists" => Refusal::PeerUrlExists,
            "given member URLs are invalid" => Refusal::BadPeerUrls,
            "unhealthy cluster" => Refusal::UnhealthyCluster,
            "too many learner members in cluster" => Refusal::TooManyLearners,
            "can only promote a learner member which is in sync with leader" => Refusal::NotInSync,
            "can only promote a learner member" => Refusal::NotLearner,
            "re-configuration failed due to not enough started members" => {
                Refusal::NotEnoughStarted
            }
            "not leader" => Refusal::NotLeader,
            "bad leader transferee" => Refusal::BadTransferee,
            "rpc not supported for learner" => Refusal::Learner,
            "no leader" => Refusal::NoLeader,
            "leader changed" => Refusal::LeaderChanged,
            "server stopped" => Refusal::Stopped,
            "too many requests" => Refusal::TooManyRequests,
            "user name is empty" | "invalid auth token" | "revision of auth store is old" => {
                Refusal::AuthRequired
            }
            "permission denied" => Refusal::PermissionDenied,
            "mvcc: database space exceeded" => Refusal::NoSpace,
            "mvcc: required revision has been compacted" => Refusal::Compacted,
            "mvcc: required revision is a future revision" => Refusal::FutureRevision,
            "corrupt cluster" => Refusal::Corrupt,
            "not capable" => Refusal::Unsupported,
            // Followed, or not, by a guess at the reason.
            text if text.starts_with("request timed out") => Refusal::ServerTimeout,
            _ => match code {
                Code::DeadlineExceeded => Refusal::ServerTimeout,
                Code::Unimplemented => Refusal::Unsupported,
                _ => return None,
            },
        };
        Some(known)
    }
}
