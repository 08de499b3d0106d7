//! Watches the member list while a test breaks things, as any client of the cluster could.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::cluster::SOON;
use super::wait::eventually;
use super::wire::{List, block_on, channel, local_list, spawn, vouched_list};

/// What the list said of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Listed {
    UnstartedLearner,
    Learner,
    UnstartedVoter,
    Voter,
}

/// One state of the list: member ID to what it said.
type State = BTreeMap<u64, Listed>;

/// A watch on the list; [`History::stop`] tells what was seen.
pub(crate) struct History {
    endpoints: Vec<String>,
    states: Arc<Mutex<Vec<State>>>,
    stop: Arc<AtomicBool>,
    task: Option<JoinHandle<()>>,
}

impl History {
    /// Asks these endpoints in turn, many times a second; the first answer is there on return,
    /// before the test breaks anything.
    #[track_caller]
    pub(crate) fn start(endpoints: &[String]) -> History {
        let states: Arc<Mutex<Vec<State>>> = Arc::default();
        note(&states, &eventually("a first look", SOON, || vouched_list(endpoints)));
        let stop = Arc::new(AtomicBool::new(false));
        let task = spawn(watch(endpoints.to_vec(), Arc::clone(&states), Arc::clone(&stop)));
        History { endpoints: endpoints.to_vec(), states, stop, task: Some(task) }
    }

    /// The states seen, in the order in which the cluster went through them; the last one is what
    /// a quorum vouches for now, which the endpoint that was followed may not have heard yet.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(task) = self.task.take() {
            block_on(task).expect("the watch does not panic");
        }
        let last = eventually("a last look", SOON, || vouched_list(&self.endpoints));
        note(&self.states, &last);
        Seen(std::mem::take(&mut *self.states.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Follows the one endpoint that answers; a member that lags behind would tell the past again.
async fn watch(endpoints: Vec<String>, states: Arc<Mutex<Vec<State>>>, stop: Arc<AtomicBool>) {
    let channels: Vec<_> = endpoints.iter().map(|it| (it.clone(), channel(it))).collect();
    let mut at = 0;
    while !stop.load(Ordering::Relaxed) {
        let (endpoint, channel) = &channels[at % channels.len()];
        match local_list(endpoint, channel.clone()).await {
            Ok(list) => note(&states, &list),
            Err(_) => at += 1,
        }
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

fn note(states: &Mutex<Vec<State>>, list: &List) {
    let listed = |learner, started| match (learner, started) {
        (true, false) => Listed::UnstartedLearner,
        (true, true) => Listed::Learner,
        (false, false) => Listed::UnstartedVoter,
        (false, true) => Listed::Voter,
    };
    let state: State = list
        .members
        .iter()
        .map(|member| (member.id, listed(member.learner, !member.name.is_empty())))
        .collect();
    let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
    // Another endpoint may be a little behind: a state that was left is not entered again, as
    // every ID is used once.
    if !states.contains(&state) {
        states.push(state);
    }
}

/// What the member list went through.
#[derive(Clone)]
pub(crate) struct Seen(Vec<State>);

impl Seen {
    /// Panics unless `old` made room for `new` in the safe order: removed first; then added as a
    /// learner, never as a voter; then promoted.
    #[track_caller]
    pub(crate) fn replaced_in_the_safe_order(&self, old: u64, new: u64) {
        let at = |what: &str, test: &dyn Fn(&State) -> bool| {
            let found = self.0.iter().position(test);
            found.unwrap_or_else(|| panic!("the list never showed {what}:\n{self:?}"))
        };
        let has = |state: &State, id| state.contains_key(&id);
        let begin = at("the old member alone", &|state| has(state, old) && !has(state, new));
        let learner = at("the new member as a learner", &|state| {
            matches!(state.get(&new), Some(Listed::UnstartedLearner | Listed::Learner))
        });
        let voter =
            at("the new member as a voter", &|state| state.get(&new) == Some(&Listed::Voter));
        assert!(
            begin < learner && learner < voter,
            "{old:x} was not replaced by {new:x} in the safe order:\n{self:?}"
        );
        // Two changes may follow each other faster than a client can look; but had the new one
        // come first, both would have been listed until the removal.
        let both = self.0.iter().find(|state| has(state, old) && has(state, new));
        assert!(both.is_none(), "{old:x} and {new:x} were listed together:\n{self:?}");
        self.no_voter_was_added();
    }

    /// Panics if a member joined as a voter: it must be a learner first.
    #[track_caller]
    pub(crate) fn no_voter_was_added(&self) {
        let founded = self.0.first().cloned().unwrap_or_default();
        for state in &self.0 {
            for (id, listed) in state {
                assert!(
                    *listed != Listed::UnstartedVoter || founded.contains_key(id),
                    "{id:x} was added as a voter:\n{self:?}"
                );
            }
        }
    }

    /// The fewest voters that were ever listed.
    pub(crate) fn fewest_voters(&self) -> usize {
        let voters = |state: &State| {
            let votes = |it: &&Listed| matches!(it, Listed::Voter | Listed::UnstartedVoter);
            state.values().filter(votes).count()
        };
        self.0.iter().map(voters).min().unwrap_or(0)
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for state in &self.0 {
            let members: Vec<_> =
                state.iter().map(|(id, listed)| format!("{id:x} {listed:?}")).collect();
            writeln!(f, "  {}", members.join(", "))?;
        }
        Ok(())
    }
}
