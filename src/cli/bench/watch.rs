//! `quorate bench watch`: how long after a put its watchers know.
//!
//! A round is one put and the wait until every watcher of its key has seen it; rounds do not
//! overlap, so no time is another round's. A value carries the run's mark and the round's number:
//! what others write meanwhile is seen and not counted.

use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use super::keys::{Keys, value};
use super::load::{End, Stop, connect, connect_one};
use super::options::{Amount, KeyChoice, KeyForm, Output, Target, Until, ValueForm};
use super::progress::Progress;
use super::report::Report;
use super::stats::{Errors, Times};
use super::wire::{CallError, Connection, Line, framed};
use crate::cli::BadInput;
use crate::clock::{Clock, Moment};
use crate::proto::etcdserverpb as pb;
use pb::watch_request::RequestUnion;

/// Rounds unless it is told how many.
const TOTAL: u64 = 100;
/// Bytes of a value that say which run and which round.
const MARK: usize = 16;
/// After so many rounds in a row that no watcher saw to their end, there is no use in more.
const HOPELESS: u32 = 3;

const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// Measure how soon watchers see a put
///
/// N watchers watch one key (or each its own); a put is made, and all of them are waited for
/// before the next. Told are the times from sending the put until the first, each and the last
/// watcher saw it, and until it was acknowledged. The writer has a connection of its own, so that
/// its answers do not queue behind events.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate bench watch --watchers 1000                 one key, 1000 streams, 1 connection
  quorate bench watch --watchers 1000 --streams 10    100 watches a stream
  quorate bench watch --watchers 100 --distinct-keys  each put has one watcher
  quorate bench watch --rate 20 --duration 1m -o json | jq .latencyMs.p50

latencyMs in JSON is the last watcher's; eachWatcherMs, firstWatcherMs and acknowledgedMs are there
as well.")]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Watches
    #[arg(long, help_heading = "Amount", value_name = "N", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    watchers: u32,
    /// Streams that the watches are spread over [default: one for each]
    #[arg(long, help_heading = "Amount", value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    streams: Option<u32>,
    /// Each watcher watches a key of its own, and the puts go round them
    #[arg(long, help_heading = "Keys and values")]
    distinct_keys: bool,
    #[command(flatten)]
    amount: Amount,
    #[command(flatten)]
    form: KeyForm,
    #[command(flatten)]
    value: ValueForm,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let streams = args.streams.unwrap_or(args.watchers);
    if streams > args.watchers || args.target.connections > index(streams) {
        return Err(BadInput(format!(
            "{} watchers on {streams} streams on {} connections: give no fewer watchers than \
             streams, and no fewer streams than connections",
            args.watchers, args.target.connections
        ))
        .into());
    }
    if args.value.value_size < MARK {
        return Err(BadInput(format!(
            "--value-size {} is too short: watchers tell the puts apart by the first {MARK} bytes",
            args.value.value_size
        ))
        .into());
    }
    let key_space = if args.distinct_keys { u64::from(args.watchers) } else { 1 };
    let keys = Keys::new(&args.form, KeyChoice { key_space, sequential: true })?;
    args.target.notes();

    let mut stop = Stop::new()?;
    let connections = connect(&args.target).await?;
    let first = args.target.endpoints.first().cloned();
    let first = first.ok_or_else(|| BadInput("--endpoints names none".to_owned()))?;
    let writer = connect_one(first, args.target.timeout).await?.line(PUT).await;
    let mark = u64::from(std::process::id()) ^ Clock.now().0 << 20;
    let shared = Arc::new(Shared { mark, round: Mutex::new(Round::new()?), seen: Notify::new() });

    let (failed, failures) = mpsc::channel(1);
    let mut readers = JoinSet::new();
    let watching = watch_all(&args, streams, &connections, &keys, &shared, &failed, &mut readers);
    let watched = tokio::select! {
        watched = watching => watched,
        () = stop.asked() => return Ok(ExitCode::SUCCESS), // nothing was measured yet
    };
    drop(failed);
    let mut run = Run {
        keys,
        value: value(args.form.seed, 0, args.value.value_size),
        watchers: if args.distinct_keys { 1 } else { args.watchers },
        amount: args.amount,
        timeout: args.target.timeout,
        writer,
        failures,
        shared,
        next: 0,
        sums: Sums::new()?,
    };
    let end = match watched {
        Ok(()) => run.all(&mut stop).await?,
        Err(text) => {
            run.sums.errors.note(text);
            End::GivenUp
        }
    };
    readers.shutdown().await;
    report(&args, streams, end, &run.sums).print(args.output.output)
}

