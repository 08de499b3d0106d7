//! Has openraft's clock stand still while there is nothing for it to look at.
//!
//! openraft wakes some fifty times a second to see whether a leader has been silent for too long,
//! which is most of what a follower does in an idle cluster. One that hears its leader has nothing
//! to see until that could be so. A leader, and whoever hears of none, always needs the clock.

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use super::node::Inner;
use super::types::Raft;
use crate::cluster::MemberId;

/// Lets the clock run again, however it ends.
struct Clockwork<'a>(&'a Raft);

impl Clockwork<'_> {
    fn run(&self, on: bool) {
        self.0.runtime_config().tick(on);
    }
}

impl Drop for Clockwork<'_> {
    fn drop(&mut self) {
        self.run(true);
    }
}

impl Inner {
    /// Stops the clock and lets it run, for as long as the node runs.
    pub(super) async fn rest(self: Arc<Self>) {
        let clock = Clockwork(&self.raft);
        let mut server = self.raft.server_metrics();
        loop {
            let rest = self.may_rest();
            clock.run(rest.is_none());
            let pause = rest.unwrap_or(self.options.heartbeat);
            // A vote or another leader ends it.
            if let Ok(changed) = tokio::time::timeout(pause, server.changed()).await
                && changed.is_err()
            {
                return; // raft has stopped
            }
        }
    }

    fn may_rest(&self) -> Option<Duration> {
        let leader = {
            let server = self.raft.server_metrics();
            let it = server.borrow_watched();
            let follows = matches!(it.state, ServerState::Follower | ServerState::Learner);
            it.current_leader.map(MemberId).filter(|_| follows)?
        };
        let silent = self.shared.clock.monotonic().since(self.heard_of(Some(leader))?);
        left(silent, self.options.election)
    }
}

/// How long the clock may stand still after so long a silence: openraft campaigns after seven
/// tenths of the election timeout at the earliest (see [`Options::openraft`]).
///
/// [`Options::openraft`]: super::config::Options::openraft
fn left(silent: Duration, election: Duration) -> Option<Duration> {
    (election * 2 / 5).checked_sub(silent).filter(|it| !it.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::raft::Options;

    #[test]
    fn the_clock_runs_before_a_campaign_could_begin() {
        let ms = Duration::from_millis;
        for (heartbeat, election) in [(100, 1000), (100, 500), (10, 100), (500, 2500), (1, 5)] {
            let (heartbeat, election) = (ms(heartbeat), ms(election));
            let openraft =
                Options { heartbeat, election, ..Options::default() }.openraft().unwrap();
            let first = ms(openraft.election_timeout_max + openraft.election_timeout_min);
            // The clock begins anew within a fifth of a heartbeat.
            assert!(left(Duration::ZERO, election).unwrap() + heartbeat < first, "{election:?}");
        }
        assert_eq!(left(ms(399), ms(1000)), Some(ms(1)));
        assert_eq!(left(ms(400), ms(1000)), None);
        assert_eq!(left(ms(9000), ms(1000)), None);
    }
}
