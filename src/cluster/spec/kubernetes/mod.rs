//! What a cluster says about its pods: fields that take effect on Kubernetes only. Elsewhere they
//! are checked and passed over.
//!
//! Only chosen fields of a pod can be set. The whole of Kubernetes' own type would be larger than
//! the annotation `kubectl apply` keeps, and most of it would break what the operator relies on.

mod check;
mod quantity;
mod schema;

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use check::check;
pub use quantity::{quantity_bytes, quantity_nanos};
pub(super) use schema::{IMAGE, VERSION};

use super::ClusterSpec;

/// The version of etcd whose API the embedded engine speaks, and which it says it is.
pub const EMBEDDED_VERSION: &str = "3.7.3";

/// How large a volume is when the spec says nothing of storage.
pub const DEFAULT_VOLUME_SIZE: &str = "1Gi";

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize, JsonSchema,
        )]
        #[schemars(inline)]
        pub enum $name { $($(#[$word_doc])* $word),+ }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self:?}")
            }
        }
    };
}

words! {
    /// What runs as a member.
    Engine {
        /// Quorate's own member, in the image of Quorate.
        #[default]
        Embedded,
        /// An upstream etcd out of `image`, started and watched by Quorate.
        Etcd,
    }
}
words! {
    /// How a volume may be mounted.
    AccessMode {
        /// By the pods of one node at a time.
        #[default]
        ReadWriteOnce,
        /// By one pod at a time.
        ReadWriteOncePod,
        /// By any pod; only one ever does.
        ReadWriteMany,
    }
}
words! {
    /// When a changed setting or image reaches the members.
    UpdateStrategy {
        /// One member after the other, each stopped only while the others are a quorum.
        #[default]
        RollingUpdate,
        /// As soon as its pod is deleted by somebody.
        OnDelete,
    }
}
words! {
    /// When an image is pulled.
    ImagePullPolicy {
        /// If the machine does not have it.
        #[default]
        IfNotPresent,
        /// At each start.
        Always,
        /// By somebody else.
        Never,
    }
}
words! {
    /// What becomes of the volumes when the cluster is deleted.
    DeletionPolicy {
        /// They stay, and a cluster of the same name and token takes them over.
        #[default]
        Retain,
        /// They are deleted too, and with them the data.
        Delete,
    }
}

/// Where members keep their data: at most one of the two. Default: a `volumeClaimTemplate` of 1Gi
/// in the default storage class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!(has(self.volumeClaimTemplate) && has(self.emptyDir))",
    "message": "keep one of volumeClaimTemplate and emptyDir"
}]))]
pub struct StorageSpec {
    /// A volume of its own for each member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_claim_template: Option<VolumeClaimSpec>,
    /// A directory that goes with the pod: for tests. Each deleted pod is a lost member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDirSpec>,
}

/// A volume for each member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct VolumeClaimSpec {
    /// The storage class; cannot be changed. Default: the one that the Kubernetes cluster calls
    /// its default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
    /// How the volume may be mounted; cannot be changed. Default: `ReadWriteOnce`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::access_modes")]
    pub access_modes: Vec<AccessMode>,
    /// How large it is, such as 10Gi; can only grow.
    #[schemars(schema_with = "schema::size")]
    pub size: String,
}

impl Default for VolumeClaimSpec {
    fn default() -> Self {
        VolumeClaimSpec {
            storage_class_name: None,
            access_modes: vec![AccessMode::default()],
            size: DEFAULT_VOLUME_SIZE.to_owned(),
        }
    }
}

/// A directory that goes with the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct EmptyDirSpec {
    /// How large it may grow before the pod is evicted, such as 1Gi. Default: as the machine has
    /// room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::size")]
    pub size_limit: Option<String>,
}

/// A cluster's storage with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// A volume for each member; its access modes are never empty.
    Volume(VolumeClaimSpec),
    /// A directory that goes with the pod.
    EmptyDir(EmptyDirSpec),
}

/// What each member's container asks for, by the name of the resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) || !isQuantity(self.requests[name]) || !isQuantity(self.limits[name]) || quantity(self.requests[name]).compareTo(quantity(self.limits[name])) <= 0)",
    "message": "a request cannot be more than its limit"
}]))]
pub struct ResourcesSpec {
    /// What is set aside for it: {cpu: 500m, memory: 512Mi}.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    pub requests: BTreeMap<String, String>,
    /// What it may never exceed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::quantities")]
    pub limits: BTreeMap<String, String>,
}

