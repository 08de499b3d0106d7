//! The only reader of time; everything else is handed a [`Clock`], a [`Timestamp`] or a [`Moment`].

#[cfg(not(feature = "simulation"))]
use std::sync::OnceLock;
use std::time::Duration;
#[cfg(not(feature = "simulation"))]
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::cluster::Timestamp;

/// Reads the machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

/// A point on this process's monotonic clock: nanoseconds since some point before the first one
/// that was read. It means nothing outside of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// The time from `earlier` to here; zero if `earlier` is later.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment that is so much later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(not(feature = "simulation"))]
impl Clock {
    /// The time now; the epoch itself if the machine's clock is set before it.
    #[allow(clippy::disallowed_methods, reason = "this is the one place that may read the clock")]
    pub fn now(self) -> Timestamp {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// The time now, unless somebody has set the machine's clock since this process first asked:
    /// ages by it are right all the same.
    pub fn steady(self) -> Timestamp {
        static START: OnceLock<(Timestamp, Moment)> = OnceLock::new();
        let (at, moment) = *START.get_or_init(|| (self.now(), self.monotonic()));
        let since = self.monotonic().since(moment).as_millis();
        Timestamp(at.0.saturating_add(u64::try_from(since).unwrap_or(u64::MAX)))
    }

    /// The monotonic time now: what limits and ages are measured with, as nobody can set it.
    #[allow(clippy::disallowed_methods, reason = "this is the one place that may read the clock")]
    pub fn monotonic(self) -> Moment {
        static START: OnceLock<Instant> = OnceLock::new();
        let start = *START.get_or_init(Instant::now);
        // One more, so that the first moment is not the default one.
        Moment(1).after(Instant::now().saturating_duration_since(start))
    }
}

/// In a simulation time begins with its thread, and is that of a runtime whose clock is paused.
#[cfg(feature = "simulation")]
impl Clock {
    /// The time now, in a year of its own.
    pub fn now(self) -> Timestamp {
        const BEGIN: u64 = 1_000_000_000_000;
        Timestamp(BEGIN + self.monotonic().0 / 1_000_000)
    }

    /// The same: nobody sets this clock.
    pub fn steady(self) -> Timestamp {
        self.now()
    }

    /// The monotonic time now.
    pub fn monotonic(self) -> Moment {
        use tokio::time::Instant;
        thread_local! {
            static START: Instant = Instant::now();
        }
        let start = START.with(|it| *it);
        Moment(1).after(Instant::now().saturating_duration_since(start))
    }
}
