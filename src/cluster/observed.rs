//! One reading of the outside world, per source; each part may be unknown.
//!
//! Unknown is never read as empty: no rule of the planner acts on it (safety 5-8).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ClusterId, Exit, FoundingId, MemberId, MemberList, NodeName, Record, Role, Timestamp};

/// An answer that may not have come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer<T> {
    /// The source answered.
    Known(T),
    /// Timed out, refused a connection or half answered; in one sentence.
    Unknown(String),
    /// It answered that we may not know (auth): time will not mend it, a person can (safety 5).
    Refused(String),
}

impl<T> Answer<T> {
    /// The answer, if there is one.
    pub fn known(&self) -> Option<&T> {
        match self {
            Answer::Known(value) => Some(value),
            Answer::Unknown(_) | Answer::Refused(_) => None,
        }
    }
}

/// Everything the planner may know; already old when used (safety 6).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Observed {
    /// The reconciler's clock at the reading.
    pub now: Timestamp,
    /// What was remembered.
    pub record: Record,
    /// The live member list, vouched for by a quorum.
    pub members: Answer<MemberList>,
    /// When this reconciler first saw each member that is in the list now; one that is missing
    /// here counts as first seen `now`. Starts anew when the reconciler restarts (safety 8).
    pub first_seen: BTreeMap<MemberId, Timestamp>,
    /// Every node the executor manages: wanted ones and those left over.
    pub nodes: BTreeMap<NodeName, NodeSeen>,
}

/// One node, as last seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeSeen {
    /// Its process.
    pub process: Process,
    /// Since when this reconciler has seen the process in this state (`Preparing` to `Running`
    /// is a change, and so are a new process, and each step by which one that prepares gets on).
    /// Starts anew when the reconciler restarts.
    pub process_since: Timestamp,
    /// Its disk. Read from the log itself while the node is stopped; while it runs, what it
    /// was started from.
    pub disk: Disk,
    /// What the stamp in the node's home says, whatever the data dir holds: who was started here
    /// last. It is written before the engine's first start, so an empty disk beside a stamp has
    /// lost its data, and an empty disk without one may never have held any.
    pub stamp: Option<Identity>,
    /// The founding that it has promised to take part in, while no engine has run since: it may still
    /// do so, whoever runs by now (safety 2). `None` where it is started again by others.
    pub promised: Option<FoundingId>,
    /// What its member answers about itself.
    pub health: Health,
    /// Since when this reconciler has seen it other than healthy; `None` while healthy. Starts
    /// anew when the reconciler restarts (safety 8).
    pub unhealthy_since: Option<Timestamp>,
    /// How it last ended; `None` if it never did, or has been started since. Of a node that runs:
    /// what keeps its engine from ever serving, if it says so.
    pub exit: Option<Exit>,
    /// The engine reported that its data dir was deleted under it (safety 10).
    pub data_gone: bool,
    /// The peer URL it was last started with, if ever; how a member is matched to a node that the
    /// spec no longer names.
    pub peer_url: Option<String>,
    /// What it was last started with differs from what the spec now renders (apart from the
    /// initial-* settings, which only matter to a first start).
    pub outdated: bool,
}

/// The state of a node's process, told by the node's lock.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Process {
    /// Could not be told.
    Unknown(String),
    /// The lock is free: nothing runs.
    Stopped,
    /// `quorate node` holds the lock and prepares; the engine is not started yet. A founding
    /// node waits here, at the barrier, until every other one does.
    Preparing,
    /// The engine runs.
    Running {
        /// False when `quorate node` is gone or frozen and only its engine is left: a good voter
        /// whose end or lost disk nobody would report.
        supervised: bool,
    },
}

/// Who wrote the data on a disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// The cluster the log belongs to.
    pub cluster: ClusterId,
    /// The member the log belongs to.
    pub member: MemberId,
    /// The founding it descends from; `None` when the stamp does not say.
    pub founding: Option<FoundingId>,
}

/// What a node's data directory holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Disk {
    /// Could not be read; not the same as empty.
    Unknown(String),
    /// No data dir, or nothing in it.
    Empty,
    /// Data whose stamp, copy of the stamp and log agree on who wrote it.
    Holds(Identity),
    /// Data that disagrees with the home's stamp: another incarnation's, put back.
    Stale {
        /// What the log itself says; the fence of its set-aside.
        log: Identity,
    },
    /// Data of a known member whose log cannot be read.
    Damaged {
        /// What the stamp says; the fence of its set-aside.
        stamp: Identity,
    },
    /// Data without a stamp of ours. Never set aside by itself.
    Foreign(String),
}

/// What a node's own Status call says; asked on its own endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Not running, so not asked.
    NotAsked,
    /// Asked, and no answer came in time.
    Silent,
    /// It answered.
    Answers {
        /// The member that answered.
        member: MemberId,
        /// What it takes itself for (safety 7).
        role: Role,
        /// Whether it follows or is a leader.
        has_leader: bool,
        /// Whether its log has nearly caught up with the leader's (at least 0.9 of it).
        caught_up: bool,
        /// When its applied index was last seen to move, or when it was first seen.
        progress_at: Timestamp,
    },
}
