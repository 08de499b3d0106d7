//! The settings that etcd knows, from 3.4 to 3.7: what kind of value each takes and where it
//! stands in a config file.
//!
//! Source: etcd's server/embed/config.go and server/etcdmain/config.go of each minor version.

use Kind::{Bool, Duration, Int, List, Text};
use Place::{Absent, Client, Peer, Top};

/// What kind of value a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text; a list of URLs is one too.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A Go duration such as `5s`; in a config file a whole number of nanoseconds.
    Duration,
    /// Comma-separated; in a config file a list.
    List,
}

/// Where a setting stands in a config file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Under its own name.
    Top,
    /// Under `client-transport-security`, by this name.
    Client(&'static str),
    /// Under `peer-transport-security`, by this name.
    Peer(&'static str),
    /// Nowhere that every version reads: it is a flag and an environment variable only.
    Absent,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The flag's name without dashes.
    pub name: &'static str,
    /// The kind of its value.
    pub kind: Kind,
    /// Its place in a config file.
    pub place: Place,
}

/// The setting of this name, if etcd has one.
pub fn find_setting(name: &str) -> Option<Known> {
    let at = TABLE.binary_search_by_key(&name, |entry| entry.0).ok()?;
    let (name, kind, place) = TABLE[at];
    Some(Known { name, kind, place })
}

/// True if some etcd from 3.4 to 3.7 has this setting, by flag name without dashes.
pub fn is_known_setting(name: &str) -> bool {
    find_setting(name).is_some()
}

/// Every setting etcd has, by flag name without dashes, sorted.
pub fn known_settings() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|entry| entry.0)
}

/// True for a setting that takes `true` or `false`; as a flag it may stand without a value.
pub fn is_bool_setting(name: &str) -> bool {
    find_setting(name).is_some_and(|known| known.kind == Bool)
}

/// The known setting that looks most like `name`, if one is near enough to be meant.
///
/// ```
/// # use quorate::cluster::near_setting;
/// assert_eq!(near_setting("heartbeat-intervall"), Some("heartbeat-interval"));
/// assert_eq!(near_setting("colour"), None);
/// ```
pub fn near_setting(name: &str) -> Option<&'static str> {
    known_settings()
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .min()
        .filter(|(distance, known)| *distance <= 1.max(known.len().min(name.len()) / 4))
        .map(|(_, known)| known)
}

