//! Ports that are for metrics and health checks alone (`--listen-metrics-urls`).

use std::net::TcpListener;
use std::time::Duration;

use quorate::client::peer;
use quorate::cluster::ExitKind;
use tokio::runtime::Builder;

use super::support::{Cluster, Engine, HOST, Node, eventually, free_port, on_both_engines};

on_both_engines![
    metrics_are_served_on_their_own_ports_also_while_the_node_is_not_ready,
    a_port_for_metrics_that_is_taken_names_its_holder,
];

/// What a page answers: its status and its text.
fn page(url: &str, path: &str) -> Option<(u16, String)> {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let url = format!("{url}{path}");
    let answer = runtime.block_on(peer::get(&url, Duration::from_secs(30))).ok()?;
    Some((answer.status, String::from_utf8(answer.body.to_vec()).unwrap()))
}

fn says(url: &str, path: &str) -> (u16, String) {
    page(url, path).unwrap_or_else(|| panic!("{url}{path} answers"))
}

fn metrics_are_served_on_their_own_ports_also_while_the_node_is_not_ready(engine: Engine) {
    let cluster = Cluster::running(engine, 2);
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    a.stop();
    b.signal(rustix::process::Signal::TERM);
    b.ended();
    let urls = [(); 2].map(|()| format!("http://{HOST}:{}", free_port()));
    a.run(cluster.start(a).arg("--listen-metrics-urls", urls.join(",")));
    // Without a quorum it serves no client, and says so here.
    for url in &urls {
        let (_, text) = eventually("it says that it is not well", || {
            page(url, "/health").filter(|it| it.0 == 503)
        });
        assert!(text.contains("\"health\":\"false\""), "{text}");
        assert!(says(url, "/metrics").1.contains("\netcd_server_has_leader 0\n"));
    }
    assert!(!a.ctl(&["endpoint", "health"]).status.success());
    b.run(cluster.start(b));
    a.serves();
    // A busy machine may hold an election at any time.
    let leads = |url: &str| {
        eventually("it says that it has a leader", || {
            says(url, "/metrics").1.contains("\netcd_server_has_leader 1\n").then_some(())
        });
    };
    for url in &urls {
        let (_, text) =
            eventually("it says that it is well", || page(url, "/health").filter(|it| it.0 == 200));
        assert!(text.contains("\"health\":\"true\""), "{text}");
        leads(url);
        // Nothing else is there.
        assert_eq!(says(url, "/version").0, 404);
        assert_eq!(says(url, "/v2/members").0, 404);
        let elsewhere = Node::ctl_on(url, &["get", "k"]);
        assert!(!elsewhere.status.success(), "{elsewhere:?}");
    }
    // And on the client port as well.
    leads(&a.client);
    assert_eq!(says(&a.client, "/version").0, 200);
    a.stop();
    assert_eq!(page(&urls[0], "/health"), None);
}

fn a_port_for_metrics_that_is_taken_names_its_holder(engine: Engine) {
    let cluster = Cluster::of(engine, 1);
    let node = &cluster.nodes[0];
    let ours = TcpListener::bind((HOST, 0)).unwrap();
    let taken = ours.local_addr().unwrap();
    let urls = format!("http://{HOST}:{},http://{taken}", free_port());
    let ended = node.refuses(cluster.start(node).arg("--listen-metrics-urls", urls));
    let holder = format!("{taken} is in use: pid {} ", std::process::id());
    ended.is(ExitKind::AddressInUse).says(holder);
    assert!(!node.home.data().exists(), "nothing was begun");
}
