//! Whose data lies there: its own, another's, damaged, deleted under a running engine.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;

use quorate::cluster::{Disk, ExitKind};
use quorate::node::{data, wal};

use super::files::copy_dir;
use super::support::{Cluster, Engine, Node, bare, eventually, on_both_engines, quorate, spoil};

on_both_engines![
    data_put_back_from_elsewhere_is_stale_and_data_of_strangers_foreign,
    safety_10_a_data_dir_deleted_under_a_running_engine_is_reported_and_the_engine_goes_on,
];

fn segments(node: &Node) -> Vec<PathBuf> {
    super::support::segments(&wal::wal_dir(&node.home.data()), "wal")
}

#[test]
fn a_log_is_read_to_its_end_and_damage_is_told_by_its_place() {
    let cluster = Cluster::running(Engine::Upstream, 1);
    let node = &cluster.nodes[0];
    for i in 0..20 {
        node.ask(&["put", &format!("k{i}"), &"v".repeat(100)]);
    }
    let status = node.ask(&["endpoint", "status", "-w", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    node.stop();
    let data = node.home.data();
    let whole = wal::check(&data).unwrap().expect("a log");
    assert_eq!((&whole.damage, &whole.torn_tail), (&None, &None));
    assert_eq!(whole.ids, wal::ids(&data).unwrap());
    // The engine may have written on after it was asked.
    assert!(whole.last_index >= status[0]["Status"]["raftIndex"].as_u64().expect("an index"));
    assert_eq!(Some(whole.term), status[0]["Status"]["raftTerm"].as_u64());
    assert_eq!(whole.first_index, Some(1));
    let segment = segments(node).remove(0);
    let end = whole.bytes;
    let home = node.home.dir().display().to_string();
    assert_eq!(quorate(&["inspect", &home]).0, 0);

    // Cut short within the last record, as a crash leaves it: etcd repairs that by itself.
    let full = fs::read(&segment).unwrap();
    OpenOptions::new().write(true).open(&segment).unwrap().set_len(end - 3).unwrap();
    let cut = wal::check(&data).unwrap().unwrap();
    assert!(cut.damage.is_none() && cut.torn_tail.is_some(), "{cut:?}");
    assert_eq!(cut.records, whole.records - 1);

    // Damaged in the middle: what follows was acknowledged and cannot be read.
    fs::write(&segment, &full).unwrap();
    spoil(&segment, end / 2, 40);
    let broken = wal::check(&data).unwrap().unwrap();
    let spot = broken.damage.expect("damage");
    assert!(spot.file == segment && spot.offset > end / 4 && spot.offset <= end / 2, "{spot:?}");
    assert!(broken.last_index < whole.last_index);
    assert!(matches!(node.home.disk(), Disk::Holds(_)));
    let (code, said) = quorate(&["inspect", &home]);
    assert!(code == 3 && said.contains("damaged"), "{said}");
    node.refuses(cluster.start(node)).is(ExitKind::DataDamaged);

    // Damaged where it says whose it is.
    fs::write(&segment, &full).unwrap();
    spoil(&segment, 20, 8);
    let stamp = node.home.stamp().unwrap().unwrap().identity();
    assert_eq!(node.home.disk(), Disk::Damaged { stamp: stamp.clone() });
    node.refuses(cluster.start(node)).is(ExitKind::DataDamaged);

    // Cut to nothing, or not readable as a file at all: never empty.
    fs::write(&segment, b"").unwrap();
    assert_eq!(node.home.disk(), Disk::Damaged { stamp });
    fs::remove_file(&segment).unwrap();
    fs::create_dir(&segment).unwrap();
    assert!(matches!(node.home.disk(), Disk::Unknown(_)), "{:?}", node.home.disk());
    node.refuses(cluster.start(node)).is(ExitKind::Unknown);

    // And whole again, it serves.
    fs::remove_dir(&segment).unwrap();
    fs::write(&segment, &full).unwrap();
    node.run(cluster.start(node));
    node.serves();
}

fn data_put_back_from_elsewhere_is_stale_and_data_of_strangers_foreign(engine: Engine) {
    let cluster = Cluster::running(engine, 1);
    let node = &cluster.nodes[0];
    node.stop();
    let (data, own) = (node.home.data(), cluster.dir().join("own"));
    copy_dir(&data, &own);
    let back = |from: &PathBuf| {
        fs::remove_dir_all(&data).unwrap();
        copy_dir(from, &data);
    };

    // Data of the same member IDs, of another founding: a token and a list used twice.
    fs::remove_dir_all(node.home.dir()).unwrap();
    node.run(cluster.start(node));
    node.serves();
    node.stop();
    back(&own);
    let log = data::ids(&data).unwrap().unwrap();
    assert_eq!(log.member, node.home.stamp().unwrap().unwrap().member);
    node.refuses(cluster.start(node)).is(ExitKind::StaleData);

    // Without the stamp's copy nobody can tell which of the two it is.
    fs::remove_file(data.join("quorate-stamp.json")).unwrap();
    node.refuses(cluster.start(node)).is(ExitKind::StaleData);

    // In a home without a stamp it is a stranger's.
    fs::remove_file(node.home.dir().join("member.json")).unwrap();
    node.refuses(cluster.start(node)).is(ExitKind::Foreign).says(log.member.to_string());
    // And so is a directory of anything else.
    fs::remove_dir_all(&data).unwrap();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("thesis.tex"), "years of work").unwrap();
    node.refuses(cluster.start(node)).is(ExitKind::Foreign);
    assert!(data.join("thesis.tex").exists());
}

fn safety_10_a_data_dir_deleted_under_a_running_engine_is_reported_and_the_engine_goes_on(
    engine: Engine,
) {
    let cluster = Cluster::running(engine, 3);
    let [a, _, c] = [&cluster.nodes[0], &cluster.nodes[1], &cluster.nodes[2]];
    fs::remove_dir_all(c.home.data()).unwrap();
    eventually("the deleted data dir is noticed", || c.state().filter(|it| it.data_gone));
    assert!(!c.has_ended());
    c.ask(&["put", "k", "still a good voter"]);
    assert_eq!(a.ask(&["get", "k", "--print-value-only"]), "still a good voter\n");
    let (code, said) = quorate(&["inspect", &c.home.dir().display().to_string()]);
    assert!(code == 0 && said.contains("it is lost"), "{said}");
}

#[test]
fn the_engines_first_files_are_no_data_and_do_not_stand_in_a_new_members_way() {
    let cluster = Cluster::of(Engine::Upstream, 1);
    let node = &cluster.nodes[0];
    // An engine that is killed before it has made its log leaves a store behind.
    let store = node.home.data().join("member/snap");
    fs::create_dir_all(&store).unwrap();
    fs::write(store.join("db"), "half made").unwrap();
    // Without a stamp: not ours to judge.
    node.refuses(cluster.start(node)).is(ExitKind::Foreign);
    // Under the stamp of a founding that came to nothing: out of the way, but kept.
    fs::remove_dir_all(node.home.data()).unwrap();
    node.run(cluster.start(node).arg("--founding-id", "f1"));
    node.serves();
    node.stop();
    fs::remove_dir_all(wal::wal_dir(&node.home.data())).unwrap();
    assert_eq!(node.home.disk(), Disk::Empty);
    node.refuses(cluster.start(node).arg("--founding-id", "f1")).is(ExitKind::DataLost);
    node.run(cluster.start(node).arg("--founding-id", "f2"));
    node.serves();
    assert_eq!(node.home.asides().unwrap().len(), 1);
    let ls = bare("ls").arg(node.home.asides().unwrap()[0].path.join("data/member/snap")).output();
    assert!(String::from_utf8_lossy(&ls.unwrap().stdout).contains("db"));
}
