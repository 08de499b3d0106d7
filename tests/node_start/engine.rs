//! The engine as a process: who outlives whom, and what its last words mean.

use std::fs;
use std::io::Write;
use std::path::Path;

use quorate::cluster::ExitKind;
use quorate::node::home::{LOG_LIMIT, Phase, ProcessRef};
use quorate::node::messages;
use rustix::process::Signal;

use super::support::{Cluster, Engine, Node, Start, bare, eventually};

fn engine(node: &Node) -> ProcessRef {
    node.state().and_then(|state| state.engine).expect("an engine")
}

#[test]
fn an_engine_outlives_its_wrapper_and_holds_the_lock_until_it_ends() {
    let cluster = Cluster::running(Engine::Upstream, 1);
    let node = &cluster.nodes[0];
    let engine = engine(node);
    node.signal(Signal::KILL);
    eventually("the wrapper is gone", || node.has_ended().then_some(()));

    node.ask(&["put", "k", "nobody watches"]);
    assert!(engine.alive() && node.home.is_locked().unwrap());
    // Looking at the lock takes it for an instant only.
    let ended = node.refuses(cluster.start(node));
    ended.is(ExitKind::Locked).says(format!("pid {}", engine.pid));
    // Who was refused the lock says nothing in the home of the one that has it.
    assert_eq!(node.state().unwrap().phase, Phase::Running);

    engine.signal(Signal::KILL).unwrap();
    eventually("the lock is free", || (!node.home.is_locked().unwrap()).then_some(()));
    node.run(cluster.start(node));
    node.serves();
    assert_eq!(node.ask(&["get", "k", "--print-value-only"]), "nobody watches\n");
}

#[test]
fn signals_are_passed_on_and_a_foreign_kill_is_told_apart() {
    let cluster = Cluster::running(Engine::Upstream, 1);
    let node = &cluster.nodes[0];
    let first = engine(node);
    first.signal(Signal::KILL).unwrap();
    node.ended().is(ExitKind::Killed).says("signal 9");

    node.run(cluster.start(node));
    node.serves();
    let second = engine(node);
    // A frozen engine does not hear the first signal; the second one ends it by force.
    second.signal(Signal::STOP).unwrap();
    eventually("it is frozen", || second.is_frozen().then_some(()));
    node.signal(Signal::INT);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!node.has_ended() && second.alive());
    node.signal(Signal::TERM);
    node.ended().is(ExitKind::Clean);
    assert!(!second.alive() && !node.home.is_locked().unwrap());
}

#[test]
fn only_an_etcd_from_3_4_on_is_run() {
    let cluster = Cluster::of(Engine::Upstream, 1);
    let node = &cluster.nodes[0];
    let old = cluster.dir().join("old-etcd");
    let text = cluster.dir().join("text");
    fs::write(&text, "#!/bin/sh\necho 'etcd Version: 3.3.27'\n").unwrap();
    // Written by another process: one that another test was just starting would hold a file that
    // is written here open, and such a file cannot be run.
    let made = bare("install").args(["-m", "755"]).args([&text, &old]).status();
    assert!(made.unwrap().success());
    let with = |exec: &str| {
        node.run_exactly(
            cluster.start(node).arg("--exec", exec).arg("--node-home", node.home.dir().display()),
        );
        node.ended()
    };
    with(&old.display().to_string()).is(ExitKind::BadConfig).says("3.4 is the oldest");
    with("/bin/true").is(ExitKind::BadConfig).says("no etcd");
    with("/nowhere/etcd").is(ExitKind::BadConfig).says("/nowhere/etcd");
    let exit = node.state().unwrap().exit.unwrap();
    assert_eq!(exit.kind, ExitKind::BadConfig);
}

