//! What servers of this API get wrong, small enough to be read at once.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate::proto::etcdserverpb as pb;
use quorate::proto::etcdserverpb::kv_client::KvClient;
use quorate::proto::etcdserverpb::lease_client::LeaseClient;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::nodes::{Held, LONG, Node, Nodes};
use crate::support::wait::{eventually, now};
use crate::support::wire::{self, block_on, channel, spawn};

fn kv(node: &Node) -> KvClient<Channel> {
    KvClient::new(channel(&node.client))
}

/// Asks once more if an election came between, as it may on a busy machine: nothing has come of it
/// then.
fn asked<T>(what: &str, ask: impl AsyncFn() -> Result<Response<T>, Status>) -> T {
    loop {
        match block_on(ask()) {
            Ok(answer) => return answer.into_inner(),
            Err(status) if is_void(&status) => {}
            Err(status) => panic!("{what}: {status}"),
        }
    }
}

fn is_void(status: &Status) -> bool {
    status.message() == "etcdserver: leader changed"
}

/// Puts a key through this node; its revision.
fn put(node: &Node, key: &[u8], value: &[u8], lease: i64) -> i64 {
    let (key, value) = (key.to_vec().into(), value.to_vec().into());
    let request = pb::PutRequest { key, value, lease, ..Default::default() };
    let answer = asked("a put", async || kv(node).put(request.clone()).await);
    answer.header.expect("a header").revision
}

/// What each member has below a prefix, once all have what a quorum has.
fn all_hold(nodes: &Nodes, prefix: &str) -> Held {
    nodes.agree();
    let mut each = nodes.all.iter().map(|it| {
        eventually("a quorum read", LONG, || it.linear_revision());
        eventually("what it holds", LONG, || it.holds(prefix))
    });
    let first = each.next().expect("a node");
    assert!(each.all(|it| it == first), "members differ below {prefix:?}");
    first
}

#[test]
fn a_clean_restart_and_kill_9_of_all_keep_every_key_and_the_revision() {
    let mut nodes = Nodes::of(3).run();
    let mut expected = Held::new();
    for n in 0..200 {
        let (key, value) = (format!("k/{}", n % 150).into_bytes(), format!("{n}").into_bytes());
        let revision = put(&nodes.all[n % 3], &key, &value, 0);
        expected.insert(key, (value, revision));
    }
    let revision = nodes.agree();
    for is_clean in [true, false] {
        let end = |it| if is_clean { Node::stop(it) } else { Node::kill_9(it) };
        nodes.all.iter().for_each(end);
        nodes = nodes.run();
        assert_eq!(all_hold(&nodes, "k/"), expected, "clean: {is_clean}");
        assert_eq!(nodes.agree(), revision, "clean: {is_clean}");
        for node in &nodes.all {
            let status = eventually("a status", LONG, || wire::status(&node.client));
            assert_eq!(status.revision, revision);
        }
    }
    assert_eq!(put(&nodes.all[0], b"k/next", b"1", 0), revision + 1);
}

