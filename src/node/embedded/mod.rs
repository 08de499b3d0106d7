//! A node whose engine is this process itself: raft, store and etcd's API, put together and run
//! until it is asked to stop or cannot go on.
//!
//! ```text
//! settings ─> options      home: stamp ─> who it is
//!                 │                         │
//!                 └────> raft node <────────┘ ──changes──> watch hub
//!                            │ ready                          │
//!                            └──────────> client port <───────┘
//! ```
//!
//! Nothing here decides anything: what the settings mean is in `options`, why a node may start at
//! all in [`prepare`](super::prepare), and how it ends in [`End`].

mod compaction;
mod options;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};

pub use compaction::Retention;
pub use options::{Level, Log, OptionError, Options, read};

use super::api::{Api, Metrics, Server, serve_metrics};
use super::barrier::Refused;
use super::data::DataWatch;
use super::home::{Phase, Stamp};
use super::log::{Ids, LogError};
use super::prepare::{Prepared, founders, other_peers};
use super::raft::{self, Config, End, StartError};
use super::run::{Node, clean};
use super::{port, watch};
use crate::clock::Clock;
use crate::cluster::{Exit, ExitKind};

/// Between two looks at the data directory.
const LOOK: Duration = Duration::from_secs(1);
/// What an orderly end may take; etcd's takes 1.5 s. Nothing is lost by cutting it short.
const PATIENCE: Duration = Duration::from_secs(5);

/// What handing over may take of a node that cannot go on.
const FAREWELL: Duration = Duration::from_secs(1);

impl From<StartError> for Refused {
    fn from(error: StartError) -> Refused {
        let kind = match &error {
            damage if damage.is_damage() => ExitKind::DataDamaged,
            full if full.is_full() => ExitKind::DiskFull,
            StartError::OtherLog { .. } => ExitKind::StaleData,
            StartError::Log(LogError::Missing(_)) => ExitKind::DataLost,
            StartError::Taken(_) => ExitKind::AddressInUse,
            StartError::Timings(_) | StartError::Founders(_) => ExitKind::BadConfig,
            _ => ExitKind::Unknown,
        };
        Refused { kind, detail: with_sources(&error) }
    }
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |it| it.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

/// Where clients are answered.
struct Ports {
    clients: Vec<TcpListener>,
    /// Open at once: whoever watches over the node may ask why it is not ready.
    metrics: Vec<TcpListener>,
}

/// The client port, from when it serves on.
struct Serving {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    metrics: AbortHandle,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.metrics.abort();
    }
}

impl Serving {
    /// Takes no more requests, and lets those under way end.
    async fn stop(&mut self) {
        drop(self.stop.take());
        // It does not panic; if it did, nobody would be served by it any more.
        let _ = (&mut self.task).await;
    }
}

impl Node {
    /// Serves to the end, and says how it ended.
    pub(super) async fn serve(
        &mut self,
        options: &Options,
        prepared: &Prepared,
    ) -> Result<Exit, Refused> {
        let config = &prepared.config;
        let metrics = Metrics::new().map_err(|error| Refused {
            kind: ExitKind::Unknown,
            detail: format!("nothing can be counted: {error}"),
        })?;
        let stamp = self.home.stamp()?.ok_or_else(|| Refused {
            kind: ExitKind::Unknown,
            detail: format!("{} has no stamp", self.home.dir().display()),
        })?;
        // A peer that asks before there is an answer is not to wait for it.
        let peers = bind(&config.listen_peer_urls)?;
        let ports = Ports {
            clients: port::listen(bind(&config.listen_client_urls)?)?,
            metrics: port::listen(bind(&options.metrics_urls)?)?,
        };
        let hub = watch::Hub::new(watch::Limits::default());
        let started = start(self.home.data(), options, prepared, &stamp, peers, Arc::clone(&hub));
        let node = tokio::select! {
            node = started => node?,
            never = self.teller.tell_progress() => match never {},
            () = self.signals.next() => {
                self.is_busy = true;
                return Ok(clean(self.state.member));
            }
        };
        // It has a log now, which says that it has run.
        self.home.clear_promise(&self.lock)?;
        self.state.engine = Some(self.state.wrapper);
        self.state.phase = Phase::Running;
        self.write();
        let mut serving = serve(&node, options, ports, hub, metrics);
        let mut data = DataWatch::new(self.home.data());
        let mut look = tokio::time::interval(LOOK);
        let end = loop {
            tokio::select! {
                biased;
                end = node.ended() => break Some(end),
                () = self.signals.next() => break None,
                // Nobody is to go on waiting for a node that serves nobody.
                _ = &mut serving.task => {
                    break Some(End::Fatal("the client port has ended".to_owned()));
                }
                _ = look.tick() => {
                    self.note_data(&mut data);
                    self.bound_log().await;
                }
            }
        };
        let Some(end) = end else {
            tracing::info!("asked to stop: handing over, then closing the ports");
            // First of all, while clients can still be told: somebody else is to lead.
            let orderly = async {
                if let Err(end) = node.shutdown().await {
                    tracing::warn!(%end, "not all could be written; what was acknowledged was before");
                }
                serving.stop().await;
            };
            tokio::select! {
                done = tokio::time::timeout(PATIENCE, orderly) => if done.is_err() {
                    tracing::warn!("it takes too long; ended at once");
                },
                () = self.signals.next() => {}
            }
            return Ok(clean(self.state.member));
        };
        self.state.data_gone |= data.is_gone();
        // If it leads and can still say so, another one is to lead now.
        let _ = tokio::time::timeout(FAREWELL, node.shutdown()).await;
        Ok(self.ended(end))
    }

