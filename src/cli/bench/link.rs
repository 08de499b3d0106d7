//! One connection of HTTP/2, as a load needs it: calls that are short and many.
//!
//! A load shares the machine with the members that it measures, so what it costs, they lack; with
//! a general client it costs more than a member does. The frames are still read by `h2`, header
//! compression included. What is ours is the table of calls: it keeps what came until the call is
//! over, wakes a client once, and sends everything that the clients wrote meanwhile in one go.
//!
//! Source: RFC 9113; RFC 7541 for the header blocks that are sent.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::Stream as _;
use h2::frame::{self, Frame, StreamId};
use h2::{Codec, Reason};
use hyper::StatusCode;
use hyper::header::HeaderMap;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

use super::fields::Fields;
use super::options::Endpoint;

/// What a client begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What may be under way towards us on one call, and on a whole connection.
const CALL_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// What either of them is before somebody says otherwise.
const FIRST_WINDOW: u32 = 65_535;
/// The longest frame that everybody takes.
const LONGEST: usize = 16_384;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Why there is nothing more of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The other side gave up this one.
    Reset(Reason),
    /// The connection is gone, and why.
    Broken(String),
}

/// A connection, by one of its users.
#[derive(Debug)]
pub(super) struct Link(Mutex<State>);

/// What has come of a call.
#[derive(Debug, Default)]
pub(super) struct Got {
    pub(super) head: Option<(Option<StatusCode>, HeaderMap)>,
    pub(super) data: VecDeque<Bytes>,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) end: Option<Result<(), Lost>>,
}

#[derive(Debug)]
struct Slot {
    got: Got,
    /// What we may send.
    window: i64,
    /// What came and was not granted anew.
    received: u32,
    /// To be woken at the end only, or by each piece.
    only_end: bool,
    is_over: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct State {
    fields: Fields,
    /// To be written as it is.
    out: BytesMut,
    /// Messages that wait for a window: the call, what is left, whether we say no more after it.
    waiting: VecDeque<(u32, Bytes, bool)>,
    calls: HashMap<u32, Slot>,
    next: u32,
    most_calls: usize,
    /// Those that wait for a place.
    outside: Vec<Waker>,
    window: i64,
    call_window: i64,
    received: u32,
    /// The other side has said what it takes.
    is_met: bool,
    broken: Option<String>,
    driver: Option<Waker>,
}

impl Link {
    /// Connects, within `limit`. Calls wait until the other side has said what it takes.
    pub(super) async fn open(endpoint: &Endpoint, limit: Duration) -> io::Result<Arc<Link>> {
        let made = async {
            let stream = TcpStream::connect(endpoint.address()).await?;
            stream.set_nodelay(true)?;
            let link = Arc::new(Link(Mutex::new(State::new(endpoint.authority()))));
            tokio::spawn(drive(Arc::downgrade(&link), Codec::new(stream)));
            Ok(link)
        };
        tokio::time::timeout(limit, made).await?
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No step is left half done by a panic that anyone survives.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a call with this message, once the other side has a place for it. `whole`: nothing
    /// more is sent, and [`Call::end`] is what is waited for.
    pub(super) async fn call(
        self: &Arc<Self>,
        path: &Bytes,
        message: Bytes,
        whole: bool,
    ) -> Result<Call, Lost> {
        let id = poll_fn(|context| {
            let mut state = self.state();
            if let Some(why) = &state.broken {
                return Poll::Ready(Err(Lost::Broken(why.clone())));
            }
            if !state.is_met || state.calls.len() >= state.most_calls {
                state.outside.push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(state.begin(path, message.clone(), whole)))
        });
        Ok(Call { id: id.await?, link: Arc::clone(self) })
    }
}

/// One call; dropped before its end, it is cancelled.
#[derive(Debug)]
pub(super) struct Call {
    link: Arc<Link>,
    id: u32,
}

impl Call {
    /// Waits for the end, and gives all that came.
    pub(super) async fn end(self) -> Result<Got, Lost> {
        self.wait(|got| got.end.is_some().then(|| std::mem::take(got))).await
    }

