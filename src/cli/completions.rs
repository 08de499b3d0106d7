//! `quorate completions`

use std::process::ExitCode;

use clap_complete::Shell;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  quorate completions bash > /etc/bash_completion.d/quorate")]
pub(crate) struct Args {
    /// The shell to print it for.
    shell: Shell,
}

#[allow(clippy::unnecessary_wraps, reason = "every command has this form")]
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut command = super::command();
    clap_complete::generate(args.shell, &mut command, "quorate", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
