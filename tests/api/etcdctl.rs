//! What Debian's etcdctl 3.4 prints of this server (contract §4 and §8).

use quorate::proto::etcdserverpb::kv_client::KvClient;

use crate::support::{Served, put};

const CLUSTER: &str = "e531d2f7f342a2d1";

#[tokio::test]
async fn keys_leases_and_alarms() {
    let served = Served::start().await;
    assert_eq!(served.ctl(&["put", "a:b", "x"]).await, "OK\n");
    assert_eq!(served.ctl(&["put", "empty", ""]).await, "OK\n");
    assert_eq!(served.ctl(&["get", "", "--prefix"]).await, "a:b\nx\nempty\n\n");
    assert_eq!(served.ctl(&["put", "--prev-kv", "a:b", "y"]).await, "OK\na:b\nx\n");
    assert_eq!(served.ctl(&["get", "a:b", "--rev", "2"]).await, "a:b\nx\n");
    assert_eq!(served.ctl(&["get", "", "--prefix", "--keys-only"]).await, "a:b\n\nempty\n\n");
    let json = served.ctl(&["get", "a:b", "-w", "json"]).await;
    assert!(json.contains("\"revision\":4,\"raft_term\":1}"), "{json}");
    assert_eq!(served.ctl(&["del", "empty"]).await, "1\n");
    assert_eq!(served.ctl(&["del", "empty"]).await, "0\n");
    let mut txn = served.ctl(&["lease", "grant", "60"]).await;
    let id = txn.split(' ').nth(1).unwrap().to_owned();
    assert_eq!(txn, format!("lease {id} granted with TTL(60s)\n"));
    assert_eq!(served.ctl(&["put", "--lease", &id, "l", ""]).await, "OK\n");
    assert_eq!(served.ctl(&["lease", "list"]).await, format!("found 1 leases\n{id}\n"));
    txn = served.ctl(&["lease", "timetolive", &id, "--keys"]).await;
    let left = format!("lease {id} granted with TTL(60s), remaining(60s), attached keys([l])\n");
    assert_eq!(txn, left);
    txn = served.ctl(&["lease", "keep-alive", "--once", &id]).await;
    assert_eq!(txn, format!("lease {id} keepalived with TTL(60)\n"));
    assert_eq!(served.ctl(&["lease", "revoke", &id]).await, format!("lease {id} revoked\n"));
    assert_eq!(served.ctl(&["get", "l"]).await, "");
    let text = served.ctl(&["lease", "timetolive", &id]).await;
    assert_eq!(text, format!("lease {id} already expired\n"));
    let text = served.ctl_fails(&["lease", "revoke", &id]).await;
    assert!(text.contains("etcdserver: requested lease not found"), "{text}");

    assert_eq!(served.ctl(&["compact", "4", "--physical"]).await, "compacted revision 4\n");
    let text = served.ctl_fails(&["compact", "4"]).await;
    assert!(text.contains("mvcc: required revision has been compacted"), "{text}");
    let text = served.ctl_fails(&["get", "a:b", "--rev", "99"]).await;
    assert!(text.contains("mvcc: required revision is a future revision"), "{text}");
    assert_eq!(served.ctl(&["alarm", "list"]).await, "");
    assert_eq!(served.ctl(&["alarm", "disarm"]).await, "");
}

#[tokio::test]
async fn a_transaction_by_standard_input() {
    let served = Served::start().await;
    served.ctl(&["put", "k", "old"]).await;
    let shell = format!(
        "printf 'value(\"k\") = \"old\"\\n\\nput k new\\nput m 1\\n\\nget k\\n\\n' | \
         ETCDCTL_API=3 etcdctl --endpoints {} txn",
        served.url()
    );
    let output = tokio::process::Command::new("sh").args(["-c", &shell]).output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "SUCCESS\n\nOK\n\nOK\n");
    assert_eq!(served.ctl(&["get", "k"]).await, "k\nnew\n");
}

