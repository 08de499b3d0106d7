//! Real nodes in one process, each on a runtime, a port and a directory of its own: what a cluster
//! agrees on, and what is left of it when members are killed, cut off, emptied, added and removed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(unreachable_pub, missing_docs, reason = "a test's own modules have no outside")]

mod cluster;
mod faults;
#[path = "../support/files.rs"]
mod files;
mod leases;
mod members;
#[path = "../support/ports.rs"]
mod ports;
mod restarts;
mod snapshots;
mod speed;
mod support;
