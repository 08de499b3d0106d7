//! One client's stream of watches: what it asks goes in, what it is to be told comes out.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::answer::Answer;
use super::event::{self, Event};
use super::hub::{Hub, Member, Wants};
use super::inbox::Inbox;
use crate::node::fault::Fault;
use crate::node::mvcc::{Amount, KeyRange, ReadError, Store, StoreError};
use crate::proto::etcdserverpb::WatchCreateRequest;
use crate::proto::etcdserverpb::watch_create_request::FilterType;

/// The watch of answers that are of none.
const NO_WATCH: i64 = -1;
/// Revisions of one watch that wait together are one answer, up to so many bytes.
const TOGETHER: usize = 1 << 20;
/// What is read of the history at a time, while the store stands still.
const CHUNK: Amount = Amount { changes: 1000, bytes: 1 << 20, looked_at: 5000 };

/// See [the module](self). Whoever has it asks for the answers one by one ([`Feed::take`]), so
/// that no more is made than the client takes.
pub struct Feed {
    hub: Arc<Hub>,
    inbox: Arc<Inbox>,
    /// Bytes of an answer from which it is cut for those who want that.
    most: usize,
    /// By number.
    watches: HashMap<u64, Watch>,
    /// By what the client calls them.
    numbers: HashMap<i64, u64>,
    next_id: i64,
    /// Ready to be sent.
    answers: VecDeque<Answer>,
    /// To be sent next; whole revisions.
    groups: VecDeque<Group>,
    /// Numbers of those that have history to read, the next one first.
    lagging: VecDeque<u64>,
    /// It is their turn before what is new.
    lag_first: bool,
    /// Progress of the whole stream is asked for.
    asked: bool,
    /// Watches to be told of their progress, by number.
    due: BTreeSet<u64>,
    /// Once `groups` are sent, everything is told up to here.
    promise: Option<i64>,
    /// The highest revision of an event that was sent.
    highest: i64,
    /// Progress of the whole stream waits for the hub to be told of more than this.
    waits: Option<i64>,
}

struct Watch {
    id: i64,
    range: KeyRange,
    wants: Wants,
    prev_kv: bool,
    fragment: bool,
    /// Progress is to be told at the next tick; `None`: it was not asked for.
    progress: Option<bool>,
    /// The first revision that is still to be read, if it lags.
    lags_from: Option<i64>,
    /// The store's revision when it was last entered: all up to there it has heard of.
    seen: i64,
}

/// Events of one watch.
struct Group {
    number: u64,
    /// Of the store, when it was read; 0: that of the last event.
    revision: i64,
    bytes: usize,
    events: Vec<Arc<Event>>,
}

/// What [`Feed::take`] has.
#[derive(Debug)]
pub enum Taken {
    /// An answer, to be sent.
    Answer(Answer),
    /// Nothing before the store is looked at: [`Feed::look`].
    Store,
    /// Nothing: wait for [`Feed::poll_ready`].
    Nothing,
}

impl Feed {
    /// A stream without watches. Answers of `most` bytes and more are cut for those who ask for it.
    pub fn new(hub: &Arc<Hub>, most: usize) -> Feed {
        hub.streams.fetch_add(1, Ordering::Relaxed);
        Feed {
            hub: Arc::clone(hub),
            inbox: Arc::default(),
            most,
            watches: HashMap::new(),
            numbers: HashMap::new(),
            next_id: 0,
            answers: VecDeque::new(),
            groups: VecDeque::new(),
            lagging: VecDeque::new(),
            lag_first: false,
            asked: false,
            due: BTreeSet::new(),
            promise: None,
            highest: 0,
            waits: None,
        }
    }

    /// Begins a watch, or answers why not. `store` stands still meanwhile.
    pub fn create(&mut self, store: &Store, request: &WatchCreateRequest) {
        let revision = store.revision();
        let answer = Answer { revision, created: true, ..Answer::default() };
        let answer = match self.begin(store, request) {
            Ok(watch_id) => Answer { watch_id, ..answer },
            Err(reason) => Answer { watch_id: NO_WATCH, canceled: true, reason, ..answer },
        };
        self.answers.push_back(answer);
    }

