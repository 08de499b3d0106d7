//! What etcd's settings mean to the embedded engine.
//!
//! Each setting is taken and does what it says, or stands for what the engine does anyway, or is
//! refused: nothing is ever silently plaintext, or silently not there. What tunes parts that only
//! upstream's engine has is passed over with a warning.

use std::collections::BTreeMap;
use std::time::Duration;

use super::compaction::Retention;
use crate::cluster::{SettingError, nanoseconds};
use crate::node::apply::NO_QUOTA;
use crate::node::{api, port, raft};
use crate::render::NodeConfig;

/// How the engine is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The raft node.
    pub raft: raft::Options,
    /// The client port.
    pub api: api::Options,
    /// `--watch-progress-notify-interval`
    pub progress: Duration,
    /// `--auto-compaction-retention`, in the mode of `--auto-compaction-mode`.
    pub retention: Option<Retention>,
    /// `--listen-metrics-urls`: further ports, for metrics and health checks alone.
    pub metrics_urls: Vec<String>,
    /// How it logs.
    pub log: Log,
    /// One line for each setting that was passed over.
    pub warnings: Vec<String>,
}

/// How the node logs to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// `--log-level`
    pub level: Level,
    /// `--log-format json`: one JSON object a line, as etcd writes them; else text.
    pub json: bool,
}

/// etcd's levels, without those that only end a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Everything.
    Debug,
    /// What happens.
    #[default]
    Info,
    /// What may become a problem.
    Warn,
    /// What is one.
    Error,
}

/// Why the engine cannot be run with these settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// A value that its setting cannot have.
    #[error(transparent)]
    Value(#[from] SettingError),
    /// The embedded engine does not have it.
    #[error(
        "{name}={value}: the embedded engine has no {what} yet: leave it out, or run an upstream etcd with --exec PATH"
    )]
    NotBuilt {
        /// The setting.
        name: String,
        /// Its value.
        value: String,
        /// What is missing.
        what: &'static str,
    },
    /// A listen URL that is not served.
    #[error("{0}")]
    Url(String),
    /// The timings cannot work.
    #[error(transparent)]
    Timings(#[from] raft::BadTimings),
}

/// Settings that have no other value here than this, and what would be missing otherwise.
const FIXED: &[(&str, &[&str], &str)] = &[
    ("auth-token", &["simple"], "other tokens than simple ones"),
    ("compact-hash-check-time", &["0s"], "hash checks by itself"),
    ("corrupt-check-time", &["0s"], "corruption checks by itself"),
    ("cors", &["*"], "limit to origins"),
    ("debug", &["false"], "such switch; write --log-level debug; it"),
    ("discovery-fallback", &["exit", "proxy"], "discovery"),
    ("enable-distributed-tracing", &["false"], "distributed tracing"),
    ("enable-grpc-gateway", &["false", "true"], "gateway"),
    ("enable-log-rotation", &["false"], "log rotation"),
    ("enable-pprof", &["false"], "profiler"),
    ("enable-v2", &["true", "false"], "v2 store"),
    ("force-new-cluster", &["false"], "such recovery"),
    ("host-whitelist", &["*"], "limit to host names"),
    ("initial-corrupt-check", &["false", "true"], "check"),
    ("logger", &["zap"], "other logger"),
    ("log-outputs", &["default", "stderr"], "other place for its log"),
    ("max-learners", &["1"], "more than one learner at a time"),
    ("memory-mlock", &["false"], "locked memory"),
    ("metrics", &["basic"], "extensive metrics"),
    ("pre-vote", &["true"], "elections without pre-vote"),
    ("proxy", &["off"], "proxy"),
    ("socket-reuse-address", &["false"], "shared sockets"),
    ("socket-reuse-port", &["false"], "shared sockets"),
    ("unsafe-no-fsync", &["false"], "unsafe mode"),
    ("auto-tls", &["false"], "TLS"),
    ("client-cert-auth", &["false"], "TLS"),
    ("peer-auto-tls", &["false"], "TLS"),
    ("peer-client-cert-auth", &["false"], "TLS"),
    ("peer-skip-client-san-verification", &["false"], "TLS"),
];

