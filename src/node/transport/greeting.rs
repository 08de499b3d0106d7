//! How two members greet: an HTTP/1 upgrade whose headers say who asks whom, and typed refusals.
//!
//! The names of the headers are etcd's where etcd has them (its `rafthttp/http.go`). Both sides
//! check: the one that was called refuses, the one that called mistrusts.

use std::time::Duration;

use hyper::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::Lane;
use crate::cluster::{ClusterId, Incarnation, MemberId};

/// Where the upgrade is asked for.
pub const PATH: &str = "/quorate/raft";
/// The protocol, and its version after the slash.
pub const PROTOCOL: &str = "quorate-raft/1";
/// The cluster of whoever sends; on every answer of a peer port, as etcd's has it.
pub const CLUSTER: HeaderName = HeaderName::from_static("x-etcd-cluster-id");

const FROM: HeaderName = HeaderName::from_static("x-server-from");
const TO: HeaderName = HeaderName::from_static("x-raft-to");
const INCARNATION: HeaderName = HeaderName::from_static("x-quorate-incarnation");
const LANE: HeaderName = HeaderName::from_static("x-quorate-lane");
const SILENCE: HeaderName = HeaderName::from_static("x-quorate-silence-ms");

/// At most this much of a refusal's sentence is kept.
const DETAIL: usize = 1024;

/// Who somebody on the peer network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// The member it is.
    pub member: MemberId,
    /// Which making of that member's data it runs on.
    pub incarnation: Incarnation,
}

impl Identity {
    fn write(&self, headers: &mut HeaderMap) {
        headers.insert(CLUSTER, text(self.cluster));
        headers.insert(FROM, text(self.member));
        headers.insert(INCARNATION, text(self.incarnation));
    }

    fn read(headers: &HeaderMap) -> Result<Identity, String> {
        Ok(Identity {
            cluster: field(headers, &CLUSTER)?,
            member: field(headers, &FROM)?,
            incarnation: field(headers, &INCARNATION)?,
        })
    }
}

/// What a member says when it asks for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who asks.
    pub from: Identity,
    /// Whom it believes to speak to.
    pub to: MemberId,
    /// What for.
    pub lane: Lane,
    /// It pings at least four times in this span: after so much silence it is gone.
    pub silence: Duration,
}

/// Why a member does not speak to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefusalKind {
    /// The two belong to different clusters.
    ClusterIdMismatch,
    /// The member that asks was removed from the cluster.
    Removed,
    /// The member that asks is known to run on other data than it has.
    WrongIncarnation,
    /// Another member than the one that was asked for listens there.
    WrongTarget,
    /// The two speak different versions of the protocol.
    Version,
    /// The greeting cannot be read.
    Malformed,
    /// Not now: starting, stopping, or too many connections. Ask again.
    NotReady,
}

