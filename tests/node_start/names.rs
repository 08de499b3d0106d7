//! Peers that are known by the name of their host: it is looked up anew at each connection, and is
//! no address to listen on.

use std::net::TcpListener;

use quorate::cluster::Role;

use super::support::{Cluster, Engine, Node, Start, free_port, on_both_engines};

on_both_engines![a_cluster_whose_peer_urls_are_names_is_founded_joined_and_started_again];

/// A port that is free on every address.
fn port() -> u16 {
    loop {
        let port = free_port();
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

fn by_name(mut cluster: Cluster) -> Cluster {
    for node in &mut cluster.nodes {
        node.peer = format!("http://localhost:{}", port());
    }
    cluster
}

/// As in a pod: known by its name, it listens on every address.
fn start(cluster: &Cluster, node: &Node) -> Start {
    let listen = node.peer.replace("localhost", "0.0.0.0");
    cluster.start(node).set("ETCD_LISTEN_PEER_URLS", listen)
}

fn a_cluster_whose_peer_urls_are_names_is_founded_joined_and_started_again(engine: Engine) {
    let cluster = by_name(Cluster::of(engine, 3));
    let [a, b, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    for node in [a, b, c] {
        node.run(start(&cluster, node));
    }
    for node in [a, b, c] {
        node.serves();
        assert_eq!(node.home.stamp().unwrap().expect("a stamp").member, Cluster::founder(node));
    }
    a.ask(&["put", "k", "v"]);

    let place = by_name(Cluster::spare(engine));
    let d = &place.nodes[0];
    let member = Cluster::add_learner(a, d);
    let list = [a, d].map(|it| format!("{}={}", it.name, it.peer)).join(",");
    d.run(start(&place, d).existing().set("ETCD_INITIAL_CLUSTER", list));
    Cluster::promote(a, member);
    d.serves();
    assert_eq!(d.home.stamp().unwrap().expect("a stamp").member, member);
    let listed = a.ask(&["member", "list"]);
    assert!(listed.contains(&d.peer) && listed.contains(&b.peer), "{listed}");

    // From their data, all at once.
    for node in [a, b, c, d] {
        node.stop();
    }
    for node in [a, b, c] {
        node.run(start(&cluster, node));
    }
    d.run(start(&place, d));
    for node in [a, b, c, d] {
        node.serves();
    }
    assert_eq!(d.ask(&["get", "k", "--print-value-only"]), "v\n");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limit = std::time::Duration::from_secs(30);
    let known = runtime.block_on(quorate::client::peer::members(&b.peer, limit)).unwrap();
    assert!(known.members.iter().all(|it| it.role == Role::Voter), "{known:?}");
}
