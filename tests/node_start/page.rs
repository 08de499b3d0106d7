//! What a node says of itself where its home cannot be read: on its state page while it lives, in
//! its termination log at the end.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use quorate::cluster::{Disk, ExitKind, NodeWord, Phase};

use super::support::{
    Cluster, Engine, HOST, Node, Start, eventually, free_port, now, on_both_engines,
};

on_both_engines![
    the_page_tells_every_phase_without_a_quorum_and_that_the_data_is_gone,
    a_state_port_that_is_taken_names_its_holder_and_nothing_is_touched,
    the_last_word_is_what_the_home_says_and_what_the_disk_holds,
];

/// An HTTP answer: its status and its body; `None` if nobody listens.
fn ask(port: u16, method: &str, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect((HOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// What `/state` answers to one who knows the word with this mark and waits for so many seconds: a
/// status, the mark, and the body.
fn news(port: u16, known: &str, seconds: u32) -> (u16, String, String) {
    let mut stream = TcpStream::connect((HOST, port)).expect("the page is there");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    let headers = format!("Host: {HOST}\r\nIf-None-Match: {known}\r\nPrefer: wait={seconds}");
    write!(stream, "GET /state HTTP/1.1\r\n{headers}\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let mark = head.lines().find_map(|it| it.strip_prefix("etag: ")).unwrap_or_default();
    (head[9..12].parse().expect("a status"), mark.to_owned(), body.to_owned())
}

fn word(port: u16) -> Option<NodeWord> {
    let (status, body) = ask(port, "GET", "/state")?;
    assert_eq!(status, 200, "{body}");
    Some(NodeWord::from_line(&body).expect("a word"))
}

#[track_caller]
fn reaches(port: u16, phase: Phase) -> NodeWord {
    eventually(&format!("the page says {phase:?}"), || word(port).filter(|it| it.phase == phase))
}

fn the_page_tells_every_phase_without_a_quorum_and_that_the_data_is_gone(engine: Engine) {
    let cluster = Cluster::of(engine, 2);
    let [a, b] = [&cluster.nodes[0], &cluster.nodes[1]];
    let port = free_port();
    // Somebody who takes connections and says nothing: it is waited for a while.
    let silent = TcpListener::bind(b.peer.trim_start_matches("http://")).unwrap();
    let start = || cluster.start(a).arg("--state-listen", format!("{HOST}:{port}"));
    a.run(start());
    // Not for long: a look may come too late.
    let preparing = eventually("the page says Preparing", || {
        let first = eventually("the page answers", || word(port));
        if first.phase != Phase::Preparing {
            a.stop();
            a.run(start());
            return None;
        }
        Some(first)
    });
    let nothing = (preparing.member, preparing.stamp, preparing.incarnation, preparing.disk);
    assert_eq!(nothing, (None, None, None, None));
    assert_eq!(ask(port, "GET", "/livez"), Some((200, "ok\n".to_owned())));
    assert_eq!(reaches(port, Phase::Barrier).stamp, None);
    drop(silent);

    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/state/", 404),
        ("POST", "/elsewhere", 404),
        ("POST", "/state", 405),
        ("DELETE", "/state", 405),
        ("HEAD", "/livez", 405),
    ] {
        assert_eq!(ask(port, method, path).map(|it| it.0), Some(status), "{method} {path}");
    }
    // Those who say nothing keep nobody out.
    let mute: Vec<_> = (0..50).map(|_| TcpStream::connect((HOST, port)).unwrap()).collect();
    assert_eq!(ask(port, "GET", "/livez").map(|it| it.0), Some(200));
    drop(mute);

    b.run(cluster.start(b));
    a.serves();
    let running = reaches(port, Phase::Running);
    let stamp = a.home.stamp().unwrap().expect("a stamp");
    assert_eq!(running.member, Some(Cluster::founder(a)));
    assert_eq!(
        (running.stamp, running.incarnation),
        (Some(stamp.identity()), Some(stamp.incarnation))
    );
    assert_eq!((running.data_gone, running.exit, running.disk), (false, None, None));

    // Alone it has no quorum, and says the same.
    b.stop();
    assert!(word(port).is_some_and(|it| it.phase == Phase::Running));
    // Who waits for news is told that there is none when the time is over, and of any at once.
    let (_, mark, _) = news(port, "\"another\"", 20);
    assert_eq!(news(port, &mark, 0).0, 304);
    let begun = now();
    assert_eq!(news(port, &mark, 1).0, 304);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let known = mark.clone();
    let waits = std::thread::spawn(move || news(port, &known, 30));
    fs::remove_dir_all(a.home.data()).unwrap();
    let (status, other, body) = waits.join().unwrap();
    assert_eq!(status, 200);
    assert_ne!(mark, other);
    assert!(NodeWord::from_line(&body).is_ok_and(|it| it.data_gone), "{body}");
    assert_eq!(ask(port, "GET", "/livez").map(|it| it.0), Some(200));
    assert!(!a.has_ended());
}

fn a_state_port_that_is_taken_names_its_holder_and_nothing_is_touched(engine: Engine) {
    let cluster = Cluster::of(engine, 1);
    let node = &cluster.nodes[0];
    let stranger = TcpListener::bind((HOST, 0)).unwrap();
    let address = stranger.local_addr().unwrap().to_string();
    let ended = node.refuses(cluster.start(node).arg("--state-listen", &address));
    ended.is(ExitKind::AddressInUse).says(&address).says(format!("pid {}", std::process::id()));
    assert_eq!(node.state().unwrap().exit.unwrap().kind, ExitKind::AddressInUse);
    assert!(node.home.stamp().unwrap().is_none() && !node.home.data().exists());
    for nowhere in ["2378", "no such host:1", "127.0.0.1"] {
        let ended = node.refuses(cluster.start(node).arg("--state-listen", nowhere));
        ended.is(ExitKind::BadConfig).says("--state-listen").says(nowhere);
    }
}

/// Ends as it should, and what its termination log says then.
#[track_caller]
fn last(node: &Node, start: Start, log: &Path, kind: ExitKind) -> NodeWord {
    node.refuses(start).is(kind);
    read(log, kind)
}

#[track_caller]
fn read(log: &Path, kind: ExitKind) -> NodeWord {
    let line = fs::read_to_string(log).expect("a last word");
    assert!(line.len() <= NodeWord::LONGEST && line.ends_with("}\n"), "{line}");
    let word = NodeWord::from_line(&line).expect("one line of JSON");
    let said = word.exit.as_ref().map(|it| it.kind);
    assert_eq!((word.phase, said), (Phase::Ended, Some(kind)), "{line}");
    word
}

fn the_last_word_is_what_the_home_says_and_what_the_disk_holds(engine: Engine) {
    let cluster = Cluster::of(engine, 1);
    let node = &cluster.nodes[0];
    let log = cluster.dir().join("termination-log");
    // As in a container: it is there already, and has to stay that very file.
    fs::write(&log, "x".repeat(5000)).unwrap();
    let file = fs::metadata(&log).unwrap().ino();
    let start = || cluster.start(node).arg("--termination-log", log.display());

    node.run(start());
    node.serves();
    node.stop();
    let word = read(&log, ExitKind::Clean);
    let stamp = node.home.stamp().unwrap().expect("a stamp");
    assert_eq!(word.disk, Some(Disk::Holds(stamp.identity())));
    assert_eq!((word.member, word.stamp), (Some(stamp.member), Some(stamp.identity())));
    assert_eq!(word.incarnation, Some(stamp.incarnation));

    // Before the lock: whose place it is can be told, what lies in it is not looked at.
    let word = last(node, start().arg("--nmae", "x"), &log, ExitKind::BadConfig);
    assert_eq!((word.stamp, word.disk), (Some(stamp.identity()), None));
    let word =
        last(node, start().arg("-name", "n1").arg("--replaces", "z"), &log, ExitKind::BadConfig);
    assert!(word.exit.unwrap().detail.contains("--replaces"));
    let lock = node.home.try_lock().unwrap().expect("a lock");
    assert_eq!(last(node, start(), &log, ExitKind::Locked).disk, None);
    drop(lock);
    // A process that another test was just starting may hold it a moment longer.
    eventually("the lock is free", || (!node.home.is_locked().unwrap()).then_some(()));

    // One that cannot be written is no reason to end otherwise.
    let nowhere = cluster.dir().join("no/such/log");
    node.run(cluster.start(node).arg("--termination-log", nowhere.display()));
    node.serves();
    node.stop();
    assert!(node.said().contains("the termination log cannot be written"), "{}", node.said());

    fs::remove_dir_all(node.home.data()).unwrap();
    let word = last(node, start(), &log, ExitKind::DataLost);
    assert_eq!((word.stamp, word.disk), (Some(stamp.identity()), Some(Disk::Empty)));
    assert_eq!(fs::metadata(&log).unwrap().ino(), file, "it is another file");
    // Ours among etcd's flags, in any order.
    fs::remove_file(&log).unwrap();
    let among = cluster.start(node).arg("-name", "n1").arg("--termination-log", log.display());
    last(node, among, &log, ExitKind::DataLost);
}
