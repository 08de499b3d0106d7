//! Carries out planned steps: the one loop that both executors share.

mod change;
pub mod local;
mod memory;
pub mod pods;

use crate::cluster::{Observed, Wanted};
use crate::plan::{Step, next_step};

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Carried out, or found already carried out.
    Done,
    /// Refused by the cluster or by a fence, which is no error: observe and plan again. The
    /// sentence says what was found.
    NotNow(String),
}

/// A place where nodes run: processes on this machine, or pods in Kubernetes.
#[allow(async_fn_in_trait, reason = "both executors are in this crate")]
pub trait Executor {
    /// Why an observation or a step failed.
    type Error: std::error::Error;

    /// Reads the outside world once; never changes it.
    async fn observe(&mut self, wanted: &Wanted) -> Result<Observed, Self::Error>;

    /// Carries out one step. Repeating a step that has succeeded does nothing.
    async fn execute(
        &mut self,
        wanted: &Wanted,
        seen: &Observed,
        step: &Step,
    ) -> Result<Outcome, Self::Error>;
}

/// One turn: what was seen, the step planned on it, and what became of the step.
#[derive(Clone, Debug)]
pub struct Turn {
    /// The observation.
    pub seen: Observed,
    /// The step.
    pub step: Step,
    /// Its outcome.
    pub outcome: Outcome,
}

/// Takes one turn towards `wanted`.
///
/// # Errors
///
/// The executor's own; the next turn observes afresh, so nothing needs undoing.
pub async fn turn<E: Executor>(executor: &mut E, wanted: &Wanted) -> Result<Turn, E::Error> {
    let seen = executor.observe(wanted).await?;
    let step = next_step(wanted, &seen);
    let outcome = executor.execute(wanted, &seen, &step).await?;
    Ok(Turn { seen, step, outcome })
}

/// A step's kind in one word, for figures and for tests.
pub(crate) fn word(step: &Step) -> &'static str {
    match step {
        Step::Found { .. } => "found",
        Step::Start { .. } => "start",
        Step::Stop { .. } => "stop",
        Step::MoveLeader { .. } => "move-leader",
        Step::Remove { .. } => "remove",
        Step::AddLearner { .. } => "add-learner",
        Step::Promote { .. } => "promote",
        Step::UpdatePeerUrls { .. } => "update-peer-urls",
        Step::ForgetNode { .. } => "forget-node",
        Step::Wait { .. } => "wait",
        Step::Blocked { .. } => "blocked",
        Step::Done => "done",
    }
}
