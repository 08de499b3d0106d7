//! `quorate aside`

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use serde::Serialize;

use super::BadInput;
use super::context::HomeArg;
use super::inspect::{human_bytes, node_homes};
use super::status::Output;
use super::view::align;
use crate::cluster::{MemberId, NodeName, Timestamp};
use crate::node::home::NodeHome;

/// List, restore or prune the data that was set aside
///
/// When a member is replaced, its data is not deleted but set aside in its node's home. It can be
/// brought back while the node is stopped, until it is pruned.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate aside list                         what is kept, of all nodes
  quorate aside restore etcd1                the newest set-aside of etcd1 becomes its data
  quorate aside prune etcd1 --keep 0         delete all that is kept of etcd1
  quorate aside list /var/lib/etcd/etcd1.quorate
                                             of a node that runs without quorate up")]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what is kept
    List {
        #[command(flatten)]
        home: HomeArg,
        /// The node, by name or by the path of its home [default: all]
        node: Option<String>,
        /// The form of the output
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Bring a set-aside back; the data that is there now is set aside in turn
    Restore {
        #[command(flatten)]
        home: HomeArg,
        /// The node, by name or by the path of its home; it must be stopped
        node: String,
        /// Which one, as `list` names it [default: the newest]
        name: Option<String>,
    },
    /// Delete the oldest ones
    Prune {
        #[command(flatten)]
        home: HomeArg,
        /// The node, by name or by the path of its home
        node: String,
        /// How many of the newest to keep
        #[arg(long, value_name = "N", default_value_t = 1)]
        keep: usize,
    },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    node: NodeName,
    name: String,
    member: MemberId,
    at: Timestamp,
    bytes: u64,
    path: String,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::List { home, node, output } => {
            let nodes = node_homes(&home, node.as_deref().map(Path::new))?;
            list(&nodes, output)?;
        }
        Action::Restore { home, node, name } => {
            let (node, home) = one(&home, &node)?;
            restore(&node, &home, name.as_deref())?;
        }
        Action::Prune { home, node, keep } => {
            let (node, home) = one(&home, &node)?;
            let gone = home.prune_asides(keep)?;
            for name in &gone {
                println!("deleted {name} of {node}");
            }
            if gone.is_empty() {
                println!("nothing to delete: {node} keeps {} of {keep}", home.asides()?.len());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn one(home: &HomeArg, node: &str) -> anyhow::Result<(NodeName, NodeHome)> {
    let found = node_homes(home, Some(Path::new(node)))?.into_iter().next();
    found.ok_or_else(|| BadInput(format!("{node}: no such node")).into())
}

fn list(nodes: &[(NodeName, NodeHome)], output: Output) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for (node, home) in nodes {
        for aside in home.asides()? {
            rows.push(Row {
                node: node.clone(),
                bytes: aside.bytes()?,
                path: aside.path.display().to_string(),
                name: aside.name,
                member: aside.member,
                at: aside.at,
            });
        }
    }
    if output.print(&rows)? {
        return Ok(());
    }
    if rows.is_empty() {
        println!("Nothing is set aside.");
        return Ok(());
    }
    let head = ["NODE", "NAME", "MEMBER", "SIZE", "PATH"].map(str::to_owned);
    let cells = rows
        .into_iter()
        .map(|r| [r.node.to_string(), r.name, r.member.to_string(), human_bytes(r.bytes), r.path]);
    let table: Vec<_> = std::iter::once(head).chain(cells).collect();
    for line in align(&table) {
        println!("{line}");
    }
    Ok(())
}

fn restore(node: &NodeName, home: &NodeHome, name: Option<&str>) -> anyhow::Result<()> {
    let asides = home.asides()?;
    let aside = match name {
        Some(name) => asides.iter().find(|a| a.name == name),
        None => asides.last(),
    };
    let Some(aside) = aside else {
        let names: Vec<_> = asides.iter().map(|a| a.name.as_str()).collect();
        let have = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let wanted = name.map_or_else(String::new, |name| format!(" called {name}"));
        return Err(
            BadInput(format!("{node} has no set-aside{wanted}; what is kept: {have}")).into()
        );
    };
    let lock = home.try_lock().with_context(|| format!("cannot lock {}", home.dir().display()))?;
    let Some(lock) = lock else {
        return Err(BadInput(format!(
            "{node} is running; stop it first (quorate down), then restore"
        ))
        .into());
    };
    let swapped = home.restore_aside(&lock, &aside.name)?;
    println!("{node} has the data of member {} again", aside.member);
    if let Some(path) = swapped {
        println!("what was there is kept in {}", path.display());
    }
    println!(
        "If the cluster no longer lists member {}, the node says so at its next start and is \
         replaced again; the data is safe to look at with: quorate inspect {}",
        aside.member,
        home.dir().display()
    );
    Ok(())
}
