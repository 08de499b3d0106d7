//! What the API answers when it cannot do what was asked: etcd's own words and codes.
//!
//! Clients decide by the text, so it is the same to the letter (etcd's `api/v3rpc/rpctypes`).
//! Pure: a fault is made by the deterministic apply as well as by the services.

/// The gRPC status code a fault travels with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A field of the request is wrong.
    InvalidArgument,
    /// What was named is not there.
    NotFound,
    /// It is not the time for this.
    FailedPrecondition,
    /// A quota or limit is reached.
    ResourceExhausted,
    /// A revision outside of what is kept.
    OutOfRange,
    /// Ask again, perhaps elsewhere.
    Unavailable,
    /// The client gave up, or the leader was lost under a watch.
    Cancelled,
    /// This version does not have it.
    Unimplemented,
    /// The member itself is at fault.
    Internal,
    /// The store is damaged.
    DataLoss,
    /// Not allowed.
    PermissionDenied,
    /// Credentials are missing or old.
    Unauthenticated,
    /// The limit of time has passed.
    DeadlineExceeded,
    /// Any other.
    Unknown,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $code:ident, $text:literal;)*) => {
        /// Why a request was not done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        pub enum Fault {
            $($(#[$doc])* #[error($text)] $name,)*
        }

        impl Fault {
            /// Every fault there is.
            pub const ALL: &[Fault] = &[$(Fault::$name,)*];

            /// The code it travels with.
            pub fn code(self) -> Code {
                match self { $(Fault::$name => Code::$code,)* }
            }
        }
    };
}

faults! {
    /// A key of no bytes.
    EmptyKey = InvalidArgument, "etcdserver: key is not provided";
    /// An operation of a transaction that is none, or a put that keeps a value that is not there.
    KeyNotFound = InvalidArgument, "etcdserver: key not found";
    /// A put that keeps the value and brings one.
    ValueProvided = InvalidArgument, "etcdserver: value is provided";
    /// A put that keeps the lease and brings one.
    LeaseProvided = InvalidArgument, "etcdserver: lease is provided";
    /// More operations in a transaction than `--max-txn-ops`.
    TooManyOps = InvalidArgument, "etcdserver: too many operations in txn request";
    /// A transaction writes one key twice.
    DuplicateKey = InvalidArgument, "etcdserver: duplicate key given in txn request";
    /// The client's metadata names a version of the API that is none.
    InvalidClientApiVersion = InvalidArgument, "etcdserver: invalid client api version";
    /// A sort order or target that does not exist.
    InvalidSortOption = InvalidArgument, "etcdserver: invalid sort option";
    /// The revision is compacted away.
    Compacted = OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    /// The revision is yet to come.
    FutureRevision = OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    /// The store has reached its quota.
    NoSpace = ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    /// The lease is not there.
    LeaseNotFound = NotFound, "etcdserver: requested lease not found";
    /// The lease is there already.
    LeaseExists = FailedPrecondition, "etcdserver: lease already exists";
    /// A TTL above 9,000,000,000 s.
    LeaseTtlTooLarge = OutOfRange, "etcdserver: too large lease TTL";
    /// A watch was cancelled because the member has no leader.
    WatchCanceled = Cancelled, "etcdserver: watch canceled";
    /// The same peer URLs were added within this second.
    MemberExists = FailedPrecondition, "etcdserver: member ID already exist";
    /// A member has the peer URL already.
    PeerUrlExists = FailedPrecondition, "etcdserver: Peer URLs already exists";
    /// The change would leave fewer started voters than a quorum.
    MemberNotEnoughStarted = FailedPrecondition, "etcdserver: re-configuration failed due to not enough started members";
    /// A peer URL is none.
    MemberBadUrls = InvalidArgument, "etcdserver: given member URLs are invalid";
    /// The list has no such member.
    MemberNotFound = NotFound, "etcdserver: member not found";
    /// The member to promote is a voter.
    MemberNotLearner = FailedPrecondition, "etcdserver: can only promote a learner member";
    /// The learner has not caught up.
    LearnerNotReady = FailedPrecondition, "etcdserver: can only promote a learner member which is in sync with leader";
    /// One learner at a time.
    TooManyLearners = FailedPrecondition, "etcdserver: too many learner members in cluster";
    /// The cluster ID of a peer is another one.
    ClusterIdMismatch = FailedPrecondition, "etcdserver: cluster ID mismatch";
    /// The request is larger than `--max-request-bytes`.
    RequestTooLarge = InvalidArgument, "etcdserver: request is too large";
    /// More is committed than could be applied so far.
    TooManyRequests = ResourceExhausted, "etcdserver: too many requests";
    /// Authentication: not built yet.
    AuthNotEnabled = FailedPrecondition, "etcdserver: authentication is not enabled";
    /// A token that is none.
    InvalidAuthToken = Unauthenticated, "etcdserver: invalid auth token";
    /// No leader is known.
    NoLeader = Unavailable, "etcdserver: no leader";
    /// This member does not lead.
    NotLeader = FailedPrecondition, "etcdserver: not leader";
    /// The leader changed under the request.
    LeaderChanged = Unavailable, "etcdserver: leader changed";
    /// The cluster does not know the call yet.
    NotCapable = FailedPrecondition, "etcdserver: not capable";
    /// The member is stopping.
    Stopped = Unavailable, "etcdserver: server stopped";
    /// No agreement in time.
    Timeout = Unavailable, "etcdserver: request timed out";
    /// No agreement in time, and the leader was lost meanwhile.
    TimeoutLeaderFail = Unavailable, "etcdserver: request timed out, possibly due to previous leader failure";
    /// No agreement in time, and the connection to the leader was lost.
    TimeoutConnectionLost = Unavailable, "etcdserver: request timed out, possibly due to connection lost";
    /// The read index did not come in time.
    TimeoutWaitAppliedIndex = Unavailable, "etcdserver: request timed out, waiting for the applied index took too long";
    /// Not every voter is connected.
    Unhealthy = Unavailable, "etcdserver: unhealthy cluster";
    /// The store is damaged.
    Corrupt = DataLoss, "etcdserver: corrupt cluster";
    /// The member to lead cannot.
    BadLeaderTransferee = FailedPrecondition, "etcdserver: bad leader transferee";
    /// A learner does not serve this.
    NotSupportedForLearner = FailedPrecondition, "etcdserver: rpc not supported for learner";
    /// The leader has not shown by now that it still leads.
    LeaderTransferTimeout = Unavailable, "etcdserver: request timed out, leader transfer took too long";
    /// Not built yet, said honestly.
    NotBuilt = Unimplemented, "quorate does not serve this call yet";
    /// The replica answered something else than it was asked.
    Mismatch = Internal, "etcdserver: the answer is not of this request";
    /// The store or the log failed; the member ends and says why.
    Storage = Internal, "etcdserver: storage failed";
}
