//! What must be remembered across restarts of the reconciler: the founding and the ledger.
//!
//! Everything else is observed. The record is written (fsynced, renamed) before the act it
//! speaks of, so that a crash between the two leaves a record of something that did not happen,
//! never the other way round.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::identity::{founding_cluster_id, founding_member_id};
use super::{ClusterId, FoundingId, MemberId, NodeName, Timestamp};

/// How a cluster was founded. Written before the first start, outside every data dir.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Founding {
    /// Drawn at random; a second founding of the same list has another one.
    pub id: FoundingId,
    /// The cluster token.
    pub token: String,
    /// The full initial list: each founding node and its peer URL.
    pub nodes: BTreeMap<NodeName, String>,
    /// The nodes whose first start was attempted under this founding. A node is written here
    /// before it is started; one that is here and holds no data has lost it.
    pub started: BTreeSet<NodeName>,
    /// The cluster ID, once a quorum of this founding has answered with it. Never unset.
    pub cluster: Option<ClusterId>,
}

impl Founding {
    /// The ID that the cluster founded this way has, whoever answers first.
    pub fn cluster_id(&self) -> ClusterId {
        let member = |url: &String| founding_member_id([url.as_str()], &self.token);
        founding_cluster_id(self.nodes.values().map(member))
    }
}

/// Why a member is being, or was, replaced. Nothing else is evidence enough (safety 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Evidence {
    /// The node said its member is absent from the live list.
    Removed,
    /// The node's data belongs to a former incarnation.
    StaleData,
    /// The node's data is not there.
    DataLost,
    /// The data dir was deleted under a running engine.
    DataGone,
    /// The node's log or store cannot be read.
    DataDamaged,
    /// Nothing was heard from it for longer than the remediation delay.
    Silent,
    /// A person asked (`quorate replace NODE`).
    Requested,
}

/// One line of the ledger of past replacements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The node whose member was given up.
    pub node: NodeName,
    /// The member that was removed.
    pub member: MemberId,
    /// When the removal was decided.
    pub at: Timestamp,
    /// What happened.
    pub what: LedgerKind,
}

/// The kinds of ledger lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LedgerKind {
    /// A voter was replaced on this evidence.
    Replaced(Evidence),
    /// A learner made no progress in time and was removed, to be added anew.
    LearnerGaveUp,
}

/// A person's wish to replace a node's member, healthy or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplaceRequest {
    /// The member meant; `None` when the node has none. Another member ID in the list means
    /// that the wish is fulfilled.
    pub member: Option<MemberId>,
    /// When it was asked. Ledger lines of this node from before no longer count against its
    /// limits.
    pub at: Timestamp,
}

/// All that is remembered of one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The founding, once decided.
    pub founding: Option<Founding>,
    /// Replacements, oldest first; pruned to the last 24 hours by the executor.
    #[serde(default)]
    pub ledger: Vec<LedgerEntry>,
    /// Voters that a person added and we have started a node for, though they bear no name in
    /// the list yet. Written before that start: one that is here and holds no data has lost it,
    /// and must not vote again without its memory (safety 1, 19).
    #[serde(default)]
    pub adopted: BTreeSet<MemberId>,
    /// Open wishes of a person.
    #[serde(default)]
    pub requests: BTreeMap<NodeName, ReplaceRequest>,
}
