//! Bookkeeping beside the steps: what must be there for pods to run, what is written on them, and
//! what nothing refers to any more. None of it changes who is a member or what runs.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ListParams, Patch, PatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::act::{is_code, only};
use super::judge;
use super::look::{World, node_of};
use super::place::{
    CLUSTER_ID, FOUNDING_ID, FOUNDING_NODES, INCARNATION, MEMBER_ID, PLACE, ROLE, SET_ASIDE, TOKEN,
};
use super::resource::ClusterObject;
use super::status::{ClusterStatus, Place};
use super::{Pods, PodsError, asked};
use crate::cluster::spec::{Storage, quantity_bytes};
use crate::cluster::{
    Founding, FoundingId, NodeName, Observed, Process, ReplaceRequest, Role, Timestamp, Wanted,
};
use crate::execute::change;
use crate::plan::member_of;

/// On the resource: the node whose member a person wants replaced.
pub const REPLACE: &str = "quorate.dev/replace";
/// Our name as an applier of fields.
const MANAGER: &str = "quorate";
/// How often what nobody should touch is looked at.
const LOOK_EVERY_MS: u64 = 60_000;

impl Pods {
    /// What has to be as it should be before anything is planned.
    pub(super) async fn keep(
        &mut self,
        wanted: &Wanted,
        seen: &Observed,
        world: &World,
    ) -> Result<(), PodsError> {
        self.note_incarnations(world);
        if self.object.spec.is_paused() {
            return Ok(());
        }
        self.keep_record(wanted, seen).await?;
        self.keep_surroundings(seen).await?;
        self.keep_marks(seen, world).await?;
        self.keep_volumes(world).await?;
        self.sweep_pods(seen, world).await
    }

    /// Latches the cluster's ID, and takes up what a person asked for.
    async fn keep_record(&mut self, wanted: &Wanted, seen: &Observed) -> Result<(), PodsError> {
        let mut status = self.status().clone();
        let mut record = status.record();
        change::latch(&mut record, seen.members.known());
        let asked = self.object.metadata.annotations.as_ref().and_then(|a| a.get(REPLACE)).cloned();
        if let Some(node) = asked.clone().map(NodeName)
            && seen.nodes.contains_key(&node)
        {
            let member = member_of(wanted, seen, &node);
            record.requests.insert(node, ReplaceRequest { member, at: seen.now });
        }
        status.set_record(record);
        self.name_founders(&mut status);
        let is_written = self.write_status(status).await?.is_none();
        if asked.is_some() && is_written {
            let patch = json!({"metadata": {"annotations": {REPLACE: Value::Null}}});
            let api = self.api::<ClusterObject>();
            let name = self.names.cluster.clone();
            let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
            self.writes.count();
            self.take(patched.map_err(PodsError::api("take up a request"))?);
        }
        Ok(())
    }

    /// A founding member's ID follows from its URL. It is written down as soon as the cluster is
    /// known to be founded, so that it no longer rests on what the URL would be today.
    fn name_founders(&self, status: &mut ClusterStatus) {
        if status.founding.as_ref().is_none_or(|f| f.cluster.is_none()) {
            return;
        }
        for place in status.places.values_mut() {
            if place.started && place.member.is_none() {
                place.member = self.member_of(place);
            }
        }
    }

    /// Services, account and budget; looked at when something that they rest on has changed, and
    /// now and then.
    async fn keep_surroundings(&mut self, seen: &Observed) -> Result<(), PodsError> {
        let voters = seen
            .members
            .known()
            .map_or(0, |list| list.members.iter().filter(|m| m.role == Role::Voter).count());
        let rests_on = (self.object.metadata.generation, voters);
        let is_due = self.kept.is_none_or(|(on, at): (_, Timestamp)| {
            on != rests_on || seen.now.since(at) > LOOK_EVERY_MS
        });
        if !is_due {
            return Ok(());
        }
        let (peers, clients, account) =
            (self.plans().peers()?, self.plans().clients()?, self.plans().account()?);
        self.ensure::<ServiceAccount>(&self.names.account(), &account).await?;
        self.ensure::<Service>(&self.names.peers(), &peers).await?;
        self.ensure::<Service>(&self.names.clients(), &clients).await?;
        let name = self.names.cluster.clone();
        if self.object.spec.wants_disruption_budget() {
            let budget = self.plans().budget(voters)?;
            self.ensure::<PodDisruptionBudget>(&name, &budget).await?;
        } else {
            self.remove_budget(&name).await?;
        }
        self.kept = Some((rests_on, seen.now));
        Ok(())
    }

