//! Puts a node together from what is on the disk, and starts it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use openraft::EntryPayload;
use openraft::async_runtime::WatchReceiver;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use super::barrier::Barrier;
use super::codec;
use super::config::{BadTimings, Config, Founder, Options};
use super::end::Ends;
use super::keeper::{self, Keep, Keeper};
use super::links::Links;
use super::machine::{Machine, Offers};
use super::node::{Inner, Node, Tasks};
use super::receive::Receiver;
use super::shared::{Replicated, Shared};
use super::store::Store;
use super::types::{Entry, Membership, Place as Address, Raft, StoredMembership, log_id};
use super::waiters::Waiters;
use crate::clock::{Clock, Moment};
use crate::node::apply::{OpenError, Published, State};
use crate::node::checkpoint::{Checkpoint, Place, Stored};
use crate::node::ground::{self, net, work};
use crate::node::log::{self, Ids, Log, LogError};
use crate::node::mvcc::{Records, StoreError};
use crate::node::port::Taken;
use crate::node::replica::Standing;
use crate::node::transport::{Bound, Identity, Limits, Peers, Server, serve};

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log cannot be opened.
    #[error("the log cannot be opened")]
    Log(#[from] LogError),
    /// The checkpoint cannot be opened, and the log does not go back far enough to make it anew.
    #[error("the store cannot be opened")]
    Store(#[from] StoreError),
    /// The checkpoint holds no state.
    #[error("the store holds no state")]
    State(#[from] OpenError),
    /// The log is another's.
    #[error("the log in {} is that of member {} of cluster {}", path.display(), found.member, found.cluster)]
    OtherLog {
        /// The log.
        path: PathBuf,
        /// Whose it is.
        found: Ids,
    },
    /// Log and store do not fit together: what is in neither was acknowledged.
    #[error("the log begins after entry {purged}, the store ends at entry {applied}")]
    Hole {
        /// What the log has no more.
        purged: u64,
        /// What the store has.
        applied: u64,
    },
    /// The founding members make no cluster.
    #[error("the founding members are not valid: {0}")]
    Founders(String),
    /// The timings cannot work.
    #[error(transparent)]
    Timings(#[from] BadTimings),
    /// openraft does not start on what it was given.
    #[error("raft does not start: {0}")]
    Raft(String),
    /// Somebody else listens on the peer port by now.
    #[error(transparent)]
    Taken(#[from] Taken),
    /// No random number could be had.
    #[error("no random number could be had: {0}")]
    Random(String),
}

impl StartError {
    /// Whether the data itself is at fault: the member has to be replaced.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            StartError::Log(LogError::Damaged(_))
                | StartError::Store(StoreError::Damaged(_))
                | StartError::State(
                    OpenError::Damaged { .. } | OpenError::Store(StoreError::Damaged(_))
                )
                | StartError::Hole { .. }
        )
    }

    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            StartError::Log(error) => error.is_full(),
            StartError::Store(error) | StartError::State(OpenError::Store(error)) => {
                matches!(error, StoreError::Full(_))
            }
            _ => false,
        }
    }
}

/// What was found on the disk, or made there.
struct Data {
    log: Log,
    place: Place,
    checkpoint: Arc<dyn Checkpoint>,
    replicated: Replicated,
}

