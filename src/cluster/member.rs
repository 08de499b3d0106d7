//! The cluster's own list: who counts, and how many make a quorum.

use serde::{Deserialize, Serialize};

use super::{ClusterId, MemberId};

/// Whether a member counts towards the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Votes in elections and counts towards the quorum.
    Voter,
    /// Receives the log but neither votes nor counts towards the quorum.
    Learner,
}

/// One entry of the member list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The ID given when the member was added.
    pub id: MemberId,
    /// The name the member published once it had started; empty while unstarted.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has published them.
    pub client_urls: Vec<String>,
    /// Voter or learner, as the list says.
    pub role: Role,
}

impl Member {
    /// True once the member has started and told the cluster its name (`started` in etcdctl).
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// True once the member has published its client URLs, which is what etcd's own
    /// "has already been bootstrapped" check looks at (etcd's `etcdserver/cluster_util.go`).
    pub fn is_published(&self) -> bool {
        !self.client_urls.is_empty()
    }
}

/// A member list that a quorum vouched for: a linearizable read on the same endpoint succeeded
/// just before it was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberList {
    /// The cluster that answered.
    pub cluster: ClusterId,
    /// Its members, sorted by ID.
    pub members: Vec<Member>,
    /// The leader, if the answering endpoint knew one.
    pub leader: Option<MemberId>,
}

/// The smallest number of voters that is a strict majority of `voters`.
///
/// ```
/// use quorate::cluster::quorum;
/// assert_eq!([1, 2, 3, 4, 5].map(quorum), [1, 2, 2, 3, 3]);
/// ```
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}
