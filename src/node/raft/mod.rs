//! The replicated log and what it drives: one member of a cluster, on openraft.
//!
//! ```text
//!   Replica ── propose, barrier, members, leases        Door ── calls of the other members
//!      │                                                 │
//!      v                                                 v
//!   waiters (by ticket) <── Shared: state ── machine ── openraft ── store ──> node/log
//!                              │  │                        │
//!      Watchers, lessor <──────┘  └── keeper               └── links ──> node/transport
//!                                       └──> node/checkpoint, and the purging of the log
//! ```
//!
//! What always holds:
//!
//! - Whoever is answered that an operation is done can read it on this member, and a quorum has it
//!   on its disks.
//! - A read after [`Replica::read_barrier`](crate::node::replica::Replica::read_barrier) sees all
//!   that was acknowledged anywhere before. No clock is trusted for that, only a quorum's word.
//! - The checkpoint is never ahead of the own log, and the log is never purged beyond the
//!   checkpoint before the last durable one.
//! - A follower that has less than it once acknowledged is not brought up to date by whoever heard
//!   it: its word was counted. It ends as damaged.
//! - A member is added as a learner, whatever it was added as; who was removed, or comes with
//!   other data than it is known by, is not spoken to, and is told why. Whoever has nobody to
//!   follow asks for that.
//!
//! openraft is named nowhere but here. What is here knows nothing of clients.

mod acknowledged;
mod ask;
mod barrier;
mod codec;
mod config;
mod door;
mod end;
#[cfg(fuzzing)]
pub mod fuzzing;
mod keeper;
mod lead;
mod links;
mod machine;
mod members;
mod methods;
mod node;
mod offer;
mod propose;
mod receive;
mod rest;
mod runtime;
mod serve;
mod shared;
mod start;
mod store;
mod tidings;
mod types;
mod waiters;
mod watch;

pub use crate::node::watch::Watchers;
pub use config::{BadTimings, Config, Founder, Options};
pub use end::End;
pub use node::Node;
pub use start::{StartError, start};
