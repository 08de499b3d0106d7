//! Speaks etcd's v3 API to members: status, member list and membership changes.
//!
//! [`Client`] keeps one lazily made HTTP/2 connection per endpoint and gives every call a
//! deadline of its own, connecting included. It never retries a mutation that may have been
//! sent: whoever gets an error that [is ambiguous](ClientError::is_ambiguous) observes again and
//! lets the member list tell (safety 17).
//!
//! Two ways to read the member list are kept apart by name, because etcd 3.4 answers the call
//! from local state even without a quorum: [`Client::vouched_members`] counts,
//! [`Client::local_members`] is hearsay (safety 5).
//!
//! [`peer`] asks a member's peer port, over plain HTTP/1.

mod channel;
mod error;
mod keys;
mod members;
pub mod peer;
mod status;

pub use channel::Client;
pub use error::{ClientError, Refusal};
pub use keys::Got;
pub use status::{HashKv, Status};
