//! gRPC's common health protocol: the server as a whole (the empty name) serves until it stops.
//! Whether the cluster serves is told by `/health` and `/readyz`.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream::unfold;
use tonic::{Request, Response, Status};

use super::shared::Api;
use crate::node::replica::Replica;
use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::health_server::Health;
use crate::proto::health::{HealthCheckRequest, HealthCheckResponse};

/// The service.
#[derive(Debug)]
pub(super) struct HealthService<R>(pub(super) Arc<Api<R>>);

#[tonic::async_trait]
impl<R: Replica> Health for HealthService<R> {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !request.get_ref().service.is_empty() {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(serving(!self.0.is_stopping())))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let is_known = request.get_ref().service.is_empty();
        let steps = unfold((Arc::clone(&self.0), 0), move |(api, step)| async move {
            let answer = match step {
                0 if is_known => serving(!api.is_stopping()),
                0 => HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() },
                1 => {
                    api.stopped().await;
                    if !is_known {
                        return None;
                    }
                    serving(false)
                }
                _ => return None,
            };
            Some((Ok(answer), (api, step + 1)))
        });
        Ok(Response::new(Box::pin(steps)))
    }
}

fn serving(is: bool) -> HealthCheckResponse {
    let status = if is { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status.into() }
}
