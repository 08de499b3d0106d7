//! Which of several operators acts: the holder of a Lease. It keeps two from getting into each
//! other's way; what keeps them from doing harm is in each write (safety 23).

use std::sync::Arc;

use kube_lease_manager::{LeaseCreateMode, LeaseManagerBuilder};
use tokio::sync::watch;

use super::metrics::Metrics;
use super::{Clients, Lease, OperatorError, Options, controller};

/// Seconds that a Lease lasts unrenewed: so long a cluster goes unattended when its operator dies.
const LASTS: u64 = 15;
/// Seconds before the end in which the holder renews it.
const GRACE: u64 = 5;

/// Waits for the Lease, looks after all clusters while it is held, and gives it back at the end.
pub(super) async fn lead(
    clients: &Clients,
    options: &Options,
    metrics: Arc<Metrics>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), OperatorError> {
    let Some(Lease { namespace, name }) = &options.lease else {
        metrics.leads.set(1);
        controller::run(clients, options, metrics, ended(shutdown)).await;
        return Ok(());
    };
    let manager = LeaseManagerBuilder::new(clients.kube.clone(), name)
        .with_namespace(namespace)
        .with_identity(&options.identity)
        .with_create_mode(LeaseCreateMode::AutoCreate)
        .with_duration(LASTS)
        .with_grace(GRACE)
        .build()
        .await
        .map_err(OperatorError::Lease)?;
    let (mut holds, task) = manager.watch().await;
    loop {
        tokio::select! {
            changed = holds.changed() => if changed.is_err() { break },
            _ = shutdown.wait_for(|asked| *asked) => break,
        }
        if !*holds.borrow_and_update() {
            continue;
        }
        tracing::info!(lease = name, "this operator acts");
        metrics.leads.set(1);
        let mut lost = holds.clone();
        let until = {
            let shutdown = shutdown.clone();
            async move {
                tokio::select! {
                    _ = lost.wait_for(|held| !*held) => {}
                    () = ended(shutdown) => {}
                }
            }
        };
        controller::run(clients, options, Arc::clone(&metrics), until).await;
        metrics.leads.set(0);
        tracing::info!(lease = name, "this operator acts no more");
        if *shutdown.borrow() {
            break;
        }
    }
    // With the channel closed the task gives the Lease back and ends.
    drop(holds);
    match task.await {
        Ok(Ok(_)) | Err(_) => Ok(()),
        Ok(Err(error)) => Err(OperatorError::Lease(error)),
    }
}

async fn ended(mut shutdown: watch::Receiver<bool>) {
    // An error means that nobody can ask any more.
    let _ = shutdown.wait_for(|asked| *asked).await;
}
