//! What an operation costs of the store's quota, before it is known what it will do.
//!
//! Source: etcd's `storage/quota.go`.

use super::Operation;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest};

/// A quota that nothing reaches.
pub const NO_QUOTA: u64 = u64::MAX;

/// What a put takes beside key and value, in bytes.
const PUT: u64 = 256;
/// What a lease takes, in bytes.
const LEASE: u64 = 64;

/// The bytes that an operation may add; 0 if it adds none.
pub(super) fn cost(operation: &Operation) -> u64 {
    match operation {
        Operation::Put(it) => put(it),
        Operation::Txn(it) => txn(it),
        Operation::LeaseGrant(_) => LEASE,
        Operation::DeleteRange(_)
        | Operation::Compact(_)
        | Operation::LeaseRevoke(_)
        | Operation::Alarm(_)
        | Operation::Publish(_) => 0,
    }
}

fn put(it: &PutRequest) -> u64 {
    PUT + it.key.len() as u64 + it.value.len() as u64
}

/// The dearer way: which one it goes is not known yet.
fn txn(it: &TxnRequest) -> u64 {
    ops(&it.success).max(ops(&it.failure))
}

fn ops(all: &[RequestOp]) -> u64 {
    all.iter()
        .map(|it| match &it.request {
            Some(Request::RequestPut(it)) => put(it),
            Some(Request::RequestTxn(it)) => txn(it),
            Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => 0,
        })
        .sum()
}
