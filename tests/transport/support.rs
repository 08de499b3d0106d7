//! A peer port with a door of its own, and peers that call it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use quorate::clock::{Clock, Moment};
use quorate::cluster::{ClusterId, Incarnation, Member, MemberId, Role};
use quorate::node::transport::frame::{self, Frame, FrameError, Kind};
use quorate::node::transport::{
    Address, Door, Failure, Hearing, Hello, Identity, Lane, Limits, Page, Peers, Refusal, Server,
    greeting, serve,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::ports;

/// Long enough for anything that is to happen.
pub const LONG: Duration = Duration::from_secs(30);

/// Gives the body back.
pub const ECHO: u8 = 1;
/// Gives the body back after as many milliseconds as its first byte says.
pub const LATER: u8 = 2;
/// Fails with code 7.
pub const FAIL: u8 = 3;
/// Writes down that it began; ends when let go by its first byte.
pub const HELD: u8 = 4;
/// Gives more than may be sent.
pub const HUGE: u8 = 5;

pub fn identity(member: u64) -> Identity {
    Identity {
        cluster: ClusterId(0xc1),
        member: MemberId(member),
        incarnation: Incarnation(member * 1000),
    }
}

/// Limits that make a test short, and yet do not end what is only slow: on a busy machine a test
/// may not have its turn for a good part of a second.
pub fn limits() -> Limits {
    Limits {
        silence: Duration::from_secs(4),
        dial: Duration::from_secs(10),
        drain: Duration::from_secs(10),
        ..Limits::default()
    }
}

pub fn peers(member: u64) -> Peers {
    Peers::new(identity(member), limits(), Clock)
}

pub fn now() -> Moment {
    Clock.monotonic()
}

pub struct House {
    pub own: Identity,
    pub refuses: Mutex<Option<Refusal>>,
    pub begun: Mutex<Vec<Bytes>>,
    let_go: Mutex<BTreeSet<u8>>,
    changed: Notify,
}

impl House {
    pub fn new(own: Identity) -> Arc<House> {
        Arc::new(House {
            own,
            refuses: Mutex::default(),
            begun: Mutex::default(),
            let_go: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Lets held calls of this first byte end.
    pub fn let_go(&self, which: u8) {
        self.let_go.lock().insert(which);
        self.changed.notify_waiters();
    }

    /// Waits until so many held calls have begun.
    pub async fn begun(&self, count: usize) {
        while self.begun.lock().len() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Door for House {
    fn identity(&self) -> Identity {
        self.own
    }

    fn greet(&self, _: &Hello) -> Result<(), Refusal> {
        self.refuses.lock().clone().map_or(Ok(()), Err)
    }

    async fn call(&self, from: &Hello, method: u8, body: Bytes) -> Result<Bytes, Failure> {
        assert_eq!(from.from.cluster, self.own.cluster);
        match method {
            ECHO => Ok(body),
            LATER => {
                tokio::time::sleep(Duration::from_millis(body[0].into())).await;
                Ok(body)
            }
            HELD => {
                self.begun.lock().push(body.clone());
                loop {
                    let changed = self.changed.notified();
                    if self.let_go.lock().contains(&body[0]) {
                        return Ok(body);
                    }
                    changed.await;
                }
            }
            HUGE => Ok(vec![0; limits().body + 1].into()),
            _ => Err(Failure { code: 7, detail: format!("no method {method}") }),
        }
    }

    fn http(&self, path: &str) -> Option<Page> {
        let member = |id, name: &str, role| Member {
            id: MemberId(id),
            name: name.to_owned(),
            peer_urls: vec![format!("http://{id}:2380")],
            client_urls: if name.is_empty() { vec![] } else { vec!["http://c:2379".to_owned()] },
            role,
        };
        match path {
            "/members" => Some(Page::members(&[
                member(u64::MAX, "etcd\"1", Role::Voter),
                member(7, "", Role::Learner),
            ])),
            "/version" => Some(Page::version("3.4.23", Some("3.4.0"))),
            _ => None,
        }
    }
}

/// A peer port that is served.
pub struct Port {
    pub at: SocketAddr,
    pub house: Arc<House>,
    pub hearing: Arc<Hearing>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Port {
    pub async fn new(member: u64) -> Port {
        Port::with(House::new(identity(member)), limits(), None).await
    }

    pub async fn with(house: Arc<House>, limits: Limits, at: Option<SocketAddr>) -> Port {
        // One that is left for a moment must not be taken by anybody's outgoing connection.
        let at = at.unwrap_or_else(|| ([127, 0, 0, 1], ports::free_port("127.0.0.1")).into());
        let listener = TcpListener::bind(at).await.unwrap();
        let at = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let hearing = Arc::<Hearing>::default();
        let server = Server {
            door: Arc::clone(&house),
            limits,
            hearing: Arc::clone(&hearing),
            clock: Clock,
        };
        let task = tokio::spawn(serve(listener, server, async { drop(stopped.await) }));
        Port { at, house, hearing, stop: Some(stop), task }
    }

    pub fn address(&self) -> Address {
        Address { id: self.house.own.member, urls: vec![self.url()], incarnation: None }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// Begins to close.
    pub fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// Waits until it is closed.
    pub async fn closed(self) {
        tokio::time::timeout(LONG, self.task).await.unwrap().unwrap();
    }

    /// Ends as a killed process does.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// A connection by hand.
pub struct Raw {
    pub stream: TcpStream,
    buffer: BytesMut,
}

impl Raw {
    pub async fn connect(at: SocketAddr) -> Raw {
        Raw::new(TcpStream::connect(at).await.unwrap())
    }

    pub fn new(stream: TcpStream) -> Raw {
        stream.set_nodelay(true).unwrap();
        Raw { stream, buffer: BytesMut::new() }
    }

    /// Greets; the head of the answer.
    pub async fn greet(&mut self, from: Identity, to: u64, lane: Lane) -> String {
        let silence = Duration::from_millis(600);
        let hello = Hello { from, to: MemberId(to), lane, silence };
        self.ask(&hello).await
    }

    pub async fn ask(&mut self, hello: &Hello) -> String {
        let mut head = format!("GET {} HTTP/1.1\r\nHost: x\r\n", greeting::PATH);
        for (name, value) in &hello.headers() {
            head = format!("{head}{name}: {}\r\n", value.to_str().unwrap());
        }
        self.send(format!("{head}\r\n").as_bytes()).await;
        self.head().await
    }

    /// Reads up to the empty line.
    pub async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|it| it == b"\r\n\r\n") {
                return String::from_utf8(self.buffer.split_to(end + 4).to_vec()).unwrap();
            }
            assert!(self.read().await, "no whole head: {:?}", self.buffer);
        }
    }

    async fn read(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.buffer);
        // Reset or closed: over in any case.
        tokio::time::timeout(LONG, read).await.unwrap().is_ok_and(|n| n > 0)
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // The other side may have hung up already.
        let _ = self.stream.write_all(bytes).await;
    }

    pub async fn call(&mut self, id: u64, body: &[u8]) {
        self.send(&call(id, body)).await;
    }

    pub async fn frame(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = frame::decode(&mut self.buffer, 16 << 20)? {
                return Ok(Some(frame));
            }
            if !self.read().await {
                return Ok(None);
            }
        }
    }

    /// Waits until the other side hangs up; what it said before that.
    pub async fn until_closed(&mut self) -> Vec<u8> {
        while self.read().await {}
        self.buffer.split().to_vec()
    }
}

/// A call of `ECHO`, as a frame.
pub fn call(id: u64, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    frame::encode(&mut out, 16 << 20, (Kind::Call, ECHO, id), body).unwrap();
    out
}

/// The yes of a member, as an answer to a greeting.
pub fn yes(own: Identity) -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{}\r\n", who(own))
}

/// The headers that say who answers.
pub fn who(own: Identity) -> String {
    format!(
        "Upgrade: {}\r\nX-Etcd-Cluster-ID: {}\r\nX-Server-From: {}\r\nX-Quorate-Incarnation: {}\r\n",
        greeting::PROTOCOL,
        own.cluster,
        own.member,
        own.incarnation
    )
}
