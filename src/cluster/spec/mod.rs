//! The file form of the spec: `EtcdCluster`, as people write it.
//!
//! ```yaml
//! apiVersion: quorate.dev/v1alpha1
//! kind: EtcdCluster
//! metadata: {name: hilinux-etcd-cluster}
//! spec:
//!   nodes:
//!   - {name: etcd1, address: 192.168.2.210}
//!   - {name: etcd2, address: 192.168.2.211}
//!   - {name: etcd3, address: 192.168.2.212}
//!   clientPorts: [2379, 4001]
//! ```
//!
//! [`read`] turns text into an [`EtcdCluster`] or into one line that says what is wrong where;
//! [`EtcdCluster::resolve`] fills in every default. The same types are the schema of the
//! `CustomResourceDefinition`.

mod check;
mod error;
mod kubernetes;
mod locate;
mod read;
mod resolve;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use check::reserved_settings;
pub use error::SpecError;
pub use kubernetes::{
    AccessMode, DEFAULT_VOLUME_SIZE, DeletionPolicy, DisruptionBudgetSpec, EMBEDDED_VERSION,
    EmptyDirSpec, Engine, EnvVar, ImagePullPolicy, PodTemplateSpec, ResourcesSpec, SecretName,
    SecurityContextSpec, Storage, StorageSpec, UpdateStrategy, UpdateStrategySpec, VolumeClaimSpec,
    quantity_bytes, quantity_nanos,
};
pub use read::read;
pub use resolve::{NodePorts, change_allowed, default_local, not_here};

/// The only `apiVersion` there is.
pub const API_VERSION: &str = "quorate.dev/v1alpha1";

/// The only `kind` there is.
pub const KIND: &str = "EtcdCluster";

/// The most nodes a cluster may have: more make writes slower and protect no better.
pub const MAX_NODES: usize = 9;

/// A cluster as declared: one YAML document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct EtcdCluster {
    /// `quorate.dev/v1alpha1`
    pub api_version: String,
    /// `EtcdCluster`
    pub kind: String,
    /// The cluster's name.
    pub metadata: Metadata,
    /// What the cluster should be.
    pub spec: ClusterSpec,
}

