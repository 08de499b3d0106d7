//! What a pod and a volume, as the API server shows them, say of a node. Pure.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, PersistentVolumeClaim, Pod};

use super::place::{CLUSTER_ID, CONTAINER, FOUNDING_ID, INCARNATION, MEMBER_ID};
use crate::cluster::{
    Exit, ExitKind, Identity, Incarnation, MemberId, NodeWord, Phase, Process, Timestamp,
};

/// Reasons of a waiting container that only another spec mends.
const HOPELESS: &[&str] = &[
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

/// A container that has run for less than this may not answer yet.
const YOUNG_MS: u64 = 3_000;

/// What a pod shows.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) process: Process,
    /// How it last ended, in its own words if it left some.
    pub(super) exit: Option<Exit>,
    /// Its last words, whole.
    pub(super) last_word: Option<NodeWord>,
    /// What it waits for, in Kubernetes' words, for people.
    pub(super) detail: Option<String>,
    /// When its container last ended, in milliseconds; `None` while it runs.
    pub(super) ended_at: Option<Timestamp>,
}

/// Reads a pod. `word` is what its node says of itself right now, if it answers.
pub(super) fn pod(
    pod: Option<&Pod>,
    word: Option<&NodeWord>,
    member: Option<MemberId>,
    now: Timestamp,
) -> Shown {
    let mut shown = Shown {
        process: Process::Stopped,
        exit: None,
        last_word: None,
        detail: None,
        ended_at: None,
    };
    let Some(pod) = pod else { return shown };
    let status = pod.status.clone().unwrap_or_default();
    if let Some(word) = word {
        shown.process = match word.phase {
            Phase::Preparing | Phase::Barrier => Process::Preparing,
            Phase::Running => Process::Running { supervised: true },
            Phase::Ended => Process::Stopped,
        };
        shown.exit.clone_from(&word.complaint);
        if shown.process != Process::Stopped {
            return shown;
        }
    }
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        let reason = status.reason.unwrap_or_else(|| "it ended".to_owned());
        let detail = format!("{reason}: {}", status.message.unwrap_or_default());
        shown.detail = Some(detail.clone());
        shown.ended_at = Some(now);
        shown.exit = Some(Exit { kind: ExitKind::Killed, member, at: now, detail });
        return shown;
    }
    let inits = status.init_container_statuses.unwrap_or_default();
    let main = status.container_statuses.unwrap_or_default();
    let main = main.iter().find(|c| c.name == CONTAINER);
    if let Some(what) = inits.iter().chain(main).find_map(hopeless) {
        shown.detail = Some(what.clone());
        shown.ended_at = Some(now);
        let detail = format!("the pod {} cannot start: {what}", name(pod));
        shown.exit = Some(Exit { kind: ExitKind::BadConfig, member, at: now, detail });
        return shown;
    }
    let Some(main) = main else {
        shown.process = Process::Preparing;
        shown.detail = unscheduled(pod);
        return shown;
    };
    let state = main.state.clone().unwrap_or_default();
    if let Some(running) = &state.running {
        let since = running.started_at.as_ref().map_or(now, |at| millis(&at.0));
        // It answers nothing: just started, or frozen, or out of reach.
        let is_young = now.since(since) < YOUNG_MS;
        shown.process =
            if is_young { Process::Preparing } else { Process::Running { supervised: true } };
        return shown;
    }
    let ended = ended(&state).or_else(|| main.last_state.as_ref().and_then(ended));
    let Some((at, code, message)) = ended else {
        shown.process = Process::Preparing;
        shown.detail = state.waiting.and_then(|w| w.reason);
        return shown;
    };
    shown.ended_at = Some(at);
    shown.last_word = message.as_deref().and_then(last_word);
    shown.exit = shown.last_word.as_ref().and_then(|word| word.exit.clone()).or_else(|| {
        let known = ExitKind::ALL.into_iter().find(|k| i32::from(k.code()) == code);
        let kind = if code > 128 { ExitKind::Killed } else { known.unwrap_or(ExitKind::Unknown) };
        let detail = match message {
            Some(text) if !text.is_empty() => text,
            _ => format!("the container ended with exit code {code}"),
        };
        Some(Exit { kind, member, at, detail })
    });
    shown.detail = shown.exit.as_ref().map(|e| format!("{}: {}", e.kind, e.detail));
    shown
}

/// Whether its member's container runs.
pub(super) fn runs(pod: &Pod) -> bool {
    let main = pod.status.iter().flat_map(|s| s.container_statuses.iter().flatten());
    let state = main.filter(|c| c.name == CONTAINER).find_map(|c| c.state.as_ref());
    state.is_some_and(|state| state.running.is_some())
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn hopeless(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().filter(|reason| HOPELESS.contains(reason))?;
    let message = waiting.message.as_deref().unwrap_or_default();
    Some(format!("{reason} ({}): {message}", container.image))
}

fn ended(state: &ContainerState) -> Option<(Timestamp, i32, Option<String>)> {
    let ended = state.terminated.as_ref()?;
    let at = ended.finished_at.as_ref().map_or(Timestamp(0), |at| millis(&at.0));
    Some((at, ended.exit_code, ended.message.clone()))
}

/// The node writes one JSON line; what else a container may have said comes before it.
fn last_word(message: &str) -> Option<NodeWord> {
    message.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

fn unscheduled(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let not = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    Some(format!(
        "{}: {}",
        not.reason.as_deref().unwrap_or("Unschedulable"),
        not.message.as_deref().unwrap_or_default()
    ))
}

/// Whether no machine takes the pod at present.
pub(super) fn is_unscheduled(pod: &Pod) -> bool {
    unscheduled(pod).is_some()
}

pub(super) fn millis(at: &k8s_openapi::jiff::Timestamp) -> Timestamp {
    Timestamp(u64::try_from(at.as_millisecond()).unwrap_or_default())
}

/// Whose data a volume holds, as it was last written on it.
pub(super) fn identity(claim: &PersistentVolumeClaim) -> Option<Identity> {
    let of = |key: &str| claim.metadata.annotations.as_ref()?.get(key)?.parse().ok();
    Some(Identity {
        cluster: crate::cluster::ClusterId(hex(claim, CLUSTER_ID)?),
        member: of(MEMBER_ID)?,
        founding: hex(claim, FOUNDING_ID).map(crate::cluster::FoundingId),
    })
}

/// Which incarnation's data a volume holds.
pub(super) fn incarnation(claim: &PersistentVolumeClaim) -> Option<Incarnation> {
    hex(claim, INCARNATION).map(Incarnation)
}

fn hex(claim: &PersistentVolumeClaim, key: &str) -> Option<u64> {
    u64::from_str_radix(claim.metadata.annotations.as_ref()?.get(key)?, 16).ok()
}

/// Whether a volume is gone for good, or about to be: whatever it holds will not be there again.
pub(super) fn is_lost(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|s| s.phase.as_deref());
    claim.metadata.deletion_timestamp.is_some() || phase == Some("Lost")
}
