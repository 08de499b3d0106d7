//! One greeted connection to a peer, from the side that calls.
//!
//! Callers put their frames into a shared buffer and wait; one task writes what has gathered,
//! reads what comes and hands each answer to whoever waits for it. Many calls so share one write.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};
use tokio::time::MissedTickBehavior;

use super::error::{CallError, Failure, LinkError};
use super::frame::{self, Frame, FrameError, Kind};
use super::greeting::{Identity, Refusal};
use super::hearing::Ear;
use super::{Bound, Lane, Limits};
use crate::clock::Clock;
use crate::cluster::MemberId;
use crate::node::ground::net::Stream;

/// Largest piece of unwritten buffer that is kept when there is nothing to write.
const KEPT: usize = 1 << 20;

/// A connection as its callers see it.
#[derive(Debug)]
pub(super) struct Link {
    /// Who is at the other end.
    pub(super) met: Identity,
    /// By which URL.
    pub(super) url: String,
    bound: Bound,
    most: usize,
    state: Mutex<State>,
    wake: Notify,
    was_heard: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    out: BytesMut,
    waiting: BTreeMap<u64, Waiting>,
    /// Bytes of the bodies that are waited for.
    bytes: usize,
    last_id: u64,
    /// The other side takes no more.
    is_leaving: bool,
    /// It is over.
    ended: Option<Arc<LinkError>>,
}

#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Result<Bytes, CallError>>,
    length: usize,
}

/// Why nothing was sent.
#[derive(Debug)]
pub(super) enum NotSent {
    /// This connection takes nothing more; another one may.
    Over,
    /// It cannot be sent.
    Error(CallError),
}

/// An answer to come. Dropped before it came, its place is free again.
#[derive(Debug)]
pub(super) struct Reply {
    link: Arc<Link>,
    id: u64,
    answer: oneshot::Receiver<Result<Bytes, CallError>>,
    has_come: bool,
}

impl Link {
    pub(super) fn new(met: Identity, url: String, lane: Lane, limits: &Limits) -> Link {
        Link {
            met,
            url,
            bound: limits.bound(lane),
            most: limits.most(lane),
            state: Mutex::default(),
            wake: Notify::new(),
            was_heard: AtomicBool::new(false),
        }
    }

    /// Whether calls may be sent on it.
    pub(super) fn is_open(&self) -> bool {
        let state = self.state.lock();
        state.ended.is_none() && !state.is_leaving
    }

    /// Whether a frame ever came on it.
    pub(super) fn was_heard(&self) -> bool {
        self.was_heard.load(Ordering::Relaxed)
    }

    /// Puts a call on its way; what waits is bounded in number and bytes, written or not.
    pub(super) fn send(self: &Arc<Self>, method: u8, body: &[u8]) -> Result<Reply, NotSent> {
        let member = self.met.member;
        let mut state = self.state.lock();
        if state.ended.is_some() || state.is_leaving {
            return Err(NotSent::Over);
        }
        let length = body.len();
        // What nobody waits for any more may still be unwritten.
        let bytes = state.bytes.max(state.out.len()) + length;
        if state.waiting.len() >= self.bound.calls || bytes > self.bound.bytes {
            return Err(NotSent::Error(CallError::Busy { member }));
        }
        let id = state.last_id + 1;
        frame::encode(&mut state.out, self.most, (Kind::Call, method, id), body)
            .map_err(|_| NotSent::Error(CallError::TooLong { member, length, most: self.most }))?;
        let (answer, receiver) = oneshot::channel();
        state.last_id = id;
        state.bytes += length;
        state.waiting.insert(id, Waiting { answer, length });
        drop(state);
        self.wake.notify_one();
        Ok(Reply { link: Arc::clone(self), id, answer: receiver, has_come: false })
    }

    /// Ends it; whoever waits is told.
    pub(super) fn end(&self, error: LinkError) {
        let error = Arc::new(error);
        let waiting = {
            let mut state = self.state.lock();
            if state.ended.is_some() {
                return;
            }
            state.ended = Some(Arc::clone(&error));
            state.out = BytesMut::new();
            state.bytes = 0;
            std::mem::take(&mut state.waiting)
        };
        for (_, it) in waiting {
            let lost = CallError::Lost { member: self.met.member, source: Arc::clone(&error) };
            // Nobody may wait any more.
            let _ = it.answer.send(Err(lost));
        }
        self.wake.notify_one();
    }

    fn take(&self, id: u64) -> Option<Waiting> {
        let mut state = self.state.lock();
        let waiting = state.waiting.remove(&id)?;
        state.bytes -= waiting.length;
        Some(waiting)
    }

