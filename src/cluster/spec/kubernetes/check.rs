//! What the fields for Kubernetes may say, beyond their types. An API server checks most of it
//! too; a file is told here, before it is sent, and with its line.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::schema::QUANTITY_LENGTH;
use super::{EMBEDDED_VERSION, Engine, EnvVar, PodTemplateSpec, ResourcesSpec, StorageSpec};
use super::{SecurityContextSpec, quantity_nanos};
use crate::cluster::spec::check::{Checked, check_range};
use crate::cluster::spec::{ClusterSpec, SpecError};

/// The first thing that is wrong, in the order of the fields.
pub(in crate::cluster::spec) fn check(spec: &ClusterSpec) -> Checked {
    check_image(spec)?;
    check_version(spec)?;
    spec.storage.as_ref().map_or(Ok(()), check_storage)?;
    spec.resources.as_ref().map_or(Ok(()), check_resources)?;
    spec.pod_template.as_ref().map_or(Ok(()), check_pod)
}

fn check_image(spec: &ClusterSpec) -> Checked {
    let Some(image) = &spec.image else {
        if spec.engine() == Engine::Etcd {
            let what = "the engine Etcd runs out of an image, and none is named";
            let fix = "name one under spec.image, such as gcr.io/etcd-development/etcd:v3.6.5";
            return Err(SpecError::at("spec.engine", what, fix));
        }
        return Ok(());
    };
    if image.is_empty() || image.len() > 512 || image.contains(char::is_whitespace) {
        let fix = "write a reference such as gcr.io/etcd-development/etcd:v3.6.5";
        return Err(SpecError::at("spec.image", format!("{image:?} is no image"), fix));
    }
    Ok(())
}

fn check_version(spec: &ClusterSpec) -> Checked {
    let (Some(given), Some(version)) = (&spec.version, spec.version()) else { return Ok(()) };
    if given.len() > 63 || !is_version(version) {
        let fix = format!("write all three numbers of one, such as {EMBEDDED_VERSION}");
        return Err(SpecError::at("spec.version", format!("{given:?} is no version"), fix));
    }
    if spec.engine() == Engine::Embedded && version != EMBEDDED_VERSION {
        let what = format!("{given} is not the version of the embedded engine, {EMBEDDED_VERSION}");
        let fix = "leave it out, or write engine: Etcd and an image of that version";
        return Err(SpecError::at("spec.version", what, fix));
    }
    Ok(())
}

fn is_version(text: &str) -> bool {
    let (release, pre) = text.split_once('-').unwrap_or((text, "0"));
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let word = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    release.split('.').count() == 3
        && release.split('.').all(number)
        && !pre.is_empty()
        && pre.chars().all(word)
}

fn check_storage(storage: &StorageSpec) -> Checked {
    let at = "spec.storage";
    if storage.volume_claim_template.is_some() && storage.empty_dir.is_some() {
        let what = "volumeClaimTemplate and emptyDir are both given";
        let fix = "keep volumeClaimTemplate, or emptyDir where losing a pod may lose its data";
        return Err(SpecError::at(at, what, fix));
    }
    if let Some(volume) = &storage.volume_claim_template {
        let at = format!("{at}.volumeClaimTemplate");
        // An empty class is a word of its own: volumes that somebody made by hand.
        if let Some(class) = volume.storage_class_name.as_deref().filter(|name| !name.is_empty()) {
            check_name(&format!("{at}.storageClassName"), class)?;
        }
        let mut seen = BTreeSet::new();
        for (n, mode) in volume.access_modes.iter().enumerate() {
            if !seen.insert(mode) {
                let path = format!("{at}.accessModes[{n}]");
                return Err(SpecError::at(path, format!("{mode} stands twice"), "name it once"));
            }
        }
        check_size(&format!("{at}.size"), &volume.size)?;
    }
    match storage.empty_dir.as_ref().and_then(|directory| directory.size_limit.as_deref()) {
        Some(limit) => check_size(&format!("{at}.emptyDir.sizeLimit"), limit),
        None => Ok(()),
    }
}

/// A size in bytes that is more than nothing.
fn check_size(path: &str, text: &str) -> Checked {
    check_bytes(path, text)?;
    if quantity_nanos(text) == Some(0) {
        return Err(SpecError::at(path, "a size of 0 holds nothing", "write one such as 10Gi"));
    }
    Ok(())
}

fn check_bytes(path: &str, text: &str) -> Checked {
    check_quantity(path, text, "10Gi")?;
    match text.strip_suffix('m') {
        // What is meant is a million, and what it says is a thousandth.
        Some(number) => {
            let what = format!("{text:?} is in thousandths of a byte");
            Err(SpecError::at(path, what, format!("write {number}Mi")))
        }
        None => Ok(()),
    }
}

