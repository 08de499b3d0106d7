//! Steps and reasons as a tired person reads them.

use std::fmt;

use super::step::{Obstacle, RemoveReason, Step, StopReason, Waiting};
use crate::cluster::{Evidence, NodeName};

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Found { nodes, .. } => write!(f, "found the cluster with {}", list(nodes)),
            Step::Start { nodes } => {
                let names: Vec<_> = nodes.iter().map(|n| n.node.clone()).collect();
                write!(f, "start {} as existing", list(&names))?;
                let sets_aside = nodes.iter().any(|n| n.replaces.is_some());
                if sets_aside { f.write_str(", former data set aside") } else { Ok(()) }
            }
            Step::Stop { node, why, .. } => write!(f, "stop {node} ({why})"),
            Step::MoveLeader { from, to } => write!(f, "move the leadership from {from} to {to}"),
            Step::Remove { member, node: Some(node), why } => {
                write!(f, "remove {member} of {node} ({why})")
            }
            Step::Remove { member, node: None, why } => write!(f, "remove {member} ({why})"),
            Step::AddLearner { node, .. } => write!(f, "add learner for {node}"),
            Step::Promote { member, node } => write!(f, "promote {member} of {node}"),
            Step::UpdatePeerUrls { member, node, peer_urls } => {
                write!(f, "move {member} of {node} to {}", peer_urls.join(","))
            }
            Step::ForgetNode { node, .. } => write!(f, "forget {node}, its data set aside"),
            Step::Wait { what, .. } => write!(f, "wait for {what}"),
            Step::Blocked { why } => write!(f, "blocked: {why}"),
            Step::Done => f.write_str("done"),
        }
    }
}

fn list(nodes: &[NodeName]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StopReason::Retired => "its member is gone",
            StopReason::Unfounded => "its founding is given up",
            StopReason::Restart => "to restart it",
            StopReason::Silent => "silent, by force",
        })
    }
}

impl fmt::Display for RemoveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoveReason::Replace(evidence) => evidence.fmt(f),
            RemoveReason::Unwanted => f.write_str("not wanted any more"),
            RemoveReason::NoProgress => f.write_str("the learner makes no progress"),
            RemoveReason::ForeignUnstarted => f.write_str("nobody's, and never started"),
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::Starting(nodes) => write!(f, "{} to be ready", list(nodes)),
            Waiting::Quorum(heard) => write!(f, "a quorum to answer: {heard}"),
            Waiting::Unknown(what) => write!(f, "what cannot be read: {what}"),
            Waiting::CatchUp(member) => write!(f, "catch-up of {member}"),
            Waiting::Dwell { node, .. } => {
                write!(f, "{node} to answer; past the remediation delay it is replaced")
            }
            Waiting::HealthyVoters(why) => write!(f, "healthy voters: {why}"),
            Waiting::Retry { node, detail } => write!(f, "another try to start {node}: {detail}"),
            Waiting::ForeignMember(member) => {
                write!(f, "{member}, which somebody added: to start, or to be removed after 60 s")
            }
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}); {}", self.what, self.reason, self.unblock)
    }
}
