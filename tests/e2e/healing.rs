//! Something of a member is lost, nobody does anything, and three voters are ready again.

use serde_json::json;
use tokio::time::Instant;

use super::bed::Bed;
use super::scenario::scenario;
use super::wait::{seconds, until};

#[tokio::test]
async fn clusters_of_one_three_five_and_seven_become_ready() {
    for size in [1, 3, 5, 7] {
        scenario(&format!("create-{size}"), async |it| {
            it.make(json!({"replicas": size})).await;
            it.writer().goes_on(100).await;
            it.writer().none_failed("a quiet while").await;
            let claims = it.volumes().await;
            assert_eq!(claims.len(), size, "one volume each");
        })
        .await;
    }
}

#[tokio::test]
async fn a_deleted_pod_comes_back_as_the_same_member() {
    scenario("pod", async |it| {
        it.make(json!({"replicas": 3})).await;
        for node in [it.follower().await, it.leader().await] {
            let begun = Instant::now();
            it.pod_comes_back(&node).await;
            it.reached("pod deleted to ready", begun, seconds(10));
            it.writer().none_failed("a pod deleted").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_wiped_data_dir_is_replaced_by_a_new_member_on_the_same_volume() {
    if !Bed::open().await.is_some_and(|bed| bed.breaks_machines()) {
        return;
    }
    scenario("wipe", async |it| {
        it.make(json!({"replicas": 3})).await;
        for node in [it.follower().await, it.leader().await] {
            let member = it.member(&node).await;
            let (machine, path) = it.files(&member.volume.clone().expect("a volume")).await;
            let begun = Instant::now();
            it.watch.note(&format!("wipe {path} on {machine}, of {node}"));
            it.bed.testbed(&["node", "exec", &machine, "rm", "-rf", &format!("{path}/data")]);
            it.replaced(&member).await;
            it.reached("data wiped to three voters", begun, seconds(20));
            it.first_act(begun, &["Replacing"]);
            assert_eq!(it.member(&node).await.volume, member.volume, "the volume lives on");
            it.writer().none_failed("data wiped").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_deleted_volume_is_replaced_by_a_new_member_on_another() {
    scenario("volume", async |it| {
        it.make(json!({"replicas": 3})).await;
        for node in [it.follower().await, it.leader().await] {
            let (pod, member) = (it.pod(&node).await, it.member(&node).await);
            let begun = Instant::now();
            it.delete_volume(member.volume.as_ref().expect("a volume")).await;
            it.delete_pod(&pod).await;
            it.replaced(&member).await;
            it.reached("volume deleted to three voters", begun, seconds(30));
            it.first_act(begun, &["Replacing"]);
            let again = it.member(&node).await;
            assert_ne!((again.pod, again.volume), (member.pod, member.volume));
            it.writer().none_failed("a volume deleted").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_member_removed_by_hand_is_joined_anew() {
    scenario("by-hand", async |it| {
        it.make(json!({"replicas": 3})).await;
        let node = it.follower().await;
        let member = it.member(&node).await;
        let begun = Instant::now();
        it.watch.note(&format!("remove the member on {node} by hand"));
        it.writer().remove(&member.id.expect("a member").to_string()).await;
        it.replaced(&member).await;
        it.reached("member removed by hand to three voters", begun, seconds(30));
        it.writer().none_failed("a member removed by hand").await;
    })
    .await;
}

#[tokio::test]
async fn all_pods_deleted_at_once_come_back_as_the_same_cluster() {
    scenario("all-pods", async |it| {
        it.make(json!({"replicas": 3})).await;
        let before = it.status().await;
        let begun = Instant::now();
        for pod in it.pods().await {
            it.delete_pod(&pod).await;
        }
        until("the pods to go", seconds(40), async || {
            let old = it
                .pods()
                .await
                .iter()
                .filter(|pod| pod.metadata.deletion_timestamp.is_some())
                .count();
            if old == 0 { Ok(()) } else { Err(format!("{old} are ending")) }
        })
        .await;
        it.settles(3, seconds(90)).await;
        it.reached("all pods deleted to ready", begun, seconds(20));
        let after = it.status().await;
        let ids = |status: &quorate::execute::pods::status::ClusterStatus| {
            status.members.iter().map(|m| m.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&after), ids(&before), "the same members");
    })
    .await;
}
