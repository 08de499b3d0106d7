//! Every way a spec can be wrong, and the one line that says so.

use quorate::cluster::spec::read;

const GOOD: &str = "\
apiVersion: quorate.dev/v1alpha1
kind: EtcdCluster
metadata: {name: c}
spec:
  nodes:
  - {name: n1, address: 10.0.0.1}
  - {name: n2, address: 10.0.0.2}
  - {name: n3, address: 10.0.0.3}
";

/// The refusal of `GOOD` with `from` replaced by `to`.
fn refusal(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "the good spec has no {from:?}");
    line(&GOOD.replacen(from, to, 1))
}

fn line(text: &str) -> String {
    let error = read(text, "c.yaml").expect_err(text).to_string();
    assert!(!error.contains('\n'), "more than one line: {error:?}");
    error
}

/// Each pair of edits, and what the line must hold: place, fault, fix.
#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn what_is_wrong_is_told_with_its_line_its_field_and_the_fix() {
    let option = |text: &str| format!("  options: {{{text}}}\n  nodes:");
    let setting = |text: &str| format!("  options:\n    settings: {{{text}}}\n  nodes:");
    let node = |text: &str| format!("10.0.0.2, {text}}}");
    let cases: Vec<(&str, String, &str, &str)> = vec![
        // Unknown fields.
        (
            "address: 10.0.0.1",
            "adress: 10.0.0.1".into(),
            "c.yaml:6: spec.nodes[0].adress: ",
            "did you mean address?",
        ),
        ("spec:", "sepc:".into(), "c.yaml:4: sepc: ", "did you mean spec?"),
        (
            "name: c",
            "name: c, nmespace: x".into(),
            "c.yaml:3: metadata.nmespace: ",
            "did you mean namespace?",
        ),
        (
            "  nodes:",
            option("electionTimoutMs: 100"),
            "c.yaml:5: spec.options.electionTimoutMs: ",
            "did you mean electionTimeoutMs?",
        ),
        (
            "  nodes:",
            "  colour: red\n  nodes:".into(),
            "c.yaml:5: spec.colour: ",
            "the fields here are clientPorts, deletionPolicy,",
        ),
        // A key twice.
        (
            "  nodes:",
            "  token: a\n  token: b\n  nodes:".into(),
            "c.yaml:6: spec.token: ",
            "keep one of the two",
        ),
        ("{name: n1,", "{name: n1, name: n2,".into(), "c.yaml:6: spec.nodes[0].name: ", "twice"),
        (
            "kind: EtcdCluster",
            "kind: EtcdCluster\nkind: EtcdCluster".into(),
            "c.yaml:3: kind: ",
            "twice",
        ),
        // Names.
        (
            "name: n2",
            "name: n1".into(),
            "c.yaml:7: spec.nodes[1].name: ",
            "also the name of spec.nodes[0]",
        ),
        ("name: n2", "name: N2".into(), "c.yaml:7: spec.nodes[1].name: ", "use lower-case letters"),
        ("name: n2", "name: -n".into(), "c.yaml:7: spec.nodes[1].name: ", "not a DNS label"),
        ("name: n2", "name: 2".into(), "c.yaml:7: spec.nodes[1].name: ", "put it in quotes: \"2\""),
        ("name: c", "name: c_".into(), "c.yaml:3: metadata.name: ", "not a DNS label"),
        (
            "name: c",
            format!("name: {}", "c".repeat(56)),
            "c.yaml:3: metadata.name: ",
            "use at most 55",
        ),
        // Addresses and ports.
        (
            "10.0.0.2",
            "10.0.0.1".into(),
            "c.yaml:7: spec.nodes[1].address: ",
            "also the address of spec.nodes[0]",
        ),
        (
            "10.0.0.2",
            "http://10.0.0.2:2380".into(),
            "c.yaml:7: spec.nodes[1].address: ",
            "write the host alone",
        ),
        (
            "10.0.0.2",
            "10.0.0.2:2380".into(),
            "c.yaml:7: spec.nodes[1].address: ",
            "ports go into peerPort",
        ),
        (
            "10.0.0.2",
            "10.0.0.256".into(),
            "c.yaml:7: spec.nodes[1].address: ",
            "neither an IP address nor a DNS name",
        ),
        ("10.0.0.2", "'[fd00::1]'".into(), "c.yaml:7: spec.nodes[1].address: ", "without them"),
        (
            "10.0.0.2",
            "0.0.0.0".into(),
            "c.yaml:7: spec.nodes[1].address: ",
            "the host's own address",
        ),
        ("10.0.0.2", "a_b.example".into(), "c.yaml:7: spec.nodes[1].address: ", "nor a DNS name"),
        ("10.0.0.2}", node("peerPort: 0"), "c.yaml:7: spec.nodes[1].peerPort: ", "from 1 to 65535"),
        (
            "10.0.0.2}",
            node("peerPort: 70000"),
            "c.yaml:7: spec.nodes[1].peerPort: ",
            "from 1 to 65535",
        ),
        (
            "10.0.0.2}",
            node("peerPort: '2380'"),
            "c.yaml:7: spec.nodes[1].peerPort: the text \"2380\" ",
            "without quotes",
        ),
        (
            "10.0.0.2}",
            node("peerPort: 2379"),
            "c.yaml:7: spec.nodes[1].clientPorts[0]: ",
            "port 2379 is the peer port too",
        ),
        (
            "10.0.0.2}",
            node("clientPorts: []"),
            "c.yaml:7: spec.nodes[1].clientPorts: ",
            "name at least one",
        ),
        (
            "10.0.0.2}",
            node("clientPorts: [1, 1]"),
            "c.yaml:7: spec.nodes[1].clientPorts[1]: ",
            "name it once",
        ),
        (
            "10.0.0.2}",
            node("clientPorts: 2379"),
            "c.yaml:7: spec.nodes[1].clientPorts: ",
            "write a list",
        ),
        (
            "  nodes:",
            "  clientPorts: [2379, 2380]\n  nodes:".into(),
            "c.yaml:5: spec.clientPorts[1]: ",
            "the peer port too",
        ),
        // What must be there, and what cannot be there together.
        (", address: 10.0.0.2", String::new(), "c.yaml:7: spec.nodes[1].address: ", "add it"),
        ("metadata: {name: c}\n", String::new(), "c.yaml: metadata: ", "add it"),
        ("metadata: {name: c}", "metadata: {}".into(), "c.yaml:3: metadata.name: ", "add it"),
        ("kind: EtcdCluster\n", String::new(), "c.yaml: kind: ", "add it"),
        (
            "  nodes:",
            "  replicas: 3\n  nodes:".into(),
            "c.yaml:4: spec: ",
            "keep nodes for known hosts, or replicas",
        ),
        (
            "  - {name: n3, address: 10.0.0.3}\n",
            String::new(),
            "c.yaml:5: spec.nodes: ",
            "an even number adds a way to lose quorum and tolerates no more failures; name 1 or 3",
        ),
        // Another kind of thing.
        (
            "quorate.dev/v1alpha1",
            "quorate.dev/v1".into(),
            "c.yaml:1: apiVersion: ",
            "write quorate.dev/v1alpha1",
        ),
        ("kind: EtcdCluster", "kind: Deployment".into(), "c.yaml:2: kind: ", "write EtcdCluster"),
        ("spec:\n", "---\nspec:\n".into(), "c.yaml:5: ", "more than one document"),
        // Tokens, options and settings.
        (
            "  nodes:",
            "  token: 5\n  nodes:".into(),
            "c.yaml:5: spec.token: ",
            "put it in quotes: \"5\"",
        ),
        (
            "  nodes:",
            "  token: ''\n  nodes:".into(),
            "c.yaml:5: spec.token: ",
            "1 to 63 characters",
        ),
        (
            "  nodes:",
            option("heartbeatIntervalMs: 500"),
            "c.yaml:5: spec.options.heartbeatIntervalMs: ",
            "electionTimeoutMs to 2500 or more",
        ),
        (
            "  nodes:",
            option("electionTimeoutMs: 100"),
            "c.yaml:5: spec.options.electionTimeoutMs: ",
            "less than five heartbeats",
        ),
        (
            "  nodes:",
            option("snapshotCount: 0"),
            "c.yaml:5: spec.options.snapshotCount: ",
            "from 1 to",
        ),
        (
            "  nodes:",
            option("snapshotCount: ten"),
            "c.yaml:5: spec.options.snapshotCount: ",
            "a whole number",
        ),
        (
            "  nodes:",
            setting("data-dir: x"),
            "c.yaml:6: spec.options.settings.data-dir: ",
            "set by Quorate itself",
        ),
        (
            "  nodes:",
            setting("listen-client-urls: x"),
            "c.yaml:6: spec.options.settings.listen-client-urls: ",
            "set by Quorate itself",
        ),
        (
            "  nodes:",
            setting("initial-cluster-state: new"),
            "c.yaml:6: spec.options.settings.initial-cluster-state: ",
            "set by Quorate itself",
        ),
        (
            "  nodes:",
            setting("heartbeat-interval: '5'"),
            "c.yaml:6: spec.options.settings.heartbeat-interval: ",
            "write spec.options.heartbeatIntervalMs",
        ),
        (
            "  nodes:",
            setting("max-walls: '5'"),
            "c.yaml:6: spec.options.settings.max-walls: ",
            "did you mean max-wals?",
        ),
        (
            "  nodes:",
            setting("max-wals: 5"),
            "c.yaml:6: spec.options.settings.max-wals: ",
            "put it in quotes: \"5\"",
        ),
        (
            "  nodes:",
            setting("max-wals: five"),
            "c.yaml:6: spec.options.settings.max-wals: ",
            "a whole number",
        ),
        (
            "  nodes:",
            setting("ETCD_MAX_WALS: '5'"),
            "c.yaml:6: spec.options.settings.ETCD_MAX_WALS: ",
            "write max-wals",
        ),
        (
            "  nodes:",
            setting("--max-wals: '5'"),
            "c.yaml:6: spec.options.settings.--max-wals: ",
            "write max-wals",
        ),
        ("  nodes:", setting("cert-file: x"), "c.yaml:6: spec.options.settings.cert-file: ", "TLS"),
        (
            "  nodes:",
            "  remediation: {keepAside: 0}\n  nodes:".into(),
            "c.yaml:5: spec.remediation.keepAside: ",
            "from 1 to",
        ),
        (
            "  nodes:",
            "  remediation: {enabled: 'yes'}\n  nodes:".into(),
            "c.yaml:5: spec.remediation.enabled: ",
            "without quotes",
        ),
        // Not YAML.
        ("{name: n1,", "{name: n1".into(), "c.yaml:6: ", "this is not YAML"),
        ("  - {name: n1", "\t- {name: n1".into(), "c.yaml:6: ", "this is not YAML"),
    ];
    for (from, to, place, rest) in cases {
        let line = refusal(from, &to);
        assert!(line.starts_with(place) && line.contains(rest), "{place:?} … {rest:?}: {line}");
    }
}