/// Starts a node. Once this returns it answers its peers, and has applied what its own log knew to
/// be committed; see [`Node::ready`].
///
/// # Errors
///
/// [`StartError`].
pub async fn start(config: Config) -> Result<Node, StartError> {
    let Config { ids, dir, is_first, founders, peers: initial, ports, name, .. } = config;
    let Config { client_urls, options, watchers, .. } = config;
    let openraft = options.openraft()?;
    let quota = options.quota;
    let begun = Clock.monotonic();
    let opened = work::blocking(move || open(&dir, ids, is_first, quota)).await;
    let Data { log, place, checkpoint, replicated } =
        opened.ok_or_else(|| StartError::Raft("what opens the data has ended".to_owned()))??;
    found(&log, ids, founders).await?;
    tell_read(&log, &replicated, begun);

    let store = Store::new(log.clone());
    let clock = Clock;
    let random = ground::random().map_err(StartError::Random)?;
    let applied = replicated.applied();
    let is_removed = replicated.state.is_removed(ids.member);
    let shared = Arc::new(Shared {
        ids,
        applied: watch::Sender::new(applied.map_or(0, |it| it.index + 1)),
        applied_term: watch::Sender::new(applied.map_or(0, |it| *it.leader_id)),
        replicated: RwLock::new(replicated),
        waiters: Waiters::new(random),
        lessor: Mutex::default(),
        lessor_changed: Notify::new(),
        watchers,
        ends: Ends::new(),
        removed: watch::Sender::new(is_removed),
        is_published: watch::Sender::new(false),
        clock,
        election: options.election,
    });
    let keep = Keep { every: options.snapshot_count.max(1), behind: options.catch_up };
    let keeper = Keeper::new(Arc::clone(&shared), store.durable(), keep, checkpoint)?;
    let tasks = Arc::new(Tasks::default());
    tasks.spawn(Arc::clone(&keeper).run());

    let limits = limits(&options);
    let own = Identity { cluster: ids.cluster, member: ids.member, incarnation: ids.incarnation };
    let peers = Peers::new(own, limits.clone(), clock);
    let offers = Arc::new(Offers::default());
    let links = Links {
        shared: Arc::clone(&shared),
        peers,
        keeper: Arc::clone(&keeper),
        offers: Arc::clone(&offers),
        acknowledged: Arc::default(),
        announced: Arc::default(),
    };
    let machine = Machine { shared: Arc::clone(&shared), keeper: Arc::clone(&keeper), offers };
    let raft = Raft::new(ids.member.0, Arc::new(openraft), links.clone(), store, machine).await;
    let raft = raft.map_err(|it| StartError::Raft(it.to_string()))?;
    keeper.purges(&raft);
    let listeners = match net::listen(ports) {
        Ok(listeners) => listeners,
        Err(taken) => {
            // Nothing is served yet; what openraft says of its end changes nothing.
            let _ = raft.shutdown().await;
            return Err(taken.into());
        }
    };
    tracing::info!(
        applied = shared.applied.borrow().saturating_sub(1),
        took_ms = Clock.monotonic().since(begun).as_millis(),
        "what was committed is applied; the peers are answered"
    );
    let standing = standing(&raft);

    let inner = Arc::new(Inner {
        shared,
        keeper,
        links,
        raft,
        log,
        receiver: Receiver::new(place, options.quota),
        options,
        standing: watch::Sender::new(standing),
        barrier: Barrier::default(),
        changing: tokio::sync::Mutex::default(),
        heard: Mutex::default(),
        elected: Mutex::default(),
        seen: Mutex::default(),
        stopping: watch::Sender::new(false),
    });
    let published =
        Published { member: ids.member.0, name, client_urls, incarnation: ids.incarnation.0 };
    tasks.spawn(Arc::clone(&inner).watch_standing());
    tasks.spawn(Arc::clone(&inner).rest());
    tasks.spawn(Arc::clone(&inner).watch_end());
    tasks.spawn(Arc::clone(&inner).carry_reads());
    tasks.spawn(Arc::clone(&inner).promote_learners());
    tasks.spawn(Arc::clone(&inner).end_leases());
    tasks.spawn(Arc::clone(&inner).publish(published));
    tasks.spawn(Arc::clone(&inner).campaign_early());
    tasks.spawn(Arc::clone(&inner).ask_around(initial));
    tasks.serve(answer(listeners, &inner, &limits));
    Ok(Node { inner, tasks })
}

/// Answers the peers until the node stops.
fn answer(
    listeners: Vec<net::Listener>,
    inner: &Arc<Inner>,
    limits: &Limits,
) -> impl Future<Output = ()> + use<> {
    let ports = listeners.into_iter().map(|listener| {
        let mut stopping = inner.stopping.subscribe();
        let hearing = inner.links.peers.hearing();
        let (door, limits, clock) = (Arc::clone(inner), limits.clone(), inner.shared.clock);
        serve(listener, Server { door, limits, hearing, clock }, async move {
            // An error means that the node is gone.
            let _ = stopping.wait_for(|it| *it).await;
        })
    });
    let ports = join_all(ports.collect::<Vec<_>>());
    async move {
        ports.await;
    }
}

/// How the node stands before anything has happened.
fn standing(raft: &Raft) -> Standing {
    let metrics = raft.server_metrics();
    let it = metrics.borrow_watched();
    let votes = it.membership_config.voter_ids().any(|id| id == it.id);
    Standing { term: it.vote.leader_id.term, is_learner: !votes, ..Standing::default() }
}

fn tell_read(log: &Log, replicated: &Replicated, begun: Moment) {
    let bounds = log.bounds();
    tracing::info!(
        revision = replicated.state.revision(),
        applied = replicated.applied().map_or(0, |it| it.index),
        log_first = bounds.first,
        log_next = bounds.next,
        took_ms = Clock.monotonic().since(begun).as_millis(),
        "the data is read"
    );
}

/// What the transport keeps to: room for one request of the largest kind beside the entries of a
/// message.
fn limits(options: &Options) -> Limits {
    let limits = Limits::default();
    let body = limits.body.max(options.max_request_bytes.saturating_mul(2).saturating_add(4 << 20));
    let bounds = limits.bounds.map(|it| Bound { bytes: it.bytes.max(2 * body), ..it });
    Limits {
        body,
        // A record is as long as the request that it came in.
        chunk: body,
        bounds,
        silence: limits.silence.max(2 * options.election),
        ..limits
    }
}