fn report(args: &Args, streams: u32, end: End, sums: &Sums) -> Report {
    let watchers = args.watchers;
    let of = if args.distinct_keys { "a key of its own each" } else { "one key" };
    let words = format!(
        "{watchers} watchers of {of}, {streams} streams, {} B values; the writer apart",
        args.value.value_size
    );
    Report::new("watch", &args.target, words)
        .with("watchers", watchers)
        .with("streams", streams)
        .with("distinctKeys", args.distinct_keys)
        .with("rate", args.amount.rate().unwrap_or(0.0))
        .with("warmUpSeconds", args.amount.warm_up.as_secs_f64())
        .with("prefix", args.form.prefix.as_str())
        .with("keySize", args.form.key_size)
        .with("valueSize", args.value.value_size)
        .with("seed", args.form.seed)
        .with("events", sums.events)
        .counted(end, sums.done, sums.time, &sums.errors)
        .line("events", sums.events.to_string())
        .latency("last watcher", &sums.last)
        .more("each watcher", "eachWatcherMs", &sums.each)
        .more("first watcher", "firstWatcherMs", &sums.first)
        .more("acknowledged", "acknowledgedMs", &sums.acknowledged)
}

/// Opens every stream and waits until every watch is there; a reader for each goes on.
async fn watch_all(
    args: &Args,
    streams: u32,
    connections: &[Arc<Connection>],
    keys: &Keys,
    shared: &Arc<Shared>,
    failed: &mpsc::Sender<String>,
    readers: &mut JoinSet<()>,
) -> Result<(), String> {
    let (ready, mut created) = mpsc::channel(index(streams));
    for (stream, connection) in (0..streams).zip(connections.iter().cycle()) {
        let own = (stream..args.watchers).step_by(index(streams));
        let own: Vec<u64> = own.map(u64::from).collect();
        let line = connection.line(WATCH).await;
        let reader =
            Reader { own: keys_of(keys, &own), shared: Arc::clone(shared), ready: ready.clone() };
        let failed = failed.clone();
        readers.spawn(async move {
            let Err(text) = reader.run(line).await;
            // One is enough to end the run; more have nobody to tell.
            let _ = failed.try_send(format!("a watch ended: {text}"));
        });
    }
    drop(ready);
    let all = async {
        for _ in 0..streams {
            // A reader that fails drops its sender; the last of them ends this.
            created.recv().await.ok_or("a stream failed before all watches were made")?;
        }
        Ok::<_, &str>(())
    };
    match tokio::time::timeout(args.target.timeout, all).await {
        Ok(made) => made.map_err(str::to_owned),
        Err(_) => Err(format!("not all watches were made within {:?}", args.target.timeout)),
    }
}

fn keys_of(keys: &Keys, numbers: &[u64]) -> Vec<Bytes> {
    numbers.iter().map(|number| keys.key(*number)).collect()
}

/// What the writer and the readers share.
#[derive(Debug)]
struct Shared {
    /// Of this run: other values are not ours.
    mark: u64,
    round: Mutex<Round>,
    /// Told when the last watcher has seen the round's put.
    seen: Notify,
}

