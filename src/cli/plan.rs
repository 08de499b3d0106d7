//! `quorate plan`

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::context::{self, HomeArg};
use super::status::Output;
use super::view;
use crate::cluster::{Answer, Observed, Wanted};
use crate::execute::Executor;
use crate::execute::local::home::ClusterHome;
use crate::execute::local::{Engine, Local};
use crate::plan::{Census, Planned, simulate};

/// More steps than any procedure takes; a plan that long is a fault worth a report.
const LIMIT: usize = 500;

/// Print every step to come, and change nothing
///
/// Looks at the cluster as it is and walks the same planner that `quorate up` follows over a
/// simulated cluster in which every step succeeds. Beside each step: voters, healthy voters,
/// quorum and how many failures can be borne, before and after, and why the step is taken.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  quorate plan -f cluster.yaml          what `up` would do with this file\n  \
    quorate plan -f five.yaml -o json"
)]
pub(crate) struct Args {
    /// The spec to plan towards
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    home: HomeArg,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, Serialize)]
struct Line {
    step: String,
    why: String,
    before: Figures,
    after: Figures,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Figures {
    voters: usize,
    healthy: usize,
    quorum: usize,
    tolerance: usize,
}

impl From<Census> for Figures {
    fn from(c: Census) -> Self {
        let Census { voters, healthy, quorum, tolerance, .. } = c;
        Figures { voters, healthy, quorum, tolerance }
    }
}

impl From<Planned> for Line {
    fn from(p: Planned) -> Self {
        Line { step: p.text, why: p.why, before: p.before.into(), after: p.after.into() }
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let read = context::read_spec(Some(&args.file))?;
    let spec = &read.spec;
    let home = args.home.for_cluster(&spec.metadata.name)?;
    let remembered = home.read()?;
    let (wanted, _) = context::resolve(spec, read.source(), remembered.as_ref())?;
    let seen = observe(&home, &wanted)?;
    let lines: Vec<Line> = simulate(&wanted, &seen, LIMIT).into_iter().map(Line::from).collect();
    if args.output.print(&lines)? {
        return Ok(ExitCode::SUCCESS);
    }
    if let Answer::Unknown(why) = &seen.members
        && seen.record.founding.is_some()
    {
        println!(
            "The member list is not known ({why}); the plan assumes that what holds data comes back."
        );
        println!();
    }
    for line in table(&lines) {
        println!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

fn observe(home: &ClusterHome, wanted: &Wanted) -> anyhow::Result<Observed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut local = Local::new(home.clone(), Engine::Embedded);
    Ok(runtime.block_on(local.observe(wanted))?)
}

fn table(lines: &[Line]) -> Vec<String> {
    let header = ["", "STEP", "VOTERS", "HEALTHY", "QUORUM", "CAN LOSE", "WHY"];
    let mut rows = vec![header.map(str::to_owned)];
    for (number, line) in (1..).zip(lines) {
        let change = |pick: fn(&Figures) -> usize| match (pick(&line.before), pick(&line.after)) {
            (a, b) if a == b => a.to_string(),
            (a, b) => format!("{a} → {b}"),
        };
        rows.push([
            format!("{number}."),
            line.step.clone(),
            change(|f| f.voters),
            change(|f| f.healthy),
            change(|f| f.quorum),
            change(|f| f.tolerance),
            line.why.clone(),
        ]);
    }
    view::align(&rows)
}
