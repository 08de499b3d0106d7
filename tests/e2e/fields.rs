//! Every field of the spec either takes effect on a running cluster, or is refused with the reason.
//! [`table`] has a row for each; what a row cannot say is a scenario here.

mod table;

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use quorate::execute::pods::resource::ClusterObject;
use quorate::operator::crd::crd;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::bed::{Bed, upstream_image};
use super::scenario::{CLUSTER, Scenario, scenario};
use super::wait::{seconds, throughout, until};
use table::{Field, Names, table};

/// A storage class whose volumes can grow, as far as the API server is concerned.
const GROWS: &str = "quorate-e2e-grows";

#[test]
fn every_field_of_the_definition_has_a_row_and_each_row_shows_something() {
    let definition = serde_json::to_value(crd().expect("the definition")).expect("JSON");
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let mut fields = BTreeSet::new();
    leaves(definition.pointer(spec).expect("a spec"), "", &mut fields);
    let rows = table(&Names { next: String::new() });
    // A row for a list or a group stands for what is in it.
    let covers = |row: &Field, leaf: &str| {
        leaf.strip_prefix(row.path).is_some_and(|rest| rest.is_empty() || rest.starts_with("[]"))
    };
    for leaf in &fields {
        let count = rows.iter().filter(|row| covers(row, leaf)).count();
        assert_eq!(count, 1, "spec.{leaf} has {count} rows");
    }
    for row in &rows {
        let path = row.path;
        assert!(fields.iter().any(|leaf| covers(row, leaf)), "there is no spec.{path}");
        let takes_effect = row.set.is_some() || !row.by.is_empty();
        assert!(takes_effect || !row.refused.is_empty(), "nothing is shown of spec.{path}");
        for scenario in row.by {
            let (file, test) = scenario.split_once("::").expect("file::test");
            let file = format!("{}/tests/e2e/{file}.rs", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(Path::new(&file)).expect("the file is there");
            assert!(text.contains(&format!("async fn {test}(")), "{path}: there is no {scenario}");
        }
    }
}

/// The paths at which a value stands that is no object of named fields.
fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let items = &schema["items"];
    if items["properties"].is_object() {
        return leaves(items, &format!("{path}[]"), found);
    }
    let Some(fields) = schema["properties"].as_object() else {
        found.insert(path.to_owned());
        return;
    };
    for (name, field) in fields {
        let dot = if path.is_empty() { "" } else { "." };
        leaves(field, &format!("{path}{dot}{name}"), found);
    }
}

/// Whether the clusters run the embedded engine, whose figures and answers are looked at here.
fn is_embedded() -> bool {
    if upstream_image().is_some() {
        println!("SKIPPED: this is about the embedded engine");
    }
    upstream_image().is_none()
}

/// All that belongs to each member, for the pointers of the table.
async fn live(it: &Scenario) -> Vec<Value> {
    let clients = it.api::<Service>().get(&format!("{CLUSTER}-client")).await.expect("a Service");
    let peers = it.api::<Service>().get(&format!("{CLUSTER}-peers")).await.expect("a Service");
    let mut all = Vec::new();
    for member in it.status().await.members {
        let pod = json!(it.pod(&member.name.0).await);
        let container = pod["spec"]["containers"][0].clone();
        let map = container["envFrom"][0]["configMapRef"]["name"].as_str().expect("a ConfigMap");
        let map = it.api::<ConfigMap>().get(map).await.expect("the ConfigMap");
        let claim = member.volume.expect("a volume");
        let claim = it.api::<PersistentVolumeClaim>().get(&claim).await.expect("the volume");
        let name = pod["metadata"]["name"].as_str().expect("a name");
        all.push(json!({
            "metrics": metrics(it, name).await,
            "pod": pod,
            "container": container,
            "env": map.data,
            "claim": claim,
            "clients": clients,
            "peers": peers,
        }));
    }
    all
}

/// What a member says of itself.
async fn metrics(it: &Scenario, pod: &str) -> Value {
    let text = it.bed.ask(&it.namespace, pod, 2379, "metrics").await.expect("metrics");
    let figures = text.lines().filter_map(|line| {
        let (name, figure) = line.split_once(' ')?;
        Some((name.to_owned(), json!(figure.parse::<f64>().ok()?)))
    });
    Value::Object(figures.collect())
}

