//! Clients that are slow, silent, many or mad, and the end of the server: none of it is felt by
//! anyone else.

use std::time::Duration;

use futures_util::stream::unfold;
use quorate::node::api::Options;
use quorate::node::apply::NO_QUOTA;
use quorate::proto::etcdserverpb::kv_client::KvClient;
use quorate::proto::etcdserverpb::lease_client::LeaseClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::support::{Answer, PATIENCE, Served, get, put};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Sends and reads until the server closes; what it answered.
async fn say(served: &Served, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(&served.address).await.unwrap();
    // The server may close before it has read all.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn garbage_hurts_nobody_else() {
    let served = Served::start().await;
    let mut kv = KvClient::new(served.channel().await);
    let frame = |length: [u8; 3], kind: u8, stream: u8, payload: &[u8]| {
        let head = [length[0], length[1], length[2], kind, 4, 0, 0, 0, stream];
        [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], &head, payload].concat()
    };
    let noise: Vec<u8> =
        (0..100_000_u32).map(|it| (it.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for bytes in [
        vec![],
        b"\0".to_vec(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), // the beginning of TLS
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_vec(),
        [b"GET /".as_slice(), &vec![b'a'; 200_000]].concat(),
        noise.clone(),
        [PREFACE, &noise].concat(),
        frame([0xff, 0xff, 0xff], 1, 1, &noise), // HEADERS of 16 MiB
        frame([0, 0x40, 0], 1, 1, &noise[..0x4000]), // HEADERS of noise
        frame([0, 0, 1], 1, 1, b"\xff"),         // an integer that is cut off
        frame([0, 0, 0], 1, 0, b""),             // HEADERS of the connection
        frame([0, 0, 4], 9, 1, b"\x82\x86\x84\x41"), // CONTINUATION of nothing
    ] {
        say(&served, &bytes).await;
        kv.put(put("a", "b")).await.unwrap();
    }
    let refused = say(&served, b"nonsense\r\n\r\n").await;
    assert_eq!(Answer::read(&String::from_utf8_lossy(&refused)).status, 400);
}

#[tokio::test]
async fn a_thousand_half_open_connections_go_by_themselves() {
    let greeting = Duration::from_secs(2);
    let served = Served::start_with(Options { greeting, ..Options::default() }, NO_QUOTA).await;
    let mut kv = KvClient::new(served.channel().await);
    let mut silent = Vec::new();
    for number in 0..1000 {
        let mut stream = TcpStream::connect(&served.address).await.unwrap();
        // Silent, in the midst of a preface, behind it, and in the midst of a header.
        let begins = [&b""[..], &PREFACE[..9], PREFACE, b"GET /health HTTP/1.1\r\nHost"];
        let begin = begins[number % begins.len()];
        stream.write_all(begin).await.unwrap();
        silent.push(stream);
    }
    let began = Instant::now();
    kv.put(put("a", "b")).await.unwrap();
    assert_eq!(served.get("/health").await.0, 200);
    assert!(began.elapsed() < PATIENCE / 3, "{:?}", began.elapsed());
    for stream in &mut silent {
        let mut rest = Vec::new();
        // An answer that says so, or just the end.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    }
    kv.range(get("a")).await.unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let options = Options { max_connections: 2, ..Options::default() };
    let served = Served::start_with(options, NO_QUOTA).await;
    let first = served.channel().await;
    let mut kv = KvClient::new(first.clone());
    kv.put(put("a", "b")).await.unwrap();
    let second = TcpStream::connect(&served.address).await.unwrap();
    let waiting = served.get("/health");
    let mut waiting = std::pin::pin!(waiting);
    assert!(timeout(Duration::from_millis(300), &mut waiting).await.is_err());
    kv.put(put("a", "c")).await.unwrap();
    drop(second);
    assert_eq!(timeout(PATIENCE, waiting).await.unwrap().0, 200);
}

#[tokio::test]
async fn more_streams_than_allowed_wait_for_each_other() {
    let options = Options { max_concurrent_streams: 3, ..Options::default() };
    let served = Served::start_with(options, NO_QUOTA).await;
    let channel = served.channel().await;
    let mut kv = KvClient::new(channel.clone());
    kv.put(put("a", "b")).await.unwrap(); // the settings are known by now
    let mut lease = LeaseClient::new(channel);
    let mut open = Vec::new();
    for _ in 0..3 {
        // A stream of nothing, until the other half of the channel is dropped.
        let (end, ended) = oneshot::channel::<()>();
        let nothing = unfold(ended, async |ended| {
            let _ = ended.await;
            None
        });
        open.push((end, lease.lease_keep_alive(nothing).await.unwrap()));
    }
    let late = kv.put(put("a", "c"));
    let mut late = std::pin::pin!(late);
    assert!(timeout(Duration::from_millis(300), &mut late).await.is_err());
    open.pop();
    timeout(PATIENCE, late).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_end_takes_no_longer_than_its_grace() {
    let grace = Duration::from_millis(400);
    let mut served = Served::start_with(Options { grace, ..Options::default() }, NO_QUOTA).await;
    let channel = served.channel().await;
    KvClient::new(channel.clone()).put(put("a", "b")).await.unwrap();
    let silent = TcpStream::connect(&served.address).await.unwrap();
    let mut half = TcpStream::connect(&served.address).await.unwrap();
    half.write_all(b"PUT /v2/members/1 HTTP/1.1\r\nContent-Length: 9\r\n").await.unwrap();
    let began = Instant::now();
    served.stop().await;
    // What is silent and half said would otherwise stay for its greeting's ten seconds.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(TcpStream::connect(&served.address).await.is_err());
    KvClient::new(channel).put(put("a", "b")).await.unwrap_err();
    drop((silent, half));
}
