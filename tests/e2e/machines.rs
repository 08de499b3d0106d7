//! Machines that are lost, and machines that cannot be heard.

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::DeleteParams;
use quorate::execute::pods::status::MemberStatus;
use serde_json::json;
use tokio::time::Instant;

use super::bed::Bed;
use super::scenario::{Scenario, scenario};
use super::wait::{seconds, throughout, until};

/// A member that is not on the machine that stays, and the number of its machine.
async fn victim(it: &Scenario, stays: &str) -> (MemberStatus, String) {
    for member in it.status().await.members {
        let pod = it.pod(&member.name.0).await;
        let machine = pod.spec.and_then(|it| it.node_name).expect("it was scheduled");
        if machine != stays {
            return (member, machine.trim_start_matches("node-").to_owned());
        }
    }
    panic!("every member is on {stays}");
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
    for machine in ["1", "2", "3"] {
        it.bed.testbed(&["heal", machine]);
        it.bed.testbed(&["node", "start", machine]);
        is_ready(it, machine).await;
    }
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
        throughout("no replacement", seconds(10), async || {
            let now = it.member(&member.name.0).await;
            if now.id == member.id { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
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
        throughout("no replacement", seconds(30), async || {
            let now = it.member(&member.name.0).await;
            if now.id == member.id { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
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
        // Its pod ends when its machine is heard again; until then it is given its grace period.
        let (again, took) = until("another member", seconds(120), async || {
            let (status, now) = (it.status().await, it.member(&member.name.0).await);
            let is_there = status.phase.as_deref() == Some("Ready") && status.ready_replicas == 3;
            if is_there && now.id != member.id { Ok(now) } else { Err(format!("{now:?}")) }
        })
        .await;
        it.reached("silent for 10 s to three voters", begun, seconds(80));
        assert!(took >= seconds(10), "not before the delay is over");
        assert!(again.volume.is_some() && again.volume != member.volume, "elsewhere");
        it.writer().none_failed("a machine that fell silent").await;
        it.bed.testbed(&["heal", &machine]);
        is_ready(it, &machine).await;
        it.settles(3, seconds(120)).await;
        let kept = it.volumes().await.iter().any(|it| it.metadata.name.as_ref() == Some(&volume));
        assert!(kept, "what the lost member had is kept aside");
        it.writer().none_failed("a machine heard again").await;
    })
    .await;
}
