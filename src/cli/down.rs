//! `quorate down`

use std::io::{IsTerminal, stdin};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::Signal;

use super::context::HomeArg;
use super::{HELD, last_spec, up};
use crate::execute::Executor;
use crate::execute::local::home::{ClusterHome, ClusterHomeError, UpLock};
use crate::execute::local::{Engine, Local};

/// How long a running `up` may take to stop its members.
const LIMIT: Duration = Duration::from_secs(120);

/// Stop a cluster's members in order; the data stays
///
/// A running `quorate up` of the same home is asked to stop first. With --delete-data the whole
/// home goes afterwards: members, set-asides and all.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  quorate down\n  quorate down --home /srv/demo --delete-data -y"
)]
pub(crate) struct Args {
    #[command(flatten)]
    home: HomeArg,
    /// Delete the home, and with it every member's data, once all have stopped
    #[arg(long)]
    delete_data: bool,
    /// Do not ask before deleting
    #[arg(short, long)]
    yes: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (home, file) = args.home.existing()?;
    if args.delete_data && !args.yes {
        let question = format!("Delete {} with all data of {}?", home.dir().display(), file.name);
        if !super::confirm(&question, stdin().is_terminal())? {
            println!("nothing was changed");
            return Ok(ExitCode::FAILURE);
        }
    }
    let Some(lock) = stop_up(&home)? else { return Ok(ExitCode::from(HELD)) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut local = Local::new(home.clone(), Engine::Embedded);
        // Who leads only decides the order, so a home that cannot be read well is no obstacle.
        let seen = match last_spec::read(&home, &file) {
            Ok(wanted) => local.observe(&wanted).await.ok(),
            Err(_) => None,
        };
        let nodes = up::stop_order(&home, seen.as_ref())?;
        up::stop_all(&local, &nodes, false, &mut |what| println!("{what}")).await
    })?;
    if args.delete_data {
        std::fs::remove_dir_all(home.dir())
            .with_context(|| format!("cannot delete {}", home.dir().display()))?;
        println!("{} is deleted", home.dir().display());
    } else {
        println!(
            "the data stays in {}; `quorate up` starts the members again",
            home.dir().display()
        );
    }
    drop(lock);
    Ok(ExitCode::SUCCESS)
}

/// Asks a running `up` to stop, waits for it, and takes its place.
fn stop_up(home: &ClusterHome) -> anyhow::Result<Option<UpLock>> {
    let mut asked = false;
    let mut waited = Duration::ZERO;
    loop {
        match home.lock() {
            Ok(lock) => return Ok(Some(lock)),
            Err(held @ ClusterHomeError::Held { .. }) => {
                if let (false, Some(up)) = (asked, home.up_state()?) {
                    println!("asking `quorate up` (pid {}) to stop its members", up.process.pid);
                    up.process.signal(Signal::TERM)?;
                    asked = true;
                }
                if waited >= LIMIT {
                    eprintln!("error: {held}");
                    return Ok(None);
                }
            }
            Err(other) => bail!(other),
        }
        std::thread::sleep(Duration::from_millis(100));
        waited += Duration::from_millis(100);
    }
}