fn check_quantity(path: &str, text: &str, example: &str) -> Checked {
    if text.len() > QUANTITY_LENGTH || quantity_nanos(text).is_none() {
        let what = format!("{text:?} is no amount as Kubernetes writes them");
        return Err(SpecError::at(path, what, format!("write one such as {example}")));
    }
    Ok(())
}

fn check_resources(resources: &ResourcesSpec) -> Checked {
    for (field, amounts) in [("requests", &resources.requests), ("limits", &resources.limits)] {
        let at = format!("spec.resources.{field}");
        check_count(&at, amounts.len(), 8)?;
        for (name, amount) in amounts {
            let path = format!("{at}.{name}");
            match &**name {
                "cpu" => check_quantity(&path, amount, "500m")?,
                "memory" | "ephemeral-storage" => check_bytes(&path, amount)?,
                name if name.starts_with("hugepages-") => check_bytes(&path, amount)?,
                name if name.contains('/') => {
                    check_key(&path, name)?;
                    check_quantity(&path, amount, "1")?;
                }
                _ => {
                    let what = format!("{name:?} is no resource of a container");
                    let fix = "write cpu, memory, ephemeral-storage or one of a domain, such as \
                               example.org/disks";
                    return Err(SpecError::at(path, what, fix));
                }
            }
        }
    }
    for (name, asked) in &resources.requests {
        let Some(limit) = resources.limits.get(name) else { continue };
        if quantity_nanos(asked) > quantity_nanos(limit) {
            let path = format!("spec.resources.requests.{name}");
            let what = format!("{asked} is more than the limit of {limit}");
            return Err(SpecError::at(path, what, "ask for less, or raise the limit"));
        }
    }
    Ok(())
}

fn check_pod(pod: &PodTemplateSpec) -> Checked {
    let at = |field: &str| format!("spec.podTemplate.{field}");
    check_labels(&at("labels"), &pod.labels, OWN_LABELS)?;
    check_annotations(&at("annotations"), &pod.annotations)?;
    check_labels(&at("nodeSelector"), &pod.node_selector, &[])?;
    let tolerations = ["key", "operator", "value", "effect", "tolerationSeconds"];
    check_objects(&at("tolerations"), &pod.tolerations, &tolerations, &[])?;
    if let Some(affinity) = &pod.affinity {
        let fields = ["nodeAffinity", "podAffinity", "podAntiAffinity"];
        check_object(&at("affinity"), affinity, &fields, &[])?;
    }
    let needed = ["maxSkew", "topologyKey", "whenUnsatisfiable"];
    let others =
        ["labelSelector", "matchLabelKeys", "minDomains", "nodeAffinityPolicy", "nodeTaintsPolicy"];
    let fields: Vec<_> = needed.into_iter().chain(others).collect();
    let spread = &pod.topology_spread_constraints;
    check_objects(&at("topologySpreadConstraints"), spread, &fields, &needed)?;
    if let Some(class) = &pod.priority_class_name {
        check_name(&at("priorityClassName"), class)?;
    }
    check_env(&at("env"), &pod.env)?;
    pod.security_context.as_ref().map_or(Ok(()), check_security)?;
    let grace = "terminationGracePeriodSeconds";
    check_range(&at(grace), pod.termination_grace_period_seconds, 1, 86_400)?;
    check_count(&at("imagePullSecrets"), pod.image_pull_secrets.len(), 8)?;
    let mut seen = BTreeSet::new();
    for (n, secret) in pod.image_pull_secrets.iter().enumerate() {
        let path = at(&format!("imagePullSecrets[{n}].name"));
        check_name(&path, &secret.name)?;
        if !seen.insert(&secret.name) {
            let what = format!("{} stands twice", secret.name);
            return Err(SpecError::at(path, what, "name it once"));
        }
    }
    Ok(())
}

/// The labels that Quorate finds its own pods by; one that ends in a slash is a family.
const OWN_LABELS: &[&str] = &[
    "quorate.dev/",
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
];

fn check_labels(at: &str, labels: &BTreeMap<String, String>, own: &[&str]) -> Checked {
    check_count(at, labels.len(), 32)?;
    for (key, value) in labels {
        let path = format!("{at}.{key}");
        check_key(&path, key)?;
        check_own(&path, key, own)?;
        if !value.is_empty() && !is_qualified(value) {
            let what = format!("{value:?} cannot be a label's value");
            return Err(SpecError::at(path, what, LABEL_FIX));
        }
    }
    Ok(())
}

fn check_annotations(at: &str, annotations: &BTreeMap<String, String>) -> Checked {
    check_count(at, annotations.len(), 32)?;
    for (key, value) in annotations {
        let path = format!("{at}.{key}");
        check_key(&path, key)?;
        check_own(&path, key, &["quorate.dev/"])?;
        check_length(&path, value)?;
    }
    Ok(())
}