    fn ended(&self, end: End) -> Exit {
        let text = end.to_string();
        let (kind, detail) = match end {
            End::Removed => (
                ExitKind::Removed,
                format!("{text}; the data-dir used by this member must be removed"),
            ),
            _ if self.state.data_gone => (
                ExitKind::DataGone,
                format!("the engine ended after its data directory was deleted: {text}"),
            ),
            End::StaleData(_) => (ExitKind::StaleData, text),
            End::StorageDamaged(_) => (ExitKind::DataDamaged, text),
            End::DiskFull(_) => {
                (ExitKind::DiskFull, format!("{text}: make room in {}", self.home.dir().display()))
            }
            End::Fatal(_) => (ExitKind::Unknown, text),
        };
        Exit { kind, member: self.state.member, at: Clock.now(), detail }
    }
}

/// Opens the data, and takes part in raft from it.
async fn start(
    dir: PathBuf,
    options: &Options,
    prepared: &Prepared,
    stamp: &Stamp,
    ports: Vec<TcpSocket>,
    hub: Arc<watch::Hub>,
) -> Result<raft::Node, Refused> {
    let Stamp { cluster, member, incarnation, .. } = *stamp;
    let config = &prepared.config;
    let node = raft::start(Config {
        ids: Ids { cluster, member, incarnation },
        dir,
        is_first: prepared.is_first,
        founders: founders(config, cluster, member),
        peers: other_peers(config),
        #[allow(clippy::useless_conversion, reason = "it is one in a simulation")]
        ports: ports.into_iter().map(Into::into).collect(),
        name: config.name.clone(),
        client_urls: config.advertise_client_urls.clone(),
        options: options.raft.clone(),
        watchers: hub,
    });
    Ok(node.await?)
}

/// Opens the client port once the node is ready; before, a client finds it open and waits.
fn serve(
    node: &raft::Node,
    options: &Options,
    ports: Ports,
    hub: Arc<watch::Hub>,
    metrics: Metrics,
) -> Serving {
    let (stop, stopped) = oneshot::channel::<()>();
    let node = node.clone();
    let (limits, progress) = (options.api.clone(), options.progress);
    let retention = options.retention;
    let replica = Arc::new(node.clone());
    let api = Api::new(Arc::clone(&replica), limits, Arc::new(metrics));
    let metrics = tokio::spawn(serve_metrics(ports.metrics, Arc::clone(&api))).abort_handle();
    let task = tokio::spawn(async move {
        let stopped = async {
            // Stopped, or dropped with whoever could.
            let _ = stopped.await;
        };
        tokio::pin!(stopped);
        let ready = tokio::select! {
            ready = node.ready() => ready.is_ok(),
            () = &mut stopped => false,
        };
        if !ready {
            return;
        }
        let compacting = retention.map(|it| tokio::spawn(compaction::run(replica, it)));
        let watch = super::api::watch::service(Arc::clone(&api), hub, progress);
        tracing::info!("ready to serve client requests");
        Server::new(api).with_watch(watch).serve(ports.clients, stopped).await;
        if let Some(compacting) = compacting {
            compacting.abort();
        }
    });
    Serving { stop: Some(stop), task, metrics }
}

/// Takes every address, and refuses connections to it for now.
fn bind(urls: &[String]) -> Result<Vec<TcpSocket>, Refused> {
    let bad = |detail| Refused { kind: ExitKind::BadConfig, detail };
    let bound = |url: &String| {
        let address: SocketAddr = port::listen_address(url).map_err(bad)?;
        port::bind(address).map_err(|error| Refused {
            kind: ExitKind::AddressInUse,
            detail: port::explain(address, &error),
        })
    };
    urls.iter().map(bound).collect()
}

/// Lets the process open as many files as it may, and says how many that are; `None`: no limit.
/// Each client and each peer takes one.
///
/// # Errors
///
/// If the system refuses; it goes on with what it has then.
pub fn raise_file_limit() -> std::io::Result<Option<u64>> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum)
}
