//! The shell around [`decide`]: gathers what it needs, and carries out what it decides up to the
//! point where the engine can be started.
//!
//! Everything happens under the node's lock. The one destructive act, setting data aside, comes
//! right after a quorum has said that the data's member is gone.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;

use super::barrier::{self, Founders, Refused};
use super::data::{self, Writer};
use super::decide::{Asked, Decision, decide};
use super::home::{HomeError, HomeLock, NodeHome, Phase, Stamp};
use super::quorum_answer::quorum_answer;
use super::raft::Founder;
use super::{port, wal};
use crate::client::{Client, peer};
use crate::cluster::{
    ClusterId, ExitKind, FoundingId, Incarnation, Member, MemberId, MemberList,
    founding_cluster_id, founding_member_id,
};
use crate::render::{InitialState, NodeConfig, live_cluster};

/// How long peers may take to answer before they count as silent.
pub(super) const PEER_LIMIT: Duration = Duration::from_secs(2);

/// What a start was asked for, beside the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Orders {
    /// The founding the cluster descends from.
    pub founding: Option<FoundingId>,
    /// The member to run.
    pub expect: Option<MemberId>,
    /// The retired member whose data may be set aside.
    pub replaces: Option<MemberId>,
    /// The member that has run at this place before, whatever the disk says of it.
    pub has_run: Option<MemberId>,
}

/// A node that is ready for its engine.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What to start the engine with.
    pub config: NodeConfig,
    /// The member it will be.
    pub member: MemberId,
    /// It runs for the first time. If not, its log has to be there: without it, it would vote
    /// again under an ID that has voted.
    pub is_first: bool,
}

impl From<HomeError> for Refused {
    fn from(error: HomeError) -> Self {
        let kind = match &error {
            full if full.is_disk_full() => ExitKind::DiskFull,
            HomeError::OtherMember { .. } => ExitKind::StaleData,
            _ => ExitKind::Unknown,
        };
        let cause = std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
        Refused { kind, detail: format!("{error}{cause}") }
    }
}

/// Prepares a home for an engine that writes such a log. `tell` hears of each phase before it begins.
///
/// # Errors
///
/// [`Refused`], with the typed reason the node ends with.
pub async fn prepare(
    home: &NodeHome,
    lock: &HomeLock,
    config: NodeConfig,
    orders: Orders,
    writer: Writer,
    mut tell: impl FnMut(Phase),
) -> Result<Prepared, Refused> {
    let founds = founding_identity(&config);
    let stamp = home.stamp()?;
    let founding = orders.founding.unwrap_or_else(|| derived_founding(&config));
    let asked = Asked {
        name: config.name.clone(),
        state: config.initial_cluster_state,
        expect: orders.expect,
        replaces: orders.replaces,
        peer_urls: config.initial_advertise_peer_urls.clone(),
        founds,
        founding: orders.founding,
        stamp: stamp.map(|s| s.identity()),
        same_founding: stamp.is_none_or(|s| s.founding.is_none_or(|f| f == founding)),
        has_promised: home.promise()? == Some(founding),
        has_run: orders.has_run,
    };
    let live = quorum_answer(&other_peers(&config)).await;
    let disk = home.disk();
    match decide(&disk, &asked, live.as_ref()) {
        Decision::Refuse { kind, detail } => Err(Refused { kind, detail }),
        Decision::FromData { member } => {
            match written_by(home)? {
                // It was there a moment ago.
                None => {
                    let what = format!("the data of member {member} is gone");
                    return Err(refused(ExitKind::DataLost, what));
                }
                Some(other) if other != writer => return Err(other_engine(home, other)),
                // The embedded engine reads all of its log as it opens it.
                Some(Writer::Embedded) => {}
                Some(Writer::Upstream) => must_be_whole(home, member).await?,
            }
            port::all_free(&config)?;
            home.clear_promise(lock)?;
            Ok(Prepared { config, member, is_first: false })
        }
        Decision::Found => {
            let Some((cluster, member)) = founds else {
                return Err(refused(ExitKind::NameNotInCluster, "the own name is not listed"));
            };
            // Now and not after the stamp: from then on, an empty disk means lost data.
            port::all_free(&config)?;
            tell(Phase::Barrier);
            let founders = at_barrier(&config, founding, cluster, member)?;
            let promise = || Ok(home.write_promise(lock, founding)?);
            barrier::pass(&founders, asked.has_promised, promise).await?;
            tell(Phase::Preparing);
            stamp_place(home, lock, cluster, member, Some(founding))?;
            Ok(Prepared { config, member, is_first: true })
        }
        Decision::Join { member, set_aside } => {
            let Some(mut live) = live else {
                return Err(refused(ExitKind::NoPeers, "the member list is gone"));
            };
            must_be_of(writer, &live).await?;
            port::all_free(&config)?;
            let needed = room_needed(home, &live, writer).await?;
            if let Some(former) = set_aside {
                // Asked again right before the one act that moves data (safety 6, 13).
                let again = quorum_answer(&other_peers(&config)).await.ok_or_else(|| {
                    refused(ExitKind::NoPeers, "no quorum answers any more; nothing was set aside")
                })?;
                let same = Decision::Join { member, set_aside };
                if decide(&home.disk(), &asked, Some(&again)) != same {
                    let what = "the member list has changed meanwhile; nothing was set aside";
                    return Err(refused(ExitKind::NoPeers, what));
                }
                live = again;
                make_room(home, needed)?;
                home.set_aside(lock, former)?;
            } else {
                make_room(home, needed)?;
            }
            stamp_place(home, lock, live.cluster, member, orders.founding)?;
            home.clear_promise(lock)?;
            Ok(Prepared { config: joining(config, &live, member), member, is_first: true })
        }
    }
}

