//! The story in short, for each change: made, broken in three ways, whole again.

use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use super::bed::SYSTEM;
use super::operator;
use super::scenario::scenario;
use super::wait::seconds;

#[tokio::test]
async fn a_cluster_is_made_and_heals_though_the_operator_is_killed() {
    scenario("smoke", async |it| {
        it.make(json!({"replicas": 3})).await;

        if it.bed.breaks_machines() {
            let member = it.member(&it.leader().await).await;
            let (machine, path) = it.files(member.volume.as_ref().expect("a volume")).await;
            let begun = Instant::now();
            it.watch.note(&format!("wipe {path} on {machine}"));
            it.bed.testbed(&["node", "exec", &machine, "rm", "-rf", &format!("{path}/data")]);
            it.replaced(&member).await;
            it.reached("data wiped to three voters", begun, seconds(20));
            it.writer().none_failed("data wiped").await;
        }

        let member = it.member(&it.follower().await).await;
        let pod = it.pod(&member.name.0).await;
        let begun = Instant::now();
        it.delete_volume(member.volume.as_ref().expect("a volume")).await;
        it.delete_pod(&pod).await;
        it.replaced(&member).await;
        it.reached("volume deleted to three voters", begun, seconds(30));
        it.writer().none_failed("a volume deleted").await;

        let member = it.member(&it.follower().await).await;
        let pod = it.pod(&member.name.0).await;
        let begun = Instant::now();
        it.delete_volume(member.volume.as_ref().expect("a volume")).await;
        it.delete_pod(&pod).await;
        let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        for pod in operator::pods(&it.bed).await {
            it.watch.note(&format!("kill the operator {}", pod.name_any()));
            let pods: Api<Pod> = Api::namespaced(it.bed.kube.clone(), SYSTEM);
            pods.delete(&pod.name_any(), &at_once).await.expect("the operator is killed");
        }
        it.replaced(&member).await;
        // Its successor waits until the Lease has run out.
        it.reached("the same with the operator killed", begun, seconds(45));
        it.writer().none_failed("a volume deleted, and the operator killed").await;
    })
    .await;
}
