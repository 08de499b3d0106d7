//! The other members, as one calls them: where they are, and a connection a lane to each, made
//! when it is first needed and again when it is lost.
//!
//! One attempt to connect serves all who wait for it, and between attempts there is a wait that
//! grows. Whoever calls meanwhile waits for the next one, no longer than its own limit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::append::{self, AppendReceiver, AppendSender};
use super::backoff::Jitter;
use super::dial::{self, Greeted};
use super::error::{CallError, DialError, LinkError};
use super::greeting::{Hello, Identity, Refusal};
use super::hearing::{Ear, Hearing};
use super::link::{self, Link, NotSent, Reply, Wire};
use super::{Lane, Limits};
use crate::clock::{Clock, Moment};
use crate::cluster::{Incarnation, MemberId};

/// Where a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The member.
    pub id: MemberId,
    /// Its peer URLs, tried in turn.
    pub urls: Vec<String>,
    /// The data it is known to run on. If `None`, what is met first holds for as long as this
    /// process does: an emptied disk under an old ID is not spoken to.
    pub incarnation: Option<Incarnation>,
}

/// All peers of a member. Cheap to clone; with the last clone all connections end.
#[derive(Clone, Debug)]
pub struct Peers {
    common: Arc<Common>,
    targets: Arc<Mutex<BTreeMap<MemberId, Arc<Target>>>>,
}

/// One peer. Cheap to clone. Good for as long as the process lives, whatever becomes of the peer.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Target>);

/// What all peers share.
#[derive(Debug)]
struct Common {
    own: Identity,
    limits: Limits,
    clock: Clock,
    hearing: Arc<Hearing>,
    jitter: Jitter,
    refusals: watch::Sender<Option<(MemberId, Refusal)>>,
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct Target {
    id: MemberId,
    common: Arc<Common>,
    ear: Arc<Ear>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    urls: Vec<String>,
    /// The data it must run on, if that is known.
    incarnation: Option<Incarnation>,
    /// The URL that greeted last.
    preferred: usize,
    is_forgotten: bool,
    slots: [Slot; 3],
}

#[derive(Debug, Default)]
struct Slot {
    link: Option<Arc<Link>>,
    attempt: Option<Attempt>,
    attempts: u64,
    failures: u32,
    /// No attempt before this moment.
    not_before: Moment,
    /// Calls that wait for a connection, and the bytes of their bodies.
    waiting: (usize, usize),
}

#[derive(Debug)]
struct Attempt {
    number: u64,
    outcome: watch::Receiver<Option<Outcome>>,
    task: AbortHandle,
}

type Outcome = Result<Arc<Link>, CallError>;

/// A place among those that wait for a connection.
struct Place<'a> {
    target: &'a Target,
    lane: Lane,
    length: usize,
}

/// How to come by a connection now.
enum Way {
    Open(Arc<Link>),
    Soon(watch::Receiver<Option<Outcome>>),
}

impl Peers {
    /// Nobody is connected to before somebody is called.
    pub fn new(own: Identity, limits: Limits, clock: Clock) -> Peers {
        let common = Common {
            own,
            limits,
            clock,
            hearing: Arc::default(),
            jitter: Jitter::default(),
            refusals: watch::Sender::new(None),
            is_closed: AtomicBool::new(false),
        };
        Peers { common: Arc::new(common), targets: Arc::default() }
    }

    /// The peer at this address. If it is known under another, that is replaced at once:
    /// connections by a URL that it has no more, or to other data, end.
    pub fn peer(&self, address: &Address) -> Peer {
        let mut targets = self.targets.lock();
        let target = targets
            .entry(address.id)
            .or_insert_with(|| Arc::new(Target::new(Arc::clone(&self.common), address)));
        target.moved(address);
        if self.common.is_closed.load(Ordering::Relaxed) {
            target.forget();
        }
        Peer(Arc::clone(target))
    }

    /// The peer of this ID, if it is known.
    pub fn known(&self, id: MemberId) -> Option<Peer> {
        self.targets.lock().get(&id).cloned().map(Peer)
    }

