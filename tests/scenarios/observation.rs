//! What cannot be seen, and what was seen too long ago: nothing is concluded from either.

use std::fs;
use std::time::Duration;

use quorate::cluster::{MemberId, NodeName, ReplaceRequest, Timestamp, Wanted, spec};
use quorate::execute::local::home::ClusterHome;
use quorate::execute::local::{Engine, Local};
use quorate::execute::{Executor, Outcome};
use quorate::plan::{RemoveReason, Step, StopReason, next_step};

use crate::support::cluster::{Cluster, HASTY, SOON};
use crate::support::process::Signal;
use crate::support::wait::{eventually, throughout};
use crate::support::wire::block_on;

#[test]
fn safety_5_a_member_list_that_auth_refuses_is_told_and_nothing_is_touched() {
    // The embedded engine has no authentication yet.
    let mut cluster = Cluster::declared(3).on_engine(&["--engine".to_owned(), "etcd".to_owned()]);
    cluster.spec.remediation = vec![HASTY.to_owned()];
    cluster.write_spec();
    cluster.up();
    cluster.healed();
    let before = cluster.members();
    let writer = cluster.writer();
    writer.goes_on(10);
    let promised = cluster.verify(writer);
    eventually("a user", SOON, || {
        let ran = cluster.etcdctl(3, &["user", "add", "root:secret"]);
        // On a busy machine it may be done although nobody said so in time.
        let is_there = ran.code == Some(0) || ran.text().contains("already exists");
        if is_there { Ok(()) } else { Err(ran.text()) }
    });
    cluster.etcdctl_says(3, &["user", "grant-role", "root", "root"]);
    cluster.etcdctl(3, &["auth", "enable"]).ok();
    let is_told = || {
        let (code, report) = cluster.try_status()?;
        let step = report.step.clone().unwrap_or_default();
        let said = step.contains("ReadRefused") && step.contains("auth");
        if said && code == Some(4) { Ok(()) } else { Err(format!("{code:?} {report:#?}")) }
    };
    eventually("status to say that reading is refused", SOON, is_told);
    let names = cluster.spec.names();
    let engines: Vec<_> = names.iter().map(|node| cluster.engine(node)).collect();
    throughout("the members, while nobody may look", Duration::from_secs(6), || {
        // Again: on a busy machine one look may come too late.
        eventually("status to say so all the time", SOON, is_told);
        let all_run = engines.iter().all(|engine| engine.is_alive());
        if all_run { Ok(()) } else { Err("a member was stopped") }
    });
    cluster.etcdctl_says(3, &["--user", "root:secret", "auth", "disable"]);
    assert_eq!(cluster.healed(), before);
    cluster.verify_all(&promised);
}

