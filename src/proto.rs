//! The wire: what `build.rs` makes of the definitions in `proto/`, one module per package.
//!
//! Requests, answers, clients and servers of etcd's v3 API, exactly as on the wire; nothing here
//! decides anything. Bytes are [`bytes::Bytes`]: cheap to clone, and a
//! decoded one keeps the whole message it came in alive, so copy what is to be kept.

#![allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    clippy::missing_errors_doc,
    reason = "generated; what deserves words has them in proto/"
)]

/// Users, roles and permissions as they are stored.
pub mod authpb {
    tonic::include_proto!("authpb");
}
/// The v3 API itself: KV, Watch, Lease, Cluster, Maintenance and Auth.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
/// Keys and events.
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}
/// Elections among clients.
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}
/// Locks among clients.
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}
/// gRPC's common health protocol.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}