    /// Who listens at a URL, by its own word: for one that knows where to ask, and not whom.
    ///
    /// # Errors
    ///
    /// [`DialError`]: nobody does who is of this cluster.
    pub async fn who(&self, url: &str) -> Result<MemberId, DialError> {
        Ok(dial::who(url, self.common.own, &self.common.limits).await?.member)
    }

    /// Ends all connections to a peer that was removed, and what is known of it. Calls by a
    /// [`Peer`] still held fail; one asked for anew by its address begins anew.
    pub fn forget(&self, id: MemberId) {
        let target = self.targets.lock().remove(&id);
        if let Some(target) = target {
            target.forget();
        }
        self.common.hearing.forget(id);
    }

    /// Forgets all peers, also those that are asked for later: this node is closing.
    pub fn close(&self) {
        self.common.is_closed.store(true, Ordering::Relaxed);
        let targets = std::mem::take(&mut *self.targets.lock());
        for target in targets.values() {
            target.forget();
        }
    }

    /// Who was heard of when, and is connected since when.
    pub fn hearing(&self) -> Arc<Hearing> {
        Arc::clone(&self.common.hearing)
    }

    /// The last refusal by any peer: what a removed member ends with.
    pub fn refusals(&self) -> watch::Receiver<Option<(MemberId, Refusal)>> {
        self.common.refusals.subscribe()
    }
}

impl Peer {
    /// Its ID.
    pub fn id(&self) -> MemberId {
        self.0.id
    }

    /// The data it runs on, as far as that is known or was met.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.0.state.lock().incarnation
    }

    /// Does not wait any longer before it connects anew: there is reason to think that the peer is
    /// coming up just now.
    pub fn hasten(&self) {
        self.0.hasten();
    }

    /// Calls it, beside any number of other calls within [`Limits::bounds`]. The limit includes
    /// the wait for a connection.
    ///
    /// # Errors
    ///
    /// Any [`CallError`]; [`CallError::may_have_happened`] tells whether it may have been carried
    /// out all the same. Dropped before it returns, it may have been.
    pub async fn call(&self, method: u8, body: &[u8], limit: Duration) -> Result<Bytes, CallError> {
        self.on(Lane::Calls, method, body, limit).await
    }

    /// As [`Peer::call`], for bodies of up to [`Limits::chunk`] that are not urgent.
    ///
    /// # Errors
    ///
    /// As [`Peer::call`].
    pub async fn bulk(&self, method: u8, body: &[u8], limit: Duration) -> Result<Bytes, CallError> {
        self.on(Lane::Bulk, method, body, limit).await
    }

    /// Begins an ordered exchange with at most `depth` unanswered calls. The limit is for the wait
    /// for a connection.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`], [`CallError::Unreachable`], [`CallError::Timeout`].
    pub async fn append(
        &self,
        depth: usize,
        limit: Duration,
    ) -> Result<(AppendSender, AppendReceiver), CallError> {
        let link = tokio::time::timeout(limit, self.0.open(Lane::Append, 0)).await;
        let link = link.unwrap_or(Err(self.timeout(limit, false)))?;
        Ok(append::exchange(link, depth))
    }

    async fn on(
        &self,
        lane: Lane,
        method: u8,
        body: &[u8],
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        let mut was_sent = false;
        let call = async {
            let reply = self.0.send(lane, method, body).await?;
            was_sent = true;
            reply.await
        };
        let answer = tokio::time::timeout(limit, call).await;
        answer.unwrap_or_else(|_| Err(self.timeout(limit, was_sent)))
    }

    fn timeout(&self, after: Duration, was_sent: bool) -> CallError {
        CallError::Timeout { member: self.0.id, after, was_sent }
    }
}

impl Target {
    fn new(common: Arc<Common>, address: &Address) -> Target {
        let state = State {
            urls: address.urls.clone(),
            incarnation: address.incarnation,
            preferred: 0,
            is_forgotten: false,
            slots: Default::default(),
        };
        let ear = common.hearing.ear(address.id);
        Target { id: address.id, common, ear, state: Mutex::new(state) }
    }

