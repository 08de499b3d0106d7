//! Machines that are lost, and machines that cannot be heard.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;

use futures_util::FutureExt;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use quorate::cluster::Role;
use quorate::execute::pods::status::MemberStatus;
use serde_json::json;
use tokio::time::Instant;

use super::bed::Bed;
use super::restarts::{kill_until_it_waits, waits};
use super::scenario::{Scenario, scenario};
use super::wait::{seconds, throughout, until};

const MACHINES: [&str; 3] = ["1", "2", "3"];
/// A volume that the tests make, and what its machine is labelled with.
const LABELLED: &str = "quorate-e2e-labelled";

/// A member that is not on the machine that stays, and the number of its machine.
async fn victim(it: &Scenario, stays: &str) -> (MemberStatus, String) {
    first_elsewhere(it, it.status().await.members, stays).await
}

/// The first of these members that is not on the machine that stays, and the number of its own.
async fn first_elsewhere(
    it: &Scenario,
    members: impl IntoIterator<Item = MemberStatus>,
    stays: &str,
) -> (MemberStatus, String) {
    for member in members {
        let pod = it.pod(&member.name.0).await;
        let machine = pod.spec.and_then(|it| it.node_name).expect("it was scheduled");
        if machine != stays {
            return (member, machine.trim_start_matches("node-").to_owned());
        }
    }
    panic!("each of them is on {stays}");
}

