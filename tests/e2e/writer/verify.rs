//! What each member holds of what was promised, read from the member itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use quorate::proto::etcdserverpb::kv_client::KvClient;
use quorate::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate::proto::etcdserverpb::{HashKvRequest, RangeRequest, RangeResponse};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;

use super::endpoints::Endpoints;
use super::{PREFIX, key, value};

/// How long members get to hold the same.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long one call may take.
const CALL: Duration = Duration::from_secs(10);

/// What was found; good if `faults` is empty.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Verified {
    members: usize,
    promised: usize,
    revision: i64,
    faults: Vec<String>,
}

/// Compares every member with what was promised, and with each other.
pub(crate) async fn verify(
    endpoints: &Endpoints,
    promised: &BTreeSet<usize>,
    members: usize,
) -> Verified {
    let mut verified = Verified { promised: promised.len(), ..Verified::default() };
    let begun = Instant::now();
    let revision = loop {
        endpoints.refresh().await;
        match agreed(&endpoints.all(), members).await {
            Ok(revision) => break revision,
            Err(why) if begun.elapsed() > PATIENCE => {
                verified.faults.push(why);
                return verified;
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    };
    verified.revision = revision;
    let mut hashes = BTreeMap::new();
    for (address, channel) in endpoints.all() {
        verified.members += 1;
        match holds(channel.clone(), promised).await {
            Ok(()) => {}
            Err(why) => verified.faults.push(format!("{address}: {why}")),
        }
        let asked = HashKvRequest { revision };
        let mut client = MaintenanceClient::new(channel);
        match timeout(CALL, client.hash_kv(asked)).await {
            Ok(Ok(answer)) => {
                hashes.insert(answer.into_inner().hash, address);
            }
            other => verified.faults.push(format!("{address}: no hash: {other:?}")),
        }
    }
    if hashes.len() > 1 {
        verified.faults.push(format!("members differ at revision {revision}: {hashes:?}"));
    }
    verified
}

/// The revision that all members are at.
async fn agreed(all: &[(SocketAddr, Channel)], members: usize) -> Result<i64, String> {
    if all.len() != members {
        return Err(format!("{} addresses for {members} members", all.len()));
    }
    let mut revisions = BTreeSet::new();
    for (address, channel) in all {
        let answer = local(channel.clone(), RangeRequest { count_only: true, ..all_keys() }).await;
        let answer = answer.map_err(|why| format!("{address}: {why}"))?;
        revisions.insert(answer.header.map(|it| it.revision).unwrap_or_default());
    }
    match revisions.pop_first() {
        Some(revision) if revisions.is_empty() => Ok(revision),
        lowest => Err(format!("revisions differ: {lowest:?} and {revisions:?}")),
    }
}

fn all_keys() -> RangeRequest {
    let end = PREFIX.replace('/', "0");
    RangeRequest { key: PREFIX.into(), range_end: end.into(), ..RangeRequest::default() }
}

async fn local(channel: Channel, request: RangeRequest) -> Result<RangeResponse, String> {
    // tonic's own limit of 4 MiB is soon reached.
    let mut client = KvClient::new(channel).max_decoding_message_size(1 << 28);
    let request = RangeRequest { serializable: true, ..request };
    match timeout(CALL, client.range(request)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(format!("{:?} {}", status.code(), status.message())),
        Err(_) => Err(format!("no answer in {CALL:?}")),
    }
}

async fn holds(channel: Channel, promised: &BTreeSet<usize>) -> Result<(), String> {
    let held = local(channel, all_keys()).await?;
    let held: BTreeMap<Vec<u8>, Vec<u8>> =
        held.kvs.into_iter().map(|it| (it.key.into(), it.value.into())).collect();
    let of = |number: usize| held.get(key(number).as_bytes());
    let missing: Vec<_> = promised.iter().filter(|n| of(**n).is_none()).collect();
    let wrong: Vec<_> = promised
        .iter()
        .filter(|n| of(**n).is_some_and(|held| *held != value(**n).into_bytes()))
        .collect();
    if missing.is_empty() && wrong.is_empty() {
        return Ok(());
    }
    let first = |of: &[&usize]| of.first().map(|n| key(**n));
    Err(format!(
        "{} of {} acknowledged keys are gone, such as {:?}; {} have another value, such as {:?}",
        missing.len(),
        promised.len(),
        first(&missing),
        wrong.len(),
        first(&wrong)
    ))
}
