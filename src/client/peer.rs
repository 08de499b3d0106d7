//! Asks a member's peer port over plain HTTP/1: what a joining node, which knows only peer URLs,
//! has to start from.
//!
//! Nothing here is vouched for by a quorum (safety 5): a lone or removed member answers too.

use std::error::Error as StdError;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, IF_NONE_MATCH};
use hyper::http::HeaderName;
use hyper::{HeaderMap, Request, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::ClientError;
use crate::cluster::{ClusterId, Member, MemberId, Role};

/// The largest body that is read; a longer one is a [`ClientError::BadAnswer`].
pub const MAX_BODY: usize = 1 << 20;

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// A member's local list, as its peer port tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMembers {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Its member list, sorted by ID.
    pub members: Vec<Member>,
}

/// An engine's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The engine's own, such as `3.4.23`.
    pub server: String,
    /// The level its cluster agreed on, such as `3.4.0`; `None` while not agreed.
    pub cluster: Option<String>,
}

/// Any answer, whatever its status.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
}

/// A member as etcd's peer port writes it; empty fields are left out or null.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMember {
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "peerURLs")]
    peer_urls: Option<Vec<String>>,
    #[serde(default, rename = "clientURLs")]
    client_urls: Option<Vec<String>>,
    #[serde(default)]
    is_learner: bool,
}

#[derive(Deserialize)]
struct WireVersion {
    etcdserver: String,
    #[serde(default)]
    etcdcluster: String,
}

/// Reads `/members` of a member's peer URL.
///
/// # Errors
///
/// [`ClientError::Unreachable`], [`ClientError::Timeout`], or [`ClientError::BadAnswer`] when
/// something other than an etcd member listens there.
pub async fn members(peer_url: &str, timeout: Duration) -> Result<PeerMembers, ClientError> {
    let call = Call::new("members by the peer port", under(peer_url, "members"));
    let answer = call.run(timeout).await?;
    let members: Vec<WireMember> = call.json(&answer)?;
    let cluster = call.cluster(&answer)?;
    let mut members: Vec<_> = members.into_iter().map(Member::from).collect();
    members.sort_unstable_by_key(|it| it.id);
    Ok(PeerMembers { cluster, members })
}

/// The cluster that answers at a peer URL. An upstream etcd that was started again before it had ever
/// heard from a quorum knows that much, and no list: its `/members` is `null`.
///
/// # Errors
///
/// As [`members`].
pub async fn cluster(peer_url: &str, timeout: Duration) -> Result<ClusterId, ClientError> {
    let call = Call::new("members by the peer port", under(peer_url, "members"));
    call.cluster(&call.run(timeout).await?)
}

/// Reads `/version` of a member's peer URL.
///
/// # Errors
///
/// As [`members`].
pub async fn version(peer_url: &str, timeout: Duration) -> Result<Version, ClientError> {
    let call = Call::new("version by the peer port", under(peer_url, "version"));
    let version: WireVersion = call.json(&call.run(timeout).await?)?;
    let agreed = !matches!(version.etcdcluster.as_str(), "" | "not_decided");
    Ok(Version { server: version.etcdserver, cluster: agreed.then_some(version.etcdcluster) })
}

/// Whether an upstream etcd serves there: it answers `/raft/probing` (etcd's `rafthttp`), which the
/// embedded engine does not have.
///
/// # Errors
///
/// As [`members`].
pub async fn is_upstream(peer_url: &str, timeout: Duration) -> Result<bool, ClientError> {
    let call = Call::new("raft's probe by the peer port", under(peer_url, "raft/probing"));
    match call.run(timeout).await?.status {
        200 => Ok(true),
        404 => Ok(false),
        status => Err(call.bad(&format!("the answer has status {status}"))),
    }
}

/// Gets any `http://` URL on a connection of its own; redirects are not followed.
///
/// # Errors
///
/// [`ClientError::Unreachable`] when nothing was sent, [`ClientError::Timeout`] and
/// [`ClientError::Interrupted`], and [`ClientError::BadAnswer`] for what is not HTTP/1 or has
/// more than [`MAX_BODY`] bytes.
pub async fn get(url: &str, timeout: Duration) -> Result<HttpAnswer, ClientError> {
    Call::new("GET", url.to_owned()).run(timeout).await
}

