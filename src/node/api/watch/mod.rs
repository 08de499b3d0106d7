//! Watches, on streams that end only with the client or the server.
//!
//! What a watch is and hears of is in [`watch`](crate::node::watch); here it is put on gRPC.
//!
//! Source: etcd's `api/v3rpc/watch.go`.

mod codec;
mod stream;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Request, Response};
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, StreamingService};

use self::codec::{Codec, Said};
use self::stream::WatchStream;
use super::shared::{Api, requires_leader};
use crate::node::replica::Replica;
use crate::node::watch::Hub;
use crate::proto::etcdserverpb::WatchRequest;

/// etcd's `minWatchProgressInterval`.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// The service, for [`Server::with_watch`](super::Server::with_watch).
#[derive(Debug)]
pub struct WatchService<R> {
    api: Arc<Api<R>>,
    hub: Arc<Hub>,
    interval: Duration,
}

/// Serves what `hub` hears of this API's replica. A watch that asks for it is told the revision
/// when it had no event for about `interval` (`--watch-progress-notify-interval`; etcd's default
/// is 10 minutes, the shortest is 100 ms).
pub fn service<R: Replica>(api: Arc<Api<R>>, hub: Arc<Hub>, interval: Duration) -> WatchService<R> {
    api.metrics().look_at(Arc::clone(&hub));
    WatchService { api, hub, interval: interval.max(SHORTEST_INTERVAL) }
}

impl<R> Clone for WatchService<R> {
    fn clone(&self) -> Self {
        let (api, hub) = (Arc::clone(&self.api), Arc::clone(&self.hub));
        WatchService { api, hub, interval: self.interval }
    }
}

impl<R> NamedService for WatchService<R> {
    const NAME: &'static str = "etcdserverpb.Watch";
}

impl<R: Replica> Service<Request<Incoming>> for WatchService<R> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let service = self.clone();
        let most = self.api.options().max_message_bytes();
        Box::pin(async move {
            let mut grpc = Grpc::new(Codec).max_decoding_message_size(most);
            Ok(grpc.streaming(service, request).await)
        })
    }
}

impl<R: Replica> StreamingService<WatchRequest> for WatchService<R> {
    type Response = Said;
    type ResponseStream = WatchStream<R>;
    type Future = std::future::Ready<Result<tonic::Response<WatchStream<R>>, Status>>;

    fn call(&mut self, request: tonic::Request<tonic::Streaming<WatchRequest>>) -> Self::Future {
        let requires_leader = requires_leader(request.metadata());
        let requests = request.into_inner();
        let stream =
            WatchStream::new(&self.api, &self.hub, requests, requires_leader, self.interval);
        std::future::ready(Ok(tonic::Response::new(stream)))
    }
}