#[test]
fn a_file_with_nothing_of_ours_in_it_is_refused_with_what_to_begin_with() {
    for text in ["", " \n", "# nothing\n", "---\n"] {
        assert!(
            line(text).starts_with("c.yaml: the file is empty; begin with apiVersion"),
            "{text:?}"
        );
    }
    for text in ["hello", "- a", "5"] {
        assert!(line(text).contains("the file holds no mapping of fields"), "{text:?}");
    }
    for text in ["{", "a: b: c", "\u{0}", "a: *x", "a: &x [*x]", "\u{feff}\u{feff}a: [b"] {
        assert!(line(text).contains("this is not YAML"), "{text:?}: {}", line(text));
    }
}

#[test]
fn a_key_that_holds_a_line_break_is_told_on_one_line() {
    let refused = refusal("metadata: {name: c}", "metadata: {name: c}\n\"a\\nb\\u001b\": 1");
    assert!(refused.starts_with(r"c.yaml:4: a\nb\u{1b}: unknown field"), "{refused}");
    let twice = refusal("metadata: {name: c}", "\"a\\nb\": 1\n\"a\\nb\": 1");
    assert!(twice.contains("the key stands twice"), "{twice}");
}

/// The line of such a key is not found, and what is not YAML has no end of documents behind it.
#[test]
fn a_key_that_stands_twice_before_what_is_not_yaml_is_told() {
    for rest in ["c: [", "---\n["] {
        let refused = line(&format!("\"a\\tb\": 1\n\"a\\tb\": 2\n{rest}\n"));
        assert!(refused.contains("the key stands twice"), "{refused}");
    }
}

