//! Puts and deletions inside of one revision. Leases are looked up before, and bound after.
//!
//! Source: etcd's `etcdserver/txn/put.go` and `delete.go`.

use super::range::keys;
use super::{Failure, header};
use crate::node::fault::Fault;
use crate::node::mvcc::Txn;
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
};

/// Writes one key.
pub(super) fn put(writes: &mut Txn<'_>, it: &PutRequest) -> Result<PutResponse, Failure> {
    // Checked before it was proposed; but no log may bring in what no range can reach.
    if it.key.is_empty() {
        return Err(Fault::EmptyKey.into());
    }
    let mut before = None;
    if it.prev_kv || it.ignore_value || it.ignore_lease {
        before = writes.one(&it.key)?;
    }
    let (mut value, mut lease) = (&it.value, it.lease);
    if it.ignore_value || it.ignore_lease {
        let kept = before.as_ref().ok_or(Fault::KeyNotFound)?;
        if it.ignore_value {
            value = &kept.value;
        }
        if it.ignore_lease {
            lease = kept.lease;
        }
    }
    writes.put(&it.key, value, lease)?;
    Ok(PutResponse { header: header(writes.revision()), prev_kv: before.filter(|_| it.prev_kv) })
}

/// Deletes keys.
pub(super) fn delete_range(
    writes: &mut Txn<'_>,
    it: &DeleteRangeRequest,
) -> Result<DeleteRangeResponse, Failure> {
    let keys = keys(&it.key, &it.range_end);
    let gone = writes.delete(&keys, it.prev_kv)?;
    let deleted = i64::try_from(gone.keys.len()).unwrap_or(i64::MAX);
    let header = header(writes.revision());
    Ok(DeleteRangeResponse { header, deleted, prev_kvs: gone.previous })
}