impl RefusalKind {
    /// The HTTP status it is answered with.
    pub fn status(self) -> StatusCode {
        match self {
            RefusalKind::ClusterIdMismatch => StatusCode::PRECONDITION_FAILED,
            RefusalKind::Removed => StatusCode::GONE,
            RefusalKind::WrongIncarnation => StatusCode::CONFLICT,
            RefusalKind::WrongTarget => StatusCode::MISDIRECTED_REQUEST,
            RefusalKind::Version => StatusCode::UPGRADE_REQUIRED,
            RefusalKind::Malformed => StatusCode::BAD_REQUEST,
            RefusalKind::NotReady => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// A typed no, as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// The reason.
    pub kind: RefusalKind,
    /// One sentence.
    pub detail: String,
}

impl Refusal {
    /// A refusal with its sentence.
    pub fn new(kind: RefusalKind, detail: impl Into<String>) -> Refusal {
        let mut detail = detail.into();
        // What came over the wire may be of any length.
        detail.truncate(detail.floor_char_boundary(DETAIL));
        Refusal { kind, detail }
    }

    /// As its JSON form.
    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From its JSON form.
    pub(super) fn from_json(bytes: &[u8]) -> Option<Refusal> {
        let Refusal { kind, detail } = serde_json::from_slice(bytes).ok()?;
        Some(Refusal::new(kind, detail))
    }
}

impl Hello {
    /// The headers of the request.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
        self.from.write(&mut headers);
        headers.insert(TO, text(self.to));
        headers.insert(LANE, HeaderValue::from_static(self.lane.name()));
        headers.insert(SILENCE, text(self.silence.as_millis()));
        headers
    }

    /// Reads the headers of a request.
    ///
    /// # Errors
    ///
    /// [`RefusalKind::Version`] or [`RefusalKind::Malformed`].
    pub fn read(method: &Method, headers: &HeaderMap) -> Result<Hello, Refusal> {
        let malformed = |what: String| Refusal::new(RefusalKind::Malformed, what);
        if method != Method::GET || !is_upgrade(headers) {
            return Err(malformed(format!("{PATH} is for `Upgrade: {PROTOCOL}` only")));
        }
        let spoken = headers.get(UPGRADE).and_then(|it| it.to_str().ok()).unwrap_or_default();
        if !spoken.split(',').any(|it| it.trim() == PROTOCOL) {
            let what = format!("this member speaks {PROTOCOL}, the one that asks {spoken:?}");
            return Err(Refusal::new(RefusalKind::Version, what));
        }
        let lane: String = field(headers, &LANE).map_err(malformed)?;
        let silence = field(headers, &SILENCE).map_err(malformed)?;
        Ok(Hello {
            from: Identity::read(headers).map_err(malformed)?,
            to: field(headers, &TO).map_err(malformed)?,
            lane: Lane::new(&lane).ok_or_else(|| malformed(format!("no lane {lane:?}")))?,
            silence: Duration::from_millis(silence),
        })
    }

    /// What needs no look at the cluster's state: that it is the same cluster, and that the member
    /// it wants is this one.
    ///
    /// # Errors
    ///
    /// [`RefusalKind::ClusterIdMismatch`] or [`RefusalKind::WrongTarget`].
    pub fn check(&self, own: &Identity) -> Result<(), Refusal> {
        if self.from.cluster != own.cluster {
            return Err(Refusal::new(
                RefusalKind::ClusterIdMismatch,
                format!(
                    "member {} belongs to cluster {}, member {} to cluster {}",
                    self.from.member, self.from.cluster, own.member, own.cluster
                ),
            ));
        }
        let what = if self.to != own.member {
            format!("this is member {}, not {}", own.member, self.to)
        } else if self.from.member == own.member {
            format!("two call themselves member {}", own.member)
        } else {
            return Ok(());
        };
        Err(Refusal::new(RefusalKind::WrongTarget, what))
    }
}

/// The headers of an answer that accepts (`101`) or refuses.
pub(super) fn answer_headers(own: &Identity, is_accepted: bool) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if is_accepted {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    own.write(&mut headers);
    headers
}

/// What every other answer of a peer port says.
pub(super) fn cluster_header(own: &Identity) -> HeaderMap {
    HeaderMap::from_iter([(CLUSTER, text(own.cluster))])
}

/// What the one that called makes of an answer's headers: whom it has reached.
///
/// # Errors
///
/// What is wrong with it, for the caller to mistrust: another cluster, another member, other data
/// than `known`, or nothing of the kind.
pub(super) fn meet(
    hello: &Hello,
    known: Option<Incarnation>,
    headers: &HeaderMap,
) -> Result<Identity, Refusal> {
    let met = Identity::read(headers).map_err(|it| Refusal::new(RefusalKind::Malformed, it))?;
    if met.cluster != hello.from.cluster {
        return Err(Refusal::new(
            RefusalKind::ClusterIdMismatch,
            format!("it belongs to cluster {}, this member to {}", met.cluster, hello.from.cluster),
        ));
    }
    if met.member != hello.to {
        return Err(Refusal::new(
            RefusalKind::WrongTarget,
            format!("it is member {}, not {}", met.member, hello.to),
        ));
    }
    match known {
        Some(known) if known != met.incarnation => Err(Refusal::new(
            RefusalKind::WrongIncarnation,
            format!("member {} runs on data {}, not {known}", met.member, met.incarnation),
        )),
        _ => Ok(met),
    }
}

/// Whose answer it is, if it is one of this cluster.
pub(super) fn of_cluster(cluster: ClusterId, headers: &HeaderMap) -> Option<Identity> {
    Identity::read(headers).ok().filter(|it| it.cluster == cluster)
}

/// True if the headers ask for an upgrade of any kind.
fn is_upgrade(headers: &HeaderMap) -> bool {
    let mut tokens = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','));
    tokens.any(|it| it.trim().eq_ignore_ascii_case("upgrade")) && headers.contains_key(UPGRADE)
}

fn field<T: std::str::FromStr>(headers: &HeaderMap, name: &HeaderName) -> Result<T, String> {
    let text = headers.get(name).and_then(|it| it.to_str().ok());
    let text = text.ok_or_else(|| format!("no readable header {name}"))?;
    text.parse().map_err(|_| format!("header {name} cannot be {text:?}"))
}

/// What we print is always fit for a header.
fn text(value: impl std::fmt::Display) -> HeaderValue {
    HeaderValue::try_from(value.to_string()).unwrap_or(HeaderValue::from_static(""))
}
