//! `quorate crd`

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::Context;

use crate::operator::crd::crd_yaml;

/// Print the definition of the kind `EtcdCluster` for Kubernetes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  quorate crd | kubectl apply --server-side -f -\n  \
                        quorate crd > crds/etcdclusters.quorate.dev.yaml")]
pub(crate) struct Args {}

pub(crate) fn run(_args: Args) -> anyhow::Result<ExitCode> {
    print(&crd_yaml()?)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints to standard output; a reader that has had enough, such as `head`, is no error.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
