//! What a member says of itself: its status and the hash of its store.

use super::{Client, ClientError};
use crate::cluster::{ClusterId, MemberId, Role};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::maintenance_client::MaintenanceClient;

/// A member's own account of itself, from its local state: it needs no quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// Who answered.
    pub member: MemberId,
    /// The leader it follows, or itself; `None` during an election or without a quorum.
    pub leader: Option<MemberId>,
    /// What it takes itself for.
    pub role: Role,
    /// The engine's version, such as `3.4.23`.
    pub version: String,
    /// The size of the store's file, in bytes.
    pub db_size: u64,
    /// The raft term it is in.
    pub raft_term: u64,
    /// The last raft index it knows to be committed.
    pub raft_index: u64,
    /// The last raft index it has applied.
    pub applied_index: u64,
    /// The store's revision.
    pub revision: i64,
    /// Alarms and other trouble, in the engine's own words (`etcdserver: no leader`).
    pub errors: Vec<String>,
}

/// A hash over every key and revision up to one revision; equal on members that agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    /// The hash. Comparable only where `compact_revision` is equal too.
    pub hash: u32,
    /// Below this revision the store was compacted when it was hashed.
    pub compact_revision: i64,
    /// The member's revision when it answered.
    pub revision: i64,
}

impl Client {
    /// Asks a member for its status.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`]; never ambiguous in effect, as nothing is changed.
    pub async fn status(&self, endpoint: &str) -> Result<Status, ClientError> {
        const CALL: &str = "status";
        let answer = self
            .call(CALL, endpoint, |channel| async {
                MaintenanceClient::new(channel).status(pb::StatusRequest {}).await
            })
            .await?;
        let header = header(CALL, endpoint, answer.header)?;
        Ok(Status {
            cluster: ClusterId(header.cluster_id),
            member: MemberId(header.member_id),
            leader: (answer.leader != 0).then_some(MemberId(answer.leader)),
            role: if answer.is_learner { Role::Learner } else { Role::Voter },
            version: answer.version,
            db_size: answer.db_size.try_into().unwrap_or_default(),
            raft_term: answer.raft_term,
            raft_index: answer.raft_index,
            applied_index: answer.raft_applied_index,
            revision: header.revision,
            errors: answer.errors,
        })
    }

    /// Has the cluster agree on an entry of its log that changes nothing, not even the revision: a
    /// question for the alarms, which goes through raft.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`]; after an ambiguous one it may have happened, which changes nothing.
    pub async fn agree_on_nothing(&self, endpoints: &[String]) -> Result<(), ClientError> {
        const CALL: &str = "alarms";
        let ask = |endpoint| {
            self.call(CALL, endpoint, |channel| async {
                MaintenanceClient::new(channel).alarm(pb::AlarmRequest::default()).await
            })
        };
        self.first_of(CALL, endpoints, ask).await.map(|_| ())
    }

    /// Hashes a member's store up to `revision`; 0 means its latest.
    ///
    /// # Errors
    ///
    /// [`super::Refusal::Compacted`] or [`super::Refusal::FutureRevision`] when the member does
    /// not hold that revision.
    pub async fn hash_kv(&self, endpoint: &str, revision: i64) -> Result<HashKv, ClientError> {
        const CALL: &str = "hash of the keys";
        let answer = self
            .call(CALL, endpoint, |channel| async move {
                MaintenanceClient::new(channel).hash_kv(pb::HashKvRequest { revision }).await
            })
            .await?;
        let header = header(CALL, endpoint, answer.header)?;
        Ok(HashKv {
            hash: answer.hash,
            compact_revision: answer.compact_revision,
            revision: header.revision,
        })
    }
}

/// The header of an answer, which every member sends.
pub(super) fn header(
    call: &'static str,
    endpoint: &str,
    header: Option<pb::ResponseHeader>,
) -> Result<pb::ResponseHeader, ClientError> {
    header.ok_or_else(|| ClientError::BadAnswer {
        call,
        endpoint: endpoint.to_owned(),
        what: "the answer has no header".to_owned(),
    })
}
