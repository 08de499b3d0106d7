//! Runs a cluster's nodes as pods in Kubernetes.
//!
//! Pods, volumes, configurations, Services and the disruption budget are this executor's own; there
//! is no `StatefulSet`, because order and identity are the planner's to decide. Everything it knows
//! it reads again at each turn. What must be remembered stands in the resource's status and is
//! written before the act it speaks of, with the resource version that was read: of two operators,
//! one is refused there and looks again (safety 23).
//!
//! A member's place (pod name, host name, peer URL, volume) is new with each member and stays the
//! same through restarts (safety 22).

mod act;
mod build;
mod judge;
mod keep;
mod look;
mod news;
mod observe;
mod place;
mod report;
pub mod resource;
pub mod status;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use kube::Api;
use serde::de::DeserializeOwned;

pub use build::BuildError;
use build::Plans;
pub use keep::REPLACE;
use look::{Reading, World};
pub use news::Words;
use place::Names;
pub use place::{CLUSTER, CONTAINER};
pub use report::SPEC_REFUSED;
use resource::ClusterObject;
use status::{ClusterStatus, Place};

use crate::client::{Client, Status};
use crate::clock::Clock;
use crate::cluster::spec::{ClusterSpec, SpecError};
use crate::cluster::{Incarnation, NodeName, Observed, Timestamp, Wanted};
use crate::execute::memory::Memory;
use crate::execute::{Executor, Outcome};
use crate::plan::Step;

/// How long a membership change may take; its outcome is then unknown.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// How long a member may take to say how it is before it counts as silent.
const PROBE_LIMIT: Duration = Duration::from_millis(800);

/// Pauses before a question to the API server is put again.
const ASKED_AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];

/// Why something in Kubernetes failed. The next turn looks afresh, so nothing needs undoing.
#[derive(Debug, thiserror::Error)]
pub enum PodsError {
    /// The API server refused or did not answer.
    #[error("cannot {action}")]
    Api {
        /// What was tried.
        action: &'static str,
        /// The API server's answer.
        source: Box<kube::Error>,
    },
    /// The spec says something that cannot be done; its text names the field and the fix.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// An object cannot be made from the spec.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The system's random numbers cannot be read.
    #[error("no random numbers from the system")]
    NoRandomness(#[source] getrandom::Error),
}

impl PodsError {
    fn api(action: &'static str) -> impl FnOnce(kube::Error) -> PodsError {
        move |source| PodsError::Api { action, source: Box::new(source) }
    }
}

/// More about a member than the planner needs, for people.
#[derive(Clone, Debug)]
pub struct MemberFigures {
    /// What its Status said.
    pub status: Status,
    /// When.
    pub at: Timestamp,
}

/// The executor for one cluster's pods.
pub struct Pods {
    kube: kube::Client,
    names: Names,
    object: ClusterObject,
    node_image: String,
    client: Client,
    probe: Client,
    clock: Clock,
    memory: Memory,
    /// Client URLs of the members that answered last.
    endpoints: Vec<String>,
    /// Client URLs of the nodes that run.
    addresses: BTreeMap<NodeName, String>,
    figures: BTreeMap<NodeName, MemberFigures>,
    /// Places drawn for nodes that need one, not yet written down.
    drafts: BTreeMap<NodeName, Place>,
    /// What all nodes said last, if each can be waited for until it says something else.
    words: Option<Words>,
    /// A reading that nobody has used yet.
    fresh: Option<World>,
    /// The reading that the last observation rests on.
    read: Option<World>,
    /// What the API server last told.
    reading: Option<Reading>,
    /// The same, while it is taken for what it would tell now.
    rests_on: Option<Reading>,
    /// What pods wait for, in Kubernetes' words.
    details: BTreeMap<NodeName, String>,
    incarnations: BTreeMap<NodeName, Incarnation>,
    /// What the surroundings were last made for, and when.
    kept: Option<((Option<i64>, usize), Timestamp)>,
    /// Volumes that could not be made as large as this, and why.
    cannot_grow: BTreeMap<String, (String, String)>,
    /// A node that a change does not reach: the only copy of the data would go with its pod.
    held_back: Option<NodeName>,
    /// The last spec that could be followed.
    in_force: Option<ClusterSpec>,
    /// Why the one that is written there cannot be; the one in force counts meanwhile.
    refused: Option<SpecError>,
    /// Since when something is waited for that the status does not tell yet.
    waits_since: Option<Timestamp>,
    /// Something was made or given up since nothing was left to prune.
    is_dirty: bool,
    writes: Writes,
}

/// Counts what is written to the API server.
#[derive(Clone, Copy, Debug, Default)]
struct Writes(u64);

impl Writes {
    /// Counts one, and dies right after the one that a test has named.
    fn count(&mut self) {
        self.0 += 1;
        abort_at(self.0);
    }
}

impl Pods {
    /// An executor for the cluster that `object` describes. `node_image` is run where the spec
    /// names no image.
    pub fn new(kube: kube::Client, object: ClusterObject, node_image: &str) -> Self {
        let of = |name: &Option<String>| name.clone().unwrap_or_default();
        let names =
            Names { cluster: of(&object.metadata.name), namespace: of(&object.metadata.namespace) };
        Pods {
            kube,
            names,
            object,
            node_image: node_image.to_owned(),
            client: Client::new(CALL_LIMIT),
            probe: Client::new(PROBE_LIMIT),
            clock: Clock,
            memory: Memory::default(),
            endpoints: Vec::new(),
            addresses: BTreeMap::new(),
            figures: BTreeMap::new(),
            drafts: BTreeMap::new(),
            words: None,
            fresh: None,
            read: None,
            reading: None,
            rests_on: None,
            details: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            kept: None,
            cannot_grow: BTreeMap::new(),
            held_back: None,
            in_force: None,
            refused: None,
            waits_since: None,
            is_dirty: true,
            writes: Writes::default(),
        }
    }

