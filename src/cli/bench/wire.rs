//! Calls as cheap as they get: gRPC written straight onto HTTP/2.
//!
//! Load and cluster often share one machine, and what the load costs the cluster lacks. A
//! general client hands each call to a connection's task and back through several queues; here
//! a client writes its own frames. It speaks plaintext gRPC without compression, nothing else,
//! and decides nothing: a call is made once and its error is the caller's to count.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use hyper::{Method, Request, Uri};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tonic::Code;

use super::options::Endpoint;

/// Answers up to this size are read; the largest a member sends by default is far smaller.
const LARGEST: usize = 64 << 20;
/// What may be under way towards us on one call, and on a whole connection.
const CALL_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
/// Before the first call the other side's limit is unknown; this many may start before it is.
const FIRST_CALLS: usize = 4096;
/// Between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a call failed. The texts say nothing of the single call, so that equal ones can be counted.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The member's own refusal.
    #[error("{code:?}: {message}")]
    Refused { code: Code, message: String },
    /// The member gave this one call up.
    #[error("the member reset the call ({0})")]
    Reset(h2::Error),
    /// The connection is gone; [`Line::mend`] makes another.
    #[error("the connection broke: {0}")]
    Broken(h2::Error),
    /// No new connection could be made.
    #[error("cannot connect to {endpoint}: {source}")]
    Unreachable { endpoint: String, source: std::io::Error },
    /// What answers is no gRPC server, or none that can be understood.
    #[error("not an answer of etcd's API: {0}")]
    Strange(String),
}

impl CallError {
    /// Whether the connection is of no further use.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self, CallError::Broken(_) | CallError::Unreachable { .. })
    }
}

impl From<h2::Error> for CallError {
    fn from(error: h2::Error) -> CallError {
        // A reset ends one stream; all else ends them all.
        if error.is_reset() { CallError::Reset(error) } else { CallError::Broken(error) }
    }
}

/// A connection that any number of clients share.
#[derive(Debug)]
pub(super) struct Connection {
    endpoint: Endpoint,
    live: Mutex<Live>,
}

/// What is behind a connection now.
#[derive(Clone, Debug)]
struct Live {
    sender: SendRequest<Bytes>,
    /// How often it was made anew, so that the first of its clients that finds it broken mends
    /// it and the others take what the first has made.
    number: u64,
}

impl Connection {
    /// Connects, within `limit`.
    ///
    /// # Errors
    ///
    /// [`CallError::Unreachable`], or [`CallError::Broken`] where no HTTP/2 is spoken.
    pub(super) async fn open(endpoint: Endpoint, limit: Duration) -> Result<Self, CallError> {
        let sender = connect(&endpoint, limit).await?;
        Ok(Connection { endpoint, live: Mutex::new(Live { sender, number: 0 }) })
    }

    /// A client's own handle, for calls of the method with this path.
    pub(super) async fn line(self: &Arc<Self>, path: &str) -> Result<Line, CallError> {
        let live = self.live.lock().await.clone();
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.endpoint.authority())
            .path_and_query(path)
            .build()
            .map_err(|error| CallError::Strange(error.to_string()))?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        Ok(Line { connection: Arc::clone(self), live, request })
    }
}

