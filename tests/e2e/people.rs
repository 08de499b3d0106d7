//! What people do: apply what the samples say, and ask with the kubectl plugin.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use quorate::execute::pods::resource::ClusterObject;
use serde_json::{Value, json};

use super::bed::variable;
use super::scenario::{CLUSTER, Scenario, scenario};
use super::wait::{seconds, until};

#[tokio::test]
async fn each_sample_becomes_ready_or_is_refused_with_the_reason() {
    scenario("samples", async |it| {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/samples");
        let mut files: Vec<_> =
            fs::read_dir(samples).expect("the samples").map(|it| it.expect("one").path()).collect();
        files.sort();
        assert!(files.len() > 5, "{files:?}");
        for file in files {
            let text = fs::read_to_string(&file).expect("a sample");
            let mut sample: Value = serde_yaml::from_str(&text).expect("YAML");
            sample["metadata"]["namespace"] = json!(it.namespace);
            let name = file.file_name().expect("a name").to_string_lossy().into_owned();
            if sample["spec"]["nodes"].is_null() {
                becomes_ready(it, &name, sample).await;
            } else {
                let refused = it.try_apply(sample).await.expect_err("hosts are not for Kubernetes");
                assert!(refused.contains("write replicas: 3 instead"), "{name}: {refused}");
                println!("  {name}: refused, as it should be");
            }
        }
    })
    .await;
}

async fn becomes_ready(it: &Scenario, file: &str, mut sample: Value) {
    if sample["spec"]["engine"] == "Etcd" {
        let Some(image) = variable("QUORATE_E2E_ETCD") else {
            println!("  {file}: SKIPPED, QUORATE_E2E_ETCD names no image of etcd");
            return;
        };
        sample["spec"]["image"] = json!(image);
    }
    if sample["spec"]["podTemplate"].to_string().contains("topology.kubernetes.io/zone") {
        let nodes: Api<Node> = Api::all(it.bed.kube.clone());
        let zoned = ListParams::default().labels("topology.kubernetes.io/zone");
        if nodes.list(&zoned).await.expect("nodes").items.len() < 3 {
            println!("  {file}: SKIPPED, the machines here are in no zones");
            return;
        }
    }
    let begun = tokio::time::Instant::now();
    let name = sample["metadata"]["name"].as_str().expect("a name").to_owned();
    let voters = sample["spec"]["replicas"].as_u64().and_then(|n| u32::try_from(n).ok());
    it.try_apply(sample).await.expect("it is taken");
    let voters = voters.expect("a number");
    until(file, seconds(120), async || it.settled_of(&name, voters).await).await;
    println!("  {file}: {voters} ready voters after {:.1?}", begun.elapsed());
    it.watch.is_ending(true);
    let clusters = it.api::<ClusterObject>();
    clusters.delete(&name, &DeleteParams::default()).await.expect("deleted");
    until("the cluster and its pods to go", seconds(90), async || {
        let left = it.pods_of(&name).await.len();
        match it.object_of(&name).await {
            None if left == 0 => Ok(()),
            object => Err(format!("it is there: {}; {left} pods", object.is_some())),
        }
    })
    .await;
    it.watch.is_ending(false);
}

/// Runs the plugin, as kubectl would.
fn plugin(it: &Scenario, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(["kubectl", "-n", &it.namespace]).args(arguments).stdin(Stdio::null());
    command.output().expect("it runs")
}

fn said(it: &Scenario, arguments: &[&str]) -> String {
    let done = plugin(it, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{arguments:?}: {}", text(&done.stderr));
    text(&done.stdout)
}

#[tokio::test]
async fn the_plugin_tells_how_a_cluster_is_and_has_a_member_replaced() {
    scenario("plugin", async |it| {
        it.make(json!({"replicas": 3})).await;
        let all = said(it, &["status"]);
        assert!(all.contains("Ready") && all.contains("3/3"), "{all}");
        let one = said(it, &["status", CLUSTER]);
        assert!(one.contains("serves (Ready): 3 of 3 voters are healthy"), "{one}");
        for member in it.status().await.members {
            let id = member.id.expect("an ID").to_string();
            assert!(one.contains(&id) && one.contains(&member.name.0), "{one}");
        }
        let object: Value =
            serde_json::from_str(&said(it, &["status", CLUSTER, "-o", "json"])).expect("JSON");
        assert_eq!(object["status"]["readyReplicas"], 3);
        assert_eq!(said(it, &["plan", CLUSTER]), format!("nothing: {CLUSTER} is as wanted\n"));

        let node = it.follower().await;
        let log = said(it, &["logs", CLUSTER, &node, "--tail", "3"]);
        assert!((1..=3).contains(&log.lines().count()), "{log}");

        let stranger = plugin(it, &["replace", CLUSTER, "c-9", "--yes"]);
        let why = String::from_utf8_lossy(&stranger.stderr).into_owned();
        assert_eq!(stranger.status.code(), Some(2), "{why}");
        assert!(why.contains("its nodes are: c-0, c-1, c-2"), "{why}");
        let nowhere = plugin(it, &["status", "nobody"]);
        assert_eq!(nowhere.status.code(), Some(2));

        let member = it.member(&node).await;
        let asked = said(it, &["replace", CLUSTER, &node, "--yes"]);
        assert!(asked.contains("asked for"), "{asked}");
        let again = it.replaced(&member).await;
        assert_ne!(again.pod, member.pod, "a place of its own");
        it.writer().none_failed("a replacement that was asked for").await;
        let wish = it.object().await.expect("the cluster").annotations().clone();
        assert!(!wish.contains_key("quorate.dev/replace"), "the wish was taken up");
    })
    .await;
}
