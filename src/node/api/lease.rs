//! Leases. What is granted and revoked goes through the log; whoever leads keeps the time.
//!
//! Source: etcd's `api/v3rpc/lease.go`.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::{Either, pending};
use futures_util::stream::try_unfold;
use tonic::{Request, Response, Status, Streaming};

use super::shared::{Api, requires_leader};
use super::status::received;
use crate::node::apply::{self, Operation, check};
use crate::node::fault::Fault;
use crate::node::replica::Replica;
use crate::proto::etcdserverpb::lease_server::Lease;
use crate::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};

/// The service.
#[derive(Debug)]
pub(super) struct LeaseService<R>(pub(super) Arc<Api<R>>);

#[tonic::async_trait]
impl<R: Replica> Lease for LeaseService<R> {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let call = self.0.begin("LeaseGrant", &Bytes::new(), &metadata);
        self.0.run(call, self.grant(request)).await
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let call = self.0.begin("LeaseRevoke", &Bytes::new(), &metadata);
        self.0.run(call, self.revoke(request)).await
    }

    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let requires_leader = requires_leader(request.metadata());
        let renewals = Renewals { api: Arc::clone(&self.0), requests: request.into_inner() };
        let end = Box::pin(end(Arc::clone(&self.0), requires_leader));
        let stream = try_unfold((renewals, end), |(mut renewals, mut end)| async move {
            let answer = tokio::select! {
                fault = &mut end => return Err(Status::from(fault)),
                answer = renewals.next() => answer?,
            };
            Ok(answer.map(|answer| (answer, (renewals, end))))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let call = self.0.begin("LeaseTimeToLive", &Bytes::new(), &metadata);
        self.0.run(call, self.time_to_live(request)).await
    }

    async fn lease_leases(
        &self,
        request: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let call = self.0.begin("LeaseLeases", &Bytes::new(), request.metadata());
        self.0.run(call, self.leases()).await
    }
}

impl<R: Replica> LeaseService<R> {
    async fn grant(&self, mut request: LeaseGrantRequest) -> Result<LeaseGrantResponse, Fault> {
        check::check_lease_grant(&mut request, self.0.options().min_lease_ttl())?;
        while request.id == 0 {
            // Positive ones only: some clients print them as unsigned, some as signed numbers.
            let drawn = getrandom::u64().map_err(|_| Fault::Storage)?;
            request.id = i64::try_from(drawn >> 1).unwrap_or(0);
        }
        let response = self.0.propose(Operation::LeaseGrant(request)).await?;
        let apply::Response::LeaseGrant(mut response) = response else {
            return Err(Fault::Mismatch);
        };
        self.0.fill(&mut response.header);
        Ok(response)
    }

    async fn revoke(&self, request: LeaseRevokeRequest) -> Result<LeaseRevokeResponse, Fault> {
        let response = self.0.propose(Operation::LeaseRevoke(request)).await?;
        let apply::Response::LeaseRevoke(mut response) = response else {
            return Err(Fault::Mismatch);
        };
        self.0.fill(&mut response.header);
        Ok(response)
    }

    async fn time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveResponse, Fault> {
        let id = request.id;
        let left = self.0.replica().lease_left(id).await?;
        let (ttl, granted_ttl) = left.unwrap_or((-1, 0));
        let keys = |state: &apply::State| -> Vec<Bytes> {
            state.lease(id).into_iter().flat_map(apply::Lease::keys).cloned().collect()
        };
        let wants_keys = request.keys && left.is_some();
        let keys = if wants_keys { self.0.replica().read(keys) } else { Vec::new() };
        let header = Some(self.0.current_header());
        Ok(LeaseTimeToLiveResponse { header, id, ttl, granted_ttl, keys })
    }

    async fn leases(&self) -> Result<LeaseLeasesResponse, Fault> {
        // A lease that was granted anywhere before is in the list, which etcd's may miss.
        self.0.barrier().await?;
        let status = |lease: &apply::Lease| LeaseStatus { id: lease.id() };
        let leases = self.0.replica().read(|state| state.leases().map(status).collect());
        Ok(LeaseLeasesResponse { header: Some(self.0.current_header()), leases })
    }
}

/// One client's renewals, each answered before the next is taken.
struct Renewals<R> {
    api: Arc<Api<R>>,
    requests: Streaming<LeaseKeepAliveRequest>,
}

impl<R: Replica> Renewals<R> {
    async fn next(&mut self) -> Result<Option<LeaseKeepAliveResponse>, Status> {
        let Some(LeaseKeepAliveRequest { id }) = self.requests.message().await.map_err(received)?
        else {
            return Ok(None);
        };
        // Taken before the renewal: the lease is alive at this revision at least.
        let header = Some(self.api.current_header());
        let limit = self.api.options().request_timeout();
        let renewal = tokio::time::timeout(limit, self.api.replica().renew_lease(id));
        let ttl = renewal.await.unwrap_or(Err(Fault::Timeout))?;
        Ok(Some(LeaseKeepAliveResponse { header, id, ttl }))
    }
}

/// Why a stream that is never done has to end.
pub(super) async fn end<R: Replica>(api: Arc<Api<R>>, requires_leader: bool) -> Fault {
    let leaderless =
        if requires_leader { Either::Left(api.leaderless()) } else { Either::Right(pending()) };
    tokio::select! {
        () = api.stopped() => Fault::Stopped,
        () = leaderless => Fault::NoLeader,
    }
}