/// Sorted by name.
#[rustfmt::skip]
const TABLE: &[(&str, Kind, Place)] = &[
    ("advertise-client-urls", Text, Top),
    ("auth-token", Text, Top),
    ("auth-token-ttl", Int, Top),
    ("auto-compaction-mode", Text, Top),
    ("auto-compaction-retention", Text, Top),
    ("auto-tls", Bool, Client("auto-tls")),
    ("backend-batch-interval", Duration, Top),
    ("backend-batch-limit", Int, Top),
    ("backend-bbolt-freelist-type", Text, Top),
    ("bcrypt-cost", Int, Top),
    ("bootstrap-defrag-threshold-megabytes", Int, Top),
    ("cert-file", Text, Client("cert-file")),
    ("cipher-suites", List, Top),
    ("client-cert-allowed-hostname", Text, Absent),
    ("client-cert-auth", Bool, Client("client-cert-auth")),
    ("client-cert-file", Text, Client("client-cert-file")),
    ("client-crl-file", Text, Absent),
    ("client-key-file", Text, Client("client-key-file")),
    ("compact-hash-check-time", Duration, Top),
    ("compaction-batch-limit", Int, Top),
    ("compaction-sleep-interval", Duration, Top),
    ("corrupt-check-time", Duration, Top),
    ("cors", Text, Top),
    ("data-dir", Text, Top),
    ("debug", Bool, Top),
    ("discovery", Text, Top),
    ("discovery-cacert", Text, Absent),
    ("discovery-cert", Text, Absent),
    ("discovery-dial-timeout", Duration, Absent),
    ("discovery-endpoints", Text, Absent),
    ("discovery-fallback", Text, Top),
    ("discovery-insecure-skip-tls-verify", Bool, Absent),
    ("discovery-insecure-transport", Bool, Absent),
    ("discovery-keepalive-time", Duration, Absent),
    ("discovery-keepalive-timeout", Duration, Absent),
    ("discovery-key", Text, Absent),
    ("discovery-password", Text, Absent),
    ("discovery-proxy", Text, Top),
    ("discovery-request-timeout", Duration, Absent),
    ("discovery-srv", Text, Top),
    ("discovery-srv-name", Text, Top),
    ("discovery-token", Text, Absent),
    ("discovery-user", Text, Absent),
    ("distributed-tracing-address", Text, Top),
    ("distributed-tracing-instance-id", Text, Top),
    ("distributed-tracing-sampling-rate", Int, Top),
    ("distributed-tracing-service-name", Text, Top),
    ("downgrade-check-time", Duration, Top),
    ("election-timeout", Int, Top),
    ("enable-distributed-tracing", Bool, Top),
    ("enable-grpc-gateway", Bool, Top),
    ("enable-log-rotation", Bool, Top),
    ("enable-pprof", Bool, Top),
    ("enable-v2", Bool, Top),
    ("experimental-backend-bbolt-freelist-type", Text, Top),
    ("experimental-bootstrap-defrag-threshold-megabytes", Int, Top),
    ("experimental-compact-hash-check-enabled", Bool, Top),
    ("experimental-compact-hash-check-time", Duration, Top),
    ("experimental-compaction-batch-limit", Int, Top),
    ("experimental-compaction-sleep-interval", Duration, Top),
    ("experimental-corrupt-check-time", Duration, Top),
    ("experimental-distributed-tracing-address", Text, Top),
    ("experimental-distributed-tracing-instance-id", Text, Top),
    ("experimental-distributed-tracing-sampling-rate", Int, Top),
    ("experimental-distributed-tracing-service-name", Text, Top),
    ("experimental-downgrade-check-time", Duration, Top),
    ("experimental-enable-distributed-tracing", Bool, Top),
    ("experimental-enable-lease-checkpoint", Bool, Top),
    ("experimental-enable-lease-checkpoint-persist", Bool, Top),
    ("experimental-enable-v2v3", Text, Top),
    ("experimental-initial-corrupt-check", Bool, Top),
    ("experimental-memory-mlock", Bool, Top),
    ("experimental-peer-skip-client-san-verification", Bool, Absent),
    ("experimental-snapshot-catchup-entries", Int, Absent),
    ("experimental-stop-grpc-service-on-defrag", Bool, Top),
    ("experimental-txn-mode-write-with-shared-buffer", Bool, Top),
    ("experimental-warning-apply-duration", Duration, Top),
    ("experimental-warning-unary-request-duration", Duration, Top),
    ("experimental-watch-progress-notify-interval", Duration, Top),
    ("feature-gates", Text, Top),
    ("force-new-cluster", Bool, Top),
    ("grpc-keepalive-interval", Duration, Top),
    ("grpc-keepalive-min-time", Duration, Top),
    ("grpc-keepalive-timeout", Duration, Top),
    ("heartbeat-interval", Int, Top),
    ("host-whitelist", Text, Top),
    ("initial-advertise-peer-urls", Text, Top),
    ("initial-cluster", Text, Top),
    ("initial-cluster-state", Text, Top),
    ("initial-cluster-token", Text, Top),
    ("initial-election-tick-advance", Bool, Top),
    ("key-file", Text, Client("key-file")),
    ("listen-client-http-urls", Text, Top),
    ("listen-client-urls", Text, Top),
    ("listen-metrics-urls", Text, Top),
    ("listen-peer-urls", Text, Top),
    ("log-format", Text, Top),
    ("log-level", Text, Top),
    ("log-outputs", List, Top),
    ("log-package-levels", Text, Top),
    ("log-rotation-config-json", Text, Top),
    ("logger", Text, Top),
    ("max-concurrent-streams", Int, Top),
    ("max-learners", Int, Top),
    ("max-request-bytes", Int, Top),
    ("max-snapshots", Int, Top),
    ("max-txn-ops", Int, Top),
    ("max-wals", Int, Top),
    ("memory-mlock", Bool, Top),
    ("metrics", Text, Top),
    ("name", Text, Top),
    ("peer-auto-tls", Bool, Peer("auto-tls")),
    ("peer-cert-allowed-cn", Text, Absent),
    ("peer-cert-allowed-hostname", Text, Absent),
    ("peer-cert-file", Text, Peer("cert-file")),
    ("peer-client-cert-auth", Bool, Peer("client-cert-auth")),
    ("peer-client-cert-file", Text, Peer("client-cert-file")),
    ("peer-client-key-file", Text, Peer("client-key-file")),
    ("peer-crl-file", Text, Absent),
    ("peer-key-file", Text, Peer("key-file")),
    ("peer-skip-client-san-verification", Bool, Absent),
    ("peer-trusted-ca-file", Text, Peer("trusted-ca-file")),
    ("pre-vote", Bool, Top),
    ("proxy", Text, Top),
    ("proxy-dial-timeout", Int, Top),
    ("proxy-failure-wait", Int, Top),
    ("proxy-read-timeout", Int, Top),
    ("proxy-refresh-interval", Int, Top),
    ("proxy-write-timeout", Int, Top),
    ("quota-backend-bytes", Int, Top),
    ("raft-read-timeout", Duration, Absent),
    ("raft-write-timeout", Duration, Absent),
    ("self-signed-cert-validity", Int, Top),
    ("snapshot-catchup-entries", Int, Top),
    ("snapshot-count", Int, Top),
    ("socket-reuse-address", Bool, Absent),
    ("socket-reuse-port", Bool, Absent),
    ("strict-reconfig-check", Bool, Top),
    ("tls-max-version", Text, Top),
    ("tls-min-version", Text, Top),
    ("trusted-ca-file", Text, Client("trusted-ca-file")),
    ("unsafe-no-fsync", Bool, Top),
    ("v2-deprecation", Text, Top),
    ("wal-dir", Text, Top),
    ("warning-apply-duration", Duration, Top),
    ("warning-unary-request-duration", Duration, Top),
    ("watch-progress-notify-interval", Duration, Top),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_every_entry_is_found() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        assert!(known_settings().all(is_known_setting));
    }
}
