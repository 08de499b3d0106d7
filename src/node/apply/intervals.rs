//! Finds keys that a transaction would write twice, before it is proposed.
//!
//! Source: etcd's `api/v3rpc/key.go` (`checkIntervals`), with its blind spots: a deletion from a
//! key to the end of all keys is not seen (its `range_end`, a zero byte, makes an empty
//! interval), nor is a key that one nested transaction writes and a later one deletes.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::node::fault::Fault;
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::{DeleteRangeRequest, RequestOp};

/// Refuses operations that write one key twice, whichever way the nested transactions go.
pub(super) fn check(ops: &[RequestOp]) -> Result<(), Fault> {
    writes(ops).map(drop)
}

#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletions: Deletions,
}

impl Writes {
    fn put(&mut self, key: &Bytes) -> Result<(), Fault> {
        if self.deletions.contains(key) || !self.puts.insert(key.clone()) {
            return Err(Fault::DuplicateKey);
        }
        Ok(())
    }
}

fn writes(ops: &[RequestOp]) -> Result<Writes, Fault> {
    let mut all = Writes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(it)) = &op.request {
            all.deletions.insert(it);
        }
    }
    for op in ops {
        let Some(Request::RequestTxn(nested)) = &op.request else { continue };
        let (success, failure) = (writes(&nested.success)?, writes(&nested.failure)?);
        for key in &success.puts {
            all.put(key)?;
        }
        // Only one of the two ways is gone, so they may have keys in common.
        for key in &failure.puts {
            if success.puts.contains(key) {
                continue;
            }
            all.put(key)?;
        }
        all.deletions.unite(success.deletions);
        all.deletions.unite(failure.deletions);
    }
    for op in ops {
        if let Some(Request::RequestPut(it)) = &op.request {
            all.put(&it.key)?;
        }
    }
    Ok(all)
}

/// Keys that are deleted: intervals that do not touch, each by its first key with the first one
/// behind it.
#[derive(Default)]
struct Deletions(BTreeMap<Bytes, Bytes>);

impl Deletions {
    fn insert(&mut self, it: &DeleteRangeRequest) {
        let end = if it.range_end.is_empty() {
            let mut next = it.key.to_vec();
            next.push(0);
            next.into()
        } else {
            it.range_end.clone()
        };
        self.cover(it.key.clone(), end);
    }

    fn unite(&mut self, other: Deletions) {
        for (from, to) in other.0 {
            self.cover(from, to);
        }
    }

    fn cover(&mut self, mut from: Bytes, mut to: Bytes) {
        if from >= to {
            return;
        }
        // Each interval that is swallowed here is gone for good, so all in all this is linear.
        while let Some((begin, end)) = self.0.range::<Bytes, _>(..=&to).next_back()
            && *end >= from
        {
            let begin = begin.clone();
            let end = self.0.remove(&begin).unwrap_or_default();
            from = from.min(begin);
            to = to.max(end);
        }
        self.0.insert(from, to);
    }

    fn contains(&self, key: &Bytes) -> bool {
        self.0.range::<Bytes, _>(..=key).next_back().is_some_and(|(_, end)| key < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deletion(key: &'static str, range_end: &'static str) -> DeleteRangeRequest {
        DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: false }
    }

    #[test]
    fn deletions_that_meet_become_one_and_hold_exactly_their_keys() {
        let mut all = Deletions::default();
        for (key, end) in [("d", "f"), ("a", "b"), ("x", ""), ("k", "h"), ("b", "e"), ("m", "\0")] {
            all.insert(&deletion(key, end));
        }
        assert_eq!(all.0.len(), 2, "{:?}", all.0);
        let held = |key: &'static str| all.contains(&key.into());
        for key in ["a", "a\0", "b", "d", "ezz", "x"] {
            assert!(held(key), "{key:?}");
        }
        for key in ["A", "f", "h", "k", "m", "n", "x\0", "y"] {
            assert!(!held(key), "{key:?}");
        }
    }
}
