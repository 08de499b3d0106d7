//! `quorate bench put`, `range` and `txn`: loads of single calls.

use std::process::ExitCode;

use bytes::Bytes;
use prost::Message;

use super::keys::{Keys, value};
use super::load::{Load, Outcome, Stop, Work, connect, drive};
use super::options::{Amount, Clients, KeyChoice, KeyForm, Output, Target, ValueForm};
use super::report::Report;
use super::wire::framed;
use crate::cli::BadInput;
use crate::proto::etcdserverpb as pb;

/// Operations that a load makes unless it is told how many.
const TOTAL: u64 = 10_000;

/// Write keys, one a call
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate bench put --total 1000                       one client, one after the other
  quorate bench put --clients 100 --duration 30s --warm-up 2s
  quorate bench put --sequential --total 100000 --clients 100    every key once, to read them later
  quorate bench put --clients 50 --rate 500 --duration 1m        latency at a load that is known
  quorate bench put --clients 300 --connections 3 \\
    --endpoints http://10.0.0.1:2379,http://10.0.0.2:2379,http://10.0.0.3:2379")]
pub(super) struct PutArgs {
    #[command(flatten)]
    base: Base,
    #[command(flatten)]
    value: ValueForm,
}

/// Read keys, one or a few a call
///
/// Reads what `quorate bench put` with the same prefix and sizes has written; keys that are not
/// there are read as well, and the report says how many were found.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate bench put --sequential --total 100000 --clients 100    first, so that there is something
  quorate bench range --clients 100 --duration 30s               a quorum's answer (linearizable)
  quorate bench range --clients 100 --duration 30s --serializable
  quorate bench range --limit 500 --total 1000                   pages of 500 keys")]
pub(super) struct RangeArgs {
    #[command(flatten)]
    base: Base,
    /// A member's own answer, which may be old
    #[arg(long, help_heading = "Amount")]
    serializable: bool,
    /// The answer of a quorum, never old; this is the default
    #[arg(long, help_heading = "Amount", conflicts_with = "serializable")]
    linearizable: bool,
    /// Read up to this many keys a call, from the chosen one on
    #[arg(long, help_heading = "Amount", value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    limit: i64,
}

/// Write several keys in one transaction
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate bench txn --ops 8 --clients 10 --total 5000
  quorate bench txn --ops 128 --value-size 1KiB      etcd's own limit is 128 (--max-txn-ops)")]
pub(super) struct TxnArgs {
    #[command(flatten)]
    base: Base,
    #[command(flatten)]
    value: ValueForm,
    /// Puts in each transaction, each of another key
    #[arg(long, help_heading = "Amount", value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u64).range(1..=10_000))]
    ops: u64,
}

/// What these loads have in common.
#[derive(Clone, Debug, clap::Args)]
struct Base {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    clients: Clients,
    #[command(flatten)]
    amount: Amount,
    #[command(flatten)]
    form: KeyForm,
    #[command(flatten)]
    choice: KeyChoice,
    #[command(flatten)]
    output: Output,
}

impl Base {
    fn keys(&self) -> Result<Keys, BadInput> {
        self.clients.fill(&self.target)?;
        Keys::new(&self.form, self.choice)
    }

    async fn drive<W: Work>(&self, work: W) -> anyhow::Result<Outcome> {
        self.target.notes();
        let mut stop = Stop::new()?;
        let connections = connect(&self.target).await?;
        let load = Load {
            clients: self.clients.clients,
            until: self.amount.until(TOTAL),
            amount: self.amount,
            timeout: self.target.timeout,
        };
        drive(load, &connections, work, &mut stop).await
    }

    fn report(&self, load: &'static str, kind: &str, outcome: &Outcome) -> Report {
        let clients = self.clients.clients;
        let KeyChoice { key_space, sequential } = self.choice;
        let order = if sequential { "in turn" } else { "at random" };
        let words = format!(
            "{clients} client{}, {kind}; {key_space} keys {order} (seed {})",
            if clients == 1 { "" } else { "s" },
            self.form.seed
        );
        let tally = &outcome.tally;
        Report::new(load, &self.target, words)
            .with("clients", clients)
            .with("rate", self.amount.rate().unwrap_or(0.0))
            .with("warmUpSeconds", self.amount.warm_up.as_secs_f64())
            .with("prefix", self.form.prefix.as_str())
            .with("keySize", self.form.key_size)
            .with("keySpace", key_space)
            .with("sequential", sequential)
            .with("seed", self.form.seed)
            .counted(outcome.end, tally.done, outcome.time, &tally.errors)
            .latency(load, &tally.times)
    }
}

/// Puts of single keys.
struct Puts {
    keys: Keys,
    seed: u64,
    size: usize,
}

impl Work for Puts {
    const PATH: &'static str = "/etcdserverpb.KV/Put";

    fn request(&self, operation: u64) -> Bytes {
        let key = self.keys.key(self.keys.choose(operation));
        let value = value(self.seed, operation, self.size);
        framed(&pb::PutRequest { key, value, ..Default::default() })
    }