async fn is_ready(it: &Scenario, machine: &str) {
    let nodes: Api<Node> = Api::all(it.bed.kube.clone());
    until("the machine to be ready", seconds(60), async || {
        let node = nodes.get_opt(&format!("node-{machine}")).await.ok().flatten();
        let conditions =
            node.and_then(|it| it.status).and_then(|it| it.conditions).unwrap_or_default();
        match conditions.iter().find(|it| it.type_ == "Ready") {
            Some(ready) if ready.status == "True" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

async fn breaks_machines() -> bool {
    Bed::open().await.is_some_and(|bed| bed.breaks_machines())
}

/// Three machines, whatever a scenario before this one has left: each is to hold one member.
async fn all_machines(it: &Scenario) {
    for machine in MACHINES {
        it.bed.testbed(&["heal", machine]);
        it.bed.testbed(&["node", "start", machine]);
        is_ready(it, machine).await;
    }
}

/// A node keeps its member for a while.
async fn keeps_its_member(it: &Scenario, member: &MemberStatus, lasting: Duration) {
    throughout("no replacement", lasting, async || {
        let now = it.member(&member.name.0).await;
        if now.id == member.id { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
}

/// Waits until a node has another member on another volume, and all three are ready; returns how
/// long it took. The pod of the old one ends when its machine is heard again, and is still there.
async fn replaced_elsewhere(it: &Scenario, old: &MemberStatus) -> Duration {
    let (again, took) = until("another member", seconds(120), async || {
        let (status, now) = (it.status().await, it.member(&old.name.0).await);
        let is_there = status.phase.as_deref() == Some("Ready") && status.ready_replicas == 3;
        if is_there && now.id != old.id { Ok(now) } else { Err(format!("{now:?}")) }
    })
    .await;
    assert!(again.volume.is_some() && again.volume != old.volume, "elsewhere");
    took
}

/// A machine that was cut off is heard again, and all three members are ready.
async fn is_heard_again(it: &Scenario, machine: &str) {
    it.watch.note(&format!("machine {machine} is heard again"));
    it.bed.testbed(&["heal", machine]);
    is_ready(it, machine).await;
    it.settles(3, seconds(120)).await;
}

/// Labels a machine with the name that local volumes find theirs by.
async fn label(bed: &Bed, machine: &str, name: &str) {
    let nodes: Api<Node> = Api::all(bed.kube.clone());
    let label = Patch::Merge(json!({"metadata": {"labels": {"kubernetes.io/hostname": name}}}));
    let how = PatchParams::default();
    nodes.patch(&format!("node-{machine}"), &how, &label).await.expect("it is labelled");
}

/// Makes a volume for the one machine that is labelled so. The testbed's own would name the Node,
/// so that no pod could use it there.
async fn labelled_volume(bed: &Bed, machine: &str) {
    let path = format!("/var/lib/volumes/{LABELLED}");
    let empty = format!("rm -rf {path} && mkdir -p -m 777 {path}");
    bed.testbed(&["node", "exec", machine, "sh", "-c", &empty]);
    let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [LABELLED]});
    let volume = serde_json::from_value::<PersistentVolume>(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": LABELLED},
        "spec": {
            "storageClassName": "local",
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }));
    let volume = volume.expect("a volume");
    let volumes: Api<PersistentVolume> = Api::all(bed.kube.clone());
    // That of an earlier run may be about to go.
    until("the volume to be made", seconds(60), async || {
        let made = volumes.create(&PostParams::default(), &volume).await;
        made.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

/// Labels each machine with its own name again, and lets the volume go.
async fn unlabel(bed: &Bed) {
    for machine in MACHINES {
        label(bed, machine, &format!("node-{machine}")).await;
    }
    let volumes: Api<PersistentVolume> = Api::all(bed.kube.clone());
    // None is as good.
    let _ = volumes.delete(LABELLED, &DeleteParams::default()).await;
}

#[tokio::test]
async fn a_machine_that_is_lost_and_deleted_is_replaced_and_one_that_comes_back_is_used_again() {
    if !breaks_machines().await {
        return;
    }
    scenario("machine-lost", async |it| {
        all_machines(it).await;
        let stays = it.stays().await;
        it.make(json!({"replicas": 3})).await;
        let (member, machine) = victim(it, &stays).await;
        it.watch.note(&format!("machine {machine} of {} is lost", member.name));
        it.bed.testbed(&["node", "kill", &machine]);
        // A silent machine is no lost one: nothing may be replaced yet.
        keeps_its_member(it, &member, seconds(10)).await;
        let nodes: Api<Node> = Api::all(it.bed.kube.clone());
        let begun = Instant::now();
        it.watch.note("its Node is deleted");
        nodes.delete(&format!("node-{machine}"), &DeleteParams::default()).await.expect("deleted");
        it.replaced(&member).await;
        it.reached("machine deleted to three voters", begun, seconds(60));
        it.writer().none_failed("a machine lost").await;
        it.bed.testbed(&["node", "start", &machine]);
        is_ready(it, &machine).await;
        it.settles(3, seconds(60)).await;
        it.writer().none_failed("a machine that came back").await;
    })
    .await;
}

#[tokio::test]
async fn a_machine_that_cannot_be_heard_for_a_while_keeps_its_member() {
    if !breaks_machines().await {
        return;
    }
    scenario("partition", async |it| {
        all_machines(it).await;
        let stays = it.stays().await;
        // The delay is longer than the partition: nothing is to be replaced.
        it.make(json!({"replicas": 3, "remediation": {"unhealthySeconds": 600}})).await;
        let (member, machine) = victim(it, &stays).await;
        it.watch.note(&format!("machine {machine} of {} is cut off", member.name));
        it.bed.testbed(&["partition", &machine]);
        keeps_its_member(it, &member, seconds(30)).await;
        it.writer().none_failed("a machine cut off").await;
        let begun = Instant::now();
        it.bed.testbed(&["heal", &machine]);
        is_ready(it, &machine).await;
        it.settles(3, seconds(120)).await;
        it.reached("healed to three voters", begun, seconds(40));
        assert_eq!(it.member(&member.name.0).await.id, member.id, "the same member");
        it.writer().none_failed("a machine healed").await;
    })
    .await;
}

#[tokio::test]
async fn a_machine_that_is_silent_for_longer_than_the_delay_loses_its_member() {
    if !breaks_machines().await {
        return;
    }
    scenario("silent", async |it| {
        all_machines(it).await;
        let stays = it.stays().await;
        it.make(json!({"replicas": 3, "remediation": {"unhealthySeconds": 10}})).await;
        let (member, machine) = victim(it, &stays).await;
        let volume = member.volume.clone().expect("a volume");
        it.watch.note(&format!("machine {machine} of {} is cut off", member.name));
        it.bed.testbed(&["partition", &machine]);
        let begun = Instant::now();
        let took = replaced_elsewhere(it, &member).await;
        it.reached("silent for 10 s to three voters", begun, seconds(80));
        assert!(took >= seconds(10), "not before the delay is over");
        it.writer().none_failed("a machine that fell silent").await;
        is_heard_again(it, &machine).await;
        let kept = it.volumes().await.iter().any(|it| it.metadata.name.as_ref() == Some(&volume));
        assert!(kept, "what the lost member had is kept aside");
        it.writer().none_failed("a machine heard again").await;
    })
    .await;
}

#[tokio::test]
async fn a_member_that_ended_just_before_its_machine_fell_silent_is_replaced() {
    if !breaks_machines().await {
        return;
    }
    scenario("ended-silent", async |it| {
        all_machines(it).await;
        let stays = it.stays().await;
        it.make(json!({
            "replicas": 3,
            "remediation": {"unhealthySeconds": 10},
            "podTemplate": {"terminationGracePeriodSeconds": 5},
        }))
        .await;
        let (member, machine) = victim(it, &stays).await;
        // While its kubelet waits there is time to cut the machine off.
        kill_until_it_waits(it, &member.name.0).await;
        it.watch.note(&format!("machine {machine} of {} is cut off", member.name));
        it.bed.testbed(&["partition", &machine]);
        let begun = Instant::now();
        assert!(waits(&it.pod(&member.name.0).await), "the last that is heard of it is its end");
        replaced_elsewhere(it, &member).await;
        it.reached("ended and cut off to three voters", begun, seconds(60));
        it.writer().none_failed("a member that ended on a silent machine").await;
        is_heard_again(it, &machine).await;
        it.writer().none_failed("a machine heard again").await;
    })
    .await;
}

#[tokio::test]
async fn a_cluster_shrinks_although_a_machine_is_silent() {
    if !breaks_machines().await {
        return;
    }
    scenario("shrinks", async |it| {
        all_machines(it).await;
        let stays = it.stays().await;
        let template = json!({"terminationGracePeriodSeconds": 5});
        it.make(json!({"replicas": 3, "podTemplate": template})).await;
        // One after the other, so that the two share no machine: one of them is not on that which
        // stays.
        it.patch(json!({"replicas": 5})).await;
        it.settles(5, seconds(120)).await;
        let surplus = it.status().await.members.into_iter().skip(3).rev();
        let (silent, machine) = first_elsewhere(it, surplus, &stays).await;
        it.watch.note(&format!("machine {machine} of {} is cut off", silent.name));
        it.bed.testbed(&["partition", &machine]);
        let begun = it.patch(json!({"replicas": 3})).await;
        until("the first three to be the only voters", seconds(120), async || {
            let status = it.status().await;
            let voters = status.members.iter().filter(|m| m.role == Some(Role::Voter));
            let voters: Vec<_> = voters.map(|m| &*m.name.0).collect();
            if voters == ["c-0", "c-1", "c-2"] && status.voting_members == 3 {
                Ok(())
            } else {
                Err(format!("{voters:?}; {:?}", status.operation.as_ref().map(|it| &it.step)))
            }
        })
        .await;
        it.reached("to three voters beside a silent machine", begun, seconds(40));
        let pod = it.api::<Pod>().get(silent.pod.as_ref().expect("a pod")).await;
        let pod = pod.expect("it cannot end while its machine is not heard");
        assert!(pod.metadata.deletion_timestamp.is_some(), "it is to end");
        it.writer().none_failed("shrinking beside a silent machine").await;
        is_heard_again(it, &machine).await;
        it.writer().none_failed("a machine heard again").await;
    })
    .await;
}

#[tokio::test]
async fn a_machine_whose_hostname_label_is_not_its_name_keeps_its_member() {
    let Some(bed) = Bed::open().await.filter(Bed::breaks_machines) else { return };
    let result = AssertUnwindSafe(scenario("labelled", async |it| {
        all_machines(it).await;
        let stays = it.stays().await;
        unlabel(&it.bed).await;
        let machine = MACHINES.into_iter().find(|it| format!("node-{it}") != stays);
        let machine = machine.expect("one that does not stay");
        label(&it.bed, machine, LABELLED).await;
        labelled_volume(&it.bed, machine).await;
        it.make(json!({"replicas": 3})).await;
        let volumes: Api<PersistentVolume> = Api::all(it.bed.kube.clone());
        let spec = volumes.get(LABELLED).await.expect("the volume").spec;
        let claim = spec.and_then(|it| it.claim_ref?.name).expect("it is used");
        let mut members = it.status().await.members.into_iter();
        let member = members.find(|m| m.volume.as_ref() == Some(&claim)).expect("its member");
        it.pod_comes_back(&member.name.0).await;
        it.writer().none_failed("a pod deleted").await;
        it.watch.note(&format!("machine {machine} of {} is cut off", member.name));
        it.bed.testbed(&["partition", machine]);
        keeps_its_member(it, &member, seconds(10)).await;
        is_heard_again(it, machine).await;
        it.is_same(&member).await;
        it.writer().none_failed("a machine healed").await;
    }))
    .catch_unwind()
    .await;
    // The scenarios after this one find each machine by its name.
    unlabel(&bed).await;
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}
