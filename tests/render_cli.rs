//! `quorate render` and `quorate crd`, as a person runs them.

use std::path::Path;
use std::process::{Command, Output};

use quorate::cluster::spec::read;
use quorate::render::{node_config, parse_env, parse_flags_text, parse_systemd, parse_yaml};

fn quorate(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args).output().expect("quorate")
}

fn told(args: &[&str]) -> String {
    let output = quorate(args);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

const HOWTO: &str = "deploy/samples/howto.yaml";

#[test]
fn every_node_is_written_in_every_form_and_told_of() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(HOWTO));
    let cluster = read(&text.expect("the sample"), HOWTO).expect("a spec");
    let wanted = cluster.resolve(&std::collections::BTreeMap::new()).expect("resolved");
    let root = tempfile::tempdir().expect("a directory");
    let out = root.path().join("new/etcd.d");
    let out = out.to_str().expect("text");
    for (format, extension) in
        [("env", "env"), ("yaml", "yaml"), ("flags", "flags"), ("systemd", "service")]
    {
        let output = quorate(&[
            "render",
            "-f",
            HOWTO,
            "--format",
            format,
            "--out",
            out,
            "--data-root",
            "/srv/",
        ]);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).expect("text");
        for node in wanted.nodes.keys() {
            let path = format!("{out}/{node}.{extension}");
            assert!(said.contains(&format!("wrote {path}\n")), "{said}");
            let text = std::fs::read_to_string(&path).expect("a file");
            let parsed = match format {
                "env" => parse_env(&text),
                "yaml" => parse_yaml(&text),
                "flags" => parse_flags_text(&text),
                _ => parse_systemd(&text),
            };
            let meant = node_config(&wanted, &[], node, &format!("/srv/{node}"));
            assert_eq!(parsed, Ok(meant), "{path}");
        }
    }
    let files = std::fs::read_dir(out).expect("the files").count();
    assert_eq!(files, 12, "something else was left behind");
}

#[test]
fn one_node_is_printed_alone() {
    let output = quorate(&["render", "-f", HOWTO, "--node", "etcd2"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success());
    assert!(text.contains("ETCD_NAME=etcd2\nETCD_DATA_DIR=/var/lib/etcd/etcd2\n"), "{text}");
    assert!(!text.contains("ETCD_NAME=etcd1"));
}

#[test]
fn bad_input_ends_with_2_and_writes_nothing() {
    let root = tempfile::tempdir().expect("a directory");
    let (file, out) = (root.path().join("c.yaml"), root.path().join("out"));
    let (file, out) = (file.to_str().expect("text"), out.to_str().expect("text"));
    let missing = told(&["render", "-f", file, "--out", out]);
    assert!(missing.starts_with(&format!("error: {file}: cannot be read")), "{missing}");
    std::fs::write(file, b"\xff\xfe").expect("written");
    assert!(told(&["render", "-f", file, "--out", out]).contains("UTF-8"));
    std::fs::write(file, "kind: EtcdCluster\nspec: {}\n").expect("written");
    assert!(told(&["render", "-f", file, "--out", out]).contains("apiVersion"));
    let other = told(&["render", "-f", HOWTO, "--node", "etcd9", "--out", out]);
    assert_eq!(
        other,
        format!("error: {HOWTO}: there is no node etcd9; take one of etcd1, etcd2, etcd3\n")
    );
    let counted = told(&["render", "-f", "deploy/samples/three-replicas.yaml", "--out", out]);
    assert!(
        counted.contains("deploy/samples/three-replicas.yaml:10: spec.replicas: "),
        "{counted}"
    );
    assert!(!Path::new(out).exists());
}

#[test]
fn crd_prints_the_definition() {
    let output = quorate(&["crd"]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds/etcdclusters.quorate.dev.yaml");
    assert_eq!(output.stdout, std::fs::read(file).expect("the definition"));
}
