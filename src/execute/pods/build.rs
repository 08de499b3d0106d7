//! The objects of a cluster, from its spec and its places. Pure: nothing here asks the API server.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::place::{
    CONTAINER, DIGEST, FOUNDING_ID, FOUNDING_NODES, MEMBER_ID, NODE, Names, PLACE, ROLE,
    STATE_PORT, TOKEN, client_ports, peer_port,
};
use super::resource::ClusterObject;
use super::status::Place;
use crate::cluster::spec::{ClusterSpec, Engine, Storage};
use crate::cluster::{Founding, FoundingId, MemberId, NodeName, quorum};
use crate::render::{self, InitialState, NodeConfig};

/// Where a node's home is in its pod.
const HOME: &str = "/var/lib/quorate";
/// Nobody in particular, as in distroless images.
const USER: u64 = 65_532;
/// How long a member may take to end: it hands the leadership over first.
const GRACE_SECONDS: u64 = 30;

/// Why an object could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A part of the spec that is passed on to Kubernetes has a form that it does not know.
    #[error("the spec makes no {kind} that Kubernetes knows")]
    Form {
        /// What was to be made.
        kind: &'static str,
        /// Where it does not fit.
        source: serde_json::Error,
    },
    /// A setting cannot be passed on.
    #[error("the configuration cannot be written down")]
    Config(#[from] render::RenderError),
}

/// All that the objects of one cluster are made from.
#[derive(Clone, Debug)]
pub(super) struct Plans<'a> {
    pub(super) names: &'a Names,
    pub(super) object: &'a ClusterObject,
    /// The image that has `quorate`.
    pub(super) node_image: &'a str,
}

/// What one start is told beside the configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StartAs {
    pub(super) founding: Option<FoundingId>,
    pub(super) member: Option<MemberId>,
    pub(super) replaces: Option<MemberId>,
}

