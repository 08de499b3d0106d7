//! `quorate bench`: loads any endpoint of etcd's API, ours or etcd's, and tells how it fared.
//!
//! The load itself is made as cheap as it gets ([`wire`], [`load`]), as it often runs beside
//! what it measures. Nothing here is deleted: keys that were written stay.

mod fields;
mod keys;
mod kv;
mod link;
mod load;
mod options;
mod progress;
mod report;
mod stats;
mod watch;
mod wire;

use std::process::ExitCode;

use super::NO_QUORUM;
use load::NoConnection;

/// Measure how fast a cluster answers
///
/// Works on every endpoint of etcd's v3 API, etcd's own included. Writes go to keys below
/// `bench/`, which stay there (etcdctl del --prefix bench/).
///
/// Each client sends its next operation when the last one was answered, so latency and throughput
/// belong together: more clients, more of both. State the number of clients and connections with
/// every figure, and warm up first. With --rate the load is fixed instead, and latency is what a
/// user of that load would feel.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate bench put                                    10,000 keys, one client
  quorate bench put --clients 100 --duration 30s --warm-up 2s
  quorate bench range --clients 100 --serializable
  quorate bench txn --ops 8
  quorate bench watch --watchers 1000
  quorate bench put -o json | jq .latencyMs.p99
  quorate bench put --endpoints http://10.0.0.1:2379,http://10.0.0.2:2379 \\
    --connections 2 --clients 64

Ctrl-C ends a load early; what was measured is printed all the same.
`quorate up` prints the line that sets ETCDCTL_ENDPOINTS, which is read here, too.

Exit codes: 0 every operation succeeded · 1 failed · 2 bad input, nothing was sent · \
3 some operations failed · 4 none succeeded, or no connection")]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Put(kv::PutArgs),
    Range(kv::RangeArgs),
    Txn(kv::TxnArgs),
    Watch(watch::Args),
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        match args.what {
            What::Put(args) => kv::put(args).await,
            What::Range(args) => kv::range(args).await,
            What::Txn(args) => kv::txn(args).await,
            What::Watch(args) => watch::run(args).await,
        }
    });
    match result {
        Err(error) if error.is::<NoConnection>() => {
            eprintln!("error: {error}");
            Ok(ExitCode::from(NO_QUORUM))
        }
        other => other,
    }
}
