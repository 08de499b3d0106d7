//! Founding: together or not at all, and only once.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate::cluster::{ExitKind, FoundingId, founding_cluster_id};
use quorate::node::barrier::{self, Word};
use quorate::node::data;
use quorate::node::home::Phase;
use rustix::process::Signal;

use super::support::{Cluster, Engine, Node, eventually, on_both_engines};

on_both_engines![
    founders_that_come_late_are_waited_for_and_each_gets_the_id_etcd_would_give_it,
    a_founder_that_lost_its_disk_never_founds_again,
    founders_of_different_foundings_refuse_each_other_by_name,
    a_founder_whose_ports_are_taken_names_their_holder_and_is_not_stamped,
    without_a_founding_id_the_same_list_and_token_are_the_same_founding,
    a_founder_killed_after_it_agreed_still_takes_its_part,
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

/// Answers at the barrier for a node that is not there: that it is empty, until it has agreed.
fn answers_for(node: &Node, founding: FoundingId) -> Arc<AtomicBool> {
    let address = node.peer.trim_start_matches("http://");
    let listener = TcpListener::bind(address).unwrap();
    let (name, agreed) = (node.name.clone(), Arc::new(AtomicBool::new(false)));
    let has_agreed = Arc::clone(&agreed);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap_or(0);
            let is_asked = request[..length].starts_with(b"GET /quorate/founding ");
            let is_agreed = has_agreed.load(Ordering::SeqCst);
            let phase = if is_agreed { barrier::Phase::Agreed } else { barrier::Phase::Empty };
            let word = Word { founding, node: name.clone(), phase };
            let body = serde_json::to_string(&word).unwrap();
            let status = if is_asked { "200 OK" } else { "503 Service Unavailable" };
            let length = body.len();
            // Whoever has hung up asks again.
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    });
    agreed
}

fn a_founder_killed_after_it_agreed_still_takes_its_part(engine: Engine) {
    let cluster = Cluster::of(engine, 3);
    let [a, b, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    let founding = FoundingId(0xf1);
    let start = |node: &Node| cluster.start(node).arg("--founding-id", founding);
    let agreed = answers_for(c, founding);
    a.run(start(a));
    b.run(start(b));
    for node in [a, b] {
        eventually("it agrees", || node.home.promise().unwrap().filter(|it| *it == founding));
    }
    // Each asks the other twenty times a second, if the machine lets it.
    std::thread::sleep(Duration::from_secs(5));
    a.signal(Signal::KILL);
    eventually("it is gone", || a.has_ended().then_some(()));
    // The other one has all it waited for, and runs alone, without a quorum.
    agreed.store(true, Ordering::SeqCst);
    b.reaches(Phase::Running);
    assert_eq!(b.home.promise().unwrap(), None, "kept");
    // Without the promise it might be one that ran and lost its disk.
    let promise = a.home.dir().join("promise.json");
    let aside = promise.with_extension("aside");
    fs::rename(&promise, &aside).unwrap();
    a.refuses(start(a)).is(ExitKind::AlreadyBootstrapped);
    fs::rename(&aside, &promise).unwrap();
    // Nor does it wait for one that has lost its disk meanwhile, and with it what it promised.
    agreed.store(false, Ordering::SeqCst);
    a.run(start(a));
    a.serves();
    b.serves();
    assert_eq!(a.home.promise().unwrap(), None, "kept");
    // From now on an empty disk is lost data.
    a.stop();
    fs::remove_dir_all(a.home.data()).unwrap();
    a.refuses(start(a)).is(ExitKind::DataLost);
    b.stop();
}
