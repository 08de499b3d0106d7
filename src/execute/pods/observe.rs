//! From what was read to what the planner may know: whose place each node has, and what is
//! concluded about a volume that nobody can look into.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;

use super::judge::{self, Shown};
use super::look::World;
use super::place::{DIGEST, draw};
use super::status::Place;
use super::{Pods, PodsError, random};
use crate::cluster::spec::{Storage, UpdateStrategy};
use crate::cluster::{
    Disk, Health, Identity, MemberId, NodeName, NodeSeen, Observed, Phase, Process, Timestamp,
    Wanted, WantedNode, founding_member_id,
};
use crate::render;

/// A pod that should have been gone for this long is on a machine that does not answer.
const UNREACHABLE_MS: u64 = 10_000;

impl Pods {
    /// Reads the world, decides where each node is or will be, and resolves the spec with that.
    ///
    /// # Errors
    ///
    /// [`PodsError`]; a spec that cannot be resolved is [`PodsError::Spec`].
    pub async fn wanted(&mut self) -> Result<Wanted, PodsError> {
        if self.rests_on.is_none() {
            self.settle_spec()?;
        }
        let world = self.look().await?;
        self.recall(&world).await?;
        self.draft_places(&world)?;
        self.fresh = Some(world);
        let file = self.object.file_form();
        let places: BTreeMap<NodeName, WantedNode> = file
            .node_names()
            .into_iter()
            .filter_map(|node| {
                let at = self.names.at(&self.object.spec, &self.place(&node)?.pod);
                Some((node, at))
            })
            .collect();
        let mut wanted = file.resolve_at(&places)?;
        wanted.token = self.token();
        Ok(wanted)
    }

    /// The token: as it was founded with, as given, else one that no other resource of this name
    /// ever had (safety 4).
    pub(super) fn token(&self) -> String {
        if let Some(founding) = &self.status().founding {
            return founding.token.clone();
        }
        self.object.spec.token.clone().unwrap_or_else(|| {
            let uid = self.object.metadata.uid.as_deref().unwrap_or_default();
            let short: String = uid.chars().filter(|c| *c != '-').take(8).collect();
            format!("{}-{short}", self.names.cluster)
        })
    }

    /// A node's place: the one it is to get, or the one it has.
    pub(super) fn place(&self, node: &NodeName) -> Option<&Place> {
        self.drafts.get(node).or_else(|| self.status().places.get(node))
    }

    /// Draws a place for each wanted node that has none, or whose member is gone from the list
    /// and whose pod is gone too, or out of reach. Nothing is written down yet.
    fn draft_places(&mut self, world: &World) -> Result<(), PodsError> {
        let keeps = matches!(self.object.spec.storage(), Storage::Volume(_));
        for node in self.object.file_form().node_names() {
            let Some(place) = self.status().places.get(&node).cloned() else {
                if !self.drafts.contains_key(&node) {
                    self.drafts.insert(node.clone(), draw(&node, random()?, None, keeps));
                }
                continue;
            };
            if !self.is_retired(&place, world) {
                self.drafts.remove(&node);
                continue;
            }
            // Used again where it lives and nothing else can still write to it.
            let is_gone = !world.pods.contains_key(&place.pod);
            let volume = place.volume.clone().filter(|name| is_gone && world.claim(name).is_some());
            let is_stale = |draft: &Place| {
                let reuses = draft.volume.as_ref().is_some_and(|v| *v != draft.pod);
                reuses != volume.is_some()
            };
            if self.drafts.get(&node).is_none_or(is_stale) {
                self.drafts.insert(node.clone(), draw(&node, random()?, volume, keeps));
            }
        }
        Ok(())
    }

    /// Whether a place has served its time: its member is in the list no more.
    pub(super) fn is_over(&self, place: &Place, world: &World) -> bool {
        let Some(list) = world.members.known() else { return false };
        // Whose place it is has to be known: a URL alone may have changed with the spec.
        let Some(own) = self.member_of(place) else { return false };
        let url = self.names.at(&self.object.spec, &place.pod).peer_url;
        place.started && list.members.iter().all(|m| m.id != own && !m.peer_urls.contains(&url))
    }

    fn is_retired(&self, place: &Place, world: &World) -> bool {
        let is_gone = || world.pods.get(&place.pod).is_none_or(|pod| is_overdue(pod, world.now));
        self.is_over(place, world) && (is_gone() || is_stranded(place, world))
    }

    /// The member that a place was started for: as written down, or as the founding makes it.
    pub(super) fn member_of(&self, place: &Place) -> Option<MemberId> {
        let url = self.names.at(&self.object.spec, &place.pod).peer_url;
        place.member.or_else(|| {
            let founding = self.status().founding.as_ref()?;
            let founds = founding.nodes.values().any(|it| *it == url);
            founds.then(|| founding_member_id([url.as_str()], &founding.token))
        })
    }

