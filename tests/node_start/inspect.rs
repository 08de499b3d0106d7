//! What `quorate inspect` and the next start make of the embedded engine's log: whole, torn at
//! its end, damaged in the middle or in its head.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use quorate::cluster::{Disk, ExitKind};
use quorate::node::data;
use serde_json::Value;

use super::support::{Cluster, Engine, Node, quorate, spoil};

fn segments(node: &Node) -> Vec<PathBuf> {
    super::support::segments(&data::log_dir(&node.home.data()), "log")
}

/// What `quorate inspect` says of one node: its code, as JSON, and as text.
#[track_caller]
fn inspect(path: &Path) -> (i32, Value, String) {
    let path = path.display().to_string();
    let (code, json) = quorate(&["inspect", &path, "-o", "json"]);
    let (again, text) = quorate(&["inspect", &path]);
    assert_eq!(code, again);
    let json: Value = serde_json::from_str(&json).unwrap_or_else(|e| panic!("{e}: {json}"));
    (code, json[0].clone(), text)
}

/// One node with twenty keys, stopped; and what it said of itself before.
fn stopped() -> (Cluster, Value) {
    let cluster = Cluster::running(Engine::Embedded, 1);
    let node = &cluster.nodes[0];
    for i in 0..20 {
        node.ask(&["put", &format!("k{i}"), &"v".repeat(100)]);
    }
    let status = node.status().expect("a status");
    let (code, seen, text) = inspect(node.home.dir());
    assert_eq!((code, &seen["running"]), (0, &true.into()), "{text}");
    node.stop();
    (cluster, status)
}

#[test]
fn a_whole_log_is_told_with_its_stamp_and_its_last_index() {
    let (cluster, status) = stopped();
    let node = &cluster.nodes[0];
    let stamp = node.home.stamp().unwrap().unwrap();
    for path in [node.home.dir().to_owned(), node.home.data()] {
        let (code, seen, text) = inspect(&path);
        assert_eq!(code, 0, "{text}");
        if path == node.home.data() {
            // A data dir of its own has its home beside it, not around it.
            assert_eq!(seen["log"]["member"], stamp.member.to_string());
            continue;
        }
        assert_eq!((&seen["data"], &seen["running"]), (&"holds".into(), &false.into()));
        assert_eq!(seen["stamp"]["member"], stamp.member.to_string());
        assert_eq!(seen["stamp"]["cluster"], stamp.cluster.to_string());
        assert_eq!(seen["stamp"]["incarnation"], stamp.incarnation.to_string());
        let log = &seen["log"];
        assert_eq!(log["member"], stamp.member.to_string());
        assert_eq!(log["cluster"], stamp.cluster.to_string());
        assert!(log["lastIndex"].as_u64() >= status["raftIndex"].as_u64(), "{log} {status}");
        assert!(log["commitIndex"].as_u64() <= log["lastIndex"].as_u64());
        assert_eq!(log["term"], status["raftTerm"]);
        assert_eq!((&log["tornTail"], &log["damage"]), (&Value::Null, &Value::Null));
        for part in [
            format!("data of member {} of cluster {}", stamp.member, stamp.cluster),
            format!("incarnation {}", stamp.incarnation),
            format!("last {}, committed", log["lastIndex"]),
            "last end    Clean".to_owned(),
        ] {
            assert!(text.contains(&part), "{part:?} is not in\n{text}");
        }
    }
}

