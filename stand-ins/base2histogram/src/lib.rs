//! Stands in for the crate of that name, and keeps nothing.
//!
//! openraft notes sizes and times in histograms, also where its feature `runtime-stats` is not
//! there to read them, as it is not here. The real crate makes the tables of all of its 16
//! precisions at the first use of any of them: 27 MiB of a member's memory for ever, more than a
//! quarter of what it holds with 100,000 keys.
//!
//! It has what openraft names, no more. With `runtime-stats` all that it told would be zeros.

use std::fmt;
use std::marker::PhantomData;

/// Keeps nothing of what is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram<T = ()>(PhantomData<T>);

impl<T> Histogram<T> {
    /// An empty one, which it stays.
    pub fn new() -> Histogram<T> {
        Histogram(PhantomData)
    }

    /// Does nothing.
    pub fn record(&mut self, _value: u64) {}

    /// Does nothing.
    pub fn record_n(&mut self, _value: u64, _count: u64) {}

    /// What there is of nothing.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats::default()
    }
}

/// What a histogram tells: no samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are named after what they are in the real crate")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[not kept]")
    }
}

/// Draws nothing.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart<T = ()>(PhantomData<T>);

impl<T> AsciiChart<T> {
    /// An empty one, which it stays.
    pub fn new() -> AsciiChart<T> {
        AsciiChart(PhantomData)
    }

    /// Leaves it out.
    #[must_use]
    pub fn add(self, _name: &str, _histogram: Histogram<T>) -> AsciiChart<T> {
        self
    }
}
