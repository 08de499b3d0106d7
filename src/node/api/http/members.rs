//! `/v2/members`: the member list as etcd's API of version 2 has it, for etcdctl with
//! `ETCDCTL_API=2`. Nothing else of that API is served.
//!
//! Source: etcd 3.4's `api/v2http/client.go`.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::shared::Api;
use super::super::urls::peer_urls;
use super::{error_text, json_text, only};
use crate::cluster::MemberId;
use crate::node::fault::Fault;
use crate::node::replica::Replica;
use crate::proto::etcdserverpb::Member;

/// Enough for any list of URLs.
const MAX_BODY: usize = 64 << 10;
/// A client that has sent no body by then sends none.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");

/// One member; the order of the fields is etcd's.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    name: String,
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(rename = "clientURLs")]
    client_urls: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Wanted {
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
}

impl From<Member> for Shown {
    fn from(member: Member) -> Shown {
        let mut client_urls = member.client_urls;
        client_urls.sort();
        let id = MemberId(member.id).to_string();
        Shown { id, name: member.name, peer_urls: member.peer_urls, client_urls }
    }
}

/// Without a name: the list, or a new member.
pub(super) async fn members<R: Replica>(
    State(api): State<Arc<Api<R>>>,
    method: Method,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let response = match method {
        Method::GET => list(&api),
        Method::POST => add(&api, &headers, body).await.unwrap_or_else(IntoResponse::into_response),
        // A change names its member.
        Method::PUT | Method::DELETE => {
            error_text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
        }
        _ => other_method(&method),
    };
    of_cluster(&api, response)
}

/// With one.
pub(super) async fn member<R: Replica>(
    State(api): State<Arc<Api<R>>>,
    Path(name): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let response = match method {
        Method::GET if name == "leader" => leader(&api),
        Method::GET => refuse(StatusCode::NOT_FOUND, "Not found").into_response(),
        Method::PUT => {
            update(&api, &name, &headers, body).await.unwrap_or_else(IntoResponse::into_response)
        }
        Method::DELETE => remove(&api, &name).await.unwrap_or_else(IntoResponse::into_response),
        // etcd does not look at the rest of the path here.
        Method::POST => add(&api, &headers, body).await.unwrap_or_else(IntoResponse::into_response),
        _ => other_method(&method),
    };
    of_cluster(&api, response)
}

fn other_method(method: &Method) -> Response {
    let allowed = [Method::GET, Method::POST, Method::DELETE, Method::PUT];
    only(method, &allowed).unwrap_or_default()
}

fn list<R: Replica>(api: &Api<R>) -> Response {
    let members: Vec<Shown> = api.replica().members().into_iter().map(Shown::from).collect();
    json_text(StatusCode::OK, format!("{}\n", json_of(&Members { members })))
}

#[derive(Serialize)]
struct Members {
    members: Vec<Shown>,
}

fn leader<R: Replica>(api: &Api<R>) -> Response {
    let leader = api.standing().leader;
    let mut members = api.replica().members().into_iter();
    match members.find(|it| Some(MemberId(it.id)) == leader) {
        Some(leader) => json_text(StatusCode::OK, format!("{}\n", json_of(&Shown::from(leader)))),
        None => refuse(StatusCode::SERVICE_UNAVAILABLE, "During election").into_response(),
    }
}

async fn add<R: Replica>(
    api: &Arc<Api<R>>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let urls = wanted(headers, body).await?;
    let added = within(api, api.replica().add_member(urls, false)).await;
    let (member, _) = added.map_err(|fault| match fault {
        Fault::MemberExists => refuse(StatusCode::CONFLICT, "membership: ID exists"),
        Fault::PeerUrlExists => refuse(StatusCode::CONFLICT, "membership: peerURL exists"),
        fault => failed("added", fault),
    })?;
    Ok(json_text(StatusCode::CREATED, json_of(&Shown::from(member))))
}

async fn update<R: Replica>(
    api: &Arc<Api<R>>,
    name: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let id = id(name)?;
    let urls = wanted(headers, body).await?;
    within(api, api.replica().update_member(id, urls)).await.map_err(|fault| match fault {
        Fault::PeerUrlExists => refuse(StatusCode::CONFLICT, "membership: peerURL exists"),
        Fault::MemberNotFound => no_such(name),
        fault => failed("updated", fault),
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn remove<R: Replica>(api: &Arc<Api<R>>, name: &str) -> Result<Response, Refusal> {
    let id = id(name)?;
    within(api, api.replica().remove_member(id)).await.map_err(|fault| match fault {
        Fault::MemberNotFound if api.replica().read(|state| state.is_removed(id)) => {
            refuse(StatusCode::GONE, &format!("Member permanently removed: {name}"))
        }
        Fault::MemberNotFound => no_such(name),
        fault => failed("removed", fault),
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Does a change, within the time of a request.
async fn within<R: Replica, T>(
    api: &Api<R>,
    change: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let limit = api.options().request_timeout();
    tokio::time::timeout(limit, change).await.unwrap_or(Err(Fault::Timeout))
}

/// The peer URLs that the body asks for.
async fn wanted(headers: &HeaderMap, body: Body) -> Result<Vec<String>, Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |it| it.as_bytes());
    if kind != b"application/json" {
        let kind = String::from_utf8_lossy(kind);
        let text = format!("Bad Content-Type {kind}, accept application/json");
        return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, &text));
    }
    let bad = |text: &str| refuse(StatusCode::BAD_REQUEST, text);
    let body = match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return Err(bad(&error.to_string())),
        Err(_) => return Err(refuse(StatusCode::REQUEST_TIMEOUT, "the body did not come")),
    };
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|it| bad(&it.to_string()))?;
    peer_urls(&wanted.peer_urls).map_err(|it| bad(&it))
}

fn id(name: &str) -> Result<MemberId, Refusal> {
    name.parse().map_err(|_| no_such(name))
}

fn no_such(name: &str) -> Refusal {
    refuse(StatusCode::NOT_FOUND, &format!("No such member: {name}"))
}

/// etcd tells the client nothing more.
fn failed(what: &str, fault: Fault) -> Refusal {
    tracing::warn!(%fault, "a member could not be {what}");
    refuse(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
}

/// A refusal in the form of that API.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    message: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        json_text(self.status, json!({ "message": self.message }).to_string())
    }
}

fn refuse(status: StatusCode, message: &str) -> Refusal {
    Refusal { status, message: message.to_owned() }
}

fn json_of(it: &impl Serialize) -> String {
    // Strings and lists of them can always be written.
    serde_json::to_string(it).unwrap_or_default()
}

/// Every answer says whose it is.
fn of_cluster<R: Replica>(api: &Api<R>, mut response: Response) -> Response {
    if let Ok(id) = HeaderValue::from_str(&api.replica().cluster().to_string()) {
        response.headers_mut().insert(CLUSTER_ID, id);
    }
    response
}
