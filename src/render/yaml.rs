//! The config file form: etcd's YAML for `--config-file`.
//!
//! etcd reads it into typed fields, so numbers and booleans stand bare, durations are whole
//! nanoseconds, TLS settings stand in two sections, and all text is quoted: YAML 1.1 would take
//! a bare `on`, `1_000` or `2:30` for something else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_yaml::{Mapping, Value};

use crate::cluster::{
    Kind, Place, SettingError, duration, find_setting, known_settings, nanoseconds,
};

use super::{Form, HEADER, NodeConfig, RenderError};

const CLIENT: &str = "client-transport-security";
const PEER: &str = "peer-transport-security";

/// Prints a config file.
///
/// # Errors
///
/// A setting that is only a flag, `auto-compaction-retention` without its mode, and whatever no
/// form can carry.
pub fn print_yaml(config: &NodeConfig) -> Result<String, RenderError> {
    config.check()?;
    let given = |name: &str| config.extra.contains_key(name);
    if given("auto-compaction-retention") && !given("auto-compaction-mode") {
        // etcd 3.4 and 3.5 default the mode as a flag only, and end without it.
        let why = "etcd wants auto-compaction-mode beside it there, such as periodic";
        let name = "auto-compaction-retention".to_owned();
        return Err(RenderError::CannotCarry { form: Form::Yaml, name, why });
    }
    let mut text = HEADER.to_owned();
    let (mut client, mut peer) = (String::new(), String::new());
    for (name, value) in config.ordered() {
        let Some(known) = find_setting(&name) else {
            return Err(SettingError::unknown(&name).into());
        };
        let value = scalar(known.kind, &value);
        // Writing to a String cannot fail.
        let _ = match known.place {
            Place::Top => writeln!(text, "{name}: {value}"),
            Place::Client(key) => writeln!(client, "  {key}: {value}"),
            Place::Peer(key) => writeln!(peer, "  {key}: {value}"),
            Place::Absent => {
                let why = "etcd reads it from a flag or the environment only";
                return Err(RenderError::CannotCarry { form: Form::Yaml, name, why });
            }
        };
    }
    for (section, lines) in [(CLIENT, client), (PEER, peer)] {
        if !lines.is_empty() {
            let _ = write!(text, "{section}:\n{lines}");
        }
    }
    Ok(text)
}

fn scalar(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Text => quoted(value),
        Kind::Bool | Kind::Int => value.to_owned(),
        // `check` has read it before.
        Kind::Duration => nanoseconds(value).unwrap_or_default().to_string(),
        Kind::List => {
            format!("[{}]", value.split(',').map(quoted).collect::<Vec<_>>().join(", "))
        }
    }
}

/// A double-quoted scalar, in the escapes of YAML 1.1 and 1.2 alike.
fn quoted(value: &str) -> String {
    let mut text = String::from('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            // Line breaks of YAML 1.1, and characters that neither version prints.
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(text, "\\x{:02x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// Reads a config file.
///
/// # Errors
///
/// Text that is not YAML or not a mapping, a value of the wrong type, an unknown setting or a
/// bad value.
pub fn parse_yaml(text: &str) -> Result<NodeConfig, RenderError> {
    NodeConfig::from_settings(yaml_settings(text)?)
}

/// As [`parse_yaml`], but as settings by flag name without dashes.
///
/// # Errors
///
/// As [`parse_yaml`], except for bad values.
pub fn yaml_settings(text: &str) -> Result<BTreeMap<String, String>, RenderError> {
    let file: Option<Mapping> =
        serde_yaml::from_str(text).map_err(|error| RenderError::Syntax {
            line: error.location().map_or(1, |location| location.line()),
            what: error.to_string().split(" at line ").next().unwrap_or_default().to_owned(),
        })?;
    let mut settings = BTreeMap::new();
    for (key, value) in file.unwrap_or_default() {
        let key = text_of(&key).unwrap_or_default();
        match (key.as_str(), value) {
            (CLIENT, Value::Mapping(section)) => security(&mut settings, section, Place::Client)?,
            (PEER, Value::Mapping(section)) => security(&mut settings, section, Place::Peer)?,
            (CLIENT | PEER, Value::Null) => {}
            (key, value) => put(&mut settings, key, &value)?,
        }
    }
    Ok(settings)
}

fn security(
    settings: &mut BTreeMap<String, String>,
    section: Mapping,
    place: fn(&'static str) -> Place,
) -> Result<(), RenderError> {
    for (key, value) in section {
        let key = text_of(&key).unwrap_or_default();
        let all = known_settings().filter_map(find_setting);
        let known = all.into_iter().find(|known| match (known.place, place("")) {
            (Place::Client(name), Place::Client(_)) | (Place::Peer(name), Place::Peer(_)) => {
                name == key
            }
            _ => false,
        });
        let known = known.ok_or_else(|| SettingError::unknown(&key))?;
        put(settings, known.name, &value)?;
    }
    Ok(())
}

fn put(
    settings: &mut BTreeMap<String, String>,
    name: &str,
    value: &Value,
) -> Result<(), RenderError> {
    let known = find_setting(name).ok_or_else(|| SettingError::unknown(name))?;
    let found = serde_yaml::to_string(value).unwrap_or_default();
    let bad = |want| SettingError::bad(name, found.trim(), want);
    let text = match (known.kind, value) {
        (_, Value::Null) => return Ok(()),
        (Kind::Bool, Value::Bool(flag)) => flag.to_string(),
        (Kind::Bool, _) => return Err(bad("true or false, without quotes").into()),
        (Kind::Int, Value::Number(number)) => number.to_string(),
        (Kind::Int, _) => return Err(bad("a whole number, without quotes").into()),
        (Kind::Duration, Value::Number(number)) => {
            number.as_i64().map(duration).ok_or_else(|| bad("a whole number of nanoseconds"))?
        }
        (Kind::Duration, _) => {
            return Err(bad("a whole number of nanoseconds, without quotes").into());
        }
        (Kind::List, Value::Sequence(parts)) => {
            let parts: Option<Vec<_>> = parts.iter().map(text_of).collect();
            parts.ok_or_else(|| bad("a list of texts"))?.join(",")
        }
        (Kind::List, _) => return Err(bad("a list").into()),
        (Kind::Text, value) => text_of(value).ok_or_else(|| bad("text"))?,
    };
    settings.insert(name.to_owned(), text);
    Ok(())
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
