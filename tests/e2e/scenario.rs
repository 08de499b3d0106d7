//! One scenario: a namespace, a cluster in it, a writer, and the watchers; what it leaves when it
//! fails, and how it is cleaned up.

use std::fs;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use quorate::execute::pods::resource::ClusterObject;
use quorate::execute::pods::status::{ClusterStatus, MemberStatus};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::bed::{Bed, upstream_image};
use super::operator;
use super::promises::Writer;
use super::wait::{seconds, until};
use super::watch::{Watch, is_ready};

/// The name of each scenario's cluster.
pub(crate) const CLUSTER: &str = "c";

/// A scenario that runs.
pub(crate) struct Scenario {
    pub(crate) bed: Bed,
    pub(crate) namespace: String,
    pub(crate) watch: Watch,
    writer: OnceCell<Writer>,
    /// The machine that the writer must run on, because others are to be lost.
    stays: OnceCell<String>,
    /// The Deployment's operator was taken away.
    is_alone: AtomicBool,
    /// The cluster cannot be saved: what its members hold is not compared at the end.
    is_lost: AtomicBool,
}

/// Runs a scenario in a namespace of its own, and checks what must hold of all.
pub(crate) async fn scenario(name: &str, body: impl AsyncFnOnce(&Scenario)) {
    let Some(bed) = Bed::open().await else { return };
    let namespace = format!("quorate-e2e-{name}");
    println!("scenario {name}");
    bed.forget(&namespace).await;
    bed.namespace(&namespace).await;
    let it = Scenario {
        watch: Watch::begin(&bed.kube, &namespace),
        bed,
        namespace,
        writer: OnceCell::new(),
        stays: OnceCell::new(),
        is_alone: AtomicBool::new(false),
        is_lost: AtomicBool::new(false),
    };
    let result = AssertUnwindSafe(async {
        body(&it).await;
        it.holds().await;
    })
    .catch_unwind()
    .await;
    if result.is_err() {
        it.leave(name).await;
    }
    it.watch.is_ending(true);
    it.bring_back_operator().await;
    if result.is_ok() || !Bed::keeps() {
        it.bed.forget(&it.namespace).await;
    }
    if let Err(panic) = result {
        resume_unwind(panic);
    }
}

impl Scenario {
    /// What must hold at the end of all scenarios.
    async fn holds(&self) {
        if let Some(writer) = self.writer.get() {
            let is_lost = self.is_lost.load(Ordering::SeqCst);
            if let Some(cluster) = self.object().await.filter(|_| !is_lost) {
                let members = cluster.spec.replicas.unwrap_or(1);
                writer.verify(usize::try_from(members).unwrap_or(0)).await;
            }
            let report = writer.report().await;
            println!("  member lists (voters+learners): {}", report.lists.join(" "));
            assert!(report.faults.is_empty(), "{:#?}", report.faults);
            assert_eq!(report.clusters.len(), 1, "one cluster: {:?}", report.clusters);
        }
        let faults = self.watch.faults();
        assert!(faults.is_empty(), "against the rules: {faults:#?}");
    }