    /// The whole observation, from a reading.
    pub(super) fn conclude(&mut self, wanted: &Wanted, world: &World) -> Observed {
        let now = world.steady;
        let lead = world.statuses.values().map(|s| s.raft_index).max().unwrap_or(0);
        let names: BTreeSet<NodeName> =
            wanted.nodes.keys().chain(self.status().places.keys()).cloned().collect();
        let mut nodes = BTreeMap::new();
        for name in names {
            let Some(place) = self.place(&name).cloned() else { continue };
            let drafted = self.drafts.contains_key(&name);
            let shown = world.shown.get(&name).filter(|_| !drafted).cloned();
            let shown = shown.unwrap_or_else(|| judge::pod(None, None, None, world.now));
            let process = self.process(&name, &place, &shown, world);
            let status = world.statuses.get(&name).filter(|_| !drafted);
            let health = self.memory.health(&process, status, lead, now);
            if world.excused.contains(&name) {
                self.memory.excuse(&name, now);
            }
            let quorum_answers = world.members.known().is_some();
            let word = world.words.get(&name).filter(|_| !drafted);
            let read = word.map_or(0, |it| it.read_mib);
            let since = self.memory.note(&name, &process, read, health, quorum_answers, now);
            let seen =
                self.node_seen(wanted, &name, &place, (process, since, health), &shown, world);
            nodes.insert(name, seen);
        }
        self.held_back = if self.is_only_copy() {
            let mut places = self.status().places.iter();
            let held = places.find(|(name, place)| self.is_other(wanted, name, place, world));
            held.map(|(name, _)| name.clone())
        } else {
            None
        };
        let first_seen = self.memory.list(world.members.known(), now);
        let record = self.status().record();
        Observed { now, record, members: world.members.clone(), first_seen, nodes }
    }

    /// A pod that waits for a volume which is gone will never be more than that. One whose member
    /// is in the list no more has to be gone, not only ended, before its node can join anew: until
    /// then the place is taken. What a pod shows whose machine is out of reach is what it was when
    /// that was last heard.
    fn process(&self, name: &NodeName, place: &Place, shown: &Shown, world: &World) -> Process {
        let is_lost = place.volume.as_ref().is_some_and(|v| world.claim(v).is_none());
        let is_waiting = shown.process == Process::Preparing
            && world.pods.get(&place.pod).is_some_and(judge::is_unscheduled);
        let is_taken = world.pods.contains_key(&place.pod) && self.is_over(place, world);
        // With its machine, whatever its pod still seems to be.
        if is_stranded(place, world) {
            return Process::Stopped;
        }
        let pod = world.pods.get(&place.pod);
        if !world.words.contains_key(name) && pod.is_some_and(|pod| is_overdue(pod, world.now)) {
            // It can neither be stopped nor started. A member's is silent, whatever it was doing.
            return if is_taken {
                Process::Unknown(format!("the machine of pod {} does not answer", place.pod))
            } else {
                Process::Running { supervised: true }
            };
        }
        match &shown.process {
            Process::Stopped if is_taken => Process::Preparing,
            Process::Preparing if is_lost && is_waiting && !is_taken => Process::Stopped,
            process => process.clone(),
        }
    }

    fn node_seen(
        &mut self,
        wanted: &Wanted,
        name: &NodeName,
        place: &Place,
        (process, since, health): (Process, crate::execute::memory::Since, Health),
        shown: &Shown,
        world: &World,
    ) -> NodeSeen {
        let drafted = self.drafts.contains_key(name);
        let word = world.words.get(name).filter(|_| !drafted);
        let runs = matches!(process, Process::Running { .. });
        let volume_lost = place.volume.as_ref().is_some_and(|v| world.claim(v).is_none());
        let exit = match &process {
            Process::Stopped | Process::Running { .. } => shown.exit.clone(),
            Process::Preparing | Process::Unknown(_) => None,
        };
        let exit = exit.map(|it| self.memory.dated(name, it, world.now, world.steady));
        NodeSeen {
            process_since: since.process,
            unhealthy_since: since.unhealthy,
            stamp: self.stamp(name, place, word.and_then(|w| w.stamp.clone()), world),
            // The kubelet starts it again.
            promised: None,
            disk: self.disk(name, place, &process, shown, world),
            data_gone: runs && (volume_lost || word.is_some_and(|w| w.data_gone)),
            peer_url: place.started.then(|| self.names.at(&self.object.spec, &place.pod).peer_url),
            outdated: !drafted && self.is_outdated(wanted, name, place, runs, world),
            exit,
            process,
            health,
        }
    }

    /// Whose place this is: as the node says, or said when it was last heard; a member that is to
    /// run here, once its cluster is known to have been founded.
    fn stamp(
        &self,
        name: &NodeName,
        place: &Place,
        word: Option<Identity>,
        world: &World,
    ) -> Option<Identity> {
        let noted = || judge::identity(world.claims.get(place.volume.as_ref()?)?);
        let is_founded = self.status().founding.as_ref().is_some_and(|f| f.cluster.is_some());
        let former = || self.status().places.get(name).and_then(|old| self.identity_of(old));
        let started = || if place.started { self.identity_of(place) } else { former() };
        word.or_else(noted).or_else(|| started().filter(|_| is_founded))
    }

