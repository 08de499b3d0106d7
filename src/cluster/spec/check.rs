//! What a spec may say, beyond the types of its fields.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};

use super::{API_VERSION, ClusterSpec, EtcdCluster, KIND, MAX_NODES, NodeSpec, OptionsSpec};
use super::{RemediationSpec, SpecError, kubernetes};
use crate::cluster::{Place, SettingError, canonical_value, find_setting};

pub(super) type Checked = Result<(), SpecError>;

/// The port members connect to, unless said.
pub(super) const PEER_PORT: u16 = 2380;

/// The peer port and the client ports of a named node.
pub(super) fn endpoints(spec: &ClusterSpec, node: &NodeSpec) -> (Option<u16>, Vec<u16>) {
    let clients = node.client_ports.as_ref().or(spec.client_ports.as_ref());
    (node.peer_port.or(spec.peer_port), clients.cloned().unwrap_or_else(|| vec![2379]))
}

impl EtcdCluster {
    /// The first thing that is wrong, in the order people read.
    pub(super) fn check(&self) -> Checked {
        check_kind(&self.api_version, &self.kind)?;
        check_label("metadata.name", &self.metadata.name, 55)?;
        let spec = &self.spec;
        match (&spec.nodes, spec.replicas) {
            (Some(_), Some(_)) => {
                let fix = "keep nodes for known hosts, or replicas to be given places";
                return Err(SpecError::at("spec", "nodes and replicas are both given", fix));
            }
            (None, None) => {
                let fix = "name the hosts under nodes, or write replicas: 3";
                return Err(SpecError::at("spec", "neither nodes nor replicas is given", fix));
            }
            (Some(nodes), None) => {
                check_count("spec.nodes", nodes.len())?;
                check_nodes(spec, nodes)?;
            }
            (None, Some(count)) => {
                check_count("spec.replicas", usize::try_from(count).unwrap_or(usize::MAX))?;
            }
        }
        check_ports("spec", spec.client_ports.as_deref(), spec.peer_port)?;
        if let Some(token) = &spec.token {
            check_token(token)?;
        }
        spec.options.as_ref().map_or(Ok(()), check_options)?;
        spec.remediation.as_ref().map_or(Ok(()), check_remediation)?;
        kubernetes::check(spec)
    }
}

pub(super) fn check_kind(api_version: &str, kind: &str) -> Checked {
    if api_version != API_VERSION {
        let what = format!("{api_version:?} is not a version this program reads");
        return Err(SpecError::at("apiVersion", what, format!("write {API_VERSION}")));
    }
    if kind != KIND {
        let what = format!("{kind:?} is not a kind this program reads");
        return Err(SpecError::at("kind", what, format!("write {KIND}")));
    }
    Ok(())
}

fn check_count(path: &str, count: usize) -> Checked {
    let refuse = |what: String, fix: &str| Err(SpecError::at(path, what, fix));
    let number = if path.ends_with("nodes") { "name" } else { "write" };
    if count == 0 {
        return refuse("a cluster needs a node".to_owned(), &format!("{number} 1, 3, 5, 7 or 9"));
    }
    if count > MAX_NODES {
        let what = format!("{count} is more than {MAX_NODES}, which slows every write");
        return refuse(what, &format!("{number} 1, 3, 5, 7 or 9"));
    }
    if count.is_multiple_of(2) {
        let what = format!(
            "{count} is even, and an even number adds a way to lose quorum and tolerates no \
             more failures"
        );
        return refuse(what, &format!("{number} {} or {}", count - 1, count + 1));
    }
    Ok(())
}

fn check_nodes(spec: &ClusterSpec, nodes: &[NodeSpec]) -> Checked {
    let mut names = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate() {
        let path = |field: &str| format!("spec.nodes[{at}].{field}");
        check_label(&path("name"), &node.name, 63)?;
        if let Some(first) = names.insert(node.name.clone(), at) {
            let what = format!("{} is also the name of spec.nodes[{first}]", node.name);
            return Err(SpecError::at(path("name"), what, "give each node a name of its own"));
        }
        let address = check_address(&path("address"), &node.address)?;
        if let Some(first) = addresses.insert(address, at) {
            let what = format!("{} is also the address of spec.nodes[{first}]", node.address);
            let fix =
                "give each node an address of its own; one machine has 127.0.0.1, 127.0.0.2, …";
            return Err(SpecError::at(path("address"), what, fix));
        }
        let (peer, clients) = endpoints(spec, node);
        let own = format!("spec.nodes[{at}]");
        check_ports(&own, node.client_ports.as_deref(), node.peer_port)?;
        if node.client_ports.is_some() || node.peer_port.is_some() {
            check_ports(&own, Some(&clients), peer)?;
        }
    }
    Ok(())
}

fn check_label(path: &str, name: &str, longest: usize) -> Checked {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_label = !name.is_empty()
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !is_label {
        let fix = "use lower-case letters, digits and dashes, with a letter or digit at both ends";
        return Err(SpecError::at(path, format!("{name:?} is not a DNS label"), fix));
    }
    if name.len() > longest {
        let what = format!("{name:?} has {} characters", name.len());
        return Err(SpecError::at(path, what, format!("use at most {longest}")));
    }
    Ok(())
}