    async fn remove_budget(&mut self, name: &str) -> Result<(), PodsError> {
        let api = self.api::<PodDisruptionBudget>();
        let found = api.get_opt(name).await.map_err(PodsError::api("read the budget"))?;
        if let Some(budget) = found {
            api.delete(name, &only(&budget)).await.map_err(PodsError::api("delete the budget"))?;
            self.writes.count();
        }
        Ok(())
    }

    /// Applies an object unless all that we say of it is so already.
    async fn ensure<K>(&mut self, name: &str, object: &K) -> Result<(), PodsError>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + DeserializeOwned
            + Serialize
            + Clone
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let live = asked(|| api.get_opt(name)).await;
        let live = live.map_err(PodsError::api("read what pods rest on"))?;
        let wanted = serde_json::to_value(object).unwrap_or_default();
        let live = serde_json::to_value(live).unwrap_or_default();
        if is_covered(&wanted, &live) {
            return Ok(());
        }
        let patch = PatchParams::apply(MANAGER).force();
        let applied = api.patch(name, &patch, &Patch::Apply(object)).await;
        self.writes.count();
        applied.map_err(PodsError::api("apply what pods rest on"))?;
        Ok(())
    }

    /// The budget counts those that the list and their own word call voters; and a container that
    /// starts again is told which member has run in its pod, lest it be made anew on a volume that
    /// was emptied, stamp and all (safety 1).
    async fn keep_marks(&mut self, seen: &Observed, world: &World) -> Result<(), PodsError> {
        let Some(list) = seen.members.known() else { return Ok(()) };
        for (node, place) in self.status().places.clone() {
            let Some(pod) = world.pods.get(&place.pod) else { continue };
            let own = self.member_of(&place);
            let votes = list.members.iter().any(|m| Some(m.id) == own && m.role == Role::Voter);
            let role = if votes { "voter" } else { "learner" };
            let stamp = world.words.get(&node).and_then(|word| word.stamp.as_ref());
            let ran = stamp.filter(|it| Some(it.member) == own).map(|it| it.member.to_string());
            let has = |of: &Option<BTreeMap<String, String>>, key: &str| {
                of.as_ref().and_then(|it| it.get(key)).cloned()
            };
            let is_said = ran.is_none() || has(&pod.metadata.annotations, MEMBER_ID) == ran;
            if has(&pod.metadata.labels, ROLE).is_none_or(|is| is != role) || !is_said {
                let mut marks = json!({"labels": {ROLE: role}});
                if let Some(ran) = ran {
                    marks["annotations"] = json!({MEMBER_ID: ran});
                }
                self.mark(&place, marks).await?;
            }
        }
        Ok(())
    }

    /// Writes on each volume whose data it holds, as its node says.
    async fn keep_volumes(&mut self, world: &World) -> Result<(), PodsError> {
        for (node, place) in self.status().places.clone() {
            let Some(claim) = place.volume.as_ref().and_then(|v| world.claims.get(v)) else {
                continue;
            };
            self.grow(claim).await?;
            let word = world.words.get(&node);
            let Some((word, stamp)) = word.and_then(|w| Some((w, w.stamp.clone()?))) else {
                continue;
            };
            let mut notes = BTreeMap::from([
                (PLACE, place.pod.clone()),
                (TOKEN, self.token()),
                (CLUSTER_ID, stamp.cluster.to_string()),
                (MEMBER_ID, stamp.member.to_string()),
            ]);
            notes.extend(word.incarnation.map(|id| (INCARNATION, id.to_string())));
            notes.extend(stamp.founding.map(|id| (FOUNDING_ID, id.to_string())));
            let has = claim.metadata.annotations.clone().unwrap_or_default();
            if notes.iter().all(|(key, value)| has.get(*key) == Some(value)) {
                continue;
            }
            let name = place.volume.clone().unwrap_or_default();
            self.annotate(&name, json!(notes)).await?;
        }
        Ok(())
    }

    /// Asks for a larger volume where the spec does; the storage class may refuse, and says so
    /// itself on the claim.
    async fn grow(&mut self, claim: &PersistentVolumeClaim) -> Result<(), PodsError> {
        let Storage::Volume(wanted) = self.object.spec.storage() else { return Ok(()) };
        let requests = claim.spec.as_ref().and_then(|s| s.resources.as_ref()?.requests.as_ref());
        let has = requests.and_then(|r| quantity_bytes(&r.get("storage")?.0));
        let wants = quantity_bytes(&wanted.size);
        let (Some(has), Some(wants)) = (has, wants) else { return Ok(()) };
        let name = claim.metadata.name.clone().unwrap_or_default();
        if wants <= has {
            self.cannot_grow.remove(&name);
            return Ok(());
        }
        if self.cannot_grow.get(&name).is_some_and(|(size, _)| *size == wanted.size) {
            return Ok(());
        }
        let patch = json!({"spec": {"resources": {"requests": {"storage": wanted.size}}}});
        let api = self.api::<PersistentVolumeClaim>();
        let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
        self.writes.count();
        match patched {
            Ok(_) => {}
            // Its class cannot: asked once, and not again until the spec says another size.
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 422) => {
                tracing::warn!(volume = name, "it cannot be made larger: {}", status.message);
                self.cannot_grow.insert(name, (wanted.size, status.message));
            }
            Err(e) => return Err(PodsError::api("make a volume larger")(e)),
        }
        Ok(())
    }

    async fn annotate(&mut self, volume: &str, notes: Value) -> Result<(), PodsError> {
        let patch = json!({"metadata": {"annotations": notes}});
        let api = self.api::<PersistentVolumeClaim>();
        let patched = api.patch(volume, &PatchParams::default(), &Patch::Merge(patch)).await;
        self.writes.count();
        match patched {
            Ok(_) => Ok(()),
            Err(e) if is_code(&e, 404) => Ok(()),
            Err(e) => Err(PodsError::api("write on a volume")(e)),
        }
    }

    /// Pods that no place has any more, and those whose member is in the list no more once they
    /// have ended: nothing of the cluster runs in them.
    async fn sweep_pods(&mut self, seen: &Observed, world: &World) -> Result<(), PodsError> {
        if seen.members.known().is_none() {
            return Ok(());
        }
        let places = self.status().places.clone();
        let in_use: BTreeSet<_> = places.values().map(|place| &place.pod).collect();
        let strays: Vec<_> = world.pods.iter().filter(|(name, _)| !in_use.contains(name)).collect();
        // One that another operator has just made is in the status that it wrote before.
        if !strays.is_empty() && self.is_current().await? {
            for (_, pod) in strays {
                self.delete_pod(pod).await?;
            }
        }
        for (node, place) in &places {
            let ended = world.shown.get(node).is_some_and(|s| s.process == Process::Stopped);
            if let Some(pod) = world.pods.get(&place.pod)
                && ended
                && self.is_over(place, world)
            {
                self.delete_pod(pod).await?;
            }
        }
        Ok(())
    }

    /// Whether nobody has changed the resource since it was read or written here.
    async fn is_current(&self) -> Result<bool, PodsError> {
        let live = self.api::<ClusterObject>().get_opt(&self.names.cluster).await;
        let live = live.map_err(PodsError::api("read the cluster"))?;
        Ok(live.is_some_and(|live| {
            live.metadata.resource_version == self.object.metadata.resource_version
        }))
    }

    /// Once all is as wanted: drops configurations that no pod uses, and of the volumes that no
    /// place uses all but the newest of each node, kept for undo.
    pub(super) async fn prune(&mut self) -> Result<(), PodsError> {
        // What is unused by an old status may be in use by the present one.
        if !self.is_dirty || !self.is_current().await? {
            return Ok(());
        }
        let ours = ListParams::default().labels(&self.names.selector());
        let pods = self.api::<Pod>().list(&ours).await.map_err(PodsError::api("list pods"))?;
        let used: BTreeSet<String> = pods.items.iter().flat_map(configurations).collect();
        let maps = self.api::<ConfigMap>();
        let listed = maps.list(&ours).await.map_err(PodsError::api("list configurations"))?;
        for map in listed.items {
            let name = map.metadata.name.clone().unwrap_or_default();
            if !used.contains(&name) {
                let gone = maps.delete(&name, &only(&map)).await;
                self.writes.count();
                gone.map_err(PodsError::api("delete a configuration"))?;
            }
        }
        self.prune_volumes(&ours).await?;
        self.is_dirty = false;
        Ok(())
    }

    async fn prune_volumes(&mut self, ours: &ListParams) -> Result<(), PodsError> {
        let claims = self.api::<PersistentVolumeClaim>();
        let listed = claims.list(ours).await.map_err(PodsError::api("list volumes"))?;
        let in_use: BTreeSet<_> =
            self.status().places.values().filter_map(|p| p.volume.clone()).collect();
        let mut aside: BTreeMap<NodeName, Vec<(Timestamp, PersistentVolumeClaim)>> =
            BTreeMap::new();
        for claim in listed.items {
            let name = claim.metadata.name.clone().unwrap_or_default();
            let Some(node) = node_of(&claim) else { continue };
            if in_use.contains(&name) || claim.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let notes = claim.metadata.annotations.as_ref();
            let noted = notes.and_then(|a| a.get(SET_ASIDE)?.parse().ok());
            let since = noted.map_or_else(|| self.clock.now(), Timestamp);
            if noted.is_none() {
                self.annotate(&name, json!({SET_ASIDE: since.0.to_string()})).await?;
            }
            aside.entry(node).or_default().push((since, claim));
        }
        let keep = self.object.spec.remediation.as_ref().and_then(|r| r.keep_aside).unwrap_or(1);
        let keep = usize::try_from(keep.max(1)).unwrap_or(usize::MAX);
        for mut of_node in aside.into_values() {
            of_node.sort_by_key(|(since, _)| std::cmp::Reverse(*since));
            for (_, claim) in of_node.into_iter().skip(keep) {
                let name = claim.metadata.name.clone().unwrap_or_default();
                let gone = claims.delete(&name, &only(&claim)).await;
                self.writes.count();
                gone.map_err(PodsError::api("delete a volume that was set aside"))?;
            }
        }
        Ok(())
    }

    /// A resource without a record, whose name has volumes from before: what they say is taken up
    /// again, and nothing is founded (safety 4).
    pub(super) async fn recall(&mut self, world: &World) -> Result<(), PodsError> {
        if self.status().founding.is_some() || world.claims.is_empty() {
            return Ok(());
        }
        let Some((founding, places)) = remembered(world) else { return Ok(()) };
        let mut status = self.status().clone();
        status.founding = Some(founding);
        status.places = places;
        self.write_status(status).await?;
        Ok(())
    }
}

