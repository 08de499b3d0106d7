//! How nodes ended that could not write it down: their disk was full, or they never got that far.
//!
//! Kept in memory only; where a node has written its own end, that one counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::process::Child;

use crate::clock::Clock;
use crate::cluster::{Exit, ExitKind, MemberId, NodeName};

/// The last end of each node, as its parent saw it.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends(Arc<Mutex<BTreeMap<NodeName, Exit>>>);

impl Ends {
    /// Notes an end.
    pub(super) fn note(&self, node: &NodeName, exit: Exit) {
        self.lock().insert(node.clone(), exit);
    }

    /// Reaps a node's process when it ends, and notes how; forgets the end before it.
    pub(super) fn follow(&self, node: NodeName, mut child: Child, member: Option<MemberId>) {
        self.lock().remove(&node);
        let ends = self.clone();
        tokio::spawn(async move {
            let Ok(status) = child.wait().await else { return };
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            let known = ExitKind::ALL.into_iter().find(|kind| Some(kind.code()) == code);
            if let Some(kind) = known {
                let detail = format!("quorate node ended with exit code {}", kind.code());
                ends.note(&node, Exit { kind, member, at: Clock.now(), detail });
            }
        });
    }

    /// How a node that has written nothing ended.
    pub(super) fn of(&self, node: &NodeName) -> Option<Exit> {
        self.lock().get(node).cloned()
    }

    /// All of them.
    pub(super) fn all(&self) -> BTreeMap<NodeName, Exit> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeName, Exit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
