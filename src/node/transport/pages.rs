//! What the peer port answers to plain HTTP, byte for byte as etcd's does.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Serialize;

use crate::cluster::{Member, Role};

/// An answer to a GET.
#[derive(Clone, Debug)]
pub struct Page {
    /// The status.
    pub status: StatusCode,
    /// Headers beside those that every answer has.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// A member as etcd's `/members` has it: the ID is a number, what is empty is left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(rename = "clientURLs", skip_serializing_if = "<[_]>::is_empty")]
    client_urls: &'a [String],
}

#[derive(Serialize)]
struct Versions<'a> {
    etcdserver: &'a str,
    etcdcluster: &'a str,
}

impl Page {
    /// A page of JSON.
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Page {
        Page::typed(status, "application/json", body)
    }

    /// A page of plain text.
    pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Page {
        Page::typed(status, "text/plain; charset=utf-8", body)
    }

    /// `/members`, as etcd's peer port gives it (its `etcdhttp/peer.go`).
    pub fn members(members: &[Member]) -> Page {
        let list: Vec<_> = members
            .iter()
            .map(|it| Listed {
                id: it.id.0,
                peer_urls: &it.peer_urls,
                is_learner: it.role == Role::Learner,
                name: &it.name,
                client_urls: &it.client_urls,
            })
            .collect();
        // A list of strings and numbers is always JSON.
        Page::json(StatusCode::OK, serde_json::to_vec(&list).unwrap_or_default())
    }

    /// `/version`; a cluster that has not agreed on a level is `not_decided`.
    pub fn version(server: &str, cluster: Option<&str>) -> Page {
        let versions =
            Versions { etcdserver: server, etcdcluster: cluster.unwrap_or("not_decided") };
        Page::json(StatusCode::OK, serde_json::to_vec(&versions).unwrap_or_default())
    }

    fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Page {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Page { status, headers, body: body.into() }
    }
}
