//! The peer port's client against what may listen there other than a healthy member.
#![cfg(feature = "runtime")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use quorate::client::{ClientError, peer};
use quorate::cluster::{ClusterId, MemberId, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Answers one connection with these bytes, whatever it asks, and keeps it open; returns the URL
/// and, at its end, what was asked.
async fn answer(bytes: Vec<u8>) -> (String, tokio::task::JoinHandle<String>) {
    answer_and(bytes, true).await
}

/// The same, and hangs up then if it is not to stay.
async fn answer_and(bytes: Vec<u8>, stays: bool) -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        // The other side may have hung up on too long an answer.
        let _ = stream.write_all(&bytes).await;
        if stays {
            let _ = stream.read(&mut [0]).await;
        }
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    (url, asked)
}

fn http(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn members_are_read_whatever_is_left_out_of_them() {
    let list = r#"[{"id":18446744073709551615,"peerURLs":["http://b"],"name":"b","clientURLs":["http://c"]},
        {"id":7,"peerURLs":["http://a"],"isLearner":true},{"id":8,"peerURLs":null,"clientURLs":null}]"#;
    let (url, asked) = answer(http("200 OK\r\nX-Etcd-Cluster-ID: 2a787c81fe23f900", list)).await;
    let answer = peer::members(&format!("{url}/"), TIMEOUT).await.unwrap();
    assert_eq!(answer.cluster, ClusterId(0x2a78_7c81_fe23_f900));
    let [learner, bare, whole] = &answer.members[..] else { panic!("{answer:?}") };
    assert_eq!((learner.id, learner.role, &*learner.name), (MemberId(7), Role::Learner, ""));
    assert_eq!((bare.id, bare.role, bare.peer_urls.len()), (MemberId(8), Role::Voter, 0));
    assert_eq!((whole.id, &*whole.name), (MemberId(u64::MAX), "b"));
    assert_eq!(whole.client_urls, ["http://c"]);
    let asked = asked.await.unwrap();
    assert!(asked.starts_with("GET /members HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("host: {}\r\n", &url["http://".len()..])), "{asked}");
}

#[tokio::test]
async fn a_version_that_is_not_agreed_on_is_none() {
    let body = r#"{"etcdserver":"3.4.23","etcdcluster":"not_decided"}"#;
    let (url, _) = answer(http("200 OK", body)).await;
    let version = peer::version(&url, TIMEOUT).await.unwrap();
    assert_eq!((&*version.server, version.cluster), ("3.4.23", None));
}

#[tokio::test]
async fn any_status_is_an_answer_to_a_plain_get() {
    let (url, asked) = answer(http("404 Not Found\r\nX-Some: thing", "no such page")).await;
    let got = peer::get(&format!("{url}/quorate/founding?a=b"), TIMEOUT).await.unwrap();
    assert_eq!((got.status, &got.body[..]), (404, &b"no such page"[..]));
    assert_eq!(got.headers["x-some"], "thing");
    assert!(asked.await.unwrap().starts_with("GET /quorate/founding?a=b HTTP/1.1\r\n"));
}

#[tokio::test]
async fn what_is_no_member_is_told_apart() {
    let bad_answers = [
        http("404 Not Found", "no such page"),
        http("200 OK\r\nX-Etcd-Cluster-ID: 1", "<html>"),
        http("200 OK", "[]"),
        b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec(),
        http("200 OK\r\nX-Etcd-Cluster-ID: 1", &"[".repeat(peer::MAX_BODY + 1)),
    ];
    for bytes in bad_answers {
        let (url, _) = answer(bytes).await;
        let error = peer::members(&url, TIMEOUT).await.unwrap_err();
        assert!(matches!(error, ClientError::BadAnswer { .. }), "{error:?}");
        assert!(error.to_string().contains(&url), "{error}");
    }

    // Half an answer, then nothing more; and half an answer, then the end.
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[".to_vec();
    let (url, _) = answer(half.clone()).await;
    let error = peer::members(&url, Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error:?}");
    let (url, _) = answer_and(half, false).await;
    let error = peer::members(&url, TIMEOUT).await.unwrap_err();
    assert!(matches!(error, ClientError::Interrupted { .. }), "{error:?}");

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for url in [format!("http://{closed}"), "https://127.0.0.1".to_owned(), "nonsense".to_owned()] {
        let error = peer::members(&url, TIMEOUT).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    }
}