#[tokio::test]
async fn what_is_set_on_a_running_cluster_takes_effect() {
    if !is_embedded() {
        return;
    }
    scenario("fields", async |it| {
        class_that_grows(&it.bed).await;
        let volume = json!({
            "size": "1Gi", "storageClassName": GROWS, "accessModes": ["ReadWriteOncePod"],
        });
        let storage = json!({"volumeClaimTemplate": volume});
        it.make(json!({"replicas": 3, "token": "of-the-fields", "storage": storage})).await;
        assert_eq!(it.status().await.founding.expect("founded").token, "of-the-fields");

        let rows = table(&Names::of(&it.bed));
        let mut spec = json!({});
        for row in &rows {
            if let Some((value, _)) = &row.set {
                merge(&mut spec, row.change(value.clone()));
            }
        }
        let begun = it.patch(spec).await;
        it.settles(3, seconds(120)).await;
        it.reached("all fields changed", begun, seconds(60));
        for member in live(it).await {
            let name = &member["pod"]["metadata"]["name"];
            for row in &rows {
                for (pointer, expected) in row.set.iter().flat_map(|(_, then)| then) {
                    let is = member.pointer(pointer);
                    assert_eq!(is, Some(expected), "spec.{}: {pointer} of {name}", row.path);
                }
            }
            assert_eq!(member["claim"]["spec"]["storageClassName"], json!(GROWS));
            assert_eq!(member["claim"]["spec"]["accessModes"], json!(["ReadWriteOncePod"]));
            assert_eq!(member["env"]["ETCD_INITIAL_CLUSTER_TOKEN"], json!("of-the-fields"));
        }
        it.writer().none_failed("all fields changed").await;
        limits_hold(it).await;
        another_user(it).await;
        by_hand(it).await;
        budget(it).await;
    })
    .await;
    if let Some(bed) = Bed::open().await {
        let classes: Api<StorageClass> = Api::all(bed.kube.clone());
        classes.delete(GROWS, &DeleteParams::default()).await.expect("deleted");
    }
}

/// Puts one change into another.
fn merge(into: &mut Value, change: Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change,
    }
}

/// Makes the class, of the provisioner that the default class has.
async fn class_that_grows(bed: &Bed) {
    let classes: Api<StorageClass> = Api::all(bed.kube.clone());
    let all = classes.list(&ListParams::default()).await.expect("classes").items;
    let mark = "storageclass.kubernetes.io/is-default-class";
    let default = all.iter().find(|it| it.annotations().get(mark).is_some_and(|is| is == "true"));
    let mut class = json!(default.expect("a default class"));
    class["metadata"] = json!({"name": GROWS});
    class["allowVolumeExpansion"] = json!(true);
    bed.apply(class, "storage.k8s.io/v1", "StorageClass").await;
}

/// What the table's options and ports mean, as a client feels it.
async fn limits_hold(it: &Scenario) {
    let writer = it.writer();
    writer.try_once("put", 900).await.expect("it is small enough");
    let refused = writer.try_once("put", 3000).await.expect_err("2048 is the most");
    assert!(refused.contains("request is too large"), "{refused}");
    writer.try_once("txn", 3).await.expect("it has few enough operations");
    let refused = writer.try_once("txn", 4).await.expect_err("3 are the most");
    assert!(refused.contains("too many operations"), "{refused}");
    for pod in it.pods().await {
        let health = it.bed.ask(&it.namespace, &pod.name_any(), 4001, "health").await;
        assert!(health.as_ref().is_ok_and(|it| it.contains("true")), "{health:?}");
    }
}

/// The files of one user are the next one's too, although the group stays.
async fn another_user(it: &Scenario) {
    let begun = it.patch(json!({"podTemplate": {"securityContext": {"runAsUser": 4321}}})).await;
    it.settles(3, seconds(60)).await;
    it.reached("another user", begun, seconds(40));
    it.writer().none_failed("another user").await;
}

/// `OnDelete`: a change waits until somebody deletes the pod.
async fn by_hand(it: &Scenario) {
    let strategy = |word: &str| json!({"type": word});
    let options = |count: u32| json!({"snapshotCount": count});
    it.patch(json!({"updateStrategy": strategy("OnDelete"), "options": options(6000)})).await;
    it.settles(3, seconds(10)).await;
    let has = async |count: &str| {
        let all = live(it).await;
        all.iter().filter(|it| it["env"]["ETCD_SNAPSHOT_COUNT"] == json!(count)).count()
    };
    throughout("no pod to be changed", seconds(4), async || match has("7000").await {
        3 => Ok(()),
        left => Err(format!("{left} are as they were")),
    })
    .await;
    let pod = it.pod(&it.follower().await).await;
    it.delete_pod(&pod).await;
    until("another pod", seconds(40), async || {
        let now = it.api::<Pod>().get_opt(&pod.name_any()).await.expect("an answer");
        match now.and_then(|now| now.uid()) {
            uid if uid.is_some() && uid != pod.uid() => it.settled(3).await,
            uid => Err(format!("{uid:?}")),
        }
    })
    .await;
    assert_eq!(has("6000").await, 1, "the deleted one alone has the change");
    it.patch(json!({"updateStrategy": strategy("RollingUpdate")})).await;
    it.settles(3, seconds(60)).await;
    assert_eq!(has("6000").await, 3, "and now all have it");
    it.writer().none_failed("a change by hand").await;
}

