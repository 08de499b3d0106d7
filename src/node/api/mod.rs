//! etcd's API on the client port: gRPC, and beside it health, metrics and the v2 member list.
//!
//! ```text
//! socket ── front (HTTP/1 or 2, good :authority) ── dispatch ─┬─ kv, lease, cluster, ..  gRPC
//!                                                             └─ http                    HTTP
//!                              all of them ── Api ── Replica::propose / read_barrier / read
//! ```
//!
//! A service checks, asks the [`Replica`](super::replica::Replica) and fills in the header;
//! what a request means is decided by [`apply`](super::apply). What is not built yet answers
//! Unimplemented and says so. `etcdserverpb.Watch` is made elsewhere and handed to
//! [`Server::with_watch`].

mod cluster;
mod counted;
mod dispatch;
mod front;
mod health;
mod http;
mod kv;
mod lease;
mod maintenance;
mod methods;
mod metrics;
mod options;
mod range_stream;
mod server;
mod shared;
mod status;
mod turns;
mod unary;
mod urls;
pub mod watch;

#[cfg(fuzzing)]
pub use front::fuzzing;
#[cfg(feature = "runtime")]
pub(crate) use front::put_string;
pub use metrics::Metrics;
pub use options::Options;
pub use server::{Server, serve, serve_metrics};
pub use shared::{Api, CLUSTER_VERSION, STORAGE_VERSION, VERSION, requires_leader};
pub use status::received;
