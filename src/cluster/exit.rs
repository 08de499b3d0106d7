//! Why a node ended: one typed reason per cause, read by the planner and by scripts.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{MemberId, Timestamp};

/// The reason a node's process ended or refused to start.
///
/// The exit code of `quorate node` is [`ExitKind::code`]; the same reason goes to standard error
/// as one JSON line and into the node's home, where the reconciler reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ExitKind {
    /// Ended as asked (SIGTERM, SIGINT).
    Clean,
    /// The live member list no longer holds this data's member.
    Removed,
    /// The home's stamp, its copy beside the data and the log's own IDs disagree.
    StaleData,
    /// The list says this member has run, but its data is not there.
    DataLost,
    /// The data directory was deleted under the running engine.
    DataGone,
    /// The log or the store cannot be read.
    DataDamaged,
    /// Data without a stamp of ours, or of another cluster's founding.
    Foreign,
    /// Peers answered with another cluster ID.
    ClusterIdMismatch,
    /// Asked to start `new`, but a listed peer already belongs to a formed cluster.
    AlreadyBootstrapped,
    /// The live list and the initial cluster have different sizes: this node was not added.
    MemberCountUnequal,
    /// No peer answered, so nothing may be concluded.
    NoPeers,
    /// The node's own name is not in its initial cluster.
    NameNotInCluster,
    /// A listen address is taken or is not on this machine.
    AddressInUse,
    /// The file system is full, or too full for a safe set-aside.
    DiskFull,
    /// Another process holds the node's lock.
    Locked,
    /// The configuration is wrong; the detail names the setting.
    BadConfig,
    /// The engine was killed by a signal nobody here sent.
    Killed,
    /// The engine ended for a reason this version does not know; the detail has its last words.
    Unknown,
}

impl ExitKind {
    /// Every kind, in the order of their codes.
    pub const ALL: [ExitKind; 18] = [
        ExitKind::Clean,
        ExitKind::BadConfig,
        ExitKind::Removed,
        ExitKind::StaleData,
        ExitKind::DataLost,
        ExitKind::DataGone,
        ExitKind::DataDamaged,
        ExitKind::Foreign,
        ExitKind::ClusterIdMismatch,
        ExitKind::AlreadyBootstrapped,
        ExitKind::MemberCountUnequal,
        ExitKind::NoPeers,
        ExitKind::NameNotInCluster,
        ExitKind::AddressInUse,
        ExitKind::DiskFull,
        ExitKind::Locked,
        ExitKind::Killed,
        ExitKind::Unknown,
    ];

    /// The process exit code: 0 when ended as asked, 2 for a bad configuration, 1 for an unknown
    /// end, otherwise 40 and up.
    pub fn code(self) -> u8 {
        match self {
            ExitKind::Clean => 0,
            ExitKind::Unknown => 1,
            ExitKind::BadConfig => 2,
            ExitKind::Removed => 40,
            ExitKind::StaleData => 41,
            ExitKind::DataLost => 42,
            ExitKind::DataGone => 43,
            ExitKind::DataDamaged => 44,
            ExitKind::Foreign => 45,
            ExitKind::ClusterIdMismatch => 46,
            ExitKind::AlreadyBootstrapped => 47,
            ExitKind::MemberCountUnequal => 48,
            ExitKind::NoPeers => 49,
            ExitKind::NameNotInCluster => 50,
            ExitKind::AddressInUse => 51,
            ExitKind::DiskFull => 52,
            ExitKind::Locked => 53,
            ExitKind::Killed => 54,
        }
    }
}

impl fmt::Display for ExitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// How a node last ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Exit {
    /// The typed reason.
    pub kind: ExitKind,
    /// The member the node ran, or was asked to run, if it knew.
    pub member: Option<MemberId>,
    /// When it ended.
    pub at: Timestamp,
    /// One sentence for people: what was found where, and the next action.
    pub detail: String,
}
