//! Cluster: the member list and its changes. The rules of membership are the replica's.
//!
//! Source: etcd's `api/v3rpc/member.go`.

use std::sync::Arc;

use bytes::Bytes;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::shared::{Api, Call};
use super::urls::peer_urls;
use crate::cluster::MemberId;
use crate::node::fault::Fault;
use crate::node::replica::Replica;
use crate::proto::etcdserverpb::cluster_server::Cluster;
use crate::proto::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse, ResponseHeader,
};

/// The service.
#[derive(Debug)]
pub(super) struct ClusterService<R>(pub(super) Arc<Api<R>>);

impl<R: Replica> ClusterService<R> {
    fn begin(&self, name: &'static str, metadata: &MetadataMap) -> Call {
        self.0.begin(name, &Bytes::new(), metadata)
    }

    /// These answers have nothing to do with the store: their revision is 0.
    #[expect(clippy::unnecessary_wraps, reason = "every field that takes it is optional")]
    fn header(&self) -> Option<ResponseHeader> {
        Some(self.0.header(0))
    }
}

#[tonic::async_trait]
impl<R: Replica> Cluster for ClusterService<R> {
    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let work = async {
            let urls = peer_urls(&request.peer_urls).map_err(|_| Fault::MemberBadUrls)?;
            let (member, members) = self.0.replica().add_member(urls, request.is_learner).await?;
            Ok(MemberAddResponse { header: self.header(), member: Some(member), members })
        };
        self.0.run(self.begin("MemberAdd", &metadata), work).await
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let work = async {
            let members = self.0.replica().remove_member(MemberId(request.id)).await?;
            Ok(MemberRemoveResponse { header: self.header(), members })
        };
        self.0.run(self.begin("MemberRemove", &metadata), work).await
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let work = async {
            // etcd takes anything here, and then has a member that nobody can reach.
            let urls = peer_urls(&request.peer_urls).map_err(|_| Fault::MemberBadUrls)?;
            let members = self.0.replica().update_member(MemberId(request.id), urls).await?;
            Ok(MemberUpdateResponse { header: self.header(), members })
        };
        self.0.run(self.begin("MemberUpdate", &metadata), work).await
    }

    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let work = async {
            if request.linearizable {
                self.0.barrier().await?;
            }
            let members = self.0.replica().members();
            Ok(MemberListResponse { header: self.header(), members })
        };
        self.0.run(self.begin("MemberList", &metadata), work).await
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let work = async {
            let members = self.0.replica().promote_member(MemberId(request.id)).await?;
            Ok(MemberPromoteResponse { header: self.header(), members })
        };
        self.0.run(self.begin("MemberPromote", &metadata), work).await
    }
}
