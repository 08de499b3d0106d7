//! Connections between members that take their time, stand still, and break.
//!
//! What is simulated is TCP: bytes of one direction come in order or not at all. They are late by
//! chance, wait while the way between two members is blocked, in one direction or both, and are
//! lost with their connection. Different connections, and a message and its repetition on the
//! next connection, overtake each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::{Run, with};
use crate::clock::{Clock, Moment};
use crate::cluster::MemberId;
use crate::node::port::Taken;

/// Bytes that may be under way in one direction of a connection.
const WINDOW: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Wires {
    doors: BTreeMap<u16, Door>,
    pipes: BTreeMap<u64, Pipe>,
    last: u64,
    /// From whom to whom nothing gets through.
    blocked: BTreeSet<(MemberId, MemberId)>,
    latency: Range<Duration>,
    /// How often a member was unplugged.
    unplugged: BTreeMap<MemberId, u64>,
}

impl Default for Wires {
    fn default() -> Wires {
        let latency = Duration::from_micros(50)..Duration::from_millis(2);
        let (doors, pipes, blocked) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Wires { doors, pipes, last: 0, blocked, latency, unplugged: BTreeMap::new() }
    }
}

/// Somebody listens.
#[derive(Debug)]
struct Door {
    owner: MemberId,
    number: u64,
    come: VecDeque<Stream>,
    waker: Option<Waker>,
}

/// One direction of a connection.
#[derive(Debug)]
struct Pipe {
    from: MemberId,
    to: MemberId,
    under_way: VecDeque<(Moment, Vec<u8>)>,
    bytes: usize,
    /// The last of them comes then, and none before it.
    last: Moment,
    state: State,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing more is written; what is under way still comes.
    Shut,
    /// Both ends know that it is over.
    Broken,
    /// The member that wrote, or read, is gone without a word. The other end does not know.
    WriterGone,
    ReaderGone,
}

/// Where a member listens.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// Whose it is.
    pub member: MemberId,
    /// Its number; all members have one address.
    pub port: u16,
}

