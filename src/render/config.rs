//! One node's static configuration, in etcd's own words.

use std::collections::BTreeMap;
use std::fmt;

use crate::cluster::{SettingError, canonical_value, is_known_setting};

use super::RenderError;

/// The value of `initial-cluster-state` a node is started with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InitialState {
    /// Form a cluster with the peers in the config.
    #[default]
    New,
    /// Join the cluster that the peers already form.
    Existing,
}

impl fmt::Display for InitialState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InitialState::New => "new",
            InitialState::Existing => "existing",
        })
    }
}

/// Everything one node is started with. Each field is etcd's flag of the same name; `extra`
/// holds every further flag, by name without dashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// `--name`
    pub name: String,
    /// `--data-dir`
    pub data_dir: String,
    /// `--listen-peer-urls`
    pub listen_peer_urls: Vec<String>,
    /// `--listen-client-urls`
    pub listen_client_urls: Vec<String>,
    /// `--initial-advertise-peer-urls`
    pub initial_advertise_peer_urls: Vec<String>,
    /// `--advertise-client-urls`
    pub advertise_client_urls: Vec<String>,
    /// `--initial-cluster`: name and peer URL, in order; a name with two URLs stands twice.
    pub initial_cluster: Vec<(String, String)>,
    /// `--initial-cluster-state`
    pub initial_cluster_state: InitialState,
    /// `--initial-cluster-token`
    pub initial_cluster_token: String,
    /// Every other flag: heartbeat-interval, election-timeout, snapshot-count, …
    pub extra: BTreeMap<String, String>,
}

impl NodeConfig {
    /// Reads a configuration from settings by flag name without dashes. What is not there stays
    /// empty, which leaves the engine's own default; see [`NodeConfig::with_engine_defaults`].
    ///
    /// # Errors
    ///
    /// A setting that etcd does not have, and a value that its setting cannot have.
    pub fn from_settings(settings: BTreeMap<String, String>) -> Result<NodeConfig, RenderError> {
        let mut config = NodeConfig::default();
        for (name, value) in settings {
            let value = canonical_value(&name, &value)?;
            match name.as_str() {
                "name" => config.name = value,
                "data-dir" => config.data_dir = value,
                "listen-peer-urls" => config.listen_peer_urls = list(&value),
                "listen-client-urls" => config.listen_client_urls = list(&value),
                "initial-advertise-peer-urls" => config.initial_advertise_peer_urls = list(&value),
                "advertise-client-urls" => config.advertise_client_urls = list(&value),
                "initial-cluster" => config.initial_cluster = initial_cluster(&value)?,
                "initial-cluster-state" => config.initial_cluster_state = state(&value)?,
                "initial-cluster-token" => config.initial_cluster_token = value,
                _ => {
                    config.extra.insert(name, value);
                }
            }
        }
        Ok(config)
    }

    /// Every setting that is not left to the engine, by flag name without dashes.
    pub fn settings(&self) -> BTreeMap<String, String> {
        self.ordered().into_iter().collect()
    }

    /// As [`NodeConfig::settings`], in the order people read them: who, where, with whom, how.
    pub(super) fn ordered(&self) -> Vec<(String, String)> {
        let members: Vec<_> =
            self.initial_cluster.iter().map(|(name, url)| format!("{name}={url}")).collect();
        let first_class = [
            ("name", self.name.clone()),
            ("data-dir", self.data_dir.clone()),
            ("listen-peer-urls", self.listen_peer_urls.join(",")),
            ("listen-client-urls", self.listen_client_urls.join(",")),
            ("initial-advertise-peer-urls", self.initial_advertise_peer_urls.join(",")),
            ("advertise-client-urls", self.advertise_client_urls.join(",")),
            ("initial-cluster", members.join(",")),
            ("initial-cluster-state", self.initial_cluster_state.to_string()),
            ("initial-cluster-token", self.initial_cluster_token.clone()),
        ];
        let first_class = first_class.into_iter().filter(|(_, value)| !value.is_empty());
        let first_class = first_class.map(|(name, value)| (name.to_owned(), value));
        first_class.chain(self.extra.clone()).collect()
    }

