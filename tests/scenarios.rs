//! Scenarios: the real `quorate up` with a real engine and an unmodified etcdctl. Something is
//! broken, nobody does anything, and the cluster is as declared again: healed in the safe order,
//! without one acknowledged write lost.
//!
//! A writer runs throughout each of them; `Cluster::verify_all` compares what it was promised
//! with what every member holds. `QUORATE_TEST_ENGINE=PATH` names the engine; without it, `up`
//! takes its default. `QUORATE_TEST_KEEP=1` keeps the homes.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod support;

#[path = "scenarios/crashes.rs"]
mod crashes;
#[path = "scenarios/disks.rs"]
mod disks;
#[path = "scenarios/full_disks.rs"]
mod full_disks;
#[path = "scenarios/howto.rs"]
mod howto;
#[path = "scenarios/logs.rs"]
mod logs;
#[path = "scenarios/membership.rs"]
mod membership;
#[path = "scenarios/observation.rs"]
mod observation;
#[path = "scenarios/quorum_loss.rs"]
mod quorum_loss;
#[path = "scenarios/reconciler.rs"]
mod reconciler;
#[path = "scenarios/refusals.rs"]
mod refusals;
#[path = "scenarios/spec_changes.rs"]
mod spec_changes;
