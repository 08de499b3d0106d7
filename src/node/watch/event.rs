//! One change as it goes over the wire, shared by all who hear of it.

use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use prost::encoding::message;

use crate::node::mvcc::{Change, Store, StoreError};
use crate::proto::mvccpb::event::EventType;
use crate::proto::mvccpb::{Event as Wire, KeyValue};

/// `WatchResponse.events`.
const EVENTS: u32 = 11;

/// See [the module](self). Each form is encoded at most once.
#[derive(Debug)]
pub(super) struct Event {
    change: Change,
    plain: OnceLock<Bytes>,
    with_previous: OnceLock<Bytes>,
}

impl Event {
    pub(super) fn new(change: Change) -> Event {
        Event { change, plain: OnceLock::new(), with_previous: OnceLock::new() }
    }

    /// The transaction it was part of.
    pub(super) fn revision(&self) -> i64 {
        self.change.record.revision.main
    }

    /// Bytes it takes, roughly.
    pub(super) fn size(&self) -> usize {
        size(&self.change)
    }

    /// Without the key as it was before: a whole field of the answer.
    pub(super) fn plain(&self) -> Bytes {
        self.plain.get_or_init(|| self.encode(None)).clone()
    }

    /// With it, if it is known already what it was.
    pub(super) fn with_previous(&self) -> Option<Bytes> {
        if !self.change.record.tombstone && self.is_creation() {
            return Some(self.plain());
        }
        self.with_previous.get().cloned()
    }

    /// Looks up what the key was before. Once that is compacted away it is not told any more, as
    /// in etcd.
    pub(super) fn look_up(&self, store: &Store) -> Result<(), StoreError> {
        if self.with_previous().is_none() {
            let previous = store.before(&self.change)?;
            self.with_previous.get_or_init(|| self.encode(previous));
        }
        Ok(())
    }

    fn is_creation(&self) -> bool {
        self.change.record.kv.create_revision == self.change.record.kv.mod_revision
    }

    fn encode(&self, prev_kv: Option<KeyValue>) -> Bytes {
        let record = &self.change.record;
        let kind = if record.tombstone { EventType::Delete } else { EventType::Put };
        let event = Wire { r#type: kind.into(), kv: Some(record.kv.clone()), prev_kv };
        let mut bytes = BytesMut::with_capacity(message::encoded_len(EVENTS, &event));
        message::encode(EVENTS, &event, &mut bytes);
        bytes.freeze()
    }
}

/// What a change takes in an answer, roughly.
pub(super) fn size(change: &Change) -> usize {
    usize::try_from(change.record.size()).unwrap_or(usize::MAX)
}
