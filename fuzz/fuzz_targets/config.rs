//! A node's configuration: environment file, config file, flags and unit, and the settings that
//! a process is started with.
//!
//! What one form says, each form that can carry it says, and reads back the same; what cannot be
//! carried is refused. The settings of a start, filled up with defaults and given as flags, are
//! the settings again. What the engine makes of them ends in no panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quorate::node::{embedded, settings};
use quorate::render::{self, NodeConfig};

fuzz_target!(|data: &[u8]| {
    let Some((form, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let read = match form % 5 {
        0 => render::parse_env(text).ok(),
        1 => render::parse_yaml(text).ok(),
        2 => render::parse_flags_text(text).ok(),
        3 => render::parse_systemd(text).ok(),
        _ => started(text),
    };
    let Some(config) = read else { return };
    carried(&config);
    let _ = embedded::read(&config);
});

fn carried(config: &NodeConfig) {
    if let Ok(text) = render::print_env(config) {
        assert_eq!(render::parse_env(&text).as_ref(), Ok(config), "{text}");
    }
    if let Ok(text) = render::print_yaml(config) {
        assert_eq!(render::parse_yaml(&text).as_ref(), Ok(config), "{text}");
    }
    if let Ok(text) = render::print_systemd(config, "/usr/bin/etcd") {
        assert_eq!(render::parse_systemd(&text).as_ref(), Ok(config), "{text}");
    }
    // Flags can carry all but a NUL.
    if let Ok(text) = render::print_flags(config) {
        assert_eq!(render::parse_flags_text(&text).as_ref(), Ok(config), "{text}");
    }
}

/// A line each: a flag, or a variable.
fn started(text: &str) -> Option<NodeConfig> {
    // It would name a file of this machine, which is then read.
    if text.to_ascii_lowercase().replace('_', "-").contains("config-file") {
        return None;
    }
    let (flags, variables): (Vec<_>, Vec<_>) =
        text.lines().partition::<Vec<_>, _>(|line| line.starts_with('-'));
    let flags: Vec<_> = flags.into_iter().map(str::to_owned).collect();
    let variables = variables.into_iter().filter_map(|it| it.split_once('='));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = settings::read(&flags, variables).ok()?.config;
    if let Ok(flags) = config.to_flags() {
        let again = settings::read(&flags, []).expect("flags that were printed");
        assert_eq!((&again.config, again.warnings.len()), (&config, 0), "{flags:?}");
    }
    Some(config)
}
