//! Every row of the contract's table of start-up outcomes (etcd-contract §2), on the embedded
//! engine: the outcome and the text of etcd, with a typed exit where etcd has the code 0, a panic,
//! or no end at all.

use std::fs;

use quorate::cluster::{ExitKind, MemberId, founding_member_id};
use quorate::node::home::Phase;
use serde_json::Value;

use super::support::{Cluster, Engine, Node, Start, eventually};

const REMOVED: [&str; 2] = [
    "the member has been permanently removed from the cluster",
    "the data-dir used by this member must be removed",
];

/// Three that serve, with one key, and the third of them.
fn three() -> Cluster {
    let cluster = Cluster::running(Engine::Embedded, 3);
    cluster.nodes[0].ask(&["put", "k", "before"]);
    cluster
}

/// The third's member is removed by hand, and has ended by itself.
fn one_removed() -> Cluster {
    let cluster = three();
    let c = &cluster.nodes[2];
    Cluster::remove(&cluster.nodes[0], Cluster::founder(c));
    // etcd's code is 0 there: a script could not tell it from a stop that was asked for.
    c.ended().is(ExitKind::Removed).says(REMOVED[0]).says(REMOVED[1]);
    cluster
}

/// Its whole home, data and stamp, as a new disk has it: nothing.
fn wipe(node: &Node) {
    fs::remove_dir_all(node.home.dir()).expect("a home");
}

/// `member add`, as a voter.
#[track_caller]
fn add(by: &Node, node: &Node) -> MemberId {
    Cluster::add(by, node, &[])
}

/// Whether the list of this node has a voter of this name that has started.
fn votes(by: &Node, name: &str) -> bool {
    let list = by.ask(&["member", "list", "-w", "json"]);
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let members = list["members"].as_array().expect("members");
    members.iter().any(|it| it["name"] == name && it["isLearner"] != true)
}

fn listing(start: Start, members: &[(&str, &str)]) -> Start {
    let list: Vec<_> = members.iter().map(|(name, url)| format!("{name}={url}")).collect();
    start.set("ETCD_INITIAL_CLUSTER", list.join(","))
}

