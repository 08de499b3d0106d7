//! What the operator says about a cluster, and what it remembers of it: `status`.
//!
//! The record part (founding, ledger, adopted, requests, places) is memory: it is written before
//! the act it speaks of and read back after a restart. All else is told anew each time and never
//! read by the planner. Nothing here changes from turn to turn in a quiet cluster, so that a quiet
//! cluster costs no write; figures that move are metrics.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::cluster::{
    ClusterId, Founding, Incarnation, LedgerEntry, MemberId, NodeName, Record, ReplaceRequest,
    Role, Timestamp,
};

/// The status of an `EtcdCluster`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(inline)]
pub struct ClusterStatus {
    /// The generation of the spec that all of this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The cluster's ID, once a quorum has answered with it. Never changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub cluster_id: Option<ClusterId>,
    /// The lowest version that any member runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_version: Option<String>,
    /// How many nodes there are.
    pub replicas: u32,
    /// How many members are voters that answer and have a leader.
    pub ready_replicas: u32,
    /// How many members vote.
    pub voting_members: u32,
    /// The labels of the cluster's pods, for `kubectl scale` and autoscalers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// The node whose member leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub leader: Option<NodeName>,
    /// The cluster's state in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// What is under way; absent when nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// The next steps, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<String>,
    /// Why nothing can be done, and what would unblock it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Blocked>,
    /// The nodes and the member of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub members: Vec<MemberStatus>,
    /// How the cluster was founded. Written before the first start, and never removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub founding: Option<Founding>,
    /// The replacements of the last 24 hours, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "any_objects")]
    pub ledger: Vec<LedgerEntry>,
    /// Members that a person added and that have been given a node.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub adopted: BTreeSet<MemberId>,
    /// Members that a person wants replaced, by node.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub requests: BTreeMap<NodeName, ReplaceRequest>,
    /// Where each node is now.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub places: BTreeMap<NodeName, Place>,
    /// Available, Progressing, Degraded, Paused and `RecoveryRequired`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// What is under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Operation {
    /// In one word, such as Replace.
    #[serde(rename = "type")]
    pub kind: String,
    /// The step it is at, in one sentence.
    pub step: String,
    /// The member it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub member: Option<MemberId>,
    /// Since when.
    #[schemars(schema_with = "time_schema")]
    pub since: Time,
}

/// Why nothing can be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Blocked {
    /// In one word.
    pub reason: String,
    /// In one sentence.
    pub message: String,
    /// What would unblock it.
    pub unblock: String,
}

/// A node and its member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct MemberStatus {
    /// The node's name.
    #[schemars(with = "String")]
    pub name: NodeName,
    /// The member's ID; absent while the node is no member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub id: Option<MemberId>,
    /// The incarnation of its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub incarnation: Option<Incarnation>,
    /// Whether it votes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub role: Option<Role>,
    /// In one word, such as Healthy or Unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub health: String,
    /// The version it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The pod it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The claim that holds its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
}

/// Where a node is: its pod, which has another name with each new member, and its volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The pod's name, which its peer URL rests on.
    pub pod: String,
    /// The claim that holds its data; `None` where the data goes with the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// The member it was given, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<MemberId>,
    /// Its pod was made, or is about to be: written before its first start.
    #[serde(default)]
    pub started: bool,
}

impl ClusterStatus {
    /// What is remembered, in the planner's form.
    pub fn record(&self) -> Record {
        Record {
            founding: self.founding.clone(),
            ledger: self.ledger.clone(),
            adopted: self.adopted.clone(),
            requests: self.requests.clone(),
        }
    }

    /// Remembers this instead. A founding that was written is kept if the new record has none: a
    /// cluster is founded once.
    pub fn set_record(&mut self, record: Record) {
        let Record { founding, ledger, adopted, requests } = record;
        self.founding = founding.or_else(|| self.founding.take());
        self.ledger = ledger;
        self.adopted = adopted;
        self.requests = requests;
    }

