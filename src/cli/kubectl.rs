//! `quorate kubectl`, and `kubectl quorate` where this program is called `kubectl-quorate`.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Write, stdin, stdout};
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;

use futures_util::StreamExt;

use super::status::Output;
use super::view::align;
use super::{BadInput, DEGRADED, NO_QUORUM, confirm};
use crate::cluster::{NodeName, Role};
use crate::execute::pods::resource::ClusterObject;
use crate::execute::pods::status::{ClusterStatus, MemberStatus};
use crate::operator::ask::Asker;

/// Look at clusters in Kubernetes, and have a member replaced
///
/// The same as `kubectl quorate …` once a link called kubectl-quorate to this program is on PATH.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  quorate kubectl status\n  quorate kubectl status demo -n db\n  \
    quorate kubectl replace demo demo-1\n\nAs a plugin:\n  ln -s $(command -v quorate) \
    /usr/local/bin/kubectl-quorate\n  kubectl quorate status"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// The namespace [default: the one of the current context]
    #[arg(short, long, global = true, value_name = "NS")]
    namespace: Option<String>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say how clusters are: all of the namespace, or one with its members
    ///
    /// Exit codes of one cluster: 0 as wanted · 3 serves, but not as wanted · 4 no quorum answers
    Status {
        /// The cluster
        name: Option<String>,
        /// The form of the output
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Say what the operator is going to do
    Plan {
        /// The cluster
        name: String,
    },
    /// Have a node's member replaced in the safe order
    ///
    /// Also lifts the limit that stops a node from being replaced too often.
    Replace {
        /// The cluster
        name: String,
        /// The node whose member is replaced, such as demo-1
        node: String,
        /// Do not ask before a healthy member is replaced
        #[arg(short, long)]
        yes: bool,
    },
    /// Print the log of a node's member
    Logs {
        /// The cluster
        name: String,
        /// The node, such as demo-1
        node: String,
        /// Go on as it grows
        #[arg(short, long)]
        follow: bool,
        /// Of the container before the present one
        #[arg(short, long)]
        previous: bool,
        /// Only so many of the last lines
        #[arg(long, value_name = "N")]
        tail: Option<i64>,
    },
}

/// Whether the program was called as kubectl's plugin.
pub(super) fn is_meant(args: &[OsString]) -> bool {
    let name = args.first().and_then(|it| Path::new(it).file_name());
    name == Some(OsStr::new("kubectl-quorate"))
}

