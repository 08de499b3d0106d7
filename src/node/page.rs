//! The state page: a node's word on itself over plain HTTP, for those who cannot read its home.
//!
//! ```text
//! GET /state   the word, as one line of JSON
//! GET /livez   200 while the process can do its work; neither a quorum nor an engine is needed
//! ```
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
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use super::barrier::Refused;
use super::port;
use crate::cluster::{ExitKind, NodeWord};

/// Connections at a time; beyond it the oldest ends, so that nobody can keep a probe out.
const CONNECTIONS: usize = 32;
/// What a request may take to arrive.
const HEADERS: Duration = Duration::from_secs(3);
/// What a connection may take as a whole: it is good for one request.
const WHOLE: Duration = Duration::from_secs(6);
/// The longest header section that is read; the least that hyper takes.
const BUFFER: usize = 8 << 10;
/// After a connection could not be taken, most likely for lack of descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 64;

/// What the page shows now.
#[derive(Clone, Debug)]
pub(super) struct Shown(Arc<Mutex<NodeWord>>);

impl Shown {
    pub(super) fn new(word: NodeWord) -> Shown {
        Shown(Arc::new(Mutex::new(word)))
    }

    pub(super) fn show(&self, word: NodeWord) {
        *self.0.lock() = word;
    }
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
            let answer = answer(request.method(), request.uri().path(), &shown);
            async move { Ok::<_, Infallible>(answer) }
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

fn answer(method: &Method, path: &str, shown: &Shown) -> Response<Full<Bytes>> {
    let known = matches!(path, "/state" | "/livez");
    let (status, kind, body) = match path {
        _ if known && method != Method::GET => {
            (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n".to_owned())
        }
        "/state" => (StatusCode::OK, "application/json", shown.0.lock().to_line()),
        "/livez" => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "there are /state and /livez\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    }
    response
}