#[test]
fn a_member_removed_while_it_runs_ends_by_itself_and_so_does_each_start_from_its_stale_data() {
    let cluster = one_removed();
    let [a, b, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    let again = [cluster.start(c), cluster.start(c).existing()];
    for start in again.clone() {
        c.refuses(start).is(ExitKind::Removed).says(REMOVED[0]).says(REMOVED[1]);
    }
    // Nobody who could tell listens where it looks: its peers themselves turn it away, as they do
    // with etcd's.
    let alone = listing(cluster.start(c), &[("n3", &c.peer)]);
    c.run(alone);
    c.ended().is(ExitKind::Removed).says(REMOVED[0]).says(REMOVED[1]);

    add(a, c);
    for start in again {
        c.refuses(start).is(ExitKind::Removed).says(REMOVED[0]).says(REMOVED[1]);
    }
    b.ask(&["put", "k", "after"]);
}

#[test]
fn a_wiped_member_that_was_added_again_never_runs_under_its_old_id() {
    let cluster = one_removed();
    let [a, _, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    let old = founding_member_id([c.peer.as_str()], "story");
    wipe(c);
    let new = add(a, c);
    assert_ne!(old, new);
    // As `new` with the old token etcd derives the ID of the removed member and is told so by its
    // peers. Here it is told before it runs, and what to do.
    let ended = c.refuses(cluster.start(c));
    ended.is(ExitKind::AlreadyBootstrapped).says("has been founded already").says("joins it");
    // Under another token etcd runs for ever with "request cluster ID mismatch (got … want …)".
    let other = cluster.start(c).set("ETCD_INITIAL_CLUSTER_TOKEN", "other");
    let theirs = a.home.stamp().unwrap().unwrap().cluster;
    c.refuses(other).is(ExitKind::ClusterIdMismatch).says(theirs.to_string());
    assert!(!c.home.data().exists() && c.home.stamp().unwrap().is_none());
}

#[test]
fn a_healthy_member_that_lost_its_disk_is_lost_data_and_no_panic() {
    let cluster = three();
    let [a, _, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    c.stop();
    for lost in [c.home.data(), c.home.dir().to_owned()] {
        fs::remove_dir_all(lost).unwrap();
        let ended = c.refuses(cluster.start(c));
        ended.is(ExitKind::DataLost).says("has already been bootstrapped");
        // etcd: `panic: tocommit(15) is out of range [lastIndex(0)]`, after it may have voted.
        let ended = c.refuses(cluster.start(c).existing());
        ended.is(ExitKind::DataLost).says("its data is not there").says("must be replaced");
    }
    a.ask(&["put", "k", "after"]);
}

#[test]
fn an_empty_node_that_nobody_added_does_not_join_and_one_that_knows_nobody_neither() {
    let cluster = one_removed();
    let [a, b, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    wipe(c);
    let ended = c.refuses(cluster.start(c).existing());
    ended.is(ExitKind::MemberCountUnequal).says("member count is unequal").says(&c.peer);
    let alone = listing(cluster.start(c).existing(), &[("n3", &c.peer)]);
    c.refuses(alone).is(ExitKind::NoPeers).says("cannot fetch cluster info from peer urls");
    let nobody = listing(
        cluster.start(c).existing(),
        &[("n1", "http://127.9.3.1:1"), ("n2", "http://127.9.3.1:2"), ("n3", &c.peer)],
    );
    c.refuses(nobody).is(ExitKind::NoPeers);
    let nameless = listing(cluster.start(c), &[("n1", &a.peer), ("n2", &b.peer)]);
    let ended = c.refuses(nameless);
    ended
        .is(ExitKind::NameNotInCluster)
        .says("couldn't find local name \"n3\" in the initial cluster configuration");
    assert!(!c.home.data().exists() && c.home.stamp().unwrap().is_none());

    // Added, but it says that it listens elsewhere.
    add(a, c);
    let elsewhere = cluster.start(c).existing();
    let elsewhere = listing(elsewhere, &[("n1", &a.peer), ("n3", "http://127.9.3.1:1")])
        .set("ETCD_INITIAL_ADVERTISE_PEER_URLS", "http://127.9.3.1:1");
    c.refuses(elsewhere).is(ExitKind::MemberCountUnequal).says("http://127.9.3.1:1");
}

#[test]
fn the_right_way_back_is_removed_wiped_added_and_existing() {
    let cluster = one_removed();
    let [a, b, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    wipe(c);
    let new = add(a, c);
    c.run(cluster.start(c).existing());
    c.serves();
    assert_eq!(c.ask(&["get", "k", "--print-value-only"]), "before\n");
    assert_eq!(c.home.stamp().unwrap().unwrap().member, new);
    // It is a voter soon, with nothing more asked: the two can do without either of the others.
    eventually("the new member votes", || votes(a, "n3").then_some(()));
    b.stop();
    eventually("a quorum of the old and the new", || {
        c.ctl(&["put", "k", "after"]).status.success().then_some(())
    });
}

/// etcd ends with `PeerURLs: no match found for existing member` or `couldn't find local name`.
/// Here the list is rendered from the live one, and the settings only say whom to ask for it.
#[test]
fn a_wrong_url_of_another_peer_or_a_list_without_the_own_name_does_not_stop_one_that_joins() {
    let cluster = one_removed();
    let [a, b, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    wipe(c);
    add(a, c);
    let wrong = [("n1", a.peer.as_str()), ("n2", "http://127.9.3.1:1"), ("n3", &c.peer)];
    c.run(listing(cluster.start(c).existing(), &wrong));
    c.serves();
    eventually("the new member votes", || votes(a, "n3").then_some(()));

    let place = Cluster::spare(Engine::Embedded);
    let d = &place.nodes[0];
    add(a, d);
    d.run(listing(place.start(d).existing(), &[("n1", &a.peer), ("n2", &b.peer)]));
    d.serves();
}

#[test]
fn with_its_data_kept_a_member_starts_normally_whatever_the_initial_settings_say() {
    let cluster = three();
    let c = &cluster.nodes[2];
    for state in ["new", "existing"] {
        c.stop();
        let bogus = listing(cluster.start(c), &[("other", "http://127.9.3.1:1")])
            .set("ETCD_INITIAL_CLUSTER_STATE", state)
            .set("ETCD_INITIAL_CLUSTER_TOKEN", "bogus");
        c.run(bogus);
        c.serves();
        assert_eq!(c.home.stamp().unwrap().unwrap().member, Cluster::founder(c));
    }
    // All of them at once: their data is all there is, and enough (safety 3).
    for node in &cluster.nodes {
        node.stop();
    }
    for node in &cluster.nodes {
        node.run(listing(cluster.start(node), &[("other", "http://127.9.3.1:1")]));
    }
    for node in &cluster.nodes {
        node.serves();
    }
    assert_eq!(c.ask(&["get", "k", "--print-value-only"]), "before\n");
}

/// etcd refuses every removal for five seconds after a boot; here those who are needed are looked
/// for, so that a healthy cluster may be changed at once (safety 16).
#[test]
fn a_removal_that_would_leave_no_quorum_is_an_unhealthy_cluster_and_a_safe_one_is_not() {
    let cluster = Cluster::of(Engine::Embedded, 3);
    let start = |node: &Node| cluster.start(node).set("ETCD_STRICT_RECONFIG_CHECK", "true");
    for node in &cluster.nodes {
        node.run(start(node));
    }
    for node in &cluster.nodes {
        node.serves();
    }
    let [a, b, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    c.stop();
    eventually("the silence of one is noticed", || {
        let output = a.ctl(&["member", "remove", &Cluster::founder(b).to_string()]);
        assert!(!output.status.success(), "one of two that are needed was removed");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        said.contains("etcdserver: unhealthy cluster").then_some(())
    });
    c.run(start(c));
    c.serves();
    c.reaches(Phase::Running);
    Cluster::remove(a, Cluster::founder(c));
    c.ended().is(ExitKind::Removed);
    a.ask(&["put", "k", "v"]);
}
