//! Reads a range as a client wants it: filtered, ordered, cut, with or without values.
//!
//! Source: etcd's `etcdserver/txn/range.go`, the odd corner included: an order that is not given
//! (`NONE`) does not keep the limit from being taken by key first.

use std::cmp::Ordering;

use bytes::Bytes;

use super::{Failure, header};
use crate::node::mvcc::{KeyRange, Ranged, ReadError, Store, Txn};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse};
use crate::proto::mvccpb::KeyValue;

/// Where keys can be read: in the store, or in the midst of a transaction, which sees its own
/// writes.
pub(super) trait View {
    /// As [`Store::range`].
    fn look(
        &self,
        range: &KeyRange,
        at: i64,
        limit: usize,
        count_only: bool,
    ) -> Result<Ranged, ReadError>;
}

impl View for Store {
    fn look(
        &self,
        range: &KeyRange,
        at: i64,
        limit: usize,
        count_only: bool,
    ) -> Result<Ranged, ReadError> {
        self.range(range, at, limit, count_only)
    }
}

impl View for Txn<'_> {
    fn look(
        &self,
        range: &KeyRange,
        at: i64,
        limit: usize,
        count_only: bool,
    ) -> Result<Ranged, ReadError> {
        self.range(range, at, limit, count_only)
    }
}

/// The keys that a request on the wire names.
pub(super) fn keys(key: &Bytes, range_end: &Bytes) -> KeyRange {
    KeyRange::new(key.clone(), range_end.clone())
}

/// Does what a range request asks for.
pub(super) fn range(view: &impl View, it: &RangeRequest) -> Result<RangeResponse, Failure> {
    let limit = usize::try_from(it.limit).unwrap_or(0); // below 0 as 0: none
    // One more tells whether there is more.
    let fetch = if limit == 0 || needs_all(it) { 0 } else { limit.saturating_add(1) };
    let keys = keys(&it.key, &it.range_end);
    let Ranged { mut kvs, count, revision } =
        view.look(&keys, it.revision, fetch, it.count_only)?;
    kvs.retain(|kv| passes(kv, it));
    sort(&mut kvs, it);
    let more = limit > 0 && kvs.len() > limit;
    if more {
        kvs.truncate(limit);
    }
    if it.keys_only {
        for kv in &mut kvs {
            kv.value = Bytes::new();
        }
    }
    Ok(RangeResponse { header: header(revision), kvs, more, count })
}

/// Whether the first keys are not known before all are.
fn needs_all(it: &RangeRequest) -> bool {
    it.sort_order() != SortOrder::None
        || it.min_mod_revision != 0
        || it.max_mod_revision != 0
        || it.min_create_revision != 0
        || it.max_create_revision != 0
}

fn passes(kv: &KeyValue, it: &RangeRequest) -> bool {
    let at_least = |value: i64, limit: i64| limit == 0 || value >= limit;
    let at_most = |value: i64, limit: i64| limit == 0 || value <= limit;
    at_least(kv.mod_revision, it.min_mod_revision)
        && at_most(kv.mod_revision, it.max_mod_revision)
        && at_least(kv.create_revision, it.min_create_revision)
        && at_most(kv.create_revision, it.max_create_revision)
}

/// Orders what comes in the order of its keys. Equals stay in that order, upwards and downwards.
fn sort(kvs: &mut [KeyValue], it: &RangeRequest) {
    let by: fn(&KeyValue, &KeyValue) -> Ordering = match it.sort_target() {
        SortTarget::Key => |a, b| a.key.cmp(&b.key),
        SortTarget::Version => |a, b| a.version.cmp(&b.version),
        SortTarget::Create => |a, b| a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => |a, b| a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => |a, b| a.value.cmp(&b.value),
    };
    match it.sort_order() {
        SortOrder::Descend => kvs.sort_by(|a, b| by(b, a)),
        SortOrder::None | SortOrder::Ascend if it.sort_target() == SortTarget::Key => {}
        SortOrder::None | SortOrder::Ascend => kvs.sort_by(by),
    }
}
