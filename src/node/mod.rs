//! One raft node: prepares its home safely, then serves, or runs an upstream etcd in its place.
//!
//! ```text
//! settings ──> prepare ──> decide (pure) ──> refuse with a typed exit
//!                │ home: lock, stamp, log        │
//!                │ peers: quorum answer          └─> set aside? barrier? ──> engine
//! ```
//!
//! Nothing here decides what the cluster should be; that is the planner's. A node only refuses
//! what would harm: data of another member, an empty disk under an old ID, a second founding.

pub mod barrier;
pub mod decide;
pub mod engine;
pub mod hearing;
pub mod home;
pub mod messages;
mod nudge;
mod page;
pub mod port;
pub mod prepare;
mod quorum_answer;
pub mod run;
pub mod settings;
pub mod tell;
mod upstream;
pub mod wal;

pub mod alone;
pub mod api;
pub mod apply;
pub mod checkpoint;
pub mod data;
pub mod embedded;
pub mod fault;
pub mod ground;
pub mod lease;
pub mod log;
pub mod mvcc;
pub mod raft;
pub mod replica;
pub mod transport;
pub mod watch;
