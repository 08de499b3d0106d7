//! Which keys a request means.

use std::ops::Bound;

use bytes::Bytes;

/// Where a range begins and ends in a sorted map.
pub(super) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A set of keys, as etcd's `key` and `range_end` name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRange {
    /// This key.
    One(Bytes),
    /// From the first, which is in it, to the last, which is not.
    Span {
        /// The first.
        from: Bytes,
        /// The end.
        to: Bytes,
    },
    /// Every key from this one on.
    From(Bytes),
}

impl KeyRange {
    /// Without an end it is the one key; an end of a single zero byte means no end.
    pub fn new(key: Bytes, range_end: Bytes) -> KeyRange {
        if range_end.is_empty() {
            KeyRange::One(key)
        } else if range_end.as_ref() == [0] {
            KeyRange::From(key)
        } else {
            KeyRange::Span { from: key, to: range_end }
        }
    }

    /// Whether it has this key.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(it) => it == key,
            KeyRange::Span { from, to } => key >= from && key < to,
            KeyRange::From(from) => key >= from,
        }
    }

    /// As bounds of a sorted map; `None` if nothing can be in it, which a map takes for a fault.
    pub(super) fn bounds(&self) -> Option<Bounds<'_>> {
        match self {
            KeyRange::One(key) => Some((Bound::Included(key), Bound::Included(key))),
            KeyRange::Span { from, to } if from < to => {
                Some((Bound::Included(from), Bound::Excluded(to)))
            }
            KeyRange::Span { .. } => None,
            KeyRange::From(from) => Some((Bound::Included(from), Bound::Unbounded)),
        }
    }
}
