//! A bar on a terminal while a load runs; elsewhere nothing at all.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::load::pace;
use super::options::Until;
use super::stats::Times;

/// How far a load is. It goes to standard error, so a report can be piped on.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    until: Until,
}

impl Progress {
    pub(super) fn new(what: &str, until: Until) -> Progress {
        let length = match until {
            Until::Total(total) => total,
            Until::Time(time) => milliseconds(time),
        };
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix} {bar:32} {percent:>3} %  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
        bar.set_prefix(what.to_owned());
        Progress { bar, until }
    }

    /// Shows that so many operations succeeded in this time.
    pub(super) fn show(&self, done: u64, time: Duration, times: &Times) {
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_message(format!("{}, p99 {:.2} ms", pace(done, time), times.p99()));
        self.bar.set_position(match self.until {
            Until::Total(_) => done,
            Until::Time(_) => milliseconds(time),
        });
    }

    /// Leaves no trace of it.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