impl Plans<'_> {
    fn spec(&self) -> &ClusterSpec {
        &self.object.spec
    }

    fn metadata(&self, name: &str) -> Value {
        json!({
            "name": name,
            "namespace": self.names.namespace,
            "labels": self.names.labels(),
            "ownerReferences": [self.owner()],
        })
    }

    fn owner(&self) -> Value {
        json!({
            "apiVersion": self.object.api_version,
            "kind": self.object.kind,
            "name": self.names.cluster,
            "uid": self.object.metadata.uid,
            // Or a drain refuses the pods as nobody's.
            "controller": true,
            "blockOwnerDeletion": true,
        })
    }

    /// Gives each pod its name, ready or not: members that start must find each other.
    pub(super) fn peers(&self) -> Result<Service, BuildError> {
        let mut ports = vec![
            json!({"name": "peer", "port": peer_port(self.spec()), "protocol": "TCP"}),
            json!({"name": "state", "port": STATE_PORT, "protocol": "TCP"}),
        ];
        ports.extend(self.client_service_ports());
        made(
            "Service",
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": self.metadata(&self.names.peers()),
                "spec": {
                    "clusterIP": "None",
                    "publishNotReadyAddresses": true,
                    "selector": {super::place::CLUSTER: self.names.cluster},
                    "ports": ports,
                },
            }),
        )
    }

    /// What clients connect to.
    pub(super) fn clients(&self) -> Result<Service, BuildError> {
        made(
            "Service",
            json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": self.metadata(&self.names.clients()),
                "spec": {
                    "type": "ClusterIP",
                    "selector": {super::place::CLUSTER: self.names.cluster},
                    "ports": self.client_service_ports().collect::<Vec<_>>(),
                },
            }),
        )
    }

    fn client_service_ports(&self) -> impl Iterator<Item = Value> {
        let ports = client_ports(self.spec()).into_iter().enumerate();
        ports.map(|(at, port)| {
            let name = if at == 0 { "client".to_owned() } else { format!("client-{at}") };
            json!({"name": name, "port": port, "protocol": "TCP"})
        })
    }

    /// The pods' account: it may do nothing, and its token is not mounted.
    pub(super) fn account(&self) -> Result<ServiceAccount, BuildError> {
        made(
            "ServiceAccount",
            json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": self.metadata(&self.names.account()),
                "automountServiceAccountToken": false,
            }),
        )
    }

    /// Keeps a quorum of the voters from being evicted, by others and by us (safety 23).
    pub(super) fn budget(&self, voters: usize) -> Result<PodDisruptionBudget, BuildError> {
        let target = usize::try_from(self.spec().replicas.unwrap_or(1)).unwrap_or(1);
        made(
            "PodDisruptionBudget",
            json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": self.metadata(&self.names.cluster),
                "spec": {
                    "minAvailable": quorum(voters.max(target)),
                    "unhealthyPodEvictionPolicy": "AlwaysAllow",
                    "selector": {"matchLabels": {
                        super::place::CLUSTER: self.names.cluster,
                        ROLE: "voter",
                    }},
                },
            }),
        )
    }

    /// A volume. It has no owner: what becomes of it is `deletionPolicy`'s to say.
    pub(super) fn volume(
        &self,
        node: &NodeName,
        place: &Place,
        token: &str,
        founding: Option<&Founding>,
    ) -> Result<Option<PersistentVolumeClaim>, BuildError> {
        let Some(name) = &place.volume else { return Ok(None) };
        let Storage::Volume(claim) = self.spec().storage() else { return Ok(None) };
        let nodes = founding.map(|f| json!(f.nodes).to_string());
        let mut labels = self.names.labels();
        labels.insert(NODE.to_owned(), node.0.clone());
        made(
            "PersistentVolumeClaim",
            json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": name,
                    "namespace": self.names.namespace,
                    "labels": labels,
                    "annotations": {
                        PLACE: place.pod,
                        TOKEN: token,
                        FOUNDING_ID: founding.map(|f| f.id.to_string()),
                        FOUNDING_NODES: nodes,
                    },
                },
                "spec": {
                    "accessModes": claim.access_modes,
                    "storageClassName": claim.storage_class_name,
                    "resources": {"requests": {"storage": claim.size}},
                },
            }),
        )
        .map(Some)
    }

    /// A node's configuration: where it listens is not where it is reached.
    pub(super) fn config(&self, config: NodeConfig) -> NodeConfig {
        let any = |port: u16| format!("http://0.0.0.0:{port}");
        NodeConfig {
            listen_peer_urls: vec![any(peer_port(self.spec()))],
            listen_client_urls: client_ports(self.spec()).into_iter().map(any).collect(),
            data_dir: format!("{HOME}/data"),
            ..config
        }
    }

    /// The configuration of one start, named after the place and its content (safety 25).
    pub(super) fn config_map(
        &self,
        place: &Place,
        config: &NodeConfig,
    ) -> Result<ConfigMap, BuildError> {
        let data: BTreeMap<_, _> = config
            .settings()
            .into_iter()
            .map(|(flag, value)| (render::env_name(&flag), value))
            .collect();
        let name = format!("{}-{}", place.pod, digest(&json!(data)));
        made(
            "ConfigMap",
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": self.metadata(&name),
                "immutable": true,
                "data": data,
            }),
        )
    }

    /// What of a pod a restart can change: everything but what only matters to a first start.
    pub(super) fn digest(&self, config: &NodeConfig) -> String {
        let lasting = NodeConfig {
            initial_cluster: Vec::new(),
            initial_cluster_state: InitialState::New,
            initial_cluster_token: String::new(),
            initial_advertise_peer_urls: Vec::new(),
            advertise_client_urls: Vec::new(),
            name: String::new(),
            ..config.clone()
        };
        digest(&json!([lasting.settings(), self.pod_spec("", "", None, StartAs::default())]))
    }

    /// A pod that runs one member.
    pub(super) fn pod(
        &self,
        node: &NodeName,
        place: &Place,
        config: &NodeConfig,
        config_map: &str,
        start: StartAs,
    ) -> Result<Pod, BuildError> {
        let template = self.spec().pod_template.clone().unwrap_or_default();
        let mut labels = template.labels.clone();
        labels.extend(self.names.labels());
        labels.insert(NODE.to_owned(), node.0.clone());
        labels.insert(ROLE.to_owned(), "learner".to_owned());
        let mut annotations = template.annotations;
        annotations.insert(DIGEST.to_owned(), self.digest(config));
        let volume = place.volume.as_deref();
        made(
            "Pod",
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {
                    "name": place.pod,
                    "namespace": self.names.namespace,
                    "labels": labels,
                    "annotations": annotations,
                    "ownerReferences": [self.owner()],
                },
                "spec": self.pod_spec(&place.pod, config_map, volume, start),
            }),
        )
    }

    fn pod_spec(&self, pod: &str, config_map: &str, volume: Option<&str>, start: StartAs) -> Value {
        let template = self.spec().pod_template.clone().unwrap_or_default();
        let security = template.security_context.clone().unwrap_or_default();
        let user = security.run_as_user.unwrap_or(USER);
        let group = security.run_as_group.unwrap_or(user);
        let data = if let Some(claim) = volume {
            json!({"name": "data", "persistentVolumeClaim": {"claimName": claim}})
        } else {
            let limit = match self.spec().storage() {
                Storage::EmptyDir(directory) => directory.size_limit,
                Storage::Volume(_) => None,
            };
            json!({"name": "data", "emptyDir": {"sizeLimit": limit}})
        };
        let is_upstream = self.spec().engine() == Engine::Etcd;
        let mut volumes = vec![data];
        let mut init = Vec::new();
        if is_upstream {
            volumes.push(json!({"name": "quorate-bin", "emptyDir": {}}));
            init.push(json!({
                "name": "quorate",
                "image": self.node_image,
                "imagePullPolicy": template.image_pull_policy,
                "command": ["/quorate", "copy-self", "/quorate-bin/quorate"],
                "volumeMounts": [{"name": "quorate-bin", "mountPath": "/quorate-bin"}],
                "securityContext": restricted(),
            }));
        }
        json!({
            "restartPolicy": "Always",
            "hostname": pod,
            "subdomain": self.names.peers(),
            "serviceAccountName": self.names.account(),
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds":
                template.termination_grace_period_seconds.unwrap_or(GRACE_SECONDS),
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": user,
                "runAsGroup": group,
                "fsGroup": security.fs_group.unwrap_or(group),
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "nodeSelector": template.node_selector,
            "affinity": template.affinity.clone().or_else(|| Some(self.apart())),
            "tolerations": template.tolerations,
            "topologySpreadConstraints": template.topology_spread_constraints,
            "priorityClassName": template.priority_class_name,
            "imagePullSecrets": template.image_pull_secrets,
            "initContainers": init,
            "containers": [self.container(config_map, start)],
            "volumes": volumes,
        })
    }

    /// Members had better not share a machine; where there are too few, they may.
    fn apart(&self) -> Value {
        json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 100,
            "podAffinityTerm": {
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": {super::place::CLUSTER: self.names.cluster}},
            },
        }]}})
    }

    fn container(&self, config_map: &str, start: StartAs) -> Value {
        let spec = self.spec();
        let template = spec.pod_template.clone().unwrap_or_default();
        let is_upstream = spec.engine() == Engine::Etcd;
        let (quorate, image) = if is_upstream {
            ("/quorate-bin/quorate", spec.image.as_deref().unwrap_or_default())
        } else {
            ("/quorate", spec.image.as_deref().unwrap_or(self.node_image))
        };
        let mut args = vec![
            "node".to_owned(),
            format!("--node-home={HOME}"),
            format!("--state-listen=0.0.0.0:{STATE_PORT}"),
            "--termination-log=/dev/termination-log".to_owned(),
        ];
        let ids = [
            ("founding-id", start.founding.map(|id| id.to_string())),
            ("expect-member", start.member.map(|id| id.to_string())),
            ("replaces", start.replaces.map(|id| id.to_string())),
        ];
        args.extend(ids.into_iter().filter_map(|(flag, id)| Some(format!("--{flag}={}", id?))));
        if is_upstream {
            args.push("--exec=etcd".to_owned());
        }
        let client = client_ports(spec).first().copied().unwrap_or_default();
        let mut ports: Vec<_> = client_ports(spec)
            .into_iter()
            .enumerate()
            .map(|(at, port)| {
                let name = if at == 0 { "client".to_owned() } else { format!("client-{at}") };
                json!({"name": name, "containerPort": port})
            })
            .collect();
        ports.push(json!({"name": "peer", "containerPort": peer_port(spec)}));
        ports.push(json!({"name": "state", "containerPort": STATE_PORT}));
        // Read anew at each start of the container: one that starts again is told what it cannot
        // know once its volume is emptied.
        let has_run = format!("metadata.annotations['{MEMBER_ID}']");
        let mut env = vec![json!({
            "name": "QUORATE_HAS_RUN",
            "valueFrom": {"fieldRef": {"fieldPath": has_run}},
        })];
        env.extend(template.env.into_iter().map(|it| json!(it)));
        let mut mounts = vec![json!({"name": "data", "mountPath": HOME})];
        if is_upstream {
            mounts.push(
                json!({"name": "quorate-bin", "mountPath": "/quorate-bin", "readOnly": true}),
            );
        }
        // Nothing that needs a quorum may restart a member: it would come back into the same
        // lost quorum, and never get to find it again.
        let lives = json!({"path": "/livez", "port": "state"});
        json!({
            "name": CONTAINER,
            "image": image,
            "imagePullPolicy": template.image_pull_policy,
            "command": [quorate],
            "args": args,
            "env": env,
            "envFrom": [{"configMapRef": {"name": config_map}}],
            "ports": ports,
            "resources": spec.resources,
            "volumeMounts": mounts,
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "securityContext": restricted(),
            "startupProbe": {"httpGet": lives, "periodSeconds": 1, "failureThreshold": 60},
            "livenessProbe": {
                "httpGet": lives, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6,
            },
            "readinessProbe": {
                "httpGet": {"path": "/health", "port": client},
                "periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 2,
            },
        })
    }
}

/// What the Pod Security level `restricted` asks of a container, and a root that nobody can write.
fn restricted() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    })
}

/// Eight hex digits that change with the content.
fn digest(content: &Value) -> String {
    let hash = Sha1::digest(content.to_string());
    let first = hash.iter().take(4).fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    format!("{first:08x}")
}

/// Kubernetes takes an absent field for its default; a null it may not.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        value => value,
    }
}

fn made<T: DeserializeOwned>(kind: &'static str, value: Value) -> Result<T, BuildError> {
    serde_json::from_value(without_nulls(value)).map_err(|source| BuildError::Form { kind, source })
}
