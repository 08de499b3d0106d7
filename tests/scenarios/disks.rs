//! Disks that lose, damage or mix up what they held, have no room for more, or take no writes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::cluster::{Cluster, HASTY, SOON};
use crate::support::process::Process;
use crate::support::small_disk::fill;
use crate::support::up::Up;
use crate::support::wait::{eventually, throughout};
use crate::support::wire::{self, Member};

/// Stops a node while the reconciler does not look, does something to its disk, and lets go.
fn to_a_stopped_node(cluster: &Cluster, node: &str, act: impl FnOnce(&Path)) {
    cluster.while_up_is_frozen(|| {
        cluster.kill_node(node);
        act(&cluster.home.node(node));
    });
}

/// The whole story of a member that cannot be saved: it gets a successor, in the safe order, and
/// not a write is lost.
#[track_caller]
fn is_replaced(node: impl Fn(&Cluster) -> String, breaks: impl FnOnce(&Cluster, &str)) -> Replaced {
    let cluster = Cluster::ready(3);
    let (writer, history) = (cluster.writer(), cluster.history());
    let node = node(&cluster);
    let before = cluster.members();
    let old = before[&node].id;
    writer.goes_on(40);
    let leads = cluster.leader() == node;
    breaks(&cluster, &node);
    let new = cluster.replaced(&node, old);
    history.stop().replaced_in_the_safe_order(old, new);
    if leads {
        cluster.told_in_order(&[
            &format!("move the leadership from {old:x}"),
            &format!("remove {old:x} of {node}"),
        ]);
    }
    cluster.told_in_order(&[
        &format!("remove {old:x} of {node}"),
        &format!("add learner for {node}"),
        &format!("start {node}"),
        &format!("promote {new:x}"),
        "ready",
    ]);
    let mut after = cluster.members();
    after.insert(node.clone(), before[&node].clone());
    assert_eq!(after, before, "another member than {node}'s was touched");
    cluster.verify(writer).none_failed();
    Replaced { cluster, node, old, new }
}

struct Replaced {
    cluster: Cluster,
    node: String,
    old: u64,
    new: u64,
}

impl Replaced {
    /// The data of the former member, where it was set aside.
    fn aside(&self) -> Option<PathBuf> {
        let former = format!("{:x}", self.old);
        let asides = self.cluster.home.asides(&self.node);
        asides.into_iter().find(|dir| dir.to_string_lossy().contains(&former))
    }
}

#[test]
fn a_running_member_whose_data_dir_is_deleted_is_replaced() {
    is_replaced(Cluster::follower, |cluster, node| {
        fs::remove_dir_all(cluster.data(node)).unwrap();
    });
}

#[test]
fn the_leader_whose_data_dir_is_deleted_while_it_runs_is_replaced() {
    is_replaced(Cluster::leader, |cluster, node| {
        fs::remove_dir_all(cluster.data(node)).unwrap();
    });
}

#[test]
fn a_stopped_member_whose_data_dir_is_deleted_is_replaced() {
    is_replaced(Cluster::follower, |cluster, node| {
        to_a_stopped_node(cluster, node, |home| fs::remove_dir_all(home.join("data")).unwrap());
    });
}

#[test]
fn a_node_whose_whole_home_is_deleted_is_replaced() {
    is_replaced(Cluster::follower, |cluster, node| {
        to_a_stopped_node(cluster, node, |home| fs::remove_dir_all(home).unwrap());
    });
}

/// Damages the log of a stopped member in its middle; `which` bytes of the middle frame are given.
#[track_caller]
fn log_is_damaged(which: impl Fn(&mut [u8])) {
    let story = is_replaced(Cluster::follower, |cluster, node| {
        // What others have acknowledged, this one may yet have to write.
        eventually("the log to have a middle", SOON, || {
            let log = first_log(&cluster.data(node));
            let count = frames(&log, &fs::read(&log).unwrap()).len();
            if count > 40 { Ok(()) } else { Err(format!("{count} frames")) }
        });
        to_a_stopped_node(cluster, node, |home| {
            let log = first_log(&home.join("data"));
            let mut bytes = fs::read(&log).unwrap();
            let frames = frames(&log, &bytes);
            assert!(frames.len() > 40, "the log is to have a middle: {frames:?}");
            let (begin, end) = frames[frames.len() / 2];
            which(&mut bytes[begin..end]);
            fs::write(&log, bytes).unwrap();
        });
    });
    let aside = story.aside().expect("damaged data is set aside, not deleted");
    assert!(first_log(&aside).exists(), "the set-aside holds the log");
}

