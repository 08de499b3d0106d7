//! Time in tests: waiting for a condition, never for a while.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Asks again and again until the answer is `Ok`; returns it, and how long it took.
///
/// Panics, with the last answer, when `within` is over.
pub(crate) async fn until<T>(
    what: &str,
    within: Duration,
    mut ask: impl AsyncFnMut() -> Result<T, String>,
) -> (T, Duration) {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return (answer, begun.elapsed()),
            Err(why) if begun.elapsed() > within => {
                panic!("waited {within:?} in vain for {what}: {why}")
            }
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Asks again and again until `lasting` is over; panics on the first `Err`.
pub(crate) async fn throughout(
    what: &str,
    lasting: Duration,
    mut ask: impl AsyncFnMut() -> Result<(), String>,
) {
    let begun = Instant::now();
    while begun.elapsed() < lasting {
        if let Err(why) = ask().await {
            panic!("{what} did not hold, after {:?}: {why}", begun.elapsed());
        }
        sleep(Duration::from_millis(200)).await;
    }
}

pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