#[test]
fn a_write_that_broke_off_is_a_torn_tail_and_is_repaired_at_the_next_start() {
    let (cluster, _) = stopped();
    let node = &cluster.nodes[0];
    let whole = data::check(&node.home.data()).unwrap().expect("a log");
    let segment = segments(node).pop().unwrap();
    // As a crash leaves it: the file ends within a record that follows the last one.
    let file = OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let end = end_of_records(&segment);
    let mut begun = vec![0; 24];
    file.read_exact_at(&mut begun, 80).unwrap();
    file.write_all_at(&begun, end).unwrap();
    let (code, seen, text) = inspect(node.home.dir());
    let torn = &seen["log"]["tornTail"];
    assert_eq!((code, torn["offset"].as_u64()), (0, Some(end)), "{text}");
    assert_eq!(torn["file"], segment.display().to_string());
    assert_eq!(seen["log"]["lastIndex"], whole.last_index);
    assert!(text.contains(&format!("{} at byte {end}: ", segment.display())), "{text}");

    node.run(cluster.start(node));
    node.serves();
    assert_eq!(node.ask(&["get", "k", "--prefix", "--keys-only"]).matches('k').count(), 20);
    node.stop();
    let (code, seen, _) = inspect(node.home.dir());
    assert_eq!((code, &seen["log"]["tornTail"]), (0, &Value::Null));
}

/// Where the last record of a segment ends: behind it there are zeros only.
fn end_of_records(segment: &Path) -> u64 {
    let bytes = fs::read(segment).unwrap();
    let last = bytes.iter().rposition(|it| *it != 0).expect("records");
    u64::try_from(last + 1).unwrap().next_multiple_of(8)
}

#[test]
fn damage_is_told_by_its_place_refused_by_its_kind_and_left_as_it_is() {
    let (cluster, _) = stopped();
    let node = &cluster.nodes[0];
    let stamp = node.home.stamp().unwrap().unwrap();
    let whole = data::check(&node.home.data()).unwrap().expect("a log");
    let segment = segments(node).remove(0);
    let full = fs::read(&segment).unwrap();
    let end = end_of_records(&segment);

    // In the middle: what follows was acknowledged and cannot be read.
    spoil(&segment, end / 2, 40);
    let spoilt = fs::read(&segment).unwrap();
    let (code, seen, text) = inspect(node.home.dir());
    let damage = &seen["log"]["damage"];
    let at = damage["offset"].as_u64().expect("a place");
    assert!(code == 3 && at > end / 4 && at <= end / 2, "{text}");
    assert_eq!(damage["file"], segment.display().to_string());
    assert!(seen["log"]["lastIndex"].as_u64() < Some(whole.last_index), "{text}");
    assert!(text.contains("damaged: ") && text.contains(&format!("at byte {at}")), "{text}");
    let ended = node.refuses(cluster.start(node));
    ended.is(ExitKind::DataDamaged).says(segment.display().to_string()).says(at.to_string());
    assert!(fs::read(&segment).unwrap() == spoilt, "it was touched");

    // Where it says whose it is.
    fs::write(&segment, &full).unwrap();
    spoil(&segment, 20, 8);
    assert_eq!(node.home.disk(), Disk::Damaged { stamp: stamp.identity() });
    let (code, seen, text) = inspect(node.home.dir());
    assert_eq!((code, &seen["data"]), (3, &"damaged".into()), "{text}");
    node.refuses(cluster.start(node)).is(ExitKind::DataDamaged);

    // Cut to nothing, or not readable as a file at all: never empty.
    fs::write(&segment, b"").unwrap();
    assert!(matches!(node.home.disk(), Disk::Damaged { .. }), "{:?}", node.home.disk());
    node.refuses(cluster.start(node)).is(ExitKind::DataDamaged);
    fs::remove_file(&segment).unwrap();
    fs::create_dir(&segment).unwrap();
    assert!(matches!(node.home.disk(), Disk::Unknown(_)), "{:?}", node.home.disk());
    node.refuses(cluster.start(node)).is(ExitKind::Unknown);

    // And whole again, it serves.
    fs::remove_dir(&segment).unwrap();
    fs::write(&segment, &full).unwrap();
    node.run(cluster.start(node));
    node.serves();
    assert_eq!(node.ask(&["get", "k", "--prefix", "--keys-only"]).matches('k').count(), 20);
}