/// Where each frame of a log begins and ends: of an upstream etcd's eight bytes of length, the
/// record, padding; of ours a head of 40 bytes with the payload's length at the fourth, the
/// payload, padding.
fn frames(file: &Path, log: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    if file.extension().is_some_and(|it| it == "log") {
        let mut at = 80;
        while log.get(at..at + 2) == Some(b"qR") {
            let length = u32::from_le_bytes(log[at + 4..at + 8].try_into().unwrap());
            let end = at + 40 + usize::try_from(length).unwrap().next_multiple_of(8);
            found.push((at, end));
            at = end;
        }
        return found;
    }
    let mut at = 0;
    while let Some(head) = log.get(at..at + 8) {
        let head = u64::from_le_bytes(head.try_into().unwrap());
        let record = usize::try_from(head & 0x00ff_ffff_ffff_ffff).unwrap();
        if record == 0 {
            break;
        }
        let padding = if head >> 63 == 1 { usize::try_from((head >> 56) & 7).unwrap() } else { 0 };
        let end = at + 8 + record + padding;
        found.push((at, end));
        at = end;
    }
    found
}

#[test]
fn a_member_whose_record_is_damaged_in_the_middle_of_the_log_is_replaced_and_its_data_kept() {
    log_is_damaged(|frame| {
        for byte in &mut frame[12..20] {
            *byte ^= 0x5a;
        }
    });
}

#[test]
fn a_member_whose_frame_is_damaged_in_the_middle_of_the_log_is_replaced_and_its_data_kept() {
    // A length that leads beyond the end: an engine could take the rest for a torn tail, cut it
    // off, and with it what it has acknowledged. It is in the first eight bytes of either log.
    log_is_damaged(|frame| {
        frame[3] = 0x7f;
        frame[7] = 0x7f;
    });
}

/// The first file of a data dir's log.
fn first_log(data: &Path) -> PathBuf {
    let mut logs = Vec::new();
    for extension in ["wal", "log"] {
        find(data, extension, &mut logs);
    }
    logs.sort();
    logs.into_iter().next().unwrap_or_else(|| panic!("no log in {}", data.display()))
}

fn find(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            find(&path, extension, found);
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
}

#[test]
fn a_stale_data_dir_put_back_is_never_run_but_replaced() {
    let story = is_replaced(Cluster::follower, |cluster, node| {
        fs::remove_dir_all(cluster.data(node)).unwrap_or_default();
    });
    // That was only to have two incarnations; now the story proper, with real stale data.
    let (cluster, node) = (&story.cluster, story.node.as_str());
    let writer = cluster.writer();
    let second = story.new;
    cluster.quorate(&["replace", node, "-y"]).ok();
    let third = cluster.replaced(node, second);
    let former = format!("{second:x}");
    let aside = cluster.home.asides(node);
    let aside = aside.iter().find(|dir| dir.to_string_lossy().contains(&former));
    let aside = aside.expect("the replaced member's data was set aside").clone();
    let log = first_log(&aside);
    let held = log.strip_prefix(&aside).unwrap();
    let of_engine = |part: &OsStr| part == "member" || part == "log";
    let held_by = held.iter().take_while(|part| !of_engine(part)).collect::<PathBuf>();
    let history = cluster.history();
    to_a_stopped_node(cluster, node, |home| {
        fs::rename(home.join("data"), home.join("elsewhere")).unwrap();
        fs::rename(aside.join(held_by), home.join("data")).unwrap();
    });
    let fourth = cluster.replaced(node, third);
    assert_ne!(fourth, second, "a removed member came back to life");
    history.stop().replaced_in_the_safe_order(third, fourth);
    cluster.verify(writer).none_failed();
}

#[test]
fn with_remediation_off_a_lost_disk_waits_for_a_person_who_says_replace() {
    let mut cluster = Cluster::declared(3);
    cluster.spec.remediation = vec!["enabled: false".to_owned()];
    cluster.write_spec();
    cluster.up();
    let before = cluster.healed();
    let (writer, history) = (cluster.writer(), cluster.history());
    let node = cluster.follower();
    let old = before[&node].id;
    // Killed and emptied: neither its disk nor an exit tells whose place this was.
    to_a_stopped_node(&cluster, &node, |home| fs::remove_dir_all(home.join("data")).unwrap());
    eventually("status to say what a person can do", SOON, || {
        let (code, report) = cluster.try_status()?;
        let step = report.step.clone().unwrap_or_default();
        let told = step.contains("RemediationDisabled")
            && step.contains(&format!("quorate replace {node}"));
        if told && code == Some(3) { Ok(()) } else { Err(format!("{code:?} {report:#?}")) }
    });
    throughout("the member's place", Duration::from_secs(4), || {
        let listed = cluster.answered().members.iter().any(|member| member.id == old);
        if listed { Ok(()) } else { Err("it was removed unasked") }
    });
    cluster.quorate(&["replace", &node, "-y"]).ok();
    let new = cluster.replaced(&node, old);
    history.stop().replaced_in_the_safe_order(old, new);
    cluster.verify(writer).none_failed();
}

