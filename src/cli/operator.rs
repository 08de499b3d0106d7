//! `quorate operator`

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{BadInput, logging};
use crate::node::embedded::Log;
use crate::operator::{Lease, Options, run as run_operator};

/// Look after the `EtcdCluster` resources of a Kubernetes cluster
///
/// Runs each cluster's members as pods, repairs what breaks in the safe order, and says in the
/// resource's status and in events what it does and why. Finds the API server as kubectl does
/// (KUBECONFIG), or by its service account when it runs in a pod. Of several operators with one
/// lease, one acts.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(crate) struct Args {
    /// Look after the clusters of this namespace only; may be given several times [default: all]
    #[arg(long, value_name = "NS")]
    namespace: Vec<String>,
    /// The image that members run where their spec names none
    #[arg(long, value_name = "IMAGE", env = "QUORATE_NODE_IMAGE")]
    node_image: String,
    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:8080")]
    metrics_listen: SocketAddr,
    /// The Lease of which only the holder acts
    #[arg(long, value_name = "NAME", default_value = "quorate-operator")]
    lease_name: String,
    /// The namespace of that Lease
    #[arg(long, value_name = "NS", env = "POD_NAMESPACE")]
    lease_namespace: Option<String>,
    /// Act without a Lease: nobody else may run
    #[arg(long)]
    no_lease: bool,
    /// Who this is, in the Lease and in events
    #[arg(long, value_name = "NAME", env = "POD_NAME", hide = true)]
    identity: Option<String>,
    /// How the log is written
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"], default_value = "text")]
    log_format: String,
}

const AFTER: &str = "\
Environment:
  QUORATE_LOG    what is logged: debug, or info,kube=debug

Examples:
  quorate crd | kubectl apply --server-side -f -
  quorate operator --node-image quorate:0.1.0 --no-lease     outside of a pod, for a try
  helm install quorate charts/quorate -n quorate-system --create-namespace";

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let lease = match (args.no_lease, args.lease_namespace) {
        (true, _) => None,
        (false, Some(namespace)) => Some(Lease { namespace, name: args.lease_name }),
        (false, None) => {
            let what = "--lease-namespace is not given and POD_NAMESPACE is not set: name the \
                        namespace of the Lease, or say --no-lease";
            return Err(BadInput(what.to_owned()).into());
        }
    };
    logging::begin(Log { json: args.log_format == "json", ..Log::default() });
    let identity =
        args.identity.unwrap_or_else(|| format!("quorate-operator-{}", std::process::id()));
    let options = Options {
        namespaces: args.namespace,
        node_image: args.node_image,
        listen: args.metrics_listen,
        lease,
        identity,
    };
    // It waits for answers nearly all the time, and waking another thread for each costs more than
    // what there is to do with it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start")?;
    runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("the operator ends once its turns have ended");
            // Nobody to tell means that it has ended already.
            let _ = stop.send(true);
        });
        run_operator(options, stopped).await?;
        Ok(ExitCode::SUCCESS)
    })
}
