//! What `quorate status -o json` says.

use serde::Deserialize;

/// The whole report.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) cluster: String,
    pub(crate) verdict: String,
    pub(crate) sentence: String,
    pub(crate) cluster_id: Option<String>,
    pub(crate) voters: Option<u64>,
    pub(crate) healthy: Option<u64>,
    pub(crate) quorum: Option<u64>,
    pub(crate) tolerance: Option<u64>,
    pub(crate) up: Option<Holder>,
    pub(crate) members: Vec<Row>,
    pub(crate) step: Option<String>,
    pub(crate) operation: Option<String>,
    /// Why the file is not followed, if it is not.
    pub(crate) spec_problem: Option<String>,
}

/// Who holds the home.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Holder {
    pub(crate) process: HolderProcess,
}

/// The process of an `up`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct HolderProcess {
    pub(crate) pid: i32,
}

/// One member, or one node without a member.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    pub(crate) node: Option<String>,
    pub(crate) member: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) health: String,
    pub(crate) leader: bool,
    pub(crate) peer_url: Option<String>,
    pub(crate) client_urls: Vec<String>,
    pub(crate) revision: Option<i64>,
    pub(crate) disk: Option<String>,
    pub(crate) exit: Option<End>,
}

/// How a node last ended.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct End {
    pub(crate) kind: String,
    pub(crate) detail: String,
}

impl Report {
    /// The row of a node.
    #[track_caller]
    pub(crate) fn row(&self, node: &str) -> &Row {
        let found = self.members.iter().find(|row| row.node.as_deref() == Some(node));
        found.unwrap_or_else(|| panic!("status does not list {node}: {self:#?}"))
    }
}
