//! The spec a home was last told to follow, kept in it for the commands that are given no file.

use anyhow::Context as _;

use super::context::{self, Source};
use crate::cluster::Wanted;
use crate::cluster::spec::EtcdCluster;
use crate::execute::local::home::{ClusterFile, ClusterHome};

const FILE: &str = "spec.yaml";

/// Keeps `spec` as the one in force.
pub(super) fn write(home: &ClusterHome, spec: &EtcdCluster) -> anyhow::Result<()> {
    let text = serde_yaml::to_string(spec)?;
    home.write_text(FILE, &text)?;
    Ok(())
}

/// What the home was last told to be.
pub(super) fn read(home: &ClusterHome, file: &ClusterFile) -> anyhow::Result<Wanted> {
    let path = home.dir().join(FILE);
    let bytes = std::fs::read(&path)
        .with_context(|| format!("cannot read {} (`quorate up` writes it)", path.display()))?;
    let (spec, text) = context::spec_of(bytes, &path)?;
    let source = Source { path: &path, text: &text };
    Ok(context::resolve(&spec, Some(source), Some(file))?.0)
}
