//! The resource as the API server keeps it: the file's own spec, with Kubernetes' metadata and a
//! status.

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Serialize};

use super::status::ClusterStatus;
use crate::cluster::spec::{API_VERSION, ClusterSpec, EtcdCluster, KIND, Metadata};

/// One `EtcdCluster` in Kubernetes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterObject {
    /// `quorate.dev/v1alpha1`
    pub api_version: String,
    /// `EtcdCluster`
    pub kind: String,
    /// Kubernetes' own.
    pub metadata: ObjectMeta,
    /// What the cluster should be.
    pub spec: ClusterSpec,
    /// What it is, and what must be remembered of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ClusterStatus>,
}

impl ClusterObject {
    /// The same as a file holds it.
    pub fn file_form(&self) -> EtcdCluster {
        EtcdCluster {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            metadata: Metadata {
                name: self.metadata.name.clone().unwrap_or_default(),
                namespace: self.metadata.namespace.clone(),
            },
            spec: self.spec.clone(),
        }
    }
}

impl Resource for ClusterObject {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        API_VERSION.split_once('/').map_or("", |(group, _)| group).into()
    }

    fn version((): &()) -> Cow<'_, str> {
        API_VERSION.split_once('/').map_or("", |(_, version)| version).into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "etcdclusters".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
