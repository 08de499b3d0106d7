//! The chart: installed, upgraded and taken away under a cluster that is written to all the while.

use std::collections::BTreeSet;
use std::env;
use std::process::{Command, Stdio};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::ListParams;
use kube::core::Request;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::bed::Bed;
use super::scenario::{Scenario, scenario};
use super::wait::{seconds, throughout, until};

/// Where the releases go.
const HOME: &str = "quorate-e2e-helm-system";
/// The release, after which its objects are named.
const RELEASE: &str = "e2e";
const OPERATOR: &str = "e2e-operator";

/// Whether there is a helm; where there is none, says SKIPPED.
async fn has_helm() -> bool {
    if Bed::open().await.is_none() {
        return false;
    }
    let has = Command::new("helm").arg("version").stdin(Stdio::null()).output().is_ok();
    if !has {
        let is_promised = env::var("QUORATE_E2E_TESTBED").is_ok() && env::var("CI").is_ok();
        assert!(!is_promised, "a testbed was promised, which has helm");
        println!("SKIPPED: there is no helm");
    }
    has
}

fn helm(arguments: &[&str]) {
    println!("  helm {}", arguments.join(" "));
    let done = Command::new("helm")
        .args(["--namespace", HOME])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("helm runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "helm {arguments:?}: {}", text(&done.stderr));
}

fn chart() -> String {
    format!("{}/charts/quorate", env!("CARGO_MANIFEST_DIR"))
}

/// Values for an image under test.
fn image(of: &str) -> [String; 2] {
    let (repository, tag) = of.rsplit_once(':').expect("an image with a tag");
    [format!("--set=image.repository={repository}"), format!("--set=image.tag={tag}")]
}

/// Installs or upgrades the release, and waits until its operator is ready.
fn put(bed: &Bed, verb: &str, of: &str, more: &[&str]) {
    let (chart, image) = (chart(), image(of));
    let members = format!("--set=nodeImage={}", bed.image);
    let mut arguments = vec![verb, RELEASE, &chart, &image[0], &image[1], &members];
    arguments.extend(["--wait", "--timeout=90s"]);
    arguments.extend(more);
    // A thread of its own: the watch and the figures go on meanwhile.
    tokio::task::block_in_place(|| helm(&arguments));
}

async fn uids(it: &Scenario) -> BTreeSet<Option<String>> {
    it.pods().await.iter().map(ResourceExt::uid).collect()
}

async fn volumes(it: &Scenario) -> BTreeSet<Option<String>> {
    it.volumes().await.iter().map(ResourceExt::uid).collect()
}

/// Something that an operator follows without touching a pod; shows that there is one.
async fn is_followed(it: &Scenario, learner_timeout: u32) {
    it.patch(json!({"remediation": {"learnerTimeoutSeconds": learner_timeout}})).await;
    it.settles(3, seconds(40)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_is_installed_upgraded_and_taken_away_under_a_running_cluster() {
    if !has_helm().await {
        return;
    }
    scenario("helm", async |it| {
        it.take_away_operator().await;
        it.bed.forget(HOME).await;
        it.bed.namespace(HOME).await;
        // The tests have applied the definition themselves before.
        let own = ["--take-ownership", "--force-conflicts"];
        put(&it.bed, "install", &it.bed.image, &own);
        it.make(json!({"replicas": 3})).await;
        let (pods, data) = (uids(it).await, volumes(it).await);

        let more = ["--set=logLevel=debug", "--set=replicas=1"];
        put(&it.bed, "upgrade", &it.bed.next, &more);
        let deployments: Api<Deployment> = Api::namespaced(it.bed.kube.clone(), HOME);
        let now = json!(deployments.get(OPERATOR).await.expect("the Deployment"));
        assert_eq!(now["spec"]["replicas"], json!(1));
        assert_eq!(now["spec"]["template"]["spec"]["containers"][0]["image"], json!(it.bed.next));
        is_followed(it, 301).await;
        it.writer().none_failed("helm upgrade").await;

        tokio::task::block_in_place(|| helm(&["uninstall", RELEASE, "--wait", "--timeout=60s"]));
        assert!(deployments.get_opt(OPERATOR).await.expect("an answer").is_none());
        throughout("nothing to go with the release", seconds(5), async || {
            let is = (it.object().await.is_some(), uids(it).await, volumes(it).await);
            if is == (true, pods.clone(), data.clone()) { Ok(()) } else { Err(format!("{is:?}")) }
        })
        .await;
        it.writer().goes_on(50).await;
        it.writer().none_failed("helm uninstall").await;

        put(&it.bed, "install", &it.bed.image, &own[1..]);
        is_followed(it, 302).await;
        assert_eq!((uids(it).await, volumes(it).await), (pods, data), "adopted as it runs");
        it.writer().none_failed("installed again").await;
        helm(&["uninstall", RELEASE, "--wait", "--timeout=60s"]);
    })
    .await;
    clean_up().await;
}

/// A person with every right in two namespaces and none outside of them.
const TENANT: &str = "quorate-e2e-tenant";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_for_some_namespaces_needs_no_right_outside_of_them() {
    if !has_helm().await {
        return;
    }
    let other = "quorate-e2e-helm-other";
    scenario("helm-some", async |it| {
        it.take_away_operator().await;
        for namespace in [HOME, other] {
            it.bed.forget(namespace).await;
            it.bed.namespace(namespace).await;
        }
        for namespace in [HOME, &it.namespace] {
            let binding = json!({
                "metadata": {"name": "tenant", "namespace": namespace},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": "cluster-admin",
                },
                "subjects": [{
                    "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": TENANT,
                }],
            });
            it.bed.apply(binding, "rbac.authorization.k8s.io/v1", "RoleBinding").await;
        }
        let watched = format!("--set=watchNamespaces={{{}}}", it.namespace);
        let person = format!("--kube-as-user={TENANT}");
        let more = [&*watched, "--set=crds.install=false", &person];
        put(&it.bed, "install", &it.bed.image, &more);
        no_cluster_wide_rights(&it.bed).await;

        it.make(json!({"replicas": 3})).await;
        let object =
            json!({"metadata": {"name": "c", "namespace": other}, "spec": {"replicas": 1}});
        it.bed.apply(object, "quorate.dev/v1alpha1", "EtcdCluster").await;
        let member = it.member(&it.follower().await).await;
        let pod = it.pod(&member.name.0).await;
        it.delete_volume(member.volume.as_ref().expect("a volume")).await;
        it.delete_pod(&pod).await;
        it.replaced(&member).await;
        it.writer().none_failed("a replacement with the rights of a few namespaces").await;
        let clusters = it.bed.api("quorate.dev/v1alpha1", "EtcdCluster", Some(other));
        let left = clusters.get("c").await.expect("the cluster of the other namespace");
        assert!(left.data["status"].is_null(), "it is nobody's: {}", left.data);
        assert!(left.finalizers().is_empty(), "it is nobody's");
        let log = log(&it.bed).await;
        assert!(!log.contains("orbidden"), "{log}");
        helm(&["uninstall", RELEASE, "--wait", "--timeout=60s", &person]);
    })
    .await;
    if let Some(bed) = Bed::open().await {
        bed.forget(other).await;
    }
    clean_up().await;
}

/// Nothing cluster-wide is bound to the operator, or was made for it.
async fn no_cluster_wide_rights(bed: &Bed) {
    let bindings: Api<ClusterRoleBinding> = Api::all(bed.kube.clone());
    let bindings = bindings.list(&ListParams::default()).await.expect("bindings").items;
    let subjects = bindings.iter().flat_map(|it| it.subjects.iter().flatten());
    let of_home: Vec<_> = subjects.filter(|it| it.namespace.as_deref() == Some(HOME)).collect();
    assert!(of_home.is_empty(), "{of_home:?}");
    let roles: Api<ClusterRole> = Api::all(bed.kube.clone());
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/instance={RELEASE}"));
    let roles = roles.list(&ours).await.expect("roles").items;
    assert!(roles.is_empty(), "{roles:?}");
}

/// What the release's operators have logged.
async fn log(bed: &Bed) -> String {
    let pods = bed.api("v1", "Pod", Some(HOME));
    let mut text = String::new();
    for pod in pods.list(&ListParams::default()).await.expect("pods").items {
        let url = format!("/api/v1/namespaces/{HOME}/pods");
        let request = Request::new(url).get_subresource("log", &pod.name_any()).expect("a request");
        text += &bed.kube.request_text(request).await.expect("its log");
    }
    assert!(!text.is_empty(), "they log what they do");
    text
}

async fn clean_up() {
    if let Some(bed) = Bed::open().await {
        bed.forget(HOME).await;
        until("the release to be gone", seconds(10), async || {
            let roles: Api<ClusterRole> = Api::all(bed.kube.clone());
            let ours =
                ListParams::default().labels(&format!("app.kubernetes.io/instance={RELEASE}"));
            match roles.list(&ours).await.expect("roles").items.len() {
                0 => Ok(()),
                left => Err(format!("{left} roles are left")),
            }
        })
        .await;
    }
}