/// Which engine wrote the data.
fn written_by(home: &NodeHome) -> Result<Option<Writer>, Refused> {
    let ids = data::ids(&home.data())
        .map_err(|e| refused(ExitKind::Unknown, format!("the log cannot be read: {e}")))?;
    Ok(ids.map(|it| it.writer))
}

/// One engine takes the other one's data for none, and would vote again under an old ID.
fn other_engine(home: &NodeHome, writer: Writer) -> Refused {
    let whose = match writer {
        Writer::Upstream => {
            "an upstream etcd; run that one: --exec PATH (quorate up --engine PATH)"
        }
        Writer::Embedded => {
            "the embedded engine; run that one: without --exec (quorate up --engine embedded)"
        }
    };
    refused(ExitKind::BadConfig, format!("the data in {} is of {whose}", home.data().display()))
}

/// The two engines do not speak to each other: one that joined the other's cluster would wait for
/// its leader for ever, and so would the quorum for it once it votes.
async fn must_be_of(writer: Writer, live: &MemberList) -> Result<(), Refused> {
    let urls = live.members.iter().flat_map(|it| &it.peer_urls);
    let asked = join_all(urls.map(|url| peer::is_upstream(url, PEER_LIMIT))).await;
    let wrong = writer == Writer::Embedded;
    if !asked.into_iter().flatten().any(|is_upstream| is_upstream == wrong) {
        return Ok(());
    }
    let how = match writer {
        Writer::Embedded => {
            "the cluster runs an upstream etcd, which the embedded engine cannot join; run one \
             here as well: --exec PATH (quorate up --engine PATH)"
        }
        Writer::Upstream => {
            "the cluster runs the embedded engine, which an upstream etcd cannot join; run it \
             here as well: without --exec (quorate up --engine embedded)"
        }
    };
    Err(refused(ExitKind::BadConfig, how))
}

/// Reads the whole log before an engine does: etcd takes damage in the middle for a write that
/// broke off, cuts the log there by itself, and may then vote without what it acknowledged.
async fn must_be_whole(home: &NodeHome, member: MemberId) -> Result<(), Refused> {
    let data = home.data();
    // A long log takes a while, in which the state page goes on answering.
    let checked = tokio::task::spawn_blocking(move || wal::check(&data)).await;
    let unknown = |e: String| refused(ExitKind::Unknown, format!("the log cannot be read: {e}"));
    let report =
        checked.map_err(|e| unknown(e.to_string()))?.map_err(|e| unknown(e.to_string()))?;
    match report.and_then(|r| r.damage) {
        None => Ok(()),
        Some(spot) => Err(refused(
            ExitKind::DataDamaged,
            format!(
                "the log of member {member} is damaged in {} at byte {}: {}",
                spot.file.display(),
                spot.offset,
                spot.what
            ),
        )),
    }
}

fn refused(kind: ExitKind, detail: impl Into<String>) -> Refused {
    Refused { kind, detail: detail.into() }
}

/// The cluster and the member that a start as `new` makes; `None` if the own name is not listed.
fn founding_identity(config: &NodeConfig) -> Option<(ClusterId, MemberId)> {
    let token = config.initial_cluster_token.as_str();
    let id_of = |name: &str| {
        let own = config.initial_cluster.iter().filter(|(n, _)| n == name);
        founding_member_id(own.map(|(_, url)| url.as_str()), token)
    };
    let names: BTreeSet<_> = config.initial_cluster.iter().map(|(n, _)| n.as_str()).collect();
    let own = names.get(config.name.as_str()).map(|name| id_of(name))?;
    Some((founding_cluster_id(names.into_iter().map(id_of)), own))
}

