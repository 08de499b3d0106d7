//! Bad input on both ports of a running node: an end for the connection it comes on, and nothing
//! else. Others are served meanwhile, and memory stays where it was.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use quorate::cluster::MemberId;
use quorate::node::embedded::raise_file_limit;
use quorate::node::transport::frame::{self, Kind};
use quorate::node::transport::{Hello, Identity, Lane};
use quorate::proto::etcdserverpb::PutRequest;
use quorate::proto::etcdserverpb::kv_client::KvClient;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::Code::{Cancelled, Internal, InvalidArgument, ResourceExhausted, Unknown};
use tonic::transport::{Channel, Endpoint};

use super::support::{Cluster, Engine, Node, eventually, now};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much more a node may hold after it than before, in KiB.
const GROWTH: u64 = 64 << 10;

fn address(url: &str) -> &str {
    url.trim_start_matches("http://")
}

fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(address(url)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_mins(2))).expect("a limit");
    stream.set_write_timeout(Some(Duration::from_mins(2))).expect("a limit");
    stream
}

/// Reads until the other side closes; fails if it never does.
#[track_caller]
fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it stays open"),
        // Closed with bytes of ours unread.
        _ => answer,
    }
}

/// Says it and nothing more; what came back until the other side closed.
#[track_caller]
fn say(url: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(url);
    // It may close before all is sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    until_closed(&mut stream)
}

