//! Carries out one step in Kubernetes.
//!
//! Order within a step is always: intent, act. The intent is a write of the status with the version
//! that was read; where somebody else has changed it since, nothing is done (safety 23). What is
//! deleted is named by its uid.

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod};
use kube::api::{
    DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams, Preconditions,
};
use serde_json::{Value, json};

use super::build::StartAs;
use super::place::{DIGEST, MEMBER_ID, ROLE};
use super::status::{ClusterStatus, Place};
use super::{Pods, PodsError, judge, look, random};
use crate::cluster::{
    Founding, FoundingId, MemberId, NodeName, Observed, Process, Role, Timestamp, Wanted,
};
use crate::execute::Outcome;
use crate::execute::change::{self, Change, not_now};
use crate::plan::{RemoveReason, StartNode, Step, StopReason, next_step};
use crate::render::{self, InitialState, NodeConfig};

/// What lasts no longer than this is not told.
const A_MOMENT_MS: u64 = 2_000;
/// A container that ended this long ago is not left to the kubelet's growing pauses.
const BACK_OFF_MS: u64 = 10_000;
/// The same where the data goes with the pod: it has failed several times by then.
const LAST_BACK_OFF_MS: u64 = 60_000;

impl Pods {
    /// Dispatches a step.
    pub(super) async fn act(
        &mut self,
        wanted: &Wanted,
        seen: &Observed,
        step: &Step,
    ) -> Result<Outcome, PodsError> {
        let world = self.read.take();
        if self.rests_on.take().is_some() {
            let is_as_it_was =
                *step == Step::Done && self.report(wanted, seen, step) == *self.status();
            let again = || not_now("what has changed is read again first");
            return Ok(if is_as_it_was { Outcome::Done } else { again() });
        }
        if let Some(world) = world {
            self.keep(wanted, seen, &world).await?;
        }
        if self.object.spec.is_paused() {
            let refusal = self.intend(wanted, seen, step, |_| ()).await?;
            return Ok(refusal.unwrap_or_else(|| not_now("the cluster is paused")));
        }
        if change::is_destructive(step) && self.plan_again(wanted).await? != *step {
            return Ok(not_now("the cluster has changed since this was planned"));
        }
        match step {
            Step::Found { nodes, founding } => {
                self.found(wanted, seen, step, nodes, *founding).await
            }
            Step::Start { nodes } => self.start(wanted, seen, step, nodes).await,
            Step::Remove { member, node, why } => {
                self.remove(wanted, seen, step, (*member, node.as_ref(), *why)).await
            }
            Step::AddLearner { node, peer_url } => {
                let draft = self.drafts.get(node).cloned();
                let settle = |status: &mut ClusterStatus| {
                    if let Some(draft) = draft {
                        status.places.insert(node.clone(), draft);
                    }
                };
                if let Some(refusal) = self.intend(wanted, seen, step, settle).await? {
                    return Ok(refusal);
                }
                self.drafts.remove(node);
                Ok(self.change().add_learner(node, peer_url).await)
            }
            Step::ForgetNode { node, .. } => self.forget(wanted, seen, step, node).await,
            _ if self.is_a_moment(seen, step) => Ok(Outcome::Done),
            _ => {
                if let Some(refusal) = self.intend(wanted, seen, step, |_| ()).await? {
                    return Ok(refusal);
                }
                self.carry_out(seen, step).await
            }
        }
    }

    /// The steps of which nothing has to be remembered but that they were begun.
    async fn carry_out(&mut self, seen: &Observed, step: &Step) -> Result<Outcome, PodsError> {
        match step {
            Step::Stop { node, member, why } => self.stop(seen, node, *member, *why).await,
            Step::MoveLeader { from, to } => {
                let leader = self.endpoint_of(seen, *from);
                Ok(self.change().move_leader(leader, *from, *to).await)
            }
            Step::Promote { member, .. } => Ok(self.change().promote(*member).await),
            Step::UpdatePeerUrls { member, peer_urls, .. } => {
                Ok(self.change().update_peer_urls(*member, peer_urls).await)
            }
            Step::Done => {
                self.prune().await?;
                Ok(Outcome::Done)
            }
            _ => Ok(Outcome::Done),
        }
    }

