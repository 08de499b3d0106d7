//! Multi-version store: keys, revisions and history, as etcd has them.
//!
//! ```text
//!  key index (memory) ── where each key changed ──> records: the newest in memory,
//!                                                            older ones wherever [`Records`] has them
//! ```
//!
//! Every transaction is one revision. A read may ask for an older one until it is compacted away.
//! Whoever keeps the records on disk takes the new ones from here ([`Store::take_new`]) and says
//! how far they are written ([`Store::written_up_to`]); from then on they are read from there.
//!
//! A compaction takes no longer in a large store than in a small one: what it gives up is out of
//! sight at once, forgotten little by little ([`Store::forget`]), and then deleted where it is kept
//! ([`Store::sweep`]).
//!
//! Deterministic: the same transactions give the same revisions and hashes on every member, whatever
//! was forgotten, written or swept by then. Nothing here does I/O of its own or reads a clock.

mod error;
mod history;
mod index;
mod range;
mod revision;
mod scan;
mod store;
mod txn;

pub use error::{ReadError, StoreError};
pub use history::Amount;
pub use range::KeyRange;
pub use revision::{Record, Revision, Seen};
pub use scan::{Hashed, Hashing, Scan};
pub use store::{Change, Ranged, Records, Store};
pub use txn::{Deleted, Txn};
