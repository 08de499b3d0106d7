//! The part `leases`: so many, with a key each.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use quorate::proto::etcdserverpb as pb;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::engine::{Engine, leader_url};
use crate::figures::Cost::{Each, Whole};
use crate::figures::{Figure, Line, figure, line};
use crate::measure::as_f64;
use crate::settings::{PATIENCE, Settings, engines_of, largest_mib};
use crate::support::process::Process;
use crate::support::wait::now;
use crate::support::wire::{block_on, channel};

pub(crate) const LINES: &[Line] = &[
    line("grant", "grant, 100 clients", "/s", Each),
    line("attach", "put of a key with a lease, 100 clients", "/s", Each),
    line("lease-memory", "  RSS then, largest member", "MiB", Whole),
    line("keep-alive", "all kept alive once, 100 streams", "s", Whole),
    line("expire", "all expire: first due to last key gone", "s", Whole),
];

/// Clients, each with one call under way; they share one connection.
const CLIENTS: usize = 100;
/// Seconds a lease lasts: enough to grant and to use them all before the first ends.
const TTL: i64 = 30;
/// What the keys of the leases begin with, and the end of their range.
const KEYS: [&str; 2] = ["leased/", "leased0"];

/// Grants so many, uses them, keeps them alive once, and lets them expire.
pub(crate) fn leases(engine: &Engine, settings: &Settings, count: u64) -> Vec<Figure> {
    let cluster = settings.cluster(engine);
    let url = leader_url(&cluster);
    let channel = channel(&url);
    let ids: Vec<i64> = (1..).take(usize::try_from(count).unwrap_or(usize::MAX)).collect();
    let shares: Vec<_> = ids.chunks(ids.len().div_ceil(CLIENTS)).map(<[i64]>::to_vec).collect();

    let granted = timed(shares.iter().map(|ids| grant(channel.clone(), ids)));
    let attached = timed(shares.iter().map(|ids| attach(channel.clone(), ids)));
    assert_eq!(left(&channel), count, "not every lease has its key");
    let memory = largest_mib(&engines_of(&cluster), Process::resident_kib);
    let begun = now();
    let kept = timed(shares.iter().map(|ids| keep_alive(channel.clone(), ids)));
    let expired = expire(&channel, begun);
    vec![
        figure("grant", as_f64(count) / granted, 1),
        figure("attach", as_f64(count) / attached, 1),
        figure("lease-memory", memory, 1),
        figure("keep-alive", kept, 1),
        figure("expire", expired, 0),
    ]
}

/// Seconds until all clients are done.
fn timed<F>(clients: impl Iterator<Item = F>) -> f64
where
    F: Future<Output = Result<(), Status>>,
{
    let begun = now();
    block_on(try_join_all(clients)).expect("no call fails");
    begun.elapsed().as_secs_f64()
}

async fn grant(channel: Channel, ids: &[i64]) -> Result<(), Status> {
    let mut client = pb::lease_client::LeaseClient::new(channel);
    for id in ids {
        let answer = client.lease_grant(pb::LeaseGrantRequest { ttl: TTL, id: *id }).await?;
        assert_eq!(answer.into_inner().ttl, TTL);
    }
    Ok(())
}

async fn attach(channel: Channel, ids: &[i64]) -> Result<(), Status> {
    let mut client = pb::kv_client::KvClient::new(channel);
    for id in ids {
        let key = format!("{}{id:08}", KEYS[0]).into();
        let value = vec![b'v'; 256].into();
        let put = pb::PutRequest { key, value, lease: *id, ..Default::default() };
        client.put(put).await?;
    }
    Ok(())
}

/// One stream on which each is asked for; all are then answered.
async fn keep_alive(channel: Channel, ids: &[i64]) -> Result<(), Status> {
    let mut client = pb::lease_client::LeaseClient::new(channel);
    let requests: Vec<_> = ids.iter().map(|id| pb::LeaseKeepAliveRequest { id: *id }).collect();
    let requests = Request::new(futures_util::stream::iter(requests));
    let mut answers = client.lease_keep_alive(requests).await?.into_inner();
    for _ in ids {
        let answer = answers.message().await?;
        assert_eq!(answer.map(|it| it.ttl), Some(TTL), "a lease had ended");
    }
    Ok(())
}

/// Waits until the last key is gone; seconds from when the first lease, kept alive at this moment,
/// could have ended.
fn expire(channel: &Channel, kept: Instant) -> f64 {
    let due = kept + Duration::from_secs(TTL.unsigned_abs());
    while left(channel) > 0 {
        assert!(kept.elapsed() < PATIENCE, "leases do not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    let gone = now();
    assert!(gone > due, "leases ended {:?} before their time", due - gone);
    (gone - due).as_secs_f64()
}

/// Keys that are still there.
fn left(channel: &Channel) -> u64 {
    let [key, range_end] = KEYS.map(|it| it.as_bytes().to_vec().into());
    let request = pb::RangeRequest { key, range_end, count_only: true, ..Default::default() };
    let answer = block_on(pb::kv_client::KvClient::new(channel.clone()).range(request));
    u64::try_from(answer.expect("it counts").into_inner().count).unwrap_or(0)
}
