//! What clients ask for, and what they were answered.

use std::time::Instant;

/// All keys of a round begin with this.
pub(crate) const PREFIX: &str = "t/";

/// A key as it was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kv {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) created: i64,
    pub(crate) modified: i64,
    pub(crate) version: i64,
}

/// One request. A value begins with the name of who writes it, which nobody else writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Put {
        key: String,
        value: String,
    },
    /// Two keys in one transaction, of which no one sees one alone.
    Pair {
        keys: [String; 2],
        value: String,
    },
    /// Puts if the key was last changed at this revision (0: is not there); else reads it.
    Swap {
        key: String,
        modified: i64,
        value: String,
    },
    Delete {
        key: String,
    },
    /// One key, linearizable.
    Get {
        key: String,
    },
    /// All keys at one revision, linearizable.
    All,
}

impl Ask {
    pub(crate) fn writes(&self) -> bool {
        !matches!(self, Ask::Get { .. } | Ask::All)
    }

    /// The value that it writes, if it writes one.
    pub(crate) fn value(&self) -> Option<&str> {
        match self {
            Ask::Put { value, .. } | Ask::Pair { value, .. } | Ask::Swap { value, .. } => {
                Some(value)
            }
            Ask::Delete { .. } | Ask::Get { .. } | Ask::All => None,
        }
    }

    /// The keys that it writes, in order.
    pub(crate) fn written(&self) -> Vec<&str> {
        match self {
            Ask::Put { key, .. } | Ask::Swap { key, .. } | Ask::Delete { key } => vec![key],
            Ask::Pair { keys, .. } => keys.iter().map(String::as_str).collect(),
            Ask::Get { .. } | Ask::All => Vec::new(),
        }
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Of the header.
    pub(crate) revision: i64,
    /// Of the header.
    pub(crate) cluster: u64,
    /// Whether it wrote: a swap may have read instead, and a key to delete not have been there.
    pub(crate) wrote: bool,
    /// What it read; of a write, what was there before.
    pub(crate) found: Vec<Kv>,
}

/// One operation of a client; without an answer nobody knows whether it happened.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) ask: Ask,
    pub(crate) invoked: Instant,
    pub(crate) returned: Instant,
    pub(crate) answer: Option<Answer>,
}

/// One change, as a watch tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) revision: i64,
    pub(crate) key: String,
    /// `None` for a deletion.
    pub(crate) put: Option<Kv>,
}
