//! The writer in the cluster, seen from the test.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use serde::Deserialize;
use serde_json::json;

use super::bed::Bed;
use super::wait::{seconds, until};

const NAME: &str = "writer";
const PORT: u16 = 8000;

/// One writer.
pub(crate) struct Writer {
    bed: Bed,
    namespace: String,
}

/// What it tells since it was last told to begin anew.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) acked: usize,
    pub(crate) failed: Vec<String>,
    pub(crate) slowest_ms: u64,
    pub(crate) longest_gap_ms: u64,
    pub(crate) total: usize,
    pub(crate) clusters: Vec<String>,
    /// The member lists it saw, as voters+learners.
    pub(crate) lists: Vec<String>,
    pub(crate) faults: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Verified {
    members: usize,
    promised: usize,
    revision: i64,
    faults: Vec<String>,
}

impl Writer {
    /// Starts a pod that writes to a cluster, and waits for its first acknowledgements.
    pub(crate) async fn start(
        bed: &Bed,
        namespace: &str,
        cluster: &str,
        node: Option<&str>,
    ) -> Writer {
        let mut pod = json!({
            "metadata": {"name": NAME, "namespace": namespace},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": NAME,
                    "image": bed.writer,
                    "imagePullPolicy": "IfNotPresent",
                    "args": [format!("{cluster}-peers.{namespace}.svc"), "2379"],
                    "securityContext": {
                        "allowPrivilegeEscalation": false,
                        "readOnlyRootFilesystem": true,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }],
            },
        });
        if let Some(node) = node {
            pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
        }
        bed.apply(pod, "v1", "Pod").await;
        let writer = Writer { bed: bed.clone(), namespace: namespace.to_owned() };
        until("the writer's first writes", seconds(180), async || {
            let report = writer.ask::<Report>("report").await?;
            if report.acked < 20 { Err(format!("{report:?}")) } else { Ok(()) }
        })
        .await;
        writer.mark().await;
        writer
    }

    async fn ask<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T, String> {
        let text = self.bed.ask(&self.namespace, NAME, PORT, path).await?;
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    }

    /// What happened since the last mark.
    pub(crate) async fn report(&self) -> Report {
        until("the writer's report", seconds(60), async || self.ask("report").await).await.0
    }

    /// Begins a new span.
    pub(crate) async fn mark(&self) {
        until("the writer", seconds(60), async || self.ask::<String>("mark").await).await;
    }

    /// Ends all writing until [`Writer::resume`].
    pub(crate) async fn pause(&self) {
        self.ask::<String>("pause").await.expect("the writer pauses");
    }

    /// Goes on.
    pub(crate) async fn resume(&self) {
        self.ask::<String>("resume").await.expect("the writer goes on");
    }

    /// Waits until the cluster has taken `more` writes from now on.
    pub(crate) async fn goes_on(&self, more: usize) {
        let before = self.report().await.total;
        until("more writes", seconds(30), async || {
            let now = self.ask::<Report>("report").await?.total;
            if now < before + more { Err(format!("{} of {more}", now - before)) } else { Ok(()) }
        })
        .await;
    }

    /// Takes a member off the list by hand.
    pub(crate) async fn remove(&self, id: &str) {
        let removed: Result<(), String> =
            self.ask(&format!("remove/{id}")).await.expect("the writer answers");
        removed.expect("the member is removed");
    }

    /// Tries one request of a size, `put` in bytes or `txn` in operations; what a member refuses
    /// it with is the error.
    pub(crate) async fn try_once(&self, what: &str, size: usize) -> Result<(), String> {
        self.ask(&format!("{what}/{size}")).await.expect("the writer answers")
    }

    /// Panics unless each of so many members holds every acknowledged key, and all hold the same.
    pub(crate) async fn verify(&self, members: usize) {
        let path = format!("verify/{members}");
        let found = until("the writer to compare", seconds(180), async || {
            self.ask::<Verified>(&path).await
        });
        let found = found.await.0;
        assert!(found.faults.is_empty(), "{found:#?}");
        assert_eq!(found.members, members);
        println!(
            "  each of {members} members holds all {} acknowledged keys, at revision {}",
            found.promised, found.revision
        );
    }

    /// Panics if a write has failed since the last mark.
    pub(crate) async fn none_failed(&self, during: &str) {
        let report = self.report().await;
        println!(
            "  {during}: {} writes, {} failed, slowest {} ms, longest pause {} ms",
            report.acked + report.failed.len(),
            report.failed.len(),
            report.slowest_ms,
            report.longest_gap_ms
        );
        assert!(report.failed.is_empty(), "{during}: {:#?}", report.failed);
        assert!(report.acked > 0, "{during}: nothing was written");
        self.mark().await;
    }

    /// What it printed: every acknowledged key.
    pub(crate) async fn log(&self) -> String {
        let pods: Api<Pod> = Api::namespaced(self.bed.kube.clone(), &self.namespace);
        pods.logs(NAME, &LogParams::default()).await.unwrap_or_else(|error| error.to_string())
    }
}
