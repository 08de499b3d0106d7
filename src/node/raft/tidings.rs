//! What whoever reads the log wants to know of the other members: who leads, and who is silent.
//! openraft's own words for it come with every message that a dead peer misses.

use std::collections::BTreeSet;

use crate::cluster::MemberId;
use crate::node::replica::Standing;

/// What was said last, so that only news are said.
#[derive(Debug, Default)]
pub(super) struct Tidings {
    leader: Option<MemberId>,
    was_led: bool,
    silent: BTreeSet<MemberId>,
}

impl Tidings {
    /// How this member stands now.
    pub(super) fn stands(&mut self, own: MemberId, now: &Standing) {
        let Standing { leader, term, .. } = *now;
        if self.leader == leader {
            return;
        }
        match leader {
            Some(leader) if leader == own => tracing::info!(term, "this member leads now"),
            Some(leader) => tracing::info!(term, %leader, "another member leads now"),
            // Before the first leader there is nothing to lose.
            None if self.was_led => {
                tracing::warn!(term, "no leader: nothing can be written until a quorum elects one");
            }
            None => {}
        }
        self.leader = leader;
        self.was_led |= leader.is_some();
    }

    /// The members that a leader has not heard of for an election timeout; none if this member
    /// does not lead.
    pub(super) fn silent(&mut self, now: BTreeSet<MemberId>, leads: bool) {
        if leads {
            for member in now.difference(&self.silent) {
                tracing::warn!(%member, "a member is silent: it is down, or cannot be reached");
            }
            for member in self.silent.difference(&now) {
                tracing::info!(%member, "the member is silent no more, or none any more");
            }
        }
        self.silent = now;
    }
}