async fn connect(endpoint: &Endpoint, limit: Duration) -> Result<SendRequest<Bytes>, CallError> {
    let unreachable = |source| CallError::Unreachable { endpoint: endpoint.to_string(), source };
    let late = || unreachable(std::io::Error::from(std::io::ErrorKind::TimedOut));
    let made = async {
        let stream = TcpStream::connect(endpoint.address()).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(CALL_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(FIRST_CALLS)
            .enable_push(false);
        builder.handshake(stream).await.map_err(CallError::from)
    };
    let (sender, connection) = tokio::time::timeout(limit, made).await.map_err(|_| late())??;
    // It ends by itself once nobody holds a sender or the peer has closed; the calls tell why.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// One client's handle on a shared connection.
#[derive(Debug)]
pub(super) struct Line {
    connection: Arc<Connection>,
    live: Live,
    request: Request<()>,
}

impl Line {
    /// One unary call: a [framed] message there, a message back.
    pub(super) async fn call(&mut self, message: Bytes) -> Result<Bytes, CallError> {
        let (response, mut body) = self.start().await?;
        body.send_data(message, true)?;
        let mut answers = Answers::begin(response).await?;
        let Some(answer) = answers.next().await? else {
            return Err(CallError::Strange("a call ended well without an answer".to_owned()));
        };
        match answers.next().await? {
            None => Ok(answer),
            Some(_) => Err(CallError::Strange("one call had two answers".to_owned())),
        }
    }

    /// A call that goes both ways: sends these [framed] messages and leaves it open.
    pub(super) async fn stream(&mut self, messages: Bytes) -> Result<Stream, CallError> {
        let (response, mut body) = self.start().await?;
        body.send_data(messages, false)?;
        Ok(Stream { answers: Answers::begin(response).await?, _body: body })
    }

    async fn start(&mut self) -> Result<(ResponseFuture, h2::SendStream<Bytes>), CallError> {
        poll_fn(|context| self.live.sender.poll_ready(context)).await?;
        Ok(self.live.sender.send_request(self.request.clone(), false)?)
    }

    /// Takes the connection that another client has made meanwhile, or makes one, within
    /// `limit`. Slow on purpose: a member that is gone is not to be asked without a pause.
    pub(super) async fn mend(&mut self, limit: Duration) -> Result<(), CallError> {
        tokio::time::sleep(PAUSE).await;
        let mut live = self.connection.live.lock().await;
        if live.number == self.live.number {
            live.sender = connect(&self.connection.endpoint, limit).await?;
            live.number += 1;
        }
        self.live = live.clone();
        Ok(())
    }
}

/// A call that stays open; dropping it resets it.
#[derive(Debug)]
pub(super) struct Stream {
    answers: Answers,
    // Kept, because dropping it would end our side.
    _body: h2::SendStream<Bytes>,
}

impl Stream {
    /// The next message; an end of any kind is an error, as nobody asked for one.
    pub(super) async fn next(&mut self) -> Result<Bytes, CallError> {
        let message = self.answers.next().await?;
        message.ok_or_else(|| CallError::Strange("the stream ended".to_owned()))
    }
}

/// The messages of an answer.
#[derive(Debug)]
struct Answers {
    headers: HeaderMap,
    body: RecvStream,
    /// What has come and is not a whole message yet, or is the next ones.
    pending: Bytes,
}

impl Answers {
    async fn begin(response: ResponseFuture) -> Result<Answers, CallError> {
        let (head, body) = response.await?.into_parts();
        if head.status != hyper::StatusCode::OK {
            return Err(CallError::Strange(format!("HTTP {}", head.status)));
        }
        Ok(Answers { headers: head.headers, body, pending: Bytes::new() })
    }

    /// The next message, or `None` where the call ended with success.
    async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            if let Some(message) = split(&mut self.pending)? {
                return Ok(Some(message));
            }
            let Some(chunk) = self.body.data().await else { return self.end().await };
            let chunk = chunk?;
            self.body.flow_control().release_capacity(chunk.len())?;
            if self.pending.is_empty() {
                self.pending = chunk; // the usual case: one message in one frame, not copied
            } else {
                let mut joined = BytesMut::with_capacity(self.pending.len() + chunk.len());
                joined.put_slice(&self.pending);
                joined.put_slice(&chunk);
                self.pending = joined.freeze();
            }
        }
    }

    async fn end(&mut self) -> Result<Option<Bytes>, CallError> {
        // An answer that is only a refusal has its status in the headers.
        let trailers = if self.headers.contains_key("grpc-status") {
            self.headers.clone()
        } else {
            self.body.trailers().await?.unwrap_or_default()
        };
        let Some(status) = trailers.get("grpc-status") else {
            return Err(CallError::Strange("there is no gRPC status".to_owned()));
        };
        if !self.pending.is_empty() {
            return Err(CallError::Strange("it ended in the middle of a message".to_owned()));
        }
        match Code::from_bytes(status.as_bytes()) {
            Code::Ok => Ok(None),
            code => {
                let message = trailers.get("grpc-message").map(HeaderValue::as_bytes);
                Err(CallError::Refused { code, message: decoded(message.unwrap_or_default()) })
            }
        }
    }
}

/// Takes the first whole message off.
fn split(pending: &mut Bytes) -> Result<Option<Bytes>, CallError> {
    let Some((prefix, _)) = pending.split_first_chunk::<5>() else { return Ok(None) };
    let [compressed, length @ ..] = *prefix;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if compressed != 0 {
        return Err(CallError::Strange("it is compressed".to_owned()));
    }
    if length > LARGEST {
        return Err(CallError::Strange(format!("a message of {length} bytes")));
    }
    if pending.len() < 5 + length {
        return Ok(None);
    }
    let mut message = pending.split_to(5 + length);
    Ok(Some(message.split_off(5)))
}

/// A message as gRPC frames it: no compression, the length, the bytes.
pub(super) fn framed(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    // Sizes are limited far below when the options are read.
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // The buffer grows, so there is always room.
    let _ = message.encode(&mut frame);
    frame.freeze()
}

/// A `grpc-message`, in which `%` and two digits stand for one byte.
fn decoded(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        let code = code.and_then(|it| u8::from_str_radix(it, 16).ok());
        let (byte, skip) = code.filter(|_| *first == b'%').map_or((*first, 0), |it| (it, 2));
        bytes.push(byte);
        rest = &tail[skip..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::PutRequest;

    #[test]
    fn messages_come_whole_however_the_frames_were_cut() {
        let requests: Vec<_> = (0..3)
            .map(|n| PutRequest { key: format!("key {n}").into(), ..Default::default() })
            .collect();
        let all: Vec<u8> = requests.iter().flat_map(|it| framed(it).to_vec()).collect();
        for cut in 0..all.len() {
            let mut pending = Bytes::copy_from_slice(&all[..cut]);
            let mut found = Vec::new();
            while let Some(message) = split(&mut pending).unwrap() {
                found.push(PutRequest::decode(message).unwrap());
            }
            pending = [&pending[..], &all[cut..]].concat().into();
            while let Some(message) = split(&mut pending).unwrap() {
                found.push(PutRequest::decode(message).unwrap());
            }
            assert_eq!(found, requests, "cut at {cut}");
        }
    }

    #[test]
    fn a_huge_or_a_compressed_message_is_refused_before_it_is_kept() {
        assert!(split(&mut Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff])).is_err());
        assert!(split(&mut Bytes::from_static(&[1, 0, 0, 0, 0])).is_err());
    }

    #[test]
    fn a_refusal_reads_as_the_member_wrote_it() {
        assert_eq!(decoded(b"etcdserver: no leader"), "etcdserver: no leader");
        assert_eq!(decoded(b"100%25 %E2%9C%93 %zz %"), "100% \u{2713} %zz %");
    }
}
