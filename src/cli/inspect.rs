//! `quorate inspect`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::BadInput;
use super::context::HomeArg;
use super::status::Output;
use crate::cluster::{ClusterId, Disk, Exit, FoundingId, Incarnation, MemberId, NodeName};
use crate::node::data;
use crate::node::home::{NodeHome, Stamp};
use crate::node::wal::{Spot, WalReport};

/// Read a home without any server: stamp, last index, damage
///
/// Reads the whole log of each node and checks every record. Nothing is changed. PATH is a
/// cluster's home, one node's home, or a data directory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 all data can be started from · 3 some cannot · 1 failed · \
2 bad input

Examples:
  quorate inspect                            the only home below ./.quorate
  quorate inspect .quorate/local/local-0     one node
  quorate inspect /var/lib/etcd/etcd1 -o json")]
pub(crate) struct Args {
    /// What to read [default: the cluster's home]
    #[arg(value_name = "PATH")]
    path: Option<PathBuf>,
    #[command(flatten)]
    home: HomeArg,
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

/// What one node's home holds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeView {
    node: NodeName,
    home: String,
    running: bool,
    data: &'static str,
    summary: String,
    stamp: Option<StampView>,
    log: Option<LogView>,
    bytes: u64,
    asides: Vec<String>,
    last_exit: Option<Exit>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StampView {
    cluster: ClusterId,
    member: MemberId,
    incarnation: Incarnation,
    founding: Option<FoundingId>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LogView {
    cluster: Option<ClusterId>,
    member: Option<MemberId>,
    segments: usize,
    records: u64,
    bytes: u64,
    first_index: Option<u64>,
    last_index: u64,
    commit_index: u64,
    snapshot_index: u64,
    term: u64,
    torn_tail: Option<SpotView>,
    damage: Option<SpotView>,
}

#[derive(Debug, Serialize)]
struct SpotView {
    file: String,
    offset: u64,
    what: String,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let nodes = node_homes(&args.home, args.path.as_deref())?;
    let views = nodes.iter().map(|(n, h)| look(n, h)).collect::<anyhow::Result<Vec<_>>>()?;
    if !args.output.print(&views)? {
        for (i, view) in views.iter().enumerate() {
            if i > 0 {
                println!();
            }
            print(view);
        }
    }
    let good = |v: &NodeView| {
        matches!(v.data, "holds" | "empty") && v.log.as_ref().is_none_or(|l| l.damage.is_none())
    };
    Ok(ExitCode::from(if views.iter().all(good) { 0 } else { 3 }))
}

fn look(node: &NodeName, home: &NodeHome) -> anyhow::Result<NodeView> {
    let report = data::check(&home.data())?;
    let disk = home.disk();
    // What cannot be understood is told by the state of the disk.
    let stamp = home.stamp().ok().flatten();
    Ok(NodeView {
        node: node.clone(),
        home: home.dir().display().to_string(),
        running: home.is_locked()?,
        data: word(&disk),
        summary: summary(&disk, stamp.as_ref(), report.as_ref()),
        stamp: stamp.map(StampView::from),
        log: report.map(LogView::from),
        bytes: home.data_bytes()?,
        asides: home.asides()?.into_iter().map(|a| a.name).collect(),
        last_exit: home.read_state()?.and_then(|state| state.exit),
    })
}

fn word(disk: &Disk) -> &'static str {
    match disk {
        Disk::Unknown(_) => "unknown",
        Disk::Empty => "empty",
        Disk::Holds(_) => "holds",
        Disk::Stale { .. } => "stale",
        Disk::Damaged { .. } => "damaged",
        Disk::Foreign(_) => "foreign",
    }
}

fn summary(disk: &Disk, stamp: Option<&Stamp>, report: Option<&WalReport>) -> String {
    if let Some(spot) = report.and_then(|r| r.damage.as_ref()) {
        return format!("damaged: {spot}; what follows cannot be read");
    }
    match disk {
        Disk::Unknown(why) | Disk::Foreign(why) => why.clone(),
        Disk::Empty => match stamp {
            Some(stamp) => format!("no data, though member {} ran here: it is lost", stamp.member),
            None => "no data; no member ever ran here".to_owned(),
        },
        Disk::Holds(own) => format!("data of member {} of cluster {}", own.member, own.cluster),
        Disk::Stale { log } => {
            let theirs = format!("the log is that of member {} of {}", log.member, log.cluster);
            match stamp {
                Some(s) if s.member == log.member => {
                    format!("{theirs}, but of another incarnation than the home's stamp")
                }
                Some(s) => format!("{theirs}, the home's stamp is that of member {}", s.member),
                None => format!("{theirs}, and the home has no stamp"),
            }
        }
        Disk::Damaged { stamp } => {
            format!("the log of member {} does not say whose it is: damaged", stamp.member)
        }
    }
}

fn print(view: &NodeView) {
    let line = |key: &str, value: &str| println!("  {key:<12}{value}");
    let running = if view.running { " (running: read while it is written)" } else { "" };
    println!("{}  {}{running}", view.node, view.summary);
    line("home", &view.home);
    line("data", &format!("{}, {}", view.data, human_bytes(view.bytes)));
    if let Some(stamp) = &view.stamp {
        let founding = stamp.founding.map_or("-".to_owned(), |f| f.to_string());
        line(
            "stamp",
            &format!(
                "member {}, cluster {}, incarnation {}, founding {founding}",
                stamp.member, stamp.cluster, stamp.incarnation
            ),
        );
    }
    if let Some(log) = &view.log {
        let member = log.member.map_or("?".to_owned(), |id| id.to_string());
        line("log", &format!("member {member}, {} records in {} files", log.records, log.segments));
        line(
            "indexes",
            &format!(
                "last {}, committed {}, snapshot {}, term {}",
                log.last_index, log.commit_index, log.snapshot_index, log.term
            ),
        );
        let spots = [("cut short", &log.torn_tail), ("damage", &log.damage)];
        for (key, spot) in spots.iter().filter_map(|(key, s)| Some((key, s.as_ref()?))) {
            line(key, &format!("{} at byte {}: {}", spot.file, spot.offset, spot.what));
        }
    }
    for name in &view.asides {
        line("set aside", name);
    }
    if let Some(exit) = &view.last_exit {
        line("last end", &format!("{}: {}", exit.kind, exit.detail));
    }
}

impl From<Stamp> for StampView {
    fn from(it: Stamp) -> Self {
        let Stamp { cluster, member, incarnation, founding, .. } = it;
        StampView { cluster, member, incarnation, founding }
    }
}

impl From<WalReport> for LogView {
    fn from(it: WalReport) -> Self {
        let spot = |s: Spot| SpotView {
            file: s.file.display().to_string(),
            offset: s.offset,
            what: s.what,
        };
        LogView {
            cluster: it.ids.map(|ids| ids.cluster),
            member: it.ids.map(|ids| ids.member),
            segments: it.segments,
            records: it.records,
            bytes: it.bytes,
            first_index: it.first_index,
            last_index: it.last_index,
            commit_index: it.commit,
            snapshot_index: it.snapshot,
            term: it.term,
            torn_tail: it.torn_tail.map(spot),
            damage: it.damage.map(spot),
        }
    }
}

/// The nodes' homes that `path` names: all of a cluster's home, one node by its name or by the
/// path of its home or data directory; all of the cluster's home where nothing is named.
pub(super) fn node_homes(
    cluster: &HomeArg,
    path: Option<&Path>,
) -> anyhow::Result<Vec<(NodeName, NodeHome)>> {
    let Some(path) = path else {
        return Ok(nodes_in(cluster.existing()?.0.dir()));
    };
    let is_name = path.components().count() == 1 && !path.is_absolute() && path != Path::new(".");
    // A name that is no directory here, or one of a cluster whose home was given.
    if is_name && (cluster.home.is_some() || !path.is_dir()) {
        let nodes = nodes_in(cluster.existing()?.0.dir());
        let names: Vec<_> = nodes.iter().map(|(n, _)| n.to_string()).collect();
        let found = nodes.into_iter().find(|(n, _)| Path::new(&n.0) == path);
        return found.map(|it| vec![it]).ok_or_else(|| {
            let (asked, known) = (path.display(), names.join(", "));
            BadInput(format!("{asked}: no such node here; there is {known}")).into()
        });
    }
    let path = std::path::absolute(path)?;
    if path.join("cluster.json").exists() {
        return Ok(nodes_in(&path));
    }
    let home = if path.join("member").is_dir() || path.join("log").is_dir() {
        NodeHome::of_data_dir(&path)
    } else if is_node_home(&path) {
        at(&path)
    } else {
        return Err(BadInput(format!(
            "{}: neither a cluster's home, nor a node's, nor a data directory",
            path.display()
        ))
        .into());
    };
    Ok(vec![(name_of(home.dir()), home)])
}

fn nodes_in(cluster: &Path) -> Vec<(NodeName, NodeHome)> {
    let entries = std::fs::read_dir(cluster).into_iter().flatten().flatten();
    let mut nodes: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| is_node_home(path))
        .map(|path| (name_of(&path), NodeHome::new(path)))
        .collect();
    nodes.sort_by(|a, b| a.0.cmp(&b.0));
    nodes
}

fn is_node_home(path: &Path) -> bool {
    ["member.json", "state.json", "lock", "aside"].iter().any(|name| path.join(name).exists())
}

/// A node's home; that of a data directory that is not called `data` lies beside it.
fn at(path: &Path) -> NodeHome {
    let data = path.to_str().and_then(|text| text.strip_suffix(".quorate"));
    match data.map(Path::new).filter(|data| data.is_dir()) {
        Some(data) => NodeHome::new(path).with_data(data),
        None => NodeHome::new(path),
    }
}

fn name_of(path: &Path) -> NodeName {
    NodeName(path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned())
}

/// Bytes as people read them.
pub(super) fn human_bytes(bytes: u64) -> String {
    const STEPS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let step = STEPS.into_iter().find(|(size, _)| bytes >= *size);
    step.map_or_else(
        || format!("{bytes} B"),
        |(size, unit)| format!("{}.{} {unit}", bytes / size, bytes % size * 10 / size),
    )
}
