//! Connects to one URL of a peer and greets it there.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;

use super::error::DialError;
use super::greeting::{self, Hello, Identity, Refusal, RefusalKind};
use super::{Lane, Limits};
use crate::cluster::Incarnation;
use crate::node::ground::net::{self, Stream};

/// The longest refusal that is read.
const REFUSAL: usize = 16 << 10;

/// A connection that was greeted, and who is at its other end.
#[derive(Debug)]
pub(super) struct Greeted {
    pub(super) url: String,
    pub(super) met: Identity,
    pub(super) stream: Stream,
    /// What had arrived behind the greeting already.
    pub(super) first: Bytes,
}

/// Tries each URL in turn, beginning with the one at `preferred`, until one greets.
///
/// # Errors
///
/// The most telling of the failures: a refusal before one who is mistaken for the peer, and that
/// before one that cannot be reached.
pub(super) async fn any(
    urls: &[String],
    preferred: usize,
    hello: &Hello,
    known: Option<Incarnation>,
    limit: Duration,
) -> Result<Greeted, DialError> {
    let mut worst = DialError::NoUrl;
    for n in 0..urls.len() {
        let url = &urls[(preferred + n) % urls.len()];
        let slow = || DialError::Slow { url: url.clone(), after: limit };
        let tried = tokio::time::timeout(limit, one(url, hello, known)).await;
        match tried.unwrap_or_else(|_| Err(slow())) {
            Ok(greeted) => return Ok(greeted),
            Err(error) if weight(&error) >= weight(&worst) => worst = error,
            Err(_) => {}
        }
    }
    Err(worst)
}

/// Who listens at a URL, by its own word. It is greeted as this member itself, which it is not, and
/// says so: nothing else is asked of it.
///
/// # Errors
///
/// Whatever else comes, or does not: another cluster, for one.
pub(super) async fn who(url: &str, own: Identity, limits: &Limits) -> Result<Identity, DialError> {
    let (lane, silence) = (Lane::Calls, limits.silence);
    let hello = Hello { from: own, to: own.member, lane, silence };
    let greeted = tokio::time::timeout(limits.dial, one(url, &hello, None)).await;
    let slow = |_| DialError::Slow { url: url.to_owned(), after: limits.dial };
    match greeted.map_err(slow)? {
        Err(DialError::Refused { by: Some(it), refusal, .. })
            if refusal.kind == RefusalKind::WrongTarget =>
        {
            Ok(it)
        }
        Err(error) => Err(error),
        // Nobody grants it.
        Ok(greeted) => Ok(greeted.met),
    }
}

fn weight(error: &DialError) -> u8 {
    match error {
        DialError::NoUrl => 0,
        DialError::Refused { .. } => 3,
        DialError::Mistaken { .. } => 2,
        _ => 1,
    }
}

async fn one(url: &str, hello: &Hello, known: Option<Incarnation>) -> Result<Greeted, DialError> {
    let no_url = || DialError::Url { url: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_| no_url())?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(no_url());
    };
    let host = authority.host().trim_matches(['[', ']']);
    let connect = |source| DialError::Connect { url: url.to_owned(), source };
    let port = authority.port_u16().unwrap_or(80);
    let stream = net::connect(hello.from.member, host, port).await.map_err(connect)?;
    // Frames are written whole; waiting to fill a packet only delays them.
    stream.set_nodelay(true).map_err(connect)?;

    let http = |source| DialError::Http { url: url.to_owned(), source };
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = Uri::from_static(greeting::PATH);
    *request.headers_mut() = hello.headers();
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| no_url())?;
    request.headers_mut().insert(HOST, host);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    // Polled on after its end, which it would not survive by itself.
    let mut connection = connection.with_upgrades().fuse();
    let exchange = async {
        let response = sender.send_request(request).await.map_err(http)?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        Err(refused(url, hello, known, response).await)
    };
    tokio::pin!(exchange);
    let response = tokio::select! {
        biased;
        answer = &mut exchange => answer?,
        // It may end before the answer is taken from it.
        _ = &mut connection => exchange.await?,
    };
    let met = greeting::meet(hello, known, response.headers())
        .map_err(|why| DialError::Mistaken { url: url.to_owned(), why })?;
    let upgrade = hyper::upgrade::on(response);
    tokio::pin!(upgrade);
    // The connection hands its socket over while it is driven.
    let upgraded = tokio::select! {
        biased;
        upgraded = &mut upgrade => upgraded,
        _ = &mut connection => upgrade.await,
    };
    let status = |_| DialError::Status { url: url.to_owned(), status: 101 };
    let parts = upgraded.map_err(http)?.downcast::<TokioIo<Stream>>().map_err(status)?;
    let stream = parts.io.into_inner();
    Ok(Greeted { url: url.to_owned(), met, stream, first: parts.read_buf })
}

/// What an answer other than yes means.
async fn refused(
    url: &str,
    hello: &Hello,
    known: Option<Incarnation>,
    response: Response<hyper::body::Incoming>,
) -> DialError {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, REFUSAL).collect().await;
    let refusal = body.ok().and_then(|it| Refusal::from_json(&it.to_bytes()));
    let url = url.to_owned();
    let Some(refusal) = refusal else {
        return DialError::Status { url, status: head.status.as_u16() };
    };
    // Only the member itself may tell this one to go: a stranger is believed no more than that it
    // is one.
    match greeting::meet(hello, known, &head.headers) {
        Err(why) if why.kind != refusal.kind => DialError::Mistaken { url, why },
        _ => {
            let by = greeting::of_cluster(hello.from.cluster, &head.headers);
            DialError::Refused { url, by, refusal }
        }
    }
}
