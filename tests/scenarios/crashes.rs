//! Processes that die.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::support::cluster::{Cluster, SOON};
use crate::support::process::{Process, Ran, Signal, kill_all_of};
use crate::support::up::QUORATE;
use crate::support::wait::{eventually, now};
use crate::support::wire::Member;

/// A crash is no loss: the same members run again, on the data they had.
#[track_caller]
fn same_members(cluster: &Cluster, before: &std::collections::BTreeMap<String, Member>) {
    assert_eq!(&cluster.healed(), before, "a crash must not cost a member");
    for node in before.keys() {
        assert!(cluster.home.asides(node).is_empty(), "data of {node} was set aside");
    }
}

/// Waits until a node runs in a process that was not there before.
#[track_caller]
fn runs_again(cluster: &Cluster, node: &str, former: Process) {
    eventually(&format!("{node} to run again"), SOON, || match cluster.home.processes(node) {
        seen if seen.wrapper.is_none() => Err("no wrapper".to_owned()),
        seen if seen.engine.is_none_or(|engine| engine == former) => Err(format!("{seen:?}")),
        _ => Ok(()),
    });
}

#[test]
fn a_follower_killed_is_started_again_and_no_write_fails() {
    let cluster = Cluster::ready(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    let follower = cluster.follower();
    let engine = cluster.engine(&follower);
    writer.goes_on(10);
    cluster.kill_node(&follower);
    runs_again(&cluster, &follower, engine);
    same_members(&cluster, &before);
    cluster.verify(writer).none_failed();
}

#[test]
fn the_leader_killed_is_started_again_and_no_write_fails() {
    let cluster = Cluster::ready(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    let leader = cluster.leader();
    let engine = cluster.engine(&leader);
    writer.goes_on(10);
    // The engine alone: its wrapper has to notice and to say so.
    engine.kill_9();
    runs_again(&cluster, &leader, engine);
    same_members(&cluster, &before);
    cluster.verify(writer).none_failed();
}

#[test]
fn all_members_killed_at_once_are_started_together_from_their_data() {
    let cluster = Cluster::ready(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    writer.goes_on(20);
    let names = cluster.spec.names();
    let running: Vec<_> = names.iter().map(|node| cluster.running(node)).collect();
    running.iter().flat_map(|seen| seen.all()).for_each(|process| process.signal(Signal::KILL));
    for (node, seen) in names.iter().zip(&running) {
        runs_again(&cluster, node, seen.engine.unwrap());
    }
    same_members(&cluster, &before);
    writer.goes_on(10);
    cluster.verify(writer);
}

#[test]
fn all_members_and_up_killed_at_once_come_back_with_the_next_up() {
    let cluster = Cluster::ready(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    writer.goes_on(20);
    let names = cluster.spec.names();
    let running: Vec<_> = names.iter().map(|node| cluster.running(node)).collect();
    let up = cluster.up_process();
    up.signal(Signal::KILL);
    running.iter().flat_map(|seen| seen.all()).for_each(|process| process.signal(Signal::KILL));
    cluster.kill_up();
    cluster.up();
    same_members(&cluster, &before);
    writer.goes_on(10);
    cluster.verify(writer);
}

#[test]
fn a_killed_wrapper_leaves_a_good_voter_that_gets_a_new_wrapper() {
    let cluster = Cluster::ready(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    let history = cluster.history();
    let leader = cluster.leader();
    let seen = cluster.running(&leader);
    if seen.engine == seen.wrapper {
        // An embedded engine dies with its process: that is the test of a killed leader.
        return;
    }
    seen.wrapper.unwrap().kill_9();
    assert!(seen.engine.unwrap().is_alive(), "the engine must outlive its wrapper");
    eventually("a new wrapper", SOON, || {
        let now = cluster.home.processes(&leader);
        let supervised = now.wrapper.is_some() && now.engine.is_some();
        if supervised { Ok(()) } else { Err(format!("{now:?}")) }
    });
    same_members(&cluster, &before);
    assert_eq!(history.stop().fewest_voters(), 3);
    cluster.verify(writer).none_failed();
}

#[test]
fn a_frozen_engine_is_replaced_after_the_delay_and_no_write_is_lost() {
    let cluster = Cluster::ready(3);
    let (writer, history) = (cluster.writer(), cluster.history());
    let leader = cluster.leader();
    let old = cluster.member_id(&leader);
    let engine = cluster.engine(&leader);
    engine.signal(Signal::STOP);
    let new = cluster.replaced(&leader, old);
    assert!(!engine.is_alive(), "the frozen engine must be gone before its place is taken");
    history.stop().replaced_in_the_safe_order(old, new);
    let asides = cluster.home.asides(&leader);
    let kept = asides.iter().any(|dir| dir.to_string_lossy().contains(&format!("{old:x}")));
    assert!(kept, "a silent member's data is kept: {asides:?}");
    cluster.verify(writer).none_failed();
}

#[test]
fn a_freeze_shorter_than_the_delay_costs_nothing() {
    let mut cluster = Cluster::declared(3);
    cluster.spec.remediation = vec!["unhealthySeconds: 90".to_owned()];
    cluster.write_spec();
    cluster.up();
    let before = cluster.healed();
    let writer = cluster.writer();
    let follower = cluster.follower();
    let engine = cluster.engine(&follower);
    engine.signal(Signal::STOP);
    eventually("status to say that it is silent", SOON, || {
        let (code, report) = cluster.try_status()?;
        let row = report.row(&follower);
        if row.health == "silent" && code == Some(3) { Ok(()) } else { Err(format!("{report:#?}")) }
    });
    engine.signal(Signal::CONT);
    same_members(&cluster, &before);
    assert!(engine.is_alive(), "the engine was restarted for a short silence");
    cluster.verify(writer).none_failed();
}

#[test]
fn a_frozen_wrapper_does_not_cost_its_good_voter() {
    let cluster = Cluster::ready(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    let history = cluster.history();
    let follower = cluster.follower();
    let seen = cluster.running(&follower);
    if seen.engine == seen.wrapper {
        return;
    }
    let wrapper = seen.wrapper.unwrap();
    wrapper.signal(Signal::STOP);
    // It is dealt with, by a restart under another wrapper: the member stays.
    eventually("another wrapper", SOON, || {
        let now = cluster.home.processes(&follower);
        let supervised = now.wrapper.is_some_and(|it| it != wrapper) && now.engine.is_some();
        if supervised { Ok(()) } else { Err(format!("{now:?}")) }
    });
    wrapper.signal(Signal::CONT);
    same_members(&cluster, &before);
    assert_eq!(history.stop().fewest_voters(), 3, "a frozen wrapper is no lost member");
    cluster.verify(writer).none_failed();
}

#[test]
fn a_start_that_reads_longer_than_the_delay_is_waited_for() {
    let mut cluster = Cluster::ready(3);
    let seen = cluster.running("etcd1");
    if seen.engine != seen.wrapper {
        return;
    }
    let before = cluster.members();
    let endpoints = cluster.endpoints().join(",");
    let fill = ["bench", "put", "--sequential", "--clients", "100", "--endpoints", &endpoints];
    let size = ["--total", "30000", "--key-space", "30000", "--value-size", "4096"];
    let filled = Ran::of(QUORATE, &[&fill[..], &size].concat());
    assert_eq!(filled.code, Some(0), "{filled:#?}");
    assert_eq!(cluster.interrupt_up(Signal::INT), Some(0));

    // Nothing is to be replaced for a silence that is as short.
    cluster.spec.remediation = vec!["unhealthySeconds: 2".to_owned(), "enabled: false".to_owned()];
    cluster.write_spec();
    cluster.start_up(&[]);
    let took = slowed_until_they_run(&cluster);
    println!("the longest start took {took:?}");
    assert!(took > Duration::from_secs(5), "a start that took {took:?} shows nothing");
    cluster.with_up(|up| up.wait_ready(SOON));
    same_members(&cluster, &before);
    let printed = cluster.printed();
    assert!(!printed.contains("by force"), "a start was ended: {printed}");
}

/// Gives the nodes a small part of the processor's time for as long as they prepare, and tells how
/// long the longest did.
fn slowed_until_they_run(cluster: &Cluster) -> Duration {
    let begun = now();
    let mut took = Duration::ZERO;
    while begun.elapsed() < SOON {
        let nodes = cluster.spec.names().into_iter().map(|it| cluster.home.node(&it));
        let states = nodes.filter_map(|it| fs::read(it.join("state.json")).ok());
        let states = states.filter_map(|it| serde_json::from_slice::<serde_json::Value>(&it).ok());
        let phases: Vec<_> =
            states.map(|it| (it["phase"].clone(), it["wrapper"].clone())).collect();
        if phases.len() == 3 && phases.iter().all(|it| it.0 == "running") {
            return took;
        }
        let prepare = phases.iter().filter(|it| it.0 == "preparing");
        let pids = prepare.filter_map(|it| i32::try_from(it.1["pid"].as_i64()?).ok());
        let slowed: Vec<_> = pids.filter_map(Process::of).collect();
        for it in &slowed {
            it.signal(Signal::STOP);
        }
        sleep(Duration::from_millis(96));
        for it in &slowed {
            it.signal(Signal::CONT);
        }
        sleep(Duration::from_millis(4));
        took = begun.elapsed();
    }
    panic!("the nodes do not run: {}", cluster.printed());
}

/// Founding is interrupted right after the first, then after the second node was started, and
/// right before and after the whole step.
#[track_caller]
fn founding_is_interrupted(at: &str) {
    let cluster = Cluster::declared(3);
    cluster.up_aborts_at(at);
    cluster.up();
    let members = cluster.healed();
    for (node, member) in &members {
        let url = cluster.spec.peer_url(node);
        let id = quorate::cluster::founding_member_id([&*url], &cluster.spec.name);
        assert_eq!(member.hex(), id.to_string(), "{node} is no founding member");
    }
    let writer = cluster.writer();
    writer.goes_on(20);
    cluster.verify(writer).none_failed();
}

#[test]
fn a_founding_interrupted_before_the_first_start_is_finished() {
    founding_is_interrupted("found:before");
}

#[test]
fn a_founding_interrupted_after_the_first_start_is_finished() {
    founding_is_interrupted("found:1");
}

#[test]
fn a_founding_interrupted_after_the_second_start_is_finished() {
    founding_is_interrupted("found:2");
}

#[test]
fn a_founding_interrupted_after_the_last_start_is_finished() {
    founding_is_interrupted("found:after");
}

#[test]
fn a_founding_whose_nodes_were_killed_and_emptied_founds_one_cluster() {
    let cluster = Cluster::declared(3);
    cluster.up_aborts_at("found:2");
    // No node can have founded anything: the third never answered at the barrier.
    kill_all_of(&cluster.home.path());
    for node in cluster.spec.names() {
        let log = cluster.data(&node).join("member");
        assert!(!log.exists(), "{node} began a cluster although not all of them were there");
    }
    let _ = std::fs::remove_dir_all(cluster.home.node("etcd1"));
    cluster.up();
    cluster.healed();
    let writer = cluster.writer();
    writer.goes_on(20);
    cluster.verify(writer).none_failed();
}

#[test]
fn founders_that_had_agreed_and_never_ran_still_take_part() {
    // All are killed in the moment in which the first has left the barrier, until that has been one
    // in which another had agreed and had no log yet: the first has no quorum without it.
    let mut caught = 0;
    for _ in 0..20 {
        let cluster = Cluster::declared(3);
        cluster.up_aborts_at("found:after");
        let homes: Vec<_> = cluster.spec.names().iter().map(|it| cluster.home.node(it)).collect();
        let begun = now();
        while !homes.iter().any(|it| has_log(it)) {
            assert!(begun.elapsed() < SOON, "nobody has left the barrier");
        }
        kill_all_of(&cluster.home.path());
        let waits = |home: &&PathBuf| home.join("promise.json").is_file() && !has_log(home);
        if !homes.iter().any(|it| waits(&it)) {
            continue;
        }
        caught += 1;
        cluster.up();
        cluster.healed();
        let writer = cluster.writer();
        writer.goes_on(20);
        cluster.verify(writer).none_failed();
        if caught == 2 {
            return;
        }
    }
    assert!(caught > 0, "no founder was ever killed between its word and its engine");
}

/// Whether an engine has begun a log in this home.
fn has_log(home: &Path) -> bool {
    ["data/member/wal", "data/log"].iter().any(|it| home.join(it).is_dir())
}

#[test]
fn a_disk_lost_at_any_moment_of_the_founding_leads_to_one_cluster() {
    // The hole that was seen: two of three found and acknowledge a write, one of them loses its
    // disk, and the emptied one and the third found a second cluster with the very same IDs.
    for pause in [0, 150, 400, 1000] {
        let cluster = Cluster::declared(3);
        cluster.up_aborts_at("found:after");
        std::thread::sleep(Duration::from_millis(pause));
        kill_all_of(&cluster.home.path());
        let _ = std::fs::remove_dir_all(cluster.data("etcd2"));
        let begun = |node: &&str| cluster.data(node).join("member/wal").is_dir();
        let kept = ["etcd1", "etcd3"].iter().filter(|node| begun(node)).count();
        let record = cluster.home.path().join("cluster.json");
        let before = std::fs::read_to_string(&record).unwrap();
        cluster.start_up(&[]);
        let mut blocked = None;
        let is_blocked = eventually("one cluster, or word of what is lost", SOON, || {
            let (_, report) = cluster.try_status()?;
            // What `up` says: it has waited long enough to know, which a fresh look has not. On a
            // slow machine it may have to take that back.
            let said = report.operation.as_deref().unwrap_or_default();
            blocked = said.starts_with("blocked").then(|| blocked.unwrap_or_else(now));
            let is_blocked = blocked.is_some_and(|it| it.elapsed() > Duration::from_secs(5));
            let rests = report.verdict == "healthy" || is_blocked;
            if rests { Ok(is_blocked) } else { Err(format!("{report:#?}")) }
        });
        if is_blocked {
            assert!(kept < 2, "a quorum of the logs is there, and yet it is blocked");
            // One had left the barrier and two have nothing: what they acknowledged is gone, and
            // a second founding would hide it.
            let now = std::fs::read_to_string(&record).unwrap();
            assert_eq!(now, before, "something was founded or replaced on a lost quorum");
            continue;
        }
        cluster.healed();
        let writer = cluster.writer();
        writer.goes_on(20);
        cluster.verify(writer).none_failed();
    }
}
