//! Each printed form starts a real etcd, which takes itself for the member we take it for.
//!
//! The values are chosen to break a form that escapes too little or too much.

#[path = "support/ports.rs"]
mod ports;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ports::free_port;
use quorate::cluster::founding_member_id;
use quorate::render::{NodeConfig, print_env, print_flags, print_systemd, print_yaml};

const HOST: &str = "127.0.3.17";
const ODD: &str = "it's \"odd\" $HOME `id` %n 100% \\ #1";

struct Engine(Child);

impl Drop for Engine {
    fn drop(&mut self) {
        // Nothing can be done about a child that is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn config(root: &Path) -> NodeConfig {
    let [peer, client, other] = [(); 3].map(|()| format!("http://{HOST}:{}", free_port(HOST)));
    let extra = [
        ("enable-v2", "true"),
        ("snapshot-count", "5000"),
        ("backend-batch-interval", "50ms"),
        ("auto-compaction-mode", "periodic"),
        ("auto-compaction-retention", "1h"),
        ("log-outputs", "stderr"),
        ("logger", "zap"),
        ("client-cert-auth", "false"),
    ];
    NodeConfig {
        name: ODD.to_owned(),
        data_dir: root.join(ODD).to_string_lossy().into_owned(),
        listen_peer_urls: vec![peer.clone()],
        listen_client_urls: vec![client.clone(), other.clone()],
        initial_advertise_peer_urls: vec![peer.clone()],
        advertise_client_urls: vec![client, other],
        initial_cluster: vec![(ODD.to_owned(), peer)],
        initial_cluster_token: format!("token {ODD}"),
        extra: extra.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..NodeConfig::default()
    }
}

/// An etcd that knows nothing of this test's own environment.
fn bare(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Starts the engine and asks it, as soon as it answers, which member it is.
fn check(mut start: Command, config: &NodeConfig) {
    let mut engine = Engine(start.spawn().expect("started"));
    let endpoints = config.advertise_client_urls.join(",");
    let answer = (0..200).find_map(|_| {
        assert_eq!(engine.0.try_wait().expect("a child"), None, "etcd has ended");
        std::thread::sleep(Duration::from_millis(50));
        let mut list = bare("etcdctl");
        list.env("ETCDCTL_API", "3").stdout(Stdio::piped());
        list.args(["--endpoints", &endpoints, "member", "list", "-w", "json"]);
        let output = list.output().expect("etcdctl");
        output.status.success().then_some(output.stdout)
    });
    let answer: serde_json::Value =
        serde_json::from_slice(&answer.expect("an answer within 10 s")).expect("JSON");
    let urls = config.initial_advertise_peer_urls.iter().map(String::as_str);
    let id = founding_member_id(urls, &config.initial_cluster_token);
    assert_eq!(answer["header"]["member_id"].as_u64(), Some(id.0));
    assert_eq!(answer["members"][0]["name"], ODD);
    assert!(Path::new(&config.data_dir).join("member/wal").is_dir(), "the data is elsewhere");
}

#[test]
fn a_shell_reads_the_environment_file() {
    let root = tempfile::tempdir().expect("a directory");
    let config = config(root.path());
    let file = root.path().join("node.env");
    std::fs::write(&file, print_env(&config).expect("printed")).expect("written");
    let mut shell = bare("sh");
    shell.args(["-c", "set -a; . \"$1\"; exec etcd", "sh"]).arg(&file);
    check(shell, &config);
}

#[test]
fn etcd_reads_the_config_file() {
    let root = tempfile::tempdir().expect("a directory");
    let config = config(root.path());
    let file = root.path().join("node.yaml");
    std::fs::write(&file, print_yaml(&config).expect("printed")).expect("written");
    let mut etcd = bare("etcd");
    etcd.arg("--config-file").arg(&file);
    check(etcd, &config);
}

#[test]
fn a_shell_reads_the_flags_and_so_does_etcd() {
    let root = tempfile::tempdir().expect("a directory");
    let first = config(root.path());
    let mut shell = bare("sh");
    let flags = print_flags(&first).expect("printed");
    shell.args(["-c", "eval \"exec etcd $1\"", "sh", &flags]);
    check(shell, &first);

    let root = tempfile::tempdir().expect("a directory");
    let second = config(root.path());
    let mut etcd = bare("etcd");
    etcd.args(second.to_flags().expect("flags"));
    check(etcd, &second);
}

#[test]
fn the_unit_starts_etcd_as_systemd_would() {
    let root = tempfile::tempdir().expect("a directory");
    let config = config(root.path());
    let engine = String::from_utf8(
        bare("sh")
            .args(["-c", "command -v etcd"])
            .stdout(Stdio::piped())
            .output()
            .expect("sh")
            .stdout,
    );
    let engine = engine.expect("a path").trim().to_owned();
    let unit = print_systemd(&config, &engine).expect("printed");
    let (exec, environment) = as_systemd(&unit);
    assert_eq!(exec, [&*engine]);
    let mut etcd = bare(&exec[0]);
    etcd.args(&exec[1..]).envs(environment);
    check(etcd, &config);
}

/// The command and the environment of a unit, by systemd.exec(5), systemd.syntax(7) and
/// systemd.unit(5): words split at blanks unless quoted, C escapes, `%%` for `%`; and, in the
/// command only, `$$` for `$`.
fn as_systemd(unit: &str) -> (Vec<String>, BTreeMap<String, String>) {
    let (mut exec, mut environment, mut section) = (Vec::new(), BTreeMap::new(), "");
    for line in unit.lines() {
        assert!(!line.ends_with('\\'), "a line that goes on");
        if line.starts_with('[') {
            section = line;
        }
        match line.split_once('=') {
            Some(("ExecStart", value)) if section == "[Service]" => {
                exec = words(value).iter().map(|word| word.replace("$$", "$")).collect();
            }
            Some(("Environment", value)) if section == "[Service]" => {
                for word in words(value) {
                    let (key, value) = word.split_once('=').expect("KEY=value");
                    environment.insert(key.to_owned(), value.to_owned());
                }
            }
            _ => {}
        }
    }
    (exec, environment)
}

fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), ' ');
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => word.push(match rest.next() {
                Some(c @ ('\\' | '"' | '\'')) => c,
                other => panic!("escape {other:?}"),
            }),
            '%' => {
                assert_eq!(rest.next(), Some('%'), "a specifier");
                word.push('%');
            }
            c if c == quote && c != ' ' => quote = ' ',
            c @ ('"' | '\'') if quote == ' ' => quote = c,
            ' ' if quote == ' ' => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    assert_eq!(quote, ' ', "an open quote");
    words.push(word);
    words
}