async fn budget(it: &Scenario) {
    let budgets = it.api::<PodDisruptionBudget>();
    for is in [true, false, true] {
        it.patch(json!({"podDisruptionBudget": {"enabled": is}})).await;
        until("the budget to be as asked", seconds(10), async || {
            let budget = budgets.get_opt(CLUSTER).await.expect("an answer");
            let least = json!(budget)["spec"]["minAvailable"].clone();
            let expected = if is { json!(2) } else { Value::Null };
            if least == expected { Ok(()) } else { Err(format!("{least}")) }
        })
        .await;
    }
    it.settles(3, seconds(10)).await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_the_api_server_with_the_field_and_the_reason() {
    scenario("refused", async |it| {
        it.make(json!({"replicas": 1, "token": "first"})).await;
        let before = it.object().await.expect("the cluster").metadata.generation;
        let clusters = it.api::<ClusterObject>();
        let try_it = PatchParams { dry_run: true, ..PatchParams::default() };
        let mut count = 0;
        for row in table(&Names::of(&it.bed)) {
            for (change, at, why) in row.refused {
                // The engine that the cluster does not have.
                if row.path == "engine" && upstream_image().is_some() {
                    continue;
                }
                let patch = Patch::Merge(json!({"spec": change}));
                let told = match clusters.patch(CLUSTER, &try_it, &patch).await {
                    Err(kube::Error::Api(status)) => status,
                    other => panic!("spec.{}: {change} got {other:?}", row.path),
                };
                assert_eq!(told.code, 422, "{told:?}");
                let says = |part: &str| told.message.contains(part);
                assert!(says(&format!("spec.{at}")) && says(why), "{change}: {}", told.message);
                count += 1;
            }
        }
        println!("  {count} changes refused");
        let after = it.object().await.expect("the cluster").metadata.generation;
        assert_eq!(after, before, "nothing was written");
    })
    .await;
}

#[tokio::test]
async fn a_spec_that_cannot_be_followed_is_refused_and_the_last_good_one_stays_in_force() {
    if !is_embedded() {
        return;
    }
    scenario("not-followed", async |it| {
        it.make(json!({"replicas": 3})).await;
        let spec = json!(it.object().await.expect("the cluster").spec);
        let before: BTreeSet<_> = it.pods().await.iter().map(ResourceExt::uid).collect();
        let rows = table(&Names::of(&it.bed));
        let cases = rows.iter().flat_map(|row| &row.not_followed);
        for (change, at, why) in cases {
            put_spec(it, &spec, change).await;
            let told = until("the status to say so", seconds(10), async || {
                let status = it.status().await;
                let blocked = status.blocked.clone().filter(|it| it.reason == "SpecRefused");
                let degraded = status.condition("Degraded").filter(|it| it.status == "True");
                let text = format!("{blocked:?} {degraded:?}");
                let is_told = text.contains(&format!("spec.{at}: ")) && text.contains(why);
                if is_told && blocked.is_some() && degraded.is_some() {
                    Ok(text)
                } else {
                    Err(text)
                }
            });
            told.await;
        }
        // Meanwhile the cluster is looked after as before.
        let pod = it.pod(&it.follower().await).await;
        it.delete_pod(&pod).await;
        until("another pod", seconds(40), async || {
            let now = it.api::<Pod>().get_opt(&pod.name_any()).await.expect("an answer");
            match now {
                Some(now) if now.uid() != pod.uid() && super::watch::is_ready(&now) => Ok(()),
                other => Err(format!("{:?}", other.and_then(|it| it.uid()))),
            }
        })
        .await;
        put_spec(it, &spec, &json!({})).await;
        it.settles(3, seconds(20)).await;
        let after: BTreeSet<_> = it.pods().await.iter().map(ResourceExt::uid).collect();
        assert_eq!(before.intersection(&after).count(), 2, "no other pod was touched");
        not_taken(it).await;
        not_grown(it).await;
        it.writer().none_failed("specs that cannot be followed").await;
    })
    .await;
}

/// Writes a whole spec: nothing is left of the change before.
async fn put_spec(it: &Scenario, spec: &Value, change: &Value) {
    let mut spec = spec.clone();
    merge(&mut spec, change.clone());
    it.watch.note(&format!("spec {change}"));
    let clusters = it.bed.api("quorate.dev/v1alpha1", "EtcdCluster", Some(&it.namespace));
    // The operator may write the status meanwhile.
    until("the spec to be written", seconds(10), async || {
        let mut object = clusters.get(CLUSTER).await.expect("the cluster");
        object.data["spec"] = spec.clone();
        let written = clusters.replace(CLUSTER, &PostParams::default(), &object).await;
        written.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

/// What only the API server can judge when a pod is made: one member waits, and an event says why.
async fn not_taken(it: &Scenario) {
    it.patch(json!({"podTemplate": {"priorityClassName": "absent"}})).await;
    until("an event", seconds(30), async || {
        let events = it.bed.api("events.k8s.io/v1", "Event", Some(&it.namespace));
        let events = events.list(&ListParams::default()).await.expect("events").items;
        let mut notes = events.iter().filter_map(|event| event.data["note"].as_str());
        let told = notes.find(|note| note.contains("no PriorityClass with name absent"));
        told.map(|note| println!("  {note}")).ok_or_else(|| format!("{} others", events.len()))
    })
    .await;
    let ready = it.pods().await.iter().filter(|pod| super::watch::is_ready(pod)).count();
    assert_eq!(ready, 2, "the others are left alone");
    let begun = it.patch(json!({"podTemplate": {"priorityClassName": null}})).await;
    it.settles(3, seconds(60)).await;
    it.reached("a class put right", begun, seconds(20));
}

/// A volume whose class cannot make it larger, which the storage's own refusal tells.
async fn not_grown(it: &Scenario) {
    let volume = json!({"size": "2Gi"});
    it.patch(json!({"storage": {"volumeClaimTemplate": volume}})).await;
    until("the condition", seconds(15), async || match it.status().await.condition("Degraded") {
        Some(told) if told.reason == "VolumeTooSmall" && told.status == "True" => {
            println!("  {}", told.message);
            Ok(())
        }
        other => Err(format!("{other:?}")),
    })
    .await;
    it.settles(3, seconds(20)).await;
}

#[tokio::test]
async fn volumes_of_members_that_went_are_kept_as_often_as_the_spec_says() {
    scenario("keep-aside", async |it| {
        it.make(json!({"replicas": 1, "remediation": {"keepAside": 2}})).await;
        for size in [3, 1, 3, 1, 3, 1] {
            it.patch(json!({"replicas": size})).await;
            it.settles(size, seconds(60)).await;
        }
        let left = |count: usize| {
            until("the volumes to be pruned", seconds(20), async move || {
                match it.volumes().await.len() {
                    is if is == count => Ok(()),
                    is => Err(format!("{is} volumes")),
                }
            })
        };
        // One in use, and of each node that went the last two of three.
        left(5).await;
        it.patch(json!({"remediation": {"keepAside": 1}})).await;
        left(3).await;
        it.writer().none_failed("members that come and go").await;
    })
    .await;
}

#[tokio::test]
async fn a_lost_member_is_replaced_only_as_far_as_the_spec_allows() {
    scenario("allowed", async |it| {
        it.make(json!({"replicas": 3, "remediation": {"enabled": false}})).await;
        let member = it.member(&it.follower().await).await;
        let pod = it.pod(&member.name.0).await;
        it.delete_volume(member.volume.as_ref().expect("a volume")).await;
        it.delete_pod(&pod).await;
        let blocked = async |reason: &str| {
            until("the status to say so", seconds(30), async || match it.status().await.blocked {
                Some(why) if why.reason == reason => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
            assert_eq!(it.member(&member.name.0).await.id, member.id, "not replaced");
        };
        blocked("RemediationDisabled").await;
        it.patch(json!({"remediation": {"enabled": true, "maxReplacementsPerDay": 0}})).await;
        blocked("TooManyReplacements").await;
        let begun = it.patch(json!({"remediation": {"maxReplacementsPerDay": 1}})).await;
        it.replaced(&member).await;
        it.reached("allowed to three voters", begun, seconds(30));
        it.writer().none_failed("a replacement that had to be allowed").await;
    })
    .await;
}

#[tokio::test]
async fn a_learner_that_gets_nowhere_is_made_anew_and_then_given_to_a_person() {
    scenario("learner", async |it| {
        it.make(json!({"replicas": 1})).await;
        // The member that is there keeps its place; those that come find none.
        it.patch(json!({
            "replicas": 3,
            "updateStrategy": {"type": "OnDelete"},
            "podTemplate": {"nodeSelector": {"quorate.dev/e2e": "nowhere"}},
            "remediation": {"learnerTimeoutSeconds": 3},
        }))
        .await;
        let begun = Instant::now();
        until("the status to say so", seconds(60), async || match it.status().await.blocked {
            Some(why) if why.reason == "LearnerStuck" => {
                println!("  {}; {}", why.message, why.unblock);
                Ok(())
            }
            other => Err(format!("{other:?}")),
        })
        .await;
        // Three tries of three seconds, and what Kubernetes needs to make and delete their pods.
        it.reached("three tries", begun, seconds(30));
        it.patch(json!({
            "replicas": 1,
            "podTemplate": {"nodeSelector": null},
        }))
        .await;
        it.settles(1, seconds(30)).await;
        it.writer().none_failed("learners that got nowhere").await;
    })
    .await;
}

#[tokio::test]
async fn members_without_a_volume_are_replaced_by_a_change_and_the_only_one_is_kept() {
    scenario("empty-dir", async |it| {
        let limit = |size: &str| json!({"storage": {"emptyDir": {"sizeLimit": size}}});
        let mut spec = limit("200Mi");
        spec["replicas"] = json!(3);
        it.make(spec).await;
        let of_all = async || {
            let pods = it.pods().await;
            let volumes = pods.iter().map(|pod| json!(pod)["spec"]["volumes"][0].clone());
            volumes.map(|it| it["emptyDir"]["sizeLimit"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(of_all().await, vec![json!("200Mi"); 3]);
        let begun = it.patch(limit("300Mi")).await;
        it.settles(3, seconds(120)).await;
        it.reached("each member replaced", begun, seconds(60));
        assert_eq!(of_all().await, vec![json!("300Mi"); 3]);
        it.writer().none_failed("each member replaced").await;

        it.patch(json!({"replicas": 1})).await;
        it.settles(1, seconds(60)).await;
        let only = it.pods().await[0].uid();
        it.patch(limit("400Mi")).await;
        until("the status to say so", seconds(15), async || {
            match it.status().await.condition("Degraded") {
                Some(told) if told.reason == "OnlyCopy" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        throughout("the only copy to be left alone", seconds(5), async || {
            let now: Vec<_> = it.pods().await.iter().map(ResourceExt::uid).collect();
            if now == [only.clone()] { Ok(()) } else { Err(format!("{now:?}")) }
        })
        .await;
        it.patch(json!({"replicas": 3})).await;
        it.settles(3, seconds(120)).await;
        assert_eq!(of_all().await, vec![json!("400Mi"); 3]);
        it.writer().none_failed("an only copy that is one no more").await;
    })
    .await;
}

#[tokio::test]
async fn a_member_of_another_version_than_the_spec_asks_for_is_told() {
    let Some(image) = std::env::var("QUORATE_E2E_ETCD").ok().filter(|it| !it.is_empty()) else {
        println!("SKIPPED: QUORATE_E2E_ETCD names no image of an upstream etcd");
        return;
    };
    scenario("version", async |it| {
        let spec = json!({"replicas": 1, "engine": "Etcd", "image": image, "version": "3.4.1"});
        it.make(spec).await;
        let told = async |is: &str| {
            until("the condition", seconds(15), async || {
                match it.status().await.condition("Degraded") {
                    Some(told) if told.reason == is => Ok(told.message.clone()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await
            .0
        };
        let message = told("OtherVersion").await;
        let runs = it.status().await.current_version.expect("it says which");
        println!("  {message}");
        for part in [&*runs, "3.4.1", "name the image"] {
            assert!(message.contains(part), "{message}");
        }
        let pod = json!(it.pods().await[0]);
        assert_eq!(pod["spec"]["initContainers"][0]["name"], json!("quorate"));
        let args = pod["spec"]["containers"][0]["args"].as_array().expect("arguments");
        assert!(args.contains(&json!("--exec=etcd")), "{args:?}");
        it.patch(json!({"version": format!("v{runs}")})).await;
        told("AllHealthy").await;
        it.settles(1, seconds(10)).await;
    })
    .await;
}
