//! Decides the next step in a cluster's life.
//!
//! [`next_step`] is a pure function: what is wanted and what was last seen go in, one [`Step`]
//! comes out. It does no I/O, reads no clock and remembers nothing, so a reconciler that restarts
//! resumes from observation alone.
//!
//! ```text
//!   Wanted ----+
//!              +--> next_step --> Step --> executor (processes | pods)
//!   Observed --+                            |
//!       ^----------------- observe ---------+
//! ```
//!
//! Without a member list that a quorum vouched for, nodes are founded or started and nothing else
//! happens ([`founding`], [`outage`]). With one, the rules are a list, and its order is the
//! policy (safety 15): first what restores health, then what gives up a member, then what adds
//! one, then what changes a healthy one. A rule acts, or says what it waits for, or passes.

mod census;
mod evidence;
mod founding;
mod join;
mod outage;
mod repair;
mod restart;
mod retire;
mod roll;
mod simulate;
mod step;
mod view;
mod words;

pub use census::Census;
pub use evidence::evidence_of;
pub use simulate::{Planned, simulate};
pub use step::{Obstacle, RemoveReason, StartNode, Step, StopReason, Waiting};
pub use view::member_of;

use view::View;

use crate::cluster::{NodeName, Observed, Wanted};

/// What a rule has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Say {
    /// Do this now.
    Act(Step),
    /// Nothing can be done about this yet; later rules may still act.
    Hold(Step),
    /// All is well as far as this rule goes.
    Pass,
}

impl Say {
    /// The first that can act; else the first that has a reason why not.
    fn first(says: impl Iterator<Item = Say>) -> Say {
        let mut held = Say::Pass;
        for say in says {
            match say {
                Say::Act(_) => return say,
                Say::Hold(_) if held == Say::Pass => held = say,
                Say::Hold(_) | Say::Pass => {}
            }
        }
        held
    }
}

/// The rules in the order they are asked (safety 15); the first that can act safely wins. If none
/// can, the first that says what it waits for speaks for all.
const RULES: [fn(&View<'_>) -> Say; 15] = [
    restart::restart,
    retire::stop_strays,
    restart::unstick,
    repair::drop_learners,
    repair::remove_strangers,
    repair::remove_dead,
    roll::correct_learner,
    join::start_added,
    join::promote,
    join::add_learner,
    repair::replace_serving,
    retire::retire,
    roll::roll,
    roll::move_address,
    retire::forget,
];

/// Returns the one next step towards `wanted`, given what was `seen`.
pub fn next_step(wanted: &Wanted, seen: &Observed) -> Step {
    let Some(list) = seen.members.known() else {
        return match &seen.record.founding {
            Some(founding) if founding.cluster.is_some() => outage::step(wanted, seen),
            founding => founding::step(wanted, seen, founding.as_ref()),
        };
    };
    let view = View::new(wanted, seen, list);
    match Say::first(RULES.iter().map(|rule| rule(&view))) {
        Say::Act(step) | Say::Hold(step) => step,
        Say::Pass => unsettled(&view).unwrap_or(Step::Done),
    }
}

/// What keeps the cluster from being as wanted when no rule has a word to say about it: a node
/// that was started and is not well yet.
fn unsettled(view: &View<'_>) -> Option<Step> {
    let is_well = |name: &&NodeName| view.member_of(name).is_some_and(|m| view.is_healthy(m));
    let names: Vec<_> = view.wanted.nodes.keys().filter(|n| !is_well(n)).cloned().collect();
    let since =
        names.iter().filter_map(|name| Some(view.seen.nodes.get(name)?.process_since)).min();
    (!names.is_empty()).then_some(Step::Wait { what: Waiting::Starting(names), since })
}
