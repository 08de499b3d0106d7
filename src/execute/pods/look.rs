//! One reading of the API server and of the members in their pods.
//!
//! Each source may fail on its own. What the API server does not tell fails the whole reading:
//! an unreadable list of pods is not "no pods".

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hyper::header::ETAG;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{Api, ListParams};

use super::judge::{self, Shown};
use super::place::{NODE, STATE_PORT};
use super::{MemberFigures, Pods, PodsError, Words, asked};
use crate::client::{Status, peer};
use crate::cluster::{Answer, MemberList, NodeName, NodeWord, Process, Timestamp};
use crate::execute::change::{ask_members, closed_to_us};

/// How long a node may take to tell its state.
pub(super) const WORD_LIMIT: Duration = Duration::from_millis(800);

/// After this long the API server is asked again, whatever the watches have told.
const REREAD_MS: u64 = 30_000;
/// What local volumes name their machine by.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// What the API server has of a cluster.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pods: Arc<BTreeMap<String, Pod>>,
    claims: Arc<BTreeMap<String, PersistentVolumeClaim>>,
    at: Timestamp,
}

/// What was read, before anything is concluded from it.
#[derive(Debug)]
pub(super) struct World {
    /// By the machine's clock, as Kubernetes' own times are.
    pub(super) now: Timestamp,
    /// By one that nobody sets: neither may that end a dwell nor make one last.
    pub(super) steady: Timestamp,
    pub(super) pods: Arc<BTreeMap<String, Pod>>,
    pub(super) claims: Arc<BTreeMap<String, PersistentVolumeClaim>>,
    /// Volumes that can be reached from no machine any more.
    pub(super) stranded: BTreeSet<String>,
    pub(super) words: BTreeMap<NodeName, NodeWord>,
    pub(super) shown: BTreeMap<NodeName, Shown>,
    pub(super) statuses: BTreeMap<NodeName, Status>,
    /// Nodes that do not answer clients, and are not to blame for it.
    pub(super) excused: BTreeSet<NodeName>,
    pub(super) members: Answer<MemberList>,
}

impl World {
    /// The volume of a place, unless it is lost.
    pub(super) fn claim(&self, name: &str) -> Option<&PersistentVolumeClaim> {
        let claim = self.claims.get(name)?;
        (!judge::is_lost(claim) && !self.stranded.contains(name)).then_some(claim)
    }
}

impl Pods {
    /// Lets the next observation rest on the last reading of the API server, for a caller whose
    /// watches have told of no change since. The members are asked all the same, and what is not
    /// as it was is read again before anything is done about it.
    pub fn rest(&mut self) {
        let now = self.clock.now();
        // Of a time to come only if the clock was set.
        let is_old = |it: &Reading| now.since(it.at) > REREAD_MS || it.at > now;
        self.rests_on = self.reading.clone().filter(|it| !is_old(it));
    }

    /// Asks the API server.
    async fn read(&mut self) -> Result<Reading, PodsError> {
        let at = self.clock.now();
        let ours = ListParams::default().labels(&self.names.selector());
        let api = self.api::<Pod>();
        let pods = asked(|| api.list(&ours)).await;
        let pods = pods.map_err(PodsError::api("list pods"))?;
        let pods: BTreeMap<_, _> = pods.into_iter().filter_map(named).collect();
        let api = self.api::<PersistentVolumeClaim>();
        let claims = asked(|| api.list(&ours)).await;
        let claims = claims.map_err(PodsError::api("list volumes"))?;
        let mut claims: BTreeMap<_, _> = claims.into_iter().filter_map(named).collect();
        // One that has lost its label is not lost.
        let used = self.status().places.values().filter_map(|place| place.volume.clone());
        for name in used.filter(|name| !claims.contains_key(name)).collect::<Vec<_>>() {
            let claim = self.api::<PersistentVolumeClaim>().get_opt(&name).await;
            if let Some(claim) = claim.map_err(PodsError::api("read a volume"))? {
                claims.insert(name, claim);
            }
        }

        let reading = Reading { pods: Arc::new(pods), claims: Arc::new(claims), at };
        self.reading = Some(reading.clone());
        Ok(reading)
    }

