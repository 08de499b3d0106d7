//! The file changes while `up` runs.

use std::fs;
use std::time::Duration;

use crate::support::cluster::{Cluster, SOON};
use crate::support::spec::write_whole;
use crate::support::wait::{eventually, throughout};
use crate::support::writer::Writer;

#[test]
fn three_nodes_become_five_and_three_again_without_a_failed_write() {
    let mut cluster = Cluster::ready(3);
    let three = cluster.members();
    let (writer, history) = (cluster.writer(), cluster.history());
    for at in [4, 5] {
        cluster.spec.nodes.push((format!("etcd{at}"), cluster.addresses.host(at)));
    }
    cluster.write_spec();
    let five = cluster.healed();
    for (node, member) in &three {
        assert_eq!(&five[node], member, "a growing cluster keeps its members");
    }
    writer.use_endpoints(&cluster.endpoints());
    writer.goes_on(20);

    cluster.spec.nodes.truncate(3);
    cluster.write_spec();
    let after = cluster.healed();
    assert_eq!(after, three, "the nodes that the file no longer names are the ones to go");
    for node in ["etcd4", "etcd5"] {
        eventually("a retired node to end", SOON, || {
            let left = cluster.home.processes(node);
            if left.all().next().is_none() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }
    writer.use_endpoints(&cluster.endpoints());
    writer.goes_on(20);
    let seen = history.stop();
    seen.no_voter_was_added();
    assert!(seen.fewest_voters() >= 3, "{seen:?}");
    cluster.verify(writer).none_failed();
}

#[test]
fn the_leader_that_the_file_no_longer_names_hands_over_first() {
    let mut cluster = Cluster::ready(5);
    let writer = Writer::start(&cluster.endpoints(), 100);
    let leader = cluster.leader();
    cluster.spec.nodes.retain(|(name, _)| *name != leader);
    cluster.spec.nodes.pop();
    writer.use_endpoints(&cluster.endpoints());
    cluster.write_spec();
    cluster.healed();
    writer.goes_on(50);
    // The goal of 2 s is the benchmark's; here, others may keep the machine busy.
    let written = cluster.verify(writer);
    written.none_failed().none_slower_than(Duration::from_secs(10));
}

#[test]
fn a_changed_address_moves_the_member_and_keeps_its_id() {
    let mut cluster = Cluster::ready(3);
    let before = cluster.members();
    let (writer, history) = (cluster.writer(), cluster.history());
    let leader = cluster.leader();
    let at = cluster.spec.nodes.iter().position(|(name, _)| *name == leader).unwrap();
    let stay: Vec<_> =
        cluster.endpoints().into_iter().enumerate().filter(|(i, _)| *i != at).collect();
    cluster.spec.nodes[at].1 = cluster.addresses.host(99);
    cluster.write_spec();
    let after = cluster.healed();
    for (node, member) in &before {
        assert_eq!(after[node].id, member.id, "a move must not cost a member");
    }
    let unmoved =
        cluster.endpoints().iter().filter(|it| stay.iter().any(|(_, s)| s == *it)).count();
    assert_eq!(unmoved, 2);
    writer.use_endpoints(&cluster.endpoints());
    writer.goes_on(20);
    assert_eq!(history.stop().fewest_voters(), 3);
    cluster.verify(writer).none_failed();
}

#[test]
fn a_changed_option_is_rolled_out_one_by_one_and_to_the_leader_last() {
    let mut cluster = Cluster::declared(3);
    // A busy machine is not to make another one the leader meanwhile.
    let patient = "electionTimeoutMs: 3000".to_owned();
    cluster.spec.options = vec![patient.clone()];
    cluster.write_spec();
    cluster.up();
    let before = cluster.healed();
    let writer = Writer::start(&cluster.endpoints(), 100);
    writer.goes_on(50);
    let leader = cluster.leader();
    let names = cluster.spec.names();
    let former: Vec<_> = names.iter().map(|node| cluster.engine(node)).collect();
    cluster.spec.options = vec![patient, "snapshotCount: 20000".to_owned()];
    cluster.write_spec();
    eventually("every member to run with the new option", SOON, || {
        for (node, former) in names.iter().zip(&former) {
            let now = cluster.home.processes(node).engine;
            if now.is_none_or(|now| now == *former) {
                return Err(format!("{node} runs {now:?}"));
            }
        }
        Ok(())
    });
    assert_eq!(cluster.healed(), before);
    let started = |node: &String| cluster.engine(node).started;
    let last = names.iter().max_by_key(|node| started(node)).unwrap();
    assert_eq!(*last, leader, "the leader's turn is the last");
    for node in &names {
        let config = fs::read_to_string(cluster.home.node(node).join("config.env")).unwrap();
        assert!(config.contains("ETCD_SNAPSHOT_COUNT"), "{config}");
    }
    let written = cluster.verify(writer);
    eprintln!("{} writes, the slowest took {:?}", written.acked.len(), written.slowest());
    written.none_failed();
}

#[test]
fn an_invalid_or_vanished_file_leaves_the_last_good_one_in_force() {
    let mut cluster = Cluster::ready(3);
    let before = cluster.members();
    let writer = cluster.writer();
    let manifest = cluster.home.manifest();
    let half = cluster.spec.yaml();
    // In the midst of a node, whatever its address: an editor has written that far.
    let half = &half[..half.find("address: ").expect("nodes have addresses")];
    let is_told = |what: &str| {
        let name = manifest.file_name().unwrap().to_str().unwrap();
        eventually("status to tell that the file is not in force", SOON, || {
            let (_, report) = cluster.try_status()?;
            let problem = report.spec_problem.as_deref().unwrap_or_default();
            let said = problem.contains(name) && problem.contains(what);
            if said { Ok(()) } else { Err(format!("no word of {what}: {report:#?}")) }
        });
    };
    let texts = [
        ("", "empty"),
        (half, "YAML"),
        ("apiVersion: quorate.dev/v1alpha1\nkind: Else\n", "Else"),
        ("spec: [", "YAML"),
    ];
    for (text, what) in texts {
        write_whole(&manifest, text);
        is_told(what);
    }
    fs::remove_file(&manifest).unwrap();
    is_told("cannot be read");
    // The last good spec is looked after, not just remembered.
    let follower = cluster.follower();
    let engine = cluster.engine(&follower);
    cluster.kill_node(&follower);
    eventually("the killed member to run again", SOON, || {
        let now = cluster.home.processes(&follower).engine;
        if now.is_some_and(|now| now != engine) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    let list = eventually("the same members", SOON, || cluster.list());
    assert_eq!(list.members.len(), before.len());

    cluster.spec.options = vec!["snapshotCount: 20000".to_owned()];
    let former = cluster.engine("etcd1");
    cluster.write_spec();
    eventually("a file that is right again to be followed", SOON, || {
        let now = cluster.home.processes("etcd1").engine;
        if now.is_some_and(|now| now != former) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    assert_eq!(cluster.healed(), before);
    cluster.verify(writer).none_failed();
}

#[test]
fn the_file_changed_in_the_middle_of_a_replacement_gets_its_turn_afterwards() {
    let mut cluster = Cluster::ready(3);
    let before = cluster.members();
    let (writer, history) = (cluster.writer(), cluster.history());
    let node = cluster.follower();
    let old = before[&node].id;
    fs::remove_dir_all(cluster.data(&node)).unwrap();
    eventually("the replacement to be under way", SOON, || {
        let members = cluster.list()?.members;
        if members.iter().any(|member| member.id == old) {
            Err(format!("{members:?}"))
        } else {
            Ok(())
        }
    });
    // Two more nodes and another option, and then the very node under repair is dropped again.
    for at in [4, 5] {
        cluster.spec.nodes.push((format!("etcd{at}"), cluster.addresses.host(at)));
    }
    cluster.spec.options = vec!["snapshotCount: 20000".to_owned()];
    cluster.write_spec();
    cluster.healed();
    let new = cluster.member_id(&node);
    history.stop().no_voter_was_added();
    assert_ne!(new, old);
    for node in cluster.spec.names() {
        let config = fs::read_to_string(cluster.home.node(&node).join("config.env")).unwrap();
        assert!(config.contains("ETCD_SNAPSHOT_COUNT"), "{node} runs without the option: {config}");
    }
    writer.use_endpoints(&cluster.endpoints());
    writer.goes_on(20);
    cluster.verify(writer).none_failed();
}

#[test]
fn the_file_that_drops_the_node_under_repair_ends_the_repair() {
    let mut cluster = Cluster::ready(5);
    let writer = cluster.writer();
    let old = cluster.member_id("etcd5");
    fs::remove_dir_all(cluster.data("etcd5")).unwrap();
    eventually("the replacement to be under way", SOON, || {
        let members = cluster.list()?.members;
        if members.iter().any(|member| member.id == old) {
            Err(format!("{members:?}"))
        } else {
            Ok(())
        }
    });
    cluster.spec.nodes.truncate(3);
    cluster.write_spec();
    cluster.healed();
    writer.use_endpoints(&cluster.endpoints());
    writer.goes_on(20);
    for node in ["etcd4", "etcd5"] {
        eventually("a retired node to end", SOON, || {
            let left = cluster.home.processes(node);
            if left.all().next().is_none() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }
    cluster.verify(writer).none_failed();
}

#[test]
fn a_renamed_node_is_a_new_place_with_a_new_member() {
    let mut cluster = Cluster::ready(3);
    let before = cluster.members();
    let (writer, history) = (cluster.writer(), cluster.history());
    cluster.spec.nodes[2] = ("etcd9".to_owned(), cluster.addresses.host(9));
    cluster.write_spec();
    let after = cluster.healed();
    assert_ne!(after["etcd9"].id, before["etcd3"].id);
    let seen = history.stop();
    seen.no_voter_was_added();
    assert!(seen.fewest_voters() >= 3, "it joins before the other retires:\n{seen:?}");
    writer.use_endpoints(&cluster.endpoints());
    cluster.verify(writer).none_failed();
}

#[test]
fn an_address_that_another_live_member_has_is_refused_while_running() {
    let mut cluster = Cluster::ready(3);
    let before = cluster.members();
    let writer = cluster.writer();
    let spec = cluster.spec.clone();
    let engines: Vec<_> = spec.names().iter().map(|node| cluster.engine(node)).collect();
    let (first, second) = (spec.nodes[0].1.clone(), spec.nodes[1].1.clone());
    cluster.spec.nodes[0].1 = second;
    cluster.spec.nodes[1].1 = first;
    cluster.write_spec();
    throughout("the members, as a swap is refused", Duration::from_secs(5), || {
        let list = cluster.answered();
        let same = list.members.iter().all(|member| before.values().any(|it| it == member));
        if !same {
            return Err(format!("{list:#?}"));
        }
        let all_run = engines.iter().all(|engine| engine.is_alive());
        if all_run { Ok(()) } else { Err("a member was stopped for it".to_owned()) }
    });
    eventually("status to say that not all is as declared", SOON, || {
        let (code, report) = cluster.try_status()?;
        if code == Some(3) { Ok(()) } else { Err(format!("{code:?} {report:#?}")) }
    });
    cluster.spec = spec;
    cluster.write_spec();
    assert_eq!(cluster.healed(), before);
    cluster.verify(writer).none_failed();
}
