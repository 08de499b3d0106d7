//! Bad input, on the HTTP and on the framed side: an end for that connection and for nothing else.

use std::time::Duration;

use bytes::BytesMut;
use quorate::cluster::MemberId;
use quorate::node::transport::frame::{self, Frame, FrameError, HEADER, Kind};
use quorate::node::transport::{Address, CallError, Lane, Limits, LinkError};
use tokio::net::TcpListener;

use crate::support::*;

/// Whether an error is the one that was expected.
type IsIt = fn(&FrameError) -> bool;

/// Bytes that are no frames, and what they are taken for.
fn bad_frames() -> Vec<(Vec<u8>, IsIt)> {
    let frame = |kind| {
        let mut out = BytesMut::new();
        frame::encode(&mut out, 1 << 20, (kind, 1, 1), b"some body").unwrap();
        out.to_vec()
    };
    let with = |at: usize, bytes: &[u8]| {
        let mut frame = frame(Kind::Answer);
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    vec![
        (b"GET / HTTP/1.1\r\n".to_vec(), |e| matches!(e, FrameError::Magic { .. })),
        (vec![0; 4096], |e| matches!(e, FrameError::Magic { .. })),
        (with(0, b"XR"), |e| matches!(e, FrameError::Magic { .. })),
        (with(2, &[77]), |e| matches!(e, FrameError::Kind { found: 77 })),
        (with(4, &[0xff; 4]), |e| matches!(e, FrameError::TooLong { .. })),
        (with(4, &((16 << 20) + 1_u32).to_le_bytes()), |e| matches!(e, FrameError::TooLong { .. })),
        (with(16, &[1, 2, 3, 4]), |e| matches!(e, FrameError::Checksum { .. })),
        (with(HEADER, b"S"), |e| matches!(e, FrameError::Checksum { .. })),
    ]
}

#[tokio::test]
async fn bad_frames_end_the_one_connection_they_come_on() {
    let port = Port::new(2).await;
    let peer = peers(1).peer(&port.address());
    let held = tokio::spawn({
        let peer = peer.clone();
        async move { peer.call(HELD, &[1], LONG).await }
    });
    port.house.begun(1).await;
    let answer_frame = {
        let mut out = BytesMut::new();
        frame::encode(&mut out, 100, (Kind::Answer, 0, 1), b"nobody asked").unwrap();
        out.to_vec()
    };
    let truncated = call(2, &[9; 100])[..50].to_vec();
    let all = bad_frames().into_iter().map(|it| it.0).chain([answer_frame]);
    for (n, bytes) in all.enumerate() {
        for lane in [Lane::Calls, Lane::Append, Lane::Bulk] {
            let mut raw = Raw::connect(port.at).await;
            let head = raw.greet(identity(5), 2, lane).await;
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            raw.call(1, b"before").await;
            let Frame { body, .. } = raw.frame().await.unwrap().unwrap();
            assert_eq!(body, "before");
            raw.send(&bytes).await;
            let rest = raw.until_closed().await;
            assert!(rest.is_empty(), "{n}: {rest:?}");
        }
        assert_eq!(peer.call(ECHO, b"undisturbed", LONG).await.unwrap(), "undisturbed");
    }
    // Half a frame and then the end.
    let mut raw = Raw::connect(port.at).await;
    raw.greet(identity(5), 2, Lane::Calls).await;
    raw.send(&truncated).await;
    drop(raw);
    // A frame right behind the greeting, before that was answered, is none too many.
    let hello = quorate::node::transport::Hello {
        from: identity(6),
        to: MemberId(2),
        lane: Lane::Calls,
        silence: Duration::from_secs(1),
    };
    let mut raw = Raw::connect(port.at).await;
    let mut bytes = b"GET /quorate/raft HTTP/1.1\r\nHost: x\r\n".to_vec();
    for (name, value) in &hello.headers() {
        bytes.extend_from_slice(format!("{name}: {}\r\n", value.to_str().unwrap()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&call(3, b"early"));
    raw.send(&bytes).await;
    raw.head().await;
    assert_eq!(raw.frame().await.unwrap().unwrap().body, "early");

    port.house.let_go(1);
    assert_eq!(held.await.unwrap().unwrap(), &[1][..]);
}

#[tokio::test]
async fn bad_frames_from_a_peer_are_a_typed_loss_of_its_connection() {
    for (bytes, is_it) in bad_frames() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let mut raw = Raw::new(listener.accept().await.unwrap().0);
            raw.head().await;
            raw.send(yes(identity(2)).as_bytes()).await;
            let id = raw.frame().await.unwrap().unwrap().id;
            let mut out = BytesMut::new();
            frame::encode(&mut out, 100, (Kind::Answer, 0, id + 100), b"nobody asked").unwrap();
            out.extend_from_slice(&bytes);
            raw.send(&out).await;
            raw.until_closed().await
        });
        let address = Address { id: MemberId(2), urls: vec![url], incarnation: None };
        let error = peers(1).peer(&address).call(ECHO, b"", LONG).await.unwrap_err();
        let CallError::Lost { source, .. } = &error else { panic!("{error:?}") };
        let LinkError::Frame(found) = &**source else { panic!("{source:?}") };
        assert!(is_it(found), "{found:?}");
        server.await.unwrap();
    }
}

