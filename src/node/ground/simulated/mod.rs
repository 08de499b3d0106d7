//! The ground of a simulation: all that a run stands on is of one thread and comes from one seed.
//!
//! A run is one thread with a runtime of its own whose clock is paused: time goes on when nobody
//! has anything to do. [`enter`] begins it; what is here belongs to the thread then. Members are
//! told apart by the root of their paths and by their IDs.

pub mod disk;
pub mod net;
pub(crate) mod work;

use std::cell::RefCell;
use std::ops::Range;
use std::time::Duration;

use super::Fault;

/// What a thread's run is.
#[derive(Debug, Default)]
struct Run {
    /// The generator's state (splitmix64).
    chance: u64,
    fault: Option<Fault>,
    drives: disk::Drives,
    wires: net::Wires,
}

thread_local! {
    static RUN: RefCell<Run> = RefCell::default();
}

fn with<T>(look: impl FnOnce(&mut Run) -> T) -> T {
    RUN.with_borrow_mut(look)
}

/// Begins a run on this thread: everything up to chance comes from `seed`.
pub fn enter(seed: u64, fault: Option<Fault>) {
    with(|run| *run = Run { chance: seed, fault, ..Run::default() });
}

/// Whether this fault was put in.
pub(crate) fn has(fault: Fault) -> bool {
    with(|run| run.fault == Some(fault))
}

impl Run {
    fn next(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn within(&mut self, range: &Range<Duration>) -> Duration {
        let span = range.end.saturating_sub(range.start).as_micros();
        let micros = self.below(u64::try_from(span).unwrap_or(u64::MAX));
        range.start + Duration::from_micros(micros)
    }
}

/// A number from the seed.
pub fn draw() -> u64 {
    with(Run::next)
}

/// The same, below a bound.
pub fn below(bound: u64) -> u64 {
    with(|run| run.below(bound))
}

/// Whether something that happens so many times in a hundred does.
pub fn happens(percent: u64) -> bool {
    below(100) < percent
}

#[allow(clippy::unnecessary_wraps, reason = "as on a machine")]
pub(crate) fn random() -> Result<u64, String> {
    Ok(draw())
}
