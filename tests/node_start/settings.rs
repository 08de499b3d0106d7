//! Settings of the embedded engine: taken, or refused before anything is touched.

use std::fs;
use std::process::Output;

use serde_json::Value;

use super::support::{Cluster, Engine, QUORATE, bare, eventually};

/// Runs a start that is refused in a directory of its own, where it must leave nothing; the one
/// line a person reads.
#[track_caller]
fn refused(args: &[&str]) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = bare("timeout");
    command.args(["60", QUORATE, "node", "--data-dir", "data"]).args(args).current_dir(dir.path());
    let Output { status, stdout, stderr } = command.output().expect("quorate runs");
    let said = String::from_utf8(stderr).expect("text");
    assert_eq!(status.code(), Some(2), "{args:?}: {said}");
    assert!(stdout.is_empty(), "{args:?}");
    let lines: Vec<_> = said.lines().collect();
    let [line, json] = lines[..] else { panic!("{args:?}: {said}") };
    let exit: Value = serde_json::from_str(json).expect("a JSON line");
    let line = line.strip_prefix("error: ").expect("an error").to_owned();
    assert_eq!((&exit["exit"], &exit["code"]), (&"BadConfig".into(), &2.into()), "{exit}");
    assert_eq!(exit["detail"], line.as_str());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{args:?} left something");
    line
}

#[test]
fn what_is_not_built_is_refused_at_start_by_name_with_the_way_out_and_nothing_is_created() {
    for (flag, value, what) in [
        ("cert-file", "/etc/cert.pem", "TLS"),
        ("key-file", "/etc/key.pem", "TLS"),
        ("trusted-ca-file", "/etc/ca.pem", "TLS"),
        ("client-cert-auth", "true", "TLS"),
        ("auto-tls", "true", "TLS"),
        ("peer-cert-file", "/etc/cert.pem", "TLS"),
        ("peer-key-file", "/etc/key.pem", "TLS"),
        ("peer-trusted-ca-file", "/etc/ca.pem", "TLS"),
        ("peer-client-cert-auth", "true", "TLS"),
        ("peer-auto-tls", "true", "TLS"),
        ("peer-cert-allowed-cn", "me", "TLS"),
        ("cipher-suites", "TLS_RSA_WITH_AES_128_CBC_SHA", "TLS"),
        ("auth-token", "jwt,sign-method=RS256", "tokens"),
        ("listen-client-http-urls", "http://127.0.0.1:1", "client port"),
        ("unsafe-no-fsync", "true", "unsafe mode"),
        ("metrics", "extensive", "extensive"),
        ("enable-pprof", "true", "profiler"),
        ("corrupt-check-time", "1m", "corruption checks"),
    ] {
        let said = refused(&[&format!("--{flag}={value}")]);
        assert!(said.starts_with(&format!("{flag}={value}: ")), "{said}");
        assert!(said.contains(what) && said.contains("leave it out"), "{said}");
        assert!(said.contains("--exec PATH"), "{said}");
    }
    for url in
        ["--listen-client-urls=https://127.0.0.1:1", "--listen-peer-urls=https://127.0.0.1:1"]
    {
        let said = refused(&[url]);
        assert!(said.contains("https://127.0.0.1:1") && said.contains("TLS"), "{said}");
    }
    // Of these upstream's engine is no way out either: they go around what makes a start safe.
    for (flag, why) in [
        ("--discovery=http://d.example/1", "list every node in initial-cluster"),
        ("--discovery-srv=d.example", "list every node in initial-cluster"),
        ("--force-new-cluster", "quorate replace"),
        ("--wal-dir=/elsewhere", "inside the data dir"),
    ] {
        let said = refused(&[flag]);
        let name = flag.trim_start_matches('-').split('=').next().unwrap();
        assert!(said.starts_with(&format!("{name} is refused: ")) && said.contains(why), "{said}");
    }
}

#[test]
fn an_unknown_flag_has_a_suggestion_and_a_wrong_value_says_what_it_may_be() {
    for (args, texts) in [
        (vec!["--max-request-byte", "1"], ["max-request-byte", "did you mean max-request-bytes?"]),
        (
            vec!["-heartbeat-intervall=1"],
            ["heartbeat-intervall", "did you mean heartbeat-interval?"],
        ),
        (vec!["--max-request-bytes", "much"], ["max-request-bytes", "much"]),
        (vec!["--quota-backend-bytes", "2GB"], ["quota-backend-bytes", "2GB"]),
        (vec!["--log-format", "xml"], ["log-format", "json"]),
        (vec!["--log-level", "loud"], ["log-level", "debug"]),
        (vec!["--election-timeout", "60"], ["election", "heartbeat"]),
        (vec!["--listen-client-urls", "127.0.0.1:2379"], ["127.0.0.1:2379", "http://"]),
    ] {
        let said = refused(&args);
        assert!(texts.iter().all(|text| said.contains(text)), "{texts:?} in {said}");
    }
}

#[test]
fn settings_of_upstreams_own_parts_are_passed_over_with_a_warning() {
    let cluster = Cluster::of(Engine::Embedded, 1);
    let node = &cluster.nodes[0];
    let start = cluster.start(node).arg("--max-snapshots", 3).set("ETCD_MAX_WALS", "7");
    node.run(start.arg("--backend-batch-limit", 100).arg("--logger", "zap"));
    node.serves();
    let said = node.said();
    for name in ["max-snapshots", "max-wals", "backend-batch-limit"] {
        let warning = format!("warning: --{name} is about a part that only upstream's engine has");
        assert_eq!(said.matches(&warning).count(), 1, "{warning:?} is not in\n{said}");
    }
    assert!(!said.contains("logger"), "what it does anyway is no news:\n{said}");
}