    fn identity_of(&self, place: &Place) -> Option<Identity> {
        let founding = self.status().founding.as_ref()?;
        let cluster = founding.cluster.unwrap_or_else(|| founding.cluster_id());
        Some(Identity { cluster, member: self.member_of(place)?, founding: Some(founding.id) })
    }

    /// What a node's volume holds. Nobody can look into one while its node does not run: then it
    /// is taken to hold what was last written to it, and the node that is started from that says
    /// if it does not (its exit tells what it found instead).
    fn disk(
        &self,
        name: &NodeName,
        place: &Place,
        process: &Process,
        shown: &Shown,
        world: &World,
    ) -> Disk {
        let word = world.words.get(name).filter(|_| !self.drafts.contains_key(name));
        let claim = place.volume.as_ref().and_then(|v| world.claim(v));
        let noted = claim.and_then(judge::identity);
        let founded = self.status().founding.as_ref().is_some_and(|f| f.cluster.is_some());
        match process {
            Process::Running { .. } => {
                let stamp = word.and_then(|w| w.stamp.clone()).or_else(|| self.identity_of(place));
                stamp.map_or_else(
                    || Disk::Unknown(format!("{} does not say whose data it has", place.pod)),
                    Disk::Holds,
                )
            }
            Process::Preparing if word.is_some_and(|w| w.phase == Phase::Barrier) => Disk::Empty,
            Process::Preparing if !founded => noted.map_or(Disk::Empty, Disk::Holds),
            Process::Preparing => {
                self.expected(place, noted, world).map_or(Disk::Empty, Disk::Holds)
            }
            Process::Unknown(why) => Disk::Unknown(why.clone()),
            Process::Stopped => {
                let told = shown.last_word.as_ref().and_then(|w| w.disk.clone());
                if let Some(disk) = told.filter(|disk| founded || *disk != Disk::Empty) {
                    return disk;
                }
                // Until the cluster is known to be founded, what is not there may not have been
                // made yet. Its node then waits at the barrier, where those with data end it.
                let gone = founded
                    && match &place.volume {
                        Some(_) => place.started && claim.is_none(),
                        // What lies in the pod itself goes with it.
                        None => !world.pods.contains_key(&place.pod),
                    };
                let held = self.expected(place, noted, world).filter(|_| !gone);
                held.map_or(Disk::Empty, Disk::Holds)
            }
        }
    }

    /// What a volume is taken to hold: what was noted on it, or what its member must have written
    /// if it ever ran.
    fn expected(&self, place: &Place, noted: Option<Identity>, world: &World) -> Option<Identity> {
        if let Some(noted) = noted {
            return Some(noted);
        }
        let own = self.identity_of(place).filter(|_| place.started)?;
        let Some(list) = world.members.known() else { return Some(own) };
        let entry = list.members.iter().find(|m| m.id == own.member);
        entry.is_none_or(crate::cluster::Member::is_started).then_some(own)
    }

    fn is_outdated(
        &self,
        wanted: &Wanted,
        name: &NodeName,
        place: &Place,
        runs: bool,
        world: &World,
    ) -> bool {
        let on_delete = self.object.spec.update_strategy() == UpdateStrategy::OnDelete;
        let is_kept = runs && (on_delete || self.is_only_copy());
        !is_kept && self.is_other(wanted, name, place, world)
    }

    /// Whether a node's pod is not what would be made now.
    fn is_other(&self, wanted: &Wanted, name: &NodeName, place: &Place, world: &World) -> bool {
        let Some(pod) = world.pods.get(&place.pod) else { return false };
        if !wanted.nodes.contains_key(name) {
            return false;
        }
        let config = render::node_config(wanted, &[], name, "");
        let digest = self.plans().digest(&self.plans().config(config));
        let made_from = pod.metadata.annotations.as_ref().and_then(|a| a.get(DIGEST));
        made_from != Some(&digest)
    }

    /// Whether the data of the whole cluster lies in a single pod, and would go with it.
    fn is_only_copy(&self) -> bool {
        let status = self.status();
        let keeps_none = status.places.values().all(|place| place.volume.is_none());
        keeps_none && status.founding.is_some() && status.voting_members <= 1
    }

    /// Where a node's clients reach it from here.
    pub(super) fn endpoint(&self, node: &NodeName) -> Option<String> {
        self.addresses.get(node).cloned()
    }
}

/// Whether a pod should have been gone for a while.
fn is_overdue(pod: &Pod, now: Timestamp) -> bool {
    let until = pod.metadata.deletion_timestamp.as_ref();
    until.is_some_and(|at| now.since(judge::millis(&at.0)) > UNREACHABLE_MS)
}

/// Whether a place's volume is on a machine that is gone.
fn is_stranded(place: &Place, world: &World) -> bool {
    place.volume.as_ref().is_some_and(|volume| world.stranded.contains(volume))
}
