//! From what was written to what is wanted: every default filled in, every address known.

use core::net::Ipv6Addr;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::check::{PEER_PORT, endpoints};
use super::{API_VERSION, ClusterSpec, EtcdCluster, KIND, Metadata, NodeSpec, SpecError};
use crate::cluster::{NodeName, Options, Remediation, Wanted, WantedNode, canonical_value};

/// The ports a local node was given; kept in the home, so that they stay the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodePorts {
    /// Where its peers reach it.
    pub peer: u16,
    /// Where clients reach it.
    pub client: u16,
}

/// Three nodes on loopback: what `quorate up` runs when no file is given.
pub fn default_local(name: &str) -> EtcdCluster {
    EtcdCluster {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        metadata: Metadata { name: name.to_owned(), namespace: None },
        spec: ClusterSpec { replicas: Some(3), ..ClusterSpec::default() },
    }
}

/// Refuses a change that would make another cluster of the one that a home already holds.
///
/// # Errors
///
/// The name or the token differs from the home's.
pub fn change_allowed(
    old_name: &str,
    old_token: &str,
    cluster: &EtcdCluster,
) -> Result<(), SpecError> {
    let fix = |old: &str| format!("write {old} again, or start the new cluster in another home");
    let (name, token) = (&cluster.metadata.name, cluster.token());
    if name != old_name {
        let what = format!("{name} is not the cluster of this home, which is {old_name}");
        return Err(SpecError::at("metadata.name", what, fix(old_name)));
    }
    if token != old_token {
        let what = format!(
            "{token:?} cannot take the place of the token {old_token:?}, which the identity of \
             the cluster's members rests on"
        );
        return Err(SpecError::at("spec.token", what, fix(old_token)));
    }
    Ok(())
}

/// Refuses a node whose address is not one of the machine that is to run it.
pub fn not_here(cluster: &EtcdCluster, node: &NodeName, address: &str) -> SpecError {
    let index = cluster.node_names().iter().position(|n| n == node).unwrap_or_default();
    SpecError::at(
        format!("spec.nodes[{index}].address"),
        format!("{address} of {node} is not an address of this machine"),
        "use `quorate render` with this file to write each host's configuration, or \
         howto-local.yaml to try it here",
    )
}

impl EtcdCluster {
    /// The cluster token: as given, else the cluster's name.
    pub fn token(&self) -> &str {
        self.spec.token.as_deref().unwrap_or(&self.metadata.name)
    }

    /// The names of the wanted nodes, in order: as listed, or NAME-0, NAME-1, …
    pub fn node_names(&self) -> Vec<NodeName> {
        match &self.spec.nodes {
            Some(nodes) => nodes.iter().map(|node| NodeName(node.name.clone())).collect(),
            None => (0..self.spec.replicas.unwrap_or(0))
                .map(|at| NodeName(format!("{}-{at}", self.metadata.name)))
                .collect(),
        }
    }

    /// True if the spec counts its nodes instead of naming hosts, so that [`Self::resolve`]
    /// needs ports for them.
    pub fn needs_ports(&self) -> bool {
        self.spec.nodes.is_none()
    }

