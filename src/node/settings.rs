//! Where a node's configuration comes from, and which source wins.
//!
//! As with etcd: a config file, when given, counts alone; otherwise flags win over the
//! environment. etcd from 3.4 on refuses to start when both give the same setting; the how-to
//! that this product automates says that the flag wins, so it does, with a warning.

use std::collections::BTreeMap;

use crate::render::{
    NodeConfig, RenderError, env_name, env_settings, flag_settings, yaml_settings,
};

/// A configuration, and what a person should know about where it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The configuration, with the engine's own defaults filled in.
    pub config: NodeConfig,
    /// One line each.
    pub warnings: Vec<String>,
}

/// Why the configuration could not be read. Exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A flag, variable or line of the config file is wrong; the text names it and the fix.
    #[error("{place}{error}")]
    Bad {
        /// Which source it stands in, with a colon; empty for flags.
        place: String,
        /// What is wrong.
        error: RenderError,
    },
    /// A setting that would let the engine do what only the procedure may.
    #[error("{name} is refused: {why}")]
    Refused {
        /// The setting.
        name: &'static str,
        /// Why, and what to do instead.
        why: &'static str,
    },
    /// The config file cannot be read.
    #[error("config file {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// The file system's own error.
        source: std::io::Error,
    },
}

/// Reads the three sources; `flags` are the engine's own, with their dashes.
///
/// # Errors
///
/// The first setting that is unknown or has a value it cannot have.
pub fn read(
    flags: &[String],
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, SettingsError> {
    let bad = |place: &str| {
        let place = place.to_owned();
        move |error| SettingsError::Bad { place, error }
    };
    let (from_flag, flags) = take_config_file(flags);
    let flags = flag_settings(flags).map_err(bad(""))?;
    let mut from_variable = None;
    let environment = environment.into_iter().filter_map(|(name, value)| {
        if name == CONFIG_FILE_VARIABLE {
            from_variable = Some(value).filter(|v| !v.is_empty());
            return None;
        }
        Some((name, value))
    });
    let from_env = env_settings(environment);
    let mut env = from_env.settings;
    let mut warnings: Vec<_> = from_env
        .unknown
        .iter()
        .map(|name| format!("unrecognized environment variable {name} is ignored"))
        .collect();

    let settings = if let Some(path) = from_flag.or(from_variable) {
        let names = |given: &BTreeMap<String, String>| given.keys().cloned().collect::<Vec<_>>();
        let mut ignored: Vec<_> = names(&flags).iter().map(|n| format!("--{n}")).collect();
        ignored.extend(names(&env).iter().map(|n| env_name(n)));
        if !ignored.is_empty() {
            warnings.push(format!(
                "the config file {path} counts alone; ignored: {}",
                ignored.join(", ")
            ));
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|source| SettingsError::File { path: path.clone(), source })?;
        yaml_settings(&text).map_err(bad(&format!("config file {path}: ")))?
    } else {
        for name in flags.keys().filter(|n| env.contains_key(*n)) {
            warnings.push(format!("--{name} and {} are both given: the flag wins", env_name(name)));
        }
        env.extend(flags);
        env
    };
    let config = NodeConfig::from_settings(settings).map_err(bad(""))?.with_engine_defaults();
    refuse_unsafe(&config)?;
    Ok(Settings { config, warnings })
}

/// Settings that go around what makes a start safe.
const UNSAFE: [(&str, &str); 5] = [
    ("wal-dir", "whose data this is is read from the log, which stays inside the data dir"),
    ("force-new-cluster", "a second founding loses data; see quorate replace"),
    ("discovery", "who founds must be known before: list every node in initial-cluster"),
    ("discovery-srv", "who founds must be known before: list every node in initial-cluster"),
    ("discovery-endpoints", "who founds must be known before: list every node in initial-cluster"),
];

fn refuse_unsafe(config: &NodeConfig) -> Result<(), SettingsError> {
    let is_set =
        |name| config.extra.get(name).is_some_and(|value| !matches!(value.as_str(), "" | "false"));
    let found = UNSAFE.into_iter().find(|(name, _)| is_set(*name));
    found.map_or(Ok(()), |(name, why)| Err(SettingsError::Refused { name, why }))
}

const CONFIG_FILE_VARIABLE: &str = "ETCD_CONFIG_FILE";

/// `--config-file` is no setting of the engine's but says where they stand.
fn take_config_file(flags: &[String]) -> (Option<String>, Vec<String>) {
    let mut path = None;
    let mut others = Vec::new();
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        let name = flag.trim_start_matches('-');
        if flag.starts_with('-') && name == "config-file" {
            path = flags.next().cloned();
        } else if let Some(value) =
            name.strip_prefix("config-file=").filter(|_| flag.starts_with('-'))
        {
            path = Some(value.to_owned());
        } else {
            others.push(flag.clone());
        }
    }
    (path, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn a_flag_wins_over_the_environment_with_a_warning() {
        let flags = ["--name=flag".to_owned()];
        let got = read(&flags, [env("ETCD_NAME", "env"), env("ETCD_DATA_DIR", "/d")]).unwrap();
        assert_eq!((got.config.name.as_str(), got.config.data_dir.as_str()), ("flag", "/d"));
        assert_eq!(got.warnings, ["--name and ETCD_NAME are both given: the flag wins"]);
    }

    #[test]
    fn an_unknown_variable_is_a_warning_and_an_unknown_flag_an_error_with_a_hint() {
        let got = read(&[], [env("ETCD_NAMES", "x")]).unwrap();
        assert_eq!(got.warnings, ["unrecognized environment variable ETCD_NAMES is ignored"]);
        let error = read(&["--nam=x".to_owned()], []).unwrap_err();
        assert_eq!(error.to_string(), "etcd has no setting nam; did you mean name?");
    }

    #[test]
    fn settings_that_go_around_a_safe_start_are_refused() {
        let error = read(&["--force-new-cluster".to_owned()], []).unwrap_err();
        assert!(error.to_string().starts_with("force-new-cluster is refused: "), "{error}");
        read(&["--force-new-cluster=false".to_owned()], []).unwrap();
        let error = read(&[], [env("ETCD_WAL_DIR", "/w")]).unwrap_err();
        assert!(error.to_string().contains("inside the data dir"), "{error}");
    }

    #[test]
    fn a_config_file_counts_alone_and_says_what_it_hides() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.yaml");
        std::fs::write(&path, "name: file\n").unwrap();
        let flags = [format!("--config-file={}", path.display()), "--data-dir=/flag".to_owned()];
        let got = read(&flags, [env("ETCD_NAME", "env")]).unwrap();
        assert_eq!((got.config.name.as_str(), got.config.data_dir.as_str()), ("file", "file.etcd"));
        assert!(got.warnings[0].ends_with("ignored: --data-dir, ETCD_NAME"), "{:?}", got.warnings);
    }
}