    /// Writes down all that was seen, for whoever looks for the cause.
    async fn leave(&self, name: &str) {
        let folder = Bed::out().join(name);
        // A folder that cannot be made shows in the writes below.
        let _ = fs::create_dir_all(&folder);
        let mut cluster = json!(self.object().await);
        if let Some(metadata) = cluster["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        let events = self.bed.api("events.k8s.io/v1", "Event", Some(&self.namespace));
        let events = events.list(&ListParams::default()).await.map(|it| it.items);
        let events: Vec<String> = events
            .unwrap_or_default()
            .iter()
            .map(|it| format!("{} {}", it.data["regarding"]["name"], it.data["note"]))
            .collect();
        let yaml = |value: &Value| serde_yaml::to_string(value).unwrap_or_default();
        let log = operator::log(&self.bed).await;
        let log: Vec<_> = log.lines().filter(|line| line.contains(&self.namespace)).collect();
        let mut files = vec![
            ("story.txt", self.watch.story()),
            ("cluster.yaml", yaml(&cluster)),
            ("pods.yaml", yaml(&json!(self.pods().await))),
            ("events.txt", events.join("\n")),
            ("operator.log", log.join("\n")),
        ];
        if let Some(writer) = self.writer.get() {
            files.push(("writer.log", writer.log().await));
        }
        for (file, text) in files {
            fs::write(folder.join(file), text).expect("what was seen can be written down");
        }
        println!("what was seen is in {}", folder.display());
    }

    /// From here on the test itself runs operators, by [`operator::run_once`].
    pub(crate) async fn take_away_operator(&self) {
        self.is_alone.store(true, Ordering::SeqCst);
        operator::scale(&self.bed, 0).await;
    }

    async fn bring_back_operator(&self) {
        if self.is_alone.swap(false, Ordering::SeqCst) {
            operator::remove(&self.bed, operator::DOOMED).await;
            operator::remove(&self.bed, operator::NEXT).await;
            operator::scale(&self.bed, 1).await;
        }
    }

    /// The cluster's data cannot be had back: that is what the scenario is about.
    pub(crate) fn is_lost(&self) {
        self.is_lost.store(true, Ordering::SeqCst);
    }

    /// Keeps the writer on the operator's machine, which the scenario lets live; returns its name.
    pub(crate) async fn stays(&self) -> String {
        let pods = operator::pods(&self.bed).await;
        let machine = pods.iter().find_map(|it| it.spec.as_ref()?.node_name.clone());
        let machine = machine.expect("the operator runs somewhere");
        self.stays.get_or_init(|| async { machine }).await.clone()
    }

    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.bed.kube.clone(), &self.namespace)
    }

    /// Makes the cluster, or changes what is said here of it.
    pub(crate) async fn apply(&self, spec: Value) -> Instant {
        self.apply_as(CLUSTER, spec).await
    }

    /// The same, of a cluster of another name. With `QUORATE_E2E_ENGINE=etcd` it is one of upstream
    /// etcd's members.
    pub(crate) async fn apply_as(&self, name: &str, mut spec: Value) -> Instant {
        if let Some(image) = upstream_image() {
            spec["engine"] = json!("Etcd");
            spec["image"] = json!(image);
        }
        self.watch.note(&format!("apply {name} {spec}"));
        let begun = Instant::now();
        let metadata = json!({"name": name, "namespace": self.namespace});
        let object = json!({"metadata": metadata, "spec": spec});
        self.bed.apply(object, "quorate.dev/v1alpha1", "EtcdCluster").await;
        begun
    }

    /// Applies an object as it is; what the API server refuses it with is the error.
    pub(crate) async fn try_apply(&self, object: Value) -> Result<(), String> {
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        let how = PatchParams::apply("quorate-e2e").force();
        let clusters = self.bed.api("quorate.dev/v1alpha1", "EtcdCluster", Some(&self.namespace));
        let applied = clusters.patch(&name, &how, &Patch::Apply(&object)).await;
        applied.map(drop).map_err(|error| error.to_string())
    }

    /// Changes some fields of the spec.
    pub(crate) async fn patch(&self, spec: Value) -> Instant {
        self.watch.note(&format!("patch {spec}"));
        let begun = Instant::now();
        let patch = Patch::Merge(json!({"spec": spec}));
        let clusters = self.api::<ClusterObject>();
        clusters.patch(CLUSTER, &PatchParams::default(), &patch).await.expect("patched");
        begun
    }

    pub(crate) async fn object(&self) -> Option<ClusterObject> {
        self.object_of(CLUSTER).await
    }

    pub(crate) async fn object_of(&self, name: &str) -> Option<ClusterObject> {
        let clusters = self.api::<ClusterObject>();
        // On a busy machine an answer may come too late.
        until("the API server to answer", seconds(60), async || {
            clusters.get_opt(name).await.map_err(|error| error.to_string())
        })
        .await
        .0
    }

    pub(crate) async fn status(&self) -> ClusterStatus {
        self.object().await.and_then(|it| it.status).unwrap_or_default()
    }

    /// The cluster's pods.
    pub(crate) async fn pods(&self) -> Vec<Pod> {
        self.pods_of(CLUSTER).await
    }

    pub(crate) async fn pods_of(&self, name: &str) -> Vec<Pod> {
        let ours = ListParams::default().labels(&format!("quorate.dev/cluster={name}"));
        let pods = self.api::<Pod>();
        until("the API server to answer", seconds(60), async || {
            pods.list(&ours).await.map(|it| it.items).map_err(|error| error.to_string())
        })
        .await
        .0
    }

    /// The cluster's volumes.
    pub(crate) async fn volumes(&self) -> Vec<PersistentVolumeClaim> {
        let ours = ListParams::default().labels(&format!("quorate.dev/cluster={CLUSTER}"));
        self.api::<PersistentVolumeClaim>().list(&ours).await.expect("volumes").items
    }

    /// A node's member.
    pub(crate) async fn member(&self, node: &str) -> MemberStatus {
        let members = self.status().await.members;
        let found = members.into_iter().find(|m| m.name.0 == node);
        found.unwrap_or_else(|| panic!("no member on {node}"))
    }

    /// The node whose member leads.
    pub(crate) async fn leader(&self) -> String {
        // None is told during an election, which a busy machine may hold at any time.
        let leads = async || self.status().await.leader.ok_or_else(|| "nobody leads".to_owned());
        until("a leader", seconds(60), leads).await.0.0
    }

    /// A node whose member follows: what is lost there costs no election.
    pub(crate) async fn follower(&self) -> String {
        let (members, leader) = (self.status().await.members, self.leader().await);
        let found = members.into_iter().map(|m| m.name.0).find(|name| *name != leader);
        found.expect("a follower")
    }

    /// Waits until a node has another member than this, and all is quiet.
    pub(crate) async fn replaced(&self, old: &MemberStatus) -> MemberStatus {
        self.replaced_within(old, seconds(180)).await
    }

    pub(crate) async fn replaced_within(
        &self,
        old: &MemberStatus,
        within: Duration,
    ) -> MemberStatus {
        until("another member", within, async || {
            let members = self.status().await.members;
            let now = members.into_iter().find(|m| m.name == old.name);
            match now {
                Some(now) if now.id.is_some() && now.id != old.id => {
                    self.settled(3).await.map(|()| now)
                }
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .0
    }

    /// The pod that a node's member runs in.
    pub(crate) async fn pod(&self, node: &str) -> Pod {
        let name = self.member(node).await.pod.expect("a pod");
        self.api::<Pod>().get(&name).await.expect("the pod is there")
    }

    /// Why so many voters are not yet all ready, by the operator's and the kubelets' word; `Ok`
    /// if nothing is under way either.
    pub(crate) async fn settled(&self, voters: u32) -> Result<(), String> {
        self.settled_of(CLUSTER, voters).await
    }

    pub(crate) async fn settled_of(&self, name: &str, voters: u32) -> Result<(), String> {
        let Some(object) = self.object_of(name).await else { return Err("no cluster".to_owned()) };
        let status = object.status.clone().unwrap_or_default();
        let pods = self.pods_of(name).await;
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        let is_so = status.phase.as_deref() == Some("Ready")
            && status.observed_generation == object.metadata.generation
            && status.operation.is_none()
            && (status.ready_replicas, status.voting_members) == (voters, voters)
            && (pods.len(), ready) == (voters as usize, voters as usize)
            && pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_none());
        if is_so {
            return Ok(());
        }
        Err(format!(
            "{ready} of {} pods ready; {} of {} voters; {:?}; {:?}; {:?}",
            pods.len(),
            status.ready_replicas,
            status.voting_members,
            status.phase,
            status.operation.map(|o| o.step),
            status.blocked
        ))
    }

    /// Waits until so many voters are ready and nothing is under way.
    pub(crate) async fn settles(&self, voters: u32, within: Duration) -> Duration {
        let what = format!("{voters} ready voters");
        until(&what, within, async || self.settled(voters).await).await.1
    }

    /// Makes a cluster, waits for it, and starts the writer.
    pub(crate) async fn make(&self, spec: Value) {
        let voters = u32::try_from(spec["replicas"].as_u64().unwrap_or(1)).unwrap_or(1);
        let begun = self.apply(spec).await;
        self.settles(voters, seconds(180)).await;
        self.reached("apply to ready voters", begun, seconds(if voters > 3 { 20 } else { 10 }));
        self.write().await;
    }

    /// Starts the writer.
    pub(crate) async fn write(&self) {
        self.writer
            .get_or_init(|| {
                let machine = self.stays.get().map(String::as_str);
                Writer::start(&self.bed, &self.namespace, CLUSTER, machine)
            })
            .await;
    }

    pub(crate) fn writer(&self) -> &Writer {
        self.writer.get().expect("the writer was started")
    }

    /// Prints a figure beside what it should be. Machines differ, and others may keep them busy: a
    /// test fails at six times that.
    pub(crate) fn reached(&self, what: &str, since: Instant, goal: Duration) {
        let took = since.elapsed();
        let word = if took <= goal { "" } else { " MISSED" };
        println!("  {what}: {:.1} s (< {} s{word})", took.as_secs_f64(), goal.as_secs());
        self.watch.note(&format!("{what}: {took:.1?}"));
        assert!(took < goal * 6, "{what} took {took:.1?}, which should be {goal:?}");
    }

    /// Prints how long the first of these words of the story took.
    pub(crate) fn first_act(&self, since: Instant, words: &[&str]) {
        let first = words.iter().filter_map(|word| self.watch.first(since, word)).min();
        match first {
            Some(at) => println!(
                "  broken to first act: {:.1} s (< 3 s)",
                at.duration_since(since).as_secs_f64()
            ),
            None => println!("  broken to first act: not seen among {words:?}"),
        }
    }

    /// Deletes a pod, as a person would.
    pub(crate) async fn delete_pod(&self, pod: &Pod) {
        self.watch.by_test(pod.uid());
        self.watch.note(&format!("delete pod {}", pod.name_any()));
        let gone = self.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await;
        gone.expect("the pod is deleted");
    }

    /// Deletes the pod of one of three members, and waits until the same member is ready on the same
    /// volume in another pod of the same name.
    pub(crate) async fn pod_comes_back(&self, node: &str) {
        let (pod, member) = (self.pod(node).await, self.member(node).await);
        self.delete_pod(&pod).await;
        until("another pod of the same name", seconds(40), async || {
            let pods = self.pods().await;
            let again = pods.iter().find(|it| it.name_any() == pod.name_any());
            match again {
                Some(again) if again.uid() != pod.uid() && is_ready(again) => Ok(()),
                other => Err(format!("{:?}", other.map(|it| (it.uid(), is_ready(it))))),
            }
        })
        .await;
        self.settles(3, seconds(40)).await;
        self.is_same(&member).await;
    }

    /// Panics unless a node still has this very member, in the place that it had.
    pub(crate) async fn is_same(&self, member: &MemberStatus) {
        let now = self.member(&member.name.0).await;
        let place = |it: &MemberStatus| (it.id, it.pod.clone(), it.volume.clone());
        assert_eq!(place(&now), place(member), "the same member in the same place");
    }

    /// Deletes a volume, as a person would.
    pub(crate) async fn delete_volume(&self, name: &str) {
        let volumes = self.api::<PersistentVolumeClaim>();
        let volume = volumes.get(name).await.expect("the volume is there");
        self.watch.by_test(volume.uid());
        self.watch.note(&format!("delete volume {name}"));
        volumes.delete(name, &DeleteParams::default()).await.expect("the volume is deleted");
    }

    /// Deletes the cluster, and waits until it and its pods are gone.
    pub(crate) async fn delete(&self) {
        self.watch.is_ending(true);
        self.watch.note("delete the cluster");
        let clusters = self.api::<ClusterObject>();
        clusters.delete(CLUSTER, &DeleteParams::default()).await.expect("deleted");
        until("the cluster and its pods to go", seconds(60), async || {
            match (self.object().await.is_some(), self.pods().await.len()) {
                (false, 0) => Ok(()),
                (is_there, pods) => Err(format!("the cluster is there: {is_there}; {pods} pods")),
            }
        })
        .await;
        self.watch.is_ending(false);
    }

    /// Where on which of the testbed's machines a volume's files are.
    pub(crate) async fn files(&self, volume: &str) -> (String, String) {
        let claim = self.api::<PersistentVolumeClaim>().get(volume).await.expect("the volume");
        let name = claim.spec.and_then(|it| it.volume_name).expect("it is bound");
        let volumes: Api<PersistentVolume> = Api::all(self.bed.kube.clone());
        let spec = json!(volumes.get(&name).await.expect("the volume's other half").spec);
        let of = |path: &str| spec.pointer(path).and_then(Value::as_str).map(ToOwned::to_owned);
        let node = of("/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0/values/0");
        let number = node.expect("a node").trim_start_matches("node-").to_owned();
        (number, of("/local/path").expect("a local volume"))
    }
}