    async fn remove(
        &mut self,
        wanted: &Wanted,
        seen: &Observed,
        step: &Step,
        (member, node, why): (MemberId, Option<&NodeName>, RemoveReason),
    ) -> Result<Outcome, PodsError> {
        let now = self.clock.steady();
        let note = |status: &mut ClusterStatus| {
            let mut record = status.record();
            change::note_removal(&mut record, node, member, why, now);
            status.set_record(record);
        };
        if let Some(refusal) = self.intend(wanted, seen, step, note).await? {
            return Ok(refusal);
        }
        if let Some(node) = node {
            self.unlabel(node).await?;
        }
        let own = self.endpoint_of(seen, member);
        // Last, so that nothing is waited for between this look and the act.
        if let Err(outcome) = self.change().may_remove(seen, member).await {
            return Ok(outcome);
        }
        Ok(self.change().remove(own.as_ref(), member).await)
    }

    /// Whether all was well until a moment ago and something is waited for: one answer that came
    /// late is not worth telling.
    fn is_a_moment(&mut self, seen: &Observed, step: &Step) -> bool {
        if !matches!(step, Step::Wait { .. }) || self.status().operation.is_some() {
            self.waits_since = None;
            return false;
        }
        let since = *self.waits_since.get_or_insert(seen.now);
        self.status().phase.as_deref() == Some("Ready") && seen.now.since(since) < A_MOMENT_MS
    }

