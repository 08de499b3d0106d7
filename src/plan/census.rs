//! The figures of a cluster: how many vote, how many are well, how many may yet fail.

use super::view::View;
use crate::cluster::{Observed, Wanted, quorum};

/// The arithmetic of one observation; all zero while the member list is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Voters in the list.
    pub voters: usize,
    /// Voters that answer for themselves and know a leader.
    pub healthy: usize,
    /// Voters that must agree.
    pub quorum: usize,
    /// Healthy voters that may fail before the quorum is lost.
    pub tolerance: usize,
    /// Members that do not vote yet.
    pub learners: usize,
}

impl Census {
    /// Counts.
    pub fn of(wanted: &Wanted, seen: &Observed) -> Self {
        let Some(list) = seen.members.known() else { return Census::default() };
        let view = View::new(wanted, seen, list);
        let voters = view.voters().count();
        let healthy = view.healthy();
        let quorum = quorum(voters);
        let learners = view.learners().count();
        Census { voters, healthy, quorum, tolerance: healthy.saturating_sub(quorum), learners }
    }
}