/// Settings of parts that only upstream's engine has.
const FOREIGN: &[&str] = &[
    "auth-token-ttl",
    "backend-batch-interval",
    "backend-batch-limit",
    "backend-bbolt-freelist-type",
    "bcrypt-cost",
    "bootstrap-defrag-threshold-megabytes",
    "compact-hash-check-enabled",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "discovery-dial-timeout",
    "discovery-keepalive-time",
    "discovery-keepalive-timeout",
    "discovery-request-timeout",
    "distributed-tracing-sampling-rate",
    "downgrade-check-time",
    "enable-lease-checkpoint",
    "enable-lease-checkpoint-persist",
    "grpc-keepalive-min-time",
    "initial-election-tick-advance",
    "max-snapshots",
    "max-wals",
    "proxy-dial-timeout",
    "proxy-failure-wait",
    "proxy-read-timeout",
    "proxy-refresh-interval",
    "proxy-write-timeout",
    "raft-read-timeout",
    "raft-write-timeout",
    "self-signed-cert-validity",
    "stop-grpc-service-on-defrag",
    "tls-max-version",
    "tls-min-version",
    "txn-mode-write-with-shared-buffer",
    "v2-deprecation",
    "warning-apply-duration",
];

/// What a setting belongs to that is not built.
fn missing(name: &str) -> &'static str {
    match name {
        _ if name.contains("cert")
            || name.contains("tls")
            || name.contains("-ca-")
            || name.contains("key-file")
            || name.contains("crl")
            || name == "cipher-suites" =>
        {
            "TLS"
        }
        _ if name.starts_with("discovery") => "discovery",
        _ if name.contains("tracing") => "distributed tracing",
        "feature-gates" => "feature gates",
        "listen-client-http-urls" => "port for HTTP alone (it is on the client port)",
        _ => "such part",
    }
}

/// Reads the settings.
///
/// # Errors
///
/// The first that is not built, or has a value it cannot have.
pub fn read(config: &NodeConfig) -> Result<Options, OptionError> {
    for url in config.listen_peer_urls.iter().chain(&config.listen_client_urls) {
        port::listen_address(url).map_err(OptionError::Url)?;
    }
    let metrics_urls = port::metrics_urls(config);
    for url in &metrics_urls {
        let named = |why| OptionError::Url(format!("{}: {why}", port::METRICS_URLS));
        port::listen_address(url).map_err(named)?;
    }
    let mut options = Options {
        raft: raft::Options {
            versions: (api::VERSION.to_owned(), api::CLUSTER_VERSION.to_owned()),
            ..raft::Options::default()
        },
        api: api::Options::default(),
        progress: Duration::from_mins(10),
        retention: retention(&config.extra)?,
        metrics_urls,
        log: Log::default(),
        warnings: Vec::new(),
    };
    for (name, value) in &config.extra {
        options.take(name, value)?;
    }
    options.raft.check()?;
    Ok(options)
}

impl Options {
    /// Leaves half of the files that the process may open to the log, the store and the peers.
    pub fn bound_connections(&mut self, files: u64) {
        let half = usize::try_from(files / 2).unwrap_or(usize::MAX).max(1);
        self.api.max_connections = self.api.max_connections.min(half);
    }