/// A socket of the machine stands for its port, and nobody's.
impl From<tokio::net::TcpSocket> for Port {
    fn from(socket: tokio::net::TcpSocket) -> Port {
        let port = socket.local_addr().map_or(0, |it| it.port());
        Port { member: MemberId(0), port }
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Stream {
    reads: u64,
    writes: u64,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// Where connections come.
#[derive(Debug)]
pub struct Listener {
    port: u16,
    number: u64,
}

/// Blocks the way from one member to another, or clears it.
pub fn block(from: MemberId, to: MemberId, is_blocked: bool) {
    with(|run| {
        let wires = &mut run.wires;
        if is_blocked {
            wires.blocked.insert((from, to));
        } else {
            wires.blocked.remove(&(from, to));
        }
        let these = wires.pipes.values_mut().filter(|it| (it.from, it.to) == (from, to));
        these.for_each(Pipe::wake);
    });
}

/// Breaks every connection between two members; what was under way is lost.
pub fn cut(one: MemberId, other: MemberId) {
    with(|run| {
        for pipe in run.wires.pipes.values_mut() {
            if (pipe.from, pipe.to) == (one, other) || (pipe.from, pipe.to) == (other, one) {
                pipe.end(State::Broken);
            }
        }
    });
}

/// How late bytes come from now on.
pub fn latency(time: Range<Duration>) {
    with(|run| run.wires.latency = time);
}

/// Ends all that a member has: its process was killed, or, without a word, its machine died.
pub fn unplug(member: MemberId, without_a_word: bool) {
    with(|run| {
        let wires = &mut run.wires;
        *wires.unplugged.entry(member).or_default() += 1;
        wires.doors.retain(|_, it| it.owner != member);
        for pipe in wires.pipes.values_mut() {
            let state = match without_a_word {
                _ if pipe.from != member && pipe.to != member => continue,
                false => State::Broken,
                true if pipe.from == member => State::WriterGone,
                true => State::ReaderGone,
            };
            pipe.end(state);
        }
    });
}

pub(crate) async fn connect(from: MemberId, host: &str, port: u16) -> io::Result<Stream> {
    let _ = host; // all members have the same
    let (latency, before) = with(|run| {
        let latency = run.wires.latency.clone();
        (run.within(&latency), run.wires.boot(from))
    });
    tokio::time::sleep(latency).await;
    loop {
        let connected = with(|run| run.wires.connect(from, before, port));
        if let Some(connected) = connected {
            return connected;
        }
        // Nothing comes back: whoever waits gives up, or the way is cleared.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[allow(clippy::unnecessary_wraps, reason = "as on a machine")]
pub(crate) fn listen(ports: Vec<Port>) -> Result<Vec<Listener>, Taken> {
    let listen = |Port { member, port }: Port| {
        with(|run| {
            let wires = &mut run.wires;
            wires.last += 1;
            let number = wires.last;
            wires
                .doors
                .insert(port, Door { owner: member, number, come: VecDeque::new(), waker: None });
            Listener { port, number }
        })
    };
    Ok(ports.into_iter().map(listen).collect())
}

impl Wires {
    fn boot(&self, member: MemberId) -> u64 {
        self.unplugged.get(&member).copied().unwrap_or_default()
    }

    /// `None` while no answer comes.
    fn connect(&mut self, from: MemberId, boot: u64, port: u16) -> Option<io::Result<Stream>> {
        if self.boot(from) != boot {
            return Some(Err(ErrorKind::NotConnected.into()));
        }
        let Some(door) = self.doors.get(&port) else {
            return Some(Err(ErrorKind::ConnectionRefused.into()));
        };
        let to = door.owner;
        if self.blocked.contains(&(from, to)) || self.blocked.contains(&(to, from)) {
            return None;
        }
        let mut pipe = |from, to| {
            self.last += 1;
            let (under_way, last) = (VecDeque::new(), Clock.monotonic());
            let (reader, writer) = (None, None);
            let pipe =
                Pipe { from, to, under_way, bytes: 0, last, state: State::Open, reader, writer };
            self.pipes.insert(self.last, pipe);
            self.last
        };
        let (there, back) = (pipe(from, to), pipe(to, from));
        let door = self.doors.get_mut(&port)?;
        door.come.push_back(Stream { reads: there, writes: back, sleep: None });
        if let Some(waker) = door.waker.take() {
            waker.wake();
        }
        Some(Ok(Stream { reads: back, writes: there, sleep: None }))
    }
}

impl Pipe {
    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    fn end(&mut self, state: State) {
        if !matches!(self.state, State::Open | State::Shut) {
            return;
        }
        self.state = state;
        self.under_way.clear();
        self.bytes = 0;
        self.wake();
    }
}

impl Run {
    fn pipe(&mut self, id: u64) -> io::Result<&mut Pipe> {
        self.wires.pipes.get_mut(&id).ok_or_else(|| ErrorKind::ConnectionReset.into())
    }

    /// What can be read now; when, if nothing before; `None` if nothing is known to come.
    fn read(
        &mut self,
        id: u64,
        waker: &Waker,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Option<Moment>>> {
        let reset = || Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        let Some(pipe) = self.wires.pipes.get_mut(&id) else { return reset() };
        pipe.reader = Some(waker.clone());
        match pipe.state {
            State::Broken | State::ReaderGone => return reset(),
            State::WriterGone => return Poll::Pending,
            State::Open | State::Shut => {}
        }
        if self.wires.blocked.contains(&(pipe.from, pipe.to)) {
            return Poll::Pending;
        }
        let Some((at, bytes)) = pipe.under_way.front_mut() else {
            return if pipe.state == State::Shut { Poll::Ready(Ok(None)) } else { Poll::Pending };
        };
        if *at > Clock.monotonic() {
            return Poll::Ready(Ok(Some(*at)));
        }
        let count = bytes.len().min(into.remaining());
        into.put_slice(&bytes[..count]);
        bytes.drain(..count);
        pipe.bytes -= count;
        if bytes.is_empty() {
            pipe.under_way.pop_front();
        }
        pipe.writer.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(None))
    }

    fn write(&mut self, id: u64, waker: &Waker, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let latency = self.wires.latency.clone();
        let late = self.within(&latency);
        let pipe = match self.pipe(id) {
            Ok(pipe) => pipe,
            Err(error) => return Poll::Ready(Err(error)),
        };
        match pipe.state {
            State::Broken | State::WriterGone | State::Shut => {
                return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
            }
            State::ReaderGone => return Poll::Ready(Ok(bytes.len())),
            State::Open if pipe.bytes >= WINDOW => {
                pipe.writer = Some(waker.clone());
                return Poll::Pending;
            }
            State::Open => {}
        }
        pipe.last = pipe.last.max(Clock.monotonic().after(late));
        pipe.bytes += bytes.len();
        pipe.under_way.push_back((pipe.last, bytes.to_vec()));
        pipe.reader.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(bytes.len()))
    }
}

impl Listener {
    pub(crate) async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let stream = std::future::poll_fn(|context| {
            with(|run| {
                let door = run.wires.doors.get_mut(&self.port);
                // Unplugged: nobody comes any more.
                let Some(door) = door.filter(|it| it.number == self.number) else {
                    return Poll::Pending;
                };
                door.waker = Some(context.waker().clone());
                door.come.pop_front().map_or(Poll::Pending, Poll::Ready)
            })
        });
        Ok((stream.await, SocketAddr::from(([127, 0, 0, 1], self.port))))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        with(|run| run.wires.doors.retain(|_, it| it.number != self.number));
    }
}

impl Stream {
    #[allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "as on a machine")]
    pub(crate) fn set_nodelay(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn split(&mut self) -> (ReadHalf<'_>, WriteHalf) {
        (ReadHalf { id: self.reads, sleep: &mut self.sleep }, WriteHalf(self.writes))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Not with the run's end, when the thread's own storage may be gone.
        let _ = super::RUN.try_with(|run| {
            let Ok(mut run) = run.try_borrow_mut() else { return };
            if let Ok(pipe) = run.pipe(self.writes) {
                if pipe.state == State::Open {
                    pipe.state = State::Shut;
                }
                pipe.wake();
            }
            if let Ok(pipe) = run.pipe(self.reads) {
                pipe.end(State::Broken);
            }
        });
    }
}

pub(crate) struct ReadHalf<'a> {
    id: u64,
    sleep: &'a mut Option<Pin<Box<Sleep>>>,
}

pub(crate) struct WriteHalf(u64);

fn poll_read(
    id: u64,
    sleep: &mut Option<Pin<Box<Sleep>>>,
    context: &mut Context<'_>,
    into: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    loop {
        let later = ready!(with(|run| run.read(id, context.waker(), into)))?;
        let Some(later) = later else { return Poll::Ready(Ok(())) };
        let wait = later.since(Clock.monotonic());
        ready!(sleep.insert(Box::pin(tokio::time::sleep(wait))).as_mut().poll(context));
    }
}

impl AsyncRead for ReadHalf<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let it = self.get_mut();
        poll_read(it.id, it.sleep, context, into)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let it = self.get_mut();
        poll_read(it.reads, &mut it.sleep, context, into)
    }
}

fn shut(id: u64) -> Poll<io::Result<()>> {
    with(|run| {
        if let Ok(pipe) = run.pipe(id)
            && pipe.state == State::Open
        {
            pipe.state = State::Shut;
            pipe.wake();
        }
    });
    Poll::Ready(Ok(()))
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        with(|run| run.write(self.writes, context.waker(), bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        shut(self.writes)
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        with(|run| run.write(self.0, context.waker(), bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        shut(self.0)
    }
}