/// The founding members, if these settings are those that `member` of `cluster` was founded with,
/// whatever they are called by now: the same on each of them.
pub(super) fn founders(
    config: &NodeConfig,
    cluster: ClusterId,
    member: MemberId,
) -> Option<Vec<Founder>> {
    if founding_identity(config) != Some((cluster, member)) {
        return None;
    }
    let names: BTreeSet<_> = config.initial_cluster.iter().map(|(name, _)| name).collect();
    let founder = |name: &String| {
        let own = config.initial_cluster.iter().filter(|(n, _)| n == name);
        let peer_urls: Vec<_> = own.map(|(_, url)| url.clone()).collect();
        let urls = peer_urls.iter().map(String::as_str);
        Founder { id: founding_member_id(urls, &config.initial_cluster_token), peer_urls }
    };
    Some(names.into_iter().map(founder).collect())
}

/// A founding ID that every host derives alike when nobody handed one out.
fn derived_founding(config: &NodeConfig) -> FoundingId {
    let urls = config.initial_cluster.iter().map(|(_, url)| url.as_str());
    FoundingId(founding_member_id(urls, &config.initial_cluster_token).0)
}

fn at_barrier(
    config: &NodeConfig,
    founding: FoundingId,
    cluster: ClusterId,
    member: MemberId,
) -> Result<Founders, Refused> {
    let listen = config.listen_peer_urls.first().map_or("", String::as_str);
    let listen = port::listen_address(listen).map_err(|e| refused(ExitKind::BadConfig, e))?;
    Ok(Founders {
        founding,
        cluster,
        node: config.name.clone(),
        member,
        listen,
        others: other_peers(config),
    })
}

pub(super) fn other_peers(config: &NodeConfig) -> Vec<String> {
    let own = &config.initial_advertise_peer_urls;
    let others = config
        .initial_cluster
        .iter()
        .filter(|(name, url)| *name != config.name && !own.contains(url));
    others.map(|(_, url)| url.clone()).collect()
}

/// The bytes that a new member's data takes: 1.2 times the leader's store, and the log beside it.
/// Refuses where there is no such room and deleting every set-aside would not make it. Deletes
/// nothing.
async fn room_needed(home: &NodeHome, live: &MemberList, writer: Writer) -> Result<u64, Refused> {
    let client = Client::new(PEER_LIMIT);
    let endpoints = live.members.iter().filter_map(|m| m.client_urls.first());
    let statuses = join_all(endpoints.map(|url| client.status(url))).await;
    let size = statuses.into_iter().flatten().map(|s| s.db_size).max().ok_or_else(|| {
        refused(ExitKind::NoPeers, "no member says how much room its data needs; nothing was moved")
    })?;
    let needed = size.saturating_add(size / 5).saturating_add(writer.log_room());
    let free = home.free_bytes()?;
    if free < needed && free.saturating_add(home.aside_bytes()?) < needed {
        return Err(no_room(home, free, needed));
    }
    Ok(needed)
}

/// Drops the oldest set-asides until so much is free. Nothing else stands between this and the
/// start that needs the room.
fn make_room(home: &NodeHome, needed: u64) -> Result<(), Refused> {
    let mut left = home.asides()?.len();
    loop {
        let free = home.free_bytes()?;
        if free >= needed {
            return Ok(());
        }
        left = left.checked_sub(1).ok_or_else(|| no_room(home, free, needed))?;
        for gone in home.prune_asides(left)? {
            tracing::warn!(gone, needed, "a set-aside was deleted to make room");
        }
    }
}

fn no_room(home: &NodeHome, free: u64, needed: u64) -> Refused {
    let place = home.dir().display();
    refused(
        ExitKind::DiskFull,
        format!(
            "{place} has {free} bytes free and the cluster's data needs {needed}: make room there; \
             nothing was moved"
        ),
    )
}

/// Stamps the home and its new, empty data directory, before the engine first runs.
fn stamp_place(
    home: &NodeHome,
    lock: &HomeLock,
    cluster: ClusterId,
    member: MemberId,
    founding: Option<FoundingId>,
) -> Result<(), Refused> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|e| refused(ExitKind::Unknown, format!("no random numbers: {e}")))?;
    home.clear_leftovers(lock, member)?;
    let stamp = Stamp::new(cluster, member, Incarnation(u64::from_be_bytes(bytes)), founding);
    home.write_stamp(lock, &stamp)?;
    home.create_data()?;
    home.copy_stamp(lock, &stamp)?;
    Ok(())
}

/// Renders the initial cluster from the live list, whatever the configuration says; that only
/// lends names to members that have published none.
fn joining(config: NodeConfig, live: &MemberList, own: MemberId) -> NodeConfig {
    let known = |member: &Member| {
        let listed = config.initial_cluster.iter().find(|(_, url)| member.peer_urls.contains(url));
        listed.map(|(name, _)| name.clone())
    };
    let initial_cluster = live_cluster(&live.members, &config.name, Some(own), known);
    let own_urls = live.members.iter().find(|m| m.id == own).map(|m| m.peer_urls.clone());
    NodeConfig {
        initial_cluster,
        initial_cluster_state: InitialState::Existing,
        initial_advertise_peer_urls: own_urls
            .unwrap_or_else(|| config.initial_advertise_peer_urls.clone()),
        ..config
    }
}
