//! Quorate runs etcd-style clusters so that they never lose quorum or data.
//!
//! The modules in reading order: what a cluster is, what to do next, what a node is started
//! with; then everything that touches the world.

#![warn(missing_docs)]

pub mod cluster;
pub mod plan;
pub mod render;

#[cfg(feature = "runtime")]
pub mod cli;
#[cfg(feature = "node")]
pub mod client;
#[cfg(feature = "node")]
pub mod clock;
#[cfg(feature = "runtime")]
pub mod execute;
#[cfg(feature = "node")]
pub mod node;
#[cfg(feature = "runtime")]
pub mod operator;
#[cfg(feature = "node")]
pub mod proto;