    fn take(&mut self, given: &str, value: &str) -> Result<(), OptionError> {
        let name = given.strip_prefix("experimental-").unwrap_or(given);
        match name {
            "heartbeat-interval" => {
                self.raft.heartbeat = Duration::from_millis(number(given, value, 1)?);
                self.api.heartbeat = self.raft.heartbeat;
            }
            "election-timeout" => {
                self.raft.election = Duration::from_millis(number(given, value, 1)?);
                self.api.election = self.raft.election;
            }
            "snapshot-count" => {
                let count = number(given, value, 0)?;
                self.raft.snapshot_count =
                    if count == 0 { raft::Options::default().snapshot_count } else { count };
            }
            "snapshot-catchup-entries" => self.raft.catch_up = number(given, value, 0)?,
            "quota-backend-bytes" => {
                self.raft.quota = match value.parse::<i64>() {
                    Ok(0) => raft::Options::default().quota,
                    // As etcd has it: below zero there is no limit.
                    Ok(below) if below < 0 => NO_QUOTA,
                    _ => number(given, value, 1)?,
                };
            }
            "max-request-bytes" => {
                let most = usize::try_from(number(given, value, 1)?).unwrap_or(usize::MAX);
                (self.raft.max_request_bytes, self.api.max_request_bytes) = (most, most);
            }
            "max-txn-ops" => {
                self.api.max_txn_ops =
                    usize::try_from(number(given, value, 1)?).unwrap_or(usize::MAX);
            }
            "max-concurrent-streams" => {
                self.api.max_concurrent_streams =
                    u32::try_from(number(given, value, 1)?).unwrap_or(u32::MAX);
            }
            "strict-reconfig-check" => self.raft.strict_reconfig_check = value == "true",
            "warning-unary-request-duration" => self.api.slow = duration(given, value)?,
            "watch-progress-notify-interval" => self.progress = duration(given, value)?,
            "grpc-keepalive-interval" => self.api.keepalive_interval = duration(given, value)?,
            "grpc-keepalive-timeout" => self.api.keepalive_timeout = duration(given, value)?,
            "log-level" => self.log.level = level(given, value)?,
            "log-format" => {
                self.log.json = match value {
                    "json" => true,
                    "console" | "text" => false,
                    _ => return Err(SettingError::bad(given, value, "json or console").into()),
                }
            }
            // Read before, the first two together.
            RETENTION | MODE | port::METRICS_URLS => {}
            _ => return self.pass(given, name, value),
        }
        Ok(())
    }

    /// A setting that changes nothing here, if this is one.
    fn pass(&mut self, given: &str, name: &str, value: &str) -> Result<(), OptionError> {
        let fixed = FIXED.iter().find(|it| it.0 == name);
        if value.is_empty() || fixed.is_some_and(|it| it.1.contains(&value)) {
            return Ok(());
        }
        if FOREIGN.contains(&name) {
            self.warnings.push(format!(
                "--{given} is about a part that only upstream's engine has; it is ignored"
            ));
            return Ok(());
        }
        let what = fixed.map_or_else(|| missing(name), |it| it.2);
        Err(OptionError::NotBuilt { name: given.to_owned(), value: value.to_owned(), what })
    }
}

const MODE: &str = "auto-compaction-mode";
const RETENTION: &str = "auto-compaction-retention";

/// A number of revisions, or a period; in a period, a bare number counts hours.
fn retention(settings: &BTreeMap<String, String>) -> Result<Option<Retention>, OptionError> {
    let bad = |value: &str, want| SettingError::bad(RETENTION, value, want);
    let value = settings.get(RETENTION).map_or("0", String::as_str);
    let mode = settings.get(MODE).map_or("periodic", String::as_str);
    if value == "0" || value.is_empty() {
        return Ok(None);
    }
    let number = value.parse::<u32>().ok();
    match mode {
        "revision" => {
            let revisions = number.ok_or_else(|| bad(value, "a number of revisions"))?;
            Ok(Some(Retention::Revisions(i64::from(revisions))))
        }
        "periodic" | "" => {
            let hours = number.map(|it| Duration::from_hours(u64::from(it)));
            let want = "a number of hours, or a duration such as 30m";
            let period = hours.map_or_else(
                || duration(RETENTION, value).map_err(|_| OptionError::from(bad(value, want))),
                Ok,
            )?;
            Ok(Some(Retention::Period(period)))
        }
        other => Err(SettingError::bad(MODE, other, "periodic or revision").into()),
    }
}

fn number(name: &str, value: &str, least: u64) -> Result<u64, OptionError> {
    let found = value.parse::<u64>().ok().filter(|it| *it >= least);
    found.ok_or_else(|| {
        let want = if least == 0 { "a whole number" } else { "a whole number above 0" };
        SettingError::bad(name, value, want).into()
    })
}

fn duration(name: &str, value: &str) -> Result<Duration, OptionError> {
    let found = nanoseconds(value).and_then(|it| u64::try_from(it).ok()).filter(|it| *it > 0);
    let found = found.map(Duration::from_nanos);
    found.ok_or_else(|| SettingError::bad(name, value, "a duration above 0, such as 5s").into())
}

