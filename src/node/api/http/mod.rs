//! What is not gRPC on the client port: health, version, metrics, and etcd's v2 member list.

mod health;
mod members;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::json;

use super::metrics::Look;
use super::shared::{Api, CLUSTER_VERSION, STORAGE_VERSION, VERSION};
use crate::node::replica::Replica;

/// Every route.
pub(super) fn routes<R: Replica>(api: Arc<Api<R>>) -> Router {
    looks()
        .route("/version", any(version))
        .route("/v2/members", any(members::members::<R>))
        .route("/v2/members/", any(members::members::<R>))
        .route("/v2/members/{rest}", any(members::member::<R>))
        .route("/v3/{*rest}", any(gateway))
        .with_state(api)
}

/// Those that a port has which is for metrics only.
pub(super) fn metrics_routes<R: Replica>(api: Arc<Api<R>>) -> Router {
    looks().with_state(api)
}

/// What whoever watches over the member asks.
fn looks<R: Replica>() -> Router<Arc<Api<R>>> {
    Router::new()
        .route("/health", any(health::health::<R>))
        .route("/livez", any(health::livez::<R>))
        .route("/livez/{check}", any(health::livez_one::<R>))
        .route("/readyz", any(health::readyz::<R>))
        .route("/readyz/{check}", any(health::readyz_one::<R>))
        .route("/metrics", any(metrics::<R>))
        .fallback(not_found)
}

async fn version(method: Method) -> Response {
    if let Some(refusal) = only(&method, &[Method::GET]) {
        return refusal;
    }
    let version = json!({
        "etcdserver": VERSION,
        "etcdcluster": CLUSTER_VERSION,
        "storage": STORAGE_VERSION,
    });
    json_text(StatusCode::OK, version.to_string())
}

async fn metrics<R: Replica>(State(api): State<Arc<Api<R>>>) -> Response {
    let replica = api.replica();
    let look = replica.read(|state| Look {
        member: Some(replica.member()),
        standing: replica.standing(),
        keys: state.kv.keys(),
        revision: state.revision(),
        compacted: state.kv.compacted(),
        size_in_use: state.kv.bytes(),
        quota: state.quota(),
        disk_size: 0,
    });
    let look = Look { disk_size: replica.disk_size(), ..look };
    match api.metrics().text(&look) {
        Ok(text) => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            error_text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written")
        }
    }
}

/// etcd's JSON form of the v3 API, in which a code of gRPC's stands in the body.
async fn gateway() -> Response {
    let text = "quorate does not serve the JSON gateway yet";
    let body = json!({ "error": text, "code": 12, "message": text });
    json_text(StatusCode::NOT_IMPLEMENTED, body.to_string())
}

async fn not_found() -> Response {
    error_text(StatusCode::NOT_FOUND, "404 page not found")
}

/// The refusal of any other method than these.
fn only(method: &Method, allowed: &[Method]) -> Option<Response> {
    if allowed.contains(method) {
        return None;
    }
    let names = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(",");
    let mut refusal = error_text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    if let Ok(names) = HeaderValue::from_str(&names) {
        refusal.headers_mut().insert(header::ALLOW, names);
    }
    Some(refusal)
}

const NO_SNIFF: (HeaderName, &str) = (header::X_CONTENT_TYPE_OPTIONS, "nosniff");

/// As Go's `http.Error`.
fn error_text(status: StatusCode, text: &str) -> Response {
    let kind = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
    (status, [kind, NO_SNIFF], format!("{text}\n")).into_response()
}

fn json_text(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}
