//! `quorate render`

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use super::{BadInput, context};
use crate::cluster::spec::EtcdCluster;
use crate::cluster::{NodeName, Wanted};
use crate::render::{
    NodeConfig, RenderError, node_config, print_env, print_flags, print_systemd, print_yaml,
};

/// Print each node's static configuration
///
/// Writes what an etcd on each host is started with: its name, its URLs, the list of all members.
/// Nothing is started, and no host is asked. What the spec leaves to etcd is left out.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate render -f cluster.yaml                       all nodes, as environment files
  quorate render -f cluster.yaml --node etcd1          one node
  quorate render -f cluster.yaml --out etcd.d          etcd.d/etcd1.env, etcd.d/etcd2.env, …
  quorate render -f cluster.yaml --format systemd --out units

Use of each form:
  env      systemd's EnvironmentFile=, or: set -a; . ./etcd1.env; exec etcd
  yaml     etcd --config-file etcd1.yaml
  flags    eval \"etcd $(quorate render -f cluster.yaml --node etcd1 --format flags)\"
  systemd  /etc/systemd/system/etcd.service on that host

Every node is rendered with the initial cluster state `new`, to found the cluster. A member that
joins later needs the live list: that is what `quorate up` and `quorate node` render from.")]
pub(crate) struct Args {
    /// The spec; - reads standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Only this node
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// The form to write
    #[arg(long, value_enum, default_value_t = Format::Env)]
    format: Format,
    /// Write one file per node into this directory instead of printing
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where each node keeps its data, in a directory of its own name
    #[arg(long, value_name = "DIR", default_value = "/var/lib/etcd")]
    data_root: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// ETCD_* environment file
    Env,
    /// etcd's config file
    Yaml,
    /// Command-line flags, quoted for a shell
    Flags,
    /// A systemd unit that runs /usr/bin/etcd
    Systemd,
}

impl Format {
    fn print(self, config: &NodeConfig) -> Result<String, RenderError> {
        match self {
            Format::Env => print_env(config),
            Format::Yaml => print_yaml(config),
            Format::Flags => print_flags(config),
            Format::Systemd => print_systemd(config, "/usr/bin/etcd"),
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Format::Env => "env",
            Format::Yaml => "yaml",
            Format::Flags => "flags",
            Format::Systemd => "service",
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "every command takes its arguments so")]
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let file = args.file.display().to_string();
    let (cluster, text) = read(&args.file)?;
    for path in cluster.kubernetes_only() {
        eprintln!("note: {file}: {path} means something on Kubernetes only; passed over");
    }
    let wanted = cluster
        .resolve(&BTreeMap::new())
        .map_err(|error| BadInput(error.in_file(&file, &text).to_string()))?;
    let nodes = chosen(&wanted, &file, args.node.as_deref())?;
    let data_root = args.data_root.trim_end_matches('/');
    let mut rendered = Vec::new();
    for node in nodes {
        let config = node_config(&wanted, &[], &node, &format!("{data_root}/{node}"));
        let text = args.format.print(&config).map_err(|error| BadInput(error.to_string()))?;
        rendered.push((node, text));
    }
    match &args.out {
        Some(directory) => write_all(directory, args.format, &rendered)?,
        None => print_all(&rendered)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> anyhow::Result<(EtcdCluster, String)> {
    let name = path.display().to_string();
    let bytes = if name == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let bytes = bytes.map_err(|error| BadInput(format!("{name}: cannot be read: {error}")))?;
    context::spec_of(bytes, path)
}

fn chosen(wanted: &Wanted, file: &str, node: Option<&str>) -> anyhow::Result<Vec<NodeName>> {
    let Some(node) = node.map(NodeName::from) else {
        return Ok(wanted.nodes.keys().cloned().collect());
    };
    if !wanted.nodes.contains_key(&node) {
        let known: Vec<_> = wanted.nodes.keys().map(|name| name.0.as_str()).collect();
        let known = known.join(", ");
        return Err(
            BadInput(format!("{file}: there is no node {node}; take one of {known}")).into()
        );
    }
    Ok(vec![node])
}

fn print_all(rendered: &[(NodeName, String)]) -> anyhow::Result<()> {
    let text: Vec<_> = match rendered {
        [(_, only)] => vec![only.clone()],
        all => all.iter().map(|(node, text)| format!("# {node}\n{text}")).collect(),
    };
    super::crd::print(&text.join("\n"))
}

/// Writes each file beside its place and renames it, so that no reader finds half of one.
fn write_all(
    directory: &Path,
    format: Format,
    rendered: &[(NodeName, String)],
) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    for (node, text) in rendered {
        let path = directory.join(format!("{node}.{}", format.extension()));
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(directory)?;
            file.write_all(text.as_bytes())?;
            file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        super::crd::print(&format!("wrote {}\n", path.display()))?;
    }
    Ok(())
}