#[test]
fn three_thousand_keys_of_fifty_clients_are_on_all_members() {
    let nodes = Nodes::of(3).run();
    let clients = (0..50).map(|client| {
        let mut kv = kv(&nodes.all[client % 3]);
        spawn(async move {
            let mut revisions = BTreeMap::new();
            for n in 0..60 {
                let key = format!("c/{client}/{n}");
                let value = format!("{n} of {client}").into_bytes();
                let (bytes, value) = (key.clone().into(), value.into());
                let request = pb::PutRequest { key: bytes, value, ..Default::default() };
                let answer = loop {
                    match kv.put(request.clone()).await {
                        Err(status) if is_void(&status) => {}
                        answer => break answer.expect("a put").into_inner(),
                    }
                };
                revisions.insert(key, answer.header.expect("a header").revision);
            }
            revisions
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut revisions = BTreeMap::new();
    for client in clients {
        revisions.extend(block_on(client).expect("no panic"));
    }
    let held = all_hold(&nodes, "c/");
    assert_eq!((held.len(), revisions.len()), (3000, 3000));
    for (key, revision) in revisions {
        let (client, n) = key[2..].split_once('/').expect("two numbers");
        let expected = (format!("{n} of {client}").into_bytes(), revision);
        assert_eq!(held[key.as_bytes()], expected, "{key}");
    }
    assert_eq!(nodes.agree(), 3001);
}

#[test]
fn a_txn_with_several_puts_is_one_revision_on_every_member() {
    let nodes = Nodes::of(3).run();
    let before = nodes.agree();
    for (turn, node) in nodes.all.iter().enumerate() {
        let put = |n| {
            let (key, value) = (format!("t/{turn}/{n}").into(), "1".into());
            let put = pb::PutRequest { key, value, ..Default::default() };
            pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
        };
        let request = pb::TxnRequest { success: (0..10).map(put).collect(), ..Default::default() };
        let answer = asked("a txn", async || kv(node).txn(request.clone()).await);
        let revision = answer.header.expect("a header").revision;
        assert_eq!(revision, before + 1 + i64::try_from(turn).expect("small"));
        let held = all_hold(&nodes, &format!("t/{turn}/"));
        assert_eq!(held.len(), 10);
        assert!(held.values().all(|it| it.1 == revision), "{held:?}");
    }
    assert_eq!(nodes.agree(), before + 3);
}

#[test]
fn a_lease_expires_on_every_member_also_when_its_leader_is_killed() {
    let mut nodes = Nodes::of(3).run();
    for kills in [false, true] {
        // Its time begins before the answer is here.
        let begun = now();
        let granted = asked("a lease", async || {
            let mut leases = LeaseClient::new(channel(&nodes.all[0].client));
            // Long enough for a busy machine to use it.
            leases.lease_grant(pb::LeaseGrantRequest { ttl: 5, id: 0 }).await
        });
        let kept = put(&nodes.all[1], b"l/kept", b"1", 0);
        put(&nodes.all[2], b"l/leased", b"1", granted.id);
        if kills {
            let leader = nodes.leader();
            leader.kill_9();
            nodes = nodes.run();
        }
        for node in &nodes.all {
            eventually(&format!("{} has it no more", node.name), LONG, || {
                let held = node.holds("l/")?;
                let has = held.contains_key(b"l/leased".as_slice());
                if has { Err("it is there".to_owned()) } else { Ok(()) }
            });
        }
        // No member may take a lease for over before its time.
        let least = Duration::from_secs(u64::try_from(granted.ttl).expect("a duration"));
        assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
        assert_eq!(all_hold(&nodes, "l/").len(), 1);
        assert_eq!(nodes.agree(), kept + 2, "one revision put it, and one took it");
    }
}

#[test]
fn keys_and_values_are_any_bytes_and_equal_on_every_member() {
    let mut nodes = Nodes::of(3).run();
    let keys: [&[u8]; 8] = [
        b"b/a:b",
        b"b/\0",
        b"b/\0\0",
        b"b/\xff",
        b"b/\xff\xff",
        b"b/\xc3\x28",
        b"b/ \r\n\t\"'\\%",
        b"b/",
    ];
    let values: [&[u8]; 4] = [b"", b"\0", b"\xff\xfe\0a:b", b"\xf0\x28\x8c\x28"];
    let mut expected = Held::new();
    for (n, key) in keys.iter().enumerate() {
        let value = values[n % values.len()].to_vec();
        let revision = put(&nodes.all[n % 3], key, &value, 0);
        expected.insert(key.to_vec(), (value, revision));
    }
    assert_eq!(all_hold(&nodes, "b/"), expected);
    nodes.all.iter().for_each(Node::kill_9);
    nodes = nodes.run();
    assert_eq!(all_hold(&nodes, "b/"), expected);
    // And each by itself, with nothing that takes a byte for the end.
    for node in &nodes.all {
        for (key, (value, revision)) in &expected {
            let request = pb::RangeRequest { key: key.clone().into(), ..Default::default() };
            let answer = eventually("a range", LONG, || node.range(request.clone()));
            assert_eq!(answer.kvs.len(), 1, "{key:?}");
            assert_eq!(
                (&answer.kvs[0].value[..], answer.kvs[0].mod_revision),
                (&value[..], *revision)
            );
        }
    }
}
