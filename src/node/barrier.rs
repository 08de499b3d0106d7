//! The founding barrier: nobody founds a cluster alone (safety 2).
//!
//! Before its engine has the peer port, each founding node answers there which founding it
//! belongs to and how far it is:
//!
//! ```text
//! empty    I hold no data and never started
//! agreed   I have heard `empty` or `agreed` of the same founding from every other node
//! ```
//!
//! A node leaves the barrier, and starts its engine as `new`, once it has agreed and has heard
//! `agreed` from every other node, or finds an engine of the very cluster they found: that one has
//! heard it from all. So no engine starts before every listed node has said that it is empty, and a
//! node that comes back with an emptied disk finds engines, not founders, and is refused; the
//! others do not wait for it.
//!
//! To agree is a promise that outlives the process: it is written down first, and kept until the
//! engine has started. A node that was killed in between has not run yet, whoever runs by now, and
//! may still take its part; without that, two of three that were killed there would leave one that
//! runs and never has a quorum.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::client::peer;
use crate::cluster::{ClusterId, ExitKind, FoundingId, MemberId};

/// Where the word is given.
const PATH: &str = "/quorate/founding";
/// Between two rounds of asking.
const ROUND: Duration = Duration::from_millis(50);
/// How long one node may take to answer.
const LIMIT: Duration = Duration::from_secs(1);

/// How far a founding node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It holds no data and never started.
    Empty,
    /// It has heard the same of every other node.
    Agreed,
}

/// What a founding node answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// The founding it belongs to.
    pub founding: FoundingId,
    /// Its name.
    pub node: String,
    /// How far it is.
    pub phase: Phase,
}

/// What is founded, and by whom.
#[derive(Clone, Debug)]
pub struct Founders {
    /// The founding.
    pub founding: FoundingId,
    /// The cluster it makes.
    pub cluster: ClusterId,
    /// This node's name.
    pub node: String,
    /// The member this node becomes.
    pub member: MemberId,
    /// Where this node's peer port listens.
    pub listen: SocketAddr,
    /// The peer URLs of the others.
    pub others: Vec<String>,
}

/// Why there will be no founding by this node.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    /// The typed reason.
    pub kind: ExitKind,
    /// One sentence.
    pub detail: String,
}

/// What one other node said in a round.
enum Heard {
    Word(Phase),
    Nothing,
    Engine,
}

/// Waits at the barrier, for as long as it takes. `has_promised` says that this node has agreed
/// before and has not run since; `promise` is to make that last before it agrees for the first time.
///
/// # Errors
///
/// [`Refused`] when the port cannot be had, or when another founding or a formed cluster is
/// found, and whatever `promise` is refused with.
pub async fn pass(
    founders: &Founders,
    has_promised: bool,
    promise: impl FnOnce() -> Result<(), Refused>,
) -> Result<(), Refused> {
    let listener = TcpListener::bind(founders.listen).await.map_err(|e| no_port(founders, &e))?;
    let first = if has_promised { Phase::Agreed } else { Phase::Empty };
    let phase = Arc::new(Mutex::new(first));
    // Aborted when dropped: the port is the engine's as soon as we return.
    let mut server = JoinSet::new();
    server.spawn(answer(listener, founders.clone(), Arc::clone(&phase)));

    let mut heard: BTreeMap<&str, Phase> = BTreeMap::new();
    let mut agreed = has_promised;
    let mut is_founded = false;
    let mut promise = Some(promise).filter(|_| !has_promised);
    loop {
        let asked =
            founders.others.iter().map(|url| async move { (url, ask(founders, url).await) });
        for (url, answer) in join_all(asked).await {
            match answer? {
                Heard::Word(phase) => {
                    heard.insert(url, phase);
                }
                // It can only have left after it had heard everybody agree.
                Heard::Engine if agreed => is_founded = true,
                Heard::Engine => return Err(already(founders, url).await),
                // An `agreed` once heard holds; one that was only empty may be gone for good.
                Heard::Nothing if heard.get(url.as_str()) == Some(&Phase::Agreed) => {}
                Heard::Nothing => {
                    heard.remove(url.as_str());
                }
            }
        }
        if is_founded {
            break;
        }
        if heard.len() == founders.others.len() {
            if let Some(promise) = promise.take() {
                promise()?;
            }
            agreed = true;
            *phase.lock().unwrap_or_else(PoisonError::into_inner) = Phase::Agreed;
            if heard.values().all(|phase| *phase == Phase::Agreed) {
                break;
            }
        }
        tokio::time::sleep(ROUND).await;
    }
    server.shutdown().await;
    Ok(())
}

async fn ask(founders: &Founders, url: &str) -> Result<Heard, Refused> {
    let Ok(answer) = peer::get(&format!("{url}{PATH}"), LIMIT).await else {
        return Ok(Heard::Nothing);
    };
    if let Ok(word) = serde_json::from_slice::<Word>(&answer.body) {
        if word.founding == founders.founding {
            return Ok(Heard::Word(word.phase));
        }
        return Err(Refused {
            kind: ExitKind::ClusterIdMismatch,
            detail: format!(
                "{} at {url} belongs to founding {}, this node to {}",
                word.node, word.founding, founders.founding
            ),
        });
    }
    match peer::cluster(url, LIMIT).await {
        Ok(cluster) if cluster == founders.cluster => Ok(Heard::Engine),
        Ok(cluster) => Err(Refused {
            kind: ExitKind::ClusterIdMismatch,
            detail: format!(
                "{url} belongs to cluster {cluster}, this node would found {}",
                founders.cluster
            ),
        }),
        // An engine that is only just starting.
        Err(_) => Ok(Heard::Nothing),
    }
}

/// The cluster is there and this node had no part in it.
async fn already(founders: &Founders, url: &str) -> Refused {
    let ran = peer::members(url, LIMIT)
        .await
        .is_ok_and(|list| list.members.iter().any(|m| m.id == founders.member && m.is_published()));
    let (kind, what) = if ran {
        (
            ExitKind::DataLost,
            format!("member {} ran in it, and its data is not here", founders.member),
        )
    } else {
        (ExitKind::AlreadyBootstrapped, "a node joins it as a new member".to_owned())
    };
    Refused { kind, detail: format!("{url} runs in cluster {} already: {what}", founders.cluster) }
}

fn no_port(founders: &Founders, error: &io::Error) -> Refused {
    Refused { kind: ExitKind::AddressInUse, detail: super::port::explain(founders.listen, error) }
}

async fn answer(listener: TcpListener, founders: Founders, phase: Arc<Mutex<Phase>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely; they are given back in time.
            tokio::time::sleep(ROUND).await;
            continue;
        };
        let (founders, phase) = (founders.clone(), Arc::clone(&phase));
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let word = Word {
                founding: founders.founding,
                node: founders.node.clone(),
                phase: *phase.lock().unwrap_or_else(PoisonError::into_inner),
            };
            async move { Ok::<_, Infallible>(respond(request.uri().path(), &word)) }
        });
        connections.spawn(async move {
            // A peer that hangs up asks again.
            let _ = hyper::server::conn::http1::Builder::new()
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

fn respond(path: &str, word: &Word) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    if path == PATH {
        let body = serde_json::to_vec(word).unwrap_or_default();
        *response.body_mut() = Full::new(Bytes::from(body));
    } else {
        // Engines that have left already ask for raft streams: "not now", never "not known".
        *response.status_mut() = hyper::StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}