    /// The same configuration with etcd's defaults in the place of what was left to the engine:
    /// name `default`, data dir `NAME.etcd`, localhost's ports 2379 and 2380, a cluster of one.
    #[must_use]
    pub fn with_engine_defaults(mut self) -> NodeConfig {
        let or = |urls: &mut Vec<String>, default: &str| {
            if urls.is_empty() {
                urls.push(default.to_owned());
            }
        };
        if self.name.is_empty() {
            "default".clone_into(&mut self.name);
        }
        if self.data_dir.is_empty() {
            self.data_dir = format!("{}.etcd", self.name);
        }
        if self.initial_cluster_token.is_empty() {
            "etcd-cluster".clone_into(&mut self.initial_cluster_token);
        }
        or(&mut self.listen_peer_urls, "http://localhost:2380");
        or(&mut self.listen_client_urls, "http://localhost:2379");
        or(&mut self.initial_advertise_peer_urls, "http://localhost:2380");
        or(&mut self.advertise_client_urls, "http://localhost:2379");
        if self.initial_cluster.is_empty() {
            let urls = self.initial_advertise_peer_urls.iter();
            self.initial_cluster = urls.map(|url| (self.name.clone(), url.clone())).collect();
        }
        self
    }

    /// Refuses what no form can carry: lists whose parts hold a separator, unknown settings.
    pub(super) fn check(&self) -> Result<(), RenderError> {
        for (name, urls) in [
            ("listen-peer-urls", &self.listen_peer_urls),
            ("listen-client-urls", &self.listen_client_urls),
            ("initial-advertise-peer-urls", &self.initial_advertise_peer_urls),
            ("advertise-client-urls", &self.advertise_client_urls),
        ] {
            urls.iter().try_for_each(|url| check_url(name, url))?;
        }
        for (name, url) in &self.initial_cluster {
            check_url("initial-cluster", url)?;
            if name.is_empty() || name.trim() != name || name.contains([',', '=', '\0']) {
                let want = "a member name: not empty, no comma, no equals sign, no blanks around";
                return Err(bad("initial-cluster", name, want));
            }
        }
        for (name, value) in [
            ("name", &self.name),
            ("data-dir", &self.data_dir),
            ("initial-cluster-token", &self.initial_cluster_token),
        ] {
            canonical_value(name, value)?;
        }
        for (name, value) in &self.extra {
            if !is_known_setting(name) || FIRST_CLASS.contains(&name.as_str()) {
                return Err(SettingError::unknown(name).into());
            }
            canonical_value(name, value)?;
        }
        Ok(())
    }
}

/// The settings that are fields of their own, so never in `extra`.
const FIRST_CLASS: [&str; 9] = [
    "name",
    "data-dir",
    "listen-peer-urls",
    "listen-client-urls",
    "initial-advertise-peer-urls",
    "advertise-client-urls",
    "initial-cluster",
    "initial-cluster-state",
    "initial-cluster-token",
];

fn bad(name: &str, value: &str, want: &'static str) -> RenderError {
    SettingError::bad(name, value, want).into()
}

fn check_url(name: &str, url: &str) -> Result<(), RenderError> {
    let breaks = |c: char| c == ',' || c.is_whitespace() || c.is_control();
    if url.is_empty() || url.contains(breaks) {
        return Err(bad(name, url, "a URL: not empty, no comma, no blanks"));
    }
    Ok(())
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn initial_cluster(value: &str) -> Result<Vec<(String, String)>, RenderError> {
    let entry = |part: String| {
        let (name, url) = part.split_once('=').unwrap_or((&part, ""));
        let (name, url) = (name.trim(), url.trim());
        if name.is_empty() || url.is_empty() {
            return Err(bad("initial-cluster", value, "a list of NAME=PEER-URL"));
        }
        Ok((name.to_owned(), url.to_owned()))
    };
    list(value).into_iter().map(entry).collect()
}

fn state(value: &str) -> Result<InitialState, RenderError> {
    match value {
        "new" => Ok(InitialState::New),
        "existing" => Ok(InitialState::Existing),
        _ => Err(bad("initial-cluster-state", value, "new or existing")),
    }
}