fn level(name: &str, value: &str) -> Result<Level, OptionError> {
    Ok(match value {
        "debug" => Level::Debug,
        "info" => Level::Info,
        "warn" => Level::Warn,
        "error" | "dpanic" | "panic" | "fatal" => Level::Error,
        _ => return Err(SettingError::bad(name, value, "debug, info, warn or error").into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{canonical_value, is_bool_setting, known_settings};

    fn with(settings: &[(&str, &str)]) -> Result<Options, OptionError> {
        let extra = settings.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        read(&NodeConfig { extra, ..NodeConfig::default() })
    }

    #[test]
    fn what_is_taken_reaches_the_part_that_does_it() {
        let it = with(&[
            ("heartbeat-interval", "20"),
            ("election-timeout", "200"),
            ("quota-backend-bytes", "-1"),
            ("max-request-bytes", "4096"),
            ("experimental-watch-progress-notify-interval", "3s"),
            ("strict-reconfig-check", "false"),
            ("log-format", "json"),
            ("max-snapshots", "5"),
            ("auto-compaction-retention", "2"),
            ("listen-metrics-urls", "http://127.0.0.1:1,http://127.0.0.1:2"),
        ])
        .unwrap();
        assert_eq!(it.raft.heartbeat, Duration::from_millis(20));
        assert_eq!(it.api.election, Duration::from_millis(200));
        assert_eq!(it.raft.quota, NO_QUOTA);
        assert_eq!((it.raft.max_request_bytes, it.api.max_request_bytes), (4096, 4096));
        assert_eq!(it.progress, Duration::from_secs(3));
        assert!(!it.raft.strict_reconfig_check && it.log.json);
        assert_eq!(it.warnings.len(), 1);
        assert_eq!(it.metrics_urls, ["http://127.0.0.1:1", "http://127.0.0.1:2"]);
        assert_eq!(it.retention, Some(Retention::Period(Duration::from_hours(2))));
        let of = |mode, value| {
            with(&[("auto-compaction-mode", mode), ("auto-compaction-retention", value)])
        };
        assert_eq!(of("revision", "9").unwrap().retention, Some(Retention::Revisions(9)));
        let minutes = of("periodic", "30m").unwrap().retention;
        assert_eq!(minutes, Some(Retention::Period(Duration::from_mins(30))));
        assert_eq!(of("periodic", "0").unwrap().retention, None);
        assert!(of("revision", "30m").is_err() && of("sometimes", "1").is_err());
    }

    #[test]
    fn what_is_not_built_is_refused_by_name_and_never_plaintext() {
        for (name, value) in [
            ("cert-file", "/c"),
            ("client-cert-auth", "true"),
            ("peer-auto-tls", "true"),
            ("auth-token", "jwt,sign-method=RS256"),
            ("unsafe-no-fsync", "true"),
            ("listen-client-http-urls", "http://127.0.0.1:1"),
            ("discovery-srv", "example.com"),
        ] {
            let text = with(&[(name, value)]).unwrap_err().to_string();
            assert!(text.starts_with(&format!("{name}={value}: ")), "{text}");
            assert!(text.contains("--exec"), "{text}");
        }
        let secret = with(&[("listen-metrics-urls", "http://127.0.0.1:1,https://127.0.0.1:2")]);
        assert!(secret.unwrap_err().to_string().contains("TLS"));
        let tls = read(&NodeConfig {
            listen_client_urls: vec!["https://127.0.0.1:2379".to_owned()],
            ..NodeConfig::default()
        });
        assert!(tls.unwrap_err().to_string().contains("TLS"));
        assert!(with(&[("heartbeat-interval", "300")]).is_err(), "no five in an election timeout");
    }

    #[test]
    fn every_setting_of_etcd_is_taken_fixed_passed_over_or_refused() {
        for name in known_settings() {
            let value = if is_bool_setting(name) { "true" } else { "7" };
            // Whatever comes of it, it comes without a panic, and a refusal names it.
            if canonical_value(name, value).is_ok()
                && let Err(error) = with(&[(name, value)])
            {
                let text = error.to_string();
                assert!(text.contains(name) || text.contains("heartbeat"), "{name}: {text}");
            }
        }
        for (name, _, _) in FIXED {
            let experimental = format!("experimental-{name}");
            let known = |it: &str| known_settings().any(|known| known == it);
            assert!(known(name) || known(&experimental), "{name} is no setting of etcd's");
        }
    }
}
