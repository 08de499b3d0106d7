//! What was measured: times in one histogram, errors by their text.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::clock::Moment;

/// What a histogram tells apart, in nanoseconds; beyond counts as the bound.
const SHORTEST: u64 = 1_000;
const LONGEST: u64 = 3_600_000_000_000;
/// Figures kept of each time: an error of at most one in a thousand.
const FIGURES: u8 = 3;
/// Error texts kept apart. A member's own words are few; this bounds those of a broken one.
const TEXTS: usize = 50;
/// Where texts past the bound are counted.
const OTHERS: &str = "other errors";

/// Times of operations.
#[derive(Debug)]
pub(super) struct Times(Histogram<u64>);

impl Times {
    pub(super) fn new() -> anyhow::Result<Times> {
        Ok(Times(Histogram::new_with_bounds(SHORTEST, LONGEST, FIGURES)?))
    }

    pub(super) fn note(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(LONGEST));
    }

    /// The 99th percentile so far, in milliseconds.
    pub(super) fn p99(&self) -> f64 {
        milliseconds(self.0.value_at_quantile(0.99))
    }

    /// The figures for a report; `None` if there is no time at all.
    pub(super) fn latency(&self) -> Option<Latency> {
        let at = |quantile| milliseconds(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Latency {
            mean: self.0.mean() / 1e6,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: milliseconds(self.0.max()),
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "an hour in nanoseconds is below 2^52")]
fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

/// Times in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Latency {
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

/// Errors by their text.
#[derive(Clone, Debug, Default)]
pub(super) struct Errors {
    texts: BTreeMap<String, u64>,
    total: u64,
}

impl Errors {
    pub(super) fn note(&mut self, text: String) {
        self.total += 1;
        let full = self.texts.len() >= TEXTS && !self.texts.contains_key(&text);
        *self.texts.entry(if full { OTHERS.to_owned() } else { text }).or_default() += 1;
    }

    /// How many.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// How many of each text.
    pub(super) fn texts(&self) -> &BTreeMap<String, u64> {
        &self.texts
    }
}

/// Everything that a load's clients measure, in one place: a histogram for each of a thousand
/// clients would not fit into any cache.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) times: Times,
    pub(super) errors: Errors,
    /// Operations that succeeded.
    pub(super) done: u64,
    /// What they brought back, such as keys.
    pub(super) brought: u64,
    /// When the last one ended.
    pub(super) last: Moment,
    /// When the last one succeeded; the beginning if none has.
    pub(super) succeeded: Moment,
}

impl Tally {
    pub(super) fn new(begun: Moment) -> anyhow::Result<Tally> {
        Ok(Tally {
            times: Times::new()?,
            errors: Errors::default(),
            done: 0,
            brought: 0,
            last: begun,
            succeeded: begun,
        })
    }

    /// Takes note of one operation: what it brought back, or why it failed.
    pub(super) fn note(&mut self, begun: Moment, ended: Moment, result: Result<u64, String>) {
        self.last = ended;
        match result {
            Ok(brought) => {
                self.times.note(ended.since(begun));
                self.done += 1;
                self.brought += brought;
                self.succeeded = ended;
            }
            Err(text) => self.errors.note(text),
        }
    }
}

/// Operations a second.
pub(super) fn per_second(operations: u64, time: Duration) -> f64 {
    // More than 2^52 operations take longer than anyone waits.
    #[allow(clippy::cast_precision_loss, reason = "see above")]
    let operations = operations as f64;
    if time.is_zero() { 0.0 } else { operations / time.as_secs_f64() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_times_that_were_noted() {
        let mut times = Times::new().expect("the bounds are sound");
        assert!(times.latency().is_none());
        (1..=1000).for_each(|n| times.note(Duration::from_micros(n * 100)));
        let found = times.latency().expect("a thousand times");
        let near = |found: f64, meant: f64| (found / meant - 1.0).abs() < 0.002;
        for (found, meant) in [
            (found.p50, 50.0),
            (found.p90, 90.0),
            (found.p99, 99.0),
            (found.p999, 99.9),
            (found.max, 100.0),
            (found.mean, 50.05),
            (times.p99(), 99.0),
        ] {
            assert!(near(found, meant), "{found} instead of {meant}");
        }
        // Beyond the bounds nothing is lost.
        times.note(Duration::ZERO);
        times.note(Duration::from_secs(100_000));
        assert!(times.latency().expect("times").max >= 3.59e6);
    }

    #[test]
    fn errors_are_counted_by_text_and_a_flood_of_texts_is_bounded() {
        let mut errors = Errors::default();
        (0..3).for_each(|_| errors.note("no leader".to_owned()));
        (0..1000).for_each(|n| errors.note(format!("text {n}")));
        errors.note("no leader".to_owned());
        assert_eq!(errors.total(), 1004);
        assert_eq!(errors.texts()["no leader"], 4);
        assert_eq!(errors.texts().len(), TEXTS + 1);
        assert_eq!(errors.texts().values().sum::<u64>(), 1004);
    }
}
