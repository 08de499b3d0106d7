//! Maintenance: how this member is, and its care.
//!
//! Source: etcd's `api/v3rpc/maintenance.go`.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::Empty;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::shared::{Api, Call, STORAGE_VERSION, VERSION};
use crate::cluster::MemberId;
use crate::node::apply::State;
use crate::node::apply::{self, NO_QUOTA, Operation};
use crate::node::fault::Fault;
use crate::node::mvcc::{Hashed, ReadError};
use crate::node::replica::Replica;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::maintenance_server::Maintenance;
use crate::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, DefragmentRequest, DefragmentResponse,
    DowngradeInfo, DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest,
    HashResponse, MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse,
    StatusRequest, StatusResponse,
};

/// The service.
#[derive(Debug)]
pub(super) struct MaintenanceService<R>(pub(super) Arc<Api<R>>);

#[tonic::async_trait]
impl<R: Replica> Maintenance for MaintenanceService<R> {
    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.0.run(self.begin("Alarm", &metadata), self.alarm(request)).await
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(self.status()))
    }

    async fn defragment(
        &self,
        request: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        let work = async {
            tracing::info!("defragmenting the store");
            self.0.replica().defragment().await?;
            tracing::info!("the store is defragmented");
            Ok(DefragmentResponse { header: Some(self.0.current_header()) })
        };
        let call = self.begin("Defragment", request.metadata());
        self.0.run(call.unlimited(), work).await
    }

    async fn hash(&self, request: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let work = async {
            let (Hashed { hash, .. }, revision) = self.hash_up_to(0).await?;
            Ok(HashResponse { header: Some(self.0.header(revision)), hash })
        };
        let call = self.begin("Hash", request.metadata());
        self.0.run(call.unlimited(), work).await
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let work = async {
            let (hashed, revision) = self.hash_up_to(request.revision).await?;
            Ok(HashKvResponse {
                header: Some(self.0.header(revision)),
                hash: hashed.hash,
                // etcd's word for a store that was never compacted.
                compact_revision: if hashed.compacted == 0 { -1 } else { hashed.compacted },
                hash_revision: hashed.revision,
            })
        };
        let call = self.begin("HashKV", &metadata);
        self.0.run(call.unlimited(), work).await
    }

    type SnapshotStream = Empty<Result<SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        _: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Fault::NotBuilt.into())
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let work = async {
            if self.0.standing().leader != Some(self.0.replica().member()) {
                return Err(Fault::NotLeader);
            }
            self.0.replica().move_leader(MemberId(request.target_id)).await?;
            Ok(MoveLeaderResponse { header: Some(self.0.current_header()) })
        };
        self.0.run(self.begin("MoveLeader", &metadata), work).await
    }

    async fn downgrade(
        &self,
        _: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        Err(Fault::NotBuilt.into())
    }
}

impl<R: Replica> MaintenanceService<R> {
    fn begin(&self, name: &'static str, metadata: &MetadataMap) -> Call {
        self.0.begin(name, &Bytes::new(), metadata)
    }

    /// A list is a read; the rest is agreed on.
    async fn alarm(&self, request: AlarmRequest) -> Result<AlarmResponse, Fault> {
        if request.action() == AlarmAction::Get {
            self.0.barrier().await?;
            let alarms = self.0.replica().read(|state| state.alarms(request.alarm()));
            return Ok(AlarmResponse { header: Some(self.0.current_header()), alarms });
        }
        let response = self.0.propose(Operation::Alarm(request)).await?;
        let apply::Response::Alarm(mut response) = response else {
            return Err(Fault::Mismatch);
        };
        self.0.fill(&mut response.header);
        Ok(response)
    }

    fn status(&self) -> StatusResponse {
        let standing = self.0.standing();
        let (revision, in_use, quota, alarms) = self.0.replica().read(|state| {
            let alarms = state.alarms(AlarmType::None);
            (state.revision(), state.kv.bytes(), state.quota(), alarms)
        });
        // Clients divide by it.
        let size = self.0.replica().disk_size().max(1);
        let no_leader = standing.leader.is_none().then(|| Fault::NoLeader.to_string());
        let version = STORAGE_VERSION.to_owned();
        StatusResponse {
            header: Some(self.0.header(revision)),
            version: VERSION.to_owned(),
            db_size: number(size),
            leader: standing.leader.map_or(0, |it| it.0),
            raft_index: standing.committed,
            raft_term: standing.term,
            raft_applied_index: standing.applied,
            errors: no_leader.into_iter().chain(alarms.iter().map(said)).collect(),
            // The store counts logical bytes, and may keep them in fewer.
            db_size_in_use: number(in_use.min(size)),
            is_learner: standing.is_learner,
            storage_version: version,
            db_size_quota: if quota == NO_QUOTA { -1 } else { number(quota) },
            downgrade_info: Some(DowngradeInfo::default()),
        }
    }

    /// The hash of the keys up to a revision, 0 for the latest, and the store's own revision.
    async fn hash_up_to(&self, revision: i64) -> Result<(Hashed, i64), Fault> {
        let look = |state: &State| (state.kv.scan(revision), state.revision());
        let (scan, revision) = self.0.replica().read(look);
        let scan = scan.map_err(read_fault)?;
        // Reads everything, while writes go on.
        let hashed = tokio::task::spawn_blocking(move || scan.hash()).await;
        let hashed = hashed.map_err(|_| Fault::Stopped)?.map_err(ReadError::Store);
        Ok((hashed.map_err(read_fault)?, revision))
    }
}

fn read_fault(error: ReadError) -> Fault {
    match error {
        ReadError::Compacted => Fault::Compacted,
        ReadError::Future => Fault::FutureRevision,
        ReadError::Store(error) => {
            tracing::error!(%error, "the store could not be hashed");
            Fault::Storage
        }
    }
}

/// An alarm as Go prints the message, its last blank included.
fn said(alarm: &AlarmMember) -> String {
    let kind = alarm.alarm().as_str_name();
    format!("memberID:{} alarm:{kind} ", alarm.member_id)
}

fn number(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
