//! Disks that are full, or can only be read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::disks::{find, to_a_stopped_node};
use crate::support::cluster::{Cluster, HASTY, SOON};
use crate::support::small_disk::fill;
use crate::support::up::Up;
use crate::support::wait::{eventually, throughout};
use crate::support::wire::{self, Member};

#[test]
fn a_full_disk_is_never_repaired_by_wiping() {
    let mut cluster = Cluster::declared(3);
    cluster.spec.remediation = vec![HASTY.to_owned()];
    cluster.write_spec();
    // The engine reserves two log segments of 64 MiB; what is left is soon full.
    let place = cluster.home.node("etcd3");
    if !cluster.home.mount_small(place, 200) {
        return;
    }
    cluster.up();
    let before = cluster.healed();
    let writer = cluster.writer();
    writer.goes_on(10);
    let filler = gives_up_for_want_of_room(&cluster, "etcd3");
    let contents = |dir: &Path| {
        let mut logs = Vec::new();
        find(dir, "wal", &mut logs);
        logs.sort();
        logs
    };
    let data = cluster.data("etcd3");
    let logs = contents(&data);
    // Three times the remediation delay: it is not silent, it is known to have no room.
    throughout("the member's place and data", Duration::from_secs(10), || {
        let members = cluster.answered().members;
        if !members.iter().any(|member| member.id == before["etcd3"].id) {
            return Err(format!("it was removed: {members:#?}"));
        }
        if contents(&data) != logs || !cluster.home.asides("etcd3").is_empty() {
            return Err("its data was touched".to_owned());
        }
        Ok(())
    });
    is_told_to_have_ended(&cluster, "etcd3", "DiskFull");

    fs::remove_file(&filler).unwrap();
    assert_eq!(cluster.healed(), before, "with room again, the same member goes on");
    cluster.verify(writer).none_failed();
}

/// Fills a node's small disk, and lets the store grow until the engine there gives up; the others
/// take it. Returns the file that takes the room.
#[track_caller]
fn gives_up_for_want_of_room(cluster: &Cluster, node: &str) -> PathBuf {
    let filler = cluster.home.node(node).join("filler");
    let former = cluster.engine(node);
    fill(&filler);
    let others = others_than(cluster, &[node]);
    let others: Vec<_> = others.iter().map(|other| cluster.spec.client_url(other)).collect();
    let block = vec![b'x'; 256 * 1024];
    let mut count = 0;
    eventually("the engine on the full disk to give up", SOON, || {
        count += 1;
        wire::put(&others, &format!("block/{count}"), &block)?;
        if former.is_alive() { Err("it still runs".to_owned()) } else { Ok(()) }
    });
    filler
}

fn others_than(cluster: &Cluster, nodes: &[&str]) -> Vec<String> {
    let mut others = cluster.spec.names();
    others.retain(|name| !nodes.contains(&name.as_str()));
    others
}

/// Waits until status says how a node ended: between two tries it is neither running nor ended
/// for a moment.
#[track_caller]
fn is_told_to_have_ended(cluster: &Cluster, node: &str, kind: &str) {
    eventually(&format!("status to say that {node} ended with {kind}"), SOON, || {
        let (code, report) = cluster.try_status()?;
        let exit = report.row(node).exit.as_ref().map(|exit| exit.kind.clone());
        let told = code == Some(3) && exit.as_deref() == Some(kind);
        if told { Ok(()) } else { Err(format!("{report:#?}")) }
    });
}

/// Waits until these nodes follow a leader as the members that they were before.
#[track_caller]
fn are_well(cluster: &Cluster, nodes: &[String], before: &BTreeMap<String, Member>) {
    eventually(&format!("{nodes:?} to be well"), SOON, || {
        for node in nodes {
            let status = wire::status(&cluster.spec.client_url(node))?;
            if status.leader == 0 || status.member != before[node].id {
                return Err(format!("{node} says {status:?}"));
            }
        }
        Ok(())
    });
}