    /// Waits until `found` finds something in what has come so far.
    pub(super) async fn wait<T>(&self, found: impl Fn(&mut Got) -> Option<T>) -> Result<T, Lost> {
        poll_fn(|context| {
            let mut state = self.link.state();
            let Some(slot) = state.calls.get_mut(&self.id) else {
                return Poll::Ready(Err(Lost::Reset(Reason::CANCEL)));
            };
            if let Some(Err(lost)) = &slot.got.end {
                return Poll::Ready(Err(lost.clone()));
            }
            if let Some(found) = found(&mut slot.got) {
                return Poll::Ready(Ok(found));
            }
            if slot.waker.as_ref().is_none_or(|it| !it.will_wake(context.waker())) {
                slot.waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut state = self.link.state();
        let Some(slot) = state.calls.remove(&self.id) else { return };
        if !slot.is_over {
            frame::Reset::new(self.id.into(), Reason::CANCEL).encode(&mut state.out);
            state.waiting.retain(|(id, ..)| *id != self.id);
            state.wake_driver();
        }
        state.outside.drain(..).for_each(Waker::wake);
    }
}

impl State {
    fn new(authority: &str) -> State {
        let mut out = BytesMut::new();
        out.put_slice(PREFACE);
        let mut settings = frame::Settings::default();
        settings.set_initial_window_size(Some(CALL_WINDOW));
        settings.set_enable_push(false);
        settings.encode(&mut out);
        let more = CONNECTION_WINDOW - FIRST_WINDOW;
        frame::WindowUpdate::new(StreamId::ZERO, more).encode(&mut out);
        State {
            fields: Fields::new(authority),
            out,
            waiting: VecDeque::new(),
            calls: HashMap::new(),
            next: 1,
            most_calls: usize::MAX,
            outside: Vec::new(),
            window: FIRST_WINDOW.into(),
            call_window: FIRST_WINDOW.into(),
            received: 0,
            is_met: false,
            broken: None,
            driver: None,
        }
    }

    fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    fn begin(&mut self, path: &Bytes, message: Bytes, whole: bool) -> u32 {
        let id = self.next;
        self.next += 2;
        let block = self.fields.block(path);
        put_frame(&mut self.out, HEADERS, END_HEADERS, id, &block);
        let slot = Slot {
            got: Got::default(),
            window: self.call_window,
            received: 0,
            only_end: whole,
            is_over: false,
            waker: None,
        };
        self.calls.insert(id, slot);
        self.waiting.push_back((id, message, whole));
        self.wake_driver();
        id
    }

    /// Sends what the windows allow, in order.
    fn fill(&mut self) {
        while let Some((id, mut message, last)) = self.waiting.pop_front() {
            let Some(slot) = self.calls.get_mut(&id) else { continue };
            let room = slot.window.min(self.window).clamp(0, 1 << 30);
            let now = usize::try_from(room).unwrap_or(0).min(message.len()).min(LONGEST);
            if now == 0 && !message.is_empty() {
                self.waiting.push_front((id, message, last));
                return;
            }
            let piece = message.split_to(now);
            let sent = i64::try_from(now).unwrap_or(i64::MAX);
            slot.window -= sent;
            self.window -= sent;
            let is_end = last && message.is_empty();
            put_frame(&mut self.out, DATA, if is_end { END_STREAM } else { 0 }, id, &piece);
            if !message.is_empty() {
                self.waiting.push_front((id, message, last));
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Result<(), String> {
        match frame {
            Frame::Headers(frame) => {
                let (id, ends) = (u32::from(frame.stream_id()), frame.is_end_stream());
                let (pseudo, fields) = frame.into_parts();
                self.update(id, ends.then_some(Ok(())), |got| {
                    if got.head.is_none() {
                        got.head = Some((pseudo.status, fields));
                    } else {
                        got.trailers = Some(fields);
                    }
                });
            }
            Frame::Data(frame) => {
                let (id, ends) = (u32::from(frame.stream_id()), frame.is_end_stream());
                let data = frame.into_payload();
                self.grant(id, u32::try_from(data.len()).unwrap_or(u32::MAX));
                self.update(id, ends.then_some(Ok(())), |got| got.data.push_back(data));
            }
            Frame::Reset(frame) => {
                let lost = Lost::Reset(frame.reason());
                self.update(frame.stream_id().into(), Some(Err(lost)), |_| {});
            }
            Frame::Settings(frame) if !frame.is_ack() => self.settle(&frame),
            Frame::WindowUpdate(frame) => {
                let more = i64::from(frame.size_increment());
                if frame.stream_id().is_zero() {
                    self.window += more;
                } else if let Some(slot) = self.calls.get_mut(&frame.stream_id().into()) {
                    slot.window += more;
                }
            }
            Frame::Ping(frame) if !frame.is_ack() => {
                frame::Ping::pong(frame.into_payload()).encode(&mut self.out);
            }
            Frame::GoAway(frame) => {
                let why = format!("the member goes away ({})", frame.reason());
                let last = u32::from(frame.last_stream_id());
                for slot in self.calls.iter_mut().filter(|it| *it.0 > last).map(|it| it.1) {
                    slot.end(Err(Lost::Broken(why.clone())));
                }
                // What was begun before may still end; nothing new begins.
                self.broken.get_or_insert(why);
            }
            Frame::PushPromise(_) => return Err("a push that nobody asked for".to_owned()),
            Frame::Settings(_) | Frame::Ping(_) | Frame::Priority(_) => {}
        }
        Ok(())
    }

    fn settle(&mut self, settings: &frame::Settings) {
        if let Some(window) = settings.initial_window_size() {
            let change = i64::from(window) - self.call_window;
            self.call_window += change;
            self.calls.values_mut().for_each(|it| it.window += change);
        }
        if let Some(most) = settings.max_concurrent_streams() {
            self.most_calls = usize::try_from(most).unwrap_or(usize::MAX);
        }
        if let Some(size) = settings.header_table_size() {
            self.fields.limit(size);
        }
        frame::Settings::ack().encode(&mut self.out);
        self.is_met = true;
        self.outside.drain(..).for_each(Waker::wake);
    }

    /// Grants anew what came, now and then.
    fn grant(&mut self, id: u32, length: u32) {
        self.received += length;
        if self.received > CONNECTION_WINDOW / 2 {
            let all = std::mem::take(&mut self.received);
            frame::WindowUpdate::new(StreamId::ZERO, all).encode(&mut self.out);
        }
        let Some(slot) = self.calls.get_mut(&id) else { return };
        slot.received += length;
        if slot.received > CALL_WINDOW / 2 {
            let all = std::mem::take(&mut slot.received);
            frame::WindowUpdate::new(id.into(), all).encode(&mut self.out);
        }
    }

    /// Adds to what came of a call; one that was dropped meanwhile has nobody who wants it.
    fn update(&mut self, id: u32, end: Option<Result<(), Lost>>, add: impl FnOnce(&mut Got)) {
        let Some(slot) = self.calls.get_mut(&id) else { return };
        add(&mut slot.got);
        match end {
            Some(end) => slot.end(end),
            None if slot.only_end => {}
            None => slot.wake(),
        }
    }

    /// Takes all that has come, and writes what there is to say.
    fn step(
        &mut self,
        codec: &mut Codec<TcpStream, Bytes>,
        context: &mut Context<'_>,
    ) -> Result<(), String> {
        while let Poll::Ready(frame) = Pin::new(&mut *codec).poll_next(context) {
            match frame {
                Some(Ok(frame)) => self.take(frame)?,
                Some(Err(error)) => return Err(h2::Error::from(error).to_string()),
                None => return Err("the member closed it".to_owned()),
            }
        }
        self.fill();
        while !self.out.is_empty() {
            match Pin::new(&mut *codec.get_mut()).poll_write(context, &self.out) {
                Poll::Ready(Ok(0)) => return Err("nothing can be written".to_owned()),
                Poll::Ready(Ok(written)) => self.out.advance(written),
                Poll::Ready(Err(error)) => return Err(error.to_string()),
                Poll::Pending => break,
            }
        }
        self.driver = Some(context.waker().clone());
        Ok(())
    }

    fn break_off(&mut self, why: String) {
        let why = self.broken.get_or_insert(why).clone();
        self.calls.values_mut().for_each(|it| it.end(Err(Lost::Broken(why.clone()))));
        self.outside.drain(..).for_each(Waker::wake);
    }
}

impl Slot {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The first end counts: a member that has answered may reset what it did not read.
    fn end(&mut self, end: Result<(), Lost>) {
        if !self.is_over {
            self.is_over = true;
            self.got.end = Some(end);
            self.wake();
        }
    }
}

fn put_frame(out: &mut BytesMut, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    out.reserve(9 + payload.len());
    out.put_uint(payload.len() as u64, 3); // LONGEST at most
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(id);
    out.put_slice(payload);
}

/// Moves bytes until the connection ends or nobody holds it.
async fn drive(link: Weak<Link>, mut codec: Codec<TcpStream, Bytes>) {
    let ended = poll_fn(|context| match link.upgrade() {
        None => Poll::Ready(None),
        Some(link) => match link.state().step(&mut codec, context) {
            Ok(()) => Poll::Pending,
            Err(why) => Poll::Ready(Some(why)),
        },
    });
    if let (Some(why), Some(link)) = (ended.await, link.upgrade()) {
        link.state().break_off(why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A server of few and narrow calls, which answers each with what it was told, and what it
    /// says about a call that is told "reset".
    async fn echo(listener: tokio::net::TcpListener) {
        let (stream, _) = listener.accept().await.unwrap();
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(1000).max_concurrent_streams(2);
        let mut connection = builder.handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                let mut body = request.into_body();
                let mut all = BytesMut::new();
                while let Some(Ok(data)) = body.data().await {
                    let _ = body.flow_control().release_capacity(data.len());
                    all.put_slice(&data);
                }
                if all == "reset" {
                    return respond.send_reset(Reason::REFUSED_STREAM);
                }
                let mut answer = respond.send_response(hyper::Response::new(()), false).unwrap();
                answer.send_data(all.freeze(), false).unwrap();
                answer.send_trailers(HeaderMap::new()).unwrap();
            });
        }
    }

    async fn connected() -> (Arc<Link>, tokio::task::JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(echo(listener));
        let endpoint = format!("http://{address}").parse().unwrap();
        (Link::open(&endpoint, LIMIT).await.unwrap(), server)
    }

    async fn ask(link: Arc<Link>, message: Bytes) -> Result<Vec<u8>, Lost> {
        let path = Bytes::from_static(b"/echo");
        let call = tokio::time::timeout(LIMIT, link.call(&path, message, true)).await.unwrap()?;
        let got = tokio::time::timeout(LIMIT, call.end()).await.unwrap()?;
        assert_eq!(got.head.as_ref().and_then(|it| it.0), Some(StatusCode::OK));
        Ok(got.data.iter().flatten().copied().collect())
    }

    #[tokio::test]
    async fn calls_keep_to_the_windows_and_places_of_the_other_side() {
        let (link, _server) = connected().await;
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..20_u8 {
            // More than a frame, a window, and a window of ours takes.
            let size = if number == 7 { 9_000_000 } else { 20_000 };
            let message = Bytes::from(vec![number; size]);
            let link = Arc::clone(&link);
            calls.spawn(async move { (ask(link, message.clone()).await, message) });
        }
        while let Some(done) = calls.join_next().await {
            let (answer, message) = done.unwrap();
            assert!(answer.unwrap() == message, "an answer is not what was sent");
        }
        assert!(link.state().calls.is_empty());
    }

    #[tokio::test]
    async fn a_call_that_is_reset_or_dropped_leaves_the_others_alone() {
        let (link, server) = connected().await;
        let lost = ask(Arc::clone(&link), Bytes::from_static(b"reset")).await;
        assert_eq!(lost, Err(Lost::Reset(Reason::REFUSED_STREAM)));
        let path = Bytes::from_static(b"/echo");
        for _ in 0..5 {
            // It would keep its place for ever if nobody were told that it was dropped.
            let open = link.call(&path, Bytes::from_static(b"a"), false);
            drop(tokio::time::timeout(LIMIT, open).await.unwrap().unwrap());
        }
        assert_eq!(ask(Arc::clone(&link), Bytes::from_static(b"b")).await.unwrap(), b"b");
        server.abort();
        let _ = server.await;
        let lost = ask(link, Bytes::from_static(b"c")).await;
        assert!(matches!(lost, Err(Lost::Broken(_))), "{lost:?}");
    }
}
