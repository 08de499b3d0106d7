//! The peer port: one listener that speaks HTTP/1, and frames where that was asked for and granted.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::answer::{self, Wire};
use super::greeting::{self, Hello, Refusal, RefusalKind};
use super::hearing::Hearing;
use super::pages::Page;
use super::{Door, Lane, Limits};
use crate::clock::Clock;
use crate::cluster::MemberId;
use crate::node::ground::net::{Listener, Stream};

/// The longest header section that is read.
const HEADERS: usize = 16 << 10;
/// After the listener failed, most likely for lack of descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// Connections that one member may have on one lane: a new one while the loss of the old one has
/// not been noticed here yet. Beyond it the oldest ends.
const SAME: usize = 4;

/// What a peer port is served with.
#[derive(Debug)]
pub struct Server<D> {
    /// What stands behind it.
    pub door: Arc<D>,
    /// What is kept to.
    pub limits: Limits,
    /// Where it is written down who was heard: [`super::Peers::hearing`].
    pub hearing: Arc<Hearing>,
    /// What silence is measured with.
    pub clock: Clock,
}

/// Who is connected: those that were not greeted yet, and those that were.
#[derive(Default)]
struct Guests {
    last: u64,
    half_open: BTreeMap<u64, AbortHandle>,
    greeted: BTreeMap<(MemberId, Lane), VecDeque<(u64, AbortHandle)>>,
}

/// What the tasks of all connections share.
struct Shared<D> {
    server: Server<D>,
    guests: Mutex<Guests>,
    stopping: watch::Receiver<bool>,
}

type Answer = Response<Full<Bytes>>;

/// Serves a peer port until `shutdown` comes; then takes nothing new, lets calls that are under
/// way end within [`Limits::drain`], and returns. Dropped before, everything ends at once.
pub async fn serve<D: Door>(
    listener: Listener,
    server: Server<D>,
    shutdown: impl Future<Output = ()>,
) {
    let (stop, stopping) = watch::channel(false);
    let drain = server.limits.drain;
    let shared = Arc::new(Shared { server, guests: Mutex::default(), stopping });
    // Aborted when dropped.
    let mut tasks = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => shared.admit(stream, &mut tasks),
                Err(error) => {
                    tracing::warn!(%error, "the peer port cannot accept a connection");
                    shared.guests.lock().evict(0);
                    tokio::time::sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    shared.guests.lock().evict(0);
    stop.send_replace(true);
    let all_ended = async {
        while let Some(ended) = tasks.join_next().await {
            report(ended);
        }
    };
    // What has not ended by then is dropped with its tasks.
    let _ = tokio::time::timeout(drain, all_ended).await;
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection of the peer port failed");
    }
}

impl Guests {
    /// Ends the longest waiting until no more than `most` are left: one who means it is greeted
    /// long before its turn comes.
    fn evict(&mut self, most: usize) {
        while self.half_open.len() > most
            && let Some((_, oldest)) = self.half_open.pop_first()
        {
            oldest.abort();
        }
    }

    /// Moves one among the greeted; false if there are too many.
    fn greet(&mut self, number: u64, hello: &Hello, most: usize) -> bool {
        if self.greeted.values().map(VecDeque::len).sum::<usize>() >= most {
            return false;
        }
        // Not there: evicted, and about to end.
        let Some(task) = self.half_open.remove(&number) else { return false };
        let same = self.greeted.entry((hello.from.member, hello.lane)).or_default();
        same.push_back((number, task));
        if same.len() > SAME
            && let Some((_, oldest)) = same.pop_front()
        {
            oldest.abort();
        }
        true
    }

    fn left(&mut self, number: u64) {
        self.half_open.remove(&number);
        self.greeted.retain(|_, same| {
            same.retain(|(it, _)| *it != number);
            !same.is_empty()
        });
    }
}

