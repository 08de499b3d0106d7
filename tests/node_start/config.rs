//! Where the configuration comes from, and which source wins.

use std::fs;

use quorate::cluster::ExitKind;

use super::support::{Cluster, Engine, Start, on_both_engines, quorate};

on_both_engines![
    flags_win_over_the_environment_and_unknown_ones_are_told_by_kind,
    a_config_file_counts_alone_and_the_home_lies_beside_the_data_it_names,
];

fn flags_win_over_the_environment_and_unknown_ones_are_told_by_kind(engine: Engine) {
    let cluster = Cluster::of(engine, 1);
    let node = &cluster.nodes[0];
    // Only the flags make a start that works; one dash or two, our own among etcd's.
    let start: Start = cluster
        .start(node)
        .set("ETCD_NAME", "environment")
        .set("ETCD_LISTEN_CLIENT_URLS", "http://192.0.2.1:1")
        .set("ETCD_NAMES", "nobody")
        .arg("-name", &node.name)
        .arg("--listen-client-urls", &node.client)
        .arg("--node-home", node.home.dir().display())
        .arg("-heartbeat-interval", "40");
    node.run_exactly(engine.named(start));
    node.serves();
    let said = node.said();
    for warning in [
        "warning: --name and ETCD_NAME are both given: the flag wins",
        "warning: --listen-client-urls and ETCD_LISTEN_CLIENT_URLS are both given: the flag wins",
        "warning: --heartbeat-interval and ETCD_HEARTBEAT_INTERVAL are both given: the flag wins",
        "warning: unrecognized environment variable ETCD_NAMES is ignored",
    ] {
        assert!(said.contains(warning), "{warning:?} is not in\n{said}");
    }
    node.stop();

    let ended = node.refuses(cluster.start(node).arg("--nmae", "x"));
    ended.is(ExitKind::BadConfig).says("nmae").says("did you mean name?");
    let ended = node.refuses(cluster.start(node).set("ETCD_WAL_DIR", "/elsewhere"));
    ended.is(ExitKind::BadConfig).says("wal-dir");
    assert_eq!(node.state().unwrap().exit.unwrap().kind, ExitKind::BadConfig);
}

fn a_config_file_counts_alone_and_the_home_lies_beside_the_data_it_names(engine: Engine) {
    let cluster = Cluster::of(engine, 1);
    let node = &cluster.nodes[0];
    let data = cluster.dir().join("etcd1");
    let file = cluster.dir().join("etcd.yaml");
    let text = format!(
        "name: n1\ndata-dir: {}\nlisten-peer-urls: {peer}\nlisten-client-urls: {client}\n\
         initial-advertise-peer-urls: {peer}\nadvertise-client-urls: {client}\n\
         initial-cluster: n1={peer}\n",
        data.display(),
        peer = node.peer,
        client = node.client
    );
    fs::write(&file, text).unwrap();
    let start = cluster.start(node).arg("--config-file", file.display());
    node.run_exactly(engine.named(start));
    node.serves();
    let warning = "counts alone; ignored: ETCD_ADVERTISE_CLIENT_URLS";
    assert!(node.said().contains(warning), "{}", node.said());
    assert!(engine.log_dir(&data).is_dir() && data.join("quorate-stamp.json").is_file());
    let home = cluster.dir().join("etcd1.quorate");
    assert!(home.join("member.json").is_file() && !node.home.data().exists());
    // Both name the same node.
    for path in [&home, &data] {
        let (code, said) = quorate(&["inspect", &path.display().to_string(), "-o", "json"]);
        let seen: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(
            (code, &seen[0]["data"], &seen[0]["running"]),
            (0, &"holds".into(), &true.into())
        );
    }
    node.stop();
}

#[test]
fn the_help_lists_every_typed_end_with_its_code() {
    let (code, help) = quorate(&["node", "--help"]);
    assert_eq!(code, 0);
    for kind in ExitKind::ALL {
        assert!(help.contains(&format!("{} {kind}", kind.code())), "{kind} is not in\n{help}");
    }
    for flag in ["--exec <PATH>", "--state-listen <HOST:PORT>", "--termination-log <PATH>"] {
        assert!(help.contains(flag), "{flag} is not in\n{help}");
    }
}
