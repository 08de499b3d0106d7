//! What a node writes down about itself.

use serde::{Deserialize, Serialize};

use super::ProcessRef;
use crate::cluster::{ClusterId, Exit, FoundingId, Identity, Incarnation, MemberId, Phase};

/// Who runs a node, or ran it last. Written by `quorate node` only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// The `quorate node` process.
    pub wrapper: ProcessRef,
    /// The engine it started.
    pub engine: Option<ProcessRef>,
    /// How far it has come.
    pub phase: Phase,
    /// The member it runs or was asked to run, once known.
    pub member: Option<MemberId>,
    /// How many MiB the `quorate node` process had read when this was written.
    #[serde(default)]
    pub read_mib: u64,
    /// The data directory was deleted under the running engine.
    pub data_gone: bool,
    /// What the running engine complains of without ending: its peers belong to another cluster.
    #[serde(default)]
    pub complaint: Option<Exit>,
    /// How it ended.
    pub exit: Option<Exit>,
}

/// The layout of the stamp.
const FORMAT: u32 = 1;

/// Whose data a home holds. Kept in the home and copied into the data directory, so that data
/// put back from elsewhere is told apart (safety 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    format: u32,
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: MemberId,
    /// Drawn when the data was first created.
    pub incarnation: Incarnation,
    /// The founding the cluster descends from, if whoever started the node knew it.
    pub founding: Option<FoundingId>,
}

impl Stamp {
    /// A stamp for a member about to be run for the first time.
    pub fn new(
        cluster: ClusterId,
        member: MemberId,
        incarnation: Incarnation,
        founding: Option<FoundingId>,
    ) -> Self {
        Stamp { format: FORMAT, cluster, member, incarnation, founding }
    }

    /// What the planner is told of it.
    pub fn identity(&self) -> Identity {
        Identity { cluster: self.cluster, member: self.member, founding: self.founding }
    }
}
