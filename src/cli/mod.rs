//! The command line: one file a command, each thin over the library.
//!
//! Exit codes, the same for every command: 0 as asked · 1 failed · 2 bad input, nothing was
//! started or changed · 3 the cluster serves but is not as wanted · 4 no quorum answers ·
//! 5 the home is held by another `quorate up` · 40 and up: the typed ends of `quorate node`
//! (`quorate node --help` lists them).

mod aside;
mod bench;
mod completions;
mod context;
mod copy_self;
mod crd;
mod down;
mod etcd;
mod inspect;
mod kubectl;
mod last_spec;
mod logging;
mod node;
mod operator;
mod plan;
mod render;
mod replace;
mod screen;
mod spec_file;
mod status;
mod up;
mod view;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit code of bad input: nothing was started or changed.
pub(crate) const BAD_INPUT: u8 = 2;

/// Exit code of `status`: the cluster serves, but is not as wanted.
pub(crate) const DEGRADED: u8 = 3;
/// Exit code of `status`: no quorum answers.
pub(crate) const NO_QUORUM: u8 = 4;
/// Exit code: another `quorate up` holds the home.
pub(crate) const HELD: u8 = 5;

/// Input that was refused; its text is the one line a person sees.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadInput(pub(crate) String);

/// Runs etcd-style clusters so that they never lose quorum or data.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, about, long_about = None, propagate_version = true)]
#[command(
    after_help = "Start here:\n  quorate up                      three nodes on loopback\n  \
    quorate up -f cluster.yaml      the cluster a file describes\n  \
    quorate status                  how it is, and what comes next"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Args),
    Status(status::Args),
    Plan(plan::Args),
    Down(down::Args),
    Replace(replace::Args),
    Render(render::Args),
    Inspect(inspect::Args),
    Aside(aside::Args),
    Node(node::Args),
    Operator(operator::Args),
    Kubectl(kubectl::Args),
    Bench(bench::Args),
    Crd(crd::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    CopySelf(copy_self::Args),
}

/// Parses `args`, runs the command and returns its exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<_> = args.into_iter().collect();
    let as_etcd = etcd::is_meant(&args);
    let args = if as_etcd {
        if etcd::asks_version(&args) {
            print!("{}", etcd::version());
            return ExitCode::SUCCESS;
        }
        etcd::as_node(args)
    } else if kubectl::is_meant(&args) {
        kubectl::as_command(args)
    } else {
        args
    };
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { BAD_INPUT } else { 0 };
            // Nothing is left to tell a closed terminal.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let result = match cli.command {
        Command::Up(args) => up::run(args),
        Command::Status(args) => status::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Down(args) => down::run(args),
        Command::Replace(args) => replace::run(args),
        Command::Render(args) => render::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Aside(args) => aside::run(args),
        Command::Node(args) => node::run(args, as_etcd),
        Command::Operator(args) => operator::run(args),
        Command::Kubectl(args) => kubectl::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Crd(args) => crd::run(args),
        Command::Completions(args) => completions::run(args),
        Command::CopySelf(args) => copy_self::run(args),
    };
    result.unwrap_or_else(|error| {
        if let Some(BadInput(line)) = error.downcast_ref() {
            eprintln!("error: {line}");
            return ExitCode::from(BAD_INPUT);
        }
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// The whole command line, for completions.
pub(crate) fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Asks a yes-or-no question; anything but a yes is a no. Without a terminal nobody can answer.
pub(crate) fn confirm(question: &str, is_terminal: bool) -> anyhow::Result<bool> {
    if !is_terminal {
        return Err(
            BadInput(format!("{question} Nobody can be asked here; say yes with -y")).into()
        );
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