    /// Reads everything once.
    pub(super) async fn look(&mut self) -> Result<World, PodsError> {
        let Reading { pods, claims, .. } = match self.rests_on.clone() {
            Some(reading) => reading,
            None => self.read().await?,
        };
        let addresses: BTreeMap<NodeName, String> = self
            .status()
            .places
            .iter()
            .filter_map(|(node, place)| Some((node.clone(), address(pods.get(&place.pod)?)?)))
            .collect();
        let (words, marks) = ask_words(&addresses).await;
        self.words = (marks.len() == self.status().places.len()).then_some(Words(marks));
        let now = self.clock.now();
        let shown: BTreeMap<_, _> = self
            .status()
            .places
            .iter()
            .map(|(node, place)| {
                let member = self.member_of(place);
                let pod = pods.get(&place.pod);
                (node.clone(), judge::pod(pod, words.get(node), member, now))
            })
            .collect();
        let endpoints: BTreeMap<NodeName, String> = addresses
            .iter()
            .filter(|(n, _)| {
                shown.get(*n).is_some_and(|s| matches!(s.process, Process::Running { .. }))
            })
            .filter_map(|(n, ip)| {
                let port = client_port(pods.get(&self.status().places.get(n)?.pod)?)?;
                Some((n.clone(), format!("http://{ip}:{port}")))
            })
            .collect();

        let asked =
            endpoints.iter().map(|(n, url)| async { (n.clone(), self.probe.status(url).await) });
        let (mut statuses, mut refused) = (BTreeMap::new(), BTreeMap::new());
        for (node, answer) in join_all(asked).await {
            match answer {
                Ok(status) => drop(statuses.insert(node, status)),
                Err(e) => drop(closed_to_us(&e).map(|why| refused.insert(node, why))),
            }
        }
        let founding = self.status().founding.clone();
        let expected = founding.as_ref().map(|f| f.cluster.unwrap_or_else(|| f.cluster_id()));
        let ours = |s: &Status| expected.is_none_or(|cluster| s.cluster == cluster);
        let answering: Vec<_> = endpoints
            .iter()
            .filter(|(n, _)| statuses.get(*n).is_some_and(|s| ours(s) && s.leader.is_some()))
            .map(|(_, url)| url.clone())
            .collect();
        let why = refused.values().next();
        let members =
            ask_members(&self.client, &answering, statuses.len(), why, founding.as_ref()).await;
        let silent = endpoints.keys().filter(|n| !statuses.contains_key(*n));
        // One whose wrapper says that its engine runs, and that answers its peers, is starting.
        let excused = self.answer_peers(silent, &addresses).await;
        let excused = excused.into_iter().chain(refused.into_keys()).collect();
        if !answering.is_empty() {
            self.endpoints = answering;
        }
        self.addresses = endpoints;
        // Read after the answers came: a dwell must not count the time spent asking.
        let (now, steady) = (self.clock.now(), self.clock.steady());
        self.figures = statuses
            .iter()
            .map(|(n, s)| (n.clone(), MemberFigures { status: s.clone(), at: now }))
            .collect();
        let stranded = self.stranded(&words, &claims).await?;
        Ok(World { now, steady, pods, claims, stranded, words, shown, statuses, excused, members })
    }

