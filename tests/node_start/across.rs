//! Two engines, one place: neither ever runs on what the other one wrote.

use std::fs;
use std::path::Path;

use quorate::cluster::{Disk, ExitKind};
use quorate::node::data;

use super::files::copy_dir;
use super::support::{Cluster, Engine, eventually, on_both_engines, quorate};

on_both_engines![
    the_other_engine_refuses_the_data_names_the_way_and_leaves_every_byte_as_it_was,
    a_place_with_the_logs_of_both_is_damaged_and_never_empty,
    a_cluster_of_the_other_engine_is_not_joined_and_nothing_is_touched,
];

/// Every file below a directory, with its bytes.
fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.push((path.display().to_string(), Vec::new()));
            found.extend(content(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).expect("a file")));
        }
    }
    found.sort();
    found
}

fn the_other_engine_refuses_the_data_names_the_way_and_leaves_every_byte_as_it_was(engine: Engine) {
    let cluster = Cluster::running(engine, 1);
    let node = &cluster.nodes[0];
    node.ask(&["put", "k", "v"]);
    node.stop();
    let (data, stamp) = (node.home.data(), node.home.stamp().unwrap());
    let before = content(&data);
    let way = match engine {
        Engine::Upstream => "an upstream etcd; run that one: --exec PATH",
        Engine::Embedded => "the embedded engine; run that one: without --exec",
    };
    for start in [cluster.start(node), cluster.start(node).existing()] {
        node.run_on(engine.other(), start);
        node.ended().is(ExitKind::BadConfig).says(way).says(data.display().to_string());
    }
    // Where only the log says whose it is, and nobody here has started it.
    for name in ["member.json", "data/quorate-stamp.json"] {
        fs::rename(node.home.dir().join(name), cluster.dir().join("aside")).unwrap();
        node.run_on(engine.other(), cluster.start(node));
        let ended = node.ended();
        assert_ne!(ended.code, 0, "{ended:?}");
        fs::rename(cluster.dir().join("aside"), node.home.dir().join(name)).unwrap();
    }
    assert!(content(&data) == before, "the data was touched");
    assert_eq!((node.home.stamp().unwrap(), node.home.asides().unwrap().len()), (stamp, 0));
    node.run(cluster.start(node));
    node.serves();
    assert_eq!(node.ask(&["get", "k", "--print-value-only"]), "v\n");
}

fn a_cluster_of_the_other_engine_is_not_joined_and_nothing_is_touched(engine: Engine) {
    let cluster = Cluster::running(engine.other(), 1);
    let place = Cluster::spare(engine);
    let (a, b) = (&cluster.nodes[0], &place.nodes[0]);
    let new = Cluster::add_learner(a, b);
    let seed = format!("{}={},{}={}", a.name, a.peer, b.name, b.peer);
    let join = place.start(b).existing().set("ETCD_INITIAL_CLUSTER", seed);
    let join = join.arg("--expect-member", new);
    b.refuses(join.clone()).is(ExitKind::BadConfig).says("cannot join");
    assert!(!b.home.data().exists() && b.home.stamp().unwrap().is_none());
    // The right engine can.
    b.run_on(engine.other(), join);
    eventually("the learner is started", || {
        a.ask(&["member", "list"]).contains(", started, spare, ").then_some(())
    });
}

fn a_place_with_the_logs_of_both_is_damaged_and_never_empty(engine: Engine) {
    let cluster = Cluster::running(engine, 1);
    let node = &cluster.nodes[0];
    let rival = Cluster::running(engine.other(), 1);
    node.stop();
    rival.nodes[0].stop();
    let (data, others) = (node.home.data(), engine.other().log_dir(&rival.nodes[0].home.data()));
    let added = engine.other().log_dir(&data);
    fs::create_dir_all(added.parent().unwrap()).unwrap();
    copy_dir(&others, &added);
    assert!(data::ids(&data).is_err());
    assert!(matches!(node.home.disk(), Disk::Damaged { .. }), "{:?}", node.home.disk());
    let before = content(&data);
    for which in [engine, engine.other()] {
        for start in [cluster.start(node), cluster.start(node).existing()] {
            node.run_on(which, start);
            node.ended().is(ExitKind::DataDamaged);
        }
    }
    let (code, said) = quorate(&["inspect", &node.home.dir().display().to_string()]);
    assert!(code == 3 && said.contains("an upstream etcd's log lies beside the"), "{said}");
    assert!(content(&data) == before, "the data was touched");
    // Without the stranger it is what it was.
    fs::remove_dir_all(&added).unwrap();
    node.run(cluster.start(node));
    node.serves();
}