/// What the volumes of a cluster remember of it: how it was founded, and where each node was. Of
/// several volumes of one node the one that was not set aside counts.
fn remembered(world: &World) -> Option<(Founding, BTreeMap<NodeName, Place>)> {
    let note = |claim: &PersistentVolumeClaim, key: &str| {
        claim.metadata.annotations.as_ref()?.get(key).cloned()
    };
    let mut places = BTreeMap::new();
    let mut founding: Option<Founding> = None;
    for (name, claim) in world.claims.iter() {
        if note(claim, SET_ASIDE).is_some() || claim.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let (Some(node), Some(pod)) = (node_of(claim), note(claim, PLACE)) else { continue };
        let Some(id) = note(claim, FOUNDING_ID).and_then(|id| id.parse::<FoundingId>().ok()) else {
            continue;
        };
        let held = judge::identity(claim);
        let (volume, member) = (Some(name.clone()), held.as_ref().map(|it| it.member));
        let place = Place { pod, volume, member, started: true };
        places.insert(node.clone(), place);
        let founding = founding.get_or_insert_with(|| Founding {
            id,
            token: note(claim, TOKEN).unwrap_or_default(),
            nodes: note(claim, FOUNDING_NODES)
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default(),
            started: BTreeSet::new(),
            cluster: None,
        });
        founding.started.insert(node);
        founding.cluster = founding.cluster.or(held.map(|it| it.cluster));
    }
    Some((founding?, places))
}

/// The configurations that a pod reads.
fn configurations(pod: &Pod) -> Vec<String> {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let sources = containers.flat_map(|c| c.env_from.iter().flatten());
    sources.filter_map(|s| Some(s.config_map_ref.as_ref()?.name.clone())).collect()
}

/// Whether everything that is wanted of an object is so in the live one, which may say more.
fn is_covered(wanted: &Value, live: &Value) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted.iter().all(|(key, value)| {
            live.get(key).map_or(value.is_null(), |live| is_covered(value, live))
        }),
        (Value::Array(wanted), Value::Array(live)) => {
            wanted.len() == live.len()
                && wanted.iter().zip(live).all(|(wanted, live)| is_covered(wanted, live))
        }
        (wanted, live) => wanted == live,
    }
}
