//! Members that somebody removes, adds or moves by hand.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::cluster::{Cluster, SOON};
use crate::support::up::{QUORATE, engine_arguments};
use crate::support::wait::{eventually, now, throughout};

/// The ID in the line `Member ID added to cluster …`.
fn added_id(text: &str) -> u64 {
    let mut words = text.split_whitespace();
    words.find(|word| *word == "Member").expect("etcdctl says whom it added");
    u64::from_str_radix(words.next().unwrap(), 16).expect("an ID is hexadecimal")
}

/// Removes a member as a person would, again and again until it is gone: on a busy machine it may
/// be done although nobody said so in time.
#[track_caller]
fn removed_by_hand(cluster: &Cluster, id: u64) {
    eventually("the removal by hand", SOON, || {
        let ran = cluster.etcdctl(3, &["member", "remove", &format!("{id:x}")]);
        let is_gone = || Ok::<_, String>(cluster.list()?.members.iter().all(|it| it.id != id));
        if ran.code == Some(0) || is_gone()? { Ok(()) } else { Err(ran.text()) }
    });
}

/// Adds a member at this URL as a person would, in the same way; its ID.
#[track_caller]
fn added_by_hand(cluster: &Cluster, name: &str, url: &str) -> u64 {
    eventually("the addition by hand", SOON, || {
        let ran = cluster.etcdctl(3, &["member", "add", name, "--peer-urls", url]);
        if ran.code == Some(0) {
            return Ok(added_id(&ran.stdout));
        }
        let members = cluster.list()?.members;
        let found = members.iter().find(|member| member.peer_urls == [url]);
        found.map(|member| member.id).ok_or_else(|| ran.text())
    })
}

#[test]
fn a_member_removed_by_hand_joins_again_under_a_new_id() {
    let cluster = Cluster::ready(3);
    let (writer, history) = (cluster.writer(), cluster.history());
    let node = cluster.follower();
    let old = cluster.member_id(&node);
    writer.goes_on(10);
    let id = format!("{old:x}");
    // API 3 counts how long members have been connected; the removal itself is what is tested.
    removed_by_hand(&cluster, old);
    let new = cluster.replaced(&node, old);
    history.stop().replaced_in_the_safe_order(old, new);
    let asides = cluster.home.asides(&node);
    assert!(
        asides.iter().any(|dir| dir.to_string_lossy().contains(&id)),
        "the removed member's data is kept: {asides:?}"
    );
    cluster.verify(writer).none_failed();
}

#[test]
fn the_leader_removed_by_hand_with_the_old_api_joins_again_under_a_new_id() {
    let cluster = Cluster::ready(3);
    let writer = cluster.writer();
    let node = cluster.leader();
    let old = cluster.member_id(&node);
    let id = format!("{old:x}");
    let removed = eventually("the removal by hand", SOON, || {
        let ran = cluster.etcdctl(2, &["member", "remove", &id]);
        if ran.code == Some(0) {
            return Ok(Some(ran.stdout));
        }
        // The leader may be gone before it could say so.
        let is_gone = cluster.list()?.members.iter().all(|member| member.id != old);
        if is_gone { Ok(None) } else { Err(ran.text()) }
    });
    if let Some(removed) = removed {
        assert_eq!(removed.trim(), format!("Removed member {id} from cluster"));
    }
    cluster.replaced(&node, old);
    cluster.verify(writer).none_failed();
}

#[test]
fn a_member_added_by_hand_that_never_starts_is_removed_after_a_minute() {
    let cluster = Cluster::ready(3);
    let before = cluster.members();
    let (writer, history) = (cluster.writer(), cluster.history());
    let url = format!("http://{}:2380", cluster.addresses.host(77));
    let begun = now();
    let added = added_by_hand(&cluster, "nobody", &url);
    throughout("its time to start", Duration::from_secs(45), || {
        let listed = cluster.answered().members.iter().any(|member| member.id == added);
        // A look may itself take long.
        let is_due = begun.elapsed() >= Duration::from_mins(1);
        if listed || is_due { Ok(()) } else { Err("it was removed too early") }
    });
    let after = cluster.healed();
    assert_eq!(after, before, "only the stranger may go");
    assert_eq!(history.stop().fewest_voters(), 3);
    cluster.verify(writer).none_failed();
}

