//! What a right spec means once every default is filled in.

use std::collections::BTreeMap;
use std::path::Path;

use quorate::cluster::spec::{
    AccessMode, DeletionPolicy, EMBEDDED_VERSION, Engine, NodePorts, RemediationSpec, Storage,
    UpdateStrategy, change_allowed, default_local, read,
};
use quorate::cluster::{NodeName, Remediation, Wanted, WantedNode};

fn sample(name: &str) -> quorate::cluster::spec::EtcdCluster {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/samples").join(name);
    let text = std::fs::read_to_string(&path).expect("a sample");
    read(&text, name).unwrap_or_else(|error| panic!("{error}"))
}

fn urls(wanted: &Wanted) -> Vec<String> {
    let node = |(name, node): (&NodeName, &quorate::cluster::WantedNode)| {
        format!("{name} {} {}", node.peer_url, node.client_urls.join(" "))
    };
    wanted.nodes.iter().map(node).collect()
}

#[test]
fn every_sample_is_read() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/samples");
    let mut count = 0;
    for entry in std::fs::read_dir(samples).expect("the samples") {
        let name = entry.expect("a sample").file_name().into_string().expect("a name");
        let cluster = sample(&name);
        assert!(cluster.needs_ports() || cluster.resolve(&BTreeMap::new()).is_ok(), "{name}");
        count += 1;
    }
    assert!(count >= 3, "only {count} samples are left");
}

#[test]
fn the_how_tos_cluster_has_its_names_addresses_ports_and_token() {
    let wanted = sample("howto.yaml").resolve(&BTreeMap::new()).expect("resolved");
    assert_eq!((&*wanted.name, &*wanted.token), ("hilinux-etcd-cluster", "hilinux-etcd-cluster"));
    assert_eq!(
        urls(&wanted),
        [210, 211, 212].map(|host| format!(
            "etcd{} http://192.168.2.{host}:2380 http://192.168.2.{host}:2379 http://192.168.2.{host}:4001",
            host - 209
        ))
    );
    assert_eq!(wanted.remediation, Remediation::default());
    assert!(wanted.options.settings().is_empty());
}

#[test]
fn the_local_how_to_differs_in_its_network_only() {
    let text = |name| serde_yaml::to_string(&sample(name)).expect("YAML");
    assert_eq!(text("howto-local.yaml"), text("howto.yaml").replace("192.168.2.", "127.0.2."));
}

#[test]
fn replicas_run_on_loopback_with_the_ports_they_were_given() {
    let cluster = default_local("c");
    assert_eq!(cluster.node_names(), ["c-0", "c-1", "c-2"].map(NodeName::from));
    let refused = cluster.resolve(&BTreeMap::new()).expect_err("no ports").to_string();
    assert!(refused.starts_with("spec.replicas: no ports are set aside for c-0"), "{refused}");
    let ports = cluster.node_names().into_iter().zip([(10, 11), (20, 21), (30, 31)]);
    let ports = ports.map(|(name, (peer, client))| (name, NodePorts { peer, client })).collect();
    assert_eq!(
        urls(&cluster.resolve(&ports).expect("resolved")),
        [
            "c-0 http://127.0.0.1:10 http://127.0.0.1:11",
            "c-1 http://127.0.0.1:20 http://127.0.0.1:21",
            "c-2 http://127.0.0.1:30 http://127.0.0.1:31"
        ]
    );
}

#[test]
fn what_a_node_says_wins_over_what_the_cluster_says() {
    let text = "
apiVersion: quorate.dev/v1alpha1
kind: EtcdCluster
metadata: {name: c, namespace: n, labels: {a: b}, uid: x}
spec:
  peerPort: 1
  nodes:
  - {name: n1, address: 'FD00:0::1', peerPort: 2, clientPorts: [3, 4]}
  - {name: n2, address: etcd2.example.org}
  - {name: n3, address: 10.0.0.3, clientPorts: [5]}
  options:
    electionTimeoutMs: 2000
    snapshotCount: 10000
    settings: {auto-compaction-retention: 1h, pre-vote: 'T', backend-batch-interval: 1000ms}
  remediation: {unhealthySeconds: 7}
status: {anything: 5}
";
    let cluster = read(text, "c.yaml").expect("a spec");
    assert_eq!(cluster.kubernetes_only(), ["metadata.namespace"]);
    let wanted = cluster.resolve(&BTreeMap::new()).expect("resolved");
    assert_eq!(wanted.token, "c");
    assert_eq!(
        urls(&wanted),
        [
            "n1 http://[fd00::1]:2 http://[fd00::1]:3 http://[fd00::1]:4",
            "n2 http://etcd2.example.org:1 http://etcd2.example.org:2379",
            "n3 http://10.0.0.3:1 http://10.0.0.3:5"
        ]
    );
    let settings: Vec<_> = wanted
        .options
        .settings()
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        settings,
        [
            "auto-compaction-retention=1h",
            "backend-batch-interval=1s",
            "election-timeout=2000",
            "pre-vote=true",
            "snapshot-count=10000"
        ]
    );
    assert_eq!(wanted.remediation, Remediation { unhealthy_seconds: 7, ..Remediation::default() });
    // What was read can be written and read again.
    let again = serde_yaml::to_string(&cluster).expect("YAML");
    assert_eq!(read(&again, "again.yaml").expect("a spec"), cluster);
}

