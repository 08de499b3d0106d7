//! What Prometheus scrapes of the operator.

use std::time::Duration;

use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::controller::TurnError;
use crate::execute::pods::Pods;
use crate::execute::{Outcome, Turn, word};
use crate::plan::Step;

/// The operator's metrics.
pub(super) struct Metrics {
    registry: Registry,
    /// 1 while this operator holds the Lease.
    pub(super) leads: IntGauge,
    turns: HistogramVec,
    errors: IntCounterVec,
    steps: IntCounterVec,
    refusals: IntCounterVec,
    members: IntGaugeVec,
    operation_since: IntGaugeVec,
    writes: IntGaugeVec,
}

const HEALTHS: [&str; 7] =
    ["Healthy", "NoLeader", "Silent", "Starting", "Stopped", "DataGone", "Unknown"];

impl Metrics {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            IntGaugeVec::new(Opts::new(name, help), labels)
        };
        let metrics = Metrics {
            leads: IntGauge::new("quorate_operator_leads", "1 while this operator acts")?,
            turns: HistogramVec::new(
                HistogramOpts::new("quorate_turn_seconds", "How long turns took"),
                &["cluster"],
            )?,
            errors: counter("quorate_turn_errors_total", "Turns that failed", &["cluster"])?,
            steps: counter("quorate_steps_total", "Steps carried out", &["cluster", "step"])?,
            refusals: counter(
                "quorate_step_refusals_total",
                "Steps that the cluster or a fence refused",
                &["cluster", "step"],
            )?,
            members: gauge("quorate_members", "Members by their health", &["cluster", "health"])?,
            operation_since: gauge(
                "quorate_operation_start_seconds",
                "Since when the present operation is under way, in Unix time; 0 for none",
                &["cluster"],
            )?,
            writes: gauge(
                "quorate_api_writes",
                "Writes to the API server for this cluster since the operator took it up",
                &["cluster"],
            )?,
            registry,
        };
        let all: [Box<dyn prometheus::core::Collector>; 8] = [
            Box::new(metrics.leads.clone()),
            Box::new(metrics.turns.clone()),
            Box::new(metrics.errors.clone()),
            Box::new(metrics.steps.clone()),
            Box::new(metrics.refusals.clone()),
            Box::new(metrics.members.clone()),
            Box::new(metrics.operation_since.clone()),
            Box::new(metrics.writes.clone()),
        ];
        for one in all {
            metrics.registry.register(one)?;
        }
        Ok(metrics)
    }

    /// Counts a turn.
    pub(super) fn turn(
        &self,
        cluster: &str,
        took: Duration,
        result: &Result<Option<Turn>, TurnError>,
    ) {
        self.turns.with_label_values(&[cluster]).observe(took.as_secs_f64());
        match result {
            Err(_) => self.errors.with_label_values(&[cluster]).inc(),
            Ok(Some(turn)) => {
                let is_passive =
                    matches!(turn.step, Step::Wait { .. } | Step::Blocked { .. } | Step::Done);
                if !is_passive {
                    let counter = match turn.outcome {
                        Outcome::Done => &self.steps,
                        Outcome::NotNow(_) => &self.refusals,
                    };
                    counter.with_label_values(&[cluster, word(&turn.step)]).inc();
                }
            }
            Ok(None) => {}
        }
    }

    /// Shows how a cluster is.
    pub(super) fn show(&self, cluster: &str, pods: &Pods) {
        let status = pods.object().status.clone().unwrap_or_default();
        for health in HEALTHS {
            let count = status.members.iter().filter(|m| m.health == health).count();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.members.with_label_values(&[cluster, health]).set(count);
        }
        let since = status.operation.map_or(0, |o| o.since.0.as_second());
        self.operation_since.with_label_values(&[cluster]).set(since);
        let writes = i64::try_from(pods.writes()).unwrap_or(i64::MAX);
        self.writes.with_label_values(&[cluster]).set(writes);
    }

    /// Drops what was shown of a cluster that is gone.
    pub(super) fn forget(&self, cluster: &str) {
        // What was never shown is not there to be dropped.
        let _ = self.operation_since.remove_label_values(&[cluster]);
        let _ = self.writes.remove_label_values(&[cluster]);
        for health in HEALTHS {
            let _ = self.members.remove_label_values(&[cluster, health]);
        }
    }

    /// All of it, as Prometheus reads it.
    pub(super) fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}
