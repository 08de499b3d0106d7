//! What Prometheus scrapes at `/metrics`, by etcd's names where the meaning is etcd's.
//!
//! The API counts what passes through it. What happens below it is counted by those who see it,
//! through the public fields; what stands still is looked up when somebody scrapes
//! ([`Metrics::text`]).

mod process;

use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use prometheus::core::Collector;
use prometheus::{
    Error, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder, exponential_buckets,
};

use super::methods::{self, Kind};
use super::shared::{CLUSTER_VERSION, VERSION};
use crate::cluster::MemberId;
use crate::node::mvcc::Change;
use crate::node::replica::Standing;
use crate::node::watch::{Figures, Hub};
use process::Process;

/// gRPC has so many codes, 0 to 16.
const CODES: usize = 17;
/// More versions of clients than this are counted as one: they name them as they like.
const MAX_CLIENT_VERSIONS: usize = 32;

/// The metrics of one member.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Seconds of each fdatasync of the log.
    pub wal_fsync: Histogram,
    /// Seconds of each batch written to the checkpoint.
    pub backend_commit: Histogram,
    /// Leases that ended because nobody renewed them.
    pub lease_expired: IntCounter,
    /// Heartbeats that could not be sent in time.
    pub heartbeat_send_failures: IntCounter,
    /// Reads that waited unusually long for the read index.
    pub slow_read_indexes: IntCounter,
    /// Learners that this leader promoted.
    pub learner_promote_successes: IntCounter,
    /// Watches open.
    pub watchers: IntGauge,
    /// Watches that have not caught up with the store.
    pub slow_watchers: IntGauge,
    /// Watch streams open.
    pub watch_streams: IntGauge,
    /// Events sent.
    pub events: IntCounter,
    puts: IntCounter,
    deletes: IntCounter,
    txns: IntCounter,
    put_bytes: IntCounter,
    pub(super) ranges: IntCounter,
    pub(super) read_indexes_failed: IntCounter,
    pub(super) proposals_failed: IntCounter,
    pub(super) leader_changes: IntCounter,
    pub(super) health_successes: IntCounter,
    pub(super) health_failures: IntCounter,
    healthcheck: GaugeVec,
    healthchecks: IntCounterVec,
    proposals_pending: IntGauge,
    has_leader: IntGauge,
    is_leader: IntGauge,
    is_learner: IntGauge,
    committed: IntGauge,
    applied: IntGauge,
    server_id: IntGaugeVec,
    keys: Gauge,
    revision: Gauge,
    compacted: Gauge,
    disk_size: Gauge,
    size_in_use: Gauge,
    quota: Gauge,
    grpc_started: Vec<IntCounter>,
    grpc_handled: IntCounterVec,
    grpc_handled_by: Vec<[OnceLock<IntCounter>; CODES]>,
    client_requests: IntCounterVec,
    client_requests_by: RwLock<Vec<(Kind, String, IntCounter)>>,
    process: Process,
    hub: OnceLock<Arc<Hub>>,
}

/// What is looked up at a scrape.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    pub(super) member: Option<MemberId>,
    pub(super) standing: Standing,
    pub(super) keys: usize,
    pub(super) revision: i64,
    pub(super) compacted: i64,
    pub(super) disk_size: u64,
    pub(super) size_in_use: u64,
    pub(super) quota: u64,
}

/// One proposal under way, as long as it lives.
#[derive(Debug)]
pub(super) struct Pending(IntGauge);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Makes metrics and registers them.
struct Maker(Registry);

