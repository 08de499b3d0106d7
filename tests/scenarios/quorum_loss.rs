//! More is broken than a quorum can stand: nothing destructive happens, and what is known is
//! told.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use quorate::cluster::{Exit, ExitKind, MemberId, Timestamp, founding_cluster_id};
use quorate::node::home::NodeHome;

use crate::support::cluster::{Cluster, SOON};
use crate::support::process::Signal;
use crate::support::report::Report;
use crate::support::wait::{eventually, throughout};
use crate::support::wire::{Member, vouched_list};

/// What must not change while there is no quorum: which data dirs are there, and whose they are.
fn property(cluster: &Cluster) -> BTreeMap<String, (bool, Option<String>, Vec<PathBuf>)> {
    let of = |node: String| {
        let data = cluster.data(&node).join("member").is_dir();
        let stamp = fs::read_to_string(cluster.home.node(&node).join("member.json")).ok();
        let asides = cluster.home.asides(&node);
        (node, (data, stamp, asides))
    };
    cluster.spec.names().into_iter().map(of).collect()
}

/// Waits for the verdict that no quorum answers, and returns what else status says.
#[track_caller]
fn no_quorum(cluster: &Cluster) -> Report {
    eventually("status to say that the quorum is lost", SOON, || {
        let (code, report) = cluster.try_status()?;
        let told = code == Some(4) && report.verdict == "no-quorum";
        if told { Ok(report) } else { Err(format!("{code:?} {report:#?}")) }
    })
}

/// Waits until `up` says what is known and what would help.
#[track_caller]
fn says(cluster: &Cluster, words: &[&str]) {
    eventually("`up` to say what would help", SOON, || {
        let (_, report) = cluster.try_status()?;
        let said = report.operation.clone().unwrap_or_default();
        let all = words.iter().all(|word| said.contains(word));
        if all { Ok(()) } else { Err(format!("{words:?} in {report:#?}")) }
    });
}