#[test]
fn only_1_3_5_7_and_9_replicas_are_taken() {
    let with = |count: &str| {
        GOOD.split("  nodes:")
            .next()
            .map(|head| format!("{head}  replicas: {count}\n"))
            .expect("head")
    };
    for count in ["1", "3", "5", "7", "9"] {
        assert!(read(&with(count), "c.yaml").is_ok(), "{count}");
    }
    for count in ["0", "2", "4", "6", "8", "10", "11", "-1", "3.0", "'3'", "4294967297"] {
        assert!(line(&with(count)).starts_with("c.yaml:5: spec.replicas: "), "{count}");
    }
    assert!(line(&with("4")).ends_with(
        "an even number adds a way to lose quorum and tolerates no more failures; write 3 or 5"
    ));
    assert!(line(&with("null")).contains("neither nodes nor replicas"));
}

/// One refusal for each field that means something on Kubernetes only.
#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn what_is_wrong_about_pods_is_told_in_the_same_way() {
    let storage = |text: &str| format!("storage: {{{text}}}");
    let volume = |text: &str| format!("storage: {{volumeClaimTemplate: {{{text}}}}}");
    let resources = |text: &str| format!("resources: {{{text}}}");
    let pod = |text: &str| format!("podTemplate: {{{text}}}");
    let cases: Vec<(String, &str, &str)> = vec![
        ("engine: etcd".into(), "engine: \"etcd\" is none", "write Embedded or Etcd"),
        ("engine: 5".into(), "engine: the number 5 stands", "write Embedded or Etcd"),
        ("engine: Etcd".into(), "engine: ", "name one under spec.image"),
        ("image: ''".into(), "image: ", "write a reference"),
        ("image: two words".into(), "image: ", "write a reference"),
        ("version: 3.7".into(), "version: the number 3.7 ", "in quotes: \"3.7\""),
        ("version: '3.7'".into(), "version: ", "all three numbers"),
        ("version: 3.6.5".into(), "version: ", "engine: Etcd and an image of that version"),
        ("paused: 'no'".into(), "paused: ", "write true or false"),
        // Storage.
        (
            storage("emptyDir: {}, volumeClaimTemplate: {size: 1Gi}"),
            "storage: volumeClaimTemplate and emptyDir are both given",
            "keep volumeClaimTemplate",
        ),
        (volume(""), "storage.volumeClaimTemplate.size: ", "add it"),
        (volume("size: 10GB"), "storage.volumeClaimTemplate.size: ", "such as 10Gi"),
        (volume("size: 10"), "storage.volumeClaimTemplate.size: ", "in quotes: \"10\""),
        (volume("size: '0'"), "storage.volumeClaimTemplate.size: ", "a size of 0"),
        (volume("size: 10m"), "storage.volumeClaimTemplate.size: ", "write 10Mi"),
        (
            volume("size: 1Gi, storageClassName: Fast"),
            "storage.volumeClaimTemplate.storageClassName: ",
            "lower-case letters",
        ),
        (
            volume("size: 1Gi, accessModes: [ReadOnlyMany]"),
            "storage.volumeClaimTemplate.accessModes[0]: ",
            "write ReadWriteOnce or ReadWriteOncePod or ReadWriteMany",
        ),
        (
            volume("size: 1Gi, accessModes: [ReadWriteOnce, ReadWriteOnce]"),
            "storage.volumeClaimTemplate.accessModes[1]: ",
            "name it once",
        ),
        (storage("emptyDir: {sizeLimit: much}"), "storage.emptyDir.sizeLimit: ", "such as 10Gi"),
        (storage("emptydir: {}"), "storage.emptydir: ", "did you mean emptyDir?"),
        // Resources.
        (resources("requests: {cpu: lots}"), "resources.requests.cpu: ", "such as 500m"),
        (resources("requests: {memory: 512m}"), "resources.requests.memory: ", "write 512Mi"),
        (resources("limits: {disk: '1'}"), "resources.limits.disk: ", "ephemeral-storage"),
        (
            resources("requests: {memory: 2Gi}, limits: {memory: 1Gi}"),
            "resources.requests.memory: 2Gi is more than the limit of 1Gi",
            "raise the limit",
        ),
        // The pod.
        (pod("labels: {a b: c}"), "podTemplate.labels", "at most 63"),
        (pod("labels: {a: 'b c'}"), "podTemplate.labels.a: ", "at most 63"),
        (
            pod("labels: {quorate.dev/role: voter}"),
            "podTemplate.labels",
            "is set by Quorate itself",
        ),
        (
            pod("labels: {app.kubernetes.io/name: x}"),
            "podTemplate.labels",
            "is set by Quorate itself",
        ),
        (
            pod("annotations: {quorate.dev/node: x}"),
            "podTemplate.annotations",
            "is set by Quorate itself",
        ),
        (pod("nodeSelector: {disk: 's s d'}"), "podTemplate.nodeSelector.disk: ", "at most 63"),
        (
            pod("tolerations: [{kee: x}]"),
            "podTemplate.tolerations[0].kee: unknown field",
            "the fields here are key, operator,",
        ),
        (
            pod("affinity: {podAffinty: {}}"),
            "podTemplate.affinity.podAffinty: unknown field",
            "podAntiAffinity",
        ),
        (pod("affinity: near"), "podTemplate.affinity: ", "indented"),
        (
            pod("topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone}]"),
            "podTemplate.topologySpreadConstraints[0].whenUnsatisfiable: ",
            "add it",
        ),
        (
            pod("priorityClassName: High Up"),
            "podTemplate.priorityClassName: ",
            "lower-case letters",
        ),
        (pod("env: [{name: 1A}]"), "podTemplate.env[0].name: ", "not a digit first"),
        (
            pod("env: [{name: ETCD_NAME, value: x}]"),
            "podTemplate.env[0].name: ETCD_NAME is not for the spec to set",
            "under spec.options",
        ),
        (pod("env: [{name: QUORATE_HOME}]"), "podTemplate.env[0].name: ", "under spec.options"),
        (pod("env: [{name: A}, {name: A}]"), "podTemplate.env[1].name: ", "set it once"),
        (
            pod("securityContext: {runAsUser: 0}"),
            "podTemplate.securityContext.runAsUser: a member never runs as root",
            "from 1 to 2147483647",
        ),
        (
            pod("securityContext: {runAsGroup: 2147483648}"),
            "podTemplate.securityContext.runAsGroup: ",
            "from 0 to 2147483647",
        ),
        (
            pod("securityContext: {fsGroup: 2147483648}"),
            "podTemplate.securityContext.fsGroup: ",
            "from 0 to 2147483647",
        ),
        (
            pod("securityContext: {privileged: true}"),
            "podTemplate.securityContext.privileged: unknown field",
            "the fields here are",
        ),
        (
            pod("terminationGracePeriodSeconds: 0"),
            "podTemplate.terminationGracePeriodSeconds: ",
            "from 1 to 86400",
        ),
        (
            pod("imagePullPolicy: Sometimes"),
            "podTemplate.imagePullPolicy: \"Sometimes\" is none",
            "write IfNotPresent or Always or Never",
        ),
        (
            pod("imagePullSecrets: [{name: My_Secret}]"),
            "podTemplate.imagePullSecrets[0].name: ",
            "lower-case letters",
        ),
        // The rest.
        (
            "updateStrategy: {type: Recreate}".into(),
            "updateStrategy.type: \"Recreate\" is none",
            "write RollingUpdate or OnDelete",
        ),
        (
            "podDisruptionBudget: {enabled: 1}".into(),
            "podDisruptionBudget.enabled: ",
            "write true or false",
        ),
        ("deletionPolicy: Keep".into(), "deletionPolicy: \"Keep\" is", "write Retain or Delete"),
    ];
    for (text, place, rest) in cases {
        let line = refusal("  nodes:", &format!("  {text}\n  nodes:"));
        let place = format!("c.yaml:5: spec.{place}");
        // A key with dots in it is told by the line of the map it stands in.
        assert!(line.starts_with(&place) && line.contains(rest), "{place:?} … {rest:?}: {line}");
    }
}
