//! Where a member runs: a pod name that is new with each member, and a volume that may outlive it
//! (safety 22).
//!
//! Pure: names, labels, URLs.

use std::collections::BTreeMap;

use super::status::Place;
use crate::cluster::spec::ClusterSpec;
use crate::cluster::{NodeName, WantedNode};

/// On every object: the cluster it belongs to.
pub const CLUSTER: &str = "quorate.dev/cluster";
/// The node whose pod or volume it is.
pub(super) const NODE: &str = "quorate.dev/node";
/// `voter`, set after the promotion and taken off before the removal, or `learner`.
pub(super) const ROLE: &str = "quorate.dev/role";
/// On a volume: the pod name of the member whose data it holds.
pub(super) const PLACE: &str = "quorate.dev/place";
/// On a volume: the token its cluster was founded with.
pub(super) const TOKEN: &str = "quorate.dev/token";
/// On a volume: whose data it holds.
pub(super) const CLUSTER_ID: &str = "quorate.dev/cluster-id";
/// On a volume: whose data it holds. On a pod: which member has run in it.
pub(super) const MEMBER_ID: &str = "quorate.dev/member-id";
/// On a volume: which incarnation's data it holds.
pub(super) const INCARNATION: &str = "quorate.dev/incarnation";
/// On a volume: the founding its cluster descends from.
pub(super) const FOUNDING_ID: &str = "quorate.dev/founding-id";
/// On a volume: the founding nodes and their peer URLs, as JSON.
pub(super) const FOUNDING_NODES: &str = "quorate.dev/founding-nodes";
/// On a volume that no place uses any more: since when, in milliseconds.
pub(super) const SET_ASIDE: &str = "quorate.dev/set-aside-at";
/// On a pod: a digest of all it was made from.
pub(super) const DIGEST: &str = "quorate.dev/digest";

/// The container that runs a member.
pub const CONTAINER: &str = "etcd";

/// Where `quorate node` tells its state.
pub(super) const STATE_PORT: u16 = 2378;
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// The characters of a place's random part: no vowels, so that it is never a word.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A cluster's name in its namespace, from which all other names follow.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) cluster: String,
    pub(super) namespace: String,
}

impl Names {
    /// The headless Service that gives each pod its name.
    pub(super) fn peers(&self) -> String {
        format!("{}-peers", self.cluster)
    }

    /// The Service that clients use.
    pub(super) fn clients(&self) -> String {
        format!("{}-client", self.cluster)
    }

    /// The pods' service account, which may do nothing.
    pub(super) fn account(&self) -> String {
        format!("{}-member", self.cluster)
    }

    /// What every object of the cluster is labelled with.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        [
            ("app.kubernetes.io/name", "quorate"),
            ("app.kubernetes.io/managed-by", "quorate"),
            ("app.kubernetes.io/instance", &self.cluster),
            (CLUSTER, &self.cluster),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// Selects every object of the cluster.
    pub(super) fn selector(&self) -> String {
        format!("{CLUSTER}={}", self.cluster)
    }

    /// The host name of a place inside the cluster's network.
    fn host(&self, pod: &str) -> String {
        format!("{pod}.{}.{}.svc", self.peers(), self.namespace)
    }

    /// Where peers and clients reach a place.
    pub(super) fn at(&self, spec: &ClusterSpec, pod: &str) -> WantedNode {
        let host = self.host(pod);
        WantedNode {
            peer_url: format!("http://{host}:{}", peer_port(spec)),
            client_urls: client_ports(spec).iter().map(|p| format!("http://{host}:{p}")).collect(),
        }
    }
}

/// The port that members connect to.
pub(super) fn peer_port(spec: &ClusterSpec) -> u16 {
    spec.peer_port.unwrap_or(PEER_PORT)
}

/// The ports that clients connect to.
pub(super) fn client_ports(spec: &ClusterSpec) -> Vec<u16> {
    spec.client_ports.clone().unwrap_or_else(|| vec![CLIENT_PORT])
}

/// A place for a new member of a node. `volume` is one that lives on and is to be used again.
pub(super) fn draw(node: &NodeName, random: u64, volume: Option<String>, keeps: bool) -> Place {
    let base = LETTERS.len() as u64;
    let letters = (0..5).scan(random, |left, _| {
        let at = usize::try_from(*left % base).unwrap_or_default();
        *left /= base;
        Some(char::from(LETTERS[at]))
    });
    let pod = format!("{node}-{}", letters.collect::<String>());
    let volume = volume.or_else(|| keeps.then(|| pod.clone()));
    Place { pod, volume, ..Place::default() }
}
