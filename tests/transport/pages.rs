//! The peer port as plain HTTP: what etcd's answers there.

use quorate::client::peer;
use quorate::cluster::{ClusterId, MemberId, Role};

use crate::support::*;

#[tokio::test]
async fn members_and_version_are_read_by_our_own_client() {
    let port = Port::new(2).await;
    let list = peer::members(&port.url(), LONG).await.unwrap();
    assert_eq!(list.cluster, ClusterId(0xc1));
    let [learner, voter] = &list.members[..] else { panic!("{list:?}") };
    assert_eq!(
        (learner.id, learner.role, learner.is_started()),
        (MemberId(7), Role::Learner, false)
    );
    assert_eq!((voter.id, voter.role, &*voter.name), (MemberId(u64::MAX), Role::Voter, "etcd\"1"));
    assert!(voter.is_published() && voter.peer_urls.len() == 1);
    let version = peer::version(&port.url(), LONG).await.unwrap();
    assert_eq!((&*version.server, version.cluster.as_deref()), ("3.4.23", Some("3.4.0")));

    let page = peer::get(&format!("{}/members?x=y", port.url()), LONG).await.unwrap();
    let expected = concat!(
        r#"[{"id":18446744073709551615,"peerURLs":["http://18446744073709551615:2380"],"#,
        r#""name":"etcd\"1","clientURLs":["http://c:2379"]},"#,
        r#"{"id":7,"peerURLs":["http://7:2380"],"isLearner":true}]"#
    );
    assert_eq!((page.status, &page.body[..]), (200, expected.as_bytes()));
    assert_eq!(page.headers["content-type"], "application/json");
}

#[tokio::test]
async fn every_answer_names_the_cluster() {
    let port = Port::new(2).await;
    for (request, status) in [
        ("GET /members HTTP/1.0\r\n\r\n", "200"),
        ("HEAD /version HTTP/1.1\r\nHost: x\r\n\r\n", "200"),
        ("GET /raft/stream HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("POST /members HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "405"),
    ] {
        let mut raw = Raw::connect(port.at).await;
        raw.send(request.as_bytes()).await;
        let answer = String::from_utf8(raw.until_closed().await).unwrap();
        assert_eq!(&answer["HTTP/1.1 ".len()..][..3], status, "{request}: {answer}");
        assert!(answer.to_ascii_lowercase().contains("x-etcd-cluster-id: c1\r\n"), "{answer}");
    }
}
