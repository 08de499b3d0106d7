//! The spec: the file as people write it, and the object as an API server hands it out.
//!
//! A refusal is one line. What is accepted, printed and read again, is the same; it resolves, and
//! every node of it renders in each form, where it is read back to the same configuration.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use quorate::cluster::spec::{EtcdCluster, NodePorts, SpecError, read};
use quorate::cluster::{Wanted, WantedNode};
use quorate::render::{self, RenderError, node_config};

fuzz_target!(|text: &str| {
    match read(text, "f.yaml") {
        Ok(cluster) => file(&cluster),
        Err(error) => one_line(&error),
    }
    if let Ok(cluster) = serde_json::from_str::<EtcdCluster>(text) {
        match cluster.check_on_kubernetes() {
            Ok(()) => object(&cluster),
            Err(error) => one_line(&error),
        }
    }
});

fn one_line(error: &SpecError) {
    let text = error.to_string();
    assert!(!text.contains(char::is_control), "{text:?}");
}

fn file(cluster: &EtcdCluster) {
    let printed = serde_yaml::to_string(cluster).expect("a spec prints");
    assert_eq!(read(&printed, "").as_ref(), Ok(cluster), "{printed}");
    let ports = NodePorts { peer: 1, client: 2 };
    let ports: BTreeMap<_, _> = cluster.node_names().into_iter().map(|it| (it, ports)).collect();
    renders(&cluster.resolve(&ports).expect("a spec that was accepted resolves"));
}

fn object(cluster: &EtcdCluster) {
    let printed = serde_json::to_string(cluster).expect("a spec prints");
    let again: EtcdCluster = serde_json::from_str(&printed).expect("and reads back");
    assert_eq!(&again, cluster);
    // JSON lets more characters pass than YAML does.
    if !printed.contains(|c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}')) {
        assert_eq!(read(&printed, "").as_ref(), Ok(cluster), "the two readers agree on {printed}");
    }
    let place = |name: &str| WantedNode {
        peer_url: format!("http://{name}.svc:2380"),
        client_urls: vec![format!("http://{name}.svc:2379")],
    };
    let places: BTreeMap<_, _> =
        cluster.node_names().into_iter().map(|it| (it.clone(), place(&it.0))).collect();
    renders(&cluster.resolve_at(&places).expect("a spec that was accepted resolves"));
}

fn renders(wanted: &Wanted) {
    for node in wanted.nodes.keys() {
        let config = node_config(wanted, &[], node, "/var/lib/etcd");
        let same = |again: Result<_, RenderError>| assert_eq!(again.as_ref().ok(), Some(&config));
        same(render::parse_env(&render::print_env(&config).expect("an environment file")));
        same(render::parse_flags_text(&render::print_flags(&config).expect("flags")));
        let unit = render::print_systemd(&config, "/usr/bin/etcd").expect("a unit");
        same(render::parse_systemd(&unit));
        match render::print_yaml(&config) {
            Ok(text) => same(render::parse_yaml(&text)),
            // Some settings of etcd's are flags only.
            Err(RenderError::CannotCarry { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
