//! KV: reads by way of the read barrier, writes by way of the log.
//!
//! Source: etcd's `api/v3rpc/key.go` and `v3_server.go`.

use std::pin::Pin;
use std::sync::Arc;

use axum::http::HeaderMap;
use futures_util::Stream;
use tonic::{Request, Response, Status};

use super::range_stream;
use super::shared::Api;
use crate::node::apply::{self, Operation, ReadOnlyTxn, check};
use crate::node::fault::Fault;
use crate::node::replica::Replica;
use crate::proto::etcdserverpb::kv_server::Kv;
use crate::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, TxnRequest, TxnResponse,
};

/// The service.
#[derive(Debug)]
pub(super) struct KvService<R>(pub(super) Arc<Api<R>>);

#[tonic::async_trait]
impl<R: Replica> Kv for KvService<R> {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.ranged(metadata.as_ref(), request).await
    }

    type RangeStreamStream =
        Pin<Box<dyn Stream<Item = Result<RangeStreamResponse, Status>> + Send>>;

    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let (metadata, _, request) = request.into_parts();
        check::check_range(&request)?;
        range_stream::check(&request)?;
        if !request.serializable {
            let call = self.0.begin("RangeStream", &request.key, &metadata);
            self.0.run(call, self.0.barrier()).await?;
        }
        Ok(Response::new(Box::pin(range_stream::chunks(Arc::clone(&self.0), request))))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.done(metadata.as_ref(), request).await
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let call = self.0.begin("DeleteRange", &request.key, &metadata);
        self.0.run(call, self.delete_range(request)).await
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let first = request.compare.first().map(|it| it.key.clone()).unwrap_or_default();
        let call = self.0.begin("Txn", &first, &metadata);
        self.0.run(call, self.txn(request)).await
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let is_physical = request.physical;
        let call = self.0.begin("Compact", &prost::bytes::Bytes::new(), &metadata);
        let response = self.0.run(call, self.compact(request)).await?;
        if is_physical {
            let call = self.0.begin("Compact", &prost::bytes::Bytes::new(), &metadata);
            self.0.run(call.unlimited(), self.0.replica().swept()).await?;
        }
        Ok(response)
    }
}

impl<R: Replica> KvService<R> {
    /// `Range`, with these headers.
    pub(super) async fn ranged(
        &self,
        headers: &HeaderMap,
        request: RangeRequest,
    ) -> Result<Response<RangeResponse>, Status> {
        let call = self.0.begun("Range", &request.key, headers);
        self.0.run(call, self.0.range(&request)).await
    }

    /// `Put`, with these headers.
    pub(super) async fn done(
        &self,
        headers: &HeaderMap,
        request: PutRequest,
    ) -> Result<Response<PutResponse>, Status> {
        let call = self.0.begun("Put", &request.key, headers);
        self.0.run(call, self.put(request)).await
    }

    async fn put(&self, request: PutRequest) -> Result<PutResponse, Fault> {
        check::check_put(&request)?;
        let apply::Response::Put(mut response) = self.0.propose(Operation::Put(request)).await?
        else {
            return Err(Fault::Mismatch);
        };
        self.0.fill(&mut response.header);
        Ok(response)
    }

    async fn delete_range(
        &self,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Fault> {
        check::check_delete_range(&request)?;
        let response = self.0.propose(Operation::DeleteRange(request)).await?;
        let apply::Response::DeleteRange(mut response) = response else {
            return Err(Fault::Mismatch);
        };
        self.0.fill(&mut response.header);
        Ok(response)
    }

    async fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Fault> {
        check::check_txn(&request, self.0.options().max_txn_ops)?;
        let mut response = if let Some(reading) = ReadOnlyTxn::of(&request) {
            if !reading.is_serializable() {
                self.0.barrier().await?;
            }
            self.0.replica().read(|state| state.read_txn(&reading))?
        } else {
            match self.0.propose(Operation::Txn(request)).await? {
                apply::Response::Txn(response) => response,
                _ => return Err(Fault::Mismatch),
            }
        };
        self.0.fill(&mut response.header);
        Ok(response)
    }

    async fn compact(&self, request: CompactionRequest) -> Result<CompactionResponse, Fault> {
        let response = self.0.propose(Operation::Compact(request)).await?;
        let apply::Response::Compact(mut response) = response else {
            return Err(Fault::Mismatch);
        };
        self.0.fill(&mut response.header);
        Ok(response)
    }
}
