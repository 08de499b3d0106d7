//! `quorate status`

use std::process::ExitCode;

use serde::Serialize;

use super::context::HomeArg;
use super::view::{self, MemberView, Verdict};
use super::{DEGRADED, NO_QUORUM};
use crate::cluster::{ClusterId, Wanted};
use crate::execute::Executor;
use crate::execute::local::home::UpState;
use crate::execute::local::{Engine, Local};
use crate::plan::next_step;

/// The forms of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For scripts.
    Json,
    /// For people with scripts.
    Yaml,
}

impl Output {
    /// Prints a value in one of the forms for scripts; false for a table, which is the caller's.
    pub(crate) fn print<T: Serialize>(self, value: &T) -> anyhow::Result<bool> {
        match self {
            Output::Table => return Ok(false),
            Output::Json => println!("{}", serde_json::to_string_pretty(value)?),
            Output::Yaml => print!("{}", serde_yaml::to_string(value)?),
        }
        Ok(true)
    }
}

/// Say how a cluster is, and what comes next
///
/// Looks at the homes on this machine and asks the members themselves; no `quorate up` needs to
/// run, and nothing is changed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 as wanted · 3 serves, but not as wanted · 4 no quorum answers · \
    1 failed · 2 bad input\n\nExamples:\n  quorate status\n  quorate status -o json | jq .verdict"
)]
pub(crate) struct Args {
    #[command(flatten)]
    home: HomeArg,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

/// What an `up` says when nothing is under way.
const DONE: &str = "done";

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    cluster: String,
    home: String,
    verdict: Verdict,
    sentence: String,
    cluster_id: Option<ClusterId>,
    voters: usize,
    healthy: usize,
    quorum: usize,
    tolerance: usize,
    up: Option<UpState>,
    spec_problem: Option<String>,
    members: Vec<MemberView>,
    /// The step that follows from what was just seen.
    step: String,
    /// What the running `up` last said it does.
    operation: Option<String>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (home, file) = args.home.existing()?;
    let up = home.up_state()?;
    let wanted = super::last_spec::read(&home, &file)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let view = runtime.block_on(async {
        // The engine is never started from here, so none is looked for.
        let mut local = Local::new(home.clone(), Engine::Embedded);
        local.learn_ends(up.iter().flat_map(|u| u.ends.clone()));
        look(&mut local, &home, &wanted, up).await
    })?;
    if !args.output.print(&view)? {
        print_table(&view);
    }
    Ok(ExitCode::from(match view.verdict {
        Verdict::Healthy => 0,
        Verdict::Working | Verdict::Degraded => DEGRADED,
        Verdict::NoQuorum | Verdict::Stopped => NO_QUORUM,
    }))
}

async fn look(
    local: &mut Local,
    home: &crate::execute::local::home::ClusterHome,
    wanted: &Wanted,
    up: Option<UpState>,
) -> anyhow::Result<View> {
    let seen = local.observe(wanted).await?;
    let next = next_step(wanted, &seen);
    let census = view::figures(wanted, &seen);
    let verdict = Verdict::of(&seen, &next, up.is_some());
    Ok(View {
        cluster: wanted.name.clone(),
        home: home.dir().display().to_string(),
        verdict,
        sentence: view::verdict_sentence(wanted, &seen, verdict),
        cluster_id: seen.record.founding.as_ref().and_then(|f| f.cluster),
        voters: census.voters,
        healthy: census.healthy,
        quorum: census.quorum,
        tolerance: census.tolerance,
        spec_problem: up.as_ref().and_then(|u| u.spec_problem.clone()),
        members: view::members(&seen, local.figures()),
        step: next.to_string(),
        operation: up.as_ref().map(|u| u.step.clone()).filter(|step| step != DONE),
        up,
    })
}

fn print_table(view: &View) {
    println!("{}", view.sentence);
    println!();
    for line in view::table(&view.members) {
        println!("{line}");
    }
    println!();
    match &view.up {
        Some(up) if up.step == DONE => {
            println!("under way:  nothing (quorate up, pid {}, looks after it)", up.process.pid);
        }
        Some(up) => println!("under way:  {} (quorate up, pid {})", up.step, up.process.pid),
        None => println!("under way:  nothing: no `quorate up` looks after this cluster"),
    }
    println!("next:       {}", view.step);
    if let Some(problem) = &view.spec_problem {
        println!("spec:       {problem}; the last good spec stays in force");
    }
    println!("home:       {}", view.home);
    println!("not set up: TLS, authentication, backups (not built yet)");
}