/// Opens what is on the disk, or begins it. Never begins what has to be there: an empty log under
/// an old ID would vote again.
fn open(dir: &Path, ids: Ids, is_first: bool, quota: u64) -> Result<Data, StartError> {
    let path = dir.join("log");
    let log = if is_first {
        Log::create(&path, ids, log::Options::default())?
    } else {
        let (log, recovered) = Log::open(&path, log::Options::default())?;
        if recovered.ids != ids {
            return Err(StartError::OtherLog { path, found: recovered.ids });
        }
        log
    };
    let place = Place::new(dir.join("store"));
    let (checkpoint, replicated) = open_store(&place, &log, quota)?;
    Ok(Data { log, place, checkpoint: checkpoint as Arc<dyn Checkpoint>, replicated })
}

fn open_store(
    place: &Place,
    log: &Log,
    quota: u64,
) -> Result<(Arc<Stored>, Replicated), StartError> {
    let bounds = log.bounds();
    let opened = place.open().map_err(StartError::from).and_then(|store| match store {
        Some(store) => read_store(Arc::new(store), quota).map(Some),
        None => Ok(None),
    });
    let opened = match opened {
        // The log goes back to the first entry: everything is in there.
        Err(error) if error.is_damage() && bounds.purged.is_none() => {
            tracing::warn!(%error, "the store is damaged, and is made anew from the log");
            place.abandon()?;
            None
        }
        opened => opened?,
    };
    let (store, replicated) = match opened {
        Some(opened) => opened,
        None => read_store(Arc::new(place.create()?), quota)?,
    };
    let next = replicated.applied().map_or(0, |it| it.index + 1);
    if let Some(purged) = bounds.purged.filter(|it| it.index >= next) {
        return Err(StartError::Hole { purged: purged.index, applied: next.saturating_sub(1) });
    }
    Ok((store, replicated))
}

fn read_store(store: Arc<Stored>, quota: u64) -> Result<(Arc<Stored>, Replicated), StartError> {
    let metas = store.metas(b"")?;
    let name = Bytes::from_static(keeper::MEMBERSHIP);
    let membership = metas.iter().find(|it| it.0 == name).map(|it| it.1.clone());
    let membership = match membership {
        Some(blob) => serde_json::from_slice::<StoredMembership>(&blob).map_err(|it| {
            OpenError::Damaged { name: "raft/membership".to_owned(), what: it.to_string() }
        })?,
        None => StoredMembership::default(),
    };
    let state = State::open(Arc::clone(&store) as Arc<dyn Records>, metas, quota)?;
    if state.applied().is_some() && membership.log_id().is_none() {
        let name = "raft/membership".to_owned();
        return Err(OpenError::Damaged { name, what: "it is missing".to_owned() }.into());
    }
    Ok((store, Replicated { state, membership, is_membership_new: false }))
}

/// Begins the log of a founding member with the list of all, the same on each of them. That entry
/// is committed by the first leader's own; until then nobody votes but these.
async fn found(log: &Log, ids: Ids, founders: Option<Vec<Founder>>) -> Result<(), StartError> {
    let Some(founders) = founders else { return Ok(()) };
    if log.bounds().last.is_some() || log.vote().is_some() {
        return Ok(());
    }
    let wrong = |what: String| StartError::Founders(what);
    if !founders.iter().any(|it| it.id == ids.member) {
        return Err(wrong(format!("member {} is not among them", ids.member)));
    }
    let voters = founders.iter().map(|it| it.id.0).collect();
    let places = founders
        .into_iter()
        .map(|it| (it.id.0, Address { peer_urls: it.peer_urls, wants_vote: true }));
    let places: std::collections::BTreeMap<_, _> = places.collect();
    let membership = Membership::new(vec![voters], places).map_err(|it| wrong(it.to_string()))?;
    let entry = Entry { log_id: log_id(0, 0), payload: EntryPayload::Membership(membership) };
    let (tell, told) = tokio::sync::oneshot::channel();
    let done = Box::new(move |result| {
        let _ = tell.send(result); // we wait for it
    });
    log.append(vec![codec::to_log(&entry)], done).await?;
    told.await.unwrap_or(Err(LogError::Closed))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{ClusterId, Incarnation, MemberId};

    #[test]
    fn a_log_that_has_to_be_there_is_never_begun_and_one_that_is_there_never_begun_anew() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("data");
        let ids = Ids { cluster: ClusterId(1), member: MemberId(2), incarnation: Incarnation(3) };
        let missing = open(&dir, ids, false, u64::MAX).err().unwrap();
        assert!(matches!(missing, StartError::Log(LogError::Missing(_))), "{missing:?}");
        assert!(!dir.join("log").exists() && !dir.join("store").exists());
        drop(open(&dir, ids, true, u64::MAX).unwrap());
        let there = open(&dir, ids, true, u64::MAX).err().unwrap();
        assert!(matches!(there, StartError::Log(LogError::Exists(_))), "{there:?}");
        open(&dir, ids, false, u64::MAX).unwrap();
    }
}