    fn begin(&mut self, store: &Store, request: &WatchCreateRequest) -> Result<i64, String> {
        let start = request.start_revision;
        if start < 0 {
            return Err(Fault::Compacted.to_string());
        }
        // The smallest key there is.
        let key = if request.key.is_empty() { &b"\0"[..] } else { &request.key };
        let (key, end) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(&request.range_end));
        let range = KeyRange::new(key, end);
        if matches!(&range, KeyRange::Span { from, to } if from >= to) {
            return Err("mvcc: watcher range is empty".to_owned());
        }
        let id = self.name(request.watch_id)?;
        let (number, revision) = (self.hub.number(), store.revision());
        let filters = |it: FilterType| request.filters.contains(&it.into());
        let watch = Watch {
            id,
            range,
            wants: Wants {
                puts: !filters(FilterType::Noput),
                deletes: !filters(FilterType::Nodelete),
            },
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress: request.progress_notify.then_some(true),
            lags_from: (1..=revision).contains(&start).then_some(start),
            seen: revision,
        };
        self.hub.watches.fetch_add(1, Ordering::Relaxed);
        if watch.lags_from.is_some() {
            self.hub.lagging.fetch_add(1, Ordering::Relaxed);
            self.lagging.push_back(number);
        } else {
            self.enter(&watch, number, start.max(revision + 1));
        }
        self.numbers.insert(id, number);
        self.watches.insert(number, watch);
        Ok(id)
    }

    /// The ID that a client asked for, or another if it did not.
    fn name(&mut self, asked: i64) -> Result<i64, String> {
        if asked != 0 {
            return if self.numbers.contains_key(&asked) {
                Err("mvcc: duplicate watch ID provided on the WatchStream".to_owned())
            } else {
                Ok(asked)
            };
        }
        while self.numbers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    /// Ends a watch. One that is not there is ignored in silence.
    pub fn cancel(&mut self, store: &Store, watch_id: i64) {
        let Some(number) = self.numbers.get(&watch_id).copied() else { return };
        self.end(number);
        let revision = store.revision();
        self.answers.push_back(Answer { revision, watch_id, canceled: true, ..Answer::default() });
    }

    /// Asks for the revision up to which all watches of the stream have been told everything. It
    /// is told once that is so, once for all who asked till then; on a stream without watches it
    /// never is.
    pub fn ask_progress(&mut self) {
        self.asked = !self.watches.is_empty();
    }

    /// The interval after which those who asked for it are told of their progress has passed. Who
    /// has had an event in it waits for the next.
    pub fn tick(&mut self) {
        for (number, watch) in &mut self.watches {
            if let Some(is_due) = &mut watch.progress
                && !std::mem::replace(is_due, true)
            {
                continue;
            }
            if watch.progress.is_some() && watch.lags_from.is_none() {
                self.due.insert(*number);
            }
        }
    }

    /// The next answer, or what has to be done before there is one.
    pub fn take(&mut self) -> Taken {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Taken::Answer(answer);
            }
            if let Some(group) = self.groups.front() {
                let watch = self.watches.get(&group.number);
                if watch.is_some_and(|it| it.prev_kv && !group.is_looked_up()) {
                    return Taken::Store;
                }
                self.make_answers();
                continue;
            }
            if let Some(told) = self.promise.take() {
                self.tell_progress(told);
                continue;
            }
            if self.lag_first && !self.lagging.is_empty() {
                return Taken::Store;
            }
            if self.collect() {
                continue;
            }
            let has_lagging = !self.lagging.is_empty();
            return if has_lagging { Taken::Store } else { Taken::Nothing };
        }
    }

    /// Looks at the store for what [`Feed::take`] wants of it: a bounded piece of history, or what
    /// keys were before. `store` stands still meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the stream cannot go on.
    pub fn look(&mut self, store: &Store) -> Result<(), StoreError> {
        if let Some(group) = self.groups.front() {
            return group.events.iter().try_for_each(|it| it.look_up(store));
        }
        self.lag_first = false;
        match self.lagging.pop_front() {
            Some(number) => self.catch_up(store, number),
            None => Ok(()),
        }
    }

    /// Ready once [`Feed::take`] may have something.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let has_own = !self.answers.is_empty()
            || !self.groups.is_empty()
            || !self.lagging.is_empty()
            || self.promise.is_some()
            || self.asked && self.waits.is_none()
            || !self.due.is_empty();
        if has_own || self.inbox.is_ready(self.hub.told(), cx.waker()) {
            return Poll::Ready(());
        }
        // The hub may have been told of more before the waker was in its place.
        let told = self.hub.told();
        let is_ready = self.waits.is_some_and(|it| told > it);
        let is_ready = is_ready || self.inbox.is_ready(told, cx.waker());
        if is_ready { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Bytes of events that have come in and were not taken yet.
    pub fn waiting(&self) -> usize {
        self.inbox.bytes()
    }

    /// Takes what has come in. False: nothing has, and nobody is to be told of progress.
    fn collect(&mut self) -> bool {
        // In this order: everything up to there is in the inbox by now.
        let told = self.hub.told();
        let (queue, lost) = self.inbox.take(told);
        let has_more = !queue.is_empty() || !lost.is_empty();
        for it in lost {
            // It may have been ended since.
            if let Some(watch) = self.watches.get_mut(&it.number) {
                watch.lags_from = Some(it.from);
                self.due.remove(&it.number);
                self.lagging.push_back(it.number);
            }
        }
        let mut open: HashMap<u64, usize> = HashMap::new();
        for queued in queue {
            let (number, size) = (queued.number, queued.event.size());
            let place = open.get(&number).copied().filter(|at| {
                let group = &self.groups[*at];
                group.bytes + size <= TOGETHER || group.last() == queued.event.revision()
            });
            let place = place.unwrap_or_else(|| {
                self.groups.push_back(Group { number, revision: 0, bytes: 0, events: Vec::new() });
                open.insert(number, self.groups.len() - 1);
                self.groups.len() - 1
            });
            self.groups[place].bytes += size;
            self.groups[place].events.push(queued.event);
        }
        self.lag_first = has_more;
        let is_asked = self.may_tell_all(told) || !self.due.is_empty();
        if is_asked {
            self.promise = Some(told);
        }
        has_more || is_asked
    }

    /// Whether progress of the whole stream can be told. One watch may have read of the store what
    /// the hub is yet to tell the others: that is waited for, so that progress never falls behind
    /// an event that was sent before.
    fn may_tell_all(&mut self, told: i64) -> bool {
        self.waits = None;
        if !self.asked || !self.lagging.is_empty() {
            return false;
        }
        let sent = self.groups.iter().map(Group::last).fold(self.highest, i64::max);
        let is_behind = told.max(self.seen()) < sent;
        if is_behind {
            self.waits = Some(told);
            self.hub.call(&self.inbox);
        }
        !is_behind
    }

    /// The revision up to which each watch has read of the store.
    fn seen(&self) -> i64 {
        self.watches.values().map(|it| it.seen).min().unwrap_or(0)
    }

    /// Makes answers of the first group.
    fn make_answers(&mut self) {
        let Some(group) = self.groups.pop_front() else { return };
        let Some(watch) = self.watches.get_mut(&group.number) else { return }; // it has ended
        let last = group.last();
        self.highest = self.highest.max(last);
        let revision = if group.revision > 0 { group.revision } else { last };
        let form = |it: Arc<Event>| {
            let with_previous = watch.prev_kv.then(|| it.with_previous()).flatten();
            with_previous.unwrap_or_else(|| it.plain())
        };
        let events = group.events.into_iter().map(form).collect();
        if let Some(is_due) = &mut watch.progress {
            *is_due = false;
        }
        let answer = Answer { revision, watch_id: watch.id, events, ..Answer::default() };
        if watch.fragment {
            self.answers.extend(answer.cut(self.most));
        } else {
            self.answers.push_back(answer);
        }
    }

    fn tell_progress(&mut self, told: i64) {
        for number in std::mem::take(&mut self.due) {
            if let Some(watch) = self.watches.get(&number) {
                let revision = told.max(watch.seen);
                let answer = Answer { revision, watch_id: watch.id, ..Answer::default() };
                self.answers.push_back(answer);
            }
        }
        let revision = told.max(self.seen());
        if self.asked && self.lagging.is_empty() && revision >= self.highest {
            self.asked = false;
            let answer = Answer { revision, watch_id: NO_WATCH, ..Answer::default() };
            self.answers.push_back(answer);
        }
    }

    /// Reads a piece of what a watch has missed.
    fn catch_up(&mut self, store: &Store, number: u64) -> Result<(), StoreError> {
        let Some(watch) = self.watches.get_mut(&number) else { return Ok(()) };
        let Some(from) = watch.lags_from else { return Ok(()) };
        let revision = store.revision();
        let next = if from > revision {
            from
        } else {
            match store.history(from, &watch.range, CHUNK) {
                Ok((changes, next)) => {
                    let wanted = changes.into_iter().filter(|it| watch.wants.has(it));
                    let mut bytes = 0;
                    let events: Vec<_> = wanted
                        .inspect(|it| bytes += event::size(it))
                        .map(|it| Arc::new(Event::new(it)))
                        .collect();
                    if watch.prev_kv {
                        events.iter().try_for_each(|it| it.look_up(store))?;
                    }
                    if !events.is_empty() {
                        self.groups.push_back(Group { number, revision, bytes, events });
                    }
                    next
                }
                Err(ReadError::Store(error)) => return Err(error),
                Err(ReadError::Compacted | ReadError::Future) => {
                    let (watch_id, canceled) = (watch.id, true);
                    let compact_revision = store.compacted();
                    self.end(number);
                    let answer =
                        Answer { watch_id, canceled, compact_revision, ..Answer::default() };
                    self.answers.push_back(answer);
                    return Ok(());
                }
            }
        };
        if next > revision {
            watch.lags_from = None;
            watch.seen = revision;
            self.hub.lagging.fetch_sub(1, Ordering::Relaxed);
            if let Some(watch) = self.watches.get(&number) {
                self.enter(watch, number, next);
            }
        } else {
            watch.lags_from = Some(next);
            self.lagging.push_back(number);
        }
        Ok(())
    }

    fn enter(&self, watch: &Watch, number: u64, min: i64) {
        let inbox = Arc::clone(&self.inbox);
        let member = Member { number, inbox, min, wants: watch.wants, last: 0 };
        self.hub.enter(&watch.range, member);
    }

    fn end(&mut self, number: u64) {
        let Some(watch) = self.watches.remove(&number) else { return };
        self.numbers.remove(&watch.id);
        self.due.remove(&number);
        self.lagging.retain(|it| *it != number);
        self.hub.leave(std::iter::once((&watch.range, number)));
        self.asked &= !self.watches.is_empty();
    }
}

impl Group {
    fn is_looked_up(&self) -> bool {
        self.events.iter().all(|it| it.with_previous().is_some())
    }

    /// The revision of its last event.
    fn last(&self) -> i64 {
        self.events.last().map_or(0, |it| it.revision())
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.hub.streams.fetch_sub(1, Ordering::Relaxed);
        self.hub.leave(self.watches.iter().map(|(number, it)| (&it.range, *number)));
    }
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("watches", &self.watches.len()).finish_non_exhaustive()
    }
}
