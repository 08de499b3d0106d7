//! etcd's v3 API, spoken through the generated code alone: what a test sees of a cluster does not
//! pass through the product's own client.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use quorate::proto::etcdserverpb as pb;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime can be made")
});

/// Runs on the tests' one runtime.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// Lets a task run beside the test.
pub(crate) fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    RUNTIME.spawn(future)
}

/// A connection that is made when first used, and again when it breaks.
pub(crate) fn channel(endpoint: &str) -> Channel {
    let _inside = RUNTIME.enter();
    let endpoint = Endpoint::from_shared(endpoint.to_owned()).expect("an endpoint is a URL");
    endpoint.connect_timeout(Duration::from_secs(1)).connect_lazy()
}

/// One entry of the member list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) peer_urls: Vec<String>,
    pub(crate) client_urls: Vec<String>,
    pub(crate) learner: bool,
}

impl Member {
    /// The ID as etcdctl prints it.
    pub(crate) fn hex(&self) -> String {
        format!("{:x}", self.id)
    }
}

/// A member list and the cluster it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) cluster: u64,
    pub(crate) members: Vec<Member>,
}

/// What a member says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) member: u64,
    pub(crate) leader: u64,
    pub(crate) learner: bool,
    pub(crate) revision: i64,
    pub(crate) errors: Vec<String>,
}

const PATIENCE: Duration = Duration::from_secs(3);

/// For what goes through the whole store.
const LONG_PATIENCE: Duration = Duration::from_secs(30);

async fn ask<T>(
    endpoint: &str,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, String> {
    ask_for(PATIENCE, endpoint, call).await
}

async fn ask_for<T>(
    patience: Duration,
    endpoint: &str,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, String> {
    match tokio::time::timeout(patience, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(format!("{endpoint}: {:?} {}", status.code(), status.message())),
        Err(_) => Err(format!("{endpoint}: no answer in {patience:?}")),
    }
}

/// The list as one member has it, which may be old and needs no quorum.
pub(crate) async fn local_list(endpoint: &str, channel: Channel) -> Result<List, String> {
    let mut client = pb::cluster_client::ClusterClient::new(channel);
    // Older engines do not know the field and answer from what they have; newer ones are asked to.
    let request = pb::MemberListRequest { linearizable: false };
    let answer = ask(endpoint, client.member_list(request)).await?;
    let entry = |member: pb::Member| Member {
        id: member.id,
        name: member.name,
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
        learner: member.is_learner,
    };
    let cluster = answer.header.map_or(0, |header| header.cluster_id);
    let mut members: Vec<_> = answer.members.into_iter().map(entry).collect();
    members.sort();
    Ok(List { cluster, members })
}

/// The list from the first endpoint that a quorum vouches for.
pub(crate) fn vouched_list(endpoints: &[String]) -> Result<List, String> {
    let mut failures = Vec::new();
    for endpoint in endpoints {
        let channel = channel(endpoint);
        let read = pb::RangeRequest { key: "vouch".into(), ..Default::default() };
        let answer = block_on(async {
            let mut client = pb::kv_client::KvClient::new(channel.clone());
            ask(endpoint, client.range(read)).await?;
            local_list(endpoint, channel).await
        });
        match answer {
            Ok(list) => return Ok(list),
            Err(failure) => failures.push(failure),
        }
    }
    Err(failures.join("; "))
}

/// What one member says of itself.
pub(crate) fn status(endpoint: &str) -> Result<Status, String> {
    let mut client = pb::maintenance_client::MaintenanceClient::new(channel(endpoint));
    let answer = block_on(async { ask(endpoint, client.status(pb::StatusRequest {})).await })?;
    let header = answer.header.unwrap_or_default();
    Ok(Status {
        member: header.member_id,
        leader: answer.leader,
        learner: answer.is_learner,
        revision: header.revision,
        errors: answer.errors,
    })
}

/// Writes one key, on the first endpoint that takes it.
pub(crate) fn put(endpoints: &[String], key: &str, value: &[u8]) -> Result<i64, String> {
    let mut failures = Vec::new();
    for endpoint in endpoints {
        let mut client = pb::kv_client::KvClient::new(channel(endpoint));
        let (key, value) = (key.to_owned().into(), value.to_vec().into());
        let request = pb::PutRequest { key, value, ..Default::default() };
        match block_on(async { ask(endpoint, client.put(request)).await }) {
            Ok(answer) => return Ok(answer.header.map_or(0, |header| header.revision)),
            Err(failure) => failures.push(failure),
        }
    }
    Err(failures.join("; "))
}

/// Every key below `prefix` as this one member has it.
pub(crate) fn local_keys(
    endpoint: &str,
    prefix: &str,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, String> {
    const PAGE: usize = 5000;
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let mut client =
        pb::kv_client::KvClient::new(channel(endpoint)).max_decoding_message_size(64 << 20);
    let mut found = BTreeMap::new();
    let mut key = prefix.as_bytes().to_vec();
    loop {
        let request = pb::RangeRequest {
            key: key.clone().into(),
            range_end: end.clone().into(),
            limit: i64::try_from(PAGE).unwrap_or(i64::MAX),
            serializable: true,
            ..Default::default()
        };
        let answer = block_on(async { ask(endpoint, client.range(request)).await })?;
        let Some(last) = answer.kvs.last() else { return Ok(found) };
        key = last.key.to_vec();
        key.push(0);
        found.extend(answer.kvs.into_iter().map(|kv| (kv.key.to_vec(), kv.value.to_vec())));
        if !answer.more {
            return Ok(found);
        }
    }
}

/// The store's revision, as a quorum vouches for it; of the first endpoint that answers.
pub(crate) fn linear_revision(endpoints: &[String]) -> Result<i64, String> {
    let mut failures = Vec::new();
    for endpoint in endpoints {
        let mut client = pb::kv_client::KvClient::new(channel(endpoint));
        let request = pb::RangeRequest { key: "none".into(), ..Default::default() };
        match block_on(async { ask(endpoint, client.range(request)).await }) {
            Ok(answer) => return Ok(answer.header.map_or(0, |it| it.revision)),
            Err(failure) => failures.push(failure),
        }
    }
    Err(failures.join("; "))
}

/// The hash of one member's store up to a revision, and the revision it was compacted at.
pub(crate) fn hash_kv(endpoint: &str, revision: i64) -> Result<(u32, i64), String> {
    let mut client = pb::maintenance_client::MaintenanceClient::new(channel(endpoint));
    let request = pb::HashKvRequest { revision };
    let call = async { ask_for(LONG_PATIENCE, endpoint, client.hash_kv(request)).await };
    let answer = block_on(call)?;
    Ok((answer.hash, answer.compact_revision))
}