impl<D: Door> Shared<D> {
    fn admit(self: &Arc<Self>, stream: Stream, tasks: &mut JoinSet<()>) {
        let mut guests = self.guests.lock();
        guests.last += 1;
        let number = guests.last;
        let guest = Guest { shared: Arc::clone(self), number };
        // The lock is held: it is among the guests before it can leave them.
        let task = tasks.spawn(guest.entertain(stream));
        guests.half_open.insert(number, task);
        guests.evict(self.server.limits.half_open);
    }

    /// The answer to a request, and the greeting if it was granted.
    fn respond(&self, number: u64, request: &Request<Incoming>) -> (Answer, Option<Hello>) {
        let (door, path) = (&self.server.door, request.uri().path());
        let own = door.identity();
        if path == greeting::PATH {
            let greeted = Hello::read(request.method(), request.headers()).and_then(|hello| {
                hello.check(&own)?;
                door.greet(&hello)?;
                let is_in = self.guests.lock().greet(number, &hello, self.server.limits.greeted);
                let full = || Refusal::new(RefusalKind::NotReady, "too many connections");
                if is_in { Ok(hello) } else { Err(full()) }
            });
            let (page, hello) = match greeted {
                Ok(hello) => {
                    let (status, body) = (StatusCode::SWITCHING_PROTOCOLS, Bytes::new());
                    (Page { status, headers: HeaderMap::new(), body }, Some(hello))
                }
                Err(refusal) => {
                    tracing::debug!(kind = ?refusal.kind, %refusal, "a peer was refused");
                    (Page::json(refusal.kind.status(), refusal.to_json()), None)
                }
            };
            return (answer(page, greeting::answer_headers(&own, hello.is_some())), hello);
        }
        let page = if matches!(*request.method(), Method::GET | Method::HEAD) {
            let none = || Page::text(StatusCode::NOT_FOUND, "404 page not found\n");
            door.http(path).unwrap_or_else(none)
        } else {
            Page::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n")
        };
        (answer(page, greeting::cluster_header(&own)), None)
    }
}

fn answer(page: Page, headers: HeaderMap) -> Answer {
    let mut answer = Response::new(Full::new(page.body));
    *answer.status_mut() = page.status;
    *answer.headers_mut() = page.headers;
    answer.headers_mut().extend(headers);
    answer
}

/// One connection.
struct Guest<D> {
    shared: Arc<Shared<D>>,
    number: u64,
}

impl<D: Door> Guest<D> {
    async fn entertain(self, stream: Stream) {
        // Frames are written whole; waiting to fill a packet only delays them.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let Server { door, limits, hearing, clock } = &self.shared.server;
        let Ok(Some((hello, stream, first))) =
            tokio::time::timeout(limits.greeting, self.greet(stream)).await
        else {
            return;
        };
        let ear = hearing.ear(hello.from.member);
        ear.heard(clock.monotonic());
        let stopping = self.shared.stopping.clone();
        let wire = Wire { hello, limits, clock: *clock, ear: &ear, stopping };
        let ended = answer::run(&**door, wire, stream, first).await;
        let (member, lane) = (hello.from.member, hello.lane.name());
        tracing::debug!(%member, lane, error = %ended, "a peer left");
    }

    /// The HTTP part, one request long. What is left of the connection if that was a greeting.
    async fn greet(&self, stream: Stream) -> Option<(Hello, Stream, Bytes)> {
        let granted = Mutex::new(None);
        let service = service_fn(|mut request: Request<Incoming>| {
            let (answer, hello) = self.shared.respond(self.number, &request);
            if let Some(hello) = hello {
                *granted.lock() = Some((hello, hyper::upgrade::on(&mut request)));
            }
            async { Ok::<_, Infallible>(answer) }
        });
        // Whoever is no HTTP/1 client hears of it from hyper, and hangs up or is hung up on.
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.shared.server.limits.greeting)
            .max_buf_size(HEADERS)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
        let (hello, upgrade) = granted.into_inner()?;
        let parts = upgrade.await.ok()?.downcast::<TokioIo<Stream>>().ok()?;
        Some((hello, parts.io.into_inner(), parts.read_buf))
    }
}

impl<D> Drop for Guest<D> {
    fn drop(&mut self) {
        self.shared.guests.lock().left(self.number);
    }
}
