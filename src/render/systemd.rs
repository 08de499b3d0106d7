//! The systemd form: a service unit that carries the settings in `Environment=` lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::env::variables;
use super::{Form, HEADER, NodeConfig, RenderError, env_setting_name};

/// Prints a service unit for the user `etcd` that starts `engine`, an absolute path such as `/usr/bin/etcd`.
///
/// # Errors
///
/// As [`super::print_env`].
pub fn print_systemd(config: &NodeConfig, engine: &str) -> Result<String, RenderError> {
    let mut text = HEADER.to_owned();
    text.push_str(
        "[Unit]\nDescription=etcd member\nDocumentation=https://etcd.io/docs\n\
         After=network-online.target\nWants=network-online.target\n\n\
         [Service]\nType=notify\nUser=etcd\n",
    );
    // A founding member is ready when a quorum is: when the other hosts start is not its matter.
    text.push_str("TimeoutStartSec=infinity\n");
    for (variable, value) in variables(config, Form::Systemd)? {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "Environment={}", word(&format!("{variable}={value}")));
    }
    // A dollar sign is special in ExecStart= but not in Environment=.
    let _ = writeln!(text, "ExecStart={}", word(engine).replace('$', "$$"));
    text.push_str(
        "Restart=on-failure\nRestartSec=5\nLimitNOFILE=65536\n\n\
         [Install]\nWantedBy=multi-user.target\n",
    );
    Ok(text)
}

/// One word as systemd reads it: quoted where needed, `%` doubled.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:,=@+-[]".contains(c);
    if text.chars().all(plain) {
        return text.to_owned();
    }
    let escaped = text.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{escaped}\"")
}

/// Reads the `Environment=` lines of a unit's `[Service]` section.
///
/// # Errors
///
/// An open quote, an escape or specifier that only systemd could resolve, an unknown setting or
/// a bad value.
pub fn parse_systemd(text: &str) -> Result<NodeConfig, RenderError> {
    let mut settings = BTreeMap::new();
    let mut in_service = false;
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let mut line = line.trim().to_owned();
        while line.ends_with('\\') && !line.starts_with(['#', ';']) {
            line.pop();
            line.push(' ');
            line.push_str(lines.next().map_or("", |(_, next)| next.trim()));
        }
        if line.starts_with('[') {
            in_service = line == "[Service]";
        }
        let Some(value) = line.strip_prefix("Environment=").filter(|_| in_service) else {
            continue;
        };
        let error = |what: &str| RenderError::Syntax { line: at + 1, what: what.to_owned() };
        let words = words(value.trim()).map_err(error)?;
        if words.is_empty() {
            settings.clear();
        }
        for word in words {
            let (variable, value) =
                word.split_once('=').ok_or_else(|| error("no equals sign in Environment="))?;
            if let Some(name) = env_setting_name(variable)
                && !value.is_empty()
            {
                settings.insert(name, value.to_owned());
            }
        }
    }
    NodeConfig::from_settings(settings)
}

fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            c if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            c if quote.is_none() && c.is_ascii_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().push(match rest.next() {
                Some(c @ ('\\' | '"' | '\'')) => c,
                Some('s') => ' ',
                Some('t') => '\t',
                Some('n') => '\n',
                _ => return Err("an escape that is not one of \\\\ \\\" \\' \\s \\t \\n"),
            }),
            '%' => match rest.next() {
                Some('%') => word.get_or_insert_default().push('%'),
                _ => return Err("a specifier that only systemd can resolve; write %% for %"),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote that is never closed");
    }
    words.extend(word);
    Ok(words)
}
