//! Stands between an operator and the API server, and is as bad as a busy one can be: it refuses,
//! conflicts, fails, keeps silent, and now and then carries something out and loses the answer.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::time::sleep;

/// Every answer takes this much longer.
const SLOW: Duration = Duration::from_millis(30);
/// How long a silence lasts.
const SILENCE: Duration = Duration::from_secs(8);
/// More than any object of a test.
const LARGEST: usize = 8 << 20;

struct Faults {
    kube: kube::Client,
    count: AtomicU64,
}

/// Serves on this address until it cannot, with the pod's own account.
pub(crate) async fn serve(address: &str) -> ExitCode {
    let kube = match kube::Client::try_default().await {
        Ok(kube) => kube,
        Err(error) => {
            eprintln!("no API server: {error}");
            return ExitCode::FAILURE;
        }
    };
    let faults = Arc::new(Faults { kube, count: AtomicU64::new(0) });
    let router = axum::Router::new().fallback(pass).with_state(faults);
    let served = match tokio::net::TcpListener::bind(address).await {
        Ok(listener) => axum::serve(listener, router).await,
        Err(error) => Err(error),
    };
    eprintln!("cannot serve: {served:?}");
    ExitCode::FAILURE
}

async fn pass(State(faults): State<Arc<Faults>>, request: Request) -> Response {
    let writes = request.method() != Method::GET;
    let what = format!("{} {}", request.method(), request.uri());
    // The same faults in each run, four of sixteen calls meet one.
    let drawn = scattered(faults.count.fetch_add(1, Ordering::Relaxed)) >> 60;
    sleep(SLOW).await;
    match drawn {
        0 if writes => return refuse(&what, StatusCode::CONFLICT, "Conflict"),
        1 => return refuse(&what, StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
        2 => return refuse(&what, StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        3 if writes => {
            // Done, and nobody is told.
            forward(&faults.kube, request).await;
            return refuse(&what, StatusCode::INTERNAL_SERVER_ERROR, "InternalError");
        }
        4 if writes => {
            sleep(SILENCE).await;
            return refuse(&what, StatusCode::GATEWAY_TIMEOUT, "Timeout");
        }
        _ => {}
    }
    forward(&faults.kube, request).await
}

/// A number that looks drawn (splitmix64). One that is only spread evenly would leave no run of calls
/// as long as a step takes without a fault.
fn scattered(count: u64) -> u64 {
    let mut z = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

async fn forward(kube: &kube::Client, request: Request) -> Response {
    let what = format!("{} {}", request.method(), request.uri());
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST).await else {
        return refuse(&what, StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge");
    };
    let mut request = Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    // Its own connection has another name and another account.
    request.headers_mut().remove("host");
    request.headers_mut().remove("authorization");
    match kube.send(request).await {
        Ok(answer) => answer.map(Body::new),
        Err(error) => {
            eprintln!("{what}: {error}");
            refuse(&what, StatusCode::BAD_GATEWAY, "InternalError")
        }
    }
}

fn refuse(what: &str, code: StatusCode, reason: &str) -> Response {
    println!("{what}: {code}");
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": "a fault of the test",
        "code": code.as_u16(),
    });
    (code, [("content-type", "application/json")], status.to_string()).into_response()
}
