//! The Kubernetes that the tests run on, and the commands that come with it.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
};
use kube::core::Request;
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::operator;
use super::wait::{seconds, until};

/// On every namespace that the tests make.
pub(crate) const OURS: &str = "quorate.dev/e2e";
/// Where the operator runs: where it is shipped to.
pub(crate) const SYSTEM: &str = "quorate-system";

/// What the environment gives.
#[derive(Clone)]
pub(crate) struct Bed {
    pub(crate) kube: Client,
    /// The image under test.
    pub(crate) image: String,
    /// The same program under another name, to change to.
    pub(crate) next: String,
    /// The image of which the writer is the entrypoint.
    pub(crate) writer: String,
    testbed: Option<String>,
}

/// Done once in a run.
static PREPARED: OnceCell<()> = OnceCell::const_new();

pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|it| !it.is_empty())
}

impl Bed {
    /// The bed, with the operator on it; `None`, and a word why, where there is none.
    pub(crate) async fn open() -> Option<Bed> {
        let (Some(_), Some(load)) = (variable("KUBECONFIG"), variable("QUORATE_E2E_LOAD")) else {
            println!("SKIPPED: KUBECONFIG and QUORATE_E2E_LOAD name no Kubernetes made for tests");
            return None;
        };
        let bed = Bed::bare().await;
        PREPARED.get_or_init(|| bed.prepare(&load)).await;
        Some(bed)
    }

    /// The bed as it is.
    pub(crate) async fn bare() -> Bed {
        let or = |name: &str, default: &str| variable(name).unwrap_or_else(|| default.to_owned());
        let mut config = Config::infer().await.expect("KUBECONFIG names a cluster");
        // The client would repeat a refused eviction until it is allowed.
        config.default_retry = false;
        Bed {
            kube: Client::try_from(config).expect("KUBECONFIG names a cluster"),
            image: or("QUORATE_E2E_IMAGE", "quorate:dev"),
            next: or("QUORATE_E2E_NEXT", "quorate:next"),
            writer: or("QUORATE_E2E_WRITER", "quorate-e2e-writer:dev"),
            testbed: variable("QUORATE_E2E_TESTBED"),
        }
    }

    async fn prepare(&self, load: &str) {
        for archive in variable("QUORATE_E2E_ARCHIVES").iter().flat_map(|it| it.split(':')) {
            println!("loading {archive}");
            run(load, &[archive]);
        }
        self.sweep().await;
        operator::install(self).await;
    }

    /// Deletes what a run before this one has left.
    async fn sweep(&self) {
        let namespaces: Api<Namespace> = Api::all(self.kube.clone());
        let ours = ListParams::default().labels(OURS);
        let left = namespaces.list(&ours).await.expect("namespaces").items;
        for namespace in left.iter().map(ResourceExt::name_any).filter(|it| it != SYSTEM) {
            println!("deleting {namespace}, left from an earlier run");
            self.forget(&namespace).await;
        }
    }

    /// Makes a namespace that takes restricted pods only.
    pub(crate) async fn namespace(&self, name: &str) {
        let labels = json!({OURS: "true", "pod-security.kubernetes.io/enforce": "restricted"});
        let object = json!({"metadata": {"name": name, "labels": labels}});
        self.apply(object, "v1", "Namespace").await;
    }

    /// Deletes a namespace and all in it, and waits until it is gone.
    pub(crate) async fn forget(&self, name: &str) {
        let namespaces: Api<Namespace> = Api::all(self.kube.clone());
        let found = namespaces.get_opt(name).await.expect("the API server answers");
        if found.is_none() {
            return;
        }
        // An operator may have died in a test: nobody would take its finalizers off.
        let clusters = self.api("quorate.dev/v1alpha1", "EtcdCluster", Some(name));
        for cluster in
            clusters.list(&ListParams::default()).await.map(|it| it.items).unwrap_or_default()
        {
            let free = json!({"metadata": {"finalizers": null}});
            let name = cluster.name_any();
            // Gone already is as good.
            let _ = clusters.delete(&name, &DeleteParams::default()).await;
            let _ = clusters.patch(&name, &PatchParams::default(), &Patch::Merge(free)).await;
        }
        let _ = namespaces.delete(name, &DeleteParams::default()).await;
        until("the namespace to go", seconds(300), async || match namespaces.get_opt(name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{:?}", other.map(|it| it.and_then(|it| it.status)))),
        })
        .await;
    }

