//! More and fewer members, no more volumes than they have, and a cluster that is deleted and made
//! again.

use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
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

#[tokio::test]
async fn a_quota_that_is_used_up_keeps_no_pod_from_coming_back() {
    scenario("quota", async |it| {
        it.make(json!({"replicas": 3})).await;
        let (name, claims) = ("used-up", "persistentvolumeclaims");
        let metadata = json!({"name": name, "namespace": it.namespace});
        let quota = json!({"metadata": metadata, "spec": {"hard": {claims: "3"}}});
        it.bed.apply(quota, "v1", "ResourceQuota").await;
        // It refuses nothing by what it has not counted yet.
        until("the quota to be used up", seconds(30), async || {
            let quota = it.api::<ResourceQuota>().get(name).await.expect("the quota");
            match quota.status.and_then(|it| it.used?.remove(claims)) {
                Some(Quantity(used)) if used == "3" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        it.watch.note("the quota is used up");
        it.pod_comes_back(&it.follower().await).await;
        it.writer().none_failed("a pod deleted beside a quota").await;
    })
    .await;
}
