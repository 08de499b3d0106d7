//! Apply against a naive model of etcd, against itself in other batchings, and (when asked for)
//! against a real etcd.

#![allow(unreachable_pub, missing_docs, reason = "a test's own modules have no outside")]
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests too")]

mod alarms;
mod batchings;
mod etcd;
mod kept;
#[path = "../support/lone_etcd.rs"]
mod lone_etcd;
mod model;
mod ops;
#[path = "../support/ports.rs"]
mod ports;
mod requests;
mod sequences;
mod subject;