    /// An API for objects of this kind.
    pub(crate) fn api(
        &self,
        version: &str,
        kind: &str,
        namespace: Option<&str>,
    ) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match namespace {
            Some(namespace) => Api::namespaced_with(self.kube.clone(), namespace, &resource),
            None => Api::all_with(self.kube.clone(), &resource),
        }
    }

    /// Applies an object, as kubectl would.
    pub(crate) async fn apply(&self, mut object: Value, version: &str, kind: &str) {
        object["apiVersion"] = json!(version);
        object["kind"] = json!(kind);
        let of = |field: &str| object["metadata"][field].as_str().map(ToOwned::to_owned);
        let (name, namespace) = (of("name").expect("a name"), of("namespace"));
        let how = PatchParams::apply("quorate-e2e").force();
        let api = self.api(version, kind, namespace.as_deref());
        if let Err(error) = api.patch(&name, &how, &Patch::Apply(&object)).await {
            panic!("cannot apply {kind} {name}: {error}");
        }
    }

    /// What a pod answers over HTTP, asked through the API server.
    pub(crate) async fn ask(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
        path: &str,
    ) -> Result<String, String> {
        let pods: Api<k8s_openapi::api::core::v1::Pod> =
            Api::namespaced(self.kube.clone(), namespace);
        let request = Request::new(pods.resource_url())
            .get_subresource(&format!("proxy/{path}"), &format!("{pod}:{port}"))
            .map_err(|error| error.to_string())?;
        self.kube.request_text(request).await.map_err(|error| error.to_string())
    }

    /// Whether machines can be broken; where they cannot, says SKIPPED.
    pub(crate) fn breaks_machines(&self) -> bool {
        if self.testbed.is_none() {
            let is_promised = env::var("QUORATE_E2E_TESTBED").is_ok() && env::var("CI").is_ok();
            assert!(!is_promised, "QUORATE_E2E_TESTBED was promised and is empty");
            println!("SKIPPED: QUORATE_E2E_TESTBED names no testbed whose machines can be broken");
        }
        self.testbed.is_some()
    }

    /// Runs the testbed's command.
    pub(crate) fn testbed(&self, arguments: &[&str]) -> String {
        run(self.testbed.as_deref().expect("a testbed"), arguments)
    }

    /// Where a failed scenario leaves what was seen.
    pub(crate) fn out() -> PathBuf {
        variable("QUORATE_E2E_OUT")
            .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("e2e"), PathBuf::from)
    }

    /// Whether failed scenarios are to be left as they are.
    pub(crate) fn keeps() -> bool {
        variable("QUORATE_E2E_KEEP").is_some()
    }
}

/// The image of the upstream etcd that the clusters are to run, if they are.
pub(crate) fn upstream_image() -> Option<String> {
    let is_upstream = variable("QUORATE_E2E_ENGINE").is_some_and(|it| it == "etcd");
    is_upstream.then(|| variable("QUORATE_E2E_ETCD").expect("QUORATE_E2E_ETCD names an image"))
}

/// Runs a command, which may have arguments of its own, to its good end.
fn run(command: &str, arguments: &[&str]) -> String {
    let mut words = command.split_whitespace();
    let program = words.next().expect("a command");
    let done = Command::new(program).args(words).args(arguments).stdin(Stdio::null()).output();
    let done = done.unwrap_or_else(|error| panic!("{command}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{command} {arguments:?}: {}", text(&done.stderr));
    text(&done.stdout)
}