    /// One frame from the other side.
    fn receive(&self, frame: Frame, out: &mut BytesMut) -> Result<(), LinkError> {
        let member = self.met.member;
        let answer = match frame.kind {
            Kind::Answer => Ok(frame.body),
            Kind::Failed => Err(CallError::Failed { member, failure: read_failure(&frame.body) }),
            Kind::Declined => Err(CallError::Declined { member }),
            Kind::Pong => return Ok(()),
            Kind::Ping => {
                frame::encode(out, self.most, (Kind::Pong, 0, frame.id), b"")?;
                return Ok(());
            }
            Kind::Goodbye => {
                if let Some(refusal) = Refusal::from_json(&frame.body) {
                    return Err(LinkError::Refused(refusal));
                }
                self.state.lock().is_leaving = true;
                return Ok(());
            }
            Kind::Call => return Err(FrameError::OutOfPlace { kind: frame.kind }.into()),
        };
        // An answer that nobody waits for came too late.
        if let Some(waiting) = self.take(frame.id) {
            let _ = waiting.answer.send(answer);
        }
        Ok(())
    }

    /// Exchanges the buffer that is written for the one that has gathered meanwhile; true when
    /// nothing more is to come.
    fn gather(&self, out: &mut BytesMut) -> bool {
        let mut state = self.state.lock();
        if state.ended.is_some() {
            return true;
        }
        if out.is_empty() {
            if out.capacity() > KEPT {
                *out = BytesMut::new();
            }
            std::mem::swap(out, &mut state.out);
        }
        state.is_leaving && state.waiting.is_empty() && out.is_empty()
    }

    fn is_idle(&self) -> bool {
        self.state.lock().waiting.is_empty()
    }
}

impl Future for Reply {
    type Output = Result<Bytes, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        self.has_come = true;
        Poll::Ready(answer.unwrap_or_else(|_| {
            let (member, source) = (self.link.met.member, Arc::new(LinkError::Dropped));
            Err(CallError::Lost { member, source })
        }))
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.has_come {
            self.link.take(self.id);
        }
    }
}

/// What the task of a connection works with.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: Stream,
    /// What came behind the greeting.
    pub(super) first: Bytes,
    pub(super) ear: Arc<Ear>,
    pub(super) clock: Clock,
    pub(super) silence: Duration,
    /// Closed after so long without a call.
    pub(super) idle: Option<Duration>,
}

/// Carries frames until the connection ends; says how it did. Whoever waits is not told here.
pub(super) async fn run(link: &Link, wire: Wire) -> LinkError {
    match carry(link, wire).await {
        Ok(()) => LinkError::Dropped,
        Err(error) => error,
    }
}

async fn carry(link: &Link, mut wire: Wire) -> Result<(), LinkError> {
    let (mut reader, mut writer) = wire.stream.split();
    let (mut buffer, mut out) = (BytesMut::from(&wire.first[..]), BytesMut::new());
    let beat = beat(wire.silence);
    let mut ticks = tokio::time::interval(beat);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = wire.clock.monotonic();
    let mut used = heard;
    loop {
        while let Some(frame) = frame::decode(&mut buffer, link.most)? {
            link.was_heard.store(true, Ordering::Relaxed);
            link.receive(frame, &mut out)?;
        }
        if link.gather(&mut out) {
            return Ok(());
        }
        frame::make_room(&mut buffer);
        tokio::select! {
            biased;
            written = writer.write(&out), if !out.is_empty() => match written? {
                0 => return Err(LinkError::Closed),
                n => out.advance(n),
            },
            read = reader.read_buf(&mut buffer) => {
                if read? == 0 {
                    frame::end(&buffer)?;
                    return Err(LinkError::Closed);
                }
                heard = wire.clock.monotonic();
                wire.ear.heard(heard);
            }
            // Looked at above: something has gathered, or it was ended.
            () = link.wake.notified() => {}
            _ = ticks.tick() => {
                let now = wire.clock.monotonic();
                let silent = now.since(heard);
                if silent >= wire.silence {
                    return Err(LinkError::Silent(wire.silence));
                }
                if !link.is_idle() {
                    used = now;
                }
                if wire.idle.is_some_and(|most| now.since(used) >= most) {
                    return Ok(());
                }
                // A tick that comes a little early must not skip the ping.
                if silent >= beat / 2 {
                    frame::encode(&mut out, link.most, (Kind::Ping, 0, 0), b"")?;
                }
            }
        }
    }
}

/// How often a silent connection is pinged.
pub(super) fn beat(silence: Duration) -> Duration {
    (silence / 4).max(Duration::from_millis(1))
}

/// A failure as its frame carries it: the code, then the text.
pub(super) fn write_failure(failure: &Failure, most: usize) -> Vec<u8> {
    let mut body = failure.code.to_le_bytes().to_vec();
    let end = failure.detail.floor_char_boundary(most.saturating_sub(body.len()).min(4096));
    body.extend_from_slice(&failure.detail.as_bytes()[..end]);
    body
}

fn read_failure(body: &[u8]) -> Failure {
    let (code, text) = body.split_first_chunk().unwrap_or((&[0, 0], body));
    Failure { code: u16::from_le_bytes(*code), detail: String::from_utf8_lossy(text).into_owned() }
}

impl NotSent {
    /// As the error of a call that holds to this one connection.
    pub(super) fn or_lost(self, member: MemberId) -> CallError {
        match self {
            NotSent::Error(error) => error,
            NotSent::Over => CallError::Lost { member, source: Arc::new(LinkError::Closed) },
        }
    }
}
