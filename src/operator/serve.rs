//! The operator's own pages: `/metrics`, `/healthz`, `/readyz`.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use super::metrics::Metrics;

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, metrics: Arc<Metrics>) {
    let text = move || {
        let metrics = Arc::clone(&metrics);
        async move { metrics.text() }
    };
    let pages = Router::new()
        .route("/metrics", get(text))
        // One that waits for the lease is ready too: it takes over at any moment.
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(async || "ok"));
    if let Err(error) = axum::serve(listener, pages).await {
        tracing::error!(%error, "the pages are served no more");
    }
}
