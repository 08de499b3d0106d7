//! The operator dies right after its n-th write to the API server, for every n: the next one goes
//! on from there.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use quorate::execute::pods::resource::ClusterObject;
use serde_json::json;

use super::operator;
use super::scenario::{Scenario, scenario};
use super::wait::{seconds, until};

/// No founding and no replacement takes this many writes.
const MANY: u32 = 60;

/// Lets an operator run that dies after its `n`-th write; false if the cluster was well before
/// that. Another one then takes over.
async fn dies_after(it: &Scenario, n: u32, cluster: &str, is_well: impl AsyncFn() -> bool) -> bool {
    let n = n.to_string();
    it.watch.note(&format!("an operator that dies after write {n} of {cluster}"));
    let abort = [("QUORATE_TEST_ABORT_WRITE", n.as_str())];
    operator::run_once(&it.bed, operator::DOOMED, &it.namespace, &abort).await;
    let (died, _) =
        until("the operator to die, or to get there", seconds(90), async || match operator::ended(
            &it.bed,
            operator::DOOMED,
        )
        .await
        {
            // By its own hand, or by a signal.
            Some(134 | 137) => Ok(true),
            Some(code) => panic!("it ended with {code}"),
            None if is_well().await => Ok(false),
            None => Err(format!("{:?}", it.settled_of(cluster, 3).await)),
        })
        .await;
    operator::remove(&it.bed, operator::DOOMED).await;
    it.watch.note("the next operator");
    operator::run_once(&it.bed, operator::NEXT, &it.namespace, &[]).await;
    died
}

#[tokio::test]
async fn a_founding_is_finished_whichever_write_the_operator_died_after() {
    scenario("killed-founding", async |it| {
        it.take_away_operator().await;
        for n in 1..MANY {
            let name = format!("k{n}");
            it.apply_as(&name, json!({"replicas": 3, "deletionPolicy": "Delete"})).await;
            let died =
                dies_after(it, n, &name, async || it.settled_of(&name, 3).await.is_ok()).await;
            let what = format!("the founding, broken off after write {n}");
            until(&what, seconds(60), async || it.settled_of(&name, 3).await).await;
            let status = it.object_of(&name).await.and_then(|it| it.status).expect("a status");
            let started = status.founding.expect("founded").started.len();
            assert_eq!(started, 3, "founded with all three");
            it.watch.is_ending(true);
            let clusters = it.api::<ClusterObject>();
            clusters.delete(&name, &DeleteParams::default()).await.expect("deleted");
            until("the cluster to go", seconds(60), async || match it.object_of(&name).await {
                None => Ok(()),
                Some(_) => Err("still there".to_owned()),
            })
            .await;
            // Its pods go after it, and by nobody's plan.
            let own = ListParams::default().labels(&format!("quorate.dev/cluster={name}"));
            until("its pods to go", seconds(60), async || {
                match it.api::<Pod>().list(&own).await.expect("pods").items.len() {
                    0 => Ok(()),
                    left => Err(format!("{left} are left")),
                }
            })
            .await;
            it.watch.is_ending(false);
            operator::remove(&it.bed, operator::NEXT).await;
            if !died {
                println!("  a founding takes {} writes; each was a death", n - 1);
                assert!(n > 5, "it dies at all");
                return;
            }
        }
        panic!("a founding takes more than {MANY} writes");
    })
    .await;
}

#[tokio::test]
async fn a_replacement_is_finished_whichever_write_the_operator_died_after() {
    scenario("killed-replacing", async |it| {
        // A few a day are taken for an accident, and then a person is asked.
        it.make(json!({"replicas": 3, "remediation": {"maxReplacementsPerDay": 100}})).await;
        it.take_away_operator().await;
        for n in 1..MANY {
            let member = it.member(&it.follower().await).await;
            let pod = it.pod(&member.name.0).await;
            it.delete_volume(member.volume.as_ref().expect("a volume")).await;
            it.delete_pod(&pod).await;
            let is_replaced = async || {
                it.member(&member.name.0).await.id != member.id && it.settled(3).await.is_ok()
            };
            let died = dies_after(it, n, super::scenario::CLUSTER, is_replaced).await;
            it.replaced(&member).await;
            operator::remove(&it.bed, operator::NEXT).await;
            it.writer().none_failed(&format!("a replacement broken off after write {n}")).await;
            if !died {
                println!("  a replacement takes {} writes; each was a death", n - 1);
                assert!(n > 5, "it dies at all");
                return;
            }
        }
        panic!("a replacement takes more than {MANY} writes");
    })
    .await;
}
