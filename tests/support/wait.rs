//! Time in tests: waiting for a condition, never for a while.

use std::fmt::Display;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The time now.
#[allow(clippy::disallowed_methods, reason = "tests measure what really happens")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Asks again and again until the answer is `Ok`.
///
/// Panics, with the last answer, when `within` is over.
#[track_caller]
pub(crate) fn eventually<T, E: Display>(
    what: &str,
    within: Duration,
    mut ask: impl FnMut() -> Result<T, E>,
) -> T {
    let begun = now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(error) if begun.elapsed() > within => {
                panic!("waited {within:?} in vain for {what}: {error}")
            }
            Err(_) => sleep(Duration::from_millis(30)),
        }
    }
}

/// Asks again and again until `lasting` is over; panics on the first `Err`.
#[track_caller]
pub(crate) fn throughout<E: Display>(
    what: &str,
    lasting: Duration,
    mut ask: impl FnMut() -> Result<(), E>,
) {
    let begun = now();
    while begun.elapsed() < lasting {
        if let Err(error) = ask() {
            panic!("{what} did not hold, after {:?}: {error}", begun.elapsed());
        }
        sleep(Duration::from_millis(100));
    }
}
