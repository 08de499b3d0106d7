//! The operator as people run it: a Deployment with an account and rights of its own. And as pods
//! that run once, for tests in which it dies.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, LogParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::bed::{Bed, SYSTEM};
use super::wait::{seconds, until};

/// The Deployment, its account and its role.
pub(crate) const NAME: &str = "quorate-operator";
/// An operator that a test runs by itself, to die.
pub(crate) const DOOMED: &str = "doomed";
/// The one that takes over from it.
pub(crate) const NEXT: &str = "next";
/// Where it serves its metrics.
const METRICS: u16 = 8080;

/// What it may do, cluster-wide; nothing more than it needs.
fn rules() -> Value {
    let rule = |group: &str, resources: &[&str], verbs: &str| {
        json!({
            "apiGroups": [group],
            "resources": resources,
            "verbs": verbs.split(' ').collect::<Vec<_>>(),
        })
    };
    json!([
        rule("quorate.dev", &["etcdclusters"], "get list watch patch update"),
        rule("quorate.dev", &["etcdclusters/status"], "update patch"),
        rule("quorate.dev", &["etcdclusters/finalizers"], "update"),
        rule("", &["pods"], "get list watch create patch delete"),
        rule("", &["pods/eviction"], "create"),
        rule("", &["persistentvolumeclaims"], "get list watch create patch delete"),
        rule("", &["configmaps"], "get list watch create delete"),
        rule("", &["services", "serviceaccounts"], "get list watch create patch"),
        rule("", &["nodes", "persistentvolumes"], "get"),
        rule("policy", &["poddisruptionbudgets"], "get list watch create patch delete"),
        rule("events.k8s.io", &["events"], "create patch"),
    ])
}

/// Its container, with these flags and variables beside the usual ones.
fn pod_spec(bed: &Bed, flags: &[&str], variables: &[(&str, &str)]) -> Value {
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let mut env = vec![
        json!({"name": "POD_NAME", "valueFrom": field("metadata.name")}),
        json!({"name": "POD_NAMESPACE", "valueFrom": field("metadata.namespace")}),
        json!({"name": "QUORATE_LOG", "value": "info"}),
    ];
    env.extend(variables.iter().map(|(name, value)| json!({"name": name, "value": value})));
    let image = format!("--node-image={}", bed.image);
    let mut args = vec!["operator", &image];
    args.extend(flags);
    json!({
        "serviceAccountName": NAME,
        "terminationGracePeriodSeconds": 15,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{
            "name": "operator",
            "image": bed.image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/quorate"],
            "args": args,
            "env": env,
            "ports": [{"name": "metrics", "containerPort": METRICS}],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "metrics"}, "periodSeconds": 1},
            "livenessProbe": {"httpGet": {"path": "/healthz", "port": "metrics"}},
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
        }],
    })
}

/// Puts it up, and waits until it acts.
pub(crate) async fn install(bed: &Bed) {
    let labelled = json!({"app": NAME});
    let here = json!({"name": NAME, "namespace": SYSTEM});
    bed.apply(json!({"metadata": here}), "v1", "ServiceAccount").await;
    let rbac = "rbac.authorization.k8s.io/v1";
    let cluster_wide = json!({"name": NAME});
    bed.apply(json!({"metadata": cluster_wide, "rules": rules()}), rbac, "ClusterRole").await;
    let lease = json!([{
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "verbs": ["get", "create", "update", "patch"],
    }]);
    bed.apply(json!({"metadata": here, "rules": lease}), rbac, "Role").await;
    for (kind, of, metadata) in
        [("ClusterRoleBinding", "ClusterRole", &cluster_wide), ("RoleBinding", "Role", &here)]
    {
        let binding = json!({
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": of, "name": NAME},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": SYSTEM}],
        });
        bed.apply(binding, rbac, kind).await;
    }
    let deployment = json!({
        "metadata": here,
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labelled},
            "template": {
                // A build of the same tag is another program: start it anew in each run.
                "metadata": {"labels": labelled, "annotations": {"quorate.dev/run": run_id()}},
                "spec": pod_spec(bed, &[], &[]),
            },
        },
    });
    bed.apply(deployment, "apps/v1", "Deployment").await;
    acts(bed).await;
}

/// A word that differs from run to run.
fn run_id() -> String {
    std::process::id().to_string()
}

/// The Deployment's pods.
pub(crate) async fn pods(bed: &Bed) -> Vec<Pod> {
    let pods: Api<Pod> = Api::namespaced(bed.kube.clone(), SYSTEM);
    let ours = ListParams::default().labels(&format!("app={NAME}"));
    pods.list(&ours).await.map(|it| it.items).unwrap_or_default()
}

/// Waits until one operator holds the Lease.
async fn acts(bed: &Bed) {
    until("the operator to act", seconds(60), async || {
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
    // Gone at once when it is deleted.
    spec["terminationGracePeriodSeconds"] = json!(1);
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
    spec["terminationGracePeriodSeconds"] = json!(1);
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