#[test]
fn two_lost_disks_of_three_destroy_nothing_and_heal_when_the_data_comes_back() {
    let cluster = Cluster::hasty(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    writer.goes_on(20);
    let safe = cluster.home.dir().join("safe");
    fs::create_dir(&safe).unwrap();
    cluster.while_up_is_frozen(|| {
        for node in ["etcd2", "etcd3"] {
            cluster.kill_node(node);
            fs::rename(cluster.data(node), safe.join(node)).unwrap();
        }
    });
    let report = no_quorum(&cluster);
    assert_eq!(report.cluster_id, Some(founded_id(&before)), "what is known is told");
    for node in ["etcd2", "etcd3"] {
        let row = report.row(node);
        assert_eq!(row.disk.as_deref(), Some("empty"), "{row:#?}");
    }
    assert_eq!(report.row("etcd1").disk.as_deref(), Some("holds"), "{report:#?}");
    let told = format!("{} {}", report.sentence, report.step.clone().unwrap_or_default());
    assert!(told.contains("etcd2") && told.contains("etcd3"), "who would help? {told}");
    says(&cluster, &["RecoveryRequired", "bring a lost data dir back", "restore a snapshot"]);

    let owned = property(&cluster);
    let survivor = cluster.engine("etcd1");
    throughout("what the nodes own", Duration::from_secs(8), || {
        let now = property(&cluster);
        if now != owned {
            return Err(format!("{now:#?} instead of {owned:#?}"));
        }
        if survivor.is_alive() { Ok(()) } else { Err("the survivor was stopped".to_owned()) }
    });
    for node in ["etcd2", "etcd3"] {
        let data = cluster.data(node);
        // Whatever lies there by now is not data (checked above); the person makes room.
        let _ = fs::remove_dir_all(&data);
        fs::rename(safe.join(node), data).unwrap();
    }
    assert_eq!(cluster.healed(), before, "the same members, from the data that came back");
    writer.goes_on(10);
    cluster.verify(writer);
}

/// The ID of the cluster that these founded.
fn founded_id(members: &BTreeMap<String, Member>) -> String {
    let ids = members.values().map(|member| MemberId(member.id));
    founding_cluster_id(ids).to_string()
}

#[test]
fn two_members_broken_at_once_one_of_them_for_good_leave_a_whole_cluster() {
    let cluster = Cluster::ready(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    let history = cluster.history();
    writer.goes_on(20);
    cluster.while_up_is_frozen(|| {
        cluster.kill_node("etcd2");
        cluster.kill_node("etcd3");
        fs::remove_dir_all(cluster.data("etcd3")).unwrap();
    });
    let new = cluster.replaced("etcd3", before["etcd3"].id);
    history.stop().replaced_in_the_safe_order(before["etcd3"].id, new);
    let after = cluster.members();
    for node in ["etcd1", "etcd2"] {
        assert_eq!(after[node], before[node], "{node} could be saved");
    }
    writer.goes_on(10);
    cluster.verify(writer);
}

#[test]
fn two_members_frozen_past_the_delay_are_not_killed_and_thaw_as_they_were() {
    let cluster = Cluster::hasty(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    writer.goes_on(20);
    let engines = ["etcd2", "etcd3"].map(|node| cluster.engine(node));
    for engine in engines {
        engine.signal(Signal::STOP);
    }
    let report = no_quorum(&cluster);
    for node in ["etcd2", "etcd3"] {
        assert_eq!(report.row(node).health, "silent", "{report:#?}");
    }
    let owned = property(&cluster);
    throughout("the frozen members' lives", Duration::from_secs(8), || {
        if !engines.iter().all(|engine| engine.is_alive()) {
            return Err("a frozen member was killed although no quorum could spare it".to_owned());
        }
        let now = property(&cluster);
        if now == owned { Ok(()) } else { Err(format!("{now:#?}")) }
    });
    eventually("status to say who would help", SOON, || {
        let told = cluster.try_status()?.1.step.unwrap_or_default();
        if told.contains("etcd2") && told.contains("etcd3") { Ok(()) } else { Err(told) }
    });
    for engine in engines {
        engine.signal(Signal::CONT);
    }
    assert_eq!(cluster.healed(), before);
    writer.goes_on(10);
    cluster.verify(writer);
}

#[test]
fn a_survivor_restarted_without_a_quorum_is_left_in_peace() {
    let cluster = Cluster::hasty(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    writer.goes_on(20);
    let safe = cluster.home.dir().join("safe");
    fs::create_dir(&safe).unwrap();
    cluster.while_up_is_frozen(|| {
        for node in cluster.spec.names() {
            cluster.kill_node(&node);
        }
        for node in ["etcd2", "etcd3"] {
            fs::rename(cluster.data(node), safe.join(node)).unwrap();
        }
    });
    no_quorum(&cluster);
    // It cannot serve, for want of a quorum: that is no reason to take it for frozen.
    // Before it runs it prepares; one that takes too long for that, as on a slow machine, is ended
    // and started again.
    let survivor = eventually("the survivor to run again", SOON, || {
        let seen = cluster.running("etcd1");
        let state = fs::read(cluster.home.node("etcd1").join("state.json")).unwrap_or_default();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap_or_default();
        let is_its = state["wrapper"]["pid"].as_i64() == seen.wrapper.map(|it| i64::from(it.pid));
        let runs = is_its && state["phase"] == "running";
        seen.engine.filter(|_| runs).ok_or_else(|| format!("{seen:?} {state}"))
    });
    throughout("the survivor's life", Duration::from_secs(9), || {
        if survivor.is_alive() { Ok(()) } else { Err("it was killed for its silence") }
    });
    for node in ["etcd2", "etcd3"] {
        fs::rename(safe.join(node), cluster.data(node)).unwrap();
    }
    assert_eq!(cluster.healed(), before);
    writer.goes_on(10);
    cluster.verify(writer);
}

#[test]
fn all_disks_lost_is_told_and_never_founded_again() {
    let cluster = Cluster::hasty(3);
    let writer = cluster.writer();
    writer.goes_on(20);
    drop(writer);
    cluster.while_up_is_frozen(|| {
        for node in cluster.spec.names() {
            cluster.kill_node(&node);
            fs::remove_dir_all(cluster.data(&node)).unwrap();
        }
    });
    no_quorum(&cluster);
    says(&cluster, &["RecoveryRequired", "etcd1 has no data", "etcd2 has no data"]);
    throughout("the absence of a second cluster", Duration::from_secs(6), || {
        for node in cluster.spec.names() {
            if cluster.data(&node).join("member").exists() {
                return Err(format!("{node} has data again"));
            }
        }
        let answered = vouched_list(&cluster.endpoints()).is_ok();
        if answered { Err("a cluster answers".to_owned()) } else { Ok(()) }
    });
    assert_eq!(cluster.interrupt_up(Signal::INT), Some(0));
    // Nor by the next `up`.
    cluster.start_up(&[]);
    no_quorum(&cluster);
    throughout("the absence of a second cluster", Duration::from_secs(4), || {
        let data = cluster.spec.names().iter().any(|it| cluster.data(it).join("member").exists());
        if data { Err("founded again") } else { Ok(()) }
    });
}

/// Makes a node that was stopped one whose last start called its data damaged, two minutes ago.
fn calls_damaged(cluster: &Cluster, node: &str, member: u64) {
    let home = NodeHome::new(cluster.home.node(node));
    let mut state = home.read_state().unwrap().expect("it has run");
    let end = state.exit.take().expect("it has ended");
    // How another member ended would say nothing of this one's data.
    assert_eq!(end.member, Some(MemberId(member)), "{node} ended as another member: {end:?}");
    state.exit = Some(Exit {
        kind: ExitKind::DataDamaged,
        at: Timestamp(end.at.0 - 120_000),
        detail: "a bad binary says so".to_owned(),
        ..end
    });
    home.write_state(&state).unwrap();
}

#[test]
fn a_cluster_that_a_bad_binary_called_damaged_comes_back() {
    let cluster = Cluster::ready(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    writer.goes_on(20);
    let promised = cluster.verify(writer);
    promised.none_failed();
    assert_eq!(cluster.interrupt_up(Signal::INT), Some(0));
    for (node, member) in &before {
        calls_damaged(&cluster, node, member.id);
    }
    // With the former binary in its place again, the data is as good as it was.
    cluster.up();
    assert_eq!(cluster.healed(), before, "the same members, from the data they have");
    for node in before.keys() {
        assert!(cluster.home.asides(node).is_empty(), "data of {node} was set aside");
    }
    cluster.verify_all(&promised);
}

#[test]
fn a_cluster_of_one_is_rolled_but_never_replaced_or_founded_again() {
    let mut cluster = Cluster::hasty(1);
    let before = cluster.members();
    let writer = cluster.writer();
    writer.goes_on(10);
    let refused = cluster.quorate(&["replace", "etcd1", "-y"]);
    assert_ne!(refused.code, Some(0), "{refused:#?}");
    let engine = cluster.engine("etcd1");
    cluster.spec.options = vec!["snapshotCount: 5000".to_owned()];
    cluster.write_spec();
    eventually("the roll of the only voter", SOON, || {
        let now = cluster.home.processes("etcd1").engine;
        if now.is_some_and(|now| now != engine) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    assert_eq!(cluster.healed(), before);
    cluster.verify(writer);

    cluster.while_up_is_frozen(|| {
        cluster.kill_node("etcd1");
        fs::remove_dir_all(cluster.data("etcd1")).unwrap();
    });
    let report = no_quorum(&cluster);
    assert_eq!(report.row("etcd1").disk.as_deref(), Some("empty"), "{report:#?}");
    says(&cluster, &["RecoveryRequired", "restore a snapshot"]);
    throughout("the absence of a second cluster", Duration::from_secs(5), || {
        let data = cluster.data("etcd1").join("member").exists();
        if data { Err("founded again") } else { Ok(()) }
    });
}