/// What can be said about each member's pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct PodTemplateSpec {
    /// Labels beside those of Quorate.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub labels: BTreeMap<String, String>,
    /// Annotations beside those of Quorate.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::annotations")]
    pub annotations: BTreeMap<String, String>,
    /// Labels that a machine must have to run a member.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::node_selector")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that do not keep members away, in Kubernetes' own form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::any_objects")]
    pub tolerations: Vec<Value>,
    /// Which machines and pods to be near to or apart from, in Kubernetes' own form. Default:
    /// members prefer machines of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::any_object")]
    pub affinity: Option<Value>,
    /// How members spread over zones, in Kubernetes' own form.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::any_objects")]
    pub topology_spread_constraints: Vec<Value>,
    /// The pods' priority class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Variables for the engine, such as `GOMAXPROCS`. Its settings go into `options`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<EnvVar>,
    /// As whom the container runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContextSpec>,
    /// How many seconds a member has to hand over its leadership and stop. Default: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub termination_grace_period_seconds: Option<u64>,
    /// When images are pulled. Default: Kubernetes' own, `Always` for the tag latest and
    /// `IfNotPresent` for any other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// The secrets, in the cluster's namespace, that images are pulled with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub image_pull_secrets: Vec<SecretName>,
}

/// One variable of the engine's environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct EnvVar {
    /// Its name. `ETCD_*` and `QUORATE_*` are not for the spec to set.
    #[schemars(schema_with = "schema::env_name")]
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// The name of a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct SecretName {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// As whom the container runs. That it is not root, writes to its volume only and has no
/// capability cannot be changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct SecurityContextSpec {
    /// The user; not 0. Default: 65532.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_user: Option<u64>,
    /// The group. Default: of the user's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub run_as_group: Option<u64>,
    /// The group that the volume belongs to. Default: the container's group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub fs_group: Option<u64>,
}

/// How a change reaches the members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct UpdateStrategySpec {
    /// By itself or when somebody deletes a pod. Default: `RollingUpdate`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<UpdateStrategy>,
}

/// The budget that keeps a drain from taking the quorum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub struct DisruptionBudgetSpec {
    /// Whether there is one. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

impl ClusterSpec {
    /// What runs as a member.
    pub fn engine(&self) -> Engine {
        self.engine.unwrap_or_default()
    }

    /// The version asked for, without a leading `v`; `None` where whatever the image holds will do.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref().map(|version| version.strip_prefix('v').unwrap_or(version))
    }

    /// Whether everything is to be left as it is.
    pub fn is_paused(&self) -> bool {
        self.paused.unwrap_or(false)
    }

    /// Where members keep their data, every default filled in.
    pub fn storage(&self) -> Storage {
        let given = self.storage.clone().unwrap_or_default();
        if let Some(directory) = given.empty_dir {
            return Storage::EmptyDir(directory);
        }
        let mut volume = given.volume_claim_template.unwrap_or_default();
        if volume.access_modes.is_empty() {
            volume.access_modes.push(AccessMode::default());
        }
        Storage::Volume(volume)
    }

    /// When a change reaches the members.
    pub fn update_strategy(&self) -> UpdateStrategy {
        self.update_strategy.as_ref().and_then(|given| given.kind).unwrap_or_default()
    }

    /// Whether drains are to be held back where they would take the quorum.
    pub fn wants_disruption_budget(&self) -> bool {
        self.pod_disruption_budget.as_ref().and_then(|given| given.enabled).unwrap_or(true)
    }

    /// What becomes of the volumes when the cluster is deleted.
    pub fn deletion_policy(&self) -> DeletionPolicy {
        self.deletion_policy.unwrap_or_default()
    }

    /// The fields of this module that are given.
    pub(super) fn kubernetes_fields(&self) -> [(&'static str, bool); 10] {
        [
            ("spec.engine", self.engine.is_some()),
            ("spec.image", self.image.is_some()),
            ("spec.version", self.version.is_some()),
            ("spec.paused", self.paused.is_some()),
            ("spec.storage", self.storage.is_some()),
            ("spec.resources", self.resources.is_some()),
            ("spec.podTemplate", self.pod_template.is_some()),
            ("spec.updateStrategy", self.update_strategy.is_some()),
            ("spec.podDisruptionBudget", self.pod_disruption_budget.is_some()),
            ("spec.deletionPolicy", self.deletion_policy.is_some()),
        ]
    }
}
