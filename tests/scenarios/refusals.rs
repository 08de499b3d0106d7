//! Files that are refused: exit 2, one line that names file, field and fix, and nothing is
//! started or made.

use std::fs;

use crate::support::cluster::Cluster;
use crate::support::process::{Ran, all_of};
use crate::support::spec::{Addresses, Spec};
use crate::support::up::{QUORATE, engine_arguments};

/// Runs `up` on a file that is to be refused.
fn up_on(cluster: &Cluster) -> Ran {
    let (manifest, home) = (cluster.home.manifest(), cluster.home.path());
    let mut args = vec!["up", "-f", manifest.to_str().unwrap(), "--home", home.to_str().unwrap()];
    let engine = engine_arguments();
    args.extend(engine.iter().map(String::as_str));
    Ran::of(QUORATE, &args)
}

#[test]
fn each_kind_of_bad_file_is_refused_in_one_line_and_nothing_is_started() {
    let addresses = Addresses::claim();
    let good = Spec::of(3, &addresses).yaml();
    let second = addresses.host(2);
    let first = addresses.host(1);
    let even = Spec::of(2, &addresses).yaml();
    let two = format!("{good}---\n{good}");
    // The first one in the file, though not the first by name.
    let remote = good.replace(&first, "192.0.2.210").replace("etcd1", "etcd9");
    let line = remote.lines().position(|it| it.contains("192.0.2.210")).unwrap() + 1;
    let there = format!(":{line}: spec.nodes[0].address: 192.0.2.210 of etcd9");
    let both = good.replace("spec:\n", "spec:\n  replicas: 3\n");
    let twice = good.replace("spec:\n", "spec:\n  peerPort: 2380\n  peerPort: 2380\n");
    let section = |lines: &str| good.replace("remediation:\n", &format!("remediation:\n{lines}"));
    // What is wrong, the file, and what the line has to say.
    let cases: Vec<(&str, String, Vec<&str>)> = vec![
        ("unknown field", good.replace("address: ", "adress: "), vec!["nodes[0]", "address"]),
        ("unknown section", good.replace("remediation:", "remedation:"), vec!["remediation"]),
        ("duplicate key", twice, vec!["peerPort"]),
        ("even count", even, vec!["nodes", "even"]),
        (
            "no node",
            "apiVersion: quorate.dev/v1alpha1\nkind: EtcdCluster\nmetadata: {name: a}\n\
                     spec: {nodes: []}\n"
                .to_owned(),
            vec!["nodes"],
        ),
        (
            "zero replicas",
            "apiVersion: quorate.dev/v1alpha1\nkind: EtcdCluster\n\
                           metadata: {name: a}\nspec: {replicas: 0}\n"
                .to_owned(),
            vec!["replicas"],
        ),
        ("duplicate name", good.replace("etcd2", "etcd1"), vec!["nodes[1].name", "etcd1"]),
        ("duplicate address", good.replace(&second, &first), vec!["nodes[1].address"]),
        ("no DNS label", good.replace("etcd2", "Etcd_2"), vec!["nodes[1].name", "Etcd_2"]),
        (
            "a URL for an address",
            good.replace(&first, "http://192.168.2.210:2380"),
            vec!["nodes[0].address"],
        ),
        ("a bad port", good.replace("[2379]", "[0]"), vec!["clientPorts"]),
        ("a port out of range", good.replace("[2379]", "[65536]"), vec!["clientPorts"]),
        ("the peer port for clients", good.replace("[2379]", "[2380]"), vec!["clientPorts"]),
        ("nodes and replicas", both, vec!["nodes", "replicas"]),
        ("another version", good.replace("v1alpha1", "v7"), vec!["apiVersion", "v1alpha1"]),
        ("another kind", good.replace("kind: EtcdCluster", "kind: Pod"), vec!["EtcdCluster"]),
        ("two documents", two, vec!["document"]),
        ("nothing in it", String::new(), vec!["empty"]),
        ("comments only", "# nothing\n---\n".to_owned(), vec!["empty"]),
        ("not YAML", "spec: [".to_owned(), vec!["YAML"]),
        ("a list", "- one\n- two\n".to_owned(), vec!["apiVersion"]),
        ("text for a number", section("    keepAside: many\n"), vec!["keepAside"]),
        ("an address elsewhere", remote, vec![there.as_str(), "render", "howto-local.yaml"]),
    ];
    for (what, text, says) in cases {
        let cluster = Cluster::declared(3);
        let manifest = cluster.home.manifest();
        fs::write(&manifest, &text).unwrap();
        let ran = up_on(&cluster);
        assert_eq!(ran.code, Some(2), "{what}: {ran:#?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{what}: {ran:#?}");
        assert!(ran.stderr.contains(manifest.to_str().unwrap()), "{what}: names no file: {ran:#?}");
        for word in says {
            assert!(ran.stderr.contains(word), "{what}: does not say {word:?}: {ran:#?}");
        }
        assert!(!cluster.home.path().exists(), "{what}: a home was made");
        assert!(all_of(&cluster.home.path()).is_empty(), "{what}: something runs");
    }
}

#[test]
fn a_file_that_is_not_there_or_cannot_be_read_is_refused() {
    let cluster = Cluster::declared(3);
    let manifest = cluster.home.manifest();
    fs::remove_file(&manifest).unwrap();
    let ran = up_on(&cluster);
    assert_eq!((ran.code, ran.stderr.lines().count()), (Some(2), 1), "{ran:#?}");
    fs::create_dir(&manifest).unwrap();
    let ran = up_on(&cluster);
    assert_eq!((ran.code, ran.stderr.lines().count()), (Some(2), 1), "{ran:#?}");
    fs::remove_dir(&manifest).unwrap();
    fs::write(&manifest, b"spec: \xff\xfe\n").unwrap();
    let ran = up_on(&cluster);
    assert_eq!((ran.code, ran.stderr.lines().count()), (Some(2), 1), "{ran:#?}");
    assert!(!cluster.home.path().exists());
}

#[test]
fn another_name_or_token_on_an_existing_home_is_refused_and_the_home_untouched() {
    let mut cluster = Cluster::ready(3);
    let before = cluster.members();
    let writer = cluster.writer();
    writer.goes_on(10);
    let promised = cluster.verify(writer);
    cluster.interrupt_up(crate::support::process::Signal::INT);
    let record = cluster.home.path().join("cluster.json");
    let remembered = fs::read(&record).unwrap();
    let good = cluster.spec.clone();

    cluster.spec.name = "another".to_owned();
    cluster.write_spec();
    let other_name = up_on(&cluster);
    fs::write(cluster.home.manifest(), good.yaml().replace("spec:\n", "spec:\n  token: other\n"))
        .unwrap();
    let other_token = up_on(&cluster);
    for (ran, says) in [(other_name, ":3: metadata.name: another"), (other_token, "spec.token")] {
        assert_eq!((ran.code, ran.stderr.lines().count()), (Some(2), 1), "{ran:#?}");
        assert!(ran.stderr.contains(says), "{ran:#?}");
    }
    assert_eq!(fs::read(&record).unwrap(), remembered, "the record was touched");
    for node in before.keys() {
        assert!(cluster.home.processes(node).all().next().is_none(), "{node} was started");
    }
    cluster.spec = good;
    cluster.write_spec();
    cluster.up();
    assert_eq!(cluster.healed(), before);
    cluster.verify_all(&promised);
}