    fn hasten(&self) {
        let now = self.common.clock.monotonic();
        for slot in &mut self.state.lock().slots {
            if slot.not_before <= now {
                continue; // it is tried, if anybody wants it
            }
            slot.failures = 0;
            slot.not_before = Moment::default();
            if let Some(attempt) = slot.attempt.take() {
                attempt.task.abort();
            }
        }
    }

    fn moved(&self, address: &Address) {
        let mut state = self.state.lock();
        let is_other = |known| address.incarnation.is_some_and(|it| known != Some(it));
        if state.urls == address.urls && !is_other(state.incarnation) {
            return;
        }
        state.urls.clone_from(&address.urls);
        state.incarnation = address.incarnation.or(state.incarnation);
        state.preferred = 0;
        for slot in &mut state.slots {
            slot.failures = 0;
            slot.not_before = Moment::default();
            // Whoever waits for it begins another.
            if let Some(attempt) = slot.attempt.take() {
                attempt.task.abort();
            }
            let is_stale = |link: &Arc<Link>| {
                !address.urls.contains(&link.url) || is_other(Some(link.met.incarnation))
            };
            if slot.link.as_ref().is_some_and(is_stale) {
                slot.link.take().iter().for_each(|link| link.end(LinkError::Dropped));
            }
        }
    }

    fn forget(&self) {
        let mut state = self.state.lock();
        state.is_forgotten = true;
        state.end();
    }

    async fn send(
        self: &Arc<Self>,
        lane: Lane,
        method: u8,
        body: &[u8],
    ) -> Result<Reply, CallError> {
        loop {
            let link = self.open(lane, body.len()).await?;
            match link.send(method, body) {
                Ok(reply) => return Ok(reply),
                Err(NotSent::Error(error)) => return Err(error),
                // It has just ended: the next one is on its way.
                Err(NotSent::Over) => {}
            }
        }
    }

    /// An open connection for a call of this length, waited for if need be.
    async fn open(self: &Arc<Self>, lane: Lane, length: usize) -> Outcome {
        loop {
            let mut outcome = match self.way(lane)? {
                Way::Open(link) => return Ok(link),
                Way::Soon(outcome) => outcome,
            };
            let _place = self.wait(lane, length)?;
            let known = outcome.wait_for(Option::is_some).await.map(|it| it.clone());
            // Otherwise the attempt was given up for another address.
            if let Ok(Some(outcome)) = known {
                return outcome;
            }
        }
    }

    fn way(self: &Arc<Self>, lane: Lane) -> Result<Way, CallError> {
        let mut state = self.state.lock();
        if state.is_forgotten {
            return Err(self.unreachable(DialError::Forgotten));
        }
        let slot = &mut state.slots[lane as usize];
        if let Some(link) = slot.link.as_ref().filter(|link| link.is_open()) {
            return Ok(Way::Open(Arc::clone(link)));
        }
        if let Some(attempt) = &slot.attempt {
            return Ok(Way::Soon(attempt.outcome.clone()));
        }
        slot.attempts += 1;
        let number = slot.attempts;
        let wait = slot.not_before.since(self.common.clock.monotonic());
        let (done, outcome) = watch::channel(None);
        let task = tokio::spawn(attempt(Arc::downgrade(self), lane, number, wait, done));
        let task = task.abort_handle();
        slot.attempt = Some(Attempt { number, outcome: outcome.clone(), task });
        Ok(Way::Soon(outcome))
    }

