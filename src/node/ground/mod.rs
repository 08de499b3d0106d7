//! What a node stands on: files, connections between members, threads, and chance.
//!
//! On a machine (`machine.rs`) these are the operating system's own, and cost nothing more. Built
//! with the feature `simulation` they are simulated (`simulated/`): one thread, a virtual clock
//! and one seed for all that is up to chance, so that a run with the same seed is the same run,
//! and power losses, partitions and slow disks come when the seed says so. Log, checkpoint, raft
//! and transport use nothing else, and do not know which of the two it is.
//!
//! Work that has a thread of its own is written as a future. On a machine the thread blocks in
//! it, and it never waits in any other sense; in a simulation it is a task like every other.

#[cfg(not(feature = "simulation"))]
mod machine;
#[cfg(feature = "simulation")]
pub mod simulated;

#[cfg(not(feature = "simulation"))]
pub(crate) use machine::{disk, net, random, work};
#[cfg(feature = "simulation")]
pub(crate) use simulated::{disk, net, random, work};

#[cfg(not(feature = "simulation"))]
pub use machine::net::Port;
#[cfg(feature = "simulation")]
pub use simulated::net::Port;

/// A fault that a simulation can put into the node itself, to see whether it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Votes are not written down.
    VoteNotSaved,
    /// The checkpoint keeps the members that it began with.
    MembershipNotKept,
    /// The operations of a Txn are applied in an order of the member's own.
    AppliedInMapOrder,
    /// Who begins to lead gives leases no time anew.
    LeasesNotGivenAnew,
    /// A leader does not ask whether it still leads before it serves a read.
    ReadNotConfirmed,
}

/// Whether a fault was put in: never, outside of a simulation.
#[cfg(not(feature = "simulation"))]
pub(crate) const fn has(_: Fault) -> bool {
    false
}
#[cfg(feature = "simulation")]
pub(crate) use simulated::has;
