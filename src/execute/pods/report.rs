//! What the status says of an observation and of the step planned on it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::PostParams;

use super::act::is_code;
use super::judge;
use super::look::World;
use super::resource::ClusterObject;
use super::status::{Blocked, ClusterStatus, MemberStatus, Operation, time};
use super::{Pods, PodsError};
use crate::cluster::spec::SpecError;
use crate::cluster::{
    Health, Member, MemberId, NodeName, NodeSeen, Observed, Process, Role, Wanted, quorum,
};
use crate::execute::Outcome;
use crate::execute::change::not_now;
use crate::plan::{RemoveReason, Step, StopReason, Waiting, member_of, simulate};

/// The spec says what cannot be done: so it stands in the status and in an event.
pub const SPEC_REFUSED: &str = "SpecRefused";
/// How many steps ahead the status tells.
const AHEAD: usize = 12;

impl Pods {
    /// Writes down what is seen and what is about to be done, if that is not what stands there,
    /// after `record` has put into it what must be remembered. `Some` if somebody else has
    /// changed the resource since it was read: then nothing may be done.
    pub(super) async fn intend(
        &mut self,
        wanted: &Wanted,
        seen: &Observed,
        step: &Step,
        record: impl FnOnce(&mut ClusterStatus),
    ) -> Result<Option<Outcome>, PodsError> {
        let mut status = self.report(wanted, seen, step);
        record(&mut status);
        self.write_status(status).await
    }

    /// Replaces the status as it was read.
    pub(super) async fn write_status(
        &mut self,
        status: ClusterStatus,
    ) -> Result<Option<Outcome>, PodsError> {
        if self.object.status.as_ref() == Some(&status) {
            return Ok(None);
        }
        let object = ClusterObject { status: Some(status), ..self.object.clone() };
        let api = self.api::<ClusterObject>();
        let written =
            api.replace_status(&self.names.cluster, &PostParams::default(), &object).await;
        self.writes.count();
        match written {
            Ok(object) => {
                self.take(object);
                Ok(None)
            }
            Err(e) if is_code(&e, 409) || is_code(&e, 404) => {
                Ok(Some(not_now("somebody else has changed the cluster's resource meanwhile")))
            }
            Err(e) => Err(PodsError::api("write the status")(e)),
        }
    }

    /// Says in the status that the spec cannot be followed, where none before it could: then
    /// nothing is done.
    ///
    /// # Errors
    ///
    /// [`PodsError::Api`].
    pub async fn refuse(&mut self, error: &SpecError) -> Result<(), PodsError> {
        let mut status = self.status().clone();
        status.observed_generation = self.object.metadata.generation;
        status.phase = Some("Blocked".to_owned());
        status.operation = None;
        let blocked = spec_refused(error);
        let message = format!("{}; {}", blocked.message, blocked.unblock);
        status.blocked = Some(blocked);
        status.set_condition(Condition {
            type_: "Degraded".to_owned(),
            status: "True".to_owned(),
            reason: SPEC_REFUSED.to_owned(),
            message,
            observed_generation: self.object.metadata.generation,
            last_transition_time: time(self.clock.now()),
        });
        // Whoever has changed it meanwhile has another spec, which is looked at next.
        self.write_status(status).await.map(drop)
    }

    pub(super) fn report(&self, wanted: &Wanted, seen: &Observed, step: &Step) -> ClusterStatus {
        let mut status = self.status().clone();
        let list = seen.members.known();
        let is_current = status.observed_generation == self.object.metadata.generation;
        status.observed_generation = self.object.metadata.generation;
        status.cluster_id = status.founding.as_ref().and_then(|f| f.cluster).or(status.cluster_id);
        status.replicas = u32::try_from(seen.nodes.len()).unwrap_or(u32::MAX);
        status.selector = self.names.selector();
        status.members = self.members(wanted, seen);
        let is_ready = |m: &&MemberStatus| m.role == Some(Role::Voter) && m.health == "Healthy";
        let ready = status.members.iter().filter(is_ready).count();
        status.ready_replicas = u32::try_from(ready).unwrap_or(u32::MAX);
        if let Some(list) = list {
            let voters = list.members.iter().filter(|m| m.role == Role::Voter).count();
            status.voting_members = u32::try_from(voters).unwrap_or(u32::MAX);
        }
        let leads = list.and_then(|l| l.leader);
        status.leader =
            status.members.iter().find(|m| m.id.is_some() && m.id == leads).map(|m| m.name.clone());
        let versions = self.figures.values().map(|f| f.status.version.clone());
        status.current_version = versions.min().or(status.current_version);
        let now = time(seen.now);
        status.blocked = match step {
            Step::Blocked { why } => Some(Blocked {
                reason: why.reason.to_owned(),
                message: why.what.clone(),
                unblock: why.unblock.clone(),
            }),
            _ => self.refused.as_ref().map(spec_refused),
        };
        let kind = operation(step);
        let text = self.sentence(step);
        status.operation = kind.map(|(kind, member)| {
            let same = status.operation.as_ref().filter(|o| o.kind == kind && o.member == member);
            Operation {
                kind: kind.to_owned(),
                step: text,
                member,
                since: same.map_or_else(|| now.clone(), |o| o.since.clone()),
            }
        });
        // Told anew when something begins or ends, not with each word of a sentence.
        let was = self.status().operation.as_ref().map(|o| &o.kind);
        if !is_current || was != status.operation.as_ref().map(|o| &o.kind) {
            let ahead = simulate(wanted, seen, AHEAD);
            let steps = ahead.iter().map(|planned| planned.step.to_string());
            status.plan = steps.filter(|step| step != "done").collect();
        }
        let is_paused = self.object.spec.is_paused();
        status.phase = Some(phase(&status, step, is_paused).to_owned());
        let unmet = self.unmet();
        for (kind, is_true, reason, message) in conditions(&status, seen, step, is_paused, unmet) {
            status.set_condition(Condition {
                type_: kind.to_owned(),
                status: if is_true { "True" } else { "False" }.to_owned(),
                reason: reason.to_owned(),
                message,
                observed_generation: self.object.metadata.generation,
                last_transition_time: now.clone(),
            });
        }
        status
    }

