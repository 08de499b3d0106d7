//! `/v2/members` on the wire, and what Debian's etcdctl prints of it with `ETCDCTL_API=2`
//! (contract §3).

use crate::support::{MEMBER, Served};

#[tokio::test]
async fn the_list_and_its_changes_on_the_wire() {
    let served = Served::start().await;
    let url = served.url();
    let own = format!(
        "{{\"id\":\"96caf214ff544724\",\"name\":\"etcd1\",\"peerURLs\":[\"http://127.0.0.1:2380\"],\
         \"clientURLs\":[\"{url}\"]}}"
    );
    let list = served.http("GET", "/v2/members", None).await;
    assert_eq!((list.status, list.body), (200, format!("{{\"members\":[{own}]}}\n")));
    assert!(list.head.contains("x-etcd-cluster-id: e531d2f7f342a2d1"), "{}", list.head);
    assert!(list.head.contains("content-type: application/json"), "{}", list.head);
    assert_eq!(served.get("/v2/members/leader").await, (200, format!("{own}\n")));
    served.alone.stand(|it| it.leader = None);
    let none = served.get("/v2/members/leader").await;
    assert_eq!(none, (503, r#"{"message":"During election"}"#.to_owned()));
    served.alone.stand(|it| it.leader = Some(MEMBER));

    let body = Some(r#"{"name":"etcd2","peerURLs":["http://127.0.0.1:12"]}"#);
    let added = served.http("POST", "/v2/members", body).await;
    assert_eq!(added.status, 201, "{}", added.body);
    let id = added.body.split('"').nth(3).unwrap().to_owned();
    let unstarted =
        format!(r#"{{"id":"{id}","name":"","peerURLs":["http://127.0.0.1:12"],"clientURLs":[]}}"#);
    assert_eq!(added.body, unstarted);
    assert!(served.get("/v2/members").await.1.contains(&unstarted));

    let one = format!("/v2/members/{id}");
    let own = "/v2/members/96caf214ff544724";
    let free = Some(r#"{"peerURLs":["http://127.0.0.1:13"]}"#);
    let other = Some(r#"{"peerURLs":["http://127.0.0.1:14"]}"#);
    let taken = Some(r#"{"peerURLs":["http://127.0.0.1:2380"]}"#);
    let no = |text: &str| format!("{{\"message\":\"{text}\"}}");
    for (method, path, json, status, answer) in [
        ("PUT", &*one, free, 204, String::new()),
        ("PUT", &one, taken, 409, no("membership: peerURL exists")),
        ("POST", "/v2/members", taken, 409, no("membership: peerURL exists")),
        ("PUT", "/v2/members/abc", other, 404, no("No such member: abc")),
        ("PUT", "/v2/members/xyz", free, 404, no("No such member: xyz")),
        ("PUT", own, Some("{}"), 400, no("no valid URLs given")),
        ("POST", "/v2/members", Some(r#"{"peerURLs":[]}"#), 400, no("no valid URLs given")),
        (
            "POST",
            "/v2/members",
            Some(r#"{"peerURLs":["http://x"]}"#),
            400,
            no(r#"URL address does not have the form \"host:port\": http://x"#),
        ),
        ("POST", "/v2/members", None, 415, no("Bad Content-Type , accept application/json")),
        ("DELETE", &one, None, 204, String::new()),
        ("DELETE", &one, None, 410, no(&format!("Member permanently removed: {id}"))),
        ("DELETE", "/v2/members/abc", None, 404, no("No such member: abc")),
        ("DELETE", "/v2/members/", None, 405, "Method Not Allowed\n".to_owned()),
        ("PUT", "/v2/members", free, 405, "Method Not Allowed\n".to_owned()),
        ("PATCH", "/v2/members", None, 405, "Method Not Allowed\n".to_owned()),
        ("GET", &one, None, 404, no("Not found")),
    ] {
        let got = served.http(method, path, json).await;
        assert_eq!((got.status, &*got.body), (status, &*answer), "{method} {path}");
        assert!(got.head.contains("x-etcd-cluster-id: e531d2f7f342a2d1"), "{}", got.head);
    }
    let text = served.http("POST", "/v2/members", Some("{")).await;
    assert_eq!(text.status, 400);
    served.alone.refuse(Some(quorate::node::fault::Fault::MemberNotEnoughStarted));
    let text = served.http("POST", "/v2/members", free).await;
    assert_eq!((text.status, &*text.body), (500, &*no("Internal Server Error")));
    let long = format!("{{\"peerURLs\":[\"{}\"]}}", "x".repeat(70_000));
    assert_eq!(served.http("POST", "/v2/members", Some(&long)).await.status, 400);
}

async fn ctl(served: &Served, args: &[&str]) -> (Option<i32>, String) {
    let (code, out, both) = served.etcdctl("2", args).await;
    (code, if code == Some(0) { out } else { both })
}

#[tokio::test]
async fn etcdctl_of_version_2_manages_the_members() {
    let served = Served::start().await;
    let url = served.url();
    let own = format!(
        "96caf214ff544724: name=etcd1 peerURLs=http://127.0.0.1:2380 clientURLs={url} \
         isLeader=true\n"
    );
    assert_eq!(ctl(&served, &["member", "list"]).await, (Some(0), own.clone()));
    let healthy = format!(
        "member 96caf214ff544724 is healthy: got healthy result from {url}\ncluster is healthy\n"
    );
    assert_eq!(ctl(&served, &["cluster-health"]).await, (Some(0), healthy));

    let (code, text) = ctl(&served, &["member", "add", "etcd2", "http://127.0.0.1:12"]).await;
    assert_eq!(code, Some(0), "{text}");
    let id = text.split(' ').nth(6).unwrap().to_owned();
    let added =
        format!("Added member named etcd2 with ID {id} to cluster\n\nETCD_NAME=\"etcd2\"\n");
    assert!(text.starts_with(&added), "{text}");
    assert!(text.ends_with("ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n"), "{text}");
    let (_, text) = ctl(&served, &["member", "list"]).await;
    assert!(text.contains(&format!("{id}[unstarted]: peerURLs=http://127.0.0.1:12\n")), "{text}");
    let (code, text) = ctl(&served, &["cluster-health"]).await;
    let lost = format!("member {id} is unreachable: no available published client urls\n");
    assert!(code == Some(5) && text.contains(&lost), "{text}");
    assert!(text.contains("cluster is degraded\n"), "{text}");
    let text = ctl(&served, &["member", "update", &id, "http://127.0.0.1:13"]).await;
    assert_eq!(text, (Some(0), format!("Updated member with ID {id} in cluster\n")));
    let text = ctl(&served, &["member", "remove", &id]).await;
    assert_eq!(text, (Some(0), format!("Removed member {id} from cluster\n")));
    assert_eq!(ctl(&served, &["member", "list"]).await, (Some(0), own));
    let (code, text) = ctl(&served, &["member", "remove", &id]).await;
    assert!(code != Some(0) && text.contains("Couldn't find a member"), "{text}");

    served.alone.stand(|it| it.leader = None);
    let (code, text) = ctl(&served, &["cluster-health"]).await;
    assert!(code != Some(0) && text.contains("unhealthy"), "{text}");
}
