//! The replicated state, and the one way to change it: operations in log order.
//!
//! ```text
//! check ──> Operation ──> log ──> State::apply ──> Applied ─┬─> who asked
//!                                     │                     └─> watches, lessor
//!                                     └─> State::progress ──> checkpoint
//! ```
//!
//! Deterministic: the same operations give the same state and the same answers on every member,
//! in whatever batches they come. Nothing here reads a clock, draws a random number or walks a
//! map whose order differs from run to run.
//!
//! What an operation means is etcd's `etcdserver/txn` and `etcdserver/apply`; what is refused
//! before it is proposed is etcd's `api/v3rpc/key.go` ([`check`]).

mod alarms;
pub mod check;
mod intervals;
mod leases;
mod members;
mod meta;
mod operation;
mod perform;
mod quota;
mod range;
mod state;
mod txn;
mod write;

pub use check::ReadOnlyTxn;
pub use leases::Lease;
pub use members::{MemberEntry, Seat};
pub use meta::{OpenError, Progress, read_snapshot_meta};
pub use operation::{Command, NotAnOperation, Operation, Published, Ticket};
pub use quota::NO_QUOTA;
pub use state::{Position, State};

use crate::node::fault::Fault;
use crate::node::mvcc::{Change, ReadError, StoreError};
use crate::proto::etcdserverpb::{
    AlarmResponse, CompactionResponse, DeleteRangeResponse, LeaseGrantResponse,
    LeaseRevokeResponse, PutResponse, ResponseHeader, TxnResponse,
};

/// Of so many keys what a compaction has given up is forgotten in one go (`Store::forget`), which
/// takes less than a millisecond.
pub const AT_ONCE: usize = if cfg!(feature = "simulation") { 4 } else { 4096 };

/// What applying an operation gave. Headers hold the revision; who answers fills in the rest.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// Of a put.
    Put(PutResponse),
    /// Of a deletion.
    DeleteRange(DeleteRangeResponse),
    /// Of a transaction.
    Txn(TxnResponse),
    /// Of a compaction.
    Compact(CompactionResponse),
    /// Of a new lease.
    LeaseGrant(LeaseGrantResponse),
    /// Of an ended lease.
    LeaseRevoke(LeaseRevokeResponse),
    /// Of an alarm raised or dropped.
    Alarm(AlarmResponse),
    /// Of a member's word of itself.
    Published,
}

/// What one log entry did.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Who asked.
    pub ticket: Ticket,
    /// The answer to them. After [`Fault::NoSpace`] there may still be changes: the write that
    /// crosses the quota is done and answered with the fault, as etcd has it.
    pub result: Result<Response, Fault>,
    /// The changes of keys, all of one revision, in order. Empty if there were none.
    pub changes: Vec<Change>,
    /// The lease that began or ended.
    pub lease: Option<LeaseChange>,
}

/// A lease began or ended; for whoever keeps the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// It began.
    Granted {
        /// Its ID.
        id: i64,
        /// Seconds that it lives without renewal.
        ttl: i64,
    },
    /// It ended, and its keys are deleted.
    Revoked {
        /// Its ID.
        id: i64,
    },
}

/// Why applying cannot go on: the member has to stop, for it would differ from the others.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// The entry cannot be read: the log is damaged, or a later version wrote it.
    #[error("log entry {index} cannot be applied")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        source: NotAnOperation,
    },
    /// The store failed while the entry was applied; nothing of the entry was.
    #[error("the store failed at log entry {index}")]
    Store {
        /// The entry's index.
        index: u64,
        /// How it failed.
        source: StoreError,
    },
    /// The entry is not the one that comes next. The caller is at fault.
    #[error("log entry {index} does not follow entry {applied}, the last that was applied")]
    Order {
        /// The index of the entry.
        index: u64,
        /// The index of the last entry applied.
        applied: u64,
    },
}

/// Why an operation came to nothing: an answer, or a reason to stop.
#[derive(Debug)]
enum Failure {
    Fault(Fault),
    Store(StoreError),
}

impl Failure {
    /// For reads, which stop nobody.
    fn into_fault(self) -> Fault {
        match self {
            Failure::Fault(fault) => fault,
            Failure::Store(_) => Fault::Storage,
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::Fault(fault)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure::Store(error)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Compacted => Failure::Fault(Fault::Compacted),
            ReadError::Future => Failure::Fault(Fault::FutureRevision),
            ReadError::Store(error) => Failure::Store(error),
        }
    }
}

/// A header that knows the revision only.
#[expect(clippy::unnecessary_wraps, reason = "every field that takes it is optional")]
fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}