    fn brought(&self, answer: Bytes) -> Result<u64, String> {
        decode::<pb::PutResponse>(answer).map(|_| 0)
    }
}

pub(super) async fn put(args: PutArgs) -> anyhow::Result<ExitCode> {
    let size = args.value.value_size;
    let work = Puts { keys: args.base.keys()?, seed: args.base.form.seed, size };
    let outcome = args.base.drive(work).await?;
    let report = args.base.report("put", &format!("{size} B values"), &outcome);
    report.with("valueSize", size).print(args.base.output.output)
}

/// Reads from one key on.
struct Reads {
    keys: Keys,
    serializable: bool,
    limit: i64,
}

impl Work for Reads {
    const PATH: &'static str = "/etcdserverpb.KV/Range";

    fn request(&self, operation: u64) -> Bytes {
        let key = self.keys.key(self.keys.choose(operation));
        let range_end = if self.limit == 1 { Bytes::new() } else { self.keys.end() };
        let (limit, serializable) = (self.limit, self.serializable);
        framed(&pb::RangeRequest { key, range_end, limit, serializable, ..Default::default() })
    }

    fn brought(&self, answer: Bytes) -> Result<u64, String> {
        let answer: pb::RangeResponse = decode(answer)?;
        Ok(u64::try_from(answer.kvs.len()).unwrap_or(u64::MAX))
    }
}

pub(super) async fn range(args: RangeArgs) -> anyhow::Result<ExitCode> {
    let RangeArgs { base, serializable, limit, .. } = args;
    let work = Reads { keys: base.keys()?, serializable, limit };
    let outcome = base.drive(work).await?;
    let kind = if serializable { "serializable" } else { "linearizable" };
    let found = outcome.tally.brought;
    let pages = if limit == 1 { String::new() } else { format!(", up to {limit} keys a call") };
    let report = base
        .report("range", &format!("{kind}{pages}"), &outcome)
        .with("serializable", serializable)
        .with("limit", limit)
        .with("keysRead", found)
        .line("keys read", found.to_string());
    let code = report.print(base.output.output)?;
    if found == 0 && outcome.tally.done > 0 {
        eprintln!("note: no key was there; write some first: quorate bench put --sequential");
    }
    Ok(code)
}

/// Transactions of several puts.
struct Txns {
    keys: Keys,
    seed: u64,
    size: usize,
    ops: u64,
    sequential: bool,
}

impl Work for Txns {
    const PATH: &'static str = "/etcdserverpb.KV/Txn";

    fn request(&self, operation: u64) -> Bytes {
        // Neighbours, because a member refuses a transaction that writes a key twice.
        let first = if self.sequential {
            self.keys.choose(operation.wrapping_mul(self.ops))
        } else {
            self.keys.choose(operation)
        };
        let put = |at: u64| {
            let key = self.keys.key(first + at);
            let number = operation.wrapping_mul(self.ops).wrapping_add(at);
            let value = value(self.seed, number, self.size);
            let put = pb::PutRequest { key, value, ..Default::default() };
            pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
        };
        let success = (0..self.ops).map(put).collect();
        framed(&pb::TxnRequest { success, ..Default::default() })
    }

    fn brought(&self, answer: Bytes) -> Result<u64, String> {
        let answer: pb::TxnResponse = decode(answer)?;
        let done = u64::try_from(answer.responses.len()).unwrap_or(u64::MAX);
        if answer.succeeded && done == self.ops {
            Ok(done)
        } else {
            Err(format!("{done} of {} puts were made", self.ops))
        }
    }
}

pub(super) async fn txn(args: TxnArgs) -> anyhow::Result<ExitCode> {
    let TxnArgs { base, value: form, ops } = args;
    if ops > base.choice.key_space {
        return Err(BadInput(format!(
            "--ops {ops} is more than --key-space {}: a transaction writes each key once",
            base.choice.key_space
        ))
        .into());
    }
    let size = form.value_size;
    let total = u64::try_from(size).unwrap_or(u64::MAX).saturating_mul(ops);
    if total > u64::from(u32::MAX) / 2 {
        return Err(
            BadInput(format!("--ops {ops} of {size} B are too large for one request")).into()
        );
    }
    let work = Txns {
        keys: base.keys()?,
        seed: base.form.seed,
        size,
        ops,
        sequential: base.choice.sequential,
    };
    let outcome = base.drive(work).await?;
    let puts = super::stats::per_second(outcome.tally.brought, outcome.time);
    let plural = if ops == 1 { "put" } else { "puts" };
    base.report("txn", &format!("{ops} {plural} of {size} B each"), &outcome)
        .with("valueSize", size)
        .with("ops", ops)
        .with("putsPerSecond", puts)
        .line("puts", format!("{}, {puts:.1} a second", outcome.tally.brought))
        .print(base.output.output)
}

fn decode<M: Message + Default>(answer: Bytes) -> Result<M, String> {
    M::decode(answer).map_err(|error| format!("not an answer of etcd's API: {error}"))
}