/// The same as arguments of `quorate`.
pub(super) fn as_command(args: Vec<OsString>) -> Vec<OsString> {
    let mut rest = args.into_iter();
    let program = rest.next().unwrap_or_default();
    [program, OsString::from("kubectl")].into_iter().chain(rest).collect()
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let asker = Asker::new(args.namespace).await?;
        match args.command {
            Command::Status { name: None, output } => all(&asker, output).await,
            Command::Status { name: Some(name), output } => one(&asker, &name, output).await,
            Command::Plan { name } => plan(&asker, &name).await,
            Command::Replace { name, node, yes } => replace(&asker, &name, &node, yes).await,
            Command::Logs { name, node, follow, previous, tail } => {
                let object = existing(&asker, &name).await?;
                let member = member(&object, &node)?;
                let Some(pod) = member.pod.clone() else {
                    return Err(BadInput(format!("{node} has no pod yet")).into());
                };
                let lines = asker.log(&pod, follow, previous, tail).await?;
                let mut lines = pin!(lines);
                while let Some(line) = lines.next().await {
                    writeln!(stdout(), "{}", line?)?;
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}

async fn all(asker: &Asker, output: Output) -> anyhow::Result<ExitCode> {
    let clusters = asker.all().await?;
    if output.print(&clusters)? {
        return Ok(ExitCode::SUCCESS);
    }
    if clusters.is_empty() {
        println!("no clusters in the namespace {}", asker.namespace());
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["CLUSTER", "PHASE", "READY", "LEADER", "NOW"].map(str::to_owned)];
    for cluster in clusters {
        let status = cluster.status.unwrap_or_default();
        rows.push([
            cluster.metadata.name.unwrap_or_default(),
            status.phase.clone().unwrap_or_else(|| "-".to_owned()),
            format!("{}/{}", status.ready_replicas, cluster.spec.replicas.unwrap_or_default()),
            status.leader.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            now(&status),
        ]);
    }
    print_rows(&rows);
    Ok(ExitCode::SUCCESS)
}

async fn one(asker: &Asker, name: &str, output: Output) -> anyhow::Result<ExitCode> {
    let object = existing(asker, name).await?;
    let status = object.status.clone().unwrap_or_default();
    if !output.print(&object)? {
        println!("{}", sentence(name, &status));
        let mut rows = vec![
            ["  NODE", "MEMBER", "ROLE", "HEALTH", "VERSION", "POD", "VOLUME"].map(str::to_owned),
        ];
        let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        for m in &status.members {
            let star = if status.leader.as_ref() == Some(&m.name) { "* " } else { "  " };
            rows.push([
                format!("{star}{}", m.name),
                dash(m.id.map(|id| id.to_string())),
                dash(m.role.map(|role| role_word(role).to_owned())),
                m.health.clone(),
                dash(m.version.clone()),
                dash(m.pod.clone()),
                dash(m.volume.clone()),
            ]);
        }
        print_rows(&rows);
        let now = now(&status);
        if !now.is_empty() {
            println!("now: {now}");
        }
    }
    Ok(ExitCode::from(match (is_true(&status, "Available"), status.phase.as_deref()) {
        (false, _) => NO_QUORUM,
        (true, Some("Ready")) => 0,
        (true, _) => DEGRADED,
    }))
}

fn print_rows<const N: usize>(rows: &[[String; N]]) {
    for row in align(rows) {
        println!("{row}");
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Voter => "voter",
        Role::Learner => "learner",
    }
}

fn is_true(status: &ClusterStatus, kind: &str) -> bool {
    status.condition(kind).is_some_and(|condition| condition.status == "True")
}

fn sentence(name: &str, status: &ClusterStatus) -> String {
    let phase = status.phase.as_deref().unwrap_or("not seen by an operator yet");
    let serves = if is_true(status, "Available") { "serves" } else { "does not serve" };
    format!(
        "{name} {serves} ({phase}): {} of {} voters are healthy",
        status.ready_replicas, status.voting_members
    )
}

/// What is under way, or in the way.
fn now(status: &ClusterStatus) -> String {
    match (&status.blocked, &status.operation) {
        (Some(blocked), _) => {
            format!("{}: {}; {}", blocked.reason, blocked.message, blocked.unblock)
        }
        (None, Some(operation)) => operation.step.clone(),
        (None, None) => String::new(),
    }
}

async fn plan(asker: &Asker, name: &str) -> anyhow::Result<ExitCode> {
    let status = existing(asker, name).await?.status.unwrap_or_default();
    let now = now(&status);
    if !now.is_empty() {
        println!("now: {now}");
    }
    for (at, step) in (1..).zip(&status.plan) {
        println!("{at:>3}. {step}");
    }
    if now.is_empty() && status.plan.is_empty() {
        println!("nothing: {name} is as wanted");
    }
    Ok(ExitCode::SUCCESS)
}

async fn replace(asker: &Asker, name: &str, node: &str, yes: bool) -> anyhow::Result<ExitCode> {
    let object = existing(asker, name).await?;
    let member = member(&object, node)?;
    let status = object.status.clone().unwrap_or_default();
    if status.voting_members == 1 && member.role == Some(Role::Voter) {
        return Err(BadInput(format!(
            "{node} runs the only voter of {name}: replacing it would lose everything; scale to \
             3 first: kubectl scale etcd {name} --replicas=3"
        ))
        .into());
    }
    let question = format!("{node} is healthy; replace its member all the same?");
    if member.health == "Healthy" && !yes && !confirm(&question, stdin().is_terminal())? {
        println!("nothing was changed");
        return Ok(ExitCode::SUCCESS);
    }
    asker.replace(name, node).await?;
    println!("asked for; see how it goes: kubectl quorate status {name} -n {}", asker.namespace());
    Ok(ExitCode::SUCCESS)
}

async fn existing(asker: &Asker, name: &str) -> anyhow::Result<ClusterObject> {
    let found = asker.one(name).await?;
    found.ok_or_else(|| {
        let namespace = asker.namespace();
        let hint = "kubectl get etcd -A shows all there are";
        BadInput(format!("there is no cluster {name} in the namespace {namespace}: {hint}")).into()
    })
}

fn member(object: &ClusterObject, node: &str) -> Result<MemberStatus, BadInput> {
    let status = object.status.clone().unwrap_or_default();
    let wanted = NodeName(node.to_owned());
    if let Some(member) = status.members.iter().find(|m| m.name == wanted) {
        return Ok(member.clone());
    }
    let names: Vec<_> = status.members.iter().map(|m| m.name.to_string()).collect();
    let cluster = object.metadata.name.clone().unwrap_or_default();
    Err(BadInput(format!("{node} is not a node of {cluster}; its nodes are: {}", names.join(", "))))
}
