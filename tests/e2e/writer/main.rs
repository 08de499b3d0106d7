//! A client inside the cluster's network: it writes all the time, remembers what it was promised,
//! and can say of each member whether it kept every promise. It speaks etcd's API through the
//! generated code alone, so that nothing here passes through the product's own client.
//!
//! `quorate-e2e-writer SERVICE PORT` finds the members by the addresses of a headless Service, and
//! prints `acked NUMBER MILLISECONDS` or `failed NUMBER WHY` for each key. Over HTTP on port 8000:
//! `/report` what happened since the last `/mark`, `/verify/3` what each of three members holds (no
//! key is written meanwhile), `/pause`, `/resume`, `/remove/ID` takes a member off the list, as a
//! person would by hand, and `/put/BYTES` and `/txn/OPERATIONS` try one request of that size.
//!
//! `quorate-e2e-writer faults ADDRESS` is something else: a bad way to the API server.

mod endpoints;
mod faults;
mod members;
mod verify;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::routing::get;
use quorate::proto::etcdserverpb::kv_client::KvClient;
use quorate::proto::etcdserverpb::request_op::Request;
use quorate::proto::etcdserverpb::{PutRequest, RangeRequest, RequestOp, TxnRequest};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

use endpoints::Endpoints;
use members::Members;

/// Between two writes: 50 a second.
const BEAT: Duration = Duration::from_millis(20);
/// After this long without an acknowledgement a write has failed.
const GIVE_UP: Duration = Duration::from_secs(5);
/// How long one endpoint may take: a frozen one never answers.
const ATTEMPT: Duration = Duration::from_secs(1);
/// Between two attempts at one write.
const PAUSE: Duration = Duration::from_millis(20);
/// Keys begin with this.
const PREFIX: &str = "e2e/";

fn key(number: usize) -> String {
    format!("{PREFIX}{number:08}")
}

fn value(number: usize) -> String {
    format!("value of {number}")
}

/// What happened since the last mark.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    acked: usize,
    /// One line for each write that nobody acknowledged in time, with the last error.
    failed: Vec<String>,
    slowest_ms: u128,
    /// The longest time in which nothing was acknowledged.
    longest_gap_ms: u128,
}

struct Writer {
    endpoints: Endpoints,
    members: Members,
    is_paused: AtomicBool,
    under_way: AtomicUsize,
    acked: Mutex<BTreeSet<usize>>,
    span: Mutex<(Span, Instant)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [mode, address] if mode == "faults" => faults::serve(address).await,
        [service, port] if port.parse::<u16>().is_ok() => {
            write_to(service, port.parse().unwrap_or_default()).await
        }
        _ => {
            eprintln!("usage: quorate-e2e-writer SERVICE PORT | quorate-e2e-writer faults ADDRESS");
            ExitCode::from(2)
        }
    }
}

async fn write_to(service: &str, port: u16) -> ExitCode {
    let writer = Arc::new(Writer {
        endpoints: Endpoints::new(service.to_owned(), port),
        members: Members::default(),
        is_paused: AtomicBool::new(false),
        under_way: AtomicUsize::new(0),
        acked: Mutex::default(),
        span: Mutex::new((Span::default(), Instant::now())),
    });
    tokio::spawn(Arc::clone(&writer).look());
    tokio::spawn(Arc::clone(&writer).write());
    let router = axum::Router::new()
        .route("/report", get(report))
        .route("/mark", get(mark))
        .route("/pause", get(pause))
        .route("/resume", get(resume))
        .route("/verify/{members}", get(verify))
        .route("/remove/{id}", get(remove))
        .route("/put/{bytes}", get(put_large))
        .route("/txn/{operations}", get(txn_long))
        .with_state(writer);
    let served = match tokio::net::TcpListener::bind("0.0.0.0:8000").await {
        Ok(listener) => axum::serve(listener, router).await,
        Err(error) => Err(error),
    };
    eprintln!("cannot serve: {served:?}");
    ExitCode::FAILURE
}

impl Writer {
    /// Follows the Service's addresses and the member list.
    async fn look(self: Arc<Self>) {
        let mut beats = interval(Duration::from_millis(200));
        loop {
            beats.tick().await;
            self.endpoints.refresh().await;
            self.members.look(&self.endpoints).await;
        }
    }

    /// Begins a write at each beat, whatever became of the ones before.
    async fn write(self: Arc<Self>) {
        while self.endpoints.all().is_empty() {
            sleep(PAUSE).await;
        }
        let mut beats = interval(BEAT);
        // No burst of writes after a pause.
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0.. {
            beats.tick().await;
            while self.is_paused.load(Ordering::SeqCst) {
                sleep(PAUSE).await;
                lock(&self.span).1 = Instant::now();
            }
            self.under_way.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(Arc::clone(&self).write_one(number));
        }
    }

