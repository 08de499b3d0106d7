//! The peer transport on real sockets: calls, order, refusals, lost and frozen peers, bounds, and
//! whatever else may come in at a peer port.
#![cfg(feature = "runtime")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(unreachable_pub, missing_docs, reason = "a test's own modules have no outside")]

mod bad;
mod calls;
mod greeting;
mod lost;
mod pages;
#[path = "../support/ports.rs"]
mod ports;
mod speed;
mod support;