#[test]
fn a_home_keeps_its_name_and_its_token() {
    let cluster = sample("howto.yaml");
    let token = "hilinux-etcd-cluster";
    assert_eq!(change_allowed(token, token, &cluster), Ok(()));
    let refused =
        |name, token| change_allowed(name, token, &cluster).expect_err("a change").to_string();
    assert!(refused("other", token).starts_with("metadata.name: hilinux-etcd-cluster is not the cluster of this home, which is other; write other again"));
    assert!(refused(token, "other").starts_with("spec.token: "));
}

/// Every field that means something on Kubernetes only.
const PODS: &str = "
apiVersion: quorate.dev/v1alpha1
kind: EtcdCluster
metadata: {name: c}
spec:
  replicas: 3
  engine: Etcd
  image: gcr.io/etcd-development/etcd:v3.6.5
  version: v3.6.5
  paused: true
  storage:
    volumeClaimTemplate: {storageClassName: fast, accessModes: [ReadWriteOncePod], size: 10Gi}
  resources:
    requests: {cpu: 100m, memory: 512Mi, example.org/disks: '1'}
    limits: {memory: 0.5Gi}
  podTemplate:
    labels: {team: storage, example.org/tier: ''}
    annotations: {note: any text at all}
    nodeSelector: {kubernetes.io/os: linux}
    tolerations: [{key: dedicated, operator: Exists, effect: NoSchedule}]
    affinity: {nodeAffinity: {anything: [1, 2.5, null]}}
    topologySpreadConstraints:
    - {maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: DoNotSchedule}
    priorityClassName: system-cluster-critical
    env: [{name: GOMAXPROCS, value: '2'}]
    securityContext: {runAsUser: 1000, runAsGroup: 0, fsGroup: 1000}
    terminationGracePeriodSeconds: 60
    imagePullPolicy: Always
    imagePullSecrets: [{name: registry}]
  updateStrategy: {type: OnDelete}
  podDisruptionBudget: {enabled: false}
  deletionPolicy: Delete
";

#[test]
fn what_is_said_of_pods_is_read_kept_and_passed_over_elsewhere() {
    let cluster = read(PODS, "c.yaml").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        cluster.kubernetes_only(),
        [
            "spec.engine",
            "spec.image",
            "spec.version",
            "spec.paused",
            "spec.storage",
            "spec.resources",
            "spec.podTemplate",
            "spec.updateStrategy",
            "spec.podDisruptionBudget",
            "spec.deletionPolicy"
        ]
    );
    let spec = &cluster.spec;
    assert_eq!(
        (spec.engine(), spec.version(), spec.is_paused()),
        (Engine::Etcd, Some("3.6.5"), true)
    );
    let Storage::Volume(volume) = spec.storage() else { panic!("no volume") };
    assert_eq!(volume.access_modes, [AccessMode::ReadWriteOncePod]);
    assert_eq!(spec.update_strategy(), UpdateStrategy::OnDelete);
    assert_eq!(spec.deletion_policy(), DeletionPolicy::Delete);
    assert!(!spec.wants_disruption_budget());
    let again = serde_yaml::to_string(&cluster).expect("YAML");
    assert_eq!(read(&again, "again.yaml").expect("a spec"), cluster);
}

#[test]
fn what_is_not_said_of_pods_has_a_default() {
    let spec = default_local("c").spec;
    assert_eq!((spec.engine(), spec.version(), spec.is_paused()), (Engine::Embedded, None, false));
    let Storage::Volume(volume) = spec.storage() else { panic!("no volume") };
    assert_eq!((&*volume.size, volume.storage_class_name), ("1Gi", None));
    assert_eq!(volume.access_modes, [AccessMode::ReadWriteOnce]);
    assert_eq!(spec.update_strategy(), UpdateStrategy::RollingUpdate);
    assert_eq!(spec.deletion_policy(), DeletionPolicy::Retain);
    assert!(spec.wants_disruption_budget());
    let with = |text: &str| read(&PODS.replace("engine: Etcd", text), "c.yaml").map(|_| ());
    assert!(with("engine: Embedded").is_err(), "another version than its own");
    let own = PODS.replace("version: v3.6.5", &format!("version: {EMBEDDED_VERSION}"));
    assert!(read(&own.replace("engine: Etcd", "engine: Embedded"), "c.yaml").is_ok());
}

#[test]
fn on_kubernetes_each_node_is_reached_at_its_place_and_patience_is_longer() {
    let cluster = default_local("c");
    let place = |node: NodeName| {
        let peer_url = format!("http://{node}-abcde.c-peers.ns.svc:2380");
        let client_urls = vec![format!("http://{node}-abcde.c-peers.ns.svc:2379")];
        (node, WantedNode { peer_url, client_urls })
    };
    let mut places: BTreeMap<_, _> = cluster.node_names().into_iter().map(place).collect();
    let wanted = cluster.resolve_at(&places).expect("resolved");
    assert_eq!((&wanted.nodes, wanted.remediation.unhealthy_seconds), (&places, 300));
    let mut hasty = cluster.clone();
    hasty.spec.remediation =
        Some(RemediationSpec { unhealthy_seconds: Some(7), ..RemediationSpec::default() });
    assert_eq!(hasty.resolve_at(&places).expect("resolved").remediation.unhealthy_seconds, 7);
    places.remove(&NodeName::from("c-1"));
    let refused = cluster.resolve_at(&places).expect_err("no place").to_string();
    assert!(refused.starts_with("spec.replicas: no place is set aside for c-1"), "{refused}");
    let refused = sample("howto.yaml").resolve_at(&places).expect_err("hosts").to_string();
    assert!(refused.starts_with("spec.nodes: nodes is for hosts outside"), "{refused}");
}
