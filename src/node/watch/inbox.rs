//! What waits for one stream: filled while changes are applied, emptied as its client reads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;

use super::event::Event;

/// What an event in the queue takes beside itself.
const PLACE: usize = size_of::<Queued>();

/// One event for one watch, by the watch's number.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) number: u64,
    pub(super) event: Arc<Event>,
}

/// A watch that hears of nothing more by this way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    pub(super) number: u64,
    /// The first revision it has not heard of.
    pub(super) from: i64,
    /// It may be acted on once everything up to here is told.
    pub(super) at: i64,
}

/// See [the module](self).
#[derive(Debug, Default)]
pub(super) struct Inbox(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    /// By revision.
    queue: VecDeque<Queued>,
    lost: VecDeque<Lost>,
    bytes: usize,
    waker: Option<Waker>,
    /// It stands in the list of those to be woken.
    is_listed: bool,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    Taken,
    /// There is no room; the watch is lost.
    Full,
}

impl Inbox {
    /// Puts an event in, unless more than `most` bytes wait already. Events of a revision that has
    /// `begun` for this watch may pass that bound, up to four times of it: then the watch loses all
    /// of the revision. Returns also whether the inbox has to be listed to be woken.
    pub(super) fn offer(
        &self,
        number: u64,
        event: &Arc<Event>,
        begun: bool,
        most: usize,
    ) -> (Offered, bool) {
        let mut content = self.0.lock();
        let most = if begun { most.saturating_mul(4) } else { most };
        let size = event.size() + PLACE;
        let offered = if content.bytes == 0 || content.bytes.saturating_add(size) <= most {
            content.bytes += size;
            content.queue.push_back(Queued { number, event: Arc::clone(event) });
            Offered::Taken
        } else {
            if begun {
                content.take_back(number, event.revision());
            }
            let (from, at) = (event.revision(), event.revision());
            content.lost.push_back(Lost { number, from, at });
            Offered::Full
        };
        (offered, !std::mem::replace(&mut content.is_listed, true))
    }

    /// Says that a watch hears of nothing more.
    pub(super) fn lose(&self, lost: Lost) -> bool {
        let mut content = self.0.lock();
        content.lost.push_back(lost);
        !std::mem::replace(&mut content.is_listed, true)
    }

    /// Notes that it is listed to be woken; false: it was.
    pub(super) fn list(&self) -> bool {
        !std::mem::replace(&mut self.0.lock().is_listed, true)
    }

    /// Wakes who waits.
    pub(super) fn wake(&self) {
        let waker = {
            let mut content = self.0.lock();
            content.is_listed = false;
            content.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes all that is whole: everything up to the revision `told`.
    pub(super) fn take(&self, told: i64) -> (VecDeque<Queued>, Vec<Lost>) {
        let mut content = self.0.lock();
        let count = content.lost.partition_point(|it| it.at <= told);
        let lost = content.lost.drain(..count).collect();
        if content.queue.back().is_none_or(|it| it.event.revision() <= told) {
            content.bytes = 0;
            return (std::mem::take(&mut content.queue), lost);
        }
        let count = content.queue.partition_point(|it| it.event.revision() <= told);
        let rest = content.queue.split_off(count);
        let taken = std::mem::replace(&mut content.queue, rest);
        content.bytes = content.queue.iter().map(|it| it.event.size() + PLACE).sum();
        (taken, lost)
    }

    /// Bytes of what waits.
    pub(super) fn bytes(&self) -> usize {
        self.0.lock().bytes
    }

    /// Whether [`Inbox::take`] would give something; else `waker` is woken when it would.
    pub(super) fn is_ready(&self, told: i64, waker: &Waker) -> bool {
        let mut content = self.0.lock();
        let has_event = content.queue.front().is_some_and(|it| it.event.revision() <= told);
        if has_event || content.lost.front().is_some_and(|it| it.at <= told) {
            return true;
        }
        if !content.waker.as_ref().is_some_and(|it| it.will_wake(waker)) {
            content.waker = Some(waker.clone());
        }
        false
    }
}

impl Content {
    /// Takes back what a watch has of the newest revision.
    fn take_back(&mut self, number: u64, revision: i64) {
        let begin = self.queue.partition_point(|it| it.event.revision() < revision);
        let newest = self.queue.split_off(begin);
        for queued in newest {
            if queued.number == number {
                self.bytes -= queued.event.size() + PLACE;
            } else {
                self.queue.push_back(queued);
            }
        }
    }
}
