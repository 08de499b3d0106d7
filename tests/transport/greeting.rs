//! Who may connect: each refusal typed from end to end, and what the one that called mistrusts.

use std::time::Duration;

use quorate::clock::Clock;
use quorate::cluster::{ClusterId, Incarnation, MemberId};
use quorate::node::transport::{
    Address, CallError, DialError, Hello, Identity, Lane, Peers, Refusal, RefusalKind,
};
use tokio::net::TcpListener;

use crate::support::*;

fn refusal(error: &CallError) -> &Refusal {
    let CallError::Refused { refusal, .. } = error else { panic!("{error:?}") };
    refusal
}

fn mistaken(error: &CallError) -> &Refusal {
    let CallError::Unreachable { source, .. } = error else { panic!("{error:?}") };
    let DialError::Mistaken { why, .. } = &**source else { panic!("{error:?}") };
    why
}

/// The status of a greeting.
async fn status(port: &Port, from: Identity, to: u64) -> String {
    let head = Raw::connect(port.at).await.greet(from, to, Lane::Calls).await;
    assert!(head.to_ascii_lowercase().contains("x-etcd-cluster-id: c1\r\n"), "{head}");
    head["HTTP/1.1 ".len()..][..3].to_owned()
}

#[tokio::test]
async fn each_refusal_arrives_with_its_type_and_its_words() {
    let port = Port::new(2).await;
    let first = identity(1);

    let peers_1 = peers(1);
    for kind in [RefusalKind::Removed, RefusalKind::WrongIncarnation, RefusalKind::NotReady] {
        let said = Refusal::new(kind, format!("because of {kind:?}"));
        *port.house.refuses.lock() = Some(said.clone());
        let error = peers_1.peer(&port.address()).call(ECHO, b"", LONG).await.unwrap_err();
        assert_eq!(refusal(&error), &said);
        assert!(!error.may_have_happened());
        assert_eq!(*peers_1.refusals().borrow(), Some((MemberId(2), said)));
        let (found, expected) = (status(&port, first, 2).await, kind.status().as_u16());
        assert_eq!(found, expected.to_string());
    }
    *port.house.refuses.lock() = None;

    let other = Identity { cluster: ClusterId(0xc2), ..first };
    let peer = Peers::new(other, limits(), Clock).peer(&port.address());
    let error = peer.call(ECHO, b"", LONG).await.unwrap_err();
    assert_eq!(refusal(&error).kind, RefusalKind::ClusterIdMismatch);
    assert_eq!(
        error_text(&error),
        "member 2 refuses this member: member 1 belongs to cluster c2, member 2 to cluster c1"
    );
    assert_eq!(status(&port, other, 2).await, "412");

    let wrong = Address { id: MemberId(3), ..port.address() };
    let error = peers(1).peer(&wrong).call(ECHO, b"", LONG).await.unwrap_err();
    assert_eq!(refusal(&error).kind, RefusalKind::WrongTarget);
    assert_eq!(refusal(&error).detail, "this is member 2, not 3");
    assert_eq!(status(&port, first, 3).await, "421");
    assert_eq!(
        status(&port, Identity { incarnation: Incarnation(5), ..identity(2) }, 2).await,
        "421"
    );

    assert_eq!(status(&port, first, 2).await, "101");
    assert_eq!(peers_1.peer(&port.address()).call(ECHO, b"in", LONG).await.unwrap(), "in");
}

