//! Containers that the kubelet restarts in a pod that stays, which keeps the configuration of its
//! first start.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;
use tokio::time::sleep;

use super::bed::Bed;
use super::operator;
use super::scenario::{Scenario, scenario};
use super::wait::{seconds, throughout, until};
use super::watch::is_ready;

/// Kills every member on the testbed's machines, whatever else is to be done there first.
fn kill_all(it: &Scenario, machines: &BTreeSet<String>, first: &str) {
    // In brackets, so that it does not find the shell that says it.
    let kill = format!("{first} pkill -KILL -f '[-]-node-home=/var/lib/quorate' || true");
    for machine in machines {
        it.bed.testbed(&["node", "exec", machine, "sh", "-c", &kill]);
    }
}

/// Kills a node's member again and again, until its kubelet waits before it starts it once more,
/// which it does for 10 s after the second time.
pub(crate) async fn kill_until_it_waits(it: &Scenario, node: &str) {
    let machine = it.pod(node).await.spec.and_then(|it| it.node_name).expect("it was scheduled");
    let machine = BTreeSet::from([machine.trim_start_matches("node-").to_owned()]);
    it.watch.note(&format!("kill the member on {node} until its kubelet waits"));
    until("the kubelet to wait", seconds(60), async || {
        kill_all(it, &machine, "");
        let pod = it.pod(node).await;
        if waits(&pod) { Ok(()) } else { Err(last_words(&pod)) }
    })
    .await;
}

/// Whether a kubelet waits before it starts a pod's container again.
pub(crate) fn waits(pod: &Pod) -> bool {
    let containers = pod.status.iter().flat_map(|it| it.container_statuses.iter().flatten());
    let mut waiting = containers.filter_map(|it| it.state.as_ref()?.waiting.as_ref());
    waiting.any(|it| it.reason.as_deref() == Some("CrashLoopBackOff"))
}

/// How often a pod's containers were started again.
fn restarts(pod: &Pod) -> i32 {
    let containers = pod.status.iter().flat_map(|it| it.container_statuses.iter().flatten());
    containers.map(|it| it.restart_count).sum()
}

fn uids(pods: &[Pod]) -> BTreeSet<Option<String>> {
    pods.iter().map(ResourceExt::uid).collect()
}

#[tokio::test]
async fn a_cluster_whose_containers_all_restart_while_it_is_founded_is_founded_once() {
    if !Bed::open().await.is_some_and(|bed| bed.breaks_machines()) {
        return;
    }
    for pause in [600, 1_000, 1_500] {
        scenario(&format!("restarts-{pause}"), async |it| {
            it.apply(json!({"replicas": 3})).await;
            let machines = ["1", "2", "3"].map(ToOwned::to_owned).into();
            for _ in 0..4 {
                sleep(Duration::from_millis(pause)).await;
                it.watch.note("kill every member");
                kill_all(it, &machines, "");
            }
            it.settles(3, seconds(120)).await;
            let again: i32 = it.pods().await.iter().map(restarts).sum();
            println!("  {again} restarts of containers in the pods that are there now");
            it.write().await;
            it.writer().goes_on(50).await;
        })
        .await;
    }
}

#[tokio::test]
async fn an_only_copy_whose_container_is_killed_comes_back_in_the_same_pod() {
    if !Bed::open().await.is_some_and(|bed| bed.breaks_machines()) {
        return;
    }
    scenario("only-copy", async |it| {
        it.make(json!({"replicas": 1, "storage": {"emptyDir": {}}})).await;
        let pods = uids(&it.pods().await);
        // For longer than the operator leaves a pod with a volume to its kubelet.
        kill_until_it_waits(it, &it.leader().await).await;
        it.settles(1, seconds(90)).await;
        assert_eq!(uids(&it.pods().await), pods, "in the same pod");
        it.writer().goes_on(50).await;
    })
    .await;
}

#[tokio::test]
async fn members_whose_containers_are_all_killed_come_back_in_their_pods() {
    if !Bed::open().await.is_some_and(|bed| bed.breaks_machines()) {
        return;
    }
    for (name, storage) in [("volumes", json!({})), ("directories", json!({"emptyDir": {}}))] {
        scenario(&format!("all-killed-{name}"), async |it| {
            it.make(json!({"replicas": 3, "storage": storage})).await;
            let before = it.pods().await;
            let machines = ["1", "2", "3"].map(ToOwned::to_owned).into();
            it.watch.note("kill every member");
            // Once: then no kubelet waits before it starts it again.
            kill_all(it, &machines, "");
            let so_far: i32 = before.iter().map(restarts).sum();
            until("each to be started again", seconds(60), async || {
                let again: i32 = it.pods().await.iter().map(restarts).sum();
                if again >= so_far + 3 { Ok(()) } else { Err(format!("{again} after {so_far}")) }
            })
            .await;
            it.settles(3, seconds(60)).await;
            assert_eq!(uids(&it.pods().await), uids(&before), "in the same pods");
            it.writer().goes_on(50).await;
        })
        .await;
    }
}

#[tokio::test]
async fn volumes_emptied_under_all_members_are_never_founded_anew() {
    if !Bed::open().await.is_some_and(|bed| bed.breaks_machines()) {
        return;
    }
    scenario("emptied", async |it| {
        it.make(json!({"replicas": 3})).await;
        it.is_lost();
        let before = it.status().await;
        let pods = uids(&it.pods().await);
        let (mut machines, mut empty) = (BTreeSet::new(), Vec::new());
        for member in &before.members {
            let (machine, path) = it.files(member.volume.as_ref().expect("a volume")).await;
            machines.insert(machine);
            // All of it: data, stamps and what was set aside.
            empty.push(format!("find {path} -mindepth 1 -delete 2>/dev/null;"));
        }
        // The operator would make their pods anew, and a pod made anew founds nothing.
        it.take_away_operator().await;
        it.watch.note("empty all volumes and kill every member");
        kill_all(it, &machines, &empty.concat());
        until("each to refuse to be founded again", seconds(60), async || {
            let words: Vec<_> = it.pods().await.iter().map(last_words).collect();
            let refused = words.iter().filter(|it| it.contains("DataLost")).count();
            if refused == 3 { Ok(()) } else { Err(format!("{words:?}")) }
        })
        .await;
        throughout("nothing to be founded", seconds(20), async || {
            let ready = it.pods().await.iter().filter(|pod| is_ready(pod)).count();
            if ready == 0 { Ok(()) } else { Err(format!("{ready} are ready")) }
        })
        .await;
        assert_eq!(uids(&it.pods().await), pods, "in the same pods");
        operator::run_once(&it.bed, operator::NEXT, &it.namespace, &[]).await;
        until("the status to say what is lost", seconds(60), async || {
            let status = it.status().await;
            match status.blocked {
                Some(why) if why.reason == "RecoveryRequired" => Ok(()),
                _ => Err(format!("{:?}, {:?}", status.phase, status.operation)),
            }
        })
        .await;
        let after = it.status().await;
        assert_eq!(after.founding.map(|it| it.id), before.founding.map(|it| it.id));
    })
    .await;
}

/// What a pod's member said when it last ended.
fn last_words(pod: &Pod) -> String {
    let containers = pod.status.iter().flat_map(|it| it.container_statuses.iter().flatten());
    let states = containers.flat_map(|it| [it.state.as_ref(), it.last_state.as_ref()]);
    let ended = states.flatten().filter_map(|it| it.terminated.as_ref()?.message.clone());
    ended.collect::<Vec<_>>().concat()
}