    /// The fields given here that mean something on Kubernetes only.
    pub fn kubernetes_only(&self) -> Vec<&'static str> {
        let counted = self.needs_ports();
        [
            ("metadata.namespace", self.metadata.namespace.is_some()),
            ("spec.clientPorts", counted && self.spec.client_ports.is_some()),
            ("spec.peerPort", counted && self.spec.peer_port.is_some()),
        ]
        .into_iter()
        .chain(self.spec.kubernetes_fields())
        .filter_map(|(path, given)| given.then_some(path))
        .collect()
    }

    /// Fills in every default. Nodes that are counted, not named, run on 127.0.0.1 with the
    /// given `ports`.
    ///
    /// # Errors
    ///
    /// Whatever [`super::read`] refuses in a file, and a counted node without ports.
    pub fn resolve(&self, ports: &BTreeMap<NodeName, NodePorts>) -> Result<Wanted, SpecError> {
        self.check()?;
        let mut nodes = BTreeMap::new();
        for (at, name) in self.node_names().into_iter().enumerate() {
            let node = match &self.spec.nodes {
                Some(nodes) => self.named(&nodes[at]),
                None => counted(&name, ports)?,
            };
            nodes.insert(name, node);
        }
        Ok(self.wanted(nodes, Remediation::default()))
    }

    /// Whether a cluster on Kubernetes can be what this says.
    ///
    /// # Errors
    ///
    /// Whatever [`super::read`] refuses in a file, and named hosts.
    pub fn check_on_kubernetes(&self) -> Result<(), SpecError> {
        self.check()?;
        if self.spec.nodes.is_some() {
            let what = "nodes is for hosts outside of Kubernetes";
            return Err(SpecError::at("spec.nodes", what, "write replicas: 3 instead"));
        }
        Ok(())
    }

    /// Fills in every default as on Kubernetes, where each counted node is reached at its place:
    /// `places` has one for each of [`Self::node_names`], and more are passed over.
    ///
    /// # Errors
    ///
    /// Those of [`Self::check_on_kubernetes`], and a node without a place.
    pub fn resolve_at(&self, places: &BTreeMap<NodeName, WantedNode>) -> Result<Wanted, SpecError> {
        self.check_on_kubernetes()?;
        let mut nodes = BTreeMap::new();
        for name in self.node_names() {
            let Some(place) = places.get(&name) else {
                let what = format!("no place is set aside for {name}");
                return Err(SpecError::at("spec.replicas", what, "give each node a place first"));
            };
            nodes.insert(name, place.clone());
        }
        Ok(self.wanted(nodes, Remediation::on_kubernetes()))
    }

    fn wanted(&self, nodes: BTreeMap<NodeName, WantedNode>, default: Remediation) -> Wanted {
        Wanted {
            name: self.metadata.name.clone(),
            token: self.token().to_owned(),
            nodes,
            options: self.options(),
            remediation: self.remediation(default),
        }
    }

    fn named(&self, node: &NodeSpec) -> WantedNode {
        let host = match node.address.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => node.address.clone(),
        };
        let (peer, clients) = endpoints(&self.spec, node);
        let url = |port: u16| format!("http://{host}:{port}");
        WantedNode {
            peer_url: url(peer.unwrap_or(PEER_PORT)),
            client_urls: clients.iter().map(|port| url(*port)).collect(),
        }
    }

    fn options(&self) -> Options {
        let Some(options) = &self.spec.options else { return Options::default() };
        // `check` has read them before.
        let canonical = |(name, value): (&String, &String)| {
            Some((name.clone(), canonical_value(name, value).ok()?))
        };
        Options {
            heartbeat_interval_ms: options.heartbeat_interval_ms,
            election_timeout_ms: options.election_timeout_ms,
            snapshot_count: options.snapshot_count,
            quota_backend_bytes: options.quota_backend_bytes,
            max_request_bytes: options.max_request_bytes,
            extra: options.settings.iter().filter_map(canonical).collect(),
        }
    }

    fn remediation(&self, default: Remediation) -> Remediation {
        let given = self.spec.remediation.clone().unwrap_or_default();
        Remediation {
            enabled: given.enabled.unwrap_or(default.enabled),
            unhealthy_seconds: given.unhealthy_seconds.unwrap_or(default.unhealthy_seconds),
            learner_timeout_seconds: given
                .learner_timeout_seconds
                .unwrap_or(default.learner_timeout_seconds),
            max_replacements_per_day: given
                .max_replacements_per_day
                .unwrap_or(default.max_replacements_per_day),
            keep_aside: given.keep_aside.unwrap_or(default.keep_aside),
        }
    }
}

fn counted(
    name: &NodeName,
    ports: &BTreeMap<NodeName, NodePorts>,
) -> Result<WantedNode, SpecError> {
    let Some(ports) = ports.get(name) else {
        let what = format!("no ports are set aside for {name}");
        let fix = "name the hosts under spec.nodes; only quorate up picks ports by itself";
        return Err(SpecError::at("spec.replicas", what, fix));
    };
    Ok(WantedNode {
        peer_url: format!("http://127.0.0.1:{}", ports.peer),
        client_urls: vec![format!("http://127.0.0.1:{}", ports.client)],
    })
}
