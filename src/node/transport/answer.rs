//! One greeted connection, from the side that answers: a single task reads calls, runs the
//! [`Door`]'s futures and writes what they give.
//!
//! It never stops to read because of calls that take long, so that pings are answered meanwhile;
//! a call beyond the bound is declined. It does stop while the other side does not read.

use std::convert::Infallible;
use std::future::Future;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::future::FutureExt;
use futures_util::stream::{FuturesOrdered, FuturesUnordered, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::error::{Failure, LinkError};
use super::frame::{self, Frame, FrameError, Kind};
use super::greeting::{Hello, Refusal};
use super::hearing::Ear;
use super::{Door, Lane, Limits, link};
use crate::clock::Clock;
use crate::node::ground::net::Stream;

/// While so much is unread by the other side, nothing more is taken from it.
const UNREAD: usize = 8 << 20;
/// Codes of failures that are the transport's own.
const ANSWER_TOO_LONG: u16 = u16::MAX;

/// Calls that are carried out, side by side or in order.
enum Work<F: Future> {
    Beside(FuturesUnordered<F>),
    InOrder(FuturesOrdered<F>),
}

impl<F: Future> Work<F> {
    fn push(&mut self, call: F) {
        match self {
            Work::Beside(work) => work.push(call),
            Work::InOrder(work) => work.push_back(call),
        }
    }

    fn len(&self) -> usize {
        match self {
            Work::Beside(work) => work.len(),
            Work::InOrder(work) => work.len(),
        }
    }

    async fn next(&mut self) -> Option<F::Output> {
        match self {
            Work::Beside(work) => work.next().await,
            Work::InOrder(work) => work.next().await,
        }
    }
}

/// What has come of a call.
struct Done {
    id: u64,
    length: usize,
    result: Result<Bytes, Failure>,
}

/// What the task of a connection works with.
pub(super) struct Wire<'a> {
    pub(super) hello: Hello,
    pub(super) limits: &'a Limits,
    pub(super) clock: Clock,
    pub(super) ear: &'a Ear,
    pub(super) stopping: watch::Receiver<bool>,
}

/// Answers until the connection ends; says how it did.
pub(super) async fn run<D: Door>(
    door: &D,
    wire: Wire<'_>,
    stream: Stream,
    first: Bytes,
) -> LinkError {
    match carry(door, wire, stream, first).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn carry<D: Door>(
    door: &D,
    mut wire: Wire<'_>,
    mut stream: Stream,
    first: Bytes,
) -> Result<Infallible, LinkError> {
    let Wire { hello, limits, clock, ear, ref mut stopping } = wire;
    let (bound, most) = (limits.bound(hello.lane), limits.most(hello.lane));
    let silence = hello.silence.max(limits.silence).min(limits.silence * 16);
    let (mut reader, mut writer) = stream.split();
    let (mut buffer, mut out) = (BytesMut::from(&first[..]), BytesMut::new());
    let mut work = match hello.lane {
        Lane::Append => Work::InOrder(FuturesOrdered::new()),
        Lane::Calls | Lane::Bulk => Work::Beside(FuturesUnordered::new()),
    };
    let call = |method, id, body: Bytes| async move {
        let length = body.len();
        Done { id, length, result: door.call(&hello, method, body).await }
    };
    let mut bytes = 0;
    let mut is_stopping = false;
    let mut ticks = tokio::time::interval(link::beat(limits.silence));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = clock.monotonic();
    loop {
        while out.len() < UNREAD
            && let Some(Frame { kind, method, id, body }) = frame::decode(&mut buffer, most)?
        {
            match kind {
                Kind::Call
                    if is_stopping
                        || work.len() >= bound.calls
                        || bytes + body.len() > bound.bytes =>
                {
                    frame::encode(&mut out, most, (Kind::Declined, 0, id), b"")?;
                }
                Kind::Call => {
                    bytes += body.len();
                    work.push(call(method, id, body));
                }
                Kind::Ping => frame::encode(&mut out, most, (Kind::Pong, 0, id), b"")?,
                Kind::Pong => {}
                kind => return Err(FrameError::OutOfPlace { kind }.into()),
            }
        }
        // All that are ready share one write.
        while out.len() < UNREAD
            && let Some(Some(done)) = work.next().now_or_never()
        {
            bytes -= done.length;
            write(&mut out, most, done)?;
        }
        frame::make_room(&mut buffer);
        if out.is_empty() && out.capacity() > UNREAD {
            out = BytesMut::new();
        }
        tokio::select! {
            biased;
            written = writer.write(&out), if !out.is_empty() => match written? {
                0 => return Err(LinkError::Closed),
                n => out.advance(n),
            },
            read = reader.read_buf(&mut buffer), if out.len() < UNREAD => {
                if read? == 0 {
                    frame::end(&buffer)?;
                    return Err(LinkError::Closed);
                }
                heard = clock.monotonic();
                ear.heard(heard);
            }
            Some(done) = work.next(), if work.len() > 0 && out.len() < UNREAD => {
                bytes -= done.length;
                write(&mut out, most, done)?;
            }
            // The other side hangs up when all it waits for is answered.
            () = async { drop(stopping.wait_for(|it| *it).await) }, if !is_stopping => {
                is_stopping = true;
                frame::encode(&mut out, most, (Kind::Goodbye, 0, 0), b"")?;
            }
            _ = ticks.tick() => {
                if clock.monotonic().since(heard) >= silence {
                    return Err(LinkError::Silent(silence));
                }
                if let Err(refusal) = door.greet(&hello) {
                    return Err(farewell(&mut writer, refusal, most, out).await);
                }
            }
        }
    }
}

fn write(out: &mut BytesMut, most: usize, done: Done) -> Result<(), FrameError> {
    let Done { id, result, .. } = done;
    let result = result.and_then(|body| {
        frame::encode(out, most, (Kind::Answer, 0, id), &body)
            .map_err(|error| Failure { code: ANSWER_TOO_LONG, detail: error.to_string() })
    });
    let Err(failure) = result else { return Ok(()) };
    frame::encode(out, most, (Kind::Failed, 0, id), &link::write_failure(&failure, most))
}

/// Says why it ends, if that can be said without waiting.
async fn farewell(
    writer: &mut (impl AsyncWriteExt + Unpin),
    refusal: Refusal,
    most: usize,
    mut out: BytesMut,
) -> LinkError {
    if frame::encode(&mut out, most, (Kind::Goodbye, 0, 0), &refusal.to_json()).is_ok() {
        // It learns the same when it asks again.
        let _ = writer.write_all(&out).now_or_never();
        let _ = writer.shutdown().await;
    }
    LinkError::Refused(refusal)
}