    /// What the spec asks for and no step can bring about: in one word, and in a sentence.
    fn unmet(&self) -> Option<(&'static str, String)> {
        let of_version = || {
            let wanted = self.object.spec.version()?;
            let (node, other) = self.figures.iter().find(|(_, f)| f.status.version != wanted)?;
            let runs = &other.status.version;
            let what = format!(
                "{node} runs {runs} and spec.version is {wanted}: name the image that has it"
            );
            Some(("OtherVersion", what))
        };
        let of_copy = || {
            let node = self.held_back.as_ref()?;
            let what = format!(
                "{node} runs as it was before the last change: the only copy of the data would go \
                 with its pod; scale to 3 first"
            );
            Some(("OnlyCopy", what))
        };
        let of_volume = || {
            let mut volumes = self.status().places.values().filter_map(|p| p.volume.as_ref());
            let (volume, (size, why)) = volumes.find_map(|v| self.cannot_grow.get_key_value(v))?;
            Some(("VolumeTooSmall", format!("{volume} cannot be made {size} large: {why}")))
        };
        of_version().or_else(of_copy).or_else(of_volume)
    }

    /// A step as a tired person reads it, with what Kubernetes says of the pods it waits for.
    pub(super) fn sentence(&self, step: &Step) -> String {
        let waits = matches!(step, Step::Wait { .. });
        let details = self.details.iter().filter(|_| waits);
        let details: Vec<_> = details.map(|(node, what)| format!("{node}: {what}")).collect();
        let mut text = step.to_string();
        if !details.is_empty() {
            text = format!("{text} ({})", details.join("; "));
        }
        text
    }

    fn members(&self, wanted: &Wanted, seen: &Observed) -> Vec<MemberStatus> {
        let list = seen.members.known();
        let entry = |id: Option<MemberId>| -> Option<&Member> {
            list?.members.iter().find(|m| Some(m.id) == id)
        };
        seen.nodes
            .iter()
            .map(|(name, node)| {
                let id = member_of(wanted, seen, name);
                let place = self.place(name);
                MemberStatus {
                    name: name.clone(),
                    id,
                    incarnation: self.incarnations.get(name).copied(),
                    role: entry(id).map(|m| m.role),
                    health: health(node).to_owned(),
                    version: self.figures.get(name).map(|f| f.status.version.clone()),
                    pod: place.filter(|p| p.started).map(|p| p.pod.clone()),
                    volume: place.filter(|p| p.started).and_then(|p| p.volume.clone()),
                }
            })
            .collect()
    }

    /// Takes note of which incarnation each node runs.
    pub(super) fn note_incarnations(&mut self, world: &World) {
        for (node, place) in &self.status().places.clone() {
            let told = world.words.get(node).and_then(|w| w.incarnation);
            let noted = || judge::incarnation(world.claims.get(place.volume.as_ref()?)?);
            match told.or_else(noted) {
                Some(incarnation) => drop(self.incarnations.insert(node.clone(), incarnation)),
                None => drop(self.incarnations.remove(node)),
            }
        }
    }
}

fn spec_refused(error: &SpecError) -> Blocked {
    let message = if error.path.is_empty() {
        error.what.clone()
    } else {
        format!("{}: {}", error.path, error.what)
    };
    Blocked { reason: SPEC_REFUSED.to_owned(), message, unblock: error.fix.clone() }
}

fn health(node: &NodeSeen) -> &'static str {
    match (&node.process, node.health) {
        (Process::Running { .. }, _) if node.data_gone => "DataGone",
        (Process::Running { .. }, Health::Answers { has_leader: true, .. }) => "Healthy",
        (Process::Running { .. }, Health::Answers { .. }) => "NoLeader",
        (Process::Running { .. }, _) => "Silent",
        (Process::Preparing, _) => "Starting",
        (Process::Stopped, _) => "Stopped",
        (Process::Unknown(_), _) => "Unknown",
    }
}

