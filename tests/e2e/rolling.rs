//! A spec that changes while the cluster runs: one member at a time, and none when it is wrong.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;

use super::scenario::{Scenario, scenario};
use super::wait::{seconds, throughout, until};
use super::watch::is_ready;

fn image(pod: &Pod) -> String {
    let container = pod.spec.as_ref().and_then(|it| it.containers.first());
    container.and_then(|it| it.image.clone()).unwrap_or_default()
}

async fn uids(it: &Scenario) -> BTreeSet<Option<String>> {
    it.pods().await.iter().map(ResourceExt::uid).collect()
}

async fn ids(it: &Scenario) -> Vec<Option<quorate::cluster::MemberId>> {
    it.status().await.members.iter().map(|m| m.id).collect()
}

#[tokio::test]
async fn an_option_and_an_image_are_changed_one_member_at_a_time_without_a_failed_write() {
    scenario("rolling", async |it| {
        it.make(json!({"replicas": 3})).await;
        let members = ids(it).await;
        let (before, begun) =
            (uids(it).await, it.patch(json!({"options": {"snapshotCount": 7000}})).await);
        it.settles(3, seconds(120)).await;
        it.reached("an option changed", begun, seconds(40));
        assert!(before.is_disjoint(&uids(it).await), "every pod was made anew");
        it.writer().none_failed("an option changed").await;

        let begun = it.patch(json!({"image": it.bed.next})).await;
        it.settles(3, seconds(120)).await;
        it.reached("the image changed", begun, seconds(40));
        for pod in it.pods().await {
            assert_eq!(image(&pod), it.bed.next, "{}", pod.name_any());
        }
        it.writer().none_failed("the image changed").await;
        assert_eq!(ids(it).await, members, "the same members");
    })
    .await;
}

#[tokio::test]
async fn an_image_that_does_not_exist_stops_at_one_member_and_a_right_one_heals_it() {
    scenario("bad-image", async |it| {
        it.make(json!({"replicas": 3})).await;
        let bad = "quorate.invalid/absent:1";
        it.patch(json!({"image": bad})).await;
        until("one member with it", seconds(30), async || {
            match it.pods().await.iter().filter(|pod| image(pod) == bad).count() {
                1 => Ok(()),
                count => Err(format!("{count} pods")),
            }
        })
        .await;
        throughout("one bad member of three", seconds(20), async || {
            let pods = it.pods().await;
            let bad = pods.iter().filter(|pod| image(pod) == bad).count();
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            if bad <= 1 && ready >= 2 { Ok(()) } else { Err(format!("{bad} bad, {ready} ready")) }
        })
        .await;
        let status = it.status().await;
        let told = json!([status.operation, status.blocked, status.conditions]).to_string();
        println!("  the status says: {:?}; {:?}", status.operation.map(|o| o.step), status.blocked);
        assert!(told.contains("ImagePull") || told.contains(bad), "the status says why: {told}");
        it.writer().none_failed("an image that does not exist").await;
        let good = it.bed.image.clone();
        let begun = it.patch(json!({"image": good})).await;
        it.settles(3, seconds(90)).await;
        it.reached("a right image to three voters", begun, seconds(30));
        it.writer().none_failed("an image put right").await;
    })
    .await;
}

#[tokio::test]
async fn a_paused_cluster_is_left_as_it_is() {
    scenario("paused", async |it| {
        it.make(json!({"replicas": 3})).await;
        it.patch(json!({"paused": true})).await;
        until("the condition", seconds(10), async || match it.status().await.condition("Paused") {
            Some(condition) if condition.status == "True" => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        let before = uids(it).await;
        it.patch(json!({"replicas": 5, "options": {"snapshotCount": 7000}})).await;
        throughout("nothing to be done", seconds(8), async || {
            let now = uids(it).await;
            if now == before { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
        let pod = it.pod(&it.follower().await).await;
        it.delete_pod(&pod).await;
        throughout("no pod to be made", seconds(8), async || {
            let now = uids(it).await;
            if now.is_subset(&before) { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
        let begun = it.patch(json!({"paused": false})).await;
        it.settles(5, seconds(180)).await;
        it.reached("all that was held back", begun, seconds(60));
        it.writer().none_failed("a pause").await;
    })
    .await;
}