impl Shared {
    fn round(&self) -> MutexGuard<'_, Round> {
        // Every change is complete in itself, so a panic leaves nothing half done.
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The round under way.
#[derive(Debug)]
struct Round {
    number: u64,
    begun: Moment,
    /// Watchers that have not seen it yet.
    left: u32,
    first: Duration,
    last: Duration,
    each: Times,
    /// Whether the times of each watcher are kept.
    counts: bool,
    events: u64,
}

impl Round {
    fn new() -> anyhow::Result<Round> {
        let each = Times::new()?;
        let (first, last) = (Duration::ZERO, Duration::ZERO);
        Ok(Round {
            number: 0,
            begun: Moment(0),
            left: 0,
            first,
            last,
            each,
            counts: false,
            events: 0,
        })
    }
}

/// Reads one stream and the watches on it.
struct Reader {
    /// The keys of its watches, in the order in which they are made.
    own: Vec<Bytes>,
    shared: Arc<Shared>,
    ready: mpsc::Sender<()>,
}

impl Reader {
    async fn run(self, mut line: Line) -> Result<std::convert::Infallible, String> {
        let mut requests = BytesMut::new();
        for key in &self.own {
            let create = pb::WatchCreateRequest { key: key.clone(), ..Default::default() };
            let union = Some(RequestUnion::CreateRequest(create));
            requests.put(framed(&pb::WatchRequest { request_union: union }));
        }
        let fail = |error: CallError| error.to_string();
        let mut stream = line.stream(requests.freeze()).await.map_err(fail)?;
        let Reader { own, shared, ready } = self;
        let mut missing = own.len();
        let mut ready = Some(ready);
        // The number of the last round that each watch has seen, by the watch's ID.
        let mut seen = std::collections::HashMap::with_capacity(own.len());
        loop {
            let message = stream.next().await.map_err(fail)?;
            let now = Clock.monotonic();
            let answer = pb::WatchResponse::decode(message).map_err(|error| error.to_string())?;
            if answer.canceled {
                return Err(format!("cancelled: {}", answer.cancel_reason));
            }
            if answer.created {
                seen.insert(answer.watch_id, 0);
                missing = missing.saturating_sub(1);
                if let Some(ready) = ready.take_if(|_| missing == 0) {
                    let _ = ready.try_send(()); // there is room for every stream's word
                }
            }
            let Some(before) = seen.get_mut(&answer.watch_id) else {
                return Err(format!("an event for watch {}, which there is not", answer.watch_id));
            };
            for event in answer.events {
                let number = event.kv.as_ref().and_then(|kv| marked(shared.mark, &kv.value));
                if let Some(number) = number.filter(|it| it > before) {
                    *before = number;
                    see(&shared, number, now);
                }
            }
        }
    }
}

/// One watcher has seen a put.
fn see(shared: &Shared, number: u64, now: Moment) {
    let mut round = shared.round();
    // An event of a round that was given up belongs to no round any more.
    if number != round.number || round.left == 0 {
        return;
    }
    let time = now.since(round.begun);
    if round.events == 0 {
        round.first = time;
    }
    round.events += 1;
    if round.counts {
        round.each.note(time);
    }
    round.left -= 1;
    if round.left == 0 {
        round.last = time;
        shared.seen.notify_one();
    }
}

/// The round's number in a value of this run.
fn marked(mark: u64, value: &[u8]) -> Option<u64> {
    let (own, rest) = value.split_first_chunk::<8>()?;
    let (number, _) = rest.split_first_chunk::<8>()?;
    (u64::from_be_bytes(*own) == mark).then_some(u64::from_be_bytes(*number))
}

/// What all rounds came to.
#[derive(Debug)]
struct Sums {
    done: u64,
    events: u64,
    time: Duration,
    errors: Errors,
    acknowledged: Times,
    first: Times,
    each: Times,
    last: Times,
}

impl Sums {
    fn new() -> anyhow::Result<Sums> {
        Ok(Sums {
            done: 0,
            events: 0,
            time: Duration::ZERO,
            errors: Errors::default(),
            acknowledged: Times::new()?,
            first: Times::new()?,
            each: Times::new()?,
            last: Times::new()?,
        })
    }
}

/// The rounds.
struct Run {
    keys: Keys,
    value: Bytes,
    /// Watchers that see one put.
    watchers: u32,
    amount: Amount,
    timeout: Duration,
    writer: Line,
    failures: mpsc::Receiver<String>,
    shared: Arc<Shared>,
    /// The number of the next round, over warm-up and measuring; the key follows from it.
    next: u64,
    sums: Sums,
}

impl Run {
    async fn all(&mut self, stop: &mut Stop) -> anyhow::Result<End> {
        if !self.amount.warm_up.is_zero() {
            let end = self.phase(Until::Time(self.amount.warm_up), stop).await;
            let failed = std::mem::replace(&mut self.sums, Sums::new()?);
            if end != End::Complete {
                self.sums.errors = failed.errors;
                return Ok(end);
            }
        }
        self.shared.round().counts = true;
        let end = self.phase(self.amount.until(TOTAL), stop).await;
        let mut round = self.shared.round();
        self.sums.each = std::mem::replace(&mut round.each, Times::new()?);
        Ok(end)
    }

