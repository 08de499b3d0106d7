//! `quorate bench`, as a person runs it, on a real etcd.

#![allow(missing_docs, reason = "a test has no outside")]

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::wait::{eventually, now};
use support::wire;
use tempfile::TempDir;

const SOON: Duration = Duration::from_mins(2);

/// One etcd on an address of its own.
struct Etcd {
    home: TempDir,
    addresses: support::spec::Addresses,
    child: Child,
}

impl Etcd {
    fn start() -> Etcd {
        let home = TempDir::new().expect("a directory");
        let addresses = support::spec::Addresses::claim();
        let child = Etcd::spawn(&home, &addresses);
        let etcd = Etcd { home, addresses, child };
        etcd.serves();
        etcd
    }

    fn spawn(home: &TempDir, addresses: &support::spec::Addresses) -> Child {
        let (client, peer) =
            (Etcd::client(addresses), format!("http://{}:2380", addresses.host(1)));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(home.path().join("log"))
            .expect("a file");
        Command::new("etcd")
            .env_clear()
            .arg("--data-dir")
            .arg(home.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--unsafe-no-fsync=true"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("etcd can be started")
    }

    fn client(addresses: &support::spec::Addresses) -> String {
        format!("http://{}:2379", addresses.host(1))
    }

    fn endpoint(&self) -> String {
        Etcd::client(&self.addresses)
    }

    fn serves(&self) {
        eventually("etcd to serve", SOON, || {
            let status = wire::status(&self.endpoint())?;
            if status.leader == 0 { Err("no leader".to_owned()) } else { Ok(()) }
        });
    }

    fn revision(&self) -> i64 {
        eventually("etcd to answer", SOON, || wire::status(&self.endpoint())).revision
    }

    /// Waits until so much has been written since that revision: a load is under way.
    #[track_caller]
    fn takes(&self, writes: i64, since: i64) {
        eventually("a load to be under way", SOON, || {
            let written = self.revision() - since;
            if written >= writes { Ok(()) } else { Err(format!("{written} of {writes} writes")) }
        });
    }

    fn keys(&self, prefix: &str) -> Vec<Vec<u8>> {
        let keys = || wire::local_keys(&self.endpoint(), prefix);
        eventually("etcd to answer", SOON, keys).into_keys().collect()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it has ended");
    }

    fn restart(&mut self) {
        self.child = Etcd::spawn(&self.home, &self.addresses);
    }

    /// Runs a load on it.
    #[track_caller]
    fn load(&self, args: &[&str]) -> (Option<i32>, Value) {
        read(self.begin(args).wait_with_output().expect("it ends"))
    }

    /// Starts a load on it.
    fn begin(&self, args: &[&str]) -> Child {
        command(args)
            .args(["--endpoints", &self.endpoint(), "-o", "json"])
            .spawn()
            .expect("the program under test")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.arg("bench").args(args).env_remove("ETCDCTL_ENDPOINTS");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[track_caller]
fn read(output: Output) -> (Option<i32>, Value) {
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code(), report.unwrap_or_else(|error| panic!("{error}: {output:?}")))
}

#[track_caller]
fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report:#}"))
}

#[track_caller]
fn milliseconds(report: &Value, name: &str) -> f64 {
    report["latencyMs"][name].as_f64().unwrap_or_else(|| panic!("{name} in {report:#}"))
}

#[test]
fn what_the_report_counts_is_what_the_member_has() {
    let etcd = Etcd::start();
    let before = etcd.revision();
    let put = ["put", "--sequential", "--total", "700", "--key-space", "500", "--clients", "20"];
    let (code, report) = etcd.load(&[&put[..], &["--connections", "3"]].concat());
    assert_eq!((code, number(&report, "operations"), number(&report, "errors")), (Some(0), 700, 0));
    assert_eq!((etcd.revision() - before, etcd.keys("bench/").len()), (700, 500));
    assert_eq!(report["end"], "complete");
    assert!(milliseconds(&report, "p50") <= milliseconds(&report, "p99"), "{report:#}");
    assert!(milliseconds(&report, "p999") <= milliseconds(&report, "max"), "{report:#}");

    let range = ["range", "--total", "300", "--key-space", "500", "--clients", "7"];
    for more in [&["--serializable"][..], &["--linearizable"], &[]] {
        let (code, report) = etcd.load(&[&range[..], more].concat());
        assert_eq!((code, number(&report, "keysRead")), (Some(0), 300), "{report:#}");
    }
    // Half of a larger key space is there; a page holds what there is.
    let (_, report) = etcd.load(&["range", "--total", "300", "--key-space", "1000"]);
    assert!((100..200).contains(&number(&report, "keysRead")), "{report:#}");
    let page = ["--limit", "40", "--total", "1", "--key-space", "1", "--seed", "5"];
    let (_, report) = etcd.load(&[&["range"], &page[..]].concat());
    assert_eq!(number(&report, "keysRead"), 40);

    let before = etcd.revision();
    let txn = ["txn", "--ops", "6", "--total", "50", "--clients", "5", "--prefix", "t/"];
    let (code, report) = etcd.load(&[&txn[..], &["--key-space", "300", "--sequential"]].concat());
    assert_eq!((code, number(&report, "operations")), (Some(0), 50), "{report:#}");
    assert_eq!((etcd.revision() - before, etcd.keys("t/").len()), (50, 300));
}

#[test]
fn equal_seeds_write_equal_keys_whatever_the_clients() {
    let etcd = Etcd::start();
    let put = ["put", "--total", "400", "--prefix", "s/", "--key-size", "20"];
    etcd.load(&[&put[..], &["--clients", "1"]].concat());
    let first = etcd.keys("s/");
    assert!(first.len() > 350 && first.iter().all(|key| key.len() == 20), "{}", first.len());
    etcd.load(&[&put[..], &["--clients", "50"]].concat());
    assert_eq!(etcd.keys("s/"), first);
    etcd.load(&[&put[..], &["--seed", "2"]].concat());
    assert!(etcd.keys("s/").len() > first.len() + 350);
}

#[test]
fn every_watcher_sees_every_put_and_strange_writes_count_for_nothing() {
    let etcd = Etcd::start();
    let watch = ["watch", "--watchers", "120", "--total", "25"];
    // Another writer of the watched key.
    let noise = ["put", "--key-space", "1", "--duration", "10s", "--rate", "300"];
    let mut noise = etcd.begin(&noise);
    for (streams, connections) in [("120", "4"), ("7", "1")] {
        let spread = ["--streams", streams, "--connections", connections];
        let (code, report) = etcd.load(&[&watch[..], &spread].concat());
        assert_eq!((code, number(&report, "operations")), (Some(0), 25), "{report:#}");
        assert_eq!(number(&report, "events"), 120 * 25);
        let p50 = |name: &str| report[name]["p50"].as_f64().expect("a time");
        assert!(p50("firstWatcherMs") <= p50("eachWatcherMs"), "{report:#}");
        assert!(p50("eachWatcherMs") <= p50("latencyMs"), "{report:#}");
    }
    noise.kill().expect("it runs");
    noise.wait().expect("it ends");
    let (code, report) = etcd.load(&[&watch[..], &["--distinct-keys"]].concat());
    assert_eq!((code, number(&report, "events")), (Some(0), 25), "{report:#}");
}

#[test]
fn an_interrupt_ends_a_load_at_once_and_prints_what_was_measured() {
    let etcd = Etcd::start();
    let long = ["--duration", "10m"];
    for (load, writes) in
        [(&["put", "--clients", "9"][..], 20), (&["put", "--rate", "2"], 4), (&["watch"], 50)]
    {
        let before = etcd.revision();
        let child = etcd.begin(&[load, &long].concat());
        // More than can be under way at once, so that some are done.
        etcd.takes(writes, before);
        let asked = now();
        kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
        let (code, report) = read(child.wait_with_output().expect("it ends"));
        // A second for what is under way, and the rest for a machine that others keep busy.
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        assert_eq!((code, &report["end"]), (Some(0), &Value::from("interrupted")));
        assert!(number(&report, "operations") > 1, "{report:#}");
    }
}

#[test]
fn a_rate_is_kept_and_a_stall_is_not_hidden_by_what_it_held_up() {
    let etcd = Etcd::start();
    let rate = ["put", "--rate", "200", "--duration", "4s", "--clients", "2"];
    let before = etcd.revision();
    let child = etcd.begin(&rate);
    etcd.takes(20, before);
    etcd.signal(Signal::STOP);
    std::thread::sleep(Duration::from_secs(2));
    etcd.signal(Signal::CONT);
    let (code, report) = read(child.wait_with_output().expect("it ends"));
    assert_eq!((code, number(&report, "operations")), (Some(0), 800), "{report:#}");
    // Half of the operations were due during the stall, though only two were under way.
    assert!(milliseconds(&report, "p90") > 400.0, "{report:#}");
}

#[test]
fn errors_are_counted_by_their_text_and_the_load_goes_on_when_the_member_is_back() {
    let mut etcd = Etcd::start();
    // Long enough for a start that a busy machine makes long.
    let first = etcd.revision();
    let child = etcd.begin(&["put", "--clients", "5", "--duration", "15s", "--timeout", "2s"]);
    etcd.takes(20, first);
    etcd.kill();
    let before = {
        etcd.restart();
        etcd.serves();
        etcd.revision()
    };
    let (code, report) = read(child.wait_with_output().expect("it ends"));
    assert_eq!((code, &report["end"]), (Some(3), &Value::from("complete")), "{report:#}");
    let texts = report["errorTexts"].as_object().expect("texts");
    assert!(texts.keys().any(|text| text.starts_with("the connection broke")), "{report:#}");
    let sum: u64 = texts.values().filter_map(Value::as_u64).sum();
    assert_eq!(sum, number(&report, "errors"));
    assert!(etcd.revision() > before, "nothing was written after the restart: {report:#}");

    // A member's own refusal has its words, and none of the operations succeeded.
    let (code, report) = etcd.load(&["txn", "--ops", "129", "--total", "3"]);
    assert_eq!(code, Some(4));
    let text = "InvalidArgument: etcdserver: too many operations in txn request";
    assert_eq!(report["errorTexts"][text], 3, "{report:#}");
    assert_eq!(report["latencyMs"], Value::Null);
}

#[test]
fn what_is_no_member_ends_the_command_with_4_and_one_line() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let endpoint = format!("127.0.0.1:{port}");
    let server = std::thread::spawn(move || {
        // Plain HTTP, garbage, and nothing at all.
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0xff; 4096], b""] {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.write_all(answer);
        }
    });
    let run = |endpoint: &str| {
        let args = ["put", "--total", "1", "--timeout", "1s", "--endpoints", endpoint];
        command(&args).output().expect("it ends")
    };
    for _ in 0..3 {
        let output = run(&endpoint);
        assert_eq!(output.status.code(), Some(4), "{output:?}");
    }
    server.join().expect("the server does not panic");
    let output = run(&endpoint); // nobody listens any more
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(told.starts_with(&format!("error: cannot connect to http://{endpoint}")), "{told}");
    assert_eq!((told.lines().count(), output.stdout.len()), (1, 0), "{output:?}");
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_sent() {
    for (args, part) in [
        (&["put", "--endpoints", "https://a:1"][..], "TLS"),
        (&["put", "--connections", "2"], "--clients 1"),
        (&["put", "--key-size", "4"], "too short"),
        (&["put", "--total", "5", "--duration", "5s"], "cannot be used with"),
        (&["put", "--value-size", "4GiB"], "256 or 4KiB"),
        (&["put", "--duration", "5"], "30s"),
        (&["put", "--rate", "-1"], "rate"),
        (&["range", "--serializable", "--linearizable"], "cannot be used with"),
        (&["txn", "--ops", "5", "--key-space", "4"], "each key once"),
        (&["watch", "--watchers", "3", "--streams", "4"], "no fewer watchers"),
        (&["watch", "--value-size", "15"], "16 bytes"),
        (&["put", "--clents", "3"], "--clients"),
        (&[], "Usage"),
    ] {
        let output = command(args).output().expect("it ends");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(told.contains(part) && output.stdout.is_empty(), "{args:?}: {told}");
    }
}

#[test]
fn the_table_says_who_loaded_whom_with_how_many_connections() {
    let etcd = Etcd::start();
    let args = ["put", "--total", "50", "--clients", "4", "--connections", "2"];
    let output = command(&args).env("ETCDCTL_ENDPOINTS", etcd.endpoint()).output();
    let output = output.expect("it ends");
    let table = String::from_utf8_lossy(&output.stdout);
    let first = table.lines().next().unwrap_or_default();
    for part in ["put", "4 clients", "256 B", "2 connections", &etcd.endpoint()] {
        assert!(first.contains(part), "{part}: {table}");
    }
    for part in ["operations       50", "errors           none", "p99.9", "max"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(output.stderr.is_empty(), "no bar without a terminal: {output:?}");
    let help = command(&["watch", "--help"]).output().expect("it ends").stdout;
    let help = String::from_utf8_lossy(&help);
    assert!(help.contains("Examples:\n") && help.contains("quorate bench watch"), "{help}");
}
