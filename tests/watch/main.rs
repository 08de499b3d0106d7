//! Watches of the embedded node: the hub against a naive model, and the service on real sockets,
//! with real clients, the real etcdctl, and beside a real etcd.
#![cfg(feature = "runtime")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod beside_etcd;
mod etcdctl;
#[path = "../support/lone_etcd.rs"]
mod lone_etcd;
mod many;
mod model;
#[path = "../support/ports.rs"]
mod ports;
mod slow;
mod stream;
mod support;