    async fn phase(&mut self, until: Until, stop: &mut Stop) -> End {
        let what = if self.shared.round().counts { "measuring" } else { "warming up" };
        let progress = Progress::new(what, until);
        let begun = Clock.monotonic();
        let mut in_vain = 0;
        let end = loop {
            let made = self.sums.done + self.sums.errors.total();
            let is_over = match until {
                Until::Total(total) => made >= total,
                Until::Time(time) => Clock.monotonic() >= begun.after(time),
            };
            if is_over {
                break End::Complete;
            }
            let result = tokio::select! {
                result = self.paced(begun, made) => result,
                () = stop.asked() => break End::Interrupted,
            };
            self.sums.time = Clock.monotonic().since(begun);
            match result {
                Ok(()) => in_vain = 0,
                Err(Failed::Round(text)) => {
                    self.sums.errors.note(text);
                    in_vain += 1;
                }
                Err(Failed::Watch(text)) => {
                    self.sums.errors.note(text);
                    in_vain = HOPELESS;
                }
            }
            progress.show(self.sums.done, self.sums.time, &self.sums.last);
            if in_vain >= HOPELESS {
                break End::GivenUp;
            }
        };
        progress.clear();
        end
    }

    /// Waits until a round is due, then makes it.
    async fn paced(&mut self, begun: Moment, made: u64) -> Result<(), Failed> {
        if let Some(rate) = self.amount.rate() {
            let due = super::load::due(begun, made, rate);
            tokio::time::sleep(due.since(Clock.monotonic())).await;
        }
        self.round().await
    }

    async fn round(&mut self) -> Result<(), Failed> {
        self.next += 1;
        let number = self.next;
        let key = self.keys.key(self.keys.choose(number));
        let mut value = BytesMut::from(&self.value[..]);
        value[..8].copy_from_slice(&self.shared.mark.to_be_bytes());
        value[8..MARK].copy_from_slice(&number.to_be_bytes());
        let put = pb::PutRequest { key, value: value.freeze(), ..Default::default() };
        let request = framed(&put);

        let begun = Clock.monotonic();
        {
            let mut round = self.shared.round();
            (round.number, round.begun, round.left, round.events) =
                (number, begun, self.watchers, 0);
        }
        let both = async {
            self.writer
                .call(request)
                .await
                .map_err(|error| (error.to_string(), error.is_broken()))?;
            let acknowledged = Clock.monotonic().since(begun);
            // Asked each time: a word of an earlier round may still be waiting.
            while self.shared.round().left > 0 {
                self.shared.seen.notified().await;
            }
            Ok(acknowledged)
        };
        let result = tokio::select! {
            result = tokio::time::timeout(self.timeout, both) => result,
            Some(text) = self.failures.recv() => return Err(Failed::Watch(text)),
        };
        let (left, first, last, events) = {
            let mut round = self.shared.round();
            let found = (round.left, round.first, round.last, round.events);
            round.left = 0; // late ones do not count
            found
        };
        match result {
            Ok(Ok(acknowledged)) => {
                self.sums.done += 1;
                self.sums.events += events;
                self.sums.acknowledged.note(acknowledged);
                self.sums.first.note(first);
                self.sums.last.note(last);
                Ok(())
            }
            Ok(Err((text, is_broken))) => {
                if is_broken {
                    // If that fails, so will the next round, and that is counted.
                    let _ = self.writer.mend(self.timeout).await;
                }
                Err(Failed::Round(text))
            }
            Err(_) => Err(Failed::Round(format!(
                "{left} of {} watchers had not seen a put within {:?}",
                self.watchers, self.timeout
            ))),
        }
    }
}

/// Why a round has no times.
enum Failed {
    /// It alone.
    Round(String),
    /// No further one can be seen by all.
    Watch(String),
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
