//! The write-ahead log: what an acknowledgement rests on.
//!
//! ```text
//!  append, vote, truncate, purge ──> queue (bounded) ──> writer: one write and one fdatasync for
//!        │  at once                                       all that waits, then the answers in order
//!        v                                                     │
//!  tail in memory (bounded) <── read ──> segments on the disk <┘
//! ```
//!
//! It keeps raft's entries, vote and commit, and knows nothing of what is in them. What it
//! promises:
//!
//! - Who is told that an entry or a vote was written will find it again after a power loss.
//! - After a failed write or fsync nothing is tried again: what has reached the disk is unknown
//!   then, and only a fresh start can tell. Everyone is handed the error, now and later.
//! - A write that broke off is repaired when the log is opened, for nobody was told of it.
//!   Anything else that cannot be read is damage: the log is left as it is and will not open, and
//!   the error names the file and the byte. `record.rs` says how the two are told apart.
//! - Entries are not held in memory beyond a limit, however far back a follower still reads.
//!
//! It never decides what may be purged or truncated, reads no clock, and lets nobody but its own
//! writer touch the files. Two processes must not open one log: the home's lock sees to that.

mod error;
mod handle;
mod marks;
mod open;
mod record;
mod replay;
mod scan;
mod segment;
mod shared;
mod tail;
mod types;
mod window;
mod writer;

pub use self::error::LogError;
pub use self::handle::{Done, Log};
pub use self::scan::{check, read_ids};
pub use self::types::{Bounds, Entry, Ids, Options, Position, Recovered, Report, Stats};
pub use super::wal::Spot;