#[tokio::test]
async fn members() {
    let served = Served::start().await;
    let url = served.url();
    let own = format!("96caf214ff544724, started, etcd1, http://127.0.0.1:2380, {url}, false\n");
    assert_eq!(served.ctl(&["member", "list"]).await, own);
    let text = served.ctl(&["member", "add", "etcd2", "--peer-urls", "http://127.0.0.1:12"]).await;
    let id = text.split(' ').nth(1).unwrap().to_owned();
    assert!(text.starts_with(&format!("Member {id} added to cluster {CLUSTER}\n\n")), "{text}");
    for line in [
        "ETCD_NAME=\"etcd2\"",
        "etcd2=http://127.0.0.1:12",
        "etcd1=http://127.0.0.1:2380",
        "ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://127.0.0.1:12\"",
        "ETCD_INITIAL_CLUSTER_STATE=\"existing\"",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let text = served.ctl(&["member", "list"]).await;
    assert!(text.contains(&format!("{id}, unstarted, , http://127.0.0.1:12, , false\n")), "{text}");
    let text = served.ctl(&["member", "update", &id, "--peer-urls", "http://127.0.0.1:13"]).await;
    assert_eq!(text, format!("Member {id} updated in cluster {CLUSTER}\n"));
    let text =
        served.ctl_fails(&["member", "update", &id, "--peer-urls", "http://127.0.0.1:2380"]).await;
    assert!(text.contains("etcdserver: Peer URLs already exists"), "{text}");
    let text = served.ctl(&["member", "remove", &id]).await;
    assert_eq!(text, format!("Member {id} removed from cluster {CLUSTER}\n"));
    let text = served.ctl_fails(&["member", "remove", &id]).await;
    assert!(text.contains("etcdserver: member not found"), "{text}");
    let text = served.ctl_fails(&["move-leader", "7"]).await;
    assert!(text.contains("bad leader transferee"), "{text}");
}

/// These send `http://HOST:PORT` as `:authority`.
#[tokio::test]
async fn the_calls_whose_authority_is_none() {
    let served = Served::start().await;
    let url = served.url();
    served.ctl(&["put", "a", "b"]).await;
    let health = served.etcdctl("3", &["endpoint", "health"]).await;
    assert_eq!(health.0, Some(0), "{}", health.2);
    let healthy = format!("{url} is healthy: successfully committed proposal: took = ");
    assert!(health.2.starts_with(&healthy), "{}", health.2);

    let status = served.ctl(&["endpoint", "status"]).await;
    let fields: Vec<_> = status.trim().split(", ").collect();
    assert_eq!(fields[..3], [&*url, "96caf214ff544724", "3.7.3"], "{status}");
    assert_eq!(fields[4..7], ["true", "false", "1"], "{status}");
    let json = served.ctl(&["endpoint", "status", "-w", "json"]).await;
    assert!(json.contains("\"leader\":10865763222981723940"), "{json}");
    let table = served.ctl(&["endpoint", "status", "-w", "table"]).await;
    assert!(table.contains("IS LEADER") && table.contains(" 3.7.3 |"), "{table}");

    let hash = served.ctl(&["endpoint", "hashkv"]).await;
    let (endpoint, hash) = hash.trim().split_once(", ").unwrap();
    assert_eq!(endpoint, url);
    assert_ne!(hash.parse::<u32>().unwrap(), 0);
    let json = served.ctl(&["endpoint", "hashkv", "--rev", "1", "-w", "json"]).await;
    assert!(json.contains("\"raft_term\":1"), "{json}");

    let text = served.ctl(&["defrag"]).await;
    assert_eq!(text, format!("Finished defragmenting etcd member[{url}]\n"));
    // And by names and addresses as people give them.
    let port = served.address.rsplit(':').next().unwrap();
    for endpoint in [format!("localhost:{port}"), served.address.clone(), url.clone()] {
        let text = served.ctl(&["--endpoints", &endpoint, "endpoint", "status"]).await;
        // Beside the first one, which etcdctl keeps.
        assert!(text.contains(&format!("{endpoint}, 96caf214ff544724")), "{text}");
    }
    // All the while others are served.
    KvClient::new(served.channel().await).put(put("a", "c")).await.unwrap();
}
