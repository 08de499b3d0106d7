//! What all services share: the replica, the limits, headers, and the way of a request through
//! checks, time limits and the slow-request warning.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};

use super::metrics::Metrics;
use super::options::Options;
use crate::clock::Clock;
use crate::node::apply::{self, Operation};
use crate::node::fault::Fault;
use crate::node::replica::{Replica, Standing};
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmType, RangeRequest, RangeResponse, ResponseHeader,
};

/// etcd's version, whose level of the API this is. kube-apiserver and others choose by it.
pub const VERSION: &str = crate::cluster::spec::EMBEDDED_VERSION;
/// The version that all members have in common.
pub const CLUSTER_VERSION: &str = "3.7.0";
/// The version of the store's layout.
pub const STORAGE_VERSION: &str = "3.7.0";

/// More entries than this committed and not applied, and no more are taken (etcd's
/// `maxGapBetweenApplyAndCommitIndex`).
const MAX_BACKLOG: u64 = 5000;
/// Bytes of operations that may wait for agreement at a time. More would only wait longer, and
/// hold memory meanwhile.
const MAX_WAITING: usize = 256 << 20;
/// A stream that requires a leader ends after so many election timeouts without one (etcd's
/// `maxNoLeaderCnt`).
const LEADERLESS_ELECTIONS: u32 = 3;

/// The services' common ground.
#[derive(Debug)]
pub struct Api<R> {
    replica: Arc<R>,
    options: Options,
    metrics: Arc<Metrics>,
    stopping: watch::Sender<bool>,
    /// Somebody is raising the alarm about space already.
    raising: AtomicBool,
    /// Bytes of operations that wait for agreement.
    waiting: AtomicUsize,
}

/// An operation's part of [`Api::waiting`], as long as it lives.
struct Waiting<'a> {
    all: &'a AtomicUsize,
    own: usize,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

/// One request's name, key and limit of time.
#[derive(Debug)]
pub(super) struct Call {
    name: &'static str,
    key: Bytes,
    limit: Option<Duration>,
}

impl<R: Replica> Api<R> {
    /// Over this replica. Metrics are shared with the layers below, which count there too.
    pub fn new(replica: Arc<R>, options: Options, metrics: Arc<Metrics>) -> Arc<Api<R>> {
        let (stopping, _) = watch::channel(false);
        let (raising, waiting) = (AtomicBool::new(false), AtomicUsize::new(0));
        Arc::new(Api { replica, options, metrics, stopping, raising, waiting })
    }

    /// The replica.
    pub fn replica(&self) -> &Arc<R> {
        &self.replica
    }

