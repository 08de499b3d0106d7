//! Events: one clear sentence for each step, and none twice in a row.

use std::collections::HashMap;

use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Resource, ResourceExt};
use parking_lot::Mutex;

use crate::execute::pods::resource::ClusterObject;
use crate::execute::{Outcome, Turn};
use crate::plan::Step;

/// Tells people through the API server what is done, and why.
pub(super) struct Events {
    recorder: Recorder,
    /// What was last said of each cluster.
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
        self.say(object, type_, reason, turn.step.to_string()).await;
    }

    /// Tells why a spec is not followed.
    pub(super) async fn refuse(&self, object: &ClusterObject, why: &str) {
        self.say(object, EventType::Warning, "SpecRefused", why.to_owned()).await;
    }

    async fn say(&self, object: &ClusterObject, type_: EventType, reason: &str, note: String) {
        let key = object.uid().unwrap_or_default();
        let is_news = self.said.lock().insert(key, note.clone()).as_ref() != Some(&note);
        if !is_news {
            return;
        }
        let cluster = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
        match type_ {
            EventType::Normal => tracing::info!(cluster, reason, "{note}"),
            EventType::Warning => tracing::warn!(cluster, reason, "{note}"),
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
