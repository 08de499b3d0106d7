//! Watches the member list from within: one change at a time, one learner at most, one cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use quorate::proto::etcdserverpb::cluster_client::ClusterClient;
use quorate::proto::etcdserverpb::{MemberListRequest, MemberRemoveRequest};
use tokio::time::timeout;

use super::endpoints::Endpoints;
use super::lock;

/// What was seen of the member list.
#[derive(Default)]
pub(crate) struct Members(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    clusters: BTreeSet<String>,
    /// Whether each member of the last list learns.
    last: Option<BTreeMap<u64, bool>>,
    lists: Vec<String>,
    faults: Vec<String>,
}

impl Members {
    /// Reads the list at the first endpoint that vouches for it.
    pub(crate) async fn look(&self, endpoints: &Endpoints) {
        for (_, channel) in endpoints.all() {
            let mut client = ClusterClient::new(channel);
            let asked = client.member_list(MemberListRequest { linearizable: true });
            let Ok(Ok(answer)) = timeout(Duration::from_millis(500), asked).await else { continue };
            let answer = answer.into_inner();
            let cluster = answer.header.map(|it| it.cluster_id).unwrap_or_default();
            let list = answer.members.iter().map(|it| (it.id, it.is_learner)).collect();
            lock(&self.0).take(format!("{cluster:x}"), list);
            return;
        }
    }

    /// The clusters that answered, each list that was seen, and what was wrong.
    pub(crate) fn told(&self) -> (BTreeSet<String>, Vec<String>, Vec<String>) {
        let seen = lock(&self.0);
        (seen.clusters.clone(), seen.lists.clone(), seen.faults.clone())
    }
}

/// Takes a member off the list.
pub(crate) async fn remove(endpoints: &Endpoints, id: u64) -> Result<(), String> {
    let mut last = "no address".to_owned();
    for (_, channel) in endpoints.all() {
        match ClusterClient::new(channel).member_remove(MemberRemoveRequest { id }).await {
            Ok(_) => return Ok(()),
            Err(status) => last = format!("{:?} {}", status.code(), status.message()),
        }
    }
    Err(last)
}

impl Seen {
    fn take(&mut self, cluster: String, list: BTreeMap<u64, bool>) {
        self.clusters.insert(cluster);
        if self.last.as_ref() == Some(&list) {
            return;
        }
        let learners = list.values().filter(|learns| **learns).count();
        let told = format!("{}+{learners}", list.len() - learners);
        let mut faults = Vec::new();
        if self.clusters.len() > 1 {
            faults.push(format!("more than one cluster answered: {:?}", self.clusters));
        }
        if learners > 1 {
            faults.push(format!("{learners} learners at once"));
        }
        if let Some(last) = &self.last {
            // A removal and the addition after it may fall between two looks.
            let gone = last.keys().filter(|id| !list.contains_key(id)).count();
            let new = list.keys().filter(|id| !last.contains_key(id)).count();
            if gone > 1 || new > 1 {
                faults.push(format!("{gone} members went and {new} came at once"));
            }
        }
        self.faults.extend(faults.iter().map(|fault| format!("{fault} ({told})")));
        println!("members {told} {list:x?}");
        self.lists.push(told);
        self.last = Some(list);
    }
}