/// What a manifest says about itself. Whatever else Kubernetes keeps in `metadata` is passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct Metadata {
    /// The cluster's name: a DNS label of at most 55 characters.
    pub name: String,
    /// The Kubernetes namespace; means nothing elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// What the cluster should be. Either `nodes` or `replicas` is given, never both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.nodes) != has(self.replicas)",
        "message": "give either nodes or replicas, not both and not neither"
    },
    {
        "rule": "has(self.token) == has(oldSelf.token) && (!has(self.token) || self.token == oldSelf.token)",
        "message": "the token is part of the members' identity and cannot be changed",
        "fieldPath": ".token"
    },
    {
        "rule": "(has(self.engine) && self.engine == 'Etcd') == (has(oldSelf.engine) && oldSelf.engine == 'Etcd')",
        "message": "the engines do not read each other's data; the engine of a cluster cannot be changed",
        "fieldPath": ".engine"
    },
    {
        "rule": "!(has(self.engine) && self.engine == 'Etcd') || has(self.image)",
        "message": "the engine Etcd runs out of an image: name one under image",
        "fieldPath": ".image"
    },
    {
        "rule": "(has(self.storage) && has(self.storage.emptyDir)) == (has(oldSelf.storage) && has(oldSelf.storage.emptyDir))",
        "message": "emptyDir and volumeClaimTemplate cannot take each other's place: the data would not move along",
        "fieldPath": ".storage"
    },
    {
        "rule": "!isQuantity((has(self.storage) && has(self.storage.volumeClaimTemplate) ? self.storage.volumeClaimTemplate.size : '1Gi')) || quantity((has(self.storage) && has(self.storage.volumeClaimTemplate) ? self.storage.volumeClaimTemplate.size : '1Gi')).compareTo(quantity((has(oldSelf.storage) && has(oldSelf.storage.volumeClaimTemplate) ? oldSelf.storage.volumeClaimTemplate.size : '1Gi'))) >= 0",
        "message": "a volume (1Gi where no size is given) can only grow",
        "fieldPath": ".storage.volumeClaimTemplate.size"
    },
    {
        "rule": "(has(self.storage) && has(self.storage.volumeClaimTemplate) && has(self.storage.volumeClaimTemplate.storageClassName) ? self.storage.volumeClaimTemplate.storageClassName : '-') == (has(oldSelf.storage) && has(oldSelf.storage.volumeClaimTemplate) && has(oldSelf.storage.volumeClaimTemplate.storageClassName) ? oldSelf.storage.volumeClaimTemplate.storageClassName : '-')",
        "message": "the storage class of a volume cannot be changed once the volume is there",
        "fieldPath": ".storage.volumeClaimTemplate.storageClassName"
    },
    {
        "rule": "(has(self.storage) && has(self.storage.volumeClaimTemplate) && has(self.storage.volumeClaimTemplate.accessModes) ? self.storage.volumeClaimTemplate.accessModes : ['ReadWriteOnce']) == (has(oldSelf.storage) && has(oldSelf.storage.volumeClaimTemplate) && has(oldSelf.storage.volumeClaimTemplate.accessModes) ? oldSelf.storage.volumeClaimTemplate.accessModes : ['ReadWriteOnce'])",
        "message": "the access modes of a volume cannot be changed once the volume is there",
        "fieldPath": ".storage.volumeClaimTemplate.accessModes"
    }
]))]
pub struct ClusterSpec {
    /// The known hosts of the cluster: 1, 3, 5, 7 or 9 of them. An even number adds a way to
    /// lose quorum and tolerates no more failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 9))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[schemars(extend("x-kubernetes-validations" = [
        {
            "rule": "self.size() % 2 == 1",
            "message": "an even number of nodes adds a way to lose quorum and tolerates no more failures; name 1, 3, 5, 7 or 9"
        },
        {
            "rule": "self.all(a, self.exists_one(b, b.name == a.name))",
            "message": "each node needs a name of its own"
        },
        {
            "rule": "self.all(a, self.exists_one(b, b.address == a.address))",
            "message": "each node needs an address of its own"
        }
    ]))]
    pub nodes: Option<Vec<NodeSpec>>,
    /// How many nodes to run where no hosts are named: 1, 3, 5, 7 or 9. An even number adds a
    /// way to lose quorum and tolerates no more failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9))]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "self % 2 == 1",
        "message": "an even number adds a way to lose quorum and tolerates no more failures; write 1, 3, 5, 7 or 9"
    }]))]
    pub replicas: Option<u32>,
    /// The ports clients connect to. Default: 2379.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 9), inner(range(min = 1, max = 65535)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub client_ports: Option<Vec<u16>>,
    /// The port members connect to. Default: 2380.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub peer_port: Option<u16>,
    /// The cluster token, part of the founding members' identity; never changed afterwards.
    /// Default: the cluster's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub token: Option<String>,
    /// The engine's settings, the same on every node. What is not given is left to the engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<OptionsSpec>,
    /// What may be done without a person, and how soon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remediation: Option<RemediationSpec>,
    /// What runs as a member; cannot be changed. Default: `Embedded`. Like all that follows, it
    /// takes effect on Kubernetes only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
    /// The image that members run. Default, for the engine `Embedded`: the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = kubernetes::IMAGE))]
    pub image: Option<String>,
    /// The version of etcd that members must be, such as 3.6.5. Default: what the image holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = kubernetes::VERSION))]
    pub version: Option<String>,
    /// While true, the cluster is looked at and nothing is done to it. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Where members keep their data. Default: a volume of 1Gi for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,
    /// What each member's container asks for and is held to. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,
    /// What can be said about each member's pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_template: Option<PodTemplateSpec>,
    /// How a changed setting or image reaches the members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_strategy: Option<UpdateStrategySpec>,
    /// The budget that keeps a drain from taking the quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_disruption_budget: Option<DisruptionBudgetSpec>,
    /// What becomes of the volumes when the cluster is deleted. Default: `Retain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// One known host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct NodeSpec {
    /// The node's name: a DNS label, unique in the cluster. Another name is another node.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Where the node is reached: an IPv4 or IPv6 address or a DNS name, without port.
    #[schemars(length(min = 1, max = 63))]
    pub address: String,
    /// The port members connect to on this node. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub peer_port: Option<u16>,
    /// The ports clients connect to on this node. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 9), inner(range(min = 1, max = 65535)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub client_ports: Option<Vec<u16>>,
}

/// The engine's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.electionTimeoutMs) ? self.electionTimeoutMs : 1000) >= 5 * (has(self.heartbeatIntervalMs) ? self.heartbeatIntervalMs : 100)",
    "message": "electionTimeoutMs (default 1000) must be at least five times heartbeatIntervalMs (default 100)"
}]))]
pub struct OptionsSpec {
    /// How often a leader sends heartbeats, in milliseconds. The engine's default: 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub heartbeat_interval_ms: Option<u64>,
    /// How long followers wait for a heartbeat before they elect another leader, in milliseconds;
    /// at least five heartbeats. The engine's default: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 5, max = 50000))]
    pub election_timeout_ms: Option<u64>,
    /// After how many raft entries a snapshot is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_u64))]
    pub snapshot_count: Option<u64>,
    /// How large the store may grow, in bytes; 0 is the engine's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 9_007_199_254_740_991_u64))]
    pub quota_backend_bytes: Option<u64>,
    /// How large one request may be, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub max_request_bytes: Option<u64>,
    /// Any further flag of the engine, by its name without dashes, as text:
    /// `auto-compaction-retention: "1h"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub settings: BTreeMap<String, String>,
}

/// Limits on what is done without a person. What is not given has a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct RemediationSpec {
    /// When false, members are restarted but never replaced without `quorate replace`.
    /// Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Silence longer than this many seconds is evidence that a member is lost. Default: 30 on
    /// one machine, 300 on Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub unhealthy_seconds: Option<u64>,
    /// A learner without progress for this many seconds is removed and added anew. Default: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub learner_timeout_seconds: Option<u64>,
    /// Replacements of one node in 24 hours before a person must ask for more. Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1000))]
    pub max_replacements_per_day: Option<u64>,
    /// How many former data directories are kept per node, for undo; at least 1. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep_aside: Option<u64>,
}