/// What a process holds in memory, in KiB.
fn resident(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("it runs");
    let line = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|it| (it.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// One connection of somebody else, on which a put follows the other.
struct Neighbour {
    puts: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    runtime: Runtime,
    task: Option<JoinHandle<Result<(), String>>>,
}

impl Neighbour {
    fn start(node: &Node) -> Neighbour {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
        let (puts, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped, url) = (Arc::clone(&puts), Arc::clone(&stop), node.client.clone());
        let task = runtime.spawn(async move {
            let endpoint = Endpoint::from_shared(url).map_err(|e| e.to_string())?;
            let channel = endpoint.connect().await.map_err(|e| e.to_string())?;
            let mut kv = KvClient::new(channel);
            while !stopped.load(Ordering::Relaxed) {
                let (key, value) = ("neighbour".into(), "v".into());
                let request = PutRequest { key, value, ..PutRequest::default() };
                let put = tokio::time::timeout(Duration::from_secs(20), kv.put(request)).await;
                put.map_err(|_| "no answer".to_owned())?.map_err(|e| e.to_string())?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let mut it = Neighbour { puts, stop, runtime, task: Some(task) };
        it.goes_on();
        it
    }

    /// Waits for a few more of its puts.
    #[track_caller]
    fn goes_on(&mut self) {
        let before = self.puts.load(Ordering::Relaxed);
        eventually("the neighbour is served", || {
            if self.task.as_ref().is_none_or(JoinHandle::is_finished) {
                self.end();
            }
            (self.puts.load(Ordering::Relaxed) >= before + 3).then_some(())
        });
    }

    /// Not one of its puts failed.
    #[track_caller]
    fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.end();
    }

    #[track_caller]
    fn end(&mut self) {
        let task = self.task.take().expect("it runs");
        self.runtime.block_on(task).expect("no panic").expect("every put was served");
    }
}

/// An HTTP/2 connection with one frame on it.
fn http2(length: [u8; 3], kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let head = [length[0], length[1], length[2], kind, 4, 0, 0, 0, stream];
    [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &head, payload].concat()
}

#[test]
fn garbage_on_either_port_ends_its_own_connection_only() {
    let cluster = Cluster::running(Engine::Embedded, 1);
    let node = &cluster.nodes[0];
    let mut neighbour = Neighbour::start(node);
    let before = resident(node);
    let noise = noise(100_000);
    for url in [&node.client, &node.peer] {
        for bytes in [
            vec![],
            b"\0".to_vec(),
            vec![0; 70_000],
            noise.clone(),
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), // the beginning of TLS
            b"GET / HTTP/9.9\r\n\r\n".to_vec(),
            b"GET /health HTTP/1.1\r\nHost".to_vec(),
            [b"GET /".as_slice(), &vec![b'a'; 2 << 20]].concat(),
            [b"GET / HTTP/1.1\r\nx: ".as_slice(), &vec![b'a'; 2 << 20]].concat(),
            b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{".to_vec(),
            b"POST /members HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_vec(),
            b"GET /quorate/raft HTTP/1.1\r\nHost: x\r\nUpgrade: quorate-raft/1\r\nConnection: Upgrade\r\n\r\n"
                .to_vec(),
            b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
            [PREFACE, &noise].concat(),
            http2([0xff, 0xff, 0xff], 1, 1, &noise), // HEADERS of 16 MiB
            http2([0, 0x40, 0], 1, 1, &noise[..0x4000]), // HEADERS of noise
            http2([0, 0, 1], 1, 1, b"\xff"),         // an integer that is cut off
            http2([0, 0, 4], 9, 1, b"\x82\x86\x84\x41"), // CONTINUATION of nothing
        ] {
            for _ in 0..3 {
                say(url, &bytes);
            }
            neighbour.goes_on();
        }
    }
    assert!(String::from_utf8_lossy(&say(&node.client, b"no\r\n\r\n")).starts_with("HTTP/1.1 400"));
    neighbour.stop();
    let after = resident(node);
    assert!(after < before + GROWTH, "{before} KiB before, {after} after");
}

#[test]
fn requests_that_are_too_large_are_refused_and_not_held() {
    let cluster = Cluster::running(Engine::Embedded, 1);
    let node = &cluster.nodes[0];
    let mut neighbour = Neighbour::start(node);
    let before = resident(node);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let endpoint = Endpoint::from_shared(node.client.clone()).unwrap();
        let channel: Channel = endpoint.connect().await.unwrap();
        let mut kv = KvClient::new(channel).max_encoding_message_size(usize::MAX);
        for size in [(3 << 19) + 1, 3 << 20, 64 << 20] {
            let value = vec![b'v'; size].into();
            let request = PutRequest { key: "k".into(), value, ..PutRequest::default() };
            let limit = Duration::from_secs(60);
            let answer = tokio::time::timeout(limit, kv.put(request)).await.expect("an answer");
            let status = answer.expect_err("more than is taken");
            // What is cut off in the midst may be told as a stream that was reset.
            let codes = [InvalidArgument, ResourceExhausted, Cancelled, Internal, Unknown];
            assert!(codes.contains(&status.code()), "{size}: {status:?}");
        }
        let request = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
        kv.put(request).await.expect("the same connection serves what is not too large");
    });
    neighbour.goes_on();
    neighbour.stop();
    let after = resident(node);
    assert!(after < before + GROWTH, "{before} KiB before, {after} after");
}

/// A connection that is greeted as one of this member; the head of the answer.
fn greet(to: &Node, from: Identity, target: MemberId, lane: Lane) -> (TcpStream, String) {
    let hello = Hello { from, to: target, lane, silence: Duration::from_secs(10) };
    let mut request = b"GET /quorate/raft HTTP/1.1\r\nHost: x\r\n".to_vec();
    for (name, value) in &hello.headers() {
        let line = format!("{name}: {}\r\n", value.to_str().expect("text"));
        request.extend_from_slice(line.as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    let mut stream = connect(&to.peer);
    stream.write_all(&request).expect("sent");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("an answer") == 1 {
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).expect("text"))
}

#[test]
fn frames_that_are_none_end_a_greeted_connection_and_nothing_else() {
    let cluster = Cluster::of(Engine::Embedded, 3);
    // A busy machine is not to make another one the leader: the neighbour bears no failed put.
    let start = |node: &Node| cluster.start(node).set("ETCD_ELECTION_TIMEOUT", "5000");
    for node in &cluster.nodes {
        node.run(start(node));
    }
    for node in &cluster.nodes {
        node.serves();
    }
    let [a, _, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    let stamp = c.home.stamp().unwrap().unwrap();
    let member = |node: &Node| Cluster::founder(node);
    let own =
        Identity { cluster: stamp.cluster, member: stamp.member, incarnation: stamp.incarnation };
    c.stop();
    let mut neighbour = Neighbour::start(a);
    let before = resident(a);

    // Who is not who it says is turned away before the first frame.
    let wrong = Identity { cluster: quorate::cluster::ClusterId(1), ..own };
    let (_, head) = greet(a, wrong, member(a), Lane::Calls);
    assert!(head.starts_with("HTTP/1.1 412 "), "{head}");
    let wrong = Identity { incarnation: quorate::cluster::Incarnation(1), ..own };
    let (_, head) = greet(a, wrong, member(a), Lane::Calls);
    assert!(head.starts_with("HTTP/1.1 409 "), "{head}");
    let (_, head) = greet(a, own, member(c), Lane::Calls);
    assert!(head.starts_with("HTTP/1.1 421 "), "{head}");

    let good = |method: u8, body: &[u8]| {
        let mut out = BytesMut::new();
        frame::encode(&mut out, 1 << 20, (Kind::Call, method, 1), body).expect("short");
        out.to_vec()
    };
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = good(1, b"some body");
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 4096],
        noise(100_000),
        with(0, b"XR"),                                   // another magic
        with(2, &[77]),                                   // an unknown kind
        with(4, &[0xff; 4]),                              // 4 GiB
        [with(4, &[0xff; 4]), vec![1; 4 << 20]].concat(), // and some of it
        with(16, &[1, 2, 3, 4]),                          // a checksum that is none
    ] {
        for lane in [Lane::Calls, Lane::Append, Lane::Bulk] {
            let (mut stream, head) = greet(a, own, member(a), lane);
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            let _ = stream.write_all(&bytes); // it may be closed in the midst
            until_closed(&mut stream);
        }
        neighbour.goes_on();
    }
    // Whole frames whose bodies are none: an answer that says so, or the end.
    for method in 0..=20 {
        let (mut stream, _) = greet(a, own, member(a), Lane::Calls);
        stream.write_all(&good(method, &noise(1000))).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("ours");
        until_closed(&mut stream);
    }
    // Cut off within a frame.
    for length in [1, 19, 20, 25] {
        let (mut stream, _) = greet(a, own, member(a), Lane::Calls);
        stream.write_all(&with(0, b"")[..length]).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("ours");
        until_closed(&mut stream);
    }
    neighbour.goes_on();
    neighbour.stop();
    let after = resident(a);
    assert!(after < before + GROWTH, "{before} KiB before, {after} after");
    // Nobody holds against the real one what was said in its name.
    c.run(start(c));
    c.serves();
}

#[test]
fn a_thousand_half_open_connections_on_either_port_are_borne_and_go_by_themselves() {
    raise_file_limit().expect("room for so many");
    let cluster = Cluster::running(Engine::Embedded, 1);
    let node = &cluster.nodes[0];
    let mut neighbour = Neighbour::start(node);
    let before = resident(node);
    for url in [&node.client, &node.peer] {
        let begins = [
            &b""[..],
            &PREFACE[..9],
            b"GET /health HTTP/1.1\r\nHost",
            b"GET /quorate/raft HTTP/1.1\r\nUpgr",
        ];
        let open = |number: usize| {
            let mut stream = connect(url);
            // The oldest may be closed by now.
            let _ = stream.write_all(begins[number % begins.len()]);
            stream
        };
        let mut silent: Vec<_> = (0..1000).map(open).collect();
        neighbour.goes_on();
        let begun = now();
        node.ask(&["put", "k", "v"]); // a new client is served
        // Who really is a peer is let in beside them.
        let seen =
            say(&node.peer, b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert!(String::from_utf8_lossy(&seen).contains("etcdserver"), "{seen:?}");
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        let after = resident(node);
        assert!(after < before + GROWTH, "{before} KiB before, {after} after");
        // Each is closed by the node, with nothing more said on it.
        for stream in &mut silent {
            until_closed(stream);
        }
    }
    neighbour.goes_on();
    neighbour.stop();
}
