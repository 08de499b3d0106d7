//! Events: one clear sentence for each step, and none twice in a row.

use std::collections::HashMap;

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Resource, ResourceExt};
use parking_lot::Mutex;

use crate::execute::pods::resource::ClusterObject;
use crate::execute::{Outcome, Turn, word};
use crate::plan::Step;

/// Tells people through the API server what is done, and why.
pub(super) struct Events {
    recorder: Recorder,
    /// What was last said of each cluster, of its course and of what was refused.
    said: Mutex<HashMap<String, String>>,
}

impl Events {
    pub(super) fn new(kube: kube::Client, identity: &str) -> Self {
        let reporter =
            Reporter { controller: "quorate".to_owned(), instance: Some(identity.to_owned()) };
        Events { recorder: Recorder::new(kube, reporter), said: Mutex::default() }
    }

    /// Tells of a step that was carried out, of one that a person is needed for, and of the end.
    pub(super) async fn tell(&self, object: &ClusterObject, turn: &Turn) {
        let Some((type_, reason)) = title(turn) else { return };
        let uid = object.uid().unwrap_or_default();
        if self.is_news(uid, turn.step.to_string()) {
            self.say(object, type_, reason, turn.step.to_string(), Some(&turn.step)).await;
        }
    }

    /// Tells why a spec, or what follows from it, cannot be done: once for each spec, however
    /// often it is tried.
    pub(super) async fn refuse(&self, object: &ClusterObject, reason: &str, why: &str) {
        let key = format!("{} refused", object.uid().unwrap_or_default());
        let generation = object.metadata.generation.unwrap_or_default();
        if self.is_news(key, format!("{generation} {why}")) {
            self.say(object, EventType::Warning, reason, why.to_owned(), None).await;
        }
    }

    fn is_news(&self, key: String, what: String) -> bool {
        self.said.lock().insert(key, what.clone()) != Some(what)
    }

    async fn say(
        &self,
        object: &ClusterObject,
        type_: EventType,
        reason: &str,
        note: String,
        step: Option<&Step>,
    ) {
        let cluster = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
        let member = step.map(members).filter(|it| !it.is_empty()).map(|it| it.join(", "));
        let step = step.map(word);
        match type_ {
            EventType::Normal => tracing::info!(cluster, step, member, reason, "{note}"),
            EventType::Warning => tracing::warn!(cluster, step, member, reason, "{note}"),
        }
        let event = Event {
            type_,
            reason: reason.to_owned(),
            // Kubernetes takes no more than 1 kB.
            note: Some(note.chars().take(900).collect()),
            // Events that differ in nothing but the note are counted as one, with the first note.
            action: note.chars().take(128).collect(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::debug!(%error, "an event could not be published");
        }
    }
}

/// The members that a step is about, for whoever filters the log by one.
fn members(step: &Step) -> Vec<String> {
    let ids = match step {
        Step::Start { nodes } => nodes.iter().map(|it| it.member).collect(),
        Step::Stop { member, .. } => member.iter().copied().collect(),
        Step::MoveLeader { from, .. } => vec![*from],
        Step::Remove { member, .. }
        | Step::Promote { member, .. }
        | Step::UpdatePeerUrls { member, .. } => vec![*member],
        Step::Found { .. }
        | Step::AddLearner { .. }
        | Step::ForgetNode { .. }
        | Step::Wait { .. }
        | Step::Blocked { .. }
        | Step::Done => Vec::new(),
    };
    ids.iter().map(ToString::to_string).collect()
}

fn title(turn: &Turn) -> Option<(EventType, &'static str)> {
    use EventType::{Normal, Warning};
    if !matches!(turn.step, Step::Blocked { .. } | Step::Done) && turn.outcome != Outcome::Done {
        return None;
    }
    Some(match &turn.step {
        Step::Found { .. } => (Normal, "Founding"),
        Step::Start { .. } => (Normal, "Starting"),
        Step::Stop { .. } => (Normal, "Stopping"),
        Step::MoveLeader { .. } => (Normal, "MovingLeader"),
        Step::Remove { .. } => (Warning, "RemovingMember"),
        Step::AddLearner { .. } => (Normal, "AddingLearner"),
        Step::Promote { .. } => (Normal, "Promoting"),
        Step::UpdatePeerUrls { .. } => (Normal, "MovingMember"),
        Step::ForgetNode { .. } => (Normal, "ForgettingNode"),
        Step::Blocked { why } => (Warning, why.reason),
        Step::Done => (Normal, "Ready"),
        Step::Wait { .. } => return None,
    })
}
