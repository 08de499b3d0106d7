//! Disks that lose, damage or mix up what they held.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::cluster::{Cluster, SOON};
use crate::support::process::Process;
use crate::support::wait::{eventually, throughout};
use crate::support::wire;

/// Stops a node while the reconciler does not look, does something to its disk, and lets go.
pub(crate) fn to_a_stopped_node(cluster: &Cluster, node: &str, act: impl FnOnce(&Path)) {
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

pub(crate) fn find(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
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