#[test]
fn a_long_log_is_cut_and_the_engines_last_words_are_understood_all_the_same() {
    let cluster = Cluster::of(Engine::Upstream, 3);
    let (a, c) = (&cluster.nodes[0], &cluster.nodes[2]);
    let log = c.home.log();
    let previous = log.with_extension("1");
    let length = |path: &Path| fs::metadata(path).map_or(0, |it| it.len());
    // As another writer, of whole lines; the last one says which.
    let floods = |mark: &str| {
        fs::create_dir_all(c.home.dir()).unwrap();
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let line = format!("{{\"level\":\"warn\",\"msg\":\"{}\"}}\n", "nothing ".repeat(50));
        // In one piece: it may be cut as soon as it is too long.
        let flood = line.repeat(usize::try_from(LOG_LIMIT).unwrap() / line.len() + 2);
        file.write_all(format!("{flood}{mark}\n").as_bytes()).unwrap();
    };
    let is_cut = |mark: &str| {
        eventually("the log is cut", || (length(&log) < LOG_LIMIT / 4).then_some(()));
        assert!(length(&previous) <= LOG_LIMIT + (1 << 20), "{}", length(&previous));
        let kept = fs::read_to_string(&previous).unwrap();
        // The engine may have said something after it.
        assert!(kept.contains(mark) && kept.starts_with("{\"level\""), "{mark}");
    };
    // It grew while nobody looked after it.
    floods("first flood");
    for node in &cluster.nodes {
        node.run(cluster.start(node));
    }
    for node in &cluster.nodes {
        node.serves();
    }
    is_cut("first flood");
    // And it grows while the engine runs, which goes on in the same file.
    floods("second flood");
    is_cut("second flood");
    Cluster::remove(a, Cluster::founder(c));
    c.ended().is(ExitKind::Removed);
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("the member has been permanently removed"), "{said}");
    assert!(!said.contains('\0') && !said.contains("flood"), "{said}");
}

/// The last words of an etcd that is started without any preparation, and what they mean.
#[track_caller]
fn last_words(start: &Start) -> Option<ExitKind> {
    // One that does not end is a failure, not a reason to wait for ever.
    let mut etcd = bare("timeout");
    etcd.args(["--kill-after=1", "60", "etcd"])
        .args(start.flags())
        .args(["--logger=zap", "--log-outputs=stderr"]);
    let output = etcd.output().expect("etcd runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    messages::classify(messages::OLDEST, &said).map(|(kind, _)| kind)
}

#[test]
fn etcds_own_refusals_are_understood() {
    let cluster = Cluster::running(Engine::Upstream, 2);
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    a.ask(&["put", "k", "v"]);
    b.stop();
    let aside = cluster.dir().join("aside");
    fs::rename(b.home.data(), &aside).unwrap();
    let start = || cluster.start(b);
    let both = |first: &str, second: &str| format!("n1={first},n2={second}");

    // Its disk is lost.
    assert_eq!(last_words(&start()), Some(ExitKind::DataLost));
    // (The wiped voter is told an index that it no longer has, and panics.)
    assert_eq!(last_words(&start().existing()), Some(ExitKind::DataLost));
    fs::remove_dir_all(b.home.data()).unwrap();
    let alone = start().existing().set("ETCD_INITIAL_CLUSTER", format!("n2={}", b.peer));
    assert_eq!(last_words(&alone), Some(ExitKind::NoPeers));
    let wrong = both("http://127.9.3.1:1", &b.peer);
    let wrong = start().existing().set("ETCD_INITIAL_CLUSTER", wrong);
    assert_eq!(last_words(&wrong), Some(ExitKind::NoPeers));
    let three = format!("{},n3=http://127.9.3.1:1", both(&a.peer, &b.peer));
    let three = start().existing().set("ETCD_INITIAL_CLUSTER", three);
    assert_eq!(last_words(&three), Some(ExitKind::MemberCountUnequal));
    let elsewhere = start()
        .existing()
        .set("ETCD_INITIAL_CLUSTER", both(&a.peer, "http://127.9.3.1:1"))
        .set("ETCD_INITIAL_ADVERTISE_PEER_URLS", "http://127.9.3.1:1");
    assert_eq!(last_words(&elsewhere), Some(ExitKind::MemberCountUnequal));
    let nameless = start().set("ETCD_INITIAL_CLUSTER", format!("n1={}", a.peer));
    assert_eq!(last_words(&nameless), Some(ExitKind::NameNotInCluster));
    let taken = start().set("ETCD_LISTEN_CLIENT_URLS", &*a.client);
    assert_eq!(last_words(&taken), Some(ExitKind::AddressInUse));
    let absent = start().set("ETCD_LISTEN_CLIENT_URLS", "http://192.0.2.1:2379");
    assert_eq!(last_words(&absent), Some(ExitKind::AddressInUse));
    let unknown = start().set("ETCD_NO_SUCH_FLAG", "1");
    assert_eq!(last_words(&unknown), Some(ExitKind::BadConfig));
    let uneven = start().set("ETCD_ELECTION_TIMEOUT", "60");
    assert_eq!(last_words(&uneven), Some(ExitKind::BadConfig));
}
