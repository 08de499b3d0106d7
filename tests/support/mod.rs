//! What the scenario tests and the benchmarks share: a cluster of real processes, a client that
//! writes all the time, and the means to break things.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod chance;
pub(crate) mod cluster;
pub(crate) mod files;
pub(crate) mod history;
pub(crate) mod home;
pub(crate) mod power;
pub(crate) mod process;
pub(crate) mod report;
pub(crate) mod small_disk;
pub(crate) mod spec;
pub(crate) mod undo;
pub(crate) mod up;
pub(crate) mod wait;
pub(crate) mod wire;
pub(crate) mod writer;
