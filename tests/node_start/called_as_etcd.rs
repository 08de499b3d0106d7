//! The binary under the name of etcd: its version, its command line, its log, its end.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use quorate::cluster::ExitKind;
use rustix::process::{Pid, Signal, kill_process};

use super::settings::json_lines;
use super::support::{Cluster, Engine, Node, QUORATE, Start, bare, eventually, now};

/// A link called `etcd`.
fn etcd(cluster: &Cluster) -> PathBuf {
    let link = cluster.dir().join("etcd");
    if !link.exists() {
        symlink(QUORATE, &link).expect("a link");
    }
    link
}

/// Timings under which nobody is elected in time unless the leadership is handed over.
fn start(cluster: &Cluster, node: &Node) -> Start {
    let slow = cluster.start(node).set("ETCD_ELECTION_TIMEOUT", "20000");
    slow.set("ETCD_HEARTBEAT_INTERVAL", "500").into_flags()
}

fn three() -> Cluster {
    let cluster = Cluster::of(Engine::Embedded, 3);
    for node in &cluster.nodes {
        node.spawn(bare(etcd(&cluster)), start(&cluster, node));
    }
    for node in &cluster.nodes {
        node.serves();
    }
    cluster
}

/// Who leads, as this node has it; 0 for nobody.
fn leader(node: &Node) -> Option<u64> {
    node.status()?["leader"].as_u64()
}

/// The leader, once all agree on one.
fn leading(cluster: &Cluster) -> usize {
    eventually("one leads and all know it", || {
        let known: Vec<_> = cluster.nodes.iter().map(leader).collect();
        let first = known[0].filter(|id| *id != 0 && known.iter().all(|it| *it == Some(*id)))?;
        cluster.nodes.iter().position(|it| Cluster::founder(it).0 == first)
    })
}

#[test]
fn it_says_its_version_as_etcd_does_in_four_lines() {
    let cluster = Cluster::of(Engine::Embedded, 1);
    for flag in ["--version", "-version"] {
        let output = bare(etcd(&cluster)).arg(flag).output().expect("it runs");
        assert!(output.status.success() && output.stderr.is_empty());
        let said = String::from_utf8(output.stdout).expect("text");
        let lines: Vec<_> = said.lines().collect();
        assert_eq!((lines.len(), lines[0]), (4, "etcd Version: 3.7.3"), "{said}");
        let begins = ["etcd Version: ", "Git SHA: ", "Go Version: ", "Go OS/Arch: linux/"];
        for (line, begin) in lines.iter().zip(begins) {
            assert!(line.len() > begin.len() && line.starts_with(begin), "{line}");
        }
    }
}

#[test]
fn it_serves_on_etcds_command_line_alone_and_logs_as_etcd_does() {
    let cluster = Cluster::of(Engine::Embedded, 1);
    let node = &cluster.nodes[0];
    node.spawn(bare(etcd(&cluster)), cluster.start(node).into_flags());
    node.serves();
    node.ask(&["put", "k", "v"]);
    node.signal(Signal::TERM);
    let ended = node.ended();
    ended.is(ExitKind::Clean);
    let lines = json_lines(&ended.printed);
    let ready = lines.iter().find(|it| it["msg"] == "ready to serve client requests");
    assert_eq!(ready.expect("a line that says so")["level"], "info");
    // The lock and the stamp lie beside the data, not in it.
    assert!(node.home.data().join("log").is_dir());
    assert!(node.home.dir().join("member.json").is_file());

    // Text where it is asked for.
    let text = cluster.start(node).into_flags().arg("--log-format", "console");
    node.spawn(bare(etcd(&cluster)), text);
    node.serves();
    assert!(node.said().contains(" INFO ready to serve client requests"), "{}", node.said());
    node.signal(Signal::TERM);
    node.ended().is(ExitKind::Clean);

    // And etcd's refusals, with a code that its caller sees.
    node.spawn(bare(etcd(&cluster)), cluster.start(node).into_flags().arg("--nmae", "x"));
    node.ended().is(ExitKind::BadConfig).says("did you mean name?");
}

#[test]
fn a_stopped_leader_hands_over_and_is_gone_within_a_second_and_a_half() {
    let cluster = three();
    // The machine may be busy with something else: of five ends one is to be in time, and ten times
    // as long as it takes to start etcdctl and have an answer (some 40 ms) is for the machine.
    let mut took = Vec::new();
    for _ in 0..5 {
        let at = leading(&cluster);
        let (node, own) = (&cluster.nodes[at], Cluster::founder(&cluster.nodes[at]).0);
        let other = &cluster.nodes[(at + 1) % 3];
        let begun = now();
        eventually("an answer", || other.status());
        let limit = Duration::from_millis(1500) + 10 * begun.elapsed();
        let asked = now();
        node.signal(Signal::TERM);
        node.ended().is(ExitKind::Clean);
        let end = asked.elapsed();
        // An election of their own would take the others fourteen seconds at the least.
        eventually("another leads", || leader(other).filter(|it| *it != 0 && *it != own));
        assert!(asked.elapsed() < Duration::from_secs(12), "it was elected, not handed over");
        other.ask(&["put", "k", "goes on"]);
        if end < limit {
            return;
        }
        took.push((end, limit));
        node.spawn(bare(etcd(&cluster)), start(&cluster, node));
        node.serves();
    }
    panic!("it took {took:?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let cluster = three();
    // It waits for half a second at most, within which a busy machine may not get to the second
    // signal: of five, one is to come in time.
    let mut went_on = Vec::new();
    for _ in 0..5 {
        let at = leading(&cluster);
        let others = cluster.nodes.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, it)| it);
        let pids: Vec<_> = others.map(pid).collect();
        // Frozen, nobody takes the leadership over, and the end would wait for it.
        let thawed = Thaw(&pids);
        for it in &pids {
            kill_process(*it, Signal::STOP).expect("ours");
        }
        let node = &cluster.nodes[at];
        node.signal(Signal::TERM);
        eventually("it has heard", || node.said().contains("asked to stop").then_some(()));
        node.signal(Signal::INT);
        let ended = node.ended();
        ended.is(ExitKind::Clean);
        drop(thawed);
        let lines = json_lines(&ended.printed);
        let asked =
            lines.iter().position(|it| it["msg"].as_str().unwrap().starts_with("asked to stop"));
        let after = lines[asked.expect("a line that says so") + 1..].to_vec();
        // It died as by a power loss: what it had acknowledged is there.
        assert!(fs::read_dir(node.home.data().join("log")).unwrap().count() > 0);
        node.spawn(bare(etcd(&cluster)), start(&cluster, node));
        node.serves();
        if after.is_empty() {
            return;
        }
        went_on.push(after);
    }
    panic!("it went on: {went_on:?}");
}

fn pid(node: &Node) -> Pid {
    Pid::from_raw(i32::try_from(node.pid()).expect("a PID")).expect("not 0")
}

/// Lets frozen processes go on, whatever becomes of the test.
struct Thaw<'a>(&'a [Pid]);

impl Drop for Thaw<'_> {
    fn drop(&mut self) {
        for it in self.0 {
            let _ = kill_process(*it, Signal::CONT); // gone already
        }
    }
}
