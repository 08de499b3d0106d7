//! gRPC on a [`Link`]: plaintext and without compression, nothing else, and it decides nothing: a
//! call is made once and its error is the caller's to count.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::Reason;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderValue};
use prost::Message;
use tokio::sync::Mutex;
use tonic::Code;

use super::link::{Call, Got, Link, Lost};
use super::options::Endpoint;

/// Answers up to this size are read; the largest a member sends by default is far smaller.
const LARGEST: usize = 64 << 20;
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
    Reset(Reason),
    /// The connection is gone; [`Line::mend`] makes another.
    #[error("the connection broke: {0}")]
    Broken(String),
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

impl From<Lost> for CallError {
    fn from(lost: Lost) -> CallError {
        match lost {
            Lost::Reset(reason) => CallError::Reset(reason),
            Lost::Broken(why) => CallError::Broken(why),
        }
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
    link: Arc<Link>,
    /// How often it was made anew, so that the first of its clients that finds it broken mends
    /// it and the others take what the first has made.
    number: u64,
}

impl Connection {
    /// Connects, within `limit`.
    ///
    /// # Errors
    ///
    /// [`CallError::Unreachable`].
    pub(super) async fn open(endpoint: Endpoint, limit: Duration) -> Result<Self, CallError> {
        let link = connect(&endpoint, limit).await?;
        Ok(Connection { endpoint, live: Mutex::new(Live { link, number: 0 }) })
    }

    /// A client's own handle, for calls of the method with this path.
    pub(super) async fn line(self: &Arc<Self>, path: &'static str) -> Line {
        let live = self.live.lock().await.clone();
        Line { connection: Arc::clone(self), live, path: Bytes::from_static(path.as_bytes()) }
    }
}

async fn connect(endpoint: &Endpoint, limit: Duration) -> Result<Arc<Link>, CallError> {
    let unreachable = |source| CallError::Unreachable { endpoint: endpoint.to_string(), source };
    Link::open(endpoint, limit).await.map_err(unreachable)
}

/// One client's handle on a shared connection.
#[derive(Debug)]
pub(super) struct Line {
    connection: Arc<Connection>,
    live: Live,
    path: Bytes,
}

impl Line {
    /// One unary call: a [framed] message there, a message back.
    pub(super) async fn call(&mut self, message: Bytes) -> Result<Bytes, CallError> {
        let call = self.live.link.call(&self.path, message, true).await?;
        let mut answers = Answers { got: call.end().await?, pending: Bytes::new() };
        let Some(answer) = answers.next()? else {
            answers.end()?;
            return Err(CallError::Strange("a call ended well without an answer".to_owned()));
        };
        if answers.next()?.is_some() {
            return Err(CallError::Strange("one call had two answers".to_owned()));
        }
        answers.end()?;
        Ok(answer)
    }

    /// A call that goes both ways: sends these [framed] messages and leaves it open.
    pub(super) async fn stream(&mut self, messages: Bytes) -> Result<Stream, CallError> {
        let call = self.live.link.call(&self.path, messages, false).await?;
        call.wait(|got| got.head.is_some().then_some(())).await?;
        Ok(Stream { call, answers: Answers::default() })
    }

    /// Takes the connection that another client has made meanwhile, or makes one, within
    /// `limit`. Slow on purpose: a member that is gone is not to be asked without a pause.
    pub(super) async fn mend(&mut self, limit: Duration) -> Result<(), CallError> {
        tokio::time::sleep(PAUSE).await;
        let mut live = self.connection.live.lock().await;
        if live.number == self.live.number {
            live.link = connect(&self.connection.endpoint, limit).await?;
            live.number += 1;
        }
        self.live = live.clone();
        Ok(())
    }
}

/// A call that stays open; dropping it resets it.
#[derive(Debug)]
pub(super) struct Stream {
    call: Call,
    answers: Answers,
}

impl Stream {
    /// The next message; an end of any kind is an error, as nobody asked for one.
    pub(super) async fn next(&mut self) -> Result<Bytes, CallError> {
        loop {
            if let Some(message) = self.answers.next()? {
                return Ok(message);
            }
            if self.answers.got.end.is_some() {
                self.answers.end()?;
                return Err(CallError::Strange("the stream ended".to_owned()));
            }
            let take = |got: &mut Got| {
                let has_come = !got.data.is_empty() || got.end.is_some();
                has_come.then(|| std::mem::take(got))
            };
            self.answers.add(self.call.wait(take).await?);
        }
    }
}

/// The messages of an answer.
#[derive(Debug, Default)]
struct Answers {
    got: Got,
    /// What is not a whole message yet, or is the next ones.
    pending: Bytes,
}

impl Answers {
    fn add(&mut self, got: Got) {
        let Got { head, data, trailers, end } = got;
        self.got.head = self.got.head.take().or(head);
        self.got.data.extend(data);
        self.got.trailers = trailers;
        self.got.end = end;
    }

    /// The next message that is there.
    fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            if let Some(message) = split(&mut self.pending)? {
                return Ok(Some(message));
            }
            let Some(chunk) = self.got.data.pop_front() else { return Ok(None) };
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

    /// How the call went, once it is over.
    fn end(&self) -> Result<(), CallError> {
        let Got { head, trailers, .. } = &self.got;
        let (status, headers) = head.as_ref().map_or((None, None), |it| (it.0, Some(&it.1)));
        if status.is_some_and(|it| it != StatusCode::OK) {
            return Err(CallError::Strange(format!("HTTP {}", status.unwrap_or_default())));
        }
        // An answer that is only a refusal has its status in the headers.
        let mut fields = [headers, trailers.as_ref()].into_iter().flatten();
        let status = fields.find_map(|it| Some((it, it.get("grpc-status")?)));
        let Some((fields, status)) = status else {
            return Err(CallError::Strange("there is no gRPC status".to_owned()));
        };
        if !self.pending.is_empty() {
            return Err(CallError::Strange("it ended in the middle of a message".to_owned()));
        }
        refused(fields, status)
    }
}

/// The member's own refusal, if it is one.
fn refused(fields: &HeaderMap, status: &HeaderValue) -> Result<(), CallError> {
    match Code::from_bytes(status.as_bytes()) {
        Code::Ok => Ok(()),
        code => {
            let message = fields.get("grpc-message").map(HeaderValue::as_bytes);
            Err(CallError::Refused { code, message: decoded(message.unwrap_or_default()) })
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