/// The same of a page that has an `ETag`, once it is another than `known`: `None` if it still is
/// that one after `wait` (RFC 7240 §4.3).
///
/// # Errors
///
/// As [`get`].
pub async fn news(
    url: &str,
    known: &str,
    wait: Duration,
    timeout: Duration,
) -> Result<Option<HttpAnswer>, ClientError> {
    let headers = [(IF_NONE_MATCH, known.to_owned()), (PREFER, format!("wait={}", wait.as_secs()))];
    let call = Call { headers: headers.to_vec(), ..Call::new("GET what is new", url.to_owned()) };
    let answer = call.run(wait + timeout).await?;
    Ok((answer.status != 304).then_some(answer))
}

fn under(peer_url: &str, path: &str) -> String {
    format!("{}/{path}", peer_url.trim_end_matches('/'))
}

/// One GET, and what its errors say was tried.
struct Call {
    what: &'static str,
    url: String,
    headers: Vec<(HeaderName, String)>,
}

impl Call {
    fn new(what: &'static str, url: String) -> Call {
        Call { what, url, headers: Vec::new() }
    }

    async fn run(&self, timeout: Duration) -> Result<HttpAnswer, ClientError> {
        tokio::time::timeout(timeout, self.exchange()).await.unwrap_or_else(|_| {
            Err(ClientError::Timeout {
                call: self.what,
                endpoint: self.url.clone(),
                after: timeout,
            })
        })
    }

    async fn exchange(&self) -> Result<HttpAnswer, ClientError> {
        let uri: Uri = self.url.parse().map_err(|error| self.unreachable(error))?;
        let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(self.unreachable("not an http:// URL"));
        };
        let host = authority.host().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80)))
            .await
            .map_err(|error| self.unreachable(error))?;
        let path = uri.path_and_query().map_or("/", |it| it.as_str());
        let request =
            Request::get(path).header(HOST, authority.as_str()).header(CONNECTION, "close");
        let request = self
            .headers
            .iter()
            .fold(request, |request, (name, value)| request.header(name, value))
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.unreachable(error))?;

        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.interrupted(error))?;
        let answer = async {
            let response =
                sender.send_request(request).await.map_err(|error| self.interrupted(error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    self.bad(&format!("the answer is larger than {MAX_BODY} bytes"))
                } else {
                    self.broken(error)
                }
            })?;
            let (status, headers) = (head.status.as_u16(), head.headers);
            Ok(HttpAnswer { status, headers, body: body.to_bytes() })
        };
        // The connection is driven here and not by a task, so that it cannot outlive the call.
        // It may end before the answer is taken from it.
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }

    /// Which cluster an answer is of.
    fn cluster(&self, answer: &HttpAnswer) -> Result<ClusterId, ClientError> {
        let named = answer.headers.get("x-etcd-cluster-id").filter(|_| answer.status == 200);
        named
            .and_then(|it| it.to_str().ok()?.parse().ok())
            .ok_or_else(|| self.bad("the answer names no cluster"))
    }

    fn json<T: DeserializeOwned>(&self, answer: &HttpAnswer) -> Result<T, ClientError> {
        if answer.status != 200 {
            return Err(self.bad(&format!("HTTP status {}", answer.status)));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| self.bad(&format!("not an etcd member's answer: {error}")))
    }

    fn unreachable(&self, error: impl Into<Box<dyn StdError + Send + Sync>>) -> ClientError {
        let (call, endpoint) = (self.what, self.url.clone());
        ClientError::Unreachable { call, endpoint, source: error.into() }
    }

    fn interrupted(&self, error: hyper::Error) -> ClientError {
        if error.is_parse() { self.bad("not HTTP/1") } else { self.broken(error.into()) }
    }

    fn broken(&self, source: Box<dyn StdError + Send + Sync>) -> ClientError {
        ClientError::Interrupted { call: self.what, endpoint: self.url.clone(), source }
    }

    fn bad(&self, what: &str) -> ClientError {
        let (call, endpoint) = (self.what, self.url.clone());
        ClientError::BadAnswer { call, endpoint, what: what.to_owned() }
    }
}

impl From<WireMember> for Member {
    fn from(it: WireMember) -> Member {
        Member {
            id: MemberId(it.id),
            name: it.name,
            peer_urls: it.peer_urls.unwrap_or_default(),
            client_urls: it.client_urls.unwrap_or_default(),
            role: if it.is_learner { Role::Learner } else { Role::Voter },
        }
    }
}