impl Maker {
    fn add<T: Collector + Clone + 'static>(&self, metric: Result<T, Error>) -> Result<T, Error> {
        let metric = metric?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.add(IntCounter::new(name, help))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.add(IntGauge::new(name, help))
    }

    fn figure(&self, name: &str, help: &str) -> Result<Gauge, Error> {
        self.add(Gauge::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// With etcd's buckets: 1 ms and 13 doublings.
    fn seconds(&self, name: &str, help: &str) -> Result<Histogram, Error> {
        let buckets = exponential_buckets(0.001, 2.0, 14)?;
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)))
    }

    /// A gauge that is always 1 and says something by its label.
    fn word(&self, name: &str, help: &str, label: &str) -> Result<IntGaugeVec, Error> {
        self.add(IntGaugeVec::new(Opts::new(name, help), &[label]))
    }
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    ///
    /// Never in a build that works: two metrics of one name, or a bad name.
    pub fn new() -> Result<Metrics, Error> {
        let registry = Registry::new();
        let make = Maker(registry.clone());
        let version = "etcd_server_version";
        let version = make.word(version, "The version, by its label.", "server_version")?;
        version.with_label_values(&[VERSION]).set(1);
        let version = "etcd_cluster_version";
        let version = make.word(version, "The cluster's version.", "cluster_version")?;
        version.with_label_values(&[CLUSTER_VERSION]).set(1);

        let labels = ["grpc_type", "grpc_service", "grpc_method"];
        let started = make.counters("grpc_server_started_total", "Calls begun.", &labels)?;
        let labels = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
        let grpc_handled = make.counters("grpc_server_handled_total", "Calls ended.", &labels)?;
        let begun = |it: &methods::Method| {
            let (service, method) = it.names();
            started.with_label_values(&[it.kind.name(), service, method])
        };
        let labels = ["type", "name", "status"];
        let what = "etcd_server_healthchecks_total";
        let healthchecks = make.counters(what, "Health checks by result.", &labels)?;
        let what = Opts::new("etcd_server_healthcheck", "Whether the check passed last.");
        let healthcheck = make.add(GaugeVec::new(what, &["type", "name"]))?;
        let what = "etcd_server_client_requests_total";
        let labels = ["type", "client_api_version"];
        let client_requests = make.counters(what, "Requests by version of client.", &labels)?;

        #[rustfmt::skip]
        let metrics = Metrics {
            wal_fsync: make.seconds("etcd_disk_wal_fsync_duration_seconds", "Of the log.")?,
            backend_commit: make.seconds("etcd_disk_backend_commit_duration_seconds", "Of a batch to the checkpoint.")?,
            puts: make.counter("etcd_mvcc_put_total", "Puts applied.")?,
            deletes: make.counter("etcd_mvcc_delete_total", "Deletions applied.")?,
            txns: make.counter("etcd_mvcc_txn_total", "Operations of more than one change applied.")?,
            put_bytes: make.counter("etcd_debugging_mvcc_total_put_size_in_bytes", "Keys and values put.")?,
            lease_expired: make.counter("etcd_debugging_server_lease_expired_total", "Leases expired.")?,
            heartbeat_send_failures: make.counter("etcd_server_heartbeat_send_failures_total", "Heartbeats late.")?,
            slow_read_indexes: make.counter("etcd_server_slow_read_indexes_total", "Read indexes that took long.")?,
            learner_promote_successes: make.counter("etcd_server_learner_promote_successes", "Learners promoted.")?,
            watchers: make.gauge("etcd_debugging_mvcc_watcher_total", "Watches open.")?,
            slow_watchers: make.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watches behind the store.")?,
            watch_streams: make.gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams open.")?,
            events: make.counter("etcd_debugging_mvcc_events_total", "Events sent.")?,
            ranges: make.counter("etcd_mvcc_range_total", "Ranges read.")?,
            read_indexes_failed: make.counter("etcd_server_read_indexes_failed_total", "Read indexes not had.")?,
            proposals_failed: make.counter("etcd_server_proposals_failed_total", "Proposals not agreed on.")?,
            leader_changes: make.counter("etcd_server_leader_changes_seen_total", "Leaders that came.")?,
            health_successes: make.counter("etcd_server_health_success", "/health was true.")?,
            health_failures: make.counter("etcd_server_health_failures", "/health was false.")?,
            healthcheck,
            healthchecks,
            proposals_pending: make.gauge("etcd_server_proposals_pending", "Proposals under way.")?,
            has_leader: make.gauge("etcd_server_has_leader", "Whether a leader is known.")?,
            is_leader: make.gauge("etcd_server_is_leader", "Whether it is this member.")?,
            is_learner: make.gauge("etcd_server_is_learner", "Whether this member is a learner.")?,
            committed: make.gauge("etcd_server_proposals_committed_total", "The committed index.")?,
            applied: make.gauge("etcd_server_proposals_applied_total", "The applied index.")?,
            server_id: make.word("etcd_server_id", "The member's ID.", "server_id")?,
            keys: make.figure("etcd_debugging_mvcc_keys_total", "Keys in the store.")?,
            revision: make.figure("etcd_debugging_mvcc_current_revision", "The store's revision.")?,
            compacted: make.figure("etcd_debugging_mvcc_compact_revision", "The compacted revision.")?,
            disk_size: make.figure("etcd_mvcc_db_total_size_in_bytes", "The data on disk.")?,
            size_in_use: make.figure("etcd_mvcc_db_total_size_in_use_in_bytes", "Keys and history.")?,
            quota: make.figure("etcd_server_quota_backend_bytes", "The quota.")?,
            grpc_started: methods::ALL.iter().map(begun).collect(),
            grpc_handled,
            grpc_handled_by: methods::ALL.iter().map(|_| Default::default()).collect(),
            client_requests,
            client_requests_by: RwLock::default(),
            process: Process::new(&registry)?,
            hub: OnceLock::new(),
            registry,
        };
        Ok(metrics)
    }

    /// Counts what an operation changed; for whoever applies it.
    pub fn changed(&self, changes: &[Change]) {
        for Change { record, .. } in changes {
            if record.tombstone {
                self.deletes.inc();
            } else {
                self.puts.inc();
                self.put_bytes.inc_by((record.kv.key.len() + record.kv.value.len()) as u64);
            }
        }
        if changes.len() > 1 {
            self.txns.inc();
        }
    }

    /// Whoever scrapes is told what this hub has; the first that is given stays.
    pub(super) fn look_at(&self, hub: Arc<Hub>) {
        self.hub.get_or_init(|| hub);
    }

    /// A call begins; by its place in the list of methods.
    pub(super) fn grpc_began(&self, method: usize) {
        if let Some(counter) = self.grpc_started.get(method) {
            counter.inc();
        }
    }

    /// A call ended with this code.
    pub(super) fn grpc_handled(&self, method: usize, code: tonic::Code) {
        let by = self.grpc_handled_by.get(method);
        let Some(counter) = by.and_then(|it| it.get(usize::try_from(i32::from(code)).ok()?)) else {
            return;
        };
        let name = format_code;
        let made = || {
            let method = &methods::ALL[method];
            let (service, call) = method.names();
            let labels = [method.kind.name(), service, call, &name(code)];
            self.grpc_handled.with_label_values(&labels)
        };
        counter.get_or_init(made).inc();
    }

    /// A request came, by a client of this version.
    pub(super) fn client_request(&self, kind: Kind, version: &str) {
        let kind = if kind == Kind::Unary { Kind::Unary } else { Kind::BidiStream };
        for version in [version, "other"] {
            let known = self.client_requests_by.read();
            if let Some((.., counter)) = known.iter().find(|it| it.0 == kind && it.1 == version) {
                counter.inc();
                return;
            }
            if known.len() < MAX_CLIENT_VERSIONS && version.len() <= 32 || version == "other" {
                drop(known);
                let labels = [if kind == Kind::Unary { "unary" } else { "stream" }, version];
                let counter = self.client_requests.with_label_values(&labels);
                counter.inc();
                self.client_requests_by.write().push((kind, version.to_owned(), counter));
                return;
            }
        }
    }

    /// A proposal is under way while what this returns lives.
    pub(super) fn pending(&self) -> Pending {
        self.proposals_pending.inc();
        Pending(self.proposals_pending.clone())
    }

    /// A check of `/livez` or `/readyz` was made.
    pub(super) fn checked(&self, kind: &str, name: &str, is_ok: bool) {
        self.healthcheck.with_label_values(&[kind, name]).set(f64::from(u8::from(is_ok)));
        let status = if is_ok { "success" } else { "error" };
        self.healthchecks.with_label_values(&[kind, name, status]).inc();
    }

    /// Everything, in Prometheus' text form.
    ///
    /// # Errors
    ///
    /// If two metrics contradict each other.
    pub(super) fn text(&self, look: &Look) -> Result<String, Error> {
        self.has_leader.set(look.standing.leader.is_some().into());
        let is_leader = look.member.is_some() && look.standing.leader == look.member;
        self.is_leader.set(is_leader.into());
        self.is_learner.set(look.standing.is_learner.into());
        self.committed.set(i64::try_from(look.standing.committed).unwrap_or(i64::MAX));
        self.applied.set(i64::try_from(look.standing.applied).unwrap_or(i64::MAX));
        if let Some(member) = look.member {
            self.server_id.with_label_values(&[&member.to_string()]).set(1);
        }
        self.keys.set(figure(u64::try_from(look.keys).unwrap_or(u64::MAX)));
        self.revision.set(figure(u64::try_from(look.revision).unwrap_or(0)));
        self.compacted.set(figure(u64::try_from(look.compacted).unwrap_or(0)));
        self.disk_size.set(figure(look.disk_size));
        self.size_in_use.set(figure(look.size_in_use));
        self.quota.set(figure(look.quota));
        if let Some(hub) = self.hub.get() {
            let Figures { streams, watches, lagging } = hub.figures();
            self.watch_streams.set(streams);
            self.watchers.set(watches);
            self.slow_watchers.set(lagging);
        }
        self.process.look();
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Prometheus counts in floating point.
#[expect(clippy::cast_precision_loss, reason = "exact up to 9 PB, which is more than is served")]
fn figure(number: u64) -> f64 {
    number as f64
}

/// The code as Go's gRPC spells it.
fn format_code(code: tonic::Code) -> String {
    match code {
        tonic::Code::Ok => "OK".to_owned(),
        tonic::Code::Cancelled => "Canceled".to_owned(),
        code => format!("{code:?}"),
    }
}
