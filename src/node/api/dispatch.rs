//! From an HTTP request to the service that answers it: gRPC by its path, everything else by the
//! HTTP routes. What etcd does in its interceptors is done here.
//!
//! Source: etcd's `api/v3rpc/interceptor.go`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, Request, Response, Version};
use futures_util::future::ready;
use hyper::body::Incoming;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::server::Grpc;
use tonic_prost::ProstCodec;

use super::counted::{Counted, Handled};
use super::http;
use super::kv::KvService;
use super::lease::LeaseService;
use super::methods::{self, Kind, Learner, Method, Service};
use super::shared::Api;
use super::status::received;
use super::unary::{self, Met};
use super::{cluster::ClusterService, health::HealthService, maintenance::MaintenanceService};
use crate::node::fault::Fault;
use crate::node::replica::Replica;
use crate::proto::etcdserverpb::cluster_server::ClusterServer;
use crate::proto::etcdserverpb::kv_server::KvServer;
use crate::proto::etcdserverpb::lease_server::LeaseServer;
use crate::proto::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::proto::etcdserverpb::{AuthStatusRequest, AuthStatusResponse};
use crate::proto::health::health_server::HealthServer;

/// An answer on its way.
pub(super) type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// A gRPC service that is made elsewhere.
pub(super) type Grafted = Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

/// All services. One for all connections.
pub(super) struct Dispatch<R> {
    api: Arc<Api<R>>,
    kv: KvServer<KvService<R>>,
    lease: LeaseServer<LeaseService<R>>,
    cluster: ClusterServer<ClusterService<R>>,
    maintenance: MaintenanceServer<MaintenanceService<R>>,
    health: HealthServer<HealthService<R>>,
    watch: Option<Grafted>,
    http: axum::Router,
    /// Not on a port that is for metrics.
    has_calls: bool,
}

impl<R: Replica> Dispatch<R> {
    pub(super) fn new(api: &Arc<Api<R>>, watch: Option<Grafted>) -> Dispatch<R> {
        let most = api.options().max_message_bytes();
        let kv = KvServer::new(KvService(Arc::clone(api)));
        let lease = LeaseServer::new(LeaseService(Arc::clone(api)));
        let cluster = ClusterServer::new(ClusterService(Arc::clone(api)));
        let maintenance = MaintenanceServer::new(MaintenanceService(Arc::clone(api)));
        let health = HealthServer::new(HealthService(Arc::clone(api)));
        Dispatch {
            api: Arc::clone(api),
            kv: kv.max_decoding_message_size(most),
            lease: lease.max_decoding_message_size(most),
            cluster: cluster.max_decoding_message_size(most),
            maintenance: maintenance.max_decoding_message_size(most),
            health: health.max_decoding_message_size(most),
            watch,
            http: http::routes(Arc::clone(api)),
            has_calls: true,
        }
    }

    /// Metrics and health checks, and nothing else.
    pub(super) fn of_metrics(api: &Arc<Api<R>>) -> Dispatch<R> {
        let http = http::metrics_routes(Arc::clone(api));
        Dispatch { http, has_calls: false, ..Dispatch::new(api, None) }
    }

    pub(super) fn answer(&self, request: Request<Incoming>) -> Answer {
        if !self.has_calls || !is_grpc(&request) {
            return self.page(request);
        }
        let path = request.uri().path();
        let Some((at, method)) = methods::find(path) else { return no_call(path) };
        self.api.metrics().grpc_began(at);
        if let Err(fault) = self.admit(method, request.headers()) {
            self.api.metrics().grpc_handled(at, Status::from(fault).code());
            return Box::pin(ready(Ok(Status::from(fault).into_http())));
        }
        // Each of them is a few pointers.
        let answer: Answer = match method.service {
            Service::Kv => self.kv(method, request),
            Service::Lease => self.lease.clone().call(request),
            Service::Cluster => self.cluster.clone().call(request),
            Service::Maintenance => self.maintenance.clone().call(request),
            Service::Health => self.health.clone().call(request),
            Service::AuthStatus => auth_status(Arc::clone(&self.api), request),
            Service::Watch => match &self.watch {
                Some(watch) => watch(request),
                None => not_built(),
            },
            Service::None => not_built(),
        };
        let mut handled = Handled::new(Arc::clone(self.api.metrics()), at);
        let kind = method.kind;
        Box::pin(async move {
            let Ok(response) = answer.await;
            let response = reworded(response);
            let code = Status::from_header_map(response.headers()).map(|it| it.code());
            match (code, kind) {
                (Some(code), _) => handled.count(code),
                (None, Kind::Unary) => handled.count(tonic::Code::Ok),
                (None, Kind::ServerStream | Kind::BidiStream) => {
                    let counted = |body| Body::new(Counted::new(body, handled));
                    return Ok(response.map(counted));
                }
            }
            Ok(response)
        })
    }

