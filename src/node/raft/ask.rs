//! What a member does to whom nobody comes: it asks whether it still is one.
//!
//! A voter that hears no leader asks the others for their votes, and who knows that it was removed
//! tells it so. Whoever does not vote calls nobody by itself. If it was removed before its first
//! entry came, or while its last leader was on the way out, it would wait for ever: so it greets
//! the members that it knows, and who listens at the peer URLs that it was started with.
//!
//! A greeting is all there is to it. A member that was removed is refused with that reason, and
//! ends by it like every other ([`Inner::watch_end`]); whoever does not know it, lags behind or is
//! silent has said nothing, and it waits on. A connection that was granted stays, and ends with
//! that reason when the other one learns it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::methods;
use super::node::Inner;
use super::types::Place;
use crate::cluster::MemberId;
use crate::node::replica::Standing;
use crate::node::transport::{DialError, Jitter};

/// The longest wait between two rounds.
const SELDOM: Duration = Duration::from_secs(30);

/// Whether nobody comes to a member, and it calls nobody.
fn is_alone(standing: &Standing) -> bool {
    standing.is_learner && standing.leader.is_none()
}

impl Inner {
    /// Asks around while nobody leads this member, and it does not vote; for as long as the node
    /// runs.
    pub(super) async fn ask_around(self: Arc<Self>, initial: Vec<String>) {
        let pace = (2 * self.options.election, SELDOM.max(2 * self.options.election));
        let jitter = Jitter::default();
        let mut standing = self.standing.subscribe();
        let mut rounds = 0;
        loop {
            if !is_alone(&standing.borrow_and_update()) {
                rounds = 0;
                if standing.wait_for(is_alone).await.is_err() {
                    return;
                }
            }
            rounds += 1;
            // One that is just joining is come to before that.
            tokio::time::sleep(jitter.wait(rounds, pace)).await;
            if is_alone(&standing.borrow_and_update()) {
                self.ask_all(&initial).await;
            }
        }
    }

    /// One round.
    async fn ask_all(&self, initial: &[String]) {
        let known: Vec<_> = {
            let server = self.raft.server_metrics();
            let server = server.borrow_watched();
            let nodes = server.membership_config.nodes();
            nodes.map(|(id, place)| (MemberId(*id), place.clone())).collect()
        };
        let mut asked = BTreeSet::from([self.own()]);
        for (id, place) in &known {
            if asked.insert(*id) {
                self.ask(*id, place).await;
            }
        }
        for url in initial {
            match self.links.peers.who(url).await {
                Ok(id) if asked.insert(id) => {
                    let place = Place { peer_urls: vec![url.clone()], wants_vote: false };
                    self.ask(id, &place).await;
                }
                Ok(_) => {}
                Err(error) => tell(url, &error),
            }
        }
    }

    /// Greets a member, unless it is connected. What it refuses with is heard by whoever ends the
    /// node, and any other answer says nothing.
    async fn ask(&self, id: MemberId, place: &Place) {
        let Some(peer) = self.links.peer(id, Some(place)) else { return };
        if let Err(error) = peer.call(methods::PING, b"", self.options.election).await {
            tracing::debug!(member = %id, %error, "a peer does not say whether this is a member");
        }
    }
}

fn tell(url: &str, error: &DialError) {
    tracing::debug!(url, %error, "no peer was found where there was one");
}
