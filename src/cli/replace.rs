//! `quorate replace`

use std::io::{IsTerminal, stdin};
use std::process::ExitCode;
use std::time::Duration;

use super::context::HomeArg;
use super::{BadInput, last_spec};
use crate::clock::Clock;
use crate::cluster::{Health, MemberId, NodeName, Observed, ReplaceRequest, Role, Wanted};
use crate::execute::Executor;
use crate::execute::local::home::ClusterHome;
use crate::execute::local::{Engine, Local};
use crate::plan::{self, Step, next_step};

/// How often to look while waiting.
const LOOK: Duration = Duration::from_millis(300);

/// Replace a node's member, in the safe order
///
/// The running `quorate up` removes the member, sets its data aside, adds a new one as learner,
/// starts it and promotes it, as it does by itself when a member is lost. Also lifts the limit
/// that stops a node from being replaced too often. Asks before a healthy member; the only voter
/// is never replaced.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  quorate replace etcd2\n  quorate replace etcd2 -y --no-wait")]
pub(crate) struct Args {
    /// The node whose member is replaced
    node: String,
    #[command(flatten)]
    home: HomeArg,
    /// Do not ask before a healthy member is replaced
    #[arg(short, long)]
    yes: bool,
    /// Leave the wish with `quorate up` and return at once
    #[arg(long)]
    no_wait: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (home, file) = args.home.existing()?;
    let wanted = last_spec::read(&home, &file)?;
    let node = NodeName(args.node.clone());
    if !wanted.nodes.contains_key(&node) {
        let names: Vec<_> = wanted.nodes.keys().map(ToString::to_string).collect();
        return Err(BadInput(format!(
            "{node} is not a node of {}; its nodes are: {}",
            wanted.name,
            names.join(", ")
        ))
        .into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut local = Local::new(home.clone(), Engine::Embedded);
        let seen = local.observe(&wanted).await?;
        let member = plan::member_of(&wanted, &seen, &node);
        if is_only_voter(&seen, member) {
            return Err(BadInput(format!(
                "{node} runs the only voter of {}: replacing it would lose everything; scale to 3 nodes first",
                wanted.name
            ))
            .into());
        }
        if member.is_none() && seen.members.known().is_none() {
            anyhow::bail!(
                "no quorum answers, and {node} shows no trace of a member: nothing can be asked for yet; look at: quorate status"
            );
        }
        let is_healthy = seen
            .nodes
            .get(&node)
            .is_some_and(|n| matches!(n.health, Health::Answers { has_leader: true, .. }));
        if is_healthy && !args.yes {
            let question = format!("The member of {node} is healthy. Replace it all the same?");
            if !super::confirm(&question, stdin().is_terminal())? {
                println!("nothing was changed");
                return Ok(ExitCode::FAILURE);
            }
        }
        home.leave_request(&node, &ReplaceRequest { member, at: Clock.now() })?;
        let Some(up) = home.up_state()? else {
            println!("no `quorate up` runs; the next one replaces {node}");
            return Ok(ExitCode::SUCCESS);
        };
        println!("asked `quorate up` (pid {}) to replace {node}", up.process.pid);
        if args.no_wait {
            return Ok(ExitCode::SUCCESS);
        }
        watch(&home, &wanted, &node, member, &mut local).await
    })
}

fn is_only_voter(seen: &Observed, member: Option<MemberId>) -> bool {
    let Some(list) = seen.members.known() else { return false };
    let mut voters = list.members.iter().filter(|m| m.role == Role::Voter);
    voters.next().map(|m| m.id) == member && member.is_some() && voters.next().is_none()
}

/// The checks a replacement passes, in order; each is said once, when it is passed.
async fn watch(
    home: &ClusterHome,
    wanted: &Wanted,
    node: &NodeName,
    old: Option<MemberId>,
    local: &mut Local,
) -> anyhow::Result<ExitCode> {
    let mut passed = 0;
    loop {
        // Until then, what blocks may be what the wish lifts.
        let is_taken_up = !home.requests_left()?.contains_key(node);
        let seen = local.observe(wanted).await?;
        let checks = checks(wanted, &seen, node, old);
        while let Some((text, true)) = checks.get(passed) {
            println!("  ✓ {text}");
            passed += 1;
        }
        if passed == checks.len() {
            return Ok(ExitCode::SUCCESS);
        }
        if let step @ Step::Blocked { .. } = next_step(wanted, &seen)
            && is_taken_up
        {
            anyhow::bail!("{step}");
        }
        if home.up_state()?.is_none() {
            anyhow::bail!("`quorate up` has ended; the next one goes on where it stopped");
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn checks(
    wanted: &Wanted,
    seen: &Observed,
    node: &NodeName,
    old: Option<MemberId>,
) -> Vec<(String, bool)> {
    let members = seen.members.known().map_or(&[][..], |list| &list.members);
    let url = wanted.nodes.get(node).map(|n| &n.peer_url);
    let known = seen.members.known().is_some();
    let new =
        members.iter().find(|m| Some(m.id) != old && m.peer_urls.iter().any(|u| Some(u) == url));
    let is_gone = known && old.is_none_or(|old| members.iter().all(|m| m.id != old));
    let is_voter = new.is_some_and(|m| m.role == Role::Voter && m.is_started());
    let old = old.map_or_else(|| "its former member".to_owned(), |id| format!("member {id}"));
    vec![
        (format!("{old} is removed"), is_gone),
        (format!("{node} has a new member"), is_gone && new.is_some()),
        (
            "the new member has started".to_owned(),
            new.is_some_and(crate::cluster::Member::is_started),
        ),
        ("it has caught up and votes".to_owned(), is_voter),
        (
            "the cluster is as wanted".to_owned(),
            is_voter && matches!(next_step(wanted, seen), Step::Done),
        ),
    ]
}
