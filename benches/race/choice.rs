//! What is asked for, and what the machine is.

use std::str::FromStr;

/// What an environment variable says; what cannot be read ends the run before it began.
pub(crate) fn variable<T: FromStr>(name: &str, default: T) -> T {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|_| {
        eprintln!("error: {name}={text}: not what it should be");
        std::process::exit(2)
    })
}

/// The parts that a variable names, such as `put,failover`, of those that the arguments allow.
pub(crate) fn chosen<P>(
    name: &str,
    parts: &'static [(&str, P)],
) -> Vec<&'static (&'static str, P)> {
    let chosen = variable(name, String::new());
    let chosen: Vec<_> = chosen.split(',').filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = chosen.iter().find(|name| parts.iter().all(|(part, _)| part != *name)) {
        let known: Vec<_> = parts.iter().map(|(part, _)| *part).collect();
        eprintln!("error: {unknown}: no such part; there are {}", known.join(", "));
        std::process::exit(2);
    }
    // Arguments are for every benchmark, so what is none of ours may be another's.
    let arguments: Vec<_> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    parts
        .iter()
        .filter(|(name, _)| chosen.is_empty() || chosen.contains(name))
        .filter(|(name, _)| {
            arguments.is_empty() || arguments.iter().any(|it| name.contains(it.as_str()))
        })
        .collect()
}

/// How busy the machine is, which every figure depends on.
pub(crate) fn quiet() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split_whitespace().next().unwrap_or("?");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    format!("machine: {cores} cores, load {load} over the last minute")
}