/// What is under way, in one word, and the member it is about.
fn operation(step: &Step) -> Option<(&'static str, Option<MemberId>)> {
    Some(match step {
        Step::Found { .. } => ("Founding", None),
        Step::Start { nodes } => ("Starting", nodes.first().map(|n| n.member)),
        Step::Stop { member, why, .. } => match why {
            StopReason::Restart => ("Rolling", *member),
            StopReason::Retired | StopReason::Unfounded | StopReason::Silent => {
                ("Stopping", *member)
            }
        },
        Step::MoveLeader { from, .. } => ("MovingLeader", Some(*from)),
        Step::Remove { member, why, .. } => match why {
            RemoveReason::Replace(_) | RemoveReason::NoProgress => ("Replacing", Some(*member)),
            RemoveReason::Unwanted | RemoveReason::ForeignUnstarted => ("Removing", Some(*member)),
        },
        Step::AddLearner { .. } => ("Joining", None),
        Step::Promote { member, .. } => ("Promoting", Some(*member)),
        Step::UpdatePeerUrls { member, .. } => ("Moving", Some(*member)),
        Step::ForgetNode { .. } => ("ForgettingNode", None),
        Step::Wait { what, .. } => match what {
            Waiting::Starting(_) | Waiting::Retry { .. } => ("Starting", None),
            Waiting::CatchUp(member) => ("CatchingUp", Some(*member)),
            Waiting::Quorum(_) => ("WaitingForQuorum", None),
            Waiting::Unknown(_) => ("Looking", None),
            Waiting::Dwell { .. } => ("Dwelling", None),
            Waiting::HealthyVoters(_) => ("WaitingForVoters", None),
            Waiting::ForeignMember(member) => ("WaitingForMember", Some(*member)),
        },
        Step::Blocked { .. } | Step::Done => return None,
    })
}

fn is_available(status: &ClusterStatus, seen: &Observed) -> bool {
    seen.members.known().is_some()
        && usize::try_from(status.ready_replicas).unwrap_or(0)
            >= quorum(usize::try_from(status.voting_members).unwrap_or(0))
}

fn phase(status: &ClusterStatus, step: &Step, is_paused: bool) -> &'static str {
    match step {
        _ if is_paused => "Paused",
        Step::Blocked { why } if why.reason == "RecoveryRequired" => "RecoveryRequired",
        Step::Blocked { .. } => "Blocked",
        Step::Done if status.blocked.is_some() => "Blocked",
        Step::Done => "Ready",
        _ if status.founding.as_ref().is_none_or(|f| f.cluster.is_none()) => "Founding",
        _ => "Progressing",
    }
}

type Said = (&'static str, bool, &'static str, String);

fn conditions(
    status: &ClusterStatus,
    seen: &Observed,
    step: &Step,
    is_paused: bool,
    unmet: Option<(&'static str, String)>,
) -> [Said; 5] {
    let available = is_available(status, seen);
    let why = match &seen.members {
        crate::cluster::Answer::Known(_) => {
            format!("{} of {} voters are healthy", status.ready_replicas, status.voting_members)
        }
        crate::cluster::Answer::Unknown(why) | crate::cluster::Answer::Refused(why) => why.clone(),
    };
    let is_done = *step == Step::Done;
    let blocked = status.blocked.as_ref();
    let progressing = !is_done && !matches!(step, Step::Blocked { .. }) && !is_paused;
    let under_way = status.operation.as_ref().map(|o| o.step.clone()).unwrap_or_default();
    let ill: Vec<NodeName> =
        status.members.iter().filter(|m| m.health != "Healthy").map(|m| m.name.clone()).collect();
    let degraded = !ill.is_empty() || blocked.is_some() || unmet.is_some();
    let names: Vec<_> = ill.iter().map(ToString::to_string).collect();
    let of_blocked = |b: &Blocked| format!("{}; {}", b.message, b.unblock);
    let recovery = blocked.filter(|b| b.reason == "RecoveryRequired");
    [
        ("Available", available, if available { "Quorum" } else { "NoQuorum" }, why),
        (
            "Progressing",
            progressing,
            if blocked.is_some() && !progressing {
                "Blocked"
            } else if is_done {
                "AsWanted"
            } else {
                "UnderWay"
            },
            under_way,
        ),
        (
            "Degraded",
            degraded,
            match (blocked, &unmet) {
                (Some(blocked), _) if blocked.reason == SPEC_REFUSED => SPEC_REFUSED,
                (Some(_), _) => "Blocked",
                (None, _) if !ill.is_empty() => "NotHealthy",
                (None, Some((reason, _))) => reason,
                (None, None) => "AllHealthy",
            },
            match (blocked, unmet) {
                (Some(blocked), _) => of_blocked(blocked),
                (None, Some((_, what))) if ill.is_empty() => what,
                (None, _) => names.join(", "),
            },
        ),
        (
            "Paused",
            is_paused,
            if is_paused { "Asked" } else { "NotAsked" },
            if is_paused {
                "spec.paused is set: nothing is changed".to_owned()
            } else {
                String::new()
            },
        ),
        (
            "RecoveryRequired",
            recovery.is_some(),
            if recovery.is_some() { "QuorumLost" } else { "NotRequired" },
            recovery.map(of_blocked).unwrap_or_default(),
        ),
    ]
}
