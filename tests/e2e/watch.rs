//! Watches what the operator does, and notes each act that could cost the cluster its quorum or
//! its data. What the test itself breaks is told here first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use quorate::cluster::quorum;
use quorate::execute::pods::resource::ClusterObject;
use quorate::execute::pods::status::ClusterStatus;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const CLUSTER: &str = "quorate.dev/cluster";
const ROLE: &str = "quorate.dev/role";

/// Whether the kubelet calls a pod ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|it| it.conditions.iter().flatten());
    conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True")
}

/// The watcher of one namespace.
pub(crate) struct Watch {
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

struct Seen {
    begun: Instant,
    pods: BTreeMap<String, Pod>,
    volumes: BTreeMap<String, PersistentVolumeClaim>,
    clusters: BTreeMap<String, ClusterStatus>,
    /// Pods and volumes that the test itself takes away, by uid.
    by_test: BTreeSet<String>,
    /// The test deletes the cluster: all may go.
    is_ending: bool,
    story: Vec<(Instant, String)>,
    faults: Vec<String>,
}

impl Watch {
    /// Begins to watch a namespace.
    pub(crate) fn begin(kube: &Client, namespace: &str) -> Watch {
        let seen = Arc::new(Mutex::new(Seen {
            begun: Instant::now(),
            pods: BTreeMap::new(),
            volumes: BTreeMap::new(),
            clusters: BTreeMap::new(),
            by_test: BTreeSet::new(),
            is_ending: false,
            story: Vec::new(),
            faults: Vec::new(),
        }));
        let ours = watcher::Config::default().labels(CLUSTER);
        let all = watcher::Config::default();
        let tasks = vec![
            tokio::spawn(follow(kube, namespace, ours.clone(), Arc::clone(&seen), Seen::pod)),
            tokio::spawn(follow(kube, namespace, ours, Arc::clone(&seen), Seen::volume)),
            tokio::spawn(follow(kube, namespace, all, Arc::clone(&seen), Seen::cluster)),
        ];
        Watch { seen, tasks }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The test itself takes this object away.
    pub(crate) fn by_test(&self, uid: Option<String>) {
        self.seen().by_test.extend(uid);
    }

    /// The test deletes the whole cluster, or (`false`) makes it anew.
    pub(crate) fn is_ending(&self, is: bool) {
        self.seen().is_ending = is;
    }

    /// The test does something, which the story is to tell.
    pub(crate) fn note(&self, what: &str) {
        self.seen().tell(format!("TEST {what}"));
    }

    /// What was done against the rules.
    pub(crate) fn faults(&self) -> Vec<String> {
        self.seen().faults.clone()
    }

    /// When the first line with this word was told after `since`.
    pub(crate) fn first(&self, since: Instant, word: &str) -> Option<Instant> {
        let seen = self.seen();
        seen.story.iter().find(|(at, line)| *at >= since && line.contains(word)).map(|it| it.0)
    }

    /// All that happened, with times from the beginning.
    pub(crate) fn story(&self) -> String {
        let seen = self.seen();
        let line = |(at, line): &(Instant, String)| {
            format!("{:8.2} {line}\n", at.duration_since(seen.begun).as_secs_f64())
        };
        seen.story.iter().map(line).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Tells `take` of each object that is new or has changed, and whether it is gone.
fn follow<K>(
    kube: &Client,
    namespace: &str,
    config: watcher::Config,
    seen: Arc<Mutex<Seen>>,
    take: fn(&mut Seen, K, bool),
) -> impl Future<Output = ()> + Send + use<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + 'static,
    K::DynamicType: Default + Send + Sync,
{
    let api = Api::<K>::namespaced(kube.clone(), namespace);
    let mut events = watcher(api, config).boxed();
    async move {
        while let Some(event) = events.next().await {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => {
                    take(&mut seen, object, false);
                }
                Ok(Event::Delete(object)) => take(&mut seen, object, true),
                Ok(Event::Init | Event::InitDone) => {}
                Err(error) => seen.tell(format!("the watch broke: {error}")),
            }
        }
    }
}

impl Seen {
    fn tell(&mut self, line: String) {
        self.story.push((Instant::now(), line));
    }

    fn fault(&mut self, line: String) {
        self.tell(format!("FAULT {line}"));
        self.faults.push(line);
    }

    fn is_by_test(&self, uid: Option<String>) -> bool {
        self.is_ending || uid.is_some_and(|uid| self.by_test.contains(&uid))
    }

    fn pod(&mut self, pod: Pod, is_gone: bool) {
        let name = pod.name_any();
        let old = self.pods.get(&name).filter(|old| old.uid() == pod.uid()).cloned();
        let ends = pod.metadata.deletion_timestamp.is_some();
        let ended = old.as_ref().is_some_and(|it| it.metadata.deletion_timestamp.is_some());
        let was_ready = old.as_ref().is_some_and(is_ready);
        if old.is_none() {
            self.tell(format!("pod {name} made"));
        }
        if is_ready(&pod) != was_ready && !is_gone {
            self.tell(format!("pod {name} {}", if was_ready { "not ready" } else { "ready" }));
        }
        if (ends || is_gone) && !ended {
            self.tell(format!("pod {name} ends"));
            let votes =
                old.as_ref().and_then(|it| it.labels().get(ROLE)).is_some_and(|it| it == "voter");
            if votes && was_ready && !self.is_by_test(pod.uid()) {
                self.judge_end(&pod);
            }
        }
        if is_gone {
            self.tell(format!("pod {name} gone"));
            self.pods.remove(&name);
        } else {
            self.pods.insert(name, pod);
        }
    }

    /// The operator ends a healthy voter: the others must be a quorum.
    fn judge_end(&mut self, pod: &Pod) {
        let Some(cluster) = pod.labels().get(CLUSTER).cloned() else { return };
        let status = self.clusters.get(&cluster).cloned().unwrap_or_default();
        let voters = usize::try_from(status.voting_members).unwrap_or(0);
        let name = pod.name_any();
        // The operator asks members themselves, and knows it before the kubelet.
        let is_well = |other: &Pod| {
            let place = Some(other.name_any());
            let told = status.members.iter().any(|m| m.pod == place && m.health == "Healthy");
            is_ready(other) || told
        };
        let others = self.pods.values().filter(|other| {
            other.name_any() != name
                && other.labels().get(CLUSTER) == Some(&cluster)
                && other.labels().get(ROLE).is_some_and(|role| role == "voter")
        });
        let (ending, living): (Vec<&Pod>, Vec<&Pod>) =
            others.partition(|other| other.metadata.deletion_timestamp.is_some());
        let well = living.iter().filter(|other| is_well(other)).count();
        let ending: Vec<_> = ending
            .iter()
            .filter(|other| is_ready(other) && !self.is_by_test(other.uid()))
            .map(|other| other.name_any())
            .collect();
        if voters > 1 && well < quorum(voters) {
            self.fault(format!("{name} is ended while {well} of {voters} voters are well"));
        }
        if !ending.is_empty() {
            self.fault(format!("{name} is ended while {ending:?} are ending"));
        }
    }

    fn volume(&mut self, volume: PersistentVolumeClaim, is_gone: bool) {
        let name = volume.name_any();
        let ended = self
            .volumes
            .get(&name)
            .is_some_and(|it| it.uid() == volume.uid() && it.metadata.deletion_timestamp.is_some());
        let ends = volume.metadata.deletion_timestamp.is_some() || is_gone;
        if ends && !ended {
            self.tell(format!("volume {name} ends"));
            let holder = self
                .clusters
                .values()
                .flat_map(|it| &it.members)
                .find(|m| m.id.is_some() && m.volume.as_ref() == Some(&name));
            if let Some(member) = holder.map(|it| it.name.clone())
                && !self.is_by_test(volume.uid())
            {
                self.fault(format!("the volume {name} of the member on {member} is deleted"));
            }
        }
        if is_gone {
            self.volumes.remove(&name);
        } else {
            self.volumes.insert(name, volume);
        }
    }

    fn cluster(&mut self, cluster: ClusterObject, is_gone: bool) {
        let name = cluster.name_any();
        if is_gone {
            self.tell(format!("cluster {name} gone"));
            self.clusters.remove(&name);
            return;
        }
        let status = cluster.status.unwrap_or_default();
        let old = self.clusters.get(&name).cloned().unwrap_or_default();
        let step =
            |it: &ClusterStatus| it.operation.as_ref().map(|o| format!("{}: {}", o.kind, o.step));
        if step(&status) != step(&old) || status.phase != old.phase {
            let word = step(&status).unwrap_or_else(|| "no operation".to_owned());
            self.tell(format!("{name} {}; {word}", status.phase.as_deref().unwrap_or("new")));
        }
        if status.blocked != old.blocked
            && let Some(why) = &status.blocked
        {
            self.tell(format!("{name} blocked: {}: {}; {}", why.reason, why.message, why.unblock));
        }
        let health = |it: &ClusterStatus| -> Vec<String> {
            it.members.iter().map(|m| format!("{}={}", m.name, m.health)).collect()
        };
        if health(&status) != health(&old) {
            self.tell(format!("{name} members {}", health(&status).join(" ")));
        }
        if old.cluster_id.is_some() && status.cluster_id != old.cluster_id {
            self.fault(format!(
                "{name} was cluster {:?}, is {:?}",
                old.cluster_id, status.cluster_id
            ));
        }
        let founding = |it: &ClusterStatus| it.founding.as_ref().map(|f| f.id);
        if old.cluster_id.is_some() && founding(&status) != founding(&old) {
            self.fault(format!("{name} is founded a second time"));
        }
        self.clusters.insert(name, status);
    }
}
