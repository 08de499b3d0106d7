//! Listens, takes connections within the limits, and ends in order.
//!
//! One port carries HTTP/1, and HTTP/2 without TLS. A connection has to say within
//! [`Options::greeting`] what it speaks, so that one which says nothing holds its place for a
//! short time only; HTTP/1 requests and bodies have their own limits, HTTP/2 is pinged.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;

use super::dispatch::{Answer, Dispatch, Grafted};
use super::front::{Front, Protocol};
use super::options::Options;
use super::shared::Api;
use super::turns::Turns;
use crate::node::replica::Replica;

/// What a client may have sent of one stream, and of all of them, before it is read. The second
/// bounds the memory a connection can hold.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// The longest line or header block of HTTP/1.
const HTTP1_BUFFER: usize = 64 << 10;
/// A silent client is asked by TCP this often, as Go does.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
/// Whoever watches over a member needs few.
const METRICS_CONNECTIONS: usize = 64;
/// How long to wait when no connection can be taken, as when no file can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A server to be started.
pub struct Server<R> {
    api: Arc<Api<R>>,
    watch: Option<Grafted>,
}

impl<R: Replica> Server<R> {
    /// Over this API.
    pub fn new(api: Arc<Api<R>>) -> Server<R> {
        Server { api, watch: None }
    }

    /// With this service for `etcdserverpb.Watch`; without one it answers Unimplemented.
    #[must_use]
    pub fn with_watch<S>(self, watch: S) -> Server<R>
    where
        S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let watch = move |request| -> Answer { Box::pin(watch.clone().call(request)) };
        Server { watch: Some(Arc::new(watch)), ..self }
    }

    /// Serves on every listener until `shutdown` is done; then takes no more connections, ends
    /// the endless streams, and gives what is under way [`Options::grace`] to end.
    pub async fn serve(self, listeners: Vec<TcpListener>, shutdown: impl Future<Output = ()>) {
        let options = self.api.options().clone();
        let (stop, stopping) = watch::channel(false);
        let dispatch = Dispatch::new(&self.api, self.watch);
        let mut tasks = accept_all(listeners, dispatch, &options, &stopping);
        let leaders = tokio::spawn(count_leaders(Arc::clone(&self.api)));
        shutdown.await;

        self.api.stop();
        stop.send_replace(true);
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(options.grace, all).await.is_err() {
            tracing::info!("connections that are still open are closed");
            tasks.shutdown().await;
        }
        leaders.abort();
    }
}

/// Serves a replica on every listener until `shutdown` is done; see [`Server::serve`].
pub async fn serve<R: Replica>(
    listeners: Vec<TcpListener>,
    api: Arc<Api<R>>,
    shutdown: impl Future<Output = ()>,
) {
    Server::new(api).serve(listeners, shutdown).await;
}

/// Serves metrics and health checks alone (etcd's `--listen-metrics-urls`), until it is dropped. It
/// may begin before the node is ready, and says then that it is not.
pub async fn serve_metrics<R: Replica>(listeners: Vec<TcpListener>, api: Arc<Api<R>>) {
    let options = api.options().clone();
    let max_connections = options.max_connections.min(METRICS_CONNECTIONS);
    let options = Options { max_connections, ..options };
    let (_stop, stopping) = watch::channel(false);
    let dispatch = Dispatch::of_metrics(&api);
    let mut tasks = accept_all(listeners, dispatch, &options, &stopping);
    while tasks.join_next().await.is_some() {}
}

fn accept_all<R: Replica>(
    listeners: Vec<TcpListener>,
    dispatch: Dispatch<R>,
    options: &Options,
    stopping: &watch::Receiver<bool>,
) -> JoinSet<()> {
    let dispatch = Arc::new(dispatch);
    let places = Arc::new(Semaphore::new(options.max_connections));
    let mut tasks = JoinSet::new();
    for listener in listeners {
        let host = Host {
            dispatch: Arc::clone(&dispatch),
            options: options.clone(),
            places: Arc::clone(&places),
            stopping: stopping.clone(),
        };
        tasks.spawn(host.accept(listener));
    }
    tasks
}

