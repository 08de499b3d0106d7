//! The Kubernetes operator: for each `EtcdCluster`, observe, plan, one step, again and again.
//!
//! The planner is the one of `quorate up`; what runs the nodes is `crate::execute::pods`. Here
//! is what stands around them: watching for changes, who of several operators acts, telling people.

pub mod ask;
mod controller;
pub mod crd;
mod events;
mod lead;
mod metrics;
mod serve;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use metrics::Metrics;

/// What the operator is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The namespaces whose clusters it looks after; all if empty.
    pub namespaces: Vec<String>,
    /// The image that members run where their spec names none.
    pub node_image: String,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub listen: SocketAddr,
    /// The Lease of which only the holder acts; `None` to act at once.
    pub lease: Option<Lease>,
    /// Who this is: the pod's name.
    pub identity: String,
}

/// How long the API server may take to answer a call of a turn.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// How the API server is asked.
#[derive(Clone)]
struct Clients {
    /// Calls, which have a limit of time.
    kube: kube::Client,
    /// Watches, which have none of that kind.
    watches: kube::Client,
}

/// Where the Lease is.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No API server could be found or reached: set KUBECONFIG, or run it in a pod.
    #[error("cannot reach a Kubernetes API server")]
    NoKubernetes(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The address for metrics and health is taken.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's own error.
        source: std::io::Error,
    },
    /// The Lease could not be had or kept. Another operator goes on, or this one when it is
    /// started again.
    #[error("the lease cannot be kept")]
    Lease(#[source] kube_lease_manager::LeaseManagerError),
    /// Metrics could not be set up: a fault of this program.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] prometheus::Error),
}

/// Runs until `shutdown` says so, and then gives the lease back.
///
/// # Errors
///
/// [`OperatorError`]. What was under way is taken up again by whoever runs next.
pub async fn run(
    options: Options,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), OperatorError> {
    let none = |error| OperatorError::NoKubernetes(error);
    let config = kube::Config::infer().await.map_err(|e| none(Box::new(e)))?;
    // A watch waits for minutes; a call of a turn that hangs holds up its cluster.
    let mut calls = config.clone();
    calls.read_timeout = Some(CALL_LIMIT);
    // A refusal (an eviction that the budget forbids) is looked at anew, not repeated as it was.
    calls.default_retry = false;
    let watches = kube::Client::try_from(config).map_err(|e| none(Box::new(e)))?;
    let kube = kube::Client::try_from(calls).map_err(|e| none(Box::new(e)))?;
    let clients = Clients { kube, watches };
    let metrics = Arc::new(Metrics::new()?);
    let listener = tokio::net::TcpListener::bind(options.listen)
        .await
        .map_err(|source| OperatorError::Listen { address: options.listen, source })?;
    tracing::info!(listen = %options.listen, identity = options.identity, "the operator runs");
    let served = tokio::spawn(serve::serve(listener, Arc::clone(&metrics)));
    let result = tokio::select! {
        result = lead::lead(&clients, &options, Arc::clone(&metrics), shutdown.clone()) => result,
        () = told(&mut shutdown) => Ok(()),
    };
    served.abort();
    result
}

/// Returns a while after the end was asked for: what leads gets that long to end by itself.
async fn told(shutdown: &mut watch::Receiver<bool>) {
    // An error means that nobody can ask any more.
    let _ = shutdown.wait_for(|asked| *asked).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
}