#[tokio::test]
async fn another_version_is_told_so_in_both_directions() {
    let port = Port::new(2).await;
    let hello = Hello {
        from: identity(1),
        to: MemberId(2),
        lane: Lane::Calls,
        silence: Duration::from_secs(1),
    };
    let mut raw = Raw::connect(port.at).await;
    let mut head = "GET /quorate/raft HTTP/1.1\r\nHost: x\r\n".to_owned();
    for (name, value) in &hello.headers() {
        let value = if name == "upgrade" { "quorate-raft/9" } else { value.to_str().unwrap() };
        head = format!("{head}{name}: {value}\r\n");
    }
    raw.send(format!("{head}\r\n").as_bytes()).await;
    let head = raw.head().await;
    assert!(head.starts_with("HTTP/1.1 426 "), "{head}");
    assert!(head.contains("upgrade: quorate-raft/1\r\n"), "{head}");
    let body = String::from_utf8(raw.until_closed().await).unwrap();
    assert!(body.contains(r#""kind":"Version""#) && body.contains("quorate-raft/9"), "{body}");

    // Without an upgrade, or with headers that are none, it is a bad request.
    for bad in ["", "Connection: upgrade\r\nUpgrade: quorate-raft/1\r\nX-Etcd-Cluster-ID: pony\r\n"]
    {
        let mut raw = Raw::connect(port.at).await;
        raw.send(format!("GET /quorate/raft HTTP/1.1\r\nHost: x\r\n{bad}\r\n").as_bytes()).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    }

    let said = Refusal::new(RefusalKind::Version, "newer");
    let (url, _task) = answers(refuses(identity(2), 426, &said)).await;
    let address = Address { id: MemberId(2), urls: vec![url], incarnation: None };
    let error = peers(1).peer(&address).call(ECHO, b"", LONG).await.unwrap_err();
    assert_eq!(refusal(&error), &said);
}

#[tokio::test]
async fn a_member_that_is_removed_while_it_is_connected_hears_so() {
    let port = Port::new(2).await;
    let peers = peers(1);
    let peer = peers.peer(&port.address());
    peer.call(ECHO, b"in", LONG).await.unwrap();
    let mut refusals = peers.refusals();
    let said = Refusal::new(RefusalKind::Removed, "member 1 was removed at index 9");
    *port.house.refuses.lock() = Some(said.clone());
    tokio::time::timeout(LONG, refusals.wait_for(Option::is_some)).await.unwrap().unwrap();
    assert_eq!(*refusals.borrow(), Some((MemberId(2), said.clone())));
    assert_eq!(refusal(&peer.call(ECHO, b"", LONG).await.unwrap_err()), &said);
}

#[tokio::test]
async fn who_answers_is_checked_and_a_strangers_no_is_not_believed() {
    // Somebody of another cluster, at our peer's address, who says that we were removed.
    let said = Refusal::new(RefusalKind::Removed, "go away");
    let stranger = Identity { cluster: ClusterId(0xbad), ..identity(2) };
    let to = |url: &str| Address {
        id: MemberId(2),
        urls: vec![url.to_owned()],
        incarnation: Some(Incarnation(2000)),
    };
    let peers = peers(1);
    let (url, _task) = answers(refuses(stranger, 410, &said)).await;
    let error = peers.peer(&to(&url)).call(ECHO, b"", LONG).await.unwrap_err();
    assert_eq!(mistaken(&error).kind, RefusalKind::ClusterIdMismatch);
    assert_eq!(*peers.refusals().borrow(), None);

    for (own, kind) in [
        (stranger, RefusalKind::ClusterIdMismatch),
        (identity(3), RefusalKind::WrongTarget),
        (Identity { incarnation: Incarnation(5), ..identity(2) }, RefusalKind::WrongIncarnation),
    ] {
        let (url, _task) = answers(yes(own)).await;
        let error = peers.peer(&to(&url)).call(ECHO, b"", LONG).await.unwrap_err();
        assert_eq!(mistaken(&error).kind, kind, "{error:?}");
    }

    // Another node at its founding barrier, an etcd, or something else altogether.
    for other in
        ["HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 101 x\r\n\r\n", "SSH\r\n\r\n"]
    {
        let (url, _task) = answers(other.to_owned()).await;
        let error = peers.peer(&to(&url)).call(ECHO, b"", LONG).await.unwrap_err();
        assert!(matches!(error, CallError::Unreachable { .. }), "{error:?}");
    }
    for url in ["https://127.0.0.1:1", "nonsense", ""] {
        let error = peers.peer(&to(url)).call(ECHO, b"", LONG).await.unwrap_err();
        assert!(error_text(&error).contains("not an http:// URL"), "{error:?}");
    }
}

#[tokio::test]
async fn an_emptied_disk_under_an_old_id_is_not_spoken_to() {
    let port = Port::new(2).await;
    let peers = peers(1);
    let address = port.address();
    let peer = peers.peer(&address);
    peer.call(ECHO, b"", LONG).await.unwrap();
    assert_eq!(peer.incarnation(), Some(Incarnation(2000)));
    let at = port.at;
    port.kill().await;

    let emptied = Identity { incarnation: Incarnation(2001), ..identity(2) };
    let _port = Port::with(House::new(emptied), limits(), Some(at)).await;
    let error = loop {
        let error = peers.peer(&address).call(ECHO, b"", LONG).await.unwrap_err();
        if !matches!(error, CallError::Lost { .. }) {
            break error;
        }
    };
    assert_eq!(mistaken(&error).kind, RefusalKind::WrongIncarnation);
    // Unless the cluster knows better.
    let address = Address { incarnation: Some(emptied.incarnation), ..address };
    assert_eq!(peers.peer(&address).call(ECHO, b"x", LONG).await.unwrap(), "x");
}

/// Answers every connection's first request with these bytes, then keeps silent.
async fn answers(bytes: String) -> (String, Aborts) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let mut kept = Vec::new();
        loop {
            let mut raw = Raw::new(listener.accept().await.unwrap().0);
            raw.head().await;
            raw.send(bytes.as_bytes()).await;
            kept.push(raw);
        }
    });
    (url, Aborts(task))
}

struct Aborts(tokio::task::JoinHandle<()>);

impl Drop for Aborts {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn refuses(own: Identity, status: u16, refusal: &Refusal) -> String {
    let body = serde_json::to_string(refusal).unwrap();
    let length = body.len();
    format!("HTTP/1.1 {status} x\r\n{}Content-Length: {length}\r\n\r\n{body}", who(own))
}

fn error_text(error: &CallError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
