//! The API of the embedded node, on a replica of one: real sockets, real tonic clients, and the
//! real etcdctl (`etcdctl` on PATH, of 3.4, which speaks both versions of the API).
#![cfg(feature = "runtime")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bytes;
mod errors;
mod etcdctl;
mod etcdctl_v2;
mod http;
mod keys;
mod leases;
mod limits;
mod maintenance;
mod support;
mod whole;
