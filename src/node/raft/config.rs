//! What a node is started with, and what openraft makes of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::MemberId;
use crate::node::ground::Port;
use crate::node::log::Ids;
use crate::node::watch::Watchers;

/// A founding member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// Its ID.
    pub id: MemberId,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
}

/// What a node is started with.
pub struct Config {
    /// Who it is.
    pub ids: Ids,
    /// Its data directory; `log` and `store` are made in it.
    pub dir: PathBuf,
    /// It runs for the first time: there is no log yet, and one is begun. Otherwise there has to
    /// be one.
    pub is_first: bool,
    /// The members that found the cluster, this one among them, the same on each; only looked at
    /// by one that has no log yet or a log with nothing in it. `None`: it was added to a cluster
    /// and waits for its leader.
    pub founders: Option<Vec<Founder>>,
    /// Peer URLs of the initial cluster: whom it asks whether it still is a member, while nobody
    /// comes who leads.
    pub peers: Vec<String>,
    /// Its peer port, on each address it has; listened on once the data is read.
    pub ports: Vec<Port>,
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// The limits and times.
    pub options: Options,
    /// Who serves watches.
    pub watchers: Arc<dyn Watchers>,
}

/// The limits and times of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `--heartbeat-interval`.
    pub heartbeat: Duration,
    /// `--election-timeout`: a leader that is lost has a successor within it, as a rule.
    pub election: Duration,
    /// `--quota-backend-bytes`, in logical bytes.
    pub quota: u64,
    /// `--snapshot-count`: entries between two purges of the log.
    pub snapshot_count: u64,
    /// `--snapshot-catchup-entries`: entries left in the log for followers that lag.
    pub catch_up: u64,
    /// `--max-request-bytes`.
    pub max_request_bytes: usize,
    /// `--strict-reconfig-check`: refuse changes of the members that could cost the quorum.
    pub strict_reconfig_check: bool,
    /// What `/version` on the peer port says: of the server and of the cluster.
    pub versions: (String, String),
}

impl Default for Options {
    /// etcd's defaults.
    fn default() -> Options {
        Options {
            heartbeat: Duration::from_millis(100),
            election: Duration::from_millis(1000),
            quota: 2 << 30,
            snapshot_count: 10_000,
            catch_up: 5000,
            max_request_bytes: 3 << 19,
            strict_reconfig_check: true,
            versions: ("3.7.3".to_owned(), "3.7.0".to_owned()),
        }
    }
}

/// The timings cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("heartbeat {heartbeat:?} and election timeout {election:?} do not go together: {why}")]
pub struct BadTimings {
    heartbeat: Duration,
    election: Duration,
    why: String,
}

impl Options {
    /// How long a request may take: 5 s for the disk and queues, and one election that fails and
    /// one that does not (etcd's config.ReqTimeout).
    pub(super) fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election
    }

    /// Whether the timings can work.
    ///
    /// # Errors
    ///
    /// [`BadTimings`].
    pub fn check(&self) -> Result<(), BadTimings> {
        self.openraft().map(drop)
    }

    /// openraft campaigns when it has heard no leader for its maximum and a random part more, up
    /// to the maximum again; and voters refuse within the maximum. So a little less than half of
    /// the election timeout is what it gets, or it would take up to twice the time that was asked
    /// for, and the vote comes on top. The random part is at least a quarter of it, and no wider
    /// than it has to be: with two voters left, the earlier one is as good as any.
    pub(super) fn openraft(&self) -> Result<openraft::Config, BadTimings> {
        let bad = |why: String| {
            let (heartbeat, election) = (self.heartbeat, self.election);
            BadTimings { heartbeat, election, why }
        };
        let millis = |it: Duration| {
            u64::try_from(it.as_millis()).map_err(|_| bad("longer than can be counted".to_owned()))
        };
        let (heartbeat, election) = (millis(self.heartbeat)?.max(1), millis(self.election)?);
        if election < 5 * heartbeat {
            return Err(bad("etcd wants five heartbeats in an election timeout".to_owned()));
        }
        let most = election * 9 / 20;
        let config = openraft::Config {
            cluster_name: "quorate".to_owned(),
            heartbeat_interval: heartbeat,
            election_timeout_min: election / 4 + 1,
            election_timeout_max: most + 2,
            enable_pre_vote: Some(true),
            // The leader's own log may lack what a quorum has and it had not flushed: it must not
            // lead the same term again, and give those indexes to other entries.
            enable_leader_restore: Some(false),
            // The keeper sees to both.
            snapshot_policy: openraft::SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX >> 1,
            install_snapshot_timeout: 300_000,
            backoff: "50ms 100ms ...1s".to_owned(),
            ..openraft::Config::default()
        };
        config.validate().map_err(|it| bad(it.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_is_lost_has_a_successor_within_the_election_timeout() {
        for (heartbeat, election) in [(100, 1000), (100, 500), (10, 100), (500, 2500), (1, 5)] {
            let options = Options {
                heartbeat: Duration::from_millis(heartbeat),
                election: Duration::from_millis(election),
                ..Options::default()
            };
            let config = options.openraft().unwrap();
            // A campaign begins within the maximum and a random part up to the maximum.
            assert!(2 * config.election_timeout_max <= election + 4, "{heartbeat} {election}");
        }
        let slow = Options { heartbeat: Duration::from_millis(300), ..Options::default() };
        assert!(slow.openraft().is_err());
    }
}
