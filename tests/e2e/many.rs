//! Many clusters, more than one operator, and a while in which nothing happens.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::Request;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::audit::Audit;
use super::bed::variable;
use super::operator;
use super::scenario::{Scenario, scenario};
use super::wait::{seconds, until};

#[tokio::test]
async fn ten_clusters_at_once_become_ready_and_then_cost_nothing() {
    scenario("ten", async |it| {
        let names: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
        let begun = Instant::now();
        for name in &names {
            it.apply_as(name, json!({"replicas": 3})).await;
        }
        let mut took = BTreeMap::new();
        until("all to be ready", seconds(240), async || {
            for name in &names {
                if !took.contains_key(name) && it.settled_of(name, 3).await.is_ok() {
                    took.insert(name.clone(), begun.elapsed());
                }
            }
            if took.len() == names.len() { Ok(()) } else { Err(format!("{took:?}")) }
        })
        .await;
        let first = took.values().min().copied().unwrap_or_default();
        let last = took.values().max().copied().unwrap_or_default();
        println!("  the first after {first:.1?}, the last after {last:.1?} (< 10 x the first)");
        assert!(last < first * 10);
        // The last writes follow the last word of a kubelet.
        sleep(seconds(10)).await;
        let (before, audit) = (writes(it).await, Audit::from_now());
        let quiet = variable("QUORATE_E2E_QUIET").map_or(60, |it| it.parse().expect("seconds"));
        let (memory, cores) = usage(it, seconds(quiet)).await;
        let written = writes(it).await - before;
        println!("  writes in {quiet} s, by the operator's own count: {written}");
        if let Some(audit) = audit {
            let written = audit.writes(&it.namespace);
            println!("  writes in {quiet} s, by the audit log: {}", written.len());
            assert!(written.is_empty(), "a quiet cluster costs no write: {written:#?}");
        }
        println!(
            "  operator with ten clusters: {memory:.0} MiB (< 40), {:.1} % of a core (< 1)",
            cores * 100.0
        );
        assert!(written.abs() < 0.5, "a quiet cluster costs no write");
    })
    .await;
}

/// What the operator has written for the scenario's clusters.
async fn writes(it: &Scenario) -> f64 {
    let pods = operator::pods(&it.bed).await;
    let pod = kube::ResourceExt::name_any(pods.first().expect("an operator"));
    let mut sum = 0.0;
    for n in 0..10 {
        let name = format!("quorate_api_writes{{cluster=\"{}/t{n}\"}}", it.namespace);
        sum += operator::metric(&it.bed, &pod, &name).await.expect("the metric is there");
    }
    sum
}

/// The operator's memory in MiB and its share of a core over a while, as its kubelet measures them.
async fn usage(it: &Scenario, over: Duration) -> (f64, f64) {
    let begun = counted(it).await;
    sleep(over).await;
    let ended = counted(it).await;
    (ended.2, (ended.1 - begun.1) / (ended.0 - begun.0))
}

/// When it was measured and processor seconds until then, and MiB.
async fn counted(it: &Scenario) -> (f64, f64, f64) {
    let pods = operator::pods(&it.bed).await;
    let pod = pods.first().expect("an operator");
    let machine = pod.spec.as_ref().and_then(|it| it.node_name.clone()).expect("it runs");
    let request = Request::new("/api/v1/nodes").get_subresource("proxy/stats/summary", &machine);
    let text =
        it.bed.kube.request_text(request.expect("a request")).await.expect("the kubelet answers");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let name = kube::ResourceExt::name_any(pod);
    let pods = all["pods"].as_array().cloned().unwrap_or_default();
    let found = pods.iter().find(|it| it["podRef"]["name"] == json!(name)).expect("its figures");
    let figure = |path: &str| found.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let of = |what: &str| figure(&format!("/containers/0/{what}"));
    // Measured now and then: the spans are those between two measurements.
    let at: Time = serde_json::from_value(found["containers"][0]["cpu"]["time"].clone())
        .expect("the time of a measurement");
    let at = at.0.as_duration().as_secs_f64();
    let used = of("cpu/usageCoreNanoSeconds") / 1e9;
    (at, used, of("memory/workingSetBytes") / f64::from(1 << 20))
}

#[tokio::test]
async fn a_second_operator_that_minds_no_lease_does_no_harm() {
    scenario("two-operators", async |it| {
        it.make(json!({"replicas": 3})).await;
        operator::remove(&it.bed, operator::NEXT).await;
        operator::run_once(&it.bed, operator::NEXT, &it.namespace, &[]).await;
        operator::runs(&it.bed, operator::NEXT).await;
        for _ in 0..2 {
            let member = it.member(&it.leader().await).await;
            let pod = it.pod(&member.name.0).await;
            it.delete_volume(member.volume.as_ref().expect("a volume")).await;
            it.delete_pod(&pod).await;
            it.replaced(&member).await;
            it.writer().none_failed("a replacement by two operators").await;
        }
        it.patch(json!({"options": {"snapshotCount": 7000}})).await;
        it.settles(3, seconds(120)).await;
        it.writer().none_failed("a rolling change by two operators").await;
        it.patch(json!({"replicas": 5})).await;
        it.settles(5, seconds(120)).await;
        it.patch(json!({"replicas": 3})).await;
        it.settles(3, seconds(120)).await;
        it.writer().none_failed("scaling by two operators").await;
        operator::remove(&it.bed, operator::NEXT).await;
    })
    .await;
}

#[tokio::test]
async fn an_api_server_that_fails_in_many_ways_delays_the_operator_and_harms_nothing() {
    scenario("faults", async |it| {
        it.take_away_operator().await;
        operator::run_behind_faults(&it.bed, operator::NEXT, &it.namespace).await;
        let begun = it.apply(json!({"replicas": 3})).await;
        it.settles(3, seconds(180)).await;
        it.reached("apply to ready voters, through faults", begun, seconds(60));
        it.write().await;
        let member = it.member(&it.leader().await).await;
        let pod = it.pod(&member.name.0).await;
        let begun = Instant::now();
        it.delete_volume(member.volume.as_ref().expect("a volume")).await;
        it.delete_pod(&pod).await;
        it.replaced_within(&member, seconds(180)).await;
        it.reached("volume deleted to three voters, through faults", begun, seconds(60));
        it.writer().none_failed("a replacement through faults").await;
        for size in [5, 3] {
            it.patch(json!({"replicas": size})).await;
            it.settles(size, seconds(240)).await;
            it.writer().none_failed(&format!("scaling to {size} through faults")).await;
        }
    })
    .await;
}