#[test]
fn a_running_members_lost_settings_cost_a_restart_and_no_member() {
    let cluster = Cluster::hasty(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    let history = cluster.history();
    let node = cluster.follower();
    let engine = cluster.engine(&node);
    let settings = cluster.home.node(&node).join("config.env");
    fs::remove_file(&settings).unwrap();
    eventually("settings to be there again", SOON, || {
        let restarted = cluster.home.processes(&node).engine.is_some_and(|now| now != engine);
        if restarted && settings.exists() { Ok(()) } else { Err("not yet") }
    });
    assert_eq!(cluster.healed(), before);

    // What is there and cannot be read is unknown: it is not even restarted.
    let engine = cluster.engine(&node);
    let good = fs::read(&settings).unwrap();
    fs::write(&settings, "ETCD_NAME='half\n").unwrap();
    throughout("the member with unreadable settings", Duration::from_secs(8), || {
        if !engine.is_alive() {
            return Err("its engine was stopped".to_owned());
        }
        let listed = cluster.answered().members.iter().any(|it| it.id == before[&node].id);
        if listed { Ok(()) } else { Err("it was removed".to_owned()) }
    });
    eventually("status to say what cannot be read", SOON, || {
        let step = cluster.try_status()?.1.step.unwrap_or_default();
        if step.contains("config.env") { Ok(()) } else { Err(step) }
    });
    fs::write(&settings, good).unwrap();
    assert_eq!(cluster.healed(), before);
    assert_eq!(history.stop().fewest_voters(), 3);
    cluster.verify(writer).none_failed();
}

#[test]
fn what_cannot_be_looked_at_keeps_no_member_running() {
    let cluster = Cluster::ready(3);
    let odd = cluster.home.node("odd");
    fs::create_dir_all(&odd).unwrap();
    std::os::unix::fs::symlink("lock", odd.join("lock")).unwrap(); // to itself
    fs::write(odd.join("config.env"), "").unwrap();
    let engines: Vec<_> = cluster.spec.names().iter().map(|it| cluster.engine(it)).collect();
    assert_eq!(cluster.interrupt_up(Signal::INT), Some(1));
    assert!(cluster.printed().contains("not stopped: odd: "), "{}", cluster.printed());
    assert!(engines.iter().all(|it| !it.is_alive()), "a member still runs");
}

#[test]
fn an_engine_that_nobody_wrote_down_is_found_by_its_lock() {
    let cluster = Cluster::ready(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    let node = cluster.follower();
    let seen = cluster.running(&node);
    if seen.engine == seen.wrapper {
        return; // An engine that is its own wrapper has written itself down.
    }
    // As if the wrapper had died between starting its engine and writing that down.
    cluster.kill_up();
    seen.wrapper.unwrap().kill_9();
    let path = cluster.home.node(&node).join("state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    state["engine"] = serde_json::Value::Null;
    state["phase"] = "preparing".into();
    fs::write(&path, state.to_string()).unwrap();
    assert!(seen.engine.unwrap().is_alive());
    cluster.start_up(&[]);
    eventually("a new wrapper", SOON, || {
        let now = cluster.home.processes(&node);
        let supervised = now.wrapper.is_some() && now.engine.is_some();
        if supervised { Ok(()) } else { Err(format!("{now:?}")) }
    });
    assert_eq!(cluster.healed(), before);
    cluster.verify(writer).none_failed();
}

#[test]
fn safety_6_a_step_planned_before_another_failure_is_refused() {
    let cluster = Cluster::ready(3);
    let writer = cluster.writer();
    writer.goes_on(10);
    cluster.kill_up();
    let wanted = wanted(&cluster);
    let home = ClusterHome::new(cluster.home.path());
    let mut local = Local::new(home.clone(), Engine::Embedded);
    let node = cluster.follower();
    let member = MemberId(cluster.member_id(&node));
    let request = ReplaceRequest { member: Some(member), at: Timestamp(0) };
    home.leave_request(&NodeName(node.clone()), &request).unwrap();
    local.remember(None).unwrap();
    let (seen, step) = eventually("the removal to be planned", SOON, || {
        let seen = block_on(local.observe(&wanted)).map_err(|e| e.to_string())?;
        let step = next_step(&wanted, &seen);
        let due = matches!(&step, Step::Remove { member: it, .. } if *it == member);
        if due { Ok((seen, step)) } else { Err(step.to_string()) }
    });

    // Meanwhile another one fails: now this very step would cost the quorum.
    let other = cluster.spec.names().into_iter().find(|it| *it != node && *it != cluster.leader());
    let other = other.unwrap_or_else(|| cluster.leader());
    let members = cluster.members();
    cluster.kill_node(&other);
    let name = NodeName(node.clone());
    let stop = |why| Step::Stop { node: name.clone(), member: Some(member), why };
    let stale = [
        step,
        stop(StopReason::Restart),
        stop(StopReason::Silent),
        Step::Remove { member, node: Some(name.clone()), why: RemoveReason::Unwanted },
        Step::Promote { member, node: name.clone() },
        Step::UpdatePeerUrls {
            member,
            node: name.clone(),
            peer_urls: vec!["http://127.0.0.1:1".to_owned()],
        },
        Step::ForgetNode { node: name.clone(), data_of: Some(member) },
        Step::Found { nodes: vec![name.clone()], founding: None },
    ];
    let engine = cluster.engine(&node);
    for step in stale {
        let outcome = block_on(local.execute(&wanted, &seen, &step)).unwrap();
        assert!(matches!(outcome, Outcome::NotNow(_)), "{step} was carried out");
        assert!(engine.is_alive(), "{step} stopped a voter that the quorum needs");
    }
    cluster.up();
    cluster.replaced(&node, member.0);
    let after = cluster.members();
    for (name, before) in members.iter().filter(|(name, _)| **name != node) {
        assert_eq!(&after[name], before, "{name} was touched");
    }
    cluster.verify(writer);
}

fn wanted(cluster: &Cluster) -> Wanted {
    let read = spec::read(&cluster.spec.yaml(), "cluster.yaml").unwrap();
    read.resolve(&std::collections::BTreeMap::default()).unwrap()
}

#[test]
fn a_second_ctrl_c_stops_members_that_hang() {
    let cluster = Cluster::ready(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    writer.goes_on(10);
    let promised = cluster.verify(writer);
    let frozen = cluster.engine("etcd1");
    frozen.signal(Signal::STOP);
    cluster.with_up(|up| {
        up.signal(Signal::INT);
        up.wait_for_line("stopping the members", SOON);
        std::thread::sleep(Duration::from_millis(200));
        assert!(up.try_wait().is_none(), "a member that hangs is waited for at first");
        up.signal(Signal::INT);
        // Less than the ten seconds that it would be given.
        assert_eq!(up.wait(Duration::from_secs(9)).code(), Some(0));
    });
    assert!(!frozen.is_alive());
    cluster.up();
    assert_eq!(cluster.healed(), before);
    cluster.verify_all(&promised);
}
