//! The means of measuring: first answers, figures out of reports, medians.

use std::future::Future;
use std::time::{Duration, Instant};

use quorate::proto::etcdserverpb::kv_client::KvClient;
use quorate::proto::etcdserverpb::{PutRequest, RangeRequest};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::support::wait::now;
use crate::support::wire::{block_on, channel};

/// One figure of a report of `quorate bench`.
pub(crate) fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {report:#}"))
}

#[allow(clippy::cast_precision_loss, reason = "what is counted here is small")]
pub(crate) fn as_f64(number: u64) -> f64 {
    number as f64
}

pub(crate) async fn write(endpoint: String) -> bool {
    let put = PutRequest { key: "after".into(), value: "all".into(), ..Default::default() };
    KvClient::new(channel(&endpoint)).put(put).await.is_ok()
}

/// A linearizable read.
pub(crate) async fn read(endpoint: String) -> bool {
    let range = RangeRequest { key: "after".into(), ..Default::default() };
    KvClient::new(channel(&endpoint)).range(range).await.is_ok()
}

/// Asks all endpoints afresh every few milliseconds, whatever became of the earlier attempts, and
/// says when the first one succeeded. An attempt that was made while there was no leader may be
/// lost, and an old one must not hide that a new one would have been answered.
pub(crate) fn first_answer<F>(
    endpoints: &[String],
    within: Duration,
    ask: impl Fn(String) -> F,
) -> Instant
where
    F: Future<Output = bool> + Send + 'static,
{
    const EVERY: Duration = Duration::from_millis(10);
    const LIMIT: Duration = Duration::from_secs(10);
    block_on(async {
        let (answered, mut answers) = mpsc::unbounded_channel();
        let begun = now();
        let mut tick = tokio::time::interval(EVERY);
        let mut attempts = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                Some(at) = answers.recv() => return at,
                _ = tick.tick() => {}
            }
            assert!(begun.elapsed() < within, "nobody answers: {endpoints:?}");
            while attempts.try_join_next().is_some() {}
            for endpoint in endpoints {
                let (answered, attempt) = (answered.clone(), ask(endpoint.clone()));
                attempts.spawn(async move {
                    if tokio::time::timeout(LIMIT, attempt).await == Ok(true) {
                        let _ = answered.send(now());
                    }
                });
            }
        }
    })
}

/// The middle one; none of none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some(f64::midpoint(sorted[low], sorted[high]))
}

/// Three figures are as many as mean something.
pub(crate) fn short(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}
