//! What most commands need first: the spec, the home, and both resolved into what is wanted.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::BadInput;
use crate::cluster::Wanted;
use crate::cluster::spec::{self, EtcdCluster};
use crate::execute::local::home::{ClusterFile, ClusterHome};
use crate::execute::local::network;

/// Where homes lie unless `--home` says otherwise.
const HOMES: &str = ".quorate";
/// The name of the cluster that `up` runs without a file.
const DEFAULT_NAME: &str = "local";

/// The `--home` option.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct HomeArg {
    /// The cluster's home directory [default: ./.quorate/CLUSTER]
    #[arg(long, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
}

impl HomeArg {
    /// The home for a cluster of this name.
    pub(crate) fn for_cluster(&self, name: &str) -> anyhow::Result<ClusterHome> {
        let dir = self.home.clone().unwrap_or_else(|| Path::new(HOMES).join(name));
        let dir =
            std::path::absolute(&dir).with_context(|| format!("cannot find {}", dir.display()))?;
        Ok(ClusterHome::new(dir))
    }

    /// The home of a cluster that exists: the one named, or the only one below `./.quorate`.
    pub(crate) fn existing(&self) -> anyhow::Result<(ClusterHome, ClusterFile)> {
        let dir = match &self.home {
            Some(dir) => dir.clone(),
            None => only_home()?,
        };
        let home = HomeArg { home: Some(dir) }.for_cluster("")?;
        let Some(file) = home.read()? else {
            return Err(BadInput(format!(
                "{}: no cluster lives here (no cluster.json); name its home with --home, or start one with: quorate up",
                home.dir().display()
            ))
            .into());
        };
        Ok((home, file))
    }
}

fn only_home() -> anyhow::Result<PathBuf> {
    let entries = match std::fs::read_dir(HOMES) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        other => other
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .with_context(|| format!("cannot list ./{HOMES}"))?,
    };
    let mut homes: Vec<_> = entries
        .iter()
        .map(std::fs::DirEntry::path)
        .filter(|p| p.join("cluster.json").exists())
        .collect();
    homes.sort();
    match homes.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(BadInput(format!(
            "no cluster lives below ./{HOMES}: start one with `quorate up`, or name its home with --home"
        ))
        .into()),
        many => {
            let names: Vec<_> = many.iter().map(|p| p.display().to_string()).collect();
            Err(BadInput(format!("several clusters live here; name one with --home: {}", names.join(", "))).into())
        }
    }
}

/// Where a spec was read from: the file as it was named, and its text at that time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) path: &'a Path,
    pub(crate) text: &'a str,
}

impl Source<'_> {
    /// A refusal of what stands in it, in one line.
    fn refuse(source: Option<Source<'_>>, error: spec::SpecError) -> anyhow::Error {
        let text = match source {
            Some(Source { path, text }) => {
                error.in_file(&path.display().to_string(), text).to_string()
            }
            None => format!("quorate up: {error}"),
        };
        BadInput(text).into()
    }
}

/// A spec, and the text it was read from; none for the default cluster.
pub(crate) struct SpecText<'a> {
    pub(crate) spec: EtcdCluster,
    file: Option<&'a Path>,
    text: String,
}

impl SpecText<'_> {
    pub(crate) fn source(&self) -> Option<Source<'_>> {
        self.file.map(|path| Source { path, text: &self.text })
    }
}

/// Reads a spec file, or gives the default cluster.
pub(crate) fn read_spec(file: Option<&Path>) -> anyhow::Result<SpecText<'_>> {
    let Some(path) = file else {
        let spec = spec::default_local(DEFAULT_NAME);
        return Ok(SpecText { spec, file: None, text: String::new() });
    };
    let name = path.display();
    let bytes = std::fs::read(path).map_err(|e| {
        BadInput(format!("{name}: cannot be read ({e}); give a file that holds an EtcdCluster"))
    })?;
    let (spec, text) = spec_of(bytes, path)?;
    Ok(SpecText { spec, file, text })
}

/// Reads a spec out of a file's bytes, which are text.
pub(crate) fn spec_of(bytes: Vec<u8>, path: &Path) -> anyhow::Result<(EtcdCluster, String)> {
    let name = path.display().to_string();
    let text = String::from_utf8(bytes).map_err(|_| {
        BadInput(format!(
            "{name}: not YAML (it is not UTF-8 text); give a file that holds an EtcdCluster"
        ))
    })?;
    let spec = spec::read(&text, &name).map_err(|e| BadInput(e.to_string()))?;
    Ok((spec, text))
}

/// Resolves a spec against what the home remembers; hands out ports where a node has none yet.
///
/// Refused, with nothing written: another name or token than the home's, an address that is not
/// this machine's.
pub(crate) fn resolve(
    spec: &EtcdCluster,
    source: Option<Source<'_>>,
    remembered: Option<&ClusterFile>,
) -> anyhow::Result<(Wanted, ClusterFile)> {
    if let Some(file) = remembered {
        spec::change_allowed(&file.name, &file.token, spec)
            .map_err(|error| Source::refuse(source, error))?;
    }
    let mut ports = remembered.map(|f| f.ports.clone()).unwrap_or_default();
    if spec.needs_ports() {
        network::allocate(&mut ports, spec.node_names())?;
    }
    let wanted = spec.resolve(&ports).map_err(|error| Source::refuse(source, error))?;
    let mut file =
        remembered.cloned().unwrap_or_else(|| ClusterFile::new(&wanted.name, &wanted.token));
    file.ports = ports;
    Ok((wanted, file))
}

/// Refuses a spec with an address of another machine, before anything is dialled.
pub(crate) fn must_be_local(
    spec: &EtcdCluster,
    wanted: &Wanted,
    source: Option<Source<'_>>,
) -> anyhow::Result<()> {
    let Some((node, address)) = network::first_remote(wanted) else { return Ok(()) };
    Err(Source::refuse(source, spec::not_here(spec, node, &address)))
}