/// Counts the leaders that come.
async fn count_leaders<R: Replica>(api: Arc<Api<R>>) {
    let mut changes = api.replica().standing_changes();
    let mut last = None;
    loop {
        let leader = changes.borrow_and_update().leader;
        if leader.is_some() && leader != last {
            api.metrics().leader_changes.inc();
            last = leader;
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// What the connections of one listener share.
struct Host<R> {
    dispatch: Arc<Dispatch<R>>,
    options: Options,
    places: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

impl<R: Replica> Host<R> {
    /// Takes connections until the end, and waits for their ends.
    async fn accept(mut self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            // Only this holds the semaphore, and never closes it.
            let place = Arc::clone(&self.places).acquire_owned();
            let accepted = tokio::select! {
                biased;
                _ = self.stopping.wait_for(|is| *is) => break,
                Some(ended) = connections.join_next() => {
                    report(ended);
                    continue;
                }
                accepted = async { (place.await, listener.accept().await) } => accepted,
            };
            let (Ok(place), accepted) = accepted else { break };
            match accepted {
                Ok((stream, peer)) => {
                    let connection = Connection {
                        dispatch: Arc::clone(&self.dispatch),
                        options: self.options.clone(),
                        stopping: self.stopping.clone(),
                        peer,
                    };
                    connections.spawn(async move {
                        connection.run(stream).await;
                        drop(place);
                    });
                }
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection of a client failed");
    }
}

/// Whether it ended before it was accepted.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// One client's connection.
struct Connection<R> {
    dispatch: Arc<Dispatch<R>>,
    options: Options,
    stopping: watch::Receiver<bool>,
    peer: SocketAddr,
}

impl<R: Replica> Connection<R> {
    async fn run(mut self, stream: TcpStream) {
        let peer = self.peer;
        // Without either it works as well, if slower.
        let _ = stream.set_nodelay(true);
        let _ = sockopt::set_socket_keepalive(&stream, true);
        let _ = sockopt::set_tcp_keepidle(&stream, TCP_KEEPALIVE);
        let _ = sockopt::set_tcp_keepintvl(&stream, TCP_KEEPALIVE);

        let met = tokio::select! {
            met = tokio::time::timeout(self.options.greeting, Front::meet(stream)) => met,
            _ = self.stopping.wait_for(|is| *is) => return,
        };
        let ended = match met {
            Err(_) => {
                tracing::debug!(%peer, "a client said nothing");
                return;
            }
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "a client left before it said anything");
                return;
            }
            Ok(Ok((Protocol::One, front))) => self.speak_http1(front).await,
            Ok(Ok((Protocol::Two, front))) => self.speak_http2(front).await,
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection broke");
        }
    }

    async fn speak_http1(&mut self, front: Front<TcpStream>) -> Result<(), hyper::Error> {
        let dispatch = Arc::clone(&self.dispatch);
        let service = service_fn(move |request| dispatch.answer(request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.options.greeting)
            .max_buf_size(HTTP1_BUFFER)
            .serve_connection(TokioIo::new(front), service);
        let mut connection = pin!(connection);
        tokio::select! {
            ended = &mut connection => return ended,
            _ = self.stopping.wait_for(|is| *is) => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }

    async fn speak_http2(&mut self, front: Front<TcpStream>) -> Result<(), hyper::Error> {
        let dispatch = Arc::clone(&self.dispatch);
        let mut turns = Turns::new();
        let service = service_fn(move |request| dispatch.answer(request));
        let connection = http2::Builder::new(turns.begun())
            .timer(TokioTimer::new())
            .auto_date_header(false) // as Go's server; every client would have to read it
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(self.options.max_concurrent_streams)
            .keep_alive_interval(self.options.keepalive_interval)
            .keep_alive_timeout(self.options.keepalive_timeout)
            .serve_connection(TokioIo::new(front), service);
        let mut connection = pin!(connection);
        tokio::select! {
            ended = poll_fn(|context| turns.poll(connection.as_mut(), context)) => return ended,
            _ = self.stopping.wait_for(|is| *is) => {}
        }
        connection.as_mut().graceful_shutdown();
        poll_fn(|context| turns.poll(connection.as_mut(), context)).await
    }
}
