//! The records that were read last, as they were decoded.
//!
//! A record never changes, and once it is removed nothing leads to it any more: what is kept here
//! cannot be old. Looking it up in sled costs a walk through two trees and two copies.

use parking_lot::Mutex;

use crate::node::mvcc::{Record, Revision};

/// Records that are kept; each has one place, which it shares with every `SLOTS`th.
const SLOTS: usize = 1 << 14;
/// Larger ones, in bytes of key and value, are not kept: with those below, all of it stays under
/// some 12 MiB, and where values are large their copies cost more than finding them.
const LARGEST: usize = 512;

/// See [the module](self).
pub(super) struct Hot(Mutex<Vec<Option<Box<Record>>>>);

impl Hot {
    pub(super) fn new() -> Hot {
        Hot(Mutex::new(Vec::new()))
    }

    /// The record, if it is here.
    pub(super) fn get(&self, at: Revision) -> Option<Record> {
        let slots = self.0.lock();
        let record = slots.get(place(at))?.as_deref()?;
        (record.revision == at).then(|| record.clone())
    }

    /// Lets go of what is written or removed there now.
    pub(super) fn forget(&self, at: Revision) {
        if let Some(slot) = self.0.lock().get_mut(place(at)) {
            slot.take_if(|it| it.revision == at);
        }
    }

    /// Keeps a record that was read; another one makes room for it.
    pub(super) fn keep(&self, record: &Record) {
        if record.kv.key.len() + record.kv.value.len() > LARGEST {
            return;
        }
        let mut slots = self.0.lock();
        if slots.is_empty() {
            slots.resize_with(SLOTS, || None); // of a member that nobody reads from, it is nothing
        }
        slots[place(record.revision)] = Some(Box::new(record.clone()));
    }
}

/// Neighbours never push each other out, nor do the changes of one transaction.
fn place(at: Revision) -> usize {
    let sum = at.main.wrapping_add(at.sub).cast_unsigned();
    usize::try_from(sum % SLOTS as u64).unwrap_or(0) // below SLOTS
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::proto::mvccpb::KeyValue;

    fn record(main: i64, size: usize) -> Record {
        let value = Bytes::from(vec![b'v'; size]);
        let kv = KeyValue { key: "k".into(), value, mod_revision: main, ..KeyValue::default() };
        Record { revision: Revision { main, sub: 0 }, kv, tombstone: false }
    }

    #[test]
    fn a_record_is_found_until_another_takes_its_place() {
        let hot = Hot::new();
        let (first, next, large) = (record(7, 9), record(8, 9), record(9, LARGEST));
        let rival = record(7 + i64::try_from(SLOTS).unwrap(), 9);
        assert_eq!(hot.get(first.revision), None);
        for it in [&first, &next, &large] {
            hot.keep(it);
        }
        assert_eq!(hot.get(first.revision), Some(first.clone()));
        assert_eq!(hot.get(next.revision), Some(next));
        assert_eq!(hot.get(large.revision), None);
        hot.keep(&rival);
        assert_eq!(hot.get(first.revision), None);
        assert_eq!(hot.get(rival.revision), Some(rival.clone()));
        hot.forget(first.revision);
        assert_eq!(hot.get(rival.revision), Some(rival.clone()));
        hot.forget(rival.revision);
        assert_eq!(hot.get(rival.revision), None);
    }
}
