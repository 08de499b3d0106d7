//! A member whose disk is empty: it is removed, added under a new ID, and gets a snapshot, for the
//! log was purged long before. Writes go on meanwhile, and the transfer breaks in the midst.

use std::fs;
use std::time::Duration;

use quorate::proto::etcdserverpb as pb;
use quorate::proto::etcdserverpb::cluster_client::ClusterClient;
use quorate::proto::etcdserverpb::kv_client::KvClient;

use crate::load::Load;
use crate::nodes::{LONG, Node, Nodes};
use crate::support::chance::mix;
use crate::support::wait::eventually;
use crate::support::wire::{self, block_on, channel};

/// Who is killed in the midst of the transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nobody,
    Sender,
    Receiver,
}

#[test]
fn a_wiped_member_catches_up_by_snapshot_under_load_and_is_promoted() {
    wiped(Broken::Nobody);
}

#[test]
fn a_wiped_member_catches_up_when_it_is_killed_in_the_midst_of_the_snapshot() {
    wiped(Broken::Receiver);
}

#[test]
fn a_wiped_member_catches_up_when_the_sender_is_killed_in_the_midst_of_the_snapshot() {
    wiped(Broken::Sender);
}

/// Tries a call on those that run until one of them does it.
#[track_caller]
fn changed<T>(nodes: &[Node], what: &str, call: impl Fn(&Node) -> Result<T, tonic::Status>) -> T {
    eventually(what, LONG, || {
        let mut failures = Vec::new();
        for node in nodes.iter().filter(|it| it.runs()) {
            match call(node) {
                Ok(done) => return Ok(done),
                Err(status) => failures.push(format!("{}: {status}", node.name)),
            }
        }
        Err(failures.join("; "))
    })
}

fn cluster(node: &Node) -> ClusterClient<tonic::transport::Channel> {
    ClusterClient::new(channel(&node.client))
}

/// So much that a snapshot takes a while.
fn fill(nodes: &Nodes, count: u64, size: u64) {
    let writers = (0..4_u64).map(|writer| {
        let mut kv =
            KvClient::new(channel(&nodes.all[usize::try_from(writer % 3).unwrap()].client));
        async move {
            for n in 0..count / 4 {
                let value: Vec<u8> =
                    (0..size / 8).flat_map(|at| mix(n ^ (at << 20)).to_le_bytes()).collect();
                let key = format!("big/{writer}/{n}").into();
                let request = pb::PutRequest { key, value: value.into(), ..Default::default() };
                // On a busy machine an election may come between.
                while let Err(status) = kv.put(request.clone()).await {
                    assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
                }
            }
        }
    });
    block_on(futures_util::future::join_all(writers));
}

/// Whether a snapshot is coming in at this node.
fn is_importing(node: &Node) -> bool {
    let Ok(stores) = fs::read_dir(node.data().join("store")) else { return false };
    stores.flatten().any(|it| it.path().join("import").exists())
}

fn wiped(broken: Broken) {
    let nodes = Nodes::of(3).with_short_logs().set("STRICT_RECONFIG_CHECK", false).run();
    // Under a node's own limit for requests, and altogether several chunks of a snapshot.
    fill(&nodes, 600, if broken == Broken::Nobody { 4 << 10 } else { 64 << 10 });
    let mut load = Load::start(&nodes.endpoints(), 4);
    load.goes_on(1500, &nodes.all);
    let leader = nodes.leader();
    let at = nodes.all.iter().position(|it| it.name != leader.name).unwrap();
    let (victim, leader) = (&nodes.all[at], leader.name.clone());
    let old = wire::status(&victim.client).expect("a status").member;
    victim.kill_9();
    victim.wipe();
    changed(&nodes.all, "the removal", |it| {
        let request = pb::MemberRemoveRequest { id: old };
        block_on(async { cluster(it).member_remove(request).await }).or_else(|status| {
            // A call that failed may have been done.
            if status.code() == tonic::Code::NotFound {
                Ok(tonic::Response::new(pb::MemberRemoveResponse::default()))
            } else {
                Err(status)
            }
        })
    });
    load.goes_on(300, &nodes.all);
    // As a learner that is promoted by hand, or as a voter, which is one once it has caught up.
    let by_hand = broken == Broken::Nobody;
    let new = changed(&nodes.all, "the addition", |it| {
        let peer_urls = vec![victim.peer.clone()];
        let request = pb::MemberAddRequest { peer_urls, is_learner: by_hand };
        block_on(async { cluster(it).member_add(request).await })
    });
    let new = new.into_inner().member.expect("the member").id;
    assert_ne!(new, old);
    nodes.start_as(victim, "existing");
    if broken != Broken::Nobody {
        eventually("a snapshot comes in", LONG, || {
            victim.is_alive();
            if is_importing(victim) { Ok(()) } else { Err(victim.said()) }
        });
        let sender = nodes.all.iter().find(|it| it.name == leader).unwrap();
        let falls = if broken == Broken::Sender { sender } else { victim };
        falls.kill_9();
        let was_midst = is_importing(victim);
        eprintln!("{broken:?} {} was killed; import under way: {was_midst}", falls.name);
        std::thread::sleep(Duration::from_millis(300));
        nodes.start_as(falls, if broken == Broken::Sender { "new" } else { "existing" });
    }
    if by_hand {
        changed(&nodes.all, "the promotion", |it| {
            let request = pb::MemberPromoteRequest { id: new };
            block_on(async { cluster(it).member_promote(request).await })
        });
    }
    eventually("it is a voter", LONG, || {
        nodes.all.iter().for_each(Node::is_alive);
        let status = wire::status(&victim.client)?;
        if status.learner || status.member != new { Err(format!("{status:?}")) } else { Ok(()) }
    });
    nodes.all.iter().for_each(Node::serves);
    load.goes_on(200, &nodes.all);
    nodes.agree();
    load.pause();
    nodes.agree();
    load.is_kept_by(&nodes.all.iter().collect::<Vec<_>>(), "with a member that began anew");
    for node in &nodes.all {
        let held = node.holds("big/").expect("what it holds");
        assert_eq!(held.len(), 600, "{}", node.name);
    }
    let by_snapshot = victim.said().contains("a snapshot of the leader took the state's place");
    assert!(by_snapshot, "it did not come by a snapshot:\n{}", victim.said());
    // Its own disk has all that: it counts for a quorum of two, alone with one other.
    victim.kill_9();
    nodes.start_as(victim, "existing");
    victim.serves();
    let other = nodes.all.iter().position(|it| it.name != victim.name).unwrap();
    nodes.all[other].kill_9();
    victim.serves();
    load.is_kept_by(&[victim], "with two of three");
    eprintln!("{broken:?}: {}", load.summary());
}
