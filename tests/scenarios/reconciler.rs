//! The reconciler itself dies, at the worst moments; or there are two of it.

use std::time::Duration;

use crate::support::cluster::{Cluster, HASTY, SOON};
use crate::support::process::{Ran, Signal};
use crate::support::up::{QUORATE, engine_arguments};
use crate::support::wait::eventually;

#[test]
fn members_outlive_a_killed_up_and_the_next_one_adopts_them() {
    let cluster = Cluster::ready(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    let names = cluster.spec.names();
    let running: Vec<_> = names.iter().map(|node| cluster.running(node)).collect();
    cluster.kill_up();
    writer.goes_on(20);
    let (_, report) = cluster.status();
    assert!(report.up.is_none(), "nobody holds the home: {report:#?}");
    cluster.up();
    assert_eq!(cluster.healed(), before);
    let now: Vec<_> = names.iter().map(|node| cluster.running(node)).collect();
    assert_eq!(now, running, "adopted members go on in the processes they have");

    // Adopted members are looked after like own children.
    let follower = cluster.follower();
    let engine = cluster.engine(&follower);
    cluster.kill_node(&follower);
    eventually("the adopted and killed member to run again", SOON, || {
        let now = cluster.home.processes(&follower).engine;
        if now.is_some_and(|now| now != engine) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    assert_eq!(cluster.healed(), before);
    cluster.verify(writer).none_failed();
}

#[test]
fn a_second_up_on_the_same_home_is_refused_and_told_who_holds_it() {
    let cluster = Cluster::ready(3);
    let writer = cluster.writer();
    let names = cluster.spec.names();
    let running: Vec<_> = names.iter().map(|node| cluster.running(node)).collect();
    let (manifest, home) = (cluster.home.manifest(), cluster.home.path());
    let mut args = vec!["up", "-f", manifest.to_str().unwrap(), "--home", home.to_str().unwrap()];
    let engine = engine_arguments();
    args.extend(engine.iter().map(String::as_str));
    let second = Ran::of(QUORATE, &args);
    assert_eq!(second.code, Some(5), "{second:#?}");
    let holder = cluster.up_process().pid.to_string();
    assert!(second.stderr.contains(&holder), "{second:#?}");
    assert_eq!(second.stderr.lines().count(), 1, "{second:#?}");
    let now: Vec<_> = names.iter().map(|node| cluster.running(node)).collect();
    assert_eq!(now, running, "the refused `up` touched something");
    cluster.verify(writer).none_failed();
}

/// `up` dies before and after each of these steps of a replacement, and is started again.
///
/// The node is chosen and broken anew each time, so that the step is really due.
#[track_caller]
fn up_dies_around(
    steps: &[&str],
    choose: impl Fn(&Cluster) -> String,
    breaks: impl Fn(&Cluster, &str),
) {
    let mut cluster = Cluster::declared(3);
    // One node is replaced more often here than any limit for a day would allow.
    let often = "maxReplacementsPerDay: 1000";
    cluster.spec.remediation = [HASTY, often].map(str::to_owned).to_vec();
    cluster.write_spec();
    cluster.up();
    cluster.healed();
    let writer = cluster.writer();
    for step in steps {
        for when in ["before", "after"] {
            let abort = format!("{step}:{when}");
            eprintln!("--- `up` dies at {abort}");
            cluster.kill_up();
            cluster.start_up(&[("QUORATE_TEST_ABORT", &abort)]);
            // It has to be at work before the cause is there: the same order as in real life.
            eventually("the new `up` to hold the home", SOON, || {
                let (_, report) = cluster.try_status()?;
                if report.up.is_some() { Ok(()) } else { Err(format!("{report:#?}")) }
            });
            let node = choose(&cluster);
            let old = cluster.member_id(&node);
            breaks(&cluster, &node);
            cluster.up_has_aborted(&abort);
            cluster.up();
            let new = cluster.replaced(&node, old);
            assert_ne!(new, old);
        }
    }
    let written = cluster.verify(writer);
    written.none_failed();
}

#[test]
fn up_killed_around_every_step_of_a_requested_replacement_finishes_it() {
    let request = |cluster: &Cluster, node: &str| {
        cluster.quorate(&["replace", node, "-y", "--no-wait"]).ok();
    };
    let steps = ["move-leader", "remove", "add-learner", "start", "promote"];
    up_dies_around(&steps, Cluster::leader, request);
}

#[test]
fn up_killed_around_every_step_of_a_frozen_members_replacement_finishes_it() {
    let freeze = |cluster: &Cluster, node: &str| cluster.engine(node).signal(Signal::STOP);
    up_dies_around(&["stop", "remove", "add-learner"], Cluster::follower, freeze);
}

#[test]
fn up_killed_around_every_step_of_a_lost_disks_replacement_finishes_it() {
    let lose = |cluster: &Cluster, node: &str| {
        cluster.while_up_is_frozen(|| {
            cluster.kill_node(node);
            std::fs::remove_dir_all(cluster.data(node)).unwrap();
        });
    };
    up_dies_around(&["remove", "add-learner", "start", "promote"], Cluster::follower, lose);
}

#[test]
fn up_killed_while_it_moves_a_member_finishes_the_move() {
    for when in ["before", "after"] {
        let mut cluster = Cluster::ready(3);
        let before = cluster.members();
        let writer = cluster.writer();
        cluster.kill_up();
        cluster.start_up(&[("QUORATE_TEST_ABORT", &format!("update-peer-urls:{when}"))]);
        cluster.spec.nodes[1].1 = cluster.addresses.host(12);
        cluster.write_spec();
        cluster.up_has_aborted("update-peer-urls");
        cluster.up();
        let after = cluster.healed();
        let ids = |members: &std::collections::BTreeMap<String, _>| {
            members.values().map(|it: &crate::support::wire::Member| it.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&after), ids(&before), "a move must not cost a member");
        writer.use_endpoints(&cluster.endpoints());
        cluster.verify(writer).none_failed();
    }
}

#[test]
fn up_killed_while_it_forgets_a_node_finishes_that() {
    for when in ["before", "after"] {
        let mut cluster = Cluster::ready(3);
        let writer = cluster.writer();
        cluster.kill_up();
        cluster.start_up(&[("QUORATE_TEST_ABORT", &format!("forget-node:{when}"))]);
        cluster.spec.nodes.truncate(1);
        writer.use_endpoints(&cluster.endpoints());
        cluster.write_spec();
        cluster.up_has_aborted("forget-node");
        cluster.up();
        cluster.healed();
        for node in ["etcd2", "etcd3"] {
            eventually("a forgotten node to end", SOON, || {
                let left = cluster.home.processes(node);
                if left.all().next().is_none() { Ok(()) } else { Err(format!("{left:?}")) }
            });
        }
        cluster.verify(writer).none_failed();
    }
}

#[test]
fn up_killed_at_any_time_under_load_is_no_event() {
    let cluster = Cluster::ready(3);
    let (before, writer) = (cluster.members(), cluster.writer());
    let mut pause = Duration::from_millis(20);
    for _ in 0..5 {
        cluster.kill_up();
        cluster.start_up(&[]);
        std::thread::sleep(pause);
        pause *= 2;
    }
    cluster.kill_up();
    cluster.up();
    assert_eq!(cluster.healed(), before);
    cluster.verify(writer).none_failed();
}