#[test]
fn a_member_added_by_hand_at_a_wanted_nodes_url_is_adopted() {
    let cluster = Cluster::ready(3);
    let writer = cluster.writer();
    let node = cluster.follower();
    let old = cluster.member_id(&node);
    writer.goes_on(10);
    // Both by hand, before the reconciler looks again.
    let added = cluster.while_up_is_frozen(|| {
        removed_by_hand(&cluster, old);
        added_by_hand(&cluster, &node, &cluster.spec.peer_url(&node))
    });
    let new = cluster.replaced(&node, old);
    assert_eq!(new, added, "the member added by hand is the one to start, not another one");
    cluster.verify(writer).none_failed();
}

/// An engine started by hand for a member added by hand.
struct ByHand(Child);

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stranger_that_joined_and_runs_is_named_but_never_removed() {
    let cluster = Cluster::ready(3);
    let before = cluster.members();
    let writer = cluster.writer();
    let address = cluster.addresses.host(88);
    let (peer, client) = (format!("http://{address}:2380"), format!("http://{address}:2379"));
    let added = added_by_hand(&cluster, "stranger", &peer);
    let nodes = cluster.spec.names();
    let mut initial: Vec<_> =
        nodes.iter().map(|node| format!("{node}={}", cluster.spec.peer_url(node))).collect();
    initial.push(format!("stranger={peer}"));
    // The same engine as the others have.
    let engine = engine_arguments().pop().filter(|it| *it != "embedded");
    let mut command = Command::new(engine.as_deref().unwrap_or(QUORATE));
    if engine.is_none() {
        command.arg("node");
    }
    let child = command
        .args(["--name", "stranger", "--data-dir"])
        .arg(cluster.home.dir().join("stranger"))
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--initial-cluster", &initial.join(","), "--initial-cluster-state", "existing"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _stranger = ByHand(child.expect("the engine can be run"));
    let listed = || {
        let members = cluster.answered().members;
        members.iter().any(|member| member.id == added && !member.name.is_empty())
    };
    eventually("the stranger to have joined", SOON, || listed().then_some(()).ok_or("not yet"));
    let hex = format!("{added:x}");
    eventually("status to name the stranger", SOON, || {
        let (code, report) = cluster.try_status()?;
        let named = report.step.as_deref().is_some_and(|step| step.contains(&hex));
        if named && code == Some(3) { Ok(()) } else { Err(format!("{code:?} {report:#?}")) }
    });
    throughout("the stranger's membership", Duration::from_secs(8), || {
        if listed() { Ok(()) } else { Err("it was removed") }
    });
    removed_by_hand(&cluster, added);
    assert_eq!(cluster.healed(), before);
    cluster.verify(writer).none_failed();
}

#[test]
fn a_peer_url_changed_by_hand_is_put_right() {
    let cluster = Cluster::ready(3);
    let before = cluster.members();
    let writer = cluster.writer();
    let node = cluster.follower();
    let id = before[&node].hex();
    let url = format!("http://{}:2380", cluster.addresses.host(66));
    let updated = cluster.etcdctl_says(2, &["member", "update", &id, &url]);
    assert_eq!(updated.trim(), format!("Updated member with ID {id} in cluster"));
    assert_eq!(cluster.healed(), before);
    cluster.verify(writer).none_failed();
}

/// A healthy member is replaced under load, and no client notices.
#[track_caller]
fn replaced_under_load(choose: impl Fn(&Cluster) -> String) {
    let cluster = Cluster::ready(3);
    let history = cluster.history();
    let node = choose(&cluster);
    let old = cluster.member_id(&node);
    let writer = crate::support::writer::Writer::start(&cluster.endpoints(), 200);
    writer.goes_on(200);
    // Without -y it asks before it touches a healthy member, and there is nobody to answer.
    let asked = cluster.quorate(&["replace", &node]);
    assert_ne!(asked.code, Some(0), "{asked:#?}");
    cluster.quorate(&["replace", &node, "-y"]).ok();
    let new = cluster.replaced(&node, old);
    writer.goes_on(200);
    let written = cluster.verify(writer);
    eprintln!("{} writes, the slowest took {:?}", written.acked.len(), written.slowest());
    // The goal of 2 s is the benchmark's; here, others may keep the machine busy.
    written.none_failed().none_slower_than(Duration::from_secs(10));
    history.stop().replaced_in_the_safe_order(old, new);
    let former = format!("{old:x}");
    let asides = cluster.home.asides(&node);
    assert!(asides.iter().any(|dir| dir.to_string_lossy().contains(&former)), "{asides:?}");
}

#[test]
fn a_healthy_follower_is_replaced_on_request_without_a_failed_or_slow_write() {
    replaced_under_load(Cluster::follower);
}

#[test]
fn the_healthy_leader_is_replaced_on_request_without_a_failed_or_slow_write() {
    replaced_under_load(Cluster::leader);
}