    async fn write_one(self: Arc<Self>, number: usize) {
        let begun = Instant::now();
        let result = self.put(number, begun).await;
        let took = begun.elapsed().as_millis();
        {
            let mut span = lock(&self.span);
            match result {
                Ok(()) => {
                    lock(&self.acked).insert(number);
                    let gap = span.1.elapsed().as_millis();
                    span.1 = Instant::now();
                    span.0.acked += 1;
                    span.0.slowest_ms = span.0.slowest_ms.max(took);
                    span.0.longest_gap_ms = span.0.longest_gap_ms.max(gap);
                    println!("acked {number} {took}");
                }
                Err(why) => {
                    println!("failed {number} {why}");
                    span.0.failed.push(format!("{}: {why}", key(number)));
                }
            }
        }
        self.under_way.fetch_sub(1, Ordering::SeqCst);
    }

    /// The same key again and again, at one endpoint after another: etcd's clients do not repeat a
    /// write that may have been sent, so their callers do.
    async fn put(&self, number: usize, begun: Instant) -> Result<(), String> {
        let request = PutRequest {
            key: key(number).into(),
            value: value(number).into(),
            ..PutRequest::default()
        };
        let mut turn = number;
        loop {
            let all = self.endpoints.all();
            let why = match all.get(turn % all.len().max(1)) {
                None => "no address".to_owned(),
                Some((address, channel)) => {
                    let mut client = KvClient::new(channel.clone());
                    match timeout(ATTEMPT, client.put(request.clone())).await {
                        Ok(Ok(_)) => return Ok(()),
                        Ok(Err(status)) => {
                            format!("{address}: {:?} {}", status.code(), status.message())
                        }
                        Err(_) => format!("{address}: no answer in {ATTEMPT:?}"),
                    }
                }
            };
            if begun.elapsed() >= GIVE_UP {
                return Err(why);
            }
            turn += 1;
            sleep(PAUSE).await;
        }
    }

    /// Asks one member once; what it refuses with is the answer.
    async fn once(
        &self,
        ask: impl AsyncFnOnce(KvClient<Channel>) -> Result<(), Status>,
    ) -> Result<(), String> {
        let all = self.endpoints.all();
        let (_, channel) = all.first().ok_or("no address")?;
        let answer = timeout(GIVE_UP, ask(KvClient::new(channel.clone()))).await;
        answer.map_err(|_| "no answer")?.map_err(|status| status.message().to_owned())
    }

    /// Returns once nothing is written any more.
    async fn rest(&self) {
        self.is_paused.store(true, Ordering::SeqCst);
        // One more beat may have passed the gate.
        sleep(BEAT * 3).await;
        while self.under_way.load(Ordering::SeqCst) > 0 {
            sleep(PAUSE).await;
        }
    }
}

fn text(answer: &impl Serialize) -> String {
    serde_json::to_string(answer).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(flatten)]
    span: Span,
    total: usize,
    clusters: BTreeSet<String>,
    lists: Vec<String>,
    faults: Vec<String>,
}

async fn report(State(writer): State<Arc<Writer>>) -> String {
    let span = lock(&writer.span).0.clone();
    let (clusters, lists, faults) = writer.members.told();
    let total = lock(&writer.acked).len();
    text(&Report { span, total, clusters, lists, faults })
}

async fn mark(State(writer): State<Arc<Writer>>) -> String {
    *lock(&writer.span) = (Span::default(), Instant::now());
    text(&"marked")
}

async fn pause(State(writer): State<Arc<Writer>>) -> String {
    writer.rest().await;
    text(&"paused")
}

async fn resume(State(writer): State<Arc<Writer>>) -> String {
    writer.is_paused.store(false, Ordering::SeqCst);
    text(&"resumed")
}

async fn remove(State(writer): State<Arc<Writer>>, Path(id): Path<String>) -> String {
    let removed = match u64::from_str_radix(&id, 16) {
        Ok(id) => members::remove(&writer.endpoints, id).await,
        Err(error) => Err(error.to_string()),
    };
    text(&removed)
}

async fn put_large(State(writer): State<Arc<Writer>>, Path(bytes): Path<usize>) -> String {
    let put = PutRequest { key: "large".into(), value: vec![0; bytes].into(), ..<_>::default() };
    text(&writer.once(async |mut kv| kv.put(put).await.map(drop)).await)
}

async fn txn_long(State(writer): State<Arc<Writer>>, Path(operations): Path<usize>) -> String {
    let range = RangeRequest { key: "large".into(), ..RangeRequest::default() };
    let one = RequestOp { request: Some(Request::RequestRange(range)) };
    let txn = TxnRequest { success: vec![one; operations], ..TxnRequest::default() };
    text(&writer.once(async |mut kv| kv.txn(txn).await.map(drop)).await)
}

async fn verify(State(writer): State<Arc<Writer>>, Path(members): Path<usize>) -> String {
    let was_paused = writer.is_paused.load(Ordering::SeqCst);
    writer.rest().await;
    let promised = lock(&writer.acked).clone();
    let verified = verify::verify(&writer.endpoints, &promised, members).await;
    writer.is_paused.store(was_paused, Ordering::SeqCst);
    text(&verified)
}
