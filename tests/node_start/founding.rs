//! Founding: together or not at all, and only once.

use std::fs;

use quorate::cluster::{ExitKind, FoundingId, founding_cluster_id};
use quorate::node::data;
use quorate::node::home::Phase;

use super::support::{Cluster, Engine, Node, eventually, on_both_engines};

on_both_engines![
    founders_that_come_late_are_waited_for_and_each_gets_the_id_etcd_would_give_it,
    a_founder_that_lost_its_disk_never_founds_again,
    founders_of_different_foundings_refuse_each_other_by_name,
    a_founder_whose_ports_are_taken_names_their_holder_and_is_not_stamped,
    without_a_founding_id_the_same_list_and_token_are_the_same_founding,
];

fn founders_that_come_late_are_waited_for_and_each_gets_the_id_etcd_would_give_it(engine: Engine) {
    let cluster = Cluster::of(engine, 3);
    let [a, b, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    let start = |node: &Node| cluster.start(node).arg("--founding-id", FoundingId(0xf1));

    a.run(start(a));
    a.reaches(Phase::Barrier);
    b.run(start(b));
    b.reaches(Phase::Barrier);
    // One of them is stopped while it waits: an end as asked, and nothing was founded.
    a.stop();
    assert!(a.home.stamp().unwrap().is_none() && !a.home.data().exists());
    a.run(start(a));
    a.reaches(Phase::Barrier);
    c.run(start(c));

    for node in [a, b, c] {
        node.serves();
        let stamp = node.home.stamp().unwrap().expect("a stamp");
        assert_eq!(stamp.member, Cluster::founder(node));
        assert_eq!(stamp.founding, Some(FoundingId(0xf1)));
        let ids = data::ids(&node.home.data()).unwrap().expect("a log");
        assert_eq!((ids.member, ids.cluster), (stamp.member, stamp.cluster));
    }
    let founded = founding_cluster_id([a, b, c].map(Cluster::founder));
    assert_eq!(c.home.stamp().unwrap().unwrap().cluster, founded);
    let list = a.ask(&["member", "list"]);
    for node in [a, b, c] {
        assert!(list.contains(&format!("{}, started, {}", Cluster::founder(node), node.name)));
        node.stop();
    }
}

fn a_founder_that_lost_its_disk_never_founds_again(engine: Engine) {
    let cluster = Cluster::running(engine, 3);
    let [a, b, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    a.ask(&["put", "k", "acknowledged"]);
    c.stop();
    fs::remove_dir_all(c.home.data()).unwrap();

    // The others serve: the list says that its member has run, whatever state it is started in.
    c.refuses(cluster.start(c)).is(ExitKind::DataLost);
    c.refuses(cluster.start(c).existing()).is(ExitKind::DataLost).says("has run before");
    // Nobody answers: its own stamp says so.
    a.stop();
    b.stop();
    c.refuses(cluster.start(c)).is(ExitKind::DataLost).says("never founded twice");
    // Even without its home: one of the others back, and without a quorum, is enough to know.
    a.run(cluster.start(a));
    a.reaches(Phase::Running);
    a.remembers(3);
    fs::remove_dir_all(c.home.dir()).unwrap();
    c.refuses(cluster.start(c)).is(ExitKind::DataLost).says("ran in it");
    // The two that kept their data go on from it, on the same command.
    b.run(cluster.start(b));
    b.serves();
    assert_eq!(b.ask(&["get", "k", "--print-value-only"]), "acknowledged\n");
}

fn founders_of_different_foundings_refuse_each_other_by_name(engine: Engine) {
    let cluster = Cluster::of(engine, 2);
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    a.run(cluster.start(a).arg("--founding-id", FoundingId(0xaaa)));
    a.reaches(Phase::Barrier);
    b.run(cluster.start(b).arg("--founding-id", FoundingId(0xbbb)));
    // Whoever hears of the other first; nobody is there then for the other one to hear of.
    let first = eventually("one of them ends", || [a, b].into_iter().find(|it| it.has_ended()));
    first.ended().is(ExitKind::ClusterIdMismatch).says("aaa").says("bbb");
    for node in [a, b] {
        assert!(node.home.stamp().unwrap().is_none());
    }
}

fn a_founder_whose_ports_are_taken_names_their_holder_and_is_not_stamped(engine: Engine) {
    let cluster = Cluster::of(engine, 1);
    let node = &cluster.nodes[0];
    for url in [&node.peer, &node.client] {
        let address = url.trim_start_matches("http://");
        let stranger = std::net::TcpListener::bind(address).unwrap();
        let ended = node.refuses(cluster.start(node));
        ended.is(ExitKind::AddressInUse).says(address).says(format!("pid {}", std::process::id()));
        drop(stranger);
    }
    // Had it been stamped, it would now count as having lost its data.
    node.run(cluster.start(node));
    node.serves();
}

fn without_a_founding_id_the_same_list_and_token_are_the_same_founding(engine: Engine) {
    let cluster = Cluster::running(engine, 1);
    let node = &cluster.nodes[0];
    node.stop();
    // Its own data wins over whatever the initial settings say by now (contract §2).
    let bogus = cluster
        .start(node)
        .set("ETCD_INITIAL_CLUSTER", "other=http://127.9.3.1:1")
        .set("ETCD_INITIAL_CLUSTER_TOKEN", "bogus");
    node.run(bogus);
    node.serves();
    node.stop();
    // An emptied disk under another token is not a reason to found either.
    fs::remove_dir_all(node.home.data()).unwrap();
    node.refuses(cluster.start(node)).is(ExitKind::DataLost);
}