#[tokio::test]
async fn what_is_no_http_is_hung_up_on() {
    let quick = Limits { greeting: Duration::from_secs(1), ..limits() };
    let port = Port::with(House::new(identity(2)), quick, None).await;
    let peer = peers(1).peer(&port.address());
    let long_header = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(1 << 20));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        &call(1, b"no greeting"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        long_header.as_bytes(),
        many_headers.as_bytes(),
        // Never whole: nothing, half a line, half a head, half a body.
        b"",
        b"GET /mem",
        b"GET /members HTTP/1.1\r\nHost: x\r\n",
        b"POST /members HTTP/1.1\r\nContent-Length: 1000\r\n\r\nhalf",
    ] {
        let began = now();
        let mut raw = Raw::connect(port.at).await;
        raw.send(bytes).await;
        raw.until_closed().await;
        assert!(now().since(began) < LONG / 3, "{bytes:?}");
        assert_eq!(peer.call(ECHO, b"undisturbed", LONG).await.unwrap(), "undisturbed");
    }
}

#[tokio::test]
async fn a_thousand_half_open_connections_keep_no_peer_out() {
    // None of them goes because its time is over.
    let slow = Limits { greeting: 10 * LONG, ..limits() };
    let port = Port::with(House::new(identity(2)), slow, None).await;
    let mut idle = Vec::new();
    for n in 0..1000 {
        let mut raw = Raw::connect(port.at).await;
        if n % 2 == 0 {
            raw.send(b"GET /quorate/raft HTTP/1.1\r\nHost:").await;
        }
        idle.push(raw);
    }
    let began = now();
    let peers = peers(1);
    let peer = peers.peer(&port.address());
    assert_eq!(peer.call(ECHO, b"in", LONG).await.unwrap(), "in");
    assert!(now().since(began) < LONG / 3, "{:?}", now().since(began));
    // Only so many are kept, the newest.
    let gone = idle.len() - limits().half_open;
    for raw in &mut idle[..gone] {
        raw.until_closed().await;
    }
    // And a flood that goes on does not matter to those who are in.
    let flood = tokio::spawn(async move {
        loop {
            idle.push(Raw::connect(port.at).await);
            idle.drain(..idle.len().saturating_sub(1500));
        }
    });
    for n in 0..100_u8 {
        assert_eq!(peer.call(ECHO, &[n], LONG).await.unwrap(), &[n][..]);
    }
    assert_eq!(peer.bulk(ECHO, b"anew", LONG).await.unwrap(), "anew");
    flood.abort();
}

#[tokio::test]
async fn one_member_has_few_connections_on_a_lane_and_all_together_not_too_many() {
    let few = Limits { greeted: 6, ..limits() };
    let port = Port::with(House::new(identity(2)), few, None).await;
    let mut same = Vec::new();
    for _ in 0..5 {
        let mut raw = Raw::connect(port.at).await;
        raw.greet(identity(5), 2, Lane::Append).await;
        same.push(raw);
    }
    assert!(same[0].until_closed().await.is_empty());
    same[4].call(1, b"x").await;
    assert_eq!(same[4].frame().await.unwrap().unwrap().body, "x");
    for (lane, status) in [(Lane::Calls, "101"), (Lane::Bulk, "101"), (Lane::Bulk, "503")] {
        let mut raw = Raw::connect(port.at).await;
        let head = raw.greet(identity(6), 2, lane).await;
        assert_eq!(&head["HTTP/1.1 ".len()..][..3], status, "{head}");
        same.push(raw);
    }
}
