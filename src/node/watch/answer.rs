//! What a stream says to its client: a `WatchResponse` whose events are encoded already.

use bytes::{BufMut, Bytes};
use prost::Message;

use crate::proto::etcdserverpb::{ResponseHeader, WatchResponse};

/// What a header and the other fields take, at most.
const AROUND: usize = 64;

/// One answer, but for its header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The revision of the header: the store's at that moment; 0 in the end of a watch whose
    /// history is compacted away, as etcd has it.
    pub revision: i64,
    /// The watch; -1 for the whole stream, or a watch that could not be created.
    pub watch_id: i64,
    /// The first answer of a watch.
    pub created: bool,
    /// The last answer of a watch.
    pub canceled: bool,
    /// Not 0: history that was asked for is gone; what is left begins here.
    pub compact_revision: i64,
    /// Why a watch could not be created.
    pub reason: String,
    /// More of the same follows.
    pub fragment: bool,
    /// Whole fields, encoded.
    pub events: Vec<Bytes>,
}

impl Answer {
    /// Writes it as a `WatchResponse`.
    pub fn encode(&self, header: ResponseHeader, to: &mut impl BufMut) {
        let rest = WatchResponse {
            header: Some(header),
            watch_id: self.watch_id,
            created: self.created,
            canceled: self.canceled,
            compact_revision: self.compact_revision,
            cancel_reason: self.reason.clone(),
            fragment: self.fragment,
            events: Vec::new(),
        };
        // Nobody but `encode` looks at what room there is, and the fields need no length.
        rest.encode_raw(to);
        // The field of the highest number stands last.
        for event in &self.events {
            to.put_slice(event);
        }
    }

    /// Cuts it into answers smaller than `most` bytes, as far as single events are (etcd's
    /// `sendFragments`).
    pub(super) fn cut(mut self, most: usize) -> impl Iterator<Item = Answer> {
        let events = std::mem::take(&mut self.events);
        let mut parts = vec![Vec::new()];
        let mut size = AROUND;
        for event in events {
            let is_begun = parts.last().is_some_and(|it| !it.is_empty());
            if is_begun && size + event.len() >= most {
                parts.push(Vec::new());
                size = AROUND;
            }
            size += event.len();
            if let Some(part) = parts.last_mut() {
                part.push(event);
            }
        }
        let count = parts.len();
        let part = move |(n, events)| Answer { events, fragment: n + 1 < count, ..self.clone() };
        parts.into_iter().enumerate().map(part)
    }
}
