//! What keeps a quorum, and what is not done once it is lost.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::EvictParams;
use serde_json::json;

use super::scenario::scenario;
use super::wait::{seconds, throughout, until};

#[tokio::test]
async fn a_drain_gets_one_member_and_is_refused_the_second() {
    scenario("drain", async |it| {
        it.make(json!({"replicas": 3})).await;
        let pods = it.pods().await;
        let evict = async |pod: &Pod| {
            it.watch.note(&format!("evict {}", pod.name_any()));
            it.api::<Pod>().evict(&pod.name_any(), &EvictParams::default()).await
        };
        it.watch.by_test(pods[0].uid());
        evict(&pods[0]).await.expect("the first may go");
        let refused = evict(&pods[1]).await.expect_err("the second may not");
        assert!(matches!(&refused, kube::Error::Api(it) if it.code == 429), "{refused}");
        until("the first to come back", seconds(60), async || {
            let uids: Vec<_> = it.pods().await.iter().map(ResourceExt::uid).collect();
            if uids.contains(&pods[0].uid()) {
                Err("still there".to_owned())
            } else {
                it.settled(3).await
            }
        })
        .await;
        it.writer().none_failed("a drain").await;
    })
    .await;
}

#[tokio::test]
async fn a_lost_quorum_is_left_to_a_person_who_is_told_what_to_do() {
    scenario("quorum-lost", async |it| {
        // The one that is left is waited for that long.
        it.make(json!({"replicas": 3, "remediation": {"unhealthySeconds": 10}})).await;
        it.is_lost();
        let members = it.status().await.members;
        let founding = it.status().await.founding.expect("it was founded");
        let left = members[2].clone();
        let pod = it.pod(&left.name.0).await;
        for member in &members[..2] {
            it.delete_volume(member.volume.as_ref().expect("a volume")).await;
        }
        for member in &members[..2] {
            let pod = it.pod(&member.name.0).await;
            it.delete_pod(&pod).await;
        }
        let (blocked, _) = until("the status to say so", seconds(60), async || {
            let status = it.status().await;
            let is_told =
                status.condition("RecoveryRequired").is_some_and(|it| it.status == "True");
            match status.blocked {
                Some(why) if is_told => Ok(why),
                _ => Err(format!("{:?}, {:?}", status.phase, status.operation)),
            }
        })
        .await;
        println!("  {}: {}; {}", blocked.reason, blocked.message, blocked.unblock);
        assert_eq!(blocked.reason, "RecoveryRequired");
        assert!(!blocked.unblock.is_empty(), "what to do next");
        let volumes = it.volumes().await;
        let volume =
            volumes.iter().find(|v| Some(v.name_any()) == left.volume).expect("the last copy");
        let kept = (pod.uid(), volume.uid());
        throughout("nothing to be destroyed", seconds(15), async || {
            let pods = it.pods().await;
            let volumes = it.volumes().await;
            let is_there =
                pods.iter().any(|p| p.uid() == kept.0 && p.metadata.deletion_timestamp.is_none())
                    && volumes
                        .iter()
                        .any(|v| v.uid() == kept.1 && v.metadata.deletion_timestamp.is_none());
            let status = it.status().await;
            let again = status.founding.map(|f| f.id);
            if is_there && again == Some(founding.id) {
                Ok(())
            } else {
                Err(format!("the last copy is there: {is_there}; founding {again:?}"))
            }
        })
        .await;
    })
    .await;
}
