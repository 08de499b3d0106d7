//! The environment form: `ETCD_*` lines that systemd's `EnvironmentFile=` and a POSIX shell
//! read alike.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::cluster::is_known_setting;

use super::{Form, HEADER, NodeConfig, RenderError};

/// The environment variable of a setting.
///
/// ```
/// # use quorate::render::env_name;
/// assert_eq!(env_name("listen-peer-urls"), "ETCD_LISTEN_PEER_URLS");
/// ```
pub fn env_name(setting: &str) -> String {
    format!("ETCD_{}", setting.to_ascii_uppercase().replace('-', "_"))
}

/// The setting of an environment variable; `None` if it does not begin with `ETCD_`.
pub fn env_setting_name(variable: &str) -> Option<String> {
    let name = variable.strip_prefix("ETCD_")?;
    Some(name.to_ascii_lowercase().replace('_', "-"))
}

/// What an environment says about the engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvSettings {
    /// By flag name without dashes. An empty variable counts as unset, as etcd has it.
    pub settings: BTreeMap<String, String>,
    /// `ETCD_*` variables that are no setting; etcd warns of them and goes on.
    pub unknown: Vec<String>,
}

/// Takes the `ETCD_*` variables out of an environment.
pub fn env_settings<K, V>(variables: impl IntoIterator<Item = (K, V)>) -> EnvSettings
where
    K: AsRef<str>,
    V: Into<String>,
{
    let mut found = EnvSettings::default();
    for (variable, value) in variables {
        let Some(name) = env_setting_name(variable.as_ref()) else { continue };
        let value = value.into();
        if !is_known_setting(&name) {
            found.unknown.push(variable.as_ref().to_owned());
        } else if !value.is_empty() {
            found.settings.insert(name, value);
        }
    }
    found
}

/// Prints an environment file, each value quoted if it needs to be.
///
/// # Errors
///
/// A value that is empty or holds a control character, and whatever no form can carry.
pub fn print_env(config: &NodeConfig) -> Result<String, RenderError> {
    let mut text = HEADER.to_owned();
    for (variable, value) in variables(config, Form::Env)? {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{variable}={}", quoted(&value));
    }
    Ok(text)
}

/// The variables of a configuration, checked for what an environment cannot carry.
pub(super) fn variables(
    config: &NodeConfig,
    form: Form,
) -> Result<Vec<(String, String)>, RenderError> {
    config.check()?;
    let variable = |(name, value): (String, String)| {
        let why = if value.is_empty() {
            "etcd takes an empty variable for an unset one"
        } else if value.chars().any(|c| c.is_control() && c != '\t') {
            "it holds a control character"
        } else {
            return Ok((env_name(&name), value));
        };
        Err(RenderError::CannotCarry { form, name, why })
    };
    config.ordered().into_iter().map(variable).collect()
}

fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:,=@+-[]".contains(c);
    if value.chars().all(plain) {
        return value.to_owned();
    }
    let mut text = String::from('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}

/// Reads an environment file. Lines that are empty, comments or not about `ETCD_*` are passed
/// over; of a variable that stands twice, the last counts.
///
/// # Errors
///
/// A line without an equals sign, an open quote, an unknown setting or a bad value.
pub fn parse_env(text: &str) -> Result<NodeConfig, RenderError> {
    let mut settings = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let error = |what: &str| RenderError::Syntax { line: at + 1, what: what.to_owned() };
        let (variable, value) =
            line.split_once('=').ok_or_else(|| error("no equals sign; write ETCD_NAME=value"))?;
        let Some(name) = env_setting_name(variable.trim_end()) else { continue };
        let value = unquoted(value.trim_start()).map_err(error)?;
        if value.is_empty() {
            settings.remove(&name);
        } else {
            settings.insert(name, value);
        }
    }
    NodeConfig::from_settings(settings)
}

fn unquoted(value: &str) -> Result<String, &'static str> {
    let mut text = String::new();
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        match c {
            '\'' => loop {
                match rest.next().ok_or("a single quote that is never closed")? {
                    '\'' => break,
                    c => text.push(c),
                }
            },
            '"' => loop {
                match rest.next().ok_or("a double quote that is never closed")? {
                    '"' => break,
                    '\\' => match rest.next().ok_or("a double quote that is never closed")? {
                        c @ ('"' | '\\' | '$' | '`') => text.push(c),
                        c => text.extend(['\\', c]),
                    },
                    c => text.push(c),
                }
            },
            '\\' => text.push(rest.next().ok_or("a backslash at the end of the line")?),
            c => text.push(c),
        }
    }
    Ok(text)
}
