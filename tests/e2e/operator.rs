//! The operator as people run it: what is shipped in deploy/operator.yaml, with the rights that are
//! given there. And as pods that run once, for tests in which it dies.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, LogParams};
use kube::{Api, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};

use super::bed::{Bed, SYSTEM};
use super::wait::{seconds, until};

/// The Deployment and its account.
pub(crate) const NAME: &str = "quorate-operator";
/// An operator that a test runs by itself, to die.
pub(crate) const DOOMED: &str = "doomed";
/// The one that takes over from it.
pub(crate) const NEXT: &str = "next";
/// Where it serves its metrics.
const METRICS: u16 = 8080;

/// What is shipped to be applied, object by object.
fn shipped() -> Vec<Value> {
    let text = include_str!("../../deploy/operator.yaml");
    let objects = serde_yaml::Deserializer::from_str(text).map(Value::deserialize);
    objects.collect::<Result<_, _>>().expect("YAML")
}

/// The shipped Deployment with the image under test, of one replica whose log is for people.
fn deployment(bed: &Bed) -> Value {
    let mut found = shipped().into_iter().find(|it| it["kind"] == "Deployment").expect("it ships");
    found["spec"]["replicas"] = json!(1);
    let container = &mut found["spec"]["template"]["spec"]["containers"][0];
    container["image"] = json!(bed.image);
    container["readinessProbe"]["periodSeconds"] = json!(1);
    let args = container["args"].as_array_mut().expect("arguments");
    args.retain(|it| !it.as_str().is_some_and(|it| it.starts_with("--node-image")));
    args.push(json!(format!("--node-image={}", bed.image)));
    let env = container["env"].as_array_mut().expect("variables");
    env.push(json!({"name": "QUORATE_LOG", "value": "info"}));
    found
}

/// The pod of that Deployment, with these flags and variables beside its own, and one life.
fn pod_spec(bed: &Bed, flags: &[&str], variables: &[(&str, &str)]) -> Value {
    let mut spec = deployment(bed)["spec"]["template"]["spec"].take();
    let container = &mut spec["containers"][0];
    let args = container["args"].as_array_mut().expect("arguments");
    args.retain(|it| !it.as_str().is_some_and(|it| it.starts_with("--lease")));
    args.extend(flags.iter().map(|it| json!(it)));
    let env = container["env"].as_array_mut().expect("variables");
    env.extend(variables.iter().map(|(name, value)| json!({"name": name, "value": value})));
    // Gone at once when it is deleted.
    spec["terminationGracePeriodSeconds"] = json!(1);
    spec
}

/// Puts it up from what is shipped, rights and all, and waits until it acts.
pub(crate) async fn install(bed: &Bed) {
    for mut object in shipped() {
        let of = |field: &str| object[field].as_str().expect("a text").to_owned();
        let (version, kind) = (of("apiVersion"), of("kind"));
        match kind.as_str() {
            "Namespace" => object["metadata"]["labels"][super::bed::OURS] = json!("true"),
            "Deployment" => {
                object = deployment(bed);
                // A build of the same tag is another program: start it anew in each run.
                object["spec"]["template"]["metadata"]["annotations"]["quorate.dev/run"] =
                    json!(run_id());
            }
            _ => {}
        }
        bed.apply(object, &version, &kind).await;
    }
    acts(bed).await;
}

/// A word that differs from run to run.
fn run_id() -> String {
    std::process::id().to_string()
}

/// The Deployment's pods.
pub(crate) async fn pods(bed: &Bed) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(bed.kube.clone(), SYSTEM);
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/name={NAME}"));
    pods.list(&ours).await.map(|it| it.items).unwrap_or_default()
}

/// Waits until one operator holds the Lease.
async fn acts(bed: &Bed) {
    until("the operator to act", seconds(180), async || {
        let pods = pods(bed).await;
        let [pod] = pods.as_slice() else { return Err(format!("{} pods", pods.len())) };
        match metric(bed, &pod.name_any(), "quorate_operator_leads").await {
            Ok(leads) if leads > 0.5 => Ok(()),
            other => Err(format!(
                "{other:?}; {:?}",
                pod.status.as_ref().map(|it| &it.container_statuses)
            )),
        }
    })
    .await;
}

/// One of its figures; `name` may have labels.
pub(crate) async fn metric(bed: &Bed, pod: &str, name: &str) -> Result<f64, String> {
    let text = bed.ask(SYSTEM, pod, METRICS, "metrics").await?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.ok_or_else(|| format!("no {name}"))?.parse().map_err(|_| "no number".to_owned())
}

