//! Watches: who hears of which change, and from where on.
//!
//! ```text
//! apply ──> Hub: by key, by range ──> inbox of each stream (bounded) ──> Feed ──> answers
//!                                                                         │
//!                                      the store's history <── who lags ──┘
//! ```
//!
//! A change is matched while it is applied, and put into the inbox of each stream that is to hear
//! of it: a pointer to one event that all of them share, encoded by the first that sends it.
//! Whose inbox is full lags from there on and reads the store's history once its client takes
//! more, so nobody who is slow slows another one or the apply. Between history and inbox nothing
//! is lost or told twice: who reads up to the store's revision is entered while it stands still.
//!
//! No I/O of its own, no clock, and nothing of gRPC.
//!
//! Source: etcd's `mvcc/watchable_store.go` and `api/v3rpc/watch.go`.

mod answer;
mod event;
mod feed;
mod hub;
mod inbox;
mod ranges;

pub use answer::Answer;
pub use feed::{Feed, Taken};
pub use hub::{Figures, Hub, Limits};

use crate::node::mvcc::Change;

/// Hears of every change of a key once it is applied; what serves watches.
pub trait Watchers: Send + Sync + 'static {
    /// Changes of one or more whole revisions, in order; the store is at `revision` now. Must not
    /// wait: applying does meanwhile.
    fn applied(&self, changes: &[Change], revision: i64);

    /// The state was replaced by a later one (a snapshot): what lies between is told to nobody,
    /// and has to be read from the store's history.
    fn replaced(&self);
}
