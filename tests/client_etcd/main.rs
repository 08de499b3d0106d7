//! The client and the wire definitions against a real etcd (`etcd` on PATH).
//!
//! `members` and `trouble` tell what the client makes of a cluster's life; the `wire_*` modules
//! drive every service of the API with the generated code and read the answers back, field by
//! field: a wrong number or type shows as a wrong value.
#![cfg(feature = "runtime")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod etcd;
mod members;
mod trouble;
mod wire_auth;
mod wire_kv;
mod wire_lease;
mod wire_lock;
mod wire_maintenance;
mod wire_new;
mod wire_watch;