    /// The resource as it was last read or written.
    pub fn object(&self) -> &ClusterObject {
        &self.object
    }

    /// What each member said of itself at the last observation.
    pub fn figures(&self) -> &BTreeMap<NodeName, MemberFigures> {
        &self.figures
    }

    /// What all nodes said at the last observation, to wait for news of them; `None` if one said
    /// nothing, or cannot be waited for.
    pub fn words(&self) -> Option<&Words> {
        self.words.as_ref()
    }

    /// What pods wait for that are not there yet, in Kubernetes' own words.
    pub fn details(&self) -> &BTreeMap<NodeName, String> {
        &self.details
    }

    /// How often this executor has written to the API server.
    pub fn writes(&self) -> u64 {
        self.writes.0
    }

    /// Reads the resource anew, and all else in what follows; `None` if it is gone, or is another one of that name.
    ///
    /// # Errors
    ///
    /// [`PodsError::Api`].
    pub async fn refresh(&mut self) -> Result<Option<&ClusterObject>, PodsError> {
        self.rests_on = None;
        let uid = self.object.metadata.uid.clone();
        let api = self.api::<ClusterObject>();
        let found = asked(|| api.get_opt(&self.names.cluster)).await;
        let found = found.map_err(PodsError::api("read the cluster"))?;
        let Some(object) = found.filter(|it| it.metadata.uid == uid) else { return Ok(None) };
        // What may be dropped rests on the spec.
        self.is_dirty |= self.object.metadata.generation != object.metadata.generation;
        self.object = object;
        Ok(Some(&self.object))
    }

    /// Why the spec cannot be followed as it is written, if it cannot.
    pub fn refused(&self) -> Option<&SpecError> {
        self.refused.as_ref()
    }

    /// Decides which spec counts: while what is written cannot be followed, the last one that
    /// could (safety 21). Only a pause is taken from it: it asks for nothing.
    fn settle_spec(&mut self) -> Result<(), SpecError> {
        match (self.object.file_form().check_on_kubernetes(), &mut self.in_force) {
            (Ok(()), in_force) => {
                *in_force = Some(self.object.spec.clone());
                self.refused = None;
            }
            (Err(error), Some(in_force)) => {
                in_force.paused = self.object.spec.paused;
                self.object.spec = in_force.clone();
                self.refused = Some(error);
            }
            (Err(error), None) => return Err(error),
        }
        Ok(())
    }

    /// Takes the resource as it was just written.
    fn take(&mut self, object: ClusterObject) {
        self.object = object;
        if let (Some(spec), true) = (&self.in_force, self.refused.is_some()) {
            self.object.spec = spec.clone();
        }
    }

    fn status(&self) -> &ClusterStatus {
        static NONE: LazyLock<ClusterStatus> = LazyLock::new(ClusterStatus::default);
        self.object.status.as_ref().unwrap_or(&NONE)
    }

    fn plans(&self) -> Plans<'_> {
        Plans { names: &self.names, object: &self.object, node_image: &self.node_image }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope> + DeserializeOwned,
        K::DynamicType: Default,
    {
        Api::namespaced(self.kube.clone(), &self.names.namespace)
    }
}

impl Executor for Pods {
    type Error = PodsError;

    async fn observe(&mut self, wanted: &Wanted) -> Result<Observed, PodsError> {
        let world = match self.fresh.take() {
            Some(world) => world,
            None => self.look().await?,
        };
        let seen = self.conclude(wanted, &world);
        self.details = world
            .shown
            .iter()
            .filter_map(|(node, shown)| Some((node.clone(), shown.detail.clone()?)))
            .collect();
        self.read = Some(world);
        Ok(seen)
    }

    async fn execute(
        &mut self,
        wanted: &Wanted,
        seen: &Observed,
        step: &Step,
    ) -> Result<Outcome, PodsError> {
        self.act(wanted, seen, step).await
    }
}

/// Asks again where an API server that has too much to do refuses an answer: a turn is many
/// questions, and one that is not answered would be the end of it. What changes something is never
/// repeated as it was; it is planned anew.
async fn asked<T, F>(question: impl Fn() -> F) -> Result<T, kube::Error>
where
    F: Future<Output = Result<T, kube::Error>>,
{
    let is_passing = |code: u16| matches!(code, 429 | 500 | 502 | 503 | 504);
    for pause in ASKED_AGAIN_AFTER {
        match question().await {
            Err(kube::Error::Api(status)) if is_passing(status.code) => {
                tokio::time::sleep(pause).await;
            }
            answer => return answer,
        }
    }
    question().await
}

fn random() -> Result<u64, PodsError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(PodsError::NoRandomness)?;
    Ok(u64::from_be_bytes(bytes))
}

/// Dies right after a write, with nothing tidied up, for the tests that prove that the next operator
/// resumes from there: `QUORATE_TEST_ABORT_WRITE=3` after the third.
fn abort_at(count: u64) {
    if std::env::var("QUORATE_TEST_ABORT_WRITE").is_ok_and(|it| it == count.to_string()) {
        std::process::abort();
    }
}