/// Lets the small disk at this place be read only (`ro`), or be written to again (`rw`).
#[track_caller]
fn remount(place: &Path, how: &str) {
    let option = format!("remount,{how}");
    // What a killed process had open for writing is closed only with the last of its threads.
    eventually("the small disk to be remounted", SOON, || {
        let output = Command::new("mount").args(["-o", &option]).arg(place).output();
        let output = output.map_err(|error| format!("mount: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    });
}

/// The node that has a small disk of its own.
const POOR: &str = "etcd5";

/// Five nodes that are up, one of them on a small disk; `None` if the test has to be skipped.
#[track_caller]
fn five_with_a_small_disk() -> Option<Cluster> {
    let mut cluster = Cluster::declared(5);
    let place = cluster.home.node(POOR);
    // An upstream engine reserves two log segments of 64 MiB.
    if !cluster.home.mount_small(place, 200) {
        return None;
    }
    cluster.up();
    cluster.healed();
    Some(cluster)
}

/// What else breaks while one node cannot start, for such an `end`, is repaired as far as that can
/// be: what was killed runs again, and what lost its data is removed. Nothing is added while a
/// voter is down (safety 16), so the successor joins once the node is back.
#[track_caller]
fn holds_up_no_repair(
    cluster: &Cluster,
    end: &str,
    breaks: impl FnOnce(),
    mend: impl FnOnce(&Path),
) {
    let before = cluster.members();
    let (writer, history) = (cluster.writer(), cluster.history());
    writer.goes_on(10);
    breaks();

    // The first that follows, of five: never the last one.
    cluster.kill_node(&cluster.follower());
    are_well(cluster, &others_than(cluster, &[POOR]), &before);

    let lost = cluster.follower();
    let old = before[&lost].id;
    to_a_stopped_node(cluster, &lost, |home| fs::remove_dir_all(home.join("data")).unwrap());
    eventually("the lost member to be removed", SOON, || {
        let list = cluster.list()?;
        let has_old = list.members.iter().any(|member| member.id == old);
        if has_old { Err(format!("{list:#?}")) } else { Ok(()) }
    });
    are_well(cluster, &others_than(cluster, &[POOR, &lost]), &before);
    is_told_to_have_ended(cluster, POOR, end);
    throughout("the place of the one that cannot start", Duration::from_secs(6), || {
        let members = cluster.answered().members;
        let is_listed = members.iter().any(|member| member.id == before[POOR].id);
        let serves = wire::status(&cluster.spec.client_url(POOR)).is_ok();
        let is_kept = cluster.home.asides(POOR).is_empty();
        if is_listed && is_kept && !serves { Ok(()) } else { Err(format!("{members:#?} {serves}")) }
    });

    mend(&cluster.home.node(POOR));
    let new = cluster.replaced(&lost, old);
    history.stop().replaced_in_the_safe_order(old, new);
    let mut after = cluster.members();
    after.insert(lost.clone(), before[&lost].clone());
    assert_eq!(after, before, "another member than {lost}'s was touched");
    cluster.verify(writer).none_failed();
}

#[test]
fn a_full_disk_of_one_holds_up_no_repair_of_another() {
    let Some(cluster) = five_with_a_small_disk() else { return };
    let rest = cluster.home.node(POOR).join("rest");
    let breaks = || {
        gives_up_for_want_of_room(&cluster, POOR);
        is_told_to_have_ended(&cluster, POOR, "DiskFull");
        // What its engine has given back on ending: it is not even to be launched.
        fill(&rest);
        // Its own words about its end are old from here on, and it was tried again in vain.
        cluster.told_in_order(&["start etcd5 as existing"]);
    };
    holds_up_no_repair(&cluster, "DiskFull", breaks, |home| {
        fs::remove_file(&rest).unwrap();
        fs::remove_file(home.join("filler")).unwrap();
    });
}

#[test]
fn a_disk_that_turned_read_only_holds_up_no_repair_of_another() {
    let Some(cluster) = five_with_a_small_disk() else { return };
    let breaks = || to_a_stopped_node(&cluster, POOR, |home| remount(home, "ro"));
    holds_up_no_repair(&cluster, "Unknown", breaks, |home| remount(home, "rw"));
}

#[test]
fn a_full_disk_under_the_whole_home_ends_no_supervision() {
    let mut cluster = Cluster::declared(1);
    let place = cluster.home.path();
    if !cluster.home.mount_small(place, 400) {
        return;
    }
    cluster.up();
    let before = cluster.healed();
    let writer = cluster.writer();
    writer.goes_on(10);
    let promised = cluster.verify(writer);
    let filler = cluster.home.path().join("filler");
    fill(&filler);
    // Whatever `up` has to write down now, it cannot.
    cluster.kill_node("etcd1");
    eventually("`up` to say what it lacks", SOON, || {
        let printed = cluster.printed();
        let told = printed.contains("failed: ") || printed.contains("full");
        if told { Ok(()) } else { Err(printed) }
    });
    throughout("the supervision", Duration::from_secs(5), || {
        let ended = cluster.with_up(Up::try_wait);
        ended.map_or(Ok(()), |status| Err(format!("`up` ended: {status}\n{}", cluster.printed())))
    });
    fs::remove_file(&filler).unwrap();
    assert_eq!(cluster.healed(), before);
    cluster.verify_all(&promised);
}