#[test]
fn limits_that_are_taken_are_kept_to() {
    let cluster = Cluster::of(Engine::Embedded, 1);
    let node = &cluster.nodes[0];
    let quota = 1 << 20;
    let start = cluster
        .start(node)
        .arg("--max-request-bytes", 4096)
        .arg("--max-txn-ops", 2)
        .arg("--quota-backend-bytes", quota);
    node.run(start);
    node.serves();
    let fails = |args: &[&str], text: &str| {
        let output = node.ctl(args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(text), "{said}");
    };
    fails(&["put", "k", &"v".repeat(4097)], "etcdserver: request is too large");
    node.ask(&["put", "k", &"v".repeat(3000)]);
    let txn = |puts: usize| {
        let script = format!("\n{}\n\n", "put a b\n".replace('a', "k").repeat(puts));
        let path = cluster.dir().join("txn");
        fs::write(&path, script).unwrap();
        let mut ctl = bare("etcdctl");
        ctl.env("ETCDCTL_API", "3").args(["--endpoints", &node.client, "txn"]);
        ctl.stdin(fs::File::open(path).unwrap()).output().unwrap()
    };
    let said = String::from_utf8_lossy(&txn(3).stderr).into_owned();
    assert!(said.contains("too many operations in txn request"), "{said}");

    // Until it is full, and no further; what is there can be read, deleted and compacted.
    let value = "v".repeat(3000);
    let is_full = (0..2000).any(|it| {
        let output = node.ctl(&["put", &format!("k{it}"), &value]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_full = said.contains("etcdserver: mvcc: database space exceeded");
        // On a busy machine a put may also take too long.
        let is_late = said.contains("deadline exceeded") || said.contains("timed out");
        assert!(output.status.success() || is_full || is_late, "{said}");
        is_full
    });
    assert!(is_full, "there is no end to its room");
    assert!(node.ask(&["alarm", "list"]).contains("alarm:NOSPACE"));
    let status = node.status().unwrap();
    assert!(status["dbSize"].as_i64().unwrap() < 4 * quota, "{status}");
    node.ask(&["del", "k0"]);
    assert_eq!(node.ask(&["get", "k1", "--print-value-only"]).trim_end(), value);
}

/// Each line of a log as JSON, with etcd's four fields.
#[track_caller]
pub(crate) fn json_lines(said: &str) -> Vec<Value> {
    let line = |line: &str| {
        let it: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        for field in ["level", "ts", "caller", "msg"] {
            assert!(it[field].as_str().is_some_and(|text| !text.is_empty()), "{field} in {line}");
        }
        it
    };
    said.lines()
        .filter(|it| !it.starts_with("{\"exit\":") && !it.contains("\"exit\":"))
        .map(line)
        .collect()
}

#[test]
fn the_log_is_text_or_etcds_json_lines_and_as_loud_as_it_was_asked_to_be() {
    let cluster = Cluster::of(Engine::Embedded, 1);
    let node = &cluster.nodes[0];
    node.run(cluster.start(node));
    node.serves();
    node.stop();
    let said = node.said();
    assert!(said.lines().any(|it| it.contains(" INFO ready to serve client requests")), "{said}");

    node.run(cluster.start(node).arg("--log-format", "json"));
    node.serves();
    node.stop();
    let lines = json_lines(&node.said());
    let ready = lines.iter().find(|it| it["msg"] == "ready to serve client requests");
    assert_eq!(ready.expect("a line that says so")["level"], "info");

    // Every request takes longer than this.
    let start = cluster.start(node).arg("--log-format", "json").arg("--log-level", "warn");
    node.run(start.arg("--warning-unary-request-duration", "1ns"));
    node.serves();
    node.ask(&["put", "slow", "as asked"]);
    let slow = eventually("a slow request is told", || {
        let said = node.said();
        // The last line may not be whole yet.
        let lines = json_lines(&said[..said.rfind('\n').map_or(0, |it| it + 1)]);
        assert!(lines.iter().all(|it| it["level"] != "info" && it["level"] != "debug"));
        lines.into_iter().find(|it| it.to_string().contains("slow request"))
    });
    assert_eq!(slow["level"], "warn");
    node.stop();
}

#[test]
fn a_short_log_is_kept_where_snapshots_are_asked_for_often() {
    let cluster = Cluster::of(Engine::Embedded, 1);
    let node = &cluster.nodes[0];
    let start = cluster.start(node).arg("--snapshot-count", 20);
    node.run(start.arg("--snapshot-catchup-entries", 5));
    node.serves();
    for i in 0..60 {
        node.ask(&["put", &format!("k{i}"), "v"]);
    }
    // Written behind, so it may come a little later, with what is written then.
    let report = eventually("the front of the log is let go", || {
        node.ask(&["put", "k0", "v"]);
        let report = quorate::node::data::check(&node.home.data()).unwrap()?;
        (report.snapshot > 20).then_some(report)
    });
    assert!(report.snapshot < report.last_index && report.last_index > 60, "{report:?}");
    node.stop();
    node.run(cluster.start(node));
    node.serves();
    assert_eq!(node.ask(&["get", "k", "--prefix", "--keys-only"]).matches('k').count(), 60);
}