    /// Reads and single writes by the short way.
    fn kv(&self, method: &Method, request: Request<Incoming>) -> Answer {
        let (service, mut tonic) = (KvService(Arc::clone(&self.api)), self.kv.clone());
        let most = self.api.options().max_message_bytes();
        match method.path {
            methods::RANGE => Box::pin(async move {
                match unary::meet(request, most).await {
                    Met::Whole(headers, it) => {
                        Ok(unary::answer(service.ranged(&headers, it).await))
                    }
                    Met::Other(request) => tonic.call(*request).await,
                }
            }),
            methods::PUT => Box::pin(async move {
                match unary::meet(request, most).await {
                    Met::Whole(headers, it) => Ok(unary::answer(service.done(&headers, it).await)),
                    Met::Other(request) => tonic.call(*request).await,
                }
            }),
            _ => tonic.call(request),
        }
    }

    /// What is asked of every call, before it is even read.
    fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<(), Fault> {
        let version = headers.get("client-api-version").map_or(&b"unknown"[..], |it| it.as_bytes());
        let Ok(version) = std::str::from_utf8(version) else {
            return Err(Fault::InvalidClientApiVersion);
        };
        self.api.metrics().client_request(method.kind, version);
        if method.service == Service::None {
            return Ok(()); // what is not built is said to everyone
        }
        let standing = self.api.standing();
        if standing.is_learner && method.learner == Learner::No {
            return Err(Fault::NotSupportedForLearner);
        }
        let requires_leader = headers.get("hasleader").is_some_and(|it| it == "true");
        if requires_leader && standing.leader.is_none() {
            return Err(Fault::NoLeader);
        }
        Ok(())
    }

    /// Anything but gRPC.
    fn page(&self, request: Request<Incoming>) -> Answer {
        let mut http = self.http.clone();
        Box::pin(async move { http.call(request).await.map(|it| it.map(Body::new)) })
    }
}

/// gRPC is spoken over HTTP/2 only, as Go's server has it.
fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get("content-type").map_or(&b""[..], HeaderValue::as_bytes);
    request.version() == Version::HTTP_2 && kind.starts_with(b"application/grpc")
}

/// A call that the API does not have, in grpc-go's words.
fn no_call(path: &str) -> Answer {
    let words = match path.trim_start_matches('/').rsplit_once('/') {
        Some((service, method)) if methods::has_service(service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
        None => format!("malformed method name: {path:?}"),
    };
    Box::pin(ready(Ok(Status::unimplemented(words).into_http())))
}

fn not_built() -> Answer {
    Box::pin(ready(Ok(Status::from(Fault::NotBuilt).into_http())))
}

/// An error that tonic made itself, as etcd says it.
fn reworded(response: Response<Body>) -> Response<Body> {
    // Errors of others have no such code, or their own words.
    if response.headers().get("grpc-status").is_none_or(|it| it != "11") {
        return response;
    }
    match Status::from_header_map(response.headers()) {
        Some(status) => received(status).into_http(),
        None => response,
    }
}

/// The one call of Auth that can be answered truly: it is off.
fn auth_status<R: Replica>(api: Arc<Api<R>>, request: Request<Incoming>) -> Answer {
    struct AuthStatus<R>(Arc<Api<R>>);
    impl<R: Replica> tonic::server::UnaryService<AuthStatusRequest> for AuthStatus<R> {
        type Response = AuthStatusResponse;
        type Future = std::future::Ready<Result<tonic::Response<AuthStatusResponse>, Status>>;

        fn call(&mut self, _: tonic::Request<AuthStatusRequest>) -> Self::Future {
            let header = Some(self.0.current_header());
            // A store of users that was never changed is at its revision 1.
            let status = AuthStatusResponse { header, enabled: false, auth_revision: 1 };
            std::future::ready(Ok(tonic::Response::new(status)))
        }
    }
    Box::pin(async move {
        let mut grpc = Grpc::new(ProstCodec::default());
        Ok(grpc.unary(AuthStatus(api), request).await)
    })
}