/// The address in the form that two spellings of it share.
fn check_address(path: &str, address: &str) -> Result<String, SpecError> {
    let refuse =
        |what: &str, fix: &str| Err(SpecError::at(path, format!("{address:?} {what}"), fix));
    if address.contains("://") {
        return refuse("is a URL", "write the host alone; ports go into peerPort and clientPorts");
    }
    if let Ok(ip) = address.parse::<IpAddr>() {
        if ip.is_unspecified() || ip.is_multicast() {
            return refuse("is no address that others can reach", "write the host's own address");
        }
        return Ok(ip.to_string());
    }
    if address.starts_with('[') {
        return refuse("has brackets", "write an IPv6 address without them, such as fd00::1");
    }
    if let Some((host, port)) = address.rsplit_once(':')
        && !host.contains(':')
        && port.parse::<u32>().is_ok()
    {
        return refuse(
            "has a port",
            "write the host alone; ports go into peerPort and clientPorts",
        );
    }
    let wrong = "is neither an IP address nor a DNS name";
    let fix = "write one such as 192.168.2.210, fd00::1 or etcd1.example.org";
    let labels: Vec<_> = address.split('.').collect();
    let fine = |label: &&str| check_label("", label, 63).is_ok();
    let all_digits = |label: &&str| label.chars().all(|c| c.is_ascii_digit());
    if address.len() > 63 {
        return refuse("is longer than 63 characters", "write a shorter name or the IP address");
    }
    if !labels.iter().all(fine) || labels.last().is_none_or(all_digits) {
        return refuse(wrong, fix);
    }
    Ok(address.to_owned())
}

fn check_ports(path: &str, clients: Option<&[u16]>, peer: Option<u16>) -> Checked {
    let zero = "port 0 is no port that others can know";
    let fix = "write one from 1 to 65535";
    if peer == Some(0) {
        return Err(SpecError::at(format!("{path}.peerPort"), zero, fix));
    }
    let Some(clients) = clients else { return Ok(()) };
    if clients.is_empty() {
        let fix = "name at least one, such as [2379], or leave the field out";
        return Err(SpecError::at(format!("{path}.clientPorts"), "no port is named", fix));
    }
    if clients.len() > MAX_NODES {
        let what = format!("{} ports are more than {MAX_NODES}", clients.len());
        return Err(SpecError::at(format!("{path}.clientPorts"), what, "name fewer"));
    }
    let mut seen = BTreeSet::new();
    for (at, port) in clients.iter().enumerate() {
        let path = format!("{path}.clientPorts[{at}]");
        if *port == 0 {
            return Err(SpecError::at(path, zero, fix));
        }
        if !seen.insert(port) {
            let what = format!("port {port} stands twice");
            return Err(SpecError::at(path, what, "name it once"));
        }
        if *port == peer.unwrap_or(PEER_PORT) {
            let what = format!("port {port} is the peer port too");
            let fix = "use one for clients and another for peers (peerPort, by default 2380)";
            return Err(SpecError::at(path, what, fix));
        }
    }
    Ok(())
}

fn check_token(token: &str) -> Checked {
    let odd = |c: char| c.is_control() || c.is_whitespace();
    if token.is_empty() || token.chars().count() > 63 || token.contains(odd) {
        let what = format!("{token:?} cannot be a token");
        return Err(SpecError::at("spec.token", what, "use 1 to 63 characters without blanks"));
    }
    Ok(())
}

fn check_options(options: &OptionsSpec) -> Checked {
    let path = |field: &str| format!("spec.options.{field}");
    let heartbeat = options.heartbeat_interval_ms.unwrap_or(100);
    let election = options.election_timeout_ms.unwrap_or(1000);
    for (field, value, least, most) in [
        ("heartbeatIntervalMs", Some(heartbeat), 1, 10_000),
        ("electionTimeoutMs", Some(election), 5, 50_000),
        ("snapshotCount", options.snapshot_count, 1, LARGEST),
        ("quotaBackendBytes", options.quota_backend_bytes, 0, LARGEST),
        ("maxRequestBytes", options.max_request_bytes, 1, 2_147_483_647),
    ] {
        check_range(&path(field), value, least, most)?;
    }
    if election < 5 * heartbeat {
        let field = if options.election_timeout_ms.is_some() {
            "electionTimeoutMs"
        } else {
            "heartbeatIntervalMs"
        };
        let what = format!(
            "the election timeout of {election} ms is less than five heartbeats of {heartbeat} ms"
        );
        let fix = format!("set electionTimeoutMs to {} or more", 5 * heartbeat);
        return Err(SpecError::at(path(field), what, fix));
    }
    options.settings.iter().try_for_each(|(name, value)| check_setting(name, value))
}

/// The largest whole number that JSON carries exactly.
const LARGEST: u64 = 9_007_199_254_740_991;

