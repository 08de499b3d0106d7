//! Transactions: which way it goes, whether it can, and then all of it in one revision.
//!
//! Source: etcd's `etcdserver/txn/txn.go`. All comparisons, those of nested transactions too, and
//! all checks are made on the store as it was before the first write; the operations then see
//! the writes before them. Where etcd would end its process because an operation fails in spite
//! of the checks, the transaction is undone and answered with the fault.

use super::check::ReadOnlyTxn;
use super::leases::Leases;
use super::range::{keys, range};
use super::write::{delete_range, put};
use super::{Failure, header};
use crate::node::fault::Fault;
use crate::node::mvcc::{KeyRange, Store, Txn};
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, ResponseHeader, ResponseOp, TxnRequest,
    TxnResponse,
};
use crate::proto::mvccpb::KeyValue;

/// A transaction whose comparisons are made.
pub(super) struct Plan<'a> {
    succeeded: bool,
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    Range(&'a RangeRequest),
    Put(&'a PutRequest),
    DeleteRange(&'a DeleteRangeRequest),
    Txn(Plan<'a>),
}

/// Makes all comparisons.
pub(super) fn plan<'a>(store: &Store, it: &'a TxnRequest) -> Result<Plan<'a>, Failure> {
    let succeeded = hold(store, &it.compare)?;
    let ops = if succeeded { &it.success } else { &it.failure };
    let step = |op: &'a Option<Request>| {
        Ok(match op {
            Some(Request::RequestRange(it)) => Step::Range(it),
            Some(Request::RequestPut(it)) => Step::Put(it),
            Some(Request::RequestDeleteRange(it)) => Step::DeleteRange(it),
            Some(Request::RequestTxn(it)) => Step::Txn(plan(store, it)?),
            None => return Err(Failure::Fault(Fault::KeyNotFound)),
        })
    };
    let steps = ops.iter().map(|it| step(&it.request)).collect::<Result<_, _>>()?;
    Ok(Plan { succeeded, steps })
}

impl Plan<'_> {
    /// Makes sure that nothing in it will be refused: first of the puts, then of the ranges.
    pub(super) fn check(&self, store: &Store, leases: &Leases) -> Result<(), Failure> {
        self.each(&mut |step| match step {
            Step::Put(it) => check_put(store, leases, it),
            _ => Ok(()),
        })?;
        self.each(&mut |step| match step {
            Step::Range(it) => Ok(check_range(store, it)?),
            _ => Ok(()),
        })
    }

    fn each(&self, look: &mut impl FnMut(&Step<'_>) -> Result<(), Failure>) -> Result<(), Failure> {
        self.steps.iter().try_for_each(|step| match step {
            Step::Txn(nested) => nested.each(look),
            step => look(step),
        })
    }

    /// Does it. The header is left to the outermost caller: that of a nested transaction is empty.
    pub(super) fn execute(&self, writes: &mut Txn<'_>) -> Result<TxnResponse, Failure> {
        let mut responses = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let response = match step {
                Step::Range(it) => Response::ResponseRange(range(writes, it)?),
                Step::Put(it) => Response::ResponsePut(put(writes, it)?),
                Step::DeleteRange(it) => Response::ResponseDeleteRange(delete_range(writes, it)?),
                Step::Txn(it) => Response::ResponseTxn(it.execute(writes)?),
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        let header = Some(ResponseHeader::default());
        Ok(TxnResponse { header, succeeded: self.succeeded, responses })
    }
}

/// Does a transaction that only reads.
pub(super) fn read(store: &Store, it: &ReadOnlyTxn<'_>) -> Result<TxnResponse, Failure> {
    let succeeded = hold(store, it.compare)?;
    let ranges = if succeeded { &it.success } else { &it.failure };
    ranges.iter().try_for_each(|it| check_range(store, it))?;
    let one = |it: &&RangeRequest| {
        let response = Some(Response::ResponseRange(range(store, it)?));
        Ok::<_, Failure>(ResponseOp { response })
    };
    let responses = ranges.iter().map(one).collect::<Result<_, _>>()?;
    Ok(TxnResponse { header: header(store.revision()), succeeded, responses })
}

/// The key has to be there already if something of it is kept, also if an earlier operation
/// would write it.
fn check_put(store: &Store, leases: &Leases, it: &PutRequest) -> Result<(), Failure> {
    if it.ignore_value || it.ignore_lease {
        let there = store.range(&KeyRange::One(it.key.clone()), 0, 1, true)?.count > 0;
        if !there {
            return Err(Fault::KeyNotFound.into());
        }
    }
    Ok(leases.look_up(it.lease)?)
}

/// Stricter than a range alone: a revision below 0 is not the latest here, but one before all.
fn check_range(store: &Store, it: &RangeRequest) -> Result<(), Fault> {
    // etcd's floor is -1 until the first compaction.
    let floor = if store.compacted() > 0 { store.compacted() } else { -1 };
    match it.revision {
        0 => Ok(()),
        at if at > store.revision() => Err(Fault::FutureRevision),
        at if at < floor => Err(Fault::Compacted),
        _ => Ok(()),
    }
}

fn hold(store: &Store, all: &[Compare]) -> Result<bool, Failure> {
    for it in all {
        if !holds(store, it)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holds(store: &Store, it: &Compare) -> Result<bool, Failure> {
    let kvs = store.range(&keys(&it.key, &it.range_end), 0, 0, false)?.kvs;
    if kvs.is_empty() {
        // A value that is not there is not even an empty one.
        let value = it.target == CompareTarget::Value as i32;
        return Ok(!value && compare(it, &KeyValue::default()));
    }
    Ok(kvs.iter().all(|kv| compare(it, kv)))
}

/// What is stored against what is given; a number of another target than the one named is 0. A
/// target that does not exist equals, and a relation that does not exist holds.
fn compare(it: &Compare, kv: &KeyValue) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let given = it.target_union.as_ref();
    let order = match CompareTarget::try_from(it.target) {
        Ok(CompareTarget::Version) => kv.version.cmp(&match given {
            Some(TargetUnion::Version(it)) => *it,
            _ => 0,
        }),
        Ok(CompareTarget::Create) => kv.create_revision.cmp(&match given {
            Some(TargetUnion::CreateRevision(it)) => *it,
            _ => 0,
        }),
        Ok(CompareTarget::Mod) => kv.mod_revision.cmp(&match given {
            Some(TargetUnion::ModRevision(it)) => *it,
            _ => 0,
        }),
        Ok(CompareTarget::Lease) => kv.lease.cmp(&match given {
            Some(TargetUnion::Lease(it)) => *it,
            _ => 0,
        }),
        Ok(CompareTarget::Value) => kv.value.as_ref().cmp(match given {
            Some(TargetUnion::Value(it)) => it.as_ref(),
            _ => &[],
        }),
        Err(_) => Equal,
    };
    match CompareResult::try_from(it.result) {
        Ok(CompareResult::Equal) => order == Equal,
        Ok(CompareResult::NotEqual) => order != Equal,
        Ok(CompareResult::Greater) => order == Greater,
        Ok(CompareResult::Less) => order == Less,
        Err(_) => true,
    }
}
