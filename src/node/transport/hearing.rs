//! Who was heard of, when, and who is connected since when: what health is judged by.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::clock::{Clock, Moment};
use crate::cluster::MemberId;

/// What is known of every member, by ID. Cheap to ask; shared by the two directions.
#[derive(Debug, Default)]
pub struct Hearing {
    clock: Clock,
    members: Mutex<BTreeMap<MemberId, Arc<Ear>>>,
}

/// One member, as one of its connections writes it down.
#[derive(Debug, Default)]
pub(super) struct Ear {
    /// The last moment; 0 for never.
    last: AtomicU64,
    up: Mutex<Up>,
}

#[derive(Debug, Default)]
struct Up {
    connections: usize,
    since: Option<Moment>,
}

/// A connection that is up for as long as this lives.
#[derive(Debug)]
pub(super) struct Connected(Arc<Ear>);

impl Hearing {
    /// When the last bytes of a member arrived, on any connection of either direction.
    pub fn last_heard(&self, member: MemberId) -> Option<Moment> {
        let last = self.members.lock().get(&member)?.last.load(Ordering::Relaxed);
        (last != 0).then_some(Moment(last))
    }

    /// Since when this member has had a connection of its own to that one, without a gap; `None`
    /// while it has none (etcd's `ActiveSince`).
    pub fn connected_since(&self, member: MemberId) -> Option<Moment> {
        self.members.lock().get(&member)?.up.lock().since
    }

    /// The time now, on the clock that the moments are of.
    pub fn now(&self) -> Moment {
        self.clock.monotonic()
    }

    /// Forgets a member that was removed.
    pub fn forget(&self, member: MemberId) {
        self.members.lock().remove(&member);
    }

    pub(super) fn ear(&self, member: MemberId) -> Arc<Ear> {
        Arc::clone(self.members.lock().entry(member).or_default())
    }
}

impl Ear {
    pub(super) fn heard(&self, now: Moment) {
        self.last.fetch_max(now.0, Ordering::Relaxed);
    }

    pub(super) fn connected(self: &Arc<Self>, now: Moment) -> Connected {
        self.heard(now);
        let mut up = self.up.lock();
        up.connections += 1;
        up.since.get_or_insert(now);
        Connected(Arc::clone(self))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut up = self.0.up.lock();
        up.connections -= 1;
        if up.connections == 0 {
            up.since = None;
        }
    }
}
