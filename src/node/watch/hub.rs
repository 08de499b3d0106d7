//! Finds who is to hear of a change.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::Watchers;
use super::event::Event;
use super::inbox::{Inbox, Lost, Offered};
use super::ranges::Ranges;
use crate::node::mvcc::{Change, KeyRange};

/// How much may wait for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of events that wait for one stream's client; whose watches want more of it than that
    /// read it from the store later.
    pub buffer: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { buffer: 4 << 20 }
    }
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Streams open.
    pub streams: i64,
    /// Watches on them.
    pub watches: i64,
    /// Those of them that have to read the store's history before they hear of anything new.
    pub lagging: i64,
}

/// Where all changes come in, and whence they go to those who watch.
pub struct Hub {
    limits: Limits,
    index: Mutex<Index>,
    /// Everything up to this revision is in the inboxes of those who are to hear of it.
    told: AtomicI64,
    numbers: AtomicU64,
    pub(super) streams: AtomicI64,
    pub(super) watches: AtomicI64,
    pub(super) lagging: AtomicI64,
}

#[derive(Default)]
struct Index {
    keys: HashMap<Bytes, Vec<Member>>,
    ranges: Ranges<Member>,
    /// Those to be woken; kept for its room.
    listed: Vec<Arc<Inbox>>,
}

/// A watch that hears of what happens.
pub(super) struct Member {
    pub(super) number: u64,
    pub(super) inbox: Arc<Inbox>,
    /// It hears of nothing before this revision.
    pub(super) min: i64,
    pub(super) wants: Wants,
    /// The last revision that something is in the inbox of.
    pub(super) last: i64,
}

/// Which changes a watch hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wants {
    pub(super) puts: bool,
    pub(super) deletes: bool,
}

impl Wants {
    pub(super) fn has(self, change: &Change) -> bool {
        if change.record.tombstone { self.deletes } else { self.puts }
    }
}

impl Hub {
    /// Nobody watches yet.
    pub fn new(limits: Limits) -> Arc<Hub> {
        Arc::new(Hub {
            limits,
            index: Mutex::default(),
            told: AtomicI64::new(0),
            numbers: AtomicU64::new(0),
            streams: AtomicI64::new(0),
            watches: AtomicI64::new(0),
            lagging: AtomicI64::new(0),
        })
    }

    /// How many there are now.
    pub fn figures(&self) -> Figures {
        Figures {
            streams: self.streams.load(Ordering::Relaxed),
            watches: self.watches.load(Ordering::Relaxed),
            lagging: self.lagging.load(Ordering::Relaxed),
        }
    }

    /// A number that no watch has had.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn told(&self) -> i64 {
        self.told.load(Ordering::Acquire)
    }

    /// Lets a watch hear of what happens. To be called while the store stands still at the
    /// revision before `member.min`, or an earlier one: nothing of what comes later was told yet.
    pub(super) fn enter(&self, range: &KeyRange, member: Member) {
        let mut index = self.index.lock();
        match range {
            KeyRange::One(key) => index.keys.entry(key.clone()).or_default().push(member),
            KeyRange::Span { from, to } => {
                index.ranges.insert(from.clone(), Some(to.clone()), member);
            }
            KeyRange::From(from) => index.ranges.insert(from.clone(), None, member),
        }
    }

    /// Ends watches; counts those that were lagging.
    pub(super) fn leave<'a>(&self, all: impl Iterator<Item = (&'a KeyRange, u64)>) {
        let mut index = self.index.lock();
        for (range, number) in all {
            let was_here = index.remove(range, number);
            self.watches.fetch_sub(1, Ordering::Relaxed);
            if !was_here {
                self.lagging.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Has a stream woken when more is told, whether it is for it or not.
    pub(super) fn call(&self, inbox: &Arc<Inbox>) {
        let mut index = self.index.lock();
        if inbox.list() {
            index.listed.push(Arc::clone(inbox));
        }
    }

    fn wake(&self, mut listed: Vec<Arc<Inbox>>) {
        for inbox in listed.drain(..) {
            inbox.wake();
        }
        // Its room is used again, but not that of a burst.
        if listed.capacity() <= 1 << 16 {
            let mut index = self.index.lock();
            if index.listed.is_empty() {
                index.listed = listed;
            }
        }
    }
}

impl Watchers for Hub {
    fn applied(&self, changes: &[Change], revision: i64) {
        let mut index = self.index.lock();
        let Index { keys, ranges, listed } = &mut *index;
        for change in changes {
            let key = &change.record.kv.key;
            let mut event = None;
            let mut tell = |members: &mut Vec<Member>| {
                members.retain_mut(|it| {
                    let keeps = it.hear(change, &mut event, self.limits.buffer, listed);
                    self.lagging.fetch_add(i64::from(!keeps), Ordering::Relaxed);
                    keeps
                });
            };
            if let Some(members) = keys.get_mut(key) {
                tell(members);
                if members.is_empty() {
                    keys.remove(key);
                }
            }
            ranges.at(key, &mut tell);
        }
        self.told.fetch_max(revision, Ordering::Release);
        let listed = std::mem::take(&mut index.listed);
        drop(index);
        self.wake(listed);
    }

    fn replaced(&self) {
        let mut index = self.index.lock();
        let told = self.told.load(Ordering::Acquire);
        let Index { keys, ranges, mut listed } = std::mem::take(&mut *index);
        let members = keys.into_values().flatten().chain(ranges.into_values());
        for Member { number, inbox, min, .. } in members {
            self.lagging.fetch_add(1, Ordering::Relaxed);
            if inbox.lose(Lost { number, from: min.max(told + 1), at: told }) {
                listed.push(inbox);
            }
        }
        drop(index);
        self.wake(listed);
    }
}

impl Index {
    fn remove(&mut self, range: &KeyRange, number: u64) -> bool {
        let (from, to) = match range {
            KeyRange::One(key) => {
                let Some(members) = self.keys.get_mut(key) else { return false };
                let Some(at) = members.iter().position(|it| it.number == number) else {
                    return false;
                };
                members.swap_remove(at);
                if members.is_empty() {
                    self.keys.remove(key);
                }
                return true;
            }
            KeyRange::Span { from, to } => (from, Some(to)),
            KeyRange::From(from) => (from, None),
        };
        self.ranges.remove(from, to, |it| it.number == number)
    }
}

impl Member {
    /// Takes a change if it is one for this watch. False: there was no room, and it is lost.
    fn hear(
        &mut self,
        change: &Change,
        event: &mut Option<Arc<Event>>,
        most: usize,
        listed: &mut Vec<Arc<Inbox>>,
    ) -> bool {
        let revision = change.record.revision.main;
        if revision < self.min || !self.wants.has(change) {
            return true;
        }
        let event = event.get_or_insert_with(|| Arc::new(Event::new(change.clone())));
        let begun = self.last == revision;
        let (offered, is_new) = self.inbox.offer(self.number, event, begun, most);
        if is_new {
            listed.push(Arc::clone(&self.inbox));
        }
        self.last = revision;
        offered == Offered::Taken
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("figures", &self.figures()).finish_non_exhaustive()
    }
}
