//! The command-line form.

use std::collections::BTreeMap;

use crate::cluster::{SettingError, is_bool_setting, is_known_setting};

use super::{NodeConfig, RenderError};

impl NodeConfig {
    /// The flags to hand to an engine, each as `--name=value`.
    ///
    /// # Errors
    ///
    /// A list whose parts hold a separator, a NUL byte, an unknown setting or a bad value.
    pub fn to_flags(&self) -> Result<Vec<String>, RenderError> {
        self.check()?;
        let flags = self.ordered().into_iter();
        Ok(flags.map(|(name, value)| format!("--{name}={value}")).collect())
    }
}

/// Prints the flags for a POSIX shell, one a line.
///
/// # Errors
///
/// As [`NodeConfig::to_flags`].
pub fn print_flags(config: &NodeConfig) -> Result<String, RenderError> {
    let words: Vec<_> = config.to_flags()?.iter().map(|flag| shell_word(flag)).collect();
    Ok(words.join(" \\\n") + "\n")
}

fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:,=@%+-".contains(c);
    if word.chars().all(plain) {
        return word.to_owned();
    }
    let (flag, value) = word.split_once('=').unwrap_or((word, ""));
    format!("{flag}='{}'", value.replace('\'', r"'\''"))
}

/// Reads flags as etcd does: `--name value`, `--name=value` or with one dash; a boolean one may
/// stand alone; of a flag that stands twice, the last counts.
///
/// # Errors
///
/// An argument that is no flag, a flag without its value, an unknown setting or a bad value.
pub fn parse_flags<S: AsRef<str>>(
    args: impl IntoIterator<Item = S>,
) -> Result<NodeConfig, RenderError> {
    NodeConfig::from_settings(flag_settings(args)?)
}

/// As [`parse_flags`], but leaves the values as they were given.
///
/// # Errors
///
/// As [`parse_flags`], except for bad values.
pub fn flag_settings<S: AsRef<str>>(
    args: impl IntoIterator<Item = S>,
) -> Result<BTreeMap<String, String>, RenderError> {
    let mut settings = BTreeMap::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let arg = arg.as_ref();
        let flag = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'));
        let flag = flag.filter(|flag| !flag.is_empty() && !flag.starts_with(['-', '=']));
        let flag = flag.ok_or_else(|| RenderError::NotAFlag(arg.to_owned()))?;
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        if !is_known_setting(name) {
            return Err(SettingError::unknown(name).into());
        }
        let value = match value {
            Some(value) => value,
            None if is_bool_setting(name) => "true".to_owned(),
            None => {
                let next = args.next().map(|next| next.as_ref().to_owned());
                next.ok_or_else(|| RenderError::MissingValue(name.to_owned()))?
            }
        };
        settings.insert(name.to_owned(), value);
    }
    Ok(settings)
}

/// Reads flags written for a POSIX shell, as [`print_flags`] writes them. Nothing is expanded.
///
/// # Errors
///
/// As [`parse_flags`], and a quote that is never closed.
pub fn parse_flags_text(text: &str) -> Result<NodeConfig, RenderError> {
    parse_flags(shell_words(text)?)
}

fn shell_words(text: &str) -> Result<Vec<String>, RenderError> {
    let line = |rest: &str| text[..text.len() - rest.len()].matches('\n').count() + 1;
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let start = line(rest.as_str());
        let open = || RenderError::Syntax {
            line: start,
            what: "a quote or backslash that nothing closes".to_owned(),
        };
        match c {
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next().ok_or_else(open)? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next().ok_or_else(open)? {
                        '"' => break,
                        '\\' => match rest.next().ok_or_else(open)? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            '\n' => {}
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => match rest.next().ok_or_else(open)? {
                '\n' => {}
                c => word.get_or_insert_default().push(c),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}
