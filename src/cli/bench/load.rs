//! Drives a load: clients that each have one operation under way, until enough were made or
//! somebody says stop.
//!
//! One thread, one task a client, one clock reading at each end of an operation. The clients
//! draw the numbers of their operations from one counter, so what the load consists of depends
//! on no timing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::options::{Amount, Endpoint, Target, Until};
use super::progress::Progress;
use super::stats::{Tally, per_second};
use super::wire::{CallError, Connection, Line};
use crate::clock::{Clock, Moment};

/// Between two looks at how it goes.
const TICK: Duration = Duration::from_millis(100);
/// What operations under way get to end once somebody said stop.
const GRACE: Duration = Duration::from_secs(1);
/// A load of which nothing succeeds for this long, and for longer than an operation may take, is
/// given up.
const HOPELESS: Duration = Duration::from_secs(10);

/// What a load's operations are.
pub(super) trait Work: Send + Sync + 'static {
    /// The method's path.
    const PATH: &'static str;

    /// The framed request of the operation with this number.
    fn request(&self, operation: u64) -> Bytes;

    /// What an answer brought back, or why it is none.
    fn brought(&self, answer: Bytes) -> Result<u64, String>;
}

/// How much of it, and by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) clients: usize,
    pub(super) until: Until,
    pub(super) amount: Amount,
    pub(super) timeout: Duration,
}

/// How a load ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum End {
    /// All that was asked for.
    Complete,
    /// Ctrl-C.
    Interrupted,
    /// Nothing succeeded any more.
    GivenUp,
}

/// What came of a load.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) tally: Tally,
    /// From the first operation's beginning to the last one's end.
    pub(super) time: Duration,
    pub(super) end: End,
}

/// No connection could be made: nothing was measured.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoConnection(pub(super) String);

/// Makes every connection of a target.
///
/// # Errors
///
/// [`NoConnection`] if one cannot be made: figures of fewer than were asked for mislead.
pub(super) async fn connect(target: &Target) -> Result<Vec<Arc<Connection>>, NoConnection> {
    let mut connections = Vec::new();
    for endpoint in target.spread() {
        connections.push(connect_one(endpoint, target.timeout).await?);
    }
    Ok(connections)
}

/// Makes one connection.
pub(super) async fn connect_one(
    endpoint: Endpoint,
    timeout: Duration,
) -> Result<Arc<Connection>, NoConnection> {
    let name = endpoint.to_string();
    match Connection::open(endpoint, timeout).await {
        Ok(connection) => Ok(Arc::new(connection)),
        Err(error @ CallError::Unreachable { .. }) => Err(NoConnection(error.to_string())),
        Err(error) => Err(NoConnection(format!("cannot connect to {name}: {error}"))),
    }
}

