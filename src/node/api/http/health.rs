//! `/health`, `/livez` and `/readyz`.
//!
//! Source: etcd's `api/etcdhttp/health.go`.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::super::shared::Api;
use super::{NO_SNIFF, error_text, json_text, not_found, only};
use crate::node::fault::Fault;
use crate::node::replica::Replica;
use crate::proto::etcdserverpb::{AlarmType, RangeRequest};

/// The query, in which a name may stand more than once.
pub(super) type Asked = Query<Vec<(String, String)>>;

/// One thing to be checked.
#[derive(Clone, Copy, Debug)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

use Check::{DataCorruption, LinearizableRead, NonLearner, SerializableRead};

const LIVEZ: (&str, &[Check]) = ("livez", &[SerializableRead]);
const READYZ: (&str, &[Check]) =
    ("readyz", &[DataCorruption, SerializableRead, LinearizableRead, NonLearner]);

impl Check {
    fn name(self) -> &'static str {
        match self {
            DataCorruption => "data_corruption",
            SerializableRead => "serializable_read",
            LinearizableRead => "linearizable_read",
            NonLearner => "non_learner",
        }
    }

    async fn make<R: Replica>(self, api: &Api<R>) -> Result<(), String> {
        match self {
            DataCorruption => {
                let alarms = api.replica().read(|state| state.alarms(AlarmType::Corrupt));
                if alarms.is_empty() { Ok(()) } else { Err("alarm activated: CORRUPT".to_owned()) }
            }
            SerializableRead => read(api, true).await.map_err(|it| it.to_string()),
            LinearizableRead => read(api, false).await.map_err(|it| it.to_string()),
            NonLearner if api.standing().is_learner => Err("not supported for learner".to_owned()),
            NonLearner => Ok(()),
        }
    }
}

/// Reads one key, whether it is there or not: that costs the same however many there are.
async fn read<R: Replica>(api: &Api<R>, serializable: bool) -> Result<(), Fault> {
    let request = RangeRequest {
        key: bytes::Bytes::from_static(b"\0"),
        keys_only: true,
        serializable,
        ..RangeRequest::default()
    };
    // Unlike a client's, this one is made on a learner too: it asks whether there is a quorum.
    let read = async {
        if !serializable {
            api.barrier().await?;
        }
        api.replica().read(|state| state.range(&request)).map(|_| ())
    };
    let limit = api.options().request_timeout();
    tokio::time::timeout(limit, read).await.unwrap_or(Err(Fault::Timeout))
}

pub(super) async fn health<R: Replica>(
    State(api): State<Arc<Api<R>>>,
    method: Method,
    Query(asked): Asked,
) -> Response {
    if let Some(refusal) = only(&method, &[Method::GET]) {
        return refusal;
    }
    let is_excluded = |name: &str| asked.iter().any(|it| it.0 == "exclude" && it.1 == name);
    let first = asked.iter().find(|it| it.0 == "serializable");
    let serializable = first.is_some_and(|it| it.1 == "true");
    let alarms = api.replica().read(|state| state.alarms(AlarmType::None));
    let alarm = alarms.iter().map(|it| it.alarm().as_str_name()).find(|it| !is_excluded(it));
    let reason = if let Some(alarm) = alarm {
        format!("ALARM {alarm}")
    } else if !serializable && api.standing().leader.is_none() {
        "RAFT NO LEADER".to_owned()
    } else if let Err(fault) = read(&api, serializable).await {
        format!("RANGE ERROR:{fault}")
    } else {
        String::new()
    };
    let is_healthy = reason.is_empty();
    let body = json!({ "health": if is_healthy { "true" } else { "false" }, "reason": reason });
    if is_healthy {
        api.metrics().health_successes.inc();
        return json_text(StatusCode::OK, body.to_string());
    }
    api.metrics().health_failures.inc();
    tracing::warn!(reason, "/health says false");
    error_text(StatusCode::SERVICE_UNAVAILABLE, &body.to_string())
}

pub(super) async fn livez<R: Replica>(
    state: State<Arc<Api<R>>>,
    method: Method,
    asked: Asked,
) -> Response {
    checks(state, method, asked, LIVEZ, None).await
}

pub(super) async fn livez_one<R: Replica>(
    state: State<Arc<Api<R>>>,
    Path(name): Path<String>,
    method: Method,
    asked: Asked,
) -> Response {
    checks(state, method, asked, LIVEZ, Some(name)).await
}

pub(super) async fn readyz<R: Replica>(
    state: State<Arc<Api<R>>>,
    method: Method,
    asked: Asked,
) -> Response {
    checks(state, method, asked, READYZ, None).await
}

pub(super) async fn readyz_one<R: Replica>(
    state: State<Arc<Api<R>>>,
    Path(name): Path<String>,
    method: Method,
    asked: Asked,
) -> Response {
    checks(state, method, asked, READYZ, Some(name)).await
}

/// Makes all checks of a kind that are not excluded, or the one of that name.
async fn checks<R: Replica>(
    State(api): State<Arc<Api<R>>>,
    method: Method,
    Query(asked): Asked,
    (kind, all): (&str, &[Check]),
    one: Option<String>,
) -> Response {
    let is_wanted = |check: &&Check| match &one {
        Some(one) => check.name() == one,
        None => !asked.iter().any(|it| it.0 == "exclude" && it.1 == check.name()),
    };
    let wanted: Vec<Check> = all.iter().filter(is_wanted).copied().collect();
    if one.is_some() && wanted.is_empty() {
        return not_found().await;
    }
    if let Some(refusal) = only(&method, &[Method::GET]) {
        return refusal;
    }
    let (mut said, mut is_well) = (String::new(), true);
    for check in wanted {
        let result = check.make(&api).await;
        api.metrics().checked(kind, check.name(), result.is_ok());
        said.extend(match &result {
            Ok(()) => ["[+]", check.name(), " ok\n", ""],
            Err(why) => ["[-]", check.name(), " failed: ", why],
        });
        said.push_str(if result.is_ok() { "" } else { "\n" });
        is_well &= result.is_ok();
    }
    if !is_well {
        tracing::warn!(kind, checks = said.trim_end(), "a health check failed");
        return error_text(StatusCode::SERVICE_UNAVAILABLE, &said);
    }
    let is_verbose = asked.iter().any(|it| it.0 == "verbose");
    let text = if is_verbose { said + "ok\n" } else { "ok\n".to_owned() };
    let kind = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
    ([kind, NO_SNIFF], text).into_response()
}