    fn change(&self) -> Change<'_> {
        Change { client: &self.client, endpoints: &self.endpoints }
    }

    /// What would be planned now (safety 6).
    async fn plan_again(&mut self, wanted: &Wanted) -> Result<Step, PodsError> {
        let world = self.look().await?;
        let fresh = self.conclude(wanted, &world);
        Ok(next_step(wanted, &fresh))
    }

    /// Where the node answers clients whose member this is.
    fn endpoint_of(&self, seen: &Observed, member: MemberId) -> Option<String> {
        use crate::cluster::Health;
        let answers =
            |health: &Health| matches!(health, Health::Answers { member: id, .. } if *id == member);
        let node = seen.nodes.iter().find(|(_, node)| answers(&node.health))?.0;
        self.endpoint(node)
    }

    /// Starts founding nodes for the first time; all are recorded before that (safety 1).
    async fn found(
        &mut self,
        wanted: &Wanted,
        seen: &Observed,
        step: &Step,
        nodes: &[NodeName],
        id: Option<FoundingId>,
    ) -> Result<Outcome, PodsError> {
        let mut founding = match (id, self.status().founding.clone()) {
            (Some(id), Some(founding)) if founding.id == id => founding,
            (Some(_), _) => return Ok(not_now("the record holds another founding")),
            (None, Some(founding)) if founding.cluster.is_some() => {
                return Ok(not_now("this cluster was founded before"));
            }
            (None, _) => {
                if let Some(why) = self.is_inhabited().await? {
                    return Ok(not_now(why));
                }
                Founding {
                    id: FoundingId(random()?),
                    token: wanted.token.clone(),
                    nodes: wanted
                        .nodes
                        .iter()
                        .map(|(n, w)| (n.clone(), w.peer_url.clone()))
                        .collect(),
                    started: std::collections::BTreeSet::new(),
                    cluster: None,
                }
            }
        };
        for node in nodes {
            if !founding.started.insert(node.clone()) {
                return Ok(not_now(format!("{node} was started before")));
            }
        }
        let drafts = self.drafts.clone();
        let recorded = founding.clone();
        let record = |status: &mut ClusterStatus| {
            for node in nodes {
                if let Some(draft) = drafts.get(node) {
                    status.places.insert(node.clone(), draft.clone());
                }
                if let Some(place) = status.places.get_mut(node) {
                    place.started = true;
                }
            }
            status.founding = Some(recorded);
        };
        if let Some(refusal) = self.intend(wanted, seen, step, record).await? {
            return Ok(refusal);
        }
        // A pod that is refused, by a quota or a webhook, does not keep the others waiting.
        let mut refused = None;
        for node in nodes {
            self.drafts.remove(node);
            let config = self.founding_config(wanted, &founding, node);
            let start = StartAs { founding: Some(founding.id), ..StartAs::default() };
            if let Err(error) = self.create(node, config, start, false).await {
                refused.get_or_insert(error);
            }
        }
        refused.map_or(Ok(Outcome::Done), Err)
    }

    /// Why a founding could take somebody's data for none; `None` if nothing speaks against it.
    async fn is_inhabited(&self) -> Result<Option<String>, PodsError> {
        let world = kube::api::ListParams::default().labels(&self.names.selector());
        let pods = self.api::<Pod>().list(&world).await.map_err(PodsError::api("list pods"))?;
        if let Some(pod) = pods.items.first() {
            let name = pod.metadata.name.clone().unwrap_or_default();
            return Ok(Some(format!("the pod {name} is still there")));
        }
        let claims = self.api::<PersistentVolumeClaim>().list(&world).await;
        let claims = claims.map_err(PodsError::api("list volumes"))?;
        let held = claims.items.iter().find(|claim| judge::identity(claim).is_some());
        Ok(held.map(|claim| {
            format!("the volume {} holds data", claim.metadata.name.clone().unwrap_or_default())
        }))
    }

    /// The founding's own list, not the spec's: the spec may have changed since.
    fn founding_config(&self, wanted: &Wanted, founding: &Founding, node: &NodeName) -> NodeConfig {
        let mut config = render::node_config(&self.with_own(wanted, node), &[], node, "");
        config.initial_cluster =
            founding.nodes.iter().map(|(n, url)| (n.0.clone(), url.clone())).collect();
        config.initial_cluster_state = InitialState::New;
        config.initial_cluster_token.clone_from(&founding.token);
        config
    }

    /// What is wanted, and a node that is wanted no more but still counts until it is removed.
    fn with_own(&self, wanted: &Wanted, node: &NodeName) -> Wanted {
        let mut all = wanted.clone();
        if let Some(place) = self.place(node) {
            let at = || self.names.at(&self.object.spec, &place.pod);
            all.nodes.entry(node.clone()).or_insert_with(at);
        }
        all
    }

    async fn start(
        &mut self,
        wanted: &Wanted,
        seen: &Observed,
        step: &Step,
        nodes: &[StartNode],
    ) -> Result<Outcome, PodsError> {
        let members = seen.members.known().map_or(&[][..], |list| &list.members);
        let is_new_voter = |id: MemberId| {
            members.iter().any(|m| m.id == id && m.role == Role::Voter && !m.is_started())
        };
        let drafts = self.drafts.clone();
        let record = |status: &mut ClusterStatus| {
            for StartNode { node, member, .. } in nodes {
                if let Some(draft) = drafts.get(node) {
                    status.places.insert(node.clone(), draft.clone());
                }
                if let Some(place) = status.places.get_mut(node) {
                    place.started = true;
                    place.member = Some(*member);
                }
                // It may vote before it can say that it has run.
                if is_new_voter(*member) {
                    status.adopted.insert(*member);
                }
            }
        };
        if let Some(refusal) = self.intend(wanted, seen, step, record).await? {
            return Ok(refusal);
        }
        let mut outcome = not_now("the kubelet starts these again");
        let mut refused = None;
        for StartNode { node, member, replaces } in nodes {
            self.drafts.remove(node);
            let founding = self.status().founding.clone();
            let at_barrier = founding.as_ref().filter(|f| {
                f.cluster.is_none() && f.started.contains(node) && seen.members.known().is_none()
            });
            let (config, start) = if let Some(founding) = at_barrier {
                let start = StartAs { founding: Some(founding.id), ..StartAs::default() };
                (self.founding_config(wanted, founding, node), start)
            } else {
                let mut config =
                    render::node_config(&self.with_own(wanted, node), members, node, "");
                config.initial_cluster_state = InitialState::Existing;
                let replaces = match replaces {
                    Some(id) => Some(*id),
                    None => self.held_by_another(node, *member).await?,
                };
                let founding = founding.map(|f| f.id);
                (config, StartAs { founding, member: Some(*member), replaces })
            };
            match self.create(node, config, start, seen.members.known().is_some()).await {
                Ok(true) => outcome = Outcome::Done,
                Ok(false) => {}
                Err(error) => {
                    refused.get_or_insert(error);
                }
            }
        }
        refused.map_or(Ok(outcome), Err)
    }

    /// The member whose data was last seen on a node's volume, if it is another one.
    async fn held_by_another(
        &self,
        node: &NodeName,
        member: MemberId,
    ) -> Result<Option<MemberId>, PodsError> {
        let Some(volume) = self.place(node).and_then(|p| p.volume.clone()) else { return Ok(None) };
        let claim = self.api::<PersistentVolumeClaim>().get_opt(&volume).await;
        let claim = claim.map_err(PodsError::api("read a volume"))?;
        let held = claim.as_ref().and_then(judge::identity).map(|id| id.member);
        Ok(held.filter(|id| *id != member))
    }

    /// Makes a node's volume, configuration and pod, unless they are there. False if there is a
    /// pod that has to go first, or that starts by itself.
    async fn create(
        &mut self,
        node: &NodeName,
        config: NodeConfig,
        start: StartAs,
        has_quorum: bool,
    ) -> Result<bool, PodsError> {
        let Some(place) = self.status().places.get(node).cloned() else { return Ok(false) };
        let config = self.plans().config(config);
        let found = self.api::<Pod>().get_opt(&place.pod).await;
        if let Some(pod) = found.map_err(PodsError::api("read a pod"))? {
            self.make_way(&pod, &place, &config, start, has_quorum).await?;
            return Ok(false);
        }
        let founding = self.status().founding.clone();
        let claim = self.plans().volume(node, &place, &self.token(), founding.as_ref())?;
        if let Some(claim) = claim {
            self.make::<PersistentVolumeClaim>(&claim, "create a volume").await?;
        }
        let map = self.plans().config_map(&place, &config)?;
        self.make::<ConfigMap>(&map, "create a configuration").await?;
        let map = map.metadata.name.unwrap_or_default();
        let pod = self.plans().pod(node, &place, &config, &map, start)?;
        self.make(&pod, "create a pod").await?;
        self.is_dirty = true;
        Ok(true)
    }

    /// A pod that would not become what is wanted goes; one that the kubelet has started again, or
    /// is about to, stays. Where the data lies in the pod itself it goes only while the
    /// others serve without it, for another configuration or if it fails again and again.
    async fn make_way(
        &mut self,
        pod: &Pod,
        place: &Place,
        config: &NodeConfig,
        start: StartAs,
        has_quorum: bool,
    ) -> Result<(), PodsError> {
        if judge::runs(pod) {
            return Ok(());
        }
        let noted = |key| pod.metadata.annotations.as_ref().and_then(|a| a.get(key));
        let is_other = noted(DIGEST) != Some(&self.plans().digest(config));
        let args =
            pod.spec.iter().flat_map(|s| &s.containers).flat_map(|c| c.args.iter().flatten());
        let told: Vec<_> = args.cloned().collect();
        // A container that starts again is told what its pod bears (`QUORATE_HAS_RUN`).
        let has_run = noted(MEMBER_ID).is_some();
        let expected = start.member.filter(|id| noted(MEMBER_ID) != Some(&id.to_string()));
        let expected = expected.map(|id| format!("--expect-member={id}"));
        let replaces = start.replaces.map(|id| format!("--replaces={id}"));
        let is_told = [expected, replaces].into_iter().flatten().all(|arg| told.contains(&arg));
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        let holds_data = place.volume.is_none() && has_run && phase != Some("Failed");
        if holds_data && !has_quorum {
            return Ok(());
        }
        let now = self.clock.now();
        let shown = judge::pod(Some(pod), None, None, now);
        let pause = if holds_data { LAST_BACK_OFF_MS } else { BACK_OFF_MS };
        let is_late =
            shown.ended_at.is_some_and(|at| phase == Some("Failed") || now.since(at) > pause);
        if is_other || !is_told && !holds_data || is_late {
            self.delete_pod(pod).await?;
        }
        Ok(())
    }

    /// Makes what is not there. A quota that is used up refuses even to make what is. It is
    /// listed by its name, which the rights of an operator installed before allow.
    async fn make<K>(&mut self, object: &K, action: &'static str) -> Result<(), PodsError>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + serde::de::DeserializeOwned
            + serde::Serialize
            + Clone
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let name = object.meta().name.clone().unwrap_or_default();
        let of_that_name = ListParams::default().fields(&format!("metadata.name={name}"));
        let found = self.api::<K>().list(&of_that_name).await;
        if !found.map_err(PodsError::api("look for what is there"))?.items.is_empty() {
            return Ok(());
        }
        let made = self.api::<K>().create(&PostParams::default(), object).await;
        self.writes.count();
        match made {
            Ok(_) => Ok(()),
            // Another 409, as of a quota that many want at once, has made nothing.
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
            Err(e) => Err(PodsError::api(action)(e)),
        }
    }

    /// Deletes this very pod, with its grace period.
    pub(super) async fn delete_pod(&mut self, pod: &Pod) -> Result<(), PodsError> {
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let name = pod.metadata.name.clone().unwrap_or_default();
        let gone = self.api::<Pod>().delete(&name, &only(pod)).await;
        self.writes.count();
        match gone {
            Ok(_) => Ok(()),
            // Gone already, or another one of that name.
            Err(e) if is_code(&e, 404) || is_code(&e, 409) => Ok(()),
            Err(e) => Err(PodsError::api("delete a pod")(e)),
        }
    }

    async fn stop(
        &mut self,
        seen: &Observed,
        node: &NodeName,
        member: Option<MemberId>,
        why: StopReason,
    ) -> Result<Outcome, PodsError> {
        let Some(place) = self.status().places.get(node).cloned() else { return Ok(Outcome::Done) };
        let found = self.api::<Pod>().get_opt(&place.pod).await;
        let Some(pod) = found.map_err(PodsError::api("read a pod"))? else {
            return Ok(Outcome::Done);
        };
        let runs = self.member_of(&place);
        if let (Some(expected), Some(runs)) = (member, runs)
            && expected != runs
        {
            return Ok(not_now(format!("{node} runs member {runs}, not {expected}")));
        }
        if why == StopReason::Unfounded
            && let Some(refusal) = may_have_founded(node, &pod, self.clock.now()).await
        {
            return Ok(refusal);
        }
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Done);
        }
        let has_run = pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MEMBER_ID));
        if why == StopReason::Silent
            && place.volume.is_none()
            && has_run
            && seen.members.known().is_none()
        {
            return Ok(not_now(format!("{node} has its data in its pod, which is not deleted")));
        }
        // The budget of a lone voter forbids any eviction; its restart was announced (safety 14).
        let voters = seen
            .members
            .known()
            .map_or(0, |list| list.members.iter().filter(|m| m.role == Role::Voter).count());
        if why != StopReason::Restart || voters == 1 {
            self.delete_pod(&pod).await?;
            return Ok(Outcome::Done);
        }
        let evict = EvictParams { delete_options: Some(only(&pod)), ..EvictParams::default() };
        let evicted = self.api::<Pod>().evict(&place.pod, &evict).await;
        self.writes.count();
        match evicted {
            Ok(_) => Ok(Outcome::Done),
            Err(e) if is_code(&e, 404) => Ok(Outcome::Done),
            Err(e) if is_code(&e, 429) || is_code(&e, 409) => {
                Ok(not_now(format!("{} cannot be evicted now: {e}", place.pod)))
            }
            Err(e) => Err(PodsError::api("evict a pod")(e)),
        }
    }

    async fn forget(
        &mut self,
        wanted: &Wanted,
        seen: &Observed,
        step: &Step,
        node: &NodeName,
    ) -> Result<Outcome, PodsError> {
        if let Some(place) = self.status().places.get(node).cloned() {
            let found = self.api::<Pod>().get_opt(&place.pod).await;
            if let Some(pod) = found.map_err(PodsError::api("read a pod"))? {
                self.delete_pod(&pod).await?;
                return Ok(not_now(format!("the pod {} is still there", place.pod)));
            }
        }
        let forget = |status: &mut ClusterStatus| {
            status.places.remove(node);
            status.requests.remove(node);
        };
        if let Some(refusal) = self.intend(wanted, seen, step, forget).await? {
            return Ok(refusal);
        }
        self.is_dirty = true;
        Ok(Outcome::Done)
    }

    /// Takes a member off the disruption budget before it is removed: it counts no more.
    async fn unlabel(&mut self, node: &NodeName) -> Result<(), PodsError> {
        let Some(place) = self.status().places.get(node).cloned() else { return Ok(()) };
        self.mark(&place, json!({"labels": {ROLE: "learner"}})).await
    }

    /// Says on a pod what its member is.
    pub(super) async fn mark(&mut self, place: &Place, marks: Value) -> Result<(), PodsError> {
        let patch = json!({"metadata": marks});
        let patched = self
            .api::<Pod>()
            .patch(&place.pod, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        self.writes.count();
        match patched {
            Ok(_) => Ok(()),
            Err(e) if is_code(&e, 404) => Ok(()),
            Err(e) => Err(PodsError::api("label a pod")(e)),
        }
    }
}

/// Why a founding node is not stopped: its engine runs, or it cannot be asked whether it does.
async fn may_have_founded(node: &NodeName, pod: &Pod, now: Timestamp) -> Option<Outcome> {
    let word = match look::address(pod) {
        Some(address) => look::ask_word(&address).await,
        None => None,
    };
    match judge::pod(Some(pod), word.as_ref(), None, now).process {
        // What runs and does not answer may be past the barrier.
        Process::Running { .. } => Some(not_now(format!("{node} may have left the barrier"))),
        Process::Stopped | Process::Preparing | Process::Unknown(_) => None,
    }
}

/// Deletes only the object that was looked at.
pub(super) fn only<K: kube::ResourceExt>(object: &K) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions { uid: object.uid(), resource_version: None }),
        ..DeleteParams::default()
    }
}

pub(super) fn is_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