/// Ctrl-C and its like, from when it is made.
#[derive(Debug)]
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(super) fn new() -> std::io::Result<Stop> {
        Ok(Stop {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for one.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Warms up, loads, and tells what came of it.
pub(super) async fn drive<W: Work>(
    load: Load,
    connections: &[Arc<Connection>],
    work: W,
    stop: &mut Stop,
) -> anyhow::Result<Outcome> {
    let work = Arc::new(work);
    let warm_up = load.amount.warm_up;
    if !warm_up.is_zero() {
        let progress = Progress::new("warming up", Until::Time(warm_up));
        let load = Load { until: Until::Time(warm_up), ..load };
        let warmed = phase(load, connections, Arc::clone(&work), stop, progress).await?;
        if warmed.end != End::Complete {
            // Nothing was measured, but why it ended is worth telling.
            return Ok(warmed);
        }
    }
    let progress = Progress::new("measuring", load.until);
    phase(load, connections, work, stop, progress).await
}

async fn phase<W: Work>(
    load: Load,
    connections: &[Arc<Connection>],
    work: Arc<W>,
    stop: &mut Stop,
    progress: Progress,
) -> anyhow::Result<Outcome> {
    let mut lines = Vec::with_capacity(load.clients);
    for connection in connections.iter().cycle().take(load.clients) {
        lines.push(connection.line(W::PATH).await);
    }
    let shared = Arc::new(Shared::new(load, work)?);
    let mut clients = JoinSet::new();
    for line in lines {
        clients.spawn(client(Arc::clone(&shared), line));
    }
    let mut tick = tokio::time::interval(TICK);
    let end = loop {
        tokio::select! {
            ended = clients.join_next() => match ended {
                Some(ended) => ended?,
                None => break End::Complete,
            },
            () = stop.asked() => break End::Interrupted,
            _ = tick.tick() => {
                let tally = shared.tally();
                let now = Clock.monotonic();
                let time = now.since(shared.begun);
                progress.show(tally.done, time, &tally.times);
                let silent = now.since(tally.succeeded);
                if silent > HOPELESS.max(load.timeout * 2) && tally.errors.total() > 0 {
                    break End::GivenUp;
                }
            }
        }
    };
    shared.stop();
    // What does not end in time was never answered, and counts as nothing.
    let _ =
        tokio::time::timeout(GRACE, async { while clients.join_next().await.is_some() {} }).await;
    clients.shutdown().await;
    progress.clear();
    let mut tally = shared.tally();
    let tally = std::mem::replace(&mut *tally, Tally::new(shared.begun)?);
    Ok(Outcome { time: tally.last.since(shared.begun), tally, end })
}

/// What the clients of a load have in common.
#[derive(Debug)]
struct Shared<W> {
    work: Arc<W>,
    until: Until,
    rate: Option<f64>,
    timeout: Duration,
    begun: Moment,
    next: AtomicU64,
    tally: Mutex<Tally>,
    stopped: watch::Sender<bool>,
}

/// Leave to make one operation.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    operation: u64,
    /// When it is to be made; `None` for at once.
    due: Option<Moment>,
}

impl<W: Work> Shared<W> {
    fn new(load: Load, work: Arc<W>) -> anyhow::Result<Self> {
        let begun = Clock.monotonic();
        Ok(Shared {
            work,
            until: load.until,
            rate: load.amount.rate(),
            timeout: load.timeout,
            begun,
            next: AtomicU64::new(0),
            tally: Mutex::new(Tally::new(begun)?),
            stopped: watch::Sender::new(false),
        })
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        // A note is complete in itself, so a panic leaves nothing half done.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.stopped.send_replace(true);
    }

    fn ticket(&self) -> Option<Ticket> {
        if *self.stopped.borrow() {
            return None;
        }
        let operation = self.next.fetch_add(1, Ordering::Relaxed);
        let due = self.rate.map(|rate| due(self.begun, operation, rate));
        let is_left = match self.until {
            Until::Total(total) => operation < total,
            Until::Time(time) => due.unwrap_or_else(|| Clock.monotonic()) < self.begun.after(time),
        };
        is_left.then_some(Ticket { operation, due })
    }

    /// Waits until an operation is due and says from when its time counts; `None` when stopped.
    async fn wait(&self, due: Moment) -> Option<Moment> {
        let now = Clock.monotonic();
        if now >= due {
            // No client was free when it was due. Who waited for it has waited since then.
            return Some(due);
        }
        let mut stopped = self.stopped.subscribe();
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => None,
            // The timer is late by up to a millisecond, which is nobody's wait.
            () = tokio::time::sleep(due.since(now)) => Some(Clock.monotonic()),
        }
    }
}

/// When an operation is due at so many a second.
#[allow(clippy::cast_precision_loss, reason = "2^52 operations take longer than anyone waits")]
pub(super) fn due(begun: Moment, operation: u64, rate: f64) -> Moment {
    let wait = Duration::try_from_secs_f64(operation as f64 / rate);
    begun.after(wait.unwrap_or(Duration::MAX))
}

async fn client<W: Work>(shared: Arc<Shared<W>>, mut line: Line) {
    while let Some(ticket) = shared.ticket() {
        let begun = match ticket.due {
            None => Clock.monotonic(),
            Some(due) => match shared.wait(due).await {
                Some(begun) => begun,
                None => return,
            },
        };
        let request = shared.work.request(ticket.operation);
        let called = tokio::time::timeout(shared.timeout, line.call(request)).await;
        let mut is_broken = false;
        let result = match called {
            Ok(Ok(answer)) => shared.work.brought(answer),
            Ok(Err(error)) => {
                is_broken = error.is_broken();
                Err(error.to_string())
            }
            Err(_) => Err(format!("no answer within {:?}", shared.timeout)),
        };
        shared.tally().note(begun, Clock.monotonic(), result);
        if is_broken && line.mend(shared.timeout).await.is_err() {
            // The next operation will fail on the broken line, and that is counted.
        }
    }
}

/// What to show of a load under way.
pub(super) fn pace(done: u64, time: Duration) -> String {
    format!("{:.0} ops/s", per_second(done, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_due_in_even_steps_from_the_beginning() {
        let begun = Moment(1000);
        assert_eq!(due(begun, 0, 50.0), begun);
        assert_eq!(due(begun, 25, 50.0).since(begun), Duration::from_millis(500));
        assert_eq!(due(begun, 1, 0.5).since(begun), Duration::from_secs(2));
        assert_eq!(due(begun, u64::MAX, 0.001), Moment(u64::MAX));
    }
}
