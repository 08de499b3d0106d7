//! What is printed at the end: a few lines for people, one JSON object for scripts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::load::End;
use super::options::{Form, Target};
use super::stats::{Errors, Latency, Times, per_second};
use crate::cli::{DEGRADED, NO_QUORUM};

/// The report on one load.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    load: &'static str,
    end: End,
    endpoints: Vec<String>,
    connections: usize,
    /// What else the load was, by the names of the options.
    #[serde(flatten)]
    settings: Map<String, Value>,
    seconds: f64,
    operations: u64,
    ops_per_second: f64,
    errors: u64,
    error_texts: BTreeMap<String, u64>,
    /// Of the operations that succeeded, in milliseconds.
    latency_ms: Option<Latency>,
    /// Further times, by their names in JSON.
    #[serde(flatten)]
    more: BTreeMap<&'static str, Option<Latency>>,
    /// The same for people, with their names.
    #[serde(skip)]
    rows: Vec<(&'static str, Option<Latency>)>,
    #[serde(skip)]
    words: String,
    #[serde(skip)]
    extra: Vec<(&'static str, String)>,
}

impl Report {
    /// A report on a load in words, such as `8 clients, 256 B values`.
    pub(super) fn new(load: &'static str, target: &Target, words: String) -> Report {
        Report {
            load,
            end: End::Complete,
            endpoints: target
                .endpoints
                .iter()
                .take(target.connections)
                .map(ToString::to_string)
                .collect(),
            connections: target.connections,
            settings: Map::new(),
            seconds: 0.0,
            operations: 0,
            ops_per_second: 0.0,
            errors: 0,
            error_texts: BTreeMap::new(),
            latency_ms: None,
            more: BTreeMap::new(),
            rows: Vec::new(),
            words,
            extra: Vec::new(),
        }
    }

    /// One thing that the load was or found, under a name of JSON.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Report {
        self.settings.insert(name.to_owned(), value.into());
        self
    }

    /// A line for people alone.
    pub(super) fn line(mut self, name: &'static str, text: String) -> Report {
        self.extra.push((name, text));
        self
    }

    /// What was counted.
    pub(super) fn counted(
        mut self,
        end: End,
        done: u64,
        time: Duration,
        errors: &Errors,
    ) -> Report {
        self.end = end;
        self.seconds = time.as_secs_f64();
        self.operations = done;
        self.ops_per_second = per_second(done, time);
        self.errors = errors.total();
        self.error_texts = errors.texts().clone();
        self
    }

    /// The times that the load is about.
    pub(super) fn latency(mut self, name: &'static str, times: &Times) -> Report {
        self.latency_ms = times.latency();
        self.rows.push((name, self.latency_ms));
        self
    }

    /// Other times that came off.
    pub(super) fn more(
        mut self,
        name: &'static str,
        json_name: &'static str,
        times: &Times,
    ) -> Report {
        self.rows.push((name, times.latency()));
        self.more.insert(json_name, times.latency());
        self
    }

    /// Prints it, and says how the command ends.
    pub(super) fn print(&self, form: Form) -> anyhow::Result<ExitCode> {
        match form {
            Form::Json => println!("{}", serde_json::to_string_pretty(self)?),
            Form::Table => print!("{}", self.table()),
        }
        match self.end {
            End::Complete => {}
            End::Interrupted => {
                eprintln!("note: interrupted; this is what was measured until then");
            }
            End::GivenUp => eprintln!("error: nothing succeeded any more; given up"),
        }
        Ok(ExitCode::from(self.code()))
    }

    fn code(&self) -> u8 {
        match (self.end, self.operations, self.errors) {
            (End::GivenUp, ..) | (_, 0, 1..) => NO_QUORUM,
            (_, _, 1..) => DEGRADED,
            _ => 0,
        }
    }

    fn table(&self) -> String {
        let mut text = String::new();
        let plural = if self.connections == 1 { "" } else { "s" };
        let _ = writeln!(
            text,
            "{}: {}; {} connection{plural} to {}\n",
            self.load,
            self.words,
            self.connections,
            self.endpoints.join(",")
        );
        let _ = writeln!(
            text,
            "operations       {} in {:.2} s, {:.1} a second",
            self.operations, self.seconds, self.ops_per_second
        );
        for (name, line) in &self.extra {
            let _ = writeln!(text, "{name:16} {line}");
        }
        if self.errors == 0 {
            let _ = writeln!(text, "errors           none");
        }
        for (at, (error, count)) in self.error_texts.iter().enumerate() {
            let name = if at == 0 { format!("errors {}", self.errors) } else { String::new() };
            let _ = writeln!(text, "{name:16} {count} x {error}");
        }
        let _ = writeln!(
            text,
            "\nmilliseconds     {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "p50", "p90", "p99", "p99.9", "max", "mean"
        );
        for (name, latency) in &self.rows {
            let _ = match latency {
                Some(Latency { p50, p90, p99, p999, max, mean }) => writeln!(
                    text,
                    "{name:16} {p50:>9.2} {p90:>9.2} {p99:>9.2} {p999:>9.2} {max:>9.2} {mean:>9.2}"
                ),
                None => writeln!(text, "{name:16} {:>9}", "-"),
            };
        }
        text
    }
}