pub(super) fn check_range(path: &str, value: Option<u64>, least: u64, most: u64) -> Checked {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            let what = format!("{value} is out of range");
            Err(SpecError::at(path, what, format!("write a number from {least} to {most}")))
        }
        _ => Ok(()),
    }
}

fn check_remediation(remediation: &RemediationSpec) -> Checked {
    const YEAR: u64 = 31_536_000;
    for (field, value, least, most) in [
        ("unhealthySeconds", remediation.unhealthy_seconds, 1, YEAR),
        ("learnerTimeoutSeconds", remediation.learner_timeout_seconds, 1, YEAR),
        ("maxReplacementsPerDay", remediation.max_replacements_per_day, 0, 1000),
        ("keepAside", remediation.keep_aside, 1, 1000),
    ] {
        check_range(&format!("spec.remediation.{field}"), value, least, most)?;
    }
    Ok(())
}

fn check_setting(name: &str, value: &str) -> Checked {
    let path = format!("spec.options.settings.{name}");
    let refuse = |what: String, fix: &str| Err(SpecError::at(&*path, what, fix));
    let bare = name.trim_start_matches('-');
    let bare = bare.strip_prefix("ETCD_").unwrap_or(bare).to_ascii_lowercase().replace('_', "-");
    if bare != name && find_setting(&bare).is_some() {
        return refuse("a setting goes by its flag name".to_owned(), &format!("write {bare}"));
    }
    if let Some((_, instead)) = owned(name) {
        let what = if instead.starts_with("write spec.options") {
            format!("{name} has a field of its own")
        } else {
            format!("{name} is set by Quorate itself")
        };
        return refuse(what, instead);
    }
    match canonical_value(name, value) {
        Err(SettingError::Unknown { near, .. }) => {
            let fix = near.map_or("see etcd --help for the flags there are".to_owned(), |near| {
                format!("did you mean {near}?")
            });
            refuse("no such setting of etcd".to_owned(), &fix)
        }
        Err(SettingError::BadValue { want, .. }) => {
            refuse(format!("{value:?} is not {want}"), &format!("write {want}, in quotes"))
        }
        Ok(_) if value.is_empty() => {
            refuse("it is empty".to_owned(), "give it a value, or leave it out")
        }
        Ok(_) if value.chars().any(char::is_control) => {
            refuse("it holds a control character".to_owned(), "write it on one line")
        }
        Ok(_)
            if matches!(
                find_setting(name).map(|known| known.place),
                Some(Place::Client(_) | Place::Peer(_))
            ) =>
        {
            refuse(
                "TLS is not built yet, and etcd ignores this on http URLs".to_owned(),
                "leave it out",
            )
        }
        Ok(_) => Ok(()),
    }
}

/// The settings that Quorate decides on, and what to write instead. A name that ends in a dash
/// stands for every setting that begins with it.
const OWNED: &[(&str, &str)] = &[
    ("name", "name the node under spec.nodes"),
    ("data-dir", "leave it out; it follows from --home or --data-root"),
    ("wal-dir", "leave it out; the log lies in the data dir"),
    ("initial-cluster", "leave it out; it follows from spec.nodes"),
    ("initial-cluster-state", "leave it out; it follows from what the cluster answers"),
    ("initial-cluster-token", "write spec.token"),
    ("initial-advertise-peer-urls", "write address and peerPort under spec.nodes"),
    ("listen-", "write address, peerPort and clientPorts under spec.nodes"),
    ("advertise-", "write address and clientPorts under spec.nodes"),
    ("discovery", "leave it out; the nodes are known from the spec"),
    ("discovery-", "leave it out; the nodes are known from the spec"),
    ("proxy", "leave it out; every node is a member"),
    ("proxy-", "leave it out; every node is a member"),
    ("force-new-cluster", "leave it out; it would drop every other member"),
    ("logger", "leave it out; Quorate reads the engine's log"),
    ("log-outputs", "leave it out; Quorate reads the engine's log"),
    ("log-format", "leave it out; Quorate reads the engine's log"),
    ("log-package-levels", "leave it out; Quorate reads the engine's log"),
    ("enable-log-rotation", "leave it out; Quorate reads the engine's log"),
    ("heartbeat-interval", "write spec.options.heartbeatIntervalMs"),
    ("election-timeout", "write spec.options.electionTimeoutMs"),
    ("snapshot-count", "write spec.options.snapshotCount"),
    ("quota-backend-bytes", "write spec.options.quotaBackendBytes"),
    ("max-request-bytes", "write spec.options.maxRequestBytes"),
];

/// The settings that a spec may not set under `settings`; one that ends in a dash stands for
/// every setting that begins with it.
pub fn reserved_settings() -> impl Iterator<Item = &'static str> {
    OWNED.iter().map(|(name, _)| *name)
}

fn owned(name: &str) -> Option<&'static (&'static str, &'static str)> {
    OWNED.iter().find(|(owned, _)| match owned.strip_suffix('-') {
        Some(_) => name.starts_with(owned),
        None => name == *owned,
    })
}
