//! How a node logs: lines of text, or etcd's JSON lines, on standard error.

use std::fmt;
use std::io::{self, IsTerminal};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::node::embedded::{Level, Log};

/// What libraries say beneath these levels says nothing to who runs a cluster. openraft warns of
/// each message that a dead peer misses.
const LIBRARIES: &str = "openraft=error,openraft::core::heartbeat=off,openraft::replication=off,\
                         sled=warn,h2=warn,hyper=warn,hyper_util=warn,tower=warn,tonic=warn,kube_client=warn,kube_lease_manager=warn,kube_runtime=warn";

/// Begins to log, for the rest of the process.
pub(super) fn begin(log: Log) {
    let level = match log.level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    };
    // Whoever looks for a fault may ask for all that is said, as with any Rust program.
    let filter = EnvFilter::try_from_env("QUORATE_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},{LIBRARIES}")));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Whoever has set up another one before is heard there.
    let _ = if log.json {
        lines.event_format(Json).try_init()
    } else {
        lines.with_target(false).with_ansi(io::stderr().is_terminal()).try_init()
    };
}

/// etcd's lines: `{"level":"info","ts":"..","caller":"..","msg":"..", ..}`.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let data = event.metadata();
        let mut line = Map::new();
        line.insert("level".to_owned(), data.level().as_str().to_lowercase().into());
        line.insert("ts".to_owned(), time.into());
        line.insert("caller".to_owned(), data.target().replace("::", "/").into());
        line.insert("msg".to_owned(), String::new().into());
        event.record(&mut Fields(&mut line));
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// Takes an event's fields into the line.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}
