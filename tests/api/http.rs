//! Health, version and metrics over HTTP/1, and HTTP/2 on the same port.

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::bytes::Bytes;
use quorate::node::apply::Operation;
use quorate::node::fault::Fault;
use quorate::proto::etcdserverpb::alarm_request::AlarmAction;
use quorate::proto::etcdserverpb::kv_client::KvClient;
use quorate::proto::etcdserverpb::{AlarmRequest, AlarmType};
use tokio::net::TcpStream;

use crate::support::{MEMBER, Served, get, metric, put};

fn raise(served: &Served, alarm: AlarmType) {
    let (action, alarm) = (AlarmAction::Activate.into(), alarm.into());
    let request = AlarmRequest { action, member_id: MEMBER.0, alarm };
    served.alone.apply(&Operation::Alarm(request)).unwrap();
}

#[tokio::test]
async fn health_is_false_for_each_reason_and_can_leave_some_out() {
    let served = Served::start().await;
    let well = (200, r#"{"health":"true","reason":""}"#.to_owned());
    let ill = |reason: &str| (503, format!("{{\"health\":\"false\",\"reason\":\"{reason}\"}}\n"));
    assert_eq!(served.get("/health").await, well);
    let put = served.http("PUT", "/health", None).await;
    assert_eq!((put.status, &*put.body), (405, "Method Not Allowed\n"));
    assert!(put.head.contains("allow: get"), "{}", put.head);

    served.alone.refuse(Some(Fault::Timeout));
    let words = "RANGE ERROR:etcdserver: request timed out";
    assert_eq!(served.get("/health").await, ill(words));
    assert_eq!(served.get("/health?serializable=true").await, well);
    served.alone.refuse(None);
    served.alone.stand(|it| it.leader = None);
    assert_eq!(served.get("/health").await, ill("RAFT NO LEADER"));
    assert_eq!(served.get("/health?serializable=false").await, ill("RAFT NO LEADER"));
    assert_eq!(served.get("/health?serializable=true").await, well);
    served.alone.stand(|it| it.leader = Some(MEMBER));
    raise(&served, AlarmType::Nospace);
    assert_eq!(served.get("/health").await, ill("ALARM NOSPACE"));
    assert_eq!(served.get("/health?exclude=NOSPACE").await, well);
    raise(&served, AlarmType::Corrupt);
    assert_eq!(served.get("/health?exclude=NOSPACE").await, ill("ALARM CORRUPT"));
    assert_eq!(served.get("/health?exclude=NOSPACE&exclude=CORRUPT").await, well);
}

#[tokio::test]
async fn livez_and_readyz_make_their_checks_and_name_those_that_fail() {
    let served = Served::start().await;
    let ok = (200, "ok\n".to_owned());
    for path in [
        "/livez",
        "/livez/serializable_read",
        "/readyz",
        "/readyz/data_corruption",
        "/readyz/serializable_read",
        "/readyz/linearizable_read",
        "/readyz/non_learner",
    ] {
        assert_eq!(served.get(path).await, ok, "{path}");
    }
    let all = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n\
               [+]non_learner ok\nok\n";
    assert_eq!(served.get("/readyz?verbose").await, (200, all.to_owned()));
    assert_eq!(served.get("/livez?verbose=1").await.1, "[+]serializable_read ok\nok\n");
    assert_eq!(served.get("/readyz/none").await, (404, "404 page not found\n".to_owned()));
    assert_eq!(served.get("/livez/linearizable_read").await.0, 404);
    assert_eq!(served.http("POST", "/readyz", None).await.status, 405);

    served.alone.stand(|it| (it.leader, it.is_learner) = (None, true));
    raise(&served, AlarmType::Corrupt);
    let bad = "[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n\
               [-]linearizable_read failed: etcdserver: no leader\n\
               [-]non_learner failed: not supported for learner\n\n";
    assert_eq!(served.get("/readyz").await, (503, bad.to_owned()));
    assert_eq!(served.get("/livez").await, ok);
    assert_eq!(served.get("/readyz/serializable_read").await, ok);
    assert_eq!(served.get("/readyz/non_learner").await.0, 503);
    let others = "/readyz?exclude=data_corruption&exclude=linearizable_read&exclude=non_learner";
    assert_eq!(served.get(others).await, ok);
}

#[tokio::test]
async fn version_metrics_and_what_is_not_there() {
    let served = Served::start().await;
    let version = served.get("/version").await;
    let wanted = r#"{"etcdcluster":"3.7.0","etcdserver":"3.7.3","storage":"3.7.0"}"#;
    assert_eq!(version, (200, wanted.to_owned()));
    assert_eq!(served.http("POST", "/version", None).await.status, 405);
    assert_eq!(served.get("/").await, (404, "404 page not found\n".to_owned()));
    assert_eq!(served.get("/v2/keys/x").await.0, 404);
    // gRPC is not spoken over HTTP/1.
    assert_eq!(served.http("POST", "/etcdserverpb.KV/Range", None).await.status, 404);
    let gateway = served.http("POST", "/v3/kv/range", Some("{}")).await;
    assert_eq!(gateway.status, 501);
    assert!(gateway.body.contains("\"code\":12"), "{}", gateway.body);

    let mut kv = KvClient::new(served.channel().await);
    for key in ["a", "b"] {
        kv.put(put(key, "x")).await.unwrap();
    }
    kv.range(get("a")).await.unwrap();
    kv.put(put("", "")).await.unwrap_err();
    served.alone.stand(|it| it.leader = Some(quorate::cluster::MemberId(7)));
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    served.metrics.wal_fsync.observe(0.003);
    let (status, text) = served.get("/metrics").await;
    assert_eq!(status, 200);
    for (name, value) in [
        ("etcd_server_has_leader", 1.0),
        ("etcd_server_is_leader", 0.0),
        ("etcd_server_is_learner", 0.0),
        ("etcd_server_leader_changes_seen_total", 2.0),
        ("etcd_server_proposals_pending", 0.0),
        ("etcd_server_proposals_failed_total", 0.0),
        ("etcd_debugging_mvcc_keys_total", 2.0),
        ("etcd_mvcc_put_total", 2.0),
        ("etcd_mvcc_delete_total", 0.0),
        ("etcd_debugging_mvcc_total_put_size_in_bytes", 4.0),
        ("etcd_debugging_mvcc_current_revision", 3.0),
        ("etcd_disk_wal_fsync_duration_seconds_count", 1.0),
        ("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.004\"}", 1.0),
        ("etcd_server_version{server_version=\"3.7.3\"}", 1.0),
        ("etcd_server_id{server_id=\"96caf214ff544724\"}", 1.0),
    ] {
        assert_eq!(metric(&text, name), Some(value), "{name} in {text}");
    }
    for name in [
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_server_proposals_committed_total",
        "etcd_server_proposals_applied_total",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_max_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "os_fd_limit",
    ] {
        assert!(metric(&text, name).is_some_and(|it| it > 0.0), "{name} in {text}");
    }
    for (call, code, count) in [("Put", "OK", 2), ("Put", "InvalidArgument", 1), ("Range", "OK", 1)]
    {
        let line = format!(
            "grpc_server_handled_total{{grpc_code=\"{code}\",grpc_method=\"{call}\",\
             grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}} {count}"
        );
        assert!(text.contains(&line), "{line} in {text}");
    }
    let started = "grpc_server_started_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",\
                   grpc_type=\"unary\"} 3";
    assert!(text.contains(started), "{text}");
}

#[tokio::test]
async fn http_2_without_tls_reaches_the_same_pages() {
    let served = Served::start().await;
    let stream = TcpStream::connect(&served.address).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request =
        Request::get(format!("{}/health", served.url())).body(Empty::<Bytes>::new()).unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&body[..], br#"{"health":"true","reason":""}"#);
}
