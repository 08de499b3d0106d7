//! The state page: a node's word on itself over plain HTTP, for those who cannot read its home.
//!
//! ```text
//! GET /state   the word, as one line of JSON, with its ETag
//! GET /livez   200 while the process can do its work; neither a quorum nor an engine is needed
//! ```
//!
//! With `If-None-Match: ETAG`, `/state` answers 304 if the word is still that one, and with
//! `Prefer: wait=SECONDS` (RFC 7240 §4.3) not before so many seconds have passed, half a minute at
//! most: who wants to know at once what is new need not ask all the time.
//!
//! It is read-only, and there from before the node first asks a peer until its process ends,
//! whichever engine runs. It is a task beside the engine's, so that a process that is stuck does
//! not claim to be alive.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::barrier::Refused;
use super::port;
use crate::cluster::{ExitKind, NodeWord};

/// Connections at a time; beyond it the oldest ends, so that nobody can keep a probe out.
const CONNECTIONS: usize = 32;
/// What a request may take to arrive.
const HEADERS: Duration = Duration::from_secs(3);
/// The longest that anybody may wait for a new word.
const WAIT: Duration = Duration::from_secs(30);
/// What a connection may take as a whole: it is good for one request.
const WHOLE: Duration = Duration::from_secs(36);
/// The longest header section that is read; the least that hyper takes.
const BUFFER: usize = 8 << 10;
/// After a connection could not be taken, most likely for lack of descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 64;

/// What the page shows now.
#[derive(Clone, Debug)]
pub(super) struct Shown(Arc<watch::Sender<NodeWord>>);

impl Shown {
    pub(super) fn new(word: NodeWord) -> Shown {
        Shown(Arc::new(watch::Sender::new(word)))
    }

    pub(super) fn show(&self, word: NodeWord) {
        self.0.send_replace(word);
    }

    /// The word and its mark, once it is another than the one with the mark `known`; `None` if it
    /// is still that one after `wait`.
    async fn unlike(&self, known: Option<&[u8]>, wait: Duration) -> Option<(String, String)> {
        let mut shown = self.0.subscribe();
        let is_new = |word: &NodeWord| known != Some(mark(&word.to_line()).as_bytes());
        let word = tokio::time::timeout(wait, shown.wait_for(is_new)).await.ok()?.ok()?.clone();
        let line = word.to_line();
        Some((mark(&line), line))
    }
}

/// What marks a word: its `ETag`.
fn mark(line: &str) -> String {
    format!("\"{:08x}\"", crc32c::crc32c(line.as_bytes()))
}

/// Opens the page's port.
///
/// # Errors
///
/// [`ExitKind::AddressInUse`], naming the holder.
pub(super) fn listen(address: SocketAddr) -> Result<TcpListener, Refused> {
    let listening = port::bind(address).and_then(|socket| socket.listen(BACKLOG));
    listening.map_err(|error| Refused {
        kind: ExitKind::AddressInUse,
        detail: format!("the state page: {}", port::explain(address, &error)),
    })
}

/// Serves the page until it is dropped.
pub(super) async fn serve(listener: TcpListener, shown: Shown) {
    let mut connections = JoinSet::new();
    let mut oldest: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        oldest.retain(|it| !it.is_finished());
        if oldest.len() >= CONNECTIONS {
            oldest.pop_front().iter().for_each(AbortHandle::abort);
        }
        let shown = shown.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let shown = shown.clone();
            async move { Ok::<_, Infallible>(answer(&request, &shown).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .max_buf_size(BUFFER)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        oldest.push_back(connections.spawn(async move {
            // Who hangs up, or takes too long, asks again.
            let _ = tokio::time::timeout(WHOLE, connection).await;
        }));
    }
}

async fn answer(request: &Request<Incoming>, shown: &Shown) -> Response<Full<Bytes>> {
    let (path, headers) = (request.uri().path(), request.headers());
    let known = matches!(path, "/state" | "/livez");
    let text = |status, body: &str| respond(status, "text/plain", body.to_owned());
    match path {
        _ if known && request.method() != Method::GET => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            response
        }
        "/state" => {
            let known = headers.get(IF_NONE_MATCH).map(HeaderValue::as_bytes);
            let Some((mark, line)) = shown.unlike(known, wait(headers)).await else {
                return respond(StatusCode::NOT_MODIFIED, "application/json", String::new());
            };
            let mut response = respond(StatusCode::OK, "application/json", line);
            // Hexadecimal digits in quotes always are a header's value.
            if let Ok(mark) = HeaderValue::from_str(&mark) {
                response.headers_mut().insert(ETAG, mark);
            }
            response
        }
        "/livez" => text(StatusCode::OK, "ok\n"),
        _ => text(StatusCode::NOT_FOUND, "there are /state and /livez\n"),
    }
}

/// How long who asks would wait.
fn wait(headers: &HeaderMap) -> Duration {
    let asked = headers.get("prefer").and_then(|it| it.to_str().ok()?.strip_prefix("wait="));
    let seconds = asked.and_then(|it| it.parse().ok()).unwrap_or(0);
    Duration::from_secs(seconds).min(WAIT)
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