    async fn answer_peers(
        &self,
        silent: impl Iterator<Item = &NodeName>,
        addresses: &BTreeMap<NodeName, String>,
    ) -> Vec<NodeName> {
        let port = super::place::peer_port(&self.object.spec);
        let asked = silent.filter_map(|node| {
            let url = format!("http://{}:{port}", addresses.get(node)?);
            Some(async move {
                let answers = peer::version(&url, super::PROBE_LIMIT).await.is_ok();
                answers.then(|| node.clone())
            })
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// The volumes that only one machine can reach, where that machine is gone: its Node was
    /// deleted, or a person says it is out of service. Asked only where no node answers.
    async fn stranded(
        &self,
        words: &BTreeMap<NodeName, NodeWord>,
        claims: &BTreeMap<String, PersistentVolumeClaim>,
    ) -> Result<BTreeSet<String>, PodsError> {
        let mut stranded = BTreeSet::new();
        for (node, place) in &self.status().places {
            let is_heard = words.contains_key(node);
            let claim = place.volume.as_ref().filter(|_| !is_heard).and_then(|v| claims.get(v));
            if let Some((name, claim)) = place.volume.as_ref().zip(claim)
                && self.is_stranded(claim).await?
            {
                stranded.insert(name.clone());
            }
        }
        Ok(stranded)
    }

    async fn is_stranded(&self, claim: &PersistentVolumeClaim) -> Result<bool, PodsError> {
        let Some(volume) = claim.spec.as_ref().and_then(|s| s.volume_name.as_ref()) else {
            return Ok(false);
        };
        let volumes: Api<PersistentVolume> = Api::all(self.kube.clone());
        let volume = match volumes.get_opt(volume).await {
            Ok(Some(volume)) => volume,
            // A claim that is bound to nothing any more is Lost, which Kubernetes says itself.
            Ok(None) => return Ok(false),
            // Not ours to see in a namespaced install: then silence has to do.
            Err(e) if is_forbidden(&e) => return Ok(false),
            Err(e) => return Err(PodsError::api("read a volume")(e)),
        };
        let machines = machines_of(&volume);
        if machines.is_empty() {
            return Ok(false);
        }
        let nodes: Api<Node> = Api::all(self.kube.clone());
        for machine in machines {
            // The label is not always the machine's name.
            let labelled = ListParams::default().labels(&format!("{HOSTNAME}={machine}"));
            let found = match nodes.list(&labelled).await {
                Ok(found) if found.items.is_empty() => nodes.get_opt(&machine).await,
                Ok(found) => Ok(found.items.into_iter().find(|node| !is_out_of_service(node))),
                // An operator installed before may not list them. That none has that name says
                // nothing then.
                Err(e) if is_forbidden(&e) => match nodes.get_opt(&machine).await {
                    Ok(None) => Err(e),
                    found => found,
                },
                Err(e) => Err(e),
            };
            match found {
                Ok(None) => {}
                Ok(Some(node)) if is_out_of_service(&node) => {}
                Ok(Some(_)) => return Ok(false),
                Err(e) if is_forbidden(&e) => return Ok(false),
                Err(e) => return Err(PodsError::api("read a machine")(e)),
            }
        }
        Ok(true)
    }
}

fn named<K: kube::ResourceExt>(object: K) -> Option<(String, K)> {
    Some((object.meta().name.clone()?, object))
}

/// Where a pod is reached; nowhere once it has ended, when its address may be another one's.
pub(super) fn address(pod: &Pod) -> Option<String> {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    if matches!(phase, Some("Failed" | "Succeeded")) {
        return None;
    }
    let ip = pod.status.as_ref()?.pod_ip.clone().filter(|ip| !ip.is_empty())?;
    Some(if ip.contains(':') { format!("[{ip}]") } else { ip })
}

/// Where a pod's member serves clients: the spec may say another port by now.
fn client_port(pod: &Pod) -> Option<i32> {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let ports = containers.flat_map(|c| c.ports.iter().flatten());
    ports.into_iter().find(|p| p.name.as_deref() == Some("client")).map(|p| p.container_port)
}

/// What each node says of itself, and of those that can be waited for, where and its mark.
async fn ask_words(
    addresses: &BTreeMap<NodeName, String>,
) -> (BTreeMap<NodeName, NodeWord>, Vec<(String, String)>) {
    let asked = addresses.iter().map(|(node, address)| async move {
        let url = state_page(address);
        let (word, mark) = read_word(&url).await?;
        Some((node.clone(), word, mark.map(|mark| (url, mark))))
    });
    let (mut words, mut marks) = (BTreeMap::new(), Vec::new());
    for (node, word, mark) in join_all(asked).await.into_iter().flatten() {
        words.insert(node, word);
        marks.extend(mark);
    }
    (words, marks)
}

fn state_page(address: &str) -> String {
    format!("http://{address}:{STATE_PORT}/state")
}

/// What a node says of itself; `None` if it does not answer.
pub(super) async fn ask_word(address: &str) -> Option<NodeWord> {
    Some(read_word(&state_page(address)).await?.0)
}

/// A word and its mark, if it has one.
async fn read_word(url: &str) -> Option<(NodeWord, Option<String>)> {
    let answer = peer::get(url, WORD_LIMIT).await.ok()?;
    let mark = answer.headers.get(ETAG).and_then(|it| it.to_str().ok().map(ToOwned::to_owned));
    Some((serde_json::from_slice(&answer.body).ok()?, mark))
}

fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}

/// The machines a local volume can be reached from; empty if it is not bound to any.
fn machines_of(volume: &PersistentVolume) -> Vec<String> {
    let required = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref()?.required.as_ref());
    let terms = required.into_iter().flat_map(|r| &r.node_selector_terms);
    let wanted = terms.flat_map(|t| t.match_expressions.iter().flatten());
    wanted
        .filter(|e| e.key == HOSTNAME && e.operator == "In")
        .flat_map(|e| e.values.clone().unwrap_or_default())
        .collect()
}

fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref());
    taints.into_iter().flatten().any(|t| t.key == "node.kubernetes.io/out-of-service")
}

/// The node that a pod or a volume belongs to.
pub(super) fn node_of<K: kube::ResourceExt>(object: &K) -> Option<NodeName> {
    object.labels().get(NODE).cloned().map(NodeName)
}
