//! More and fewer members, and a cluster that is deleted and made again.

use kube::ResourceExt;
use serde_json::json;

use super::scenario::scenario;
use super::wait::{seconds, until};

#[tokio::test]
async fn a_cluster_grows_from_one_to_five_and_shrinks_back_to_one() {
    scenario("scale", async |it| {
        it.make(json!({"replicas": 1})).await;
        for size in [3, 5, 3, 1] {
            let begun = it.patch(json!({"replicas": size})).await;
            it.settles(size, seconds(120)).await;
            it.reached(&format!("to {size} voters"), begun, seconds(30));
            it.writer().none_failed(&format!("scaling to {size}")).await;
            it.writer().verify(size as usize).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_deleted_cluster_keeps_its_volumes_and_is_adopted_or_loses_them_as_its_spec_says() {
    scenario("delete", async |it| {
        it.make(json!({"replicas": 3})).await;
        it.writer().goes_on(100).await;
        it.writer().none_failed("a quiet while").await;
        let before = it.status().await;
        let kept: Vec<_> = it.volumes().await.iter().map(ResourceExt::uid).collect();
        it.writer().pause().await;
        it.delete().await;
        let left: Vec<_> = it.volumes().await.iter().map(ResourceExt::uid).collect();
        assert_eq!(left, kept, "Retain keeps every volume");

        let begun = it.apply(json!({"replicas": 3})).await;
        it.settles(3, seconds(60)).await;
        it.reached("made again to ready", begun, seconds(15));
        let after = it.status().await;
        assert_eq!(after.cluster_id, before.cluster_id, "adopted, not founded anew");
        let founded = |status: &quorate::execute::pods::status::ClusterStatus| {
            status.founding.as_ref().map(|f| f.id)
        };
        assert_eq!(founded(&after), founded(&before), "the same founding");
        it.writer().resume().await;
        it.writer().verify(3).await;

        it.patch(json!({"deletionPolicy": "Delete"})).await;
        it.settles(3, seconds(30)).await;
        it.writer().pause().await;
        it.delete().await;
        until("the volumes to go", seconds(30), async || match it.volumes().await.len() {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        })
        .await;
    })
    .await;
}