#[test]
fn the_replaced_members_data_can_be_restored_on_a_stopped_node() {
    let cluster = Cluster::ready(3);
    let writer = cluster.writer();
    writer.goes_on(20);
    let node = cluster.follower();
    let old = cluster.member_id(&node);
    cluster.quorate(&["replace", &node, "-y"]).ok();
    let new = cluster.replaced(&node, old);
    let promised = cluster.verify(writer);
    promised.none_failed();

    let list = cluster.quorate(&["aside", "list", &node]).ok();
    assert!(list.contains(&format!("{old:x}")), "{list}");
    let refused = cluster.quorate(&["aside", "restore", &node]);
    assert_ne!(refused.code, Some(0), "restored under a running node: {refused:#?}");
    assert_eq!(cluster.member_id(&node), new);

    cluster.interrupt_up(crate::support::process::Signal::INT);
    cluster.quorate(&["aside", "restore", &node]).ok();
    let inspected = cluster.quorate(&["inspect"]).ok();
    assert!(inspected.contains(&format!("{old:x}")), "{inspected}");

    // The former member is removed for good: its data is never served, only set aside again.
    cluster.up();
    let third = cluster.replaced(&node, new);
    assert_ne!(third, old);
    cluster.verify_all(&promised);
}

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

/// Runs an engine that nobody here knows on a data dir, until the data is there.
fn strangers_data(data: &Path, address: &str) {
    let mut stranger = stranger(data, address);
    eventually("the stranger's data", SOON, || {
        wire::put(&[format!("http://{address}:2379")], "stranger", b"was here")
    });
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

fn stranger(data: &Path, address: &str) -> std::process::Child {
    let (peer, client) = (format!("http://{address}:2380"), format!("http://{address}:2379"));
    Command::new("etcd")
        .args(["--name", "stranger", "--data-dir"])
        .arg(data)
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--initial-cluster", &format!("stranger={peer}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd is on the PATH")
}

/// Every file of a directory and what is in it.
fn everything_in(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(everything_in(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap_or_default());
        }
    }
    all
}

#[test]
fn data_of_a_stranger_is_never_touched() {
    let cluster = Cluster::declared(3);
    let data = cluster.data("etcd2");
    fs::create_dir_all(data.parent().unwrap()).unwrap();
    strangers_data(&data, &cluster.addresses.host(99));
    let before = everything_in(&data);
    assert!(!before.is_empty());

    cluster.start_up(&[]);
    eventually("status to name the foreign data", SOON, || {
        let (_, report) = cluster.try_status()?;
        let told = report.members.iter().any(|row| {
            row.node.as_deref() == Some("etcd2") && row.disk.as_deref() == Some("foreign")
        });
        if told { Ok(()) } else { Err(format!("{report:#?}")) }
    });
    throughout("the stranger's data", Duration::from_secs(4), || {
        if everything_in(&data) == before { Ok(()) } else { Err("it changed") }
    });
    // Once the person has taken it away, the cluster is founded.
    fs::rename(&data, cluster.home.dir().join("taken-away")).unwrap();
    cluster.with_up(|up| up.wait_ready(SOON));
    let writer = cluster.writer();
    writer.goes_on(10);
    cluster.verify(writer).none_failed();
}

#[test]
fn a_strangers_etcd_on_a_wanted_port_is_left_alone_and_named() {
    let cluster = Cluster::declared(3);
    let address = cluster.spec.address("etcd2").to_owned();
    let elsewhere = cluster.home.dir().join("elsewhere");
    let mut child = stranger(&elsewhere, &address);
    let pid = i32::try_from(child.id()).unwrap();
    let process = Process::of(pid).expect("the stranger runs");
    let endpoint = [cluster.spec.client_url("etcd2")];
    eventually("the stranger to serve", SOON, || wire::put(&endpoint, "stranger", b"was here"));

    cluster.start_up(&[]);
    eventually("status to tell of the port in use", SOON, || {
        let (_, report) = cluster.try_status()?;
        let row = report.members.iter().find(|row| row.node.as_deref() == Some("etcd2"));
        let end = row.and_then(|row| row.exit.as_ref()).map(|exit| exit.kind.as_str());
        if end == Some("AddressInUse") { Ok(()) } else { Err(format!("{report:#?}")) }
    });
    eventually("who holds the port to be named", SOON, || {
        let printed = cluster.printed();
        if printed.contains(&format!("pid {pid} ")) { Ok(()) } else { Err(printed) }
    });
    throughout("the stranger's life", Duration::from_secs(4), || {
        if process.is_alive() { Ok(()) } else { Err("it was killed") }
    });
    eventually("it to serve on", SOON, || wire::put(&endpoint, "stranger", b"is still here"));

    child.kill().unwrap();
    child.wait().unwrap();
    cluster.with_up(|up| up.wait_ready(SOON));
    let writer = cluster.writer();
    writer.goes_on(10);
    cluster.verify(writer).none_failed();
}