    /// The condition of this type, if it was ever set.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == kind)
    }

    /// Sets the condition of this type. `last_transition_time` is the time of now: it is taken
    /// only if the condition is new or its `status` changes.
    pub fn set_condition(&mut self, mut condition: Condition) {
        match self.conditions.iter_mut().find(|old| old.type_ == condition.type_) {
            Some(old) => {
                if old.status == condition.status {
                    condition.last_transition_time = old.last_transition_time.clone();
                }
                *old = condition;
            }
            None => self.conditions.push(condition),
        }
    }
}

/// A point in time as Kubernetes writes it. It writes whole seconds only; the rest is cut off
/// here, or a status would differ from itself once it has been read back.
pub fn time(at: Timestamp) -> Time {
    let seconds = i64::try_from(at.0 / 1000).unwrap_or(i64::MAX);
    Time(jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX))
}

/// The same point as the planner counts it; before 1970 is zero.
pub fn timestamp(at: &Time) -> Timestamp {
    Timestamp(u64::try_from(at.0.as_millisecond()).unwrap_or(0))
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn any_objects(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
    })
}

fn time_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string"},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
                "observedGeneration": {"type": "integer", "format": "int64"},
                "lastTransitionTime": {"type": "string", "format": "date-time"},
                "reason": {"type": "string"},
                "message": {"type": "string"}
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(status: &str, reason: &str, at: u64) -> Condition {
        Condition {
            type_: "Available".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: String::new(),
            observed_generation: Some(1),
            last_transition_time: time(Timestamp(at)),
        }
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let mut status = ClusterStatus::default();
        let mut set = |new: Condition| {
            status.set_condition(new);
            let held = status.condition("Available").expect("set");
            (held.reason.clone(), timestamp(&held.last_transition_time).0)
        };
        assert_eq!(set(condition("True", "Quorum", 1000)), ("Quorum".to_owned(), 1000));
        assert_eq!(set(condition("True", "AllHealthy", 2000)), ("AllHealthy".to_owned(), 1000));
        assert_eq!(set(condition("False", "NoQuorum", 3000)), ("NoQuorum".to_owned(), 3000));
        assert_eq!(status.conditions.len(), 1);
    }

    #[test]
    fn a_status_is_the_same_after_it_was_written_and_read() {
        let mut status = ClusterStatus {
            observed_generation: Some(3),
            cluster_id: Some(ClusterId(0xab)),
            operation: Some(Operation {
                kind: "Replace".to_owned(),
                step: "wait".to_owned(),
                member: Some(MemberId(5)),
                since: time(Timestamp(1_234_567)),
            }),
            ..ClusterStatus::default()
        };
        status.set_condition(condition("True", "Quorum", 1999));
        status.set_record(Record {
            requests: BTreeMap::from([(
                NodeName::from("c-0"),
                ReplaceRequest { member: None, at: Timestamp(7) },
            )]),
            adopted: BTreeSet::from([MemberId(9)]),
            ..Record::default()
        });
        let place = Place { pod: "c-0-abcde".to_owned(), ..Place::default() };
        status.places.insert(NodeName::from("c-0"), place);
        let text = serde_json::to_string(&status).expect("JSON");
        assert_eq!(serde_json::from_str::<ClusterStatus>(&text).expect("read"), status, "{text}");
        assert_eq!(serde_json::from_str::<ClusterStatus>("{}").expect("empty").replicas, 0);
    }

    #[test]
    fn a_record_without_a_founding_does_not_undo_one() {
        let founding = Founding {
            id: crate::cluster::FoundingId(1),
            token: "c".to_owned(),
            nodes: BTreeMap::new(),
            started: BTreeSet::new(),
            cluster: None,
        };
        let mut status =
            ClusterStatus { founding: Some(founding.clone()), ..ClusterStatus::default() };
        let record = status.record();
        assert_eq!(record.founding, Some(founding.clone()));
        status.set_record(Record::default());
        assert_eq!(status.founding, Some(founding));
    }
}
