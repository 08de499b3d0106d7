//! The leases that were granted and the keys bound to each. When one ends is not decided here:
//! the leader keeps the time and proposes the end.
//!
//! Which key is bound to which lease follows from the keys alone, so it is not kept on disk but
//! found again when the state is opened.
//!
//! Source: etcd's `lease/lessor.go`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::node::fault::Fault;
use crate::node::mvcc::Seen;

/// The longest that a lease may live without renewal, in seconds.
pub(super) const MAX_TTL: i64 = 9_000_000_000;

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    id: i64,
    ttl: i64,
    keys: BTreeSet<Bytes>,
}

impl Lease {
    /// Its ID; never 0.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// Seconds that it lives without renewal; at least 1.
    pub fn ttl(&self) -> i64 {
        self.ttl
    }

    /// The keys that are deleted when it ends, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.keys.iter()
    }
}

/// All leases.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Leases {
    by_id: BTreeMap<i64, Lease>,
    /// The lease of each key that has one.
    by_key: BTreeMap<Bytes, i64>,
}

impl Leases {
    pub(super) fn get(&self, id: i64) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Lease> {
        self.by_id.values()
    }

    /// Refuses what names a lease that is not there; 0 names none.
    pub(super) fn look_up(&self, id: i64) -> Result<(), Fault> {
        if id == 0 || self.by_id.contains_key(&id) { Ok(()) } else { Err(Fault::LeaseNotFound) }
    }

    pub(super) fn grant(&mut self, id: i64, ttl: i64) -> Result<(), Fault> {
        if self.by_id.contains_key(&id) {
            return Err(Fault::LeaseExists);
        }
        self.by_id.insert(id, Lease { id, ttl, keys: BTreeSet::new() });
        Ok(())
    }

    /// Forgets a lease. Its keys are deleted before.
    pub(super) fn remove(&mut self, id: i64) {
        for key in self.by_id.remove(&id).into_iter().flat_map(|it| it.keys) {
            self.by_key.remove(&key);
        }
    }

    /// Binds or unbinds a key as this change of it says.
    pub(super) fn follow(&mut self, record: &Seen<'_>) {
        let lease = if record.tombstone { 0 } else { record.lease };
        self.bind(record.key, lease);
    }

    fn bind(&mut self, key: &[u8], id: i64) {
        // Most stores have no lease at all, and most puts none.
        if id == 0 && self.by_key.is_empty() {
            return;
        }
        match self.by_key.get(key) {
            Some(&old) if old == id => return,
            Some(&old) => {
                self.by_key.remove(key);
                if let Some(lease) = self.by_id.get_mut(&old) {
                    lease.keys.remove(key);
                }
            }
            None => {}
        }
        if let Some(lease) = self.by_id.get_mut(&id) {
            // A copy, so that a long value beside the key is not kept alive by it.
            let key = Bytes::copy_from_slice(key);
            lease.keys.insert(key.clone());
            self.by_key.insert(key, id);
        }
    }
}
