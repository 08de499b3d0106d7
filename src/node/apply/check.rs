//! What is refused before it is proposed: requests that no state could make sense of.
//!
//! Source: etcd's `api/v3rpc/key.go` and `lease/lessor.go`. [`State::apply`](super::State::apply)
//! relies on none of it: a log that was written by another version must not stop a member.

use super::intervals;
use super::leases::MAX_TTL;
use crate::node::fault::Fault;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// etcd's default of `--max-txn-ops`.
pub const MAX_TXN_OPS: usize = 128;

/// Checks a range.
///
/// # Errors
///
/// [`Fault::EmptyKey`], [`Fault::InvalidSortOption`].
pub fn check_range(it: &RangeRequest) -> Result<(), Fault> {
    if it.key.is_empty() {
        return Err(Fault::EmptyKey);
    }
    let known =
        SortOrder::try_from(it.sort_order).is_ok() && SortTarget::try_from(it.sort_target).is_ok();
    if known { Ok(()) } else { Err(Fault::InvalidSortOption) }
}

/// Checks a put.
///
/// # Errors
///
/// [`Fault::EmptyKey`], [`Fault::ValueProvided`], [`Fault::LeaseProvided`].
pub fn check_put(it: &PutRequest) -> Result<(), Fault> {
    if it.key.is_empty() {
        return Err(Fault::EmptyKey);
    }
    if it.ignore_value && !it.value.is_empty() {
        return Err(Fault::ValueProvided);
    }
    if it.ignore_lease && it.lease != 0 {
        return Err(Fault::LeaseProvided);
    }
    Ok(())
}

/// Checks a deletion.
///
/// # Errors
///
/// [`Fault::EmptyKey`].
pub fn check_delete_range(it: &DeleteRangeRequest) -> Result<(), Fault> {
    if it.key.is_empty() { Err(Fault::EmptyKey) } else { Ok(()) }
}

/// Checks a transaction and all that is nested in it. `max_ops` is the most that any of its three
/// lists may hold; a nested transaction has what those around it have left.
///
/// # Errors
///
/// [`Fault::TooManyOps`], [`Fault::DuplicateKey`], [`Fault::KeyNotFound`] for an operation that is
/// not set, and those of the operations.
pub fn check_txn(it: &TxnRequest, max_ops: usize) -> Result<(), Fault> {
    check_nested(it, max_ops)?;
    intervals::check(&it.success)?;
    intervals::check(&it.failure)
}

fn check_nested(it: &TxnRequest, max_ops: usize) -> Result<(), Fault> {
    let ops = it.compare.len().max(it.success.len()).max(it.failure.len());
    let left = max_ops.checked_sub(ops).ok_or(Fault::TooManyOps)?;
    if it.compare.iter().any(|it| it.key.is_empty()) {
        return Err(Fault::EmptyKey);
    }
    it.success.iter().chain(&it.failure).try_for_each(|op| match &op.request {
        Some(Request::RequestRange(it)) => check_range(it),
        Some(Request::RequestPut(it)) => check_put(it),
        Some(Request::RequestDeleteRange(it)) => check_delete_range(it),
        Some(Request::RequestTxn(it)) => check_nested(it, left),
        None => Err(Fault::KeyNotFound),
    })
}

/// Checks a lease to be granted and raises its TTL to `min_ttl` seconds, the least that the
/// timings of this member allow: the log must say what was granted, for others may have other
/// timings. An ID of 0 is to be replaced by the caller.
///
/// # Errors
///
/// [`Fault::LeaseTtlTooLarge`].
pub fn check_lease_grant(it: &mut LeaseGrantRequest, min_ttl: i64) -> Result<(), Fault> {
    if it.ttl > MAX_TTL {
        return Err(Fault::LeaseTtlTooLarge);
    }
    it.ttl = it.ttl.max(min_ttl);
    Ok(())
}

/// A transaction that writes nothing, whichever way it goes, and so needs no log.
#[derive(Clone, Debug)]
pub struct ReadOnlyTxn<'a> {
    pub(super) compare: &'a [Compare],
    pub(super) success: Vec<&'a RangeRequest>,
    pub(super) failure: Vec<&'a RangeRequest>,
}

impl<'a> ReadOnlyTxn<'a> {
    /// Takes a transaction of ranges only; `None` if it has anything else, and that includes
    /// nested transactions.
    pub fn of(it: &'a TxnRequest) -> Option<ReadOnlyTxn<'a>> {
        let ranges = |ops: &'a [RequestOp]| -> Option<Vec<&'a RangeRequest>> {
            ops.iter()
                .map(|op| match &op.request {
                    Some(Request::RequestRange(it)) => Some(it),
                    _ => None,
                })
                .collect()
        };
        let (success, failure) = (ranges(&it.success)?, ranges(&it.failure)?);
        Some(ReadOnlyTxn { compare: &it.compare, success, failure })
    }

    /// Whether all of its ranges may be answered from this member's own state, however old.
    pub fn is_serializable(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|it| it.serializable)
    }
}