    fn wait(&self, lane: Lane, length: usize) -> Result<Place<'_>, CallError> {
        let bound = self.common.limits.bound(lane);
        let waiting = &mut self.state.lock().slots[lane as usize].waiting;
        if waiting.0 >= bound.calls || waiting.1 + length > bound.bytes {
            return Err(CallError::Busy { member: self.id });
        }
        waiting.0 += 1;
        waiting.1 += length;
        Ok(Place { target: self, lane, length })
    }

    /// Takes over what an attempt has come to; `None` if nobody wants it any more.
    fn settle(
        self: &Arc<Self>,
        lane: Lane,
        number: u64,
        dialled: Result<Greeted, DialError>,
    ) -> Option<Outcome> {
        let (common, mut state) = (&self.common, self.state.lock());
        let slot = &mut state.slots[lane as usize];
        slot.attempt.take_if(|it| it.number == number)?;
        let greeted = match dialled {
            Ok(greeted) => greeted,
            Err(error) => {
                slot.failed(common);
                drop(state);
                tracing::debug!(member = %self.id, lane = lane.name(), %error, "not connected");
                return Some(Err(self.not_greeted(error)));
            }
        };
        let link = Arc::new(Link::new(greeted.met, greeted.url, lane, &common.limits));
        slot.link = Some(Arc::clone(&link));
        state.preferred = state.urls.iter().position(|url| *url == link.url).unwrap_or(0);
        state.incarnation.get_or_insert(link.met.incarnation);
        let wire = Wire {
            stream: greeted.stream,
            first: greeted.first,
            ear: Arc::clone(&self.ear),
            clock: common.clock,
            silence: common.limits.silence,
            idle: (lane == Lane::Bulk).then_some(common.limits.bulk_idle),
        };
        tokio::spawn(carry(Arc::downgrade(self), lane, Arc::clone(&link), wire));
        Some(Ok(link))
    }

    /// A connection is over.
    fn ended(&self, lane: Lane, link: &Arc<Link>) {
        let mut state = self.state.lock();
        let slot = &mut state.slots[lane as usize];
        if slot.link.take_if(|it| Arc::ptr_eq(it, link)).is_none() {
            return;
        }
        if link.was_heard() {
            slot.failures = 0;
        } else {
            // Greeted and then nothing: no reason to hurry back.
            slot.failed(&self.common);
        }
    }

    fn not_greeted(&self, error: DialError) -> CallError {
        match error {
            DialError::Refused { refusal, .. } => {
                self.refused(&refusal);
                CallError::Refused { member: self.id, refusal }
            }
            error => self.unreachable(error),
        }
    }

    fn refused(&self, refusal: &Refusal) {
        self.common.refusals.send_replace(Some((self.id, refusal.clone())));
    }

    fn unreachable(&self, error: DialError) -> CallError {
        CallError::Unreachable { member: self.id, source: Arc::new(error) }
    }
}

impl State {
    fn end(&mut self) {
        for slot in &mut self.slots {
            slot.link.take().iter().for_each(|link| link.end(LinkError::Dropped));
            slot.attempt.take().iter().for_each(|attempt| attempt.task.abort());
        }
    }
}

impl Slot {
    fn failed(&mut self, common: &Common) {
        self.failures = self.failures.saturating_add(1);
        let wait = common.jitter.wait(self.failures, common.limits.backoff);
        self.not_before = common.clock.monotonic().after(wait);
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.state.get_mut().end();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let waiting = &mut self.target.state.lock().slots[self.lane as usize].waiting;
        waiting.0 -= 1;
        waiting.1 -= self.length;
    }
}

/// One attempt to connect. It holds the target only in passing, so that it does not outlive it.
async fn attempt(
    target: Weak<Target>,
    lane: Lane,
    number: u64,
    wait: Duration,
    done: watch::Sender<Option<Outcome>>,
) {
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let dialled = {
        let Some(target) = target.upgrade() else { return };
        let limits = &target.common.limits;
        let (limit, silence) = (limits.dial, limits.silence);
        let hello = Hello { from: target.common.own, to: target.id, lane, silence };
        let (urls, preferred, known) = {
            let state = target.state.lock();
            (state.urls.clone(), state.preferred, state.incarnation)
        };
        drop(target);
        dial::any(&urls, preferred, &hello, known, limit).await
    };
    let Some(target) = target.upgrade() else { return };
    if let Some(outcome) = target.settle(lane, number, dialled) {
        done.send_replace(Some(outcome));
    }
}

/// Carries a connection for as long as it lasts.
async fn carry(target: Weak<Target>, lane: Lane, link: Arc<Link>, wire: Wire) {
    let connected = wire.ear.connected(wire.clock.monotonic());
    let error = link::run(&link, wire).await;
    drop(connected);
    tracing::debug!(member = %link.met.member, lane = lane.name(), %error, "disconnected");
    if let Some(target) = target.upgrade() {
        if let LinkError::Refused(refusal) = &error {
            target.refused(refusal);
        }
        target.ended(lane, &link);
    }
    link.end(error);
}
