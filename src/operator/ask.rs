//! What people ask the API server: how clusters are, a member's log, a wish left for the operator.

use futures_util::{AsyncBufReadExt, Stream, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::execute::pods::resource::ClusterObject;
use crate::execute::pods::{CONTAINER, REPLACE};

/// Why the API server was asked in vain.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No API server could be found: set KUBECONFIG.
    #[error("cannot find a Kubernetes API server")]
    NoKubernetes(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It refused, or did not answer.
    #[error("cannot {action}")]
    Api {
        /// What was tried.
        action: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// The log broke off.
    #[error("the log broke off")]
    Log(#[source] std::io::Error),
}

/// The clusters of one namespace, as people ask for them.
pub struct Asker {
    kube: Client,
    namespace: String,
}

impl Asker {
    /// Finds the API server as kubectl does; without a namespace the context's own counts.
    ///
    /// # Errors
    ///
    /// [`AskError::NoKubernetes`].
    pub async fn new(namespace: Option<String>) -> Result<Self, AskError> {
        let config = kube::Config::infer().await;
        let config = config.map_err(|e| AskError::NoKubernetes(Box::new(e)))?;
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let kube = Client::try_from(config).map_err(|e| AskError::NoKubernetes(Box::new(e)))?;
        Ok(Asker { kube, namespace })
    }

    /// The namespace that is asked about.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn clusters(&self) -> Api<ClusterObject> {
        Api::namespaced(self.kube.clone(), &self.namespace)
    }

    /// All clusters.
    ///
    /// # Errors
    ///
    /// [`AskError::Api`].
    pub async fn all(&self) -> Result<Vec<ClusterObject>, AskError> {
        let listed = self.clusters().list(&ListParams::default()).await;
        Ok(listed.map_err(failed("list the clusters"))?.items)
    }

    /// One cluster; `None` if there is none of that name.
    ///
    /// # Errors
    ///
    /// [`AskError::Api`].
    pub async fn one(&self, name: &str) -> Result<Option<ClusterObject>, AskError> {
        self.clusters().get_opt(name).await.map_err(failed("read the cluster"))
    }

    /// Leaves the wish that the member of `node` be replaced.
    ///
    /// # Errors
    ///
    /// [`AskError::Api`].
    pub async fn replace(&self, cluster: &str, node: &str) -> Result<(), AskError> {
        let wish = json!({"metadata": {"annotations": {REPLACE: node}}});
        let left =
            self.clusters().patch(cluster, &PatchParams::default(), &Patch::Merge(wish)).await;
        left.map(drop).map_err(failed("leave the wish on the cluster"))
    }

    /// The log of a pod's member, line by line.
    ///
    /// # Errors
    ///
    /// [`AskError::Api`]; each line may fail as [`AskError::Log`].
    pub async fn log(
        &self,
        pod: &str,
        follow: bool,
        previous: bool,
        tail: Option<i64>,
    ) -> Result<impl Stream<Item = Result<String, AskError>>, AskError> {
        let pods: Api<Pod> = Api::namespaced(self.kube.clone(), &self.namespace);
        let params = LogParams {
            container: Some(CONTAINER.to_owned()),
            follow,
            previous,
            tail_lines: tail,
            ..LogParams::default()
        };
        let stream = pods.log_stream(pod, &params).await;
        let stream = stream.map_err(failed("read the pod's log"))?;
        Ok(stream.lines().map(|line| line.map_err(AskError::Log)))
    }
}

fn failed(action: &str) -> impl FnOnce(kube::Error) -> AskError {
    let action = action.to_owned();
    move |source| AskError::Api { action, source: Box::new(source) }
}