const LABEL_FIX: &str =
    "use at most 63 letters, digits, -, _ and ., with a letter or digit at both ends";

fn check_own(path: &str, key: &str, own: &[&str]) -> Checked {
    let is_own = |own: &&str| key == *own || (own.ends_with('/') && key.starts_with(*own));
    if own.iter().any(is_own) {
        let what = format!("{key} is set by Quorate itself");
        return Err(SpecError::at(path, what, "leave it out, or give it another name"));
    }
    Ok(())
}

/// A key of labels and annotations: a name, or a DNS name, a slash and a name.
fn check_key(path: &str, key: &str) -> Checked {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if !is_qualified(name) || !prefix.is_none_or(is_subdomain) {
        return Err(SpecError::at(path, format!("{key:?} cannot be a key"), LABEL_FIX));
    }
    Ok(())
}

fn is_qualified(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let ends = [name.bytes().next(), name.bytes().next_back()];
    name.len() <= 63
        && name.bytes().all(inner)
        && ends.iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()))
}

fn is_subdomain(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The name of an object of Kubernetes.
fn check_name(path: &str, name: &str) -> Checked {
    if !is_subdomain(name) {
        let fix = "use lower-case letters, digits, dashes and dots, at most 253";
        return Err(SpecError::at(path, format!("{name:?} cannot be a name"), fix));
    }
    Ok(())
}

fn check_count(path: &str, count: usize, most: usize) -> Checked {
    if count > most {
        let what = format!("{count} entries are more than {most}");
        return Err(SpecError::at(path, what, "name fewer"));
    }
    Ok(())
}

fn check_length(path: &str, text: &str) -> Checked {
    let length = text.chars().count();
    if length > 4096 {
        let what = format!("the text has {length} characters");
        return Err(SpecError::at(path, what, "use at most 4096"));
    }
    Ok(())
}

fn check_env(at: &str, variables: &[EnvVar]) -> Checked {
    check_count(at, variables.len(), 32)?;
    let mut seen = BTreeMap::new();
    for (n, EnvVar { name, value }) in variables.iter().enumerate() {
        let path = format!("{at}[{n}].name");
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if name.is_empty()
            || name.len() > 253
            || !name.bytes().all(inner)
            || name.starts_with(|c: char| c.is_ascii_digit())
        {
            let fix = "use letters, digits and _, not a digit first, at most 253";
            return Err(SpecError::at(path, format!("{name:?} is no name of a variable"), fix));
        }
        if name.starts_with("ETCD_") || name.starts_with("QUORATE_") {
            let what = format!("{name} is not for the spec to set");
            let fix = "write an engine's setting under spec.options";
            return Err(SpecError::at(path, what, fix));
        }
        if let Some(first) = seen.insert(name, n) {
            let what = format!("{name} is also the name of {at}[{first}]");
            return Err(SpecError::at(path, what, "set it once"));
        }
        check_length(&format!("{at}[{n}].value"), value)?;
    }
    Ok(())
}

fn check_security(security: &SecurityContextSpec) -> Checked {
    const LARGEST: u64 = 2_147_483_647;
    let at = |field: &str| format!("spec.podTemplate.securityContext.{field}");
    if security.run_as_user == Some(0) {
        let what = "a member never runs as root";
        let fix = "write a number from 1 to 2147483647, or leave it out";
        return Err(SpecError::at(at("runAsUser"), what, fix));
    }
    check_range(&at("runAsUser"), security.run_as_user, 1, LARGEST)?;
    check_range(&at("runAsGroup"), security.run_as_group, 0, LARGEST)?;
    check_range(&at("fsGroup"), security.fs_group, 0, LARGEST)
}

fn check_objects(at: &str, values: &[Value], fields: &[&str], needed: &[&str]) -> Checked {
    check_count(at, values.len(), 16)?;
    let mut values = values.iter().enumerate();
    values.try_for_each(|(n, value)| check_object(&format!("{at}[{n}]"), value, fields, needed))
}

/// A part in Kubernetes' own form: its fields are named here, what is in them is for the API
/// server to judge.
fn check_object(path: &str, value: &Value, fields: &[&str], needed: &[&str]) -> Checked {
    let Some(given) = value.as_object() else {
        let fix = "write its fields below it, indented";
        return Err(SpecError::at(path, "this is no mapping of fields", fix));
    };
    if let Some(unknown) = given.keys().find(|key| !fields.contains(&key.as_str())) {
        let fix = format!("the fields here are {}", fields.join(", "));
        return Err(SpecError::at(format!("{path}.{unknown}"), "unknown field", fix));
    }
    match needed.iter().find(|field| !given.contains_key(**field)) {
        Some(missing) => {
            Err(SpecError::at(format!("{path}.{missing}"), "the field is missing", "add it"))
        }
        None => Ok(()),
    }
}