/// What it has logged.
pub(crate) async fn log(bed: &Bed) -> String {
    let api: Api<Pod> = Api::namespaced(bed.kube.clone(), SYSTEM);
    let mut text = String::new();
    for pod in pods(bed).await {
        let log = api.logs(&pod.name_any(), &LogParams::default()).await;
        text += &log.unwrap_or_else(|error| error.to_string());
    }
    text
}

/// Takes the Deployment's operator away, or puts it back.
pub(crate) async fn scale(bed: &Bed, replicas: u32) {
    let deployments = bed.api("apps/v1", "Deployment", Some(SYSTEM));
    let patch = json!({"spec": {"replicas": replicas}});
    let how = kube::api::PatchParams::default();
    deployments.patch(NAME, &how, &kube::api::Patch::Merge(patch)).await.expect("scaled");
    if replicas == 0 {
        until("the operator to end", seconds(60), async || match pods(bed).await.len() {
            0 => Ok(()),
            count => Err(format!("{count} pods")),
        })
        .await;
    } else {
        acts(bed).await;
    }
}

/// An operator that runs once, for one namespace, with these variables.
pub(crate) async fn run_once(bed: &Bed, name: &str, namespace: &str, variables: &[(&str, &str)]) {
    let namespace = format!("--namespace={namespace}");
    let mut spec = pod_spec(bed, &["--no-lease", &namespace], variables);
    spec["restartPolicy"] = json!("Never");
    // The first process of a container cannot kill itself, and dying is what this one is for.
    spec["shareProcessNamespace"] = json!(true);
    bed.apply(json!({"metadata": {"name": name, "namespace": SYSTEM}, "spec": spec}), "v1", "Pod")
        .await;
}

/// The same, with an API server that fails in many ways between it and the real one.
pub(crate) async fn run_behind_faults(bed: &Bed, name: &str, namespace: &str) {
    let way = "127.0.0.1:9000";
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "faults",
        "contexts": [{"name": "faults", "context": {"cluster": "faults", "user": "nobody"}}],
        "clusters": [{"name": "faults", "cluster": {
            "server": format!("http://{way}"),
            // Not used, but an image without any certificates needs one to be named.
            "certificate-authority": "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
        }}],
        "users": [{"name": "nobody", "user": {}}],
    });
    let map = json!({
        "metadata": {"name": "faults", "namespace": SYSTEM},
        "data": {"config": config.to_string()},
    });
    bed.apply(map, "v1", "ConfigMap").await;
    let namespace = format!("--namespace={namespace}");
    let mut spec = pod_spec(bed, &["--no-lease", &namespace], &[("KUBECONFIG", "/faults/config")]);
    spec["volumes"] = json!([{"name": "faults", "configMap": {"name": "faults"}}]);
    let operator = &mut spec["containers"][0];
    operator["volumeMounts"] = json!([{"name": "faults", "mountPath": "/faults"}]);
    let way = json!({
        "name": "faults",
        "image": bed.writer,
        "imagePullPolicy": "IfNotPresent",
        "args": ["faults", way],
        "securityContext": operator["securityContext"],
    });
    spec["containers"].as_array_mut().expect("containers").push(way);
    bed.apply(json!({"metadata": {"name": name, "namespace": SYSTEM}, "spec": spec}), "v1", "Pod")
        .await;
}

/// Waits until such an operator holds its cluster.
pub(crate) async fn runs(bed: &Bed, name: &str) {
    until("the operator to run", seconds(30), async || {
        metric(bed, name, "quorate_operator_leads").await.map(|_| ())
    })
    .await;
}

/// The exit code of such an operator, once it has ended.
pub(crate) async fn ended(bed: &Bed, name: &str) -> Option<i32> {
    let pods: Api<Pod> = Api::namespaced(bed.kube.clone(), SYSTEM);
    let status = pods.get_opt(name).await.ok()??.status?;
    let container = status.container_statuses?.into_iter().next()?;
    Some(container.state?.terminated?.exit_code)
}

/// Deletes such an operator; returns what it has logged.
pub(crate) async fn remove(bed: &Bed, name: &str) -> String {
    let pods: Api<Pod> = Api::namespaced(bed.kube.clone(), SYSTEM);
    let log = pods.logs(name, &LogParams::default()).await.unwrap_or_default();
    // Gone already is as good.
    let _ = pods.delete(name, &DeleteParams::default()).await;
    until("the operator's pod to go", seconds(60), async || match pods.get_opt(name).await {
        Ok(None) => Ok(()),
        other => Err(format!("{:?}", other.map(|it| it.is_some()))),
    })
    .await;
    log
}