    /// The limits.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The metrics.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The header of an answer of this revision.
    pub fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.replica.cluster().0,
            member_id: self.replica.member().0,
            revision,
            raft_term: self.replica.standing().term,
        }
    }

    /// The header of an answer at the revision that the store has now.
    pub fn current_header(&self) -> ResponseHeader {
        self.header(self.replica.read(apply::State::revision))
    }

    /// Fills in what the replicated state does not know of itself. A revision that is there stays.
    pub(super) fn fill(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |it| it.revision);
        *header = Some(if revision == 0 { self.current_header() } else { self.header(revision) });
    }

    /// Ends the streams that never end by themselves, and has health checks say so.
    pub(super) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether the server is stopping.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Returns once the server is stopping: long streams then end with [`Fault::Stopped`].
    pub async fn stopped(&self) {
        // The sender is in `self`, so it cannot be gone.
        let _ = self.stopping.subscribe().wait_for(|is| *is).await;
    }

    /// Returns once no leader has been known for three election timeouts: streams whose client
    /// requires a leader ([`requires_leader`]) then end with [`Fault::NoLeader`].
    pub async fn leaderless(&self) {
        let mut changes = self.replica.standing_changes();
        let wait = self.options.election * LEADERLESS_ELECTIONS;
        loop {
            if changes.wait_for(|it| it.leader.is_none()).await.is_err() {
                return; // the replica is gone
            }
            let back = changes.wait_for(|it| it.leader.is_some());
            if !matches!(tokio::time::timeout(wait, back).await, Ok(Ok(_))) {
                return;
            }
        }
    }

    /// A request by that name, on that key or none, within the limits of time of the server and
    /// of the client.
    pub(super) fn begin(&self, name: &'static str, key: &Bytes, metadata: &MetadataMap) -> Call {
        self.begun(name, key, metadata.as_ref())
    }

    /// As [`Api::begin`], where the headers are at hand.
    pub(super) fn begun(&self, name: &'static str, key: &Bytes, headers: &HeaderMap) -> Call {
        let client = headers.get("grpc-timeout").and_then(|it| grpc_timeout(it.to_str().ok()?));
        let most = self.options.request_timeout();
        let limit = Some(client.map_or(most, |it| it.min(most)));
        Call { name, key: key.clone(), limit }
    }

    /// Does a request: stops it at its limit, and warns of a slow one.
    pub(super) async fn run<T>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Response<T>, Status> {
        let begun = Clock.monotonic();
        let result = match call.limit {
            Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or(Err(Fault::Timeout)),
            None => work.await,
        };
        let took = Clock.monotonic().since(begun);
        if took > self.options.slow {
            warn_of_slow(&call, took, result.as_ref().err());
        }
        result.map(Response::new).map_err(Status::from)
    }

    /// Reads a range, from what a quorum has or from what is here.
    ///
    /// # Errors
    ///
    /// The fault of the request, or why nothing can be read now.
    pub async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Fault> {
        apply::check::check_range(request)?;
        self.may_read(request.serializable)?;
        if !request.serializable {
            self.barrier().await?;
        }
        self.metrics.ranges.inc();
        let mut response = self.replica.read(|state| state.range(request))?;
        self.fill(&mut response.header);
        Ok(response)
    }

    /// A learner reads only what is here.
    pub(super) fn may_read(&self, serializable: bool) -> Result<(), Fault> {
        if serializable || !self.replica.standing().is_learner {
            return Ok(());
        }
        Err(Fault::NotSupportedForLearner)
    }

    /// As [`Replica::read_barrier`], counted.
    pub(super) async fn barrier(&self) -> Result<(), Fault> {
        self.replica.read_barrier().await.inspect_err(|_| self.metrics.read_indexes_failed.inc())
    }

    /// Has the cluster agree on an operation: within the size, and unless too much is under way.
    /// Raises the alarm if there is no space for it.
    pub(super) async fn propose(
        self: &Arc<Self>,
        operation: Operation,
    ) -> Result<apply::Response, Fault> {
        let standing = self.replica.standing();
        if standing.committed > standing.applied.saturating_add(MAX_BACKLOG) {
            return Err(Fault::TooManyRequests);
        }
        let own = size(&operation);
        if own > self.options.max_request_bytes {
            return Err(Fault::RequestTooLarge);
        }
        let before = self.waiting.fetch_add(own, Ordering::Relaxed);
        let waiting = Waiting { all: &self.waiting, own };
        if before.saturating_add(own) > MAX_WAITING {
            return Err(Fault::TooManyRequests);
        }
        let pending = self.metrics.pending();
        let result = self.replica.propose(operation).await;
        drop((pending, waiting));
        match result {
            Err(Fault::NoSpace) => self.raise_no_space().await,
            Err(fault) if is_of_the_way(fault) => self.metrics.proposals_failed.inc(),
            _ => {}
        }
        result
    }

    /// Has every member refuse what needs space until someone makes some. In a task of its own:
    /// the client may go away before it is done.
    async fn raise_no_space(self: &Arc<Self>) {
        let is_on = |state: &apply::State| !state.alarms(AlarmType::Nospace).is_empty();
        if self.replica.read(is_on) || self.raising.swap(true, Ordering::Relaxed) {
            return;
        }
        let api = Arc::clone(self);
        let task = tokio::spawn(async move {
            let member_id = api.replica.member().0;
            let (action, alarm) = (AlarmAction::Activate.into(), AlarmType::Nospace.into());
            let alarm = Operation::Alarm(AlarmRequest { action, member_id, alarm });
            match api.replica.propose(alarm).await {
                Ok(_) => tracing::warn!(
                    "the store has reached its quota: writes are refused until keys are deleted, \
                     history is compacted and the alarm is disarmed"
                ),
                // The next write that finds no space tries again.
                Err(fault) => tracing::warn!(%fault, "the alarm about space could not be raised"),
            }
            api.raising.store(false, Ordering::Relaxed);
        });
        // It does not panic, and if it did the request would have its answer all the same.
        let _ = task.await;
    }

    /// How the replica stands.
    pub(super) fn standing(&self) -> Standing {
        self.replica.standing()
    }
}

impl Call {
    /// Takes as long as it takes, whatever the limits.
    pub(super) fn unlimited(self) -> Call {
        Call { limit: None, ..self }
    }
}

/// True if the client wants an answer only while there is a leader (etcd's
/// `rpctypes.MetadataRequireLeaderKey`).
pub fn requires_leader(metadata: &MetadataMap) -> bool {
    metadata.get("hasleader").is_some_and(|it| it.as_encoded_bytes() == b"true")
}

/// Whether a fault says that agreement was not reached, rather than what was agreed on.
fn is_of_the_way(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::NoLeader
            | Fault::LeaderChanged
            | Fault::Stopped
            | Fault::Timeout
            | Fault::TimeoutLeaderFail
            | Fault::TimeoutConnectionLost
    )
}

fn warn_of_slow(call: &Call, took: Duration, fault: Option<&Fault>) {
    // As much of the key as tells which it is.
    let key = call.key[..call.key.len().min(128)].escape_ascii();
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let fault = fault.map(tracing::field::display);
    tracing::warn!(call = call.name, %key, took_ms, fault, "slow request");
}

/// The bytes of a request as it is proposed.
fn size(operation: &Operation) -> usize {
    match operation {
        Operation::Put(it) => it.encoded_len(),
        Operation::DeleteRange(it) => it.encoded_len(),
        Operation::Txn(it) => it.encoded_len(),
        Operation::Compact(it) => it.encoded_len(),
        Operation::LeaseGrant(it) => it.encoded_len(),
        Operation::LeaseRevoke(it) => it.encoded_len(),
        Operation::Alarm(it) => it.encoded_len(),
        Operation::Publish(it) => it.encoded_len(),
    }
}

/// The client's own limit: up to eight digits and a unit (gRPC over HTTP/2, "Timeout").
fn grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse::<u64>().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_limit_of_time_is_read_in_each_unit_and_nothing_else_is() {
        for (text, wanted) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("5m", Some(Duration::from_millis(5))),
            ("7000u", Some(Duration::from_millis(7))),
            ("1n", Some(Duration::from_nanos(1))),
            ("", None),
            ("S", None),
            ("-1S", None),
            ("1s", None),
            ("123456789S", None),
            ("1\u{b5}", None),
        ] {
            assert_eq!(grpc_timeout(text), wanted, "{text}");
        }
    }
}
