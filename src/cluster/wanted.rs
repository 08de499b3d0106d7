//! The spec, resolved: every default filled in, every address known.
//!
//! The file's own form (`EtcdCluster`) is in [`super::spec`]; the planner, the renderer and the
//! executors only ever see this one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::NodeName;

/// What a cluster should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wanted {
    /// The cluster's name.
    pub name: String,
    /// The cluster token, part of the founding members' identity.
    pub token: String,
    /// The wanted nodes; 1, 3, 5, 7 or 9 of them.
    pub nodes: BTreeMap<NodeName, WantedNode>,
    /// The engine's settings, the same on every node.
    pub options: Options,
    /// What the reconciler may do by itself, and how soon.
    pub remediation: Remediation,
}

/// Where one wanted node is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WantedNode {
    /// Where its peers reach it: listened on and advertised. No trailing slash.
    pub peer_url: String,
    /// Where clients reach it: listened on and advertised. Never empty.
    pub client_urls: Vec<String>,
}

/// Engine settings; `None` leaves the engine's own default.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Options {
    /// `--heartbeat-interval`, in milliseconds.
    pub heartbeat_interval_ms: Option<u64>,
    /// `--election-timeout`, in milliseconds.
    pub election_timeout_ms: Option<u64>,
    /// `--snapshot-count`, in raft entries.
    pub snapshot_count: Option<u64>,
    /// `--quota-backend-bytes`.
    pub quota_backend_bytes: Option<u64>,
    /// `--max-request-bytes`.
    pub max_request_bytes: Option<u64>,
    /// Any other setting of the engine, by flag name without dashes.
    pub extra: BTreeMap<String, String>,
}

impl Options {
    /// The settings that are not left to the engine, by flag name without dashes.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let own = [
            ("heartbeat-interval", self.heartbeat_interval_ms),
            ("election-timeout", self.election_timeout_ms),
            ("snapshot-count", self.snapshot_count),
            ("quota-backend-bytes", self.quota_backend_bytes),
            ("max-request-bytes", self.max_request_bytes),
        ];
        let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let own = own.map(|(name, value)| (name.to_owned(), value.to_string()));
        self.extra.clone().into_iter().chain(own).collect()
    }
}

/// Limits on what the reconciler does by itself. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Remediation {
    /// When false, members are restarted but never replaced without `quorate replace`.
    pub enabled: bool,
    /// Silence longer than this is evidence (safety 11): 30 locally, 300 on Kubernetes.
    pub unhealthy_seconds: u64,
    /// A learner without progress for this long is removed and added anew (safety 18).
    pub learner_timeout_seconds: u64,
    /// Replacements of one node in 24 hours before a person must say so (safety 11).
    pub max_replacements_per_day: u64,
    /// Set-asides kept per node for undo; at least 1.
    pub keep_aside: u64,
}

impl Remediation {
    /// The defaults on Kubernetes: longer patience, because a pod that is silent may be on its
    /// way to another machine.
    pub fn on_kubernetes() -> Remediation {
        Remediation { unhealthy_seconds: 300, ..Remediation::default() }
    }
}

impl Default for Remediation {
    fn default() -> Self {
        Remediation {
            enabled: true,
            unhealthy_seconds: 30,
            learner_timeout_seconds: 300,
            max_replacements_per_day: 5,
            keep_aside: 1,
        }
    }
}
