//! The options that the loads share, and how their values are read and refused.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hyper::Uri;

use crate::cli::BadInput;
use crate::cluster::nanoseconds;

/// The largest value that can be asked for; members refuse far smaller ones.
const LARGEST_VALUE: usize = 32 << 20;
/// The longest key that can be asked for.
const LARGEST_KEY: usize = 64 << 10;

/// Where the load goes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Target")]
pub(super) struct Target {
    /// Client URLs of the members to load, etcd or ours
    #[arg(
        long,
        value_name = "URL,..",
        value_delimiter = ',',
        env = "ETCDCTL_ENDPOINTS",
        default_value = "http://127.0.0.1:2379"
    )]
    pub(super) endpoints: Vec<Endpoint>,
    /// Connections, spread evenly over the endpoints; the clients are spread over them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub(super) connections: usize,
    /// How long one operation may take before it counts as failed
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub(super) timeout: Duration,
}

impl Target {
    /// The endpoint of each connection.
    pub(super) fn spread(&self) -> Vec<Endpoint> {
        self.endpoints.iter().cycle().take(self.connections).cloned().collect()
    }

    /// Says what of the target is left idle.
    pub(super) fn notes(&self) {
        if self.connections < self.endpoints.len() {
            let (few, all) = (self.connections, self.endpoints.len());
            eprintln!(
                "note: {few} of {all} endpoints used; --connections {all} or more uses them all"
            );
        }
    }
}

/// How much load.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Amount")]
pub(super) struct Amount {
    /// Stop after this many operations [default: 10000; watch: 100]
    #[arg(long, value_name = "N", conflicts_with = "duration",
        value_parser = clap::value_parser!(u64).range(1..))]
    total: Option<u64>,
    /// Stop after this time, such as 30s or 2m
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    duration: Option<Duration>,
    /// Operations a second over all clients; 0 = as fast as they are answered
    ///
    /// With a rate, an operation that had to wait for a free client is measured from the moment
    /// it was due: a stall is not hidden by the requests that it kept from being sent.
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = rate)]
    rate: f64,
    /// Load like this first, without measuring
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = time)]
    pub(super) warm_up: Duration,
}

impl Amount {
    /// The end of the load; `total` operations unless something else was asked for.
    pub(super) fn until(&self, total: u64) -> Until {
        match (self.duration, self.total) {
            (Some(time), _) => Until::Time(time),
            (None, given) => Until::Total(given.unwrap_or(total)),
        }
    }

    /// Operations a second, if there is a limit.
    pub(super) fn rate(&self) -> Option<f64> {
        (self.rate > 0.0).then_some(self.rate)
    }
}

/// When a load ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// After so many operations.
    Total(u64),
    /// After so long.
    Time(Duration),
}

/// What keys look like.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Keys and values")]
pub(super) struct KeyForm {
    /// What every key begins with
    #[arg(long, value_name = "TEXT", default_value = "bench/")]
    pub(super) prefix: String,
    /// Bytes of a key: the prefix, then a number with as many zeros before it as it takes
    #[arg(long, value_name = "SIZE", default_value = "24", value_parser = key_size)]
    pub(super) key_size: usize,
    /// Which keys and values come: equal seeds give equal ones, in equal order
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
}

/// Which keys of how many.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Keys and values")]
pub(super) struct KeyChoice {
    /// How many different keys there are
    #[arg(long, value_name = "N", default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) key_space: u64,
    /// One key after the other, not at random
    #[arg(long)]
    pub(super) sequential: bool,
}

/// The size of values.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Keys and values")]
pub(super) struct ValueForm {
    /// Bytes of a value, such as 256 or 4KiB
    #[arg(long, value_name = "SIZE", default_value = "256", value_parser = value_size)]
    pub(super) value_size: usize,
}

/// Who sends.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Amount")]
pub(super) struct Clients {
    /// Clients, each with one operation under way
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub(super) clients: usize,
}

impl Clients {
    /// # Errors
    ///
    /// More connections than clients: some would stay idle, and the figures would name them.
    pub(super) fn fill(self, target: &Target) -> Result<(), BadInput> {
        if target.connections <= self.clients {
            return Ok(());
        }
        Err(BadInput(format!(
            "--connections {} is more than --clients {}: each client uses one connection",
            target.connections, self.clients
        )))
    }
}

/// The form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// For people.
    Table,
    /// For scripts.
    Json,
}

/// The `--output` option.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Report")]
pub(super) struct Output {
    /// The form of the output
    #[arg(short, long, value_enum, default_value = "table")]
    pub(super) output: Form,
}

/// A member's client URL, such as `http://127.0.0.1:2379`; without a scheme, as etcdctl takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    authority: String,
    address: String,
}

impl Endpoint {
    /// What requests name as their target.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// What is dialled: host and port.
    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        const FORM: &str = "give a client URL such as http://127.0.0.1:2379";
        let text = text.trim();
        if text.starts_with("https://") {
            return Err("TLS is not built yet; give an http:// URL".to_owned());
        }
        let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = whole.parse().map_err(|_| format!("not a URL; {FORM}"))?;
        if uri.scheme_str() != Some("http") {
            return Err(format!("not an http:// URL; {FORM}"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("nothing may follow host and port; {FORM}"));
        }
        let authority = uri.authority().ok_or_else(|| format!("no host; {FORM}"))?;
        if authority.as_str().contains('@') {
            return Err("a name and password mean nothing here; give host and port".to_owned());
        }
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| format!("no host; {FORM}"))?;
        let port = uri.port_u16().ok_or_else(|| format!("no port; {FORM}"))?;
        Ok(Endpoint { authority: authority.to_string(), address: format!("{host}:{port}") })
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    const MOST: usize = 100_000;
    match text.parse() {
        Ok(number @ 1..=MOST) => Ok(number),
        _ => Err(format!("give a whole number from 1 to {MOST}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok();
    number
        .filter(|it| it.is_finite() && (*it == 0.0 || (0.001..=1e7).contains(it)))
        .ok_or_else(|| "give operations a second, at most 10000000; 0 is no limit".to_owned())
}

fn time(text: &str) -> Result<Duration, String> {
    let time = nanoseconds(text).and_then(|it| u64::try_from(it).ok()).map(Duration::from_nanos);
    time.filter(|it| *it <= Duration::from_secs(30 * 86_400))
        .ok_or_else(|| "give a time such as 500ms, 30s or 2m".to_owned())
}

fn some_time(text: &str) -> Result<Duration, String> {
    time(text)?.checked_sub(Duration::from_millis(1)).ok_or("give 1ms or more")?;
    time(text)
}

fn value_size(text: &str) -> Result<usize, String> {
    size(text, 0, LARGEST_VALUE)
}

fn key_size(text: &str) -> Result<usize, String> {
    size(text, 1, LARGEST_KEY)
}

fn size(text: &str, least: usize, most: usize) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].trim() {
        "" | "B" => Some(1),
        "KiB" | "K" | "k" => Some(1 << 10),
        "MiB" | "M" => Some(1 << 20),
        _ => None,
    };
    let number = digits.parse::<usize>().ok().zip(unit).and_then(|(n, unit)| n.checked_mul(unit));
    number
        .filter(|it| (least..=most).contains(it))
        .ok_or_else(|| format!("give {least} to {most} bytes, such as 256 or 4KiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_as_etcdctl_reads_them_and_refused_in_words() {
        let read = |text: &str| text.parse::<Endpoint>().map(|it| it.to_string());
        assert_eq!(read("http://a.b:2379"), Ok("http://a.b:2379".to_owned()));
        assert_eq!(read("127.0.0.1:1"), Ok("http://127.0.0.1:1".to_owned()));
        assert_eq!(read("http://[::1]:2379/"), Ok("http://[::1]:2379".to_owned()));
        for (text, part) in [
            ("https://a:1", "TLS"),
            ("http://a", "no port"),
            ("unix://a:1", "http://"),
            ("http://a:1/v3", "follow"),
            ("http://u:p@a:1", "password"),
            ("", "URL"),
            ("http://a:99999", "port"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_and_times_have_units_and_limits() {
        assert_eq!(value_size("0"), Ok(0));
        assert_eq!(value_size("4KiB"), Ok(4096));
        assert_eq!(value_size("1 MiB"), Ok(1 << 20));
        for text in ["", "-1", "4 GiB", "KiB", "99999999999999999999", "33MiB", "1.5k"] {
            assert!(value_size(text).is_err(), "{text}");
        }
        assert!(key_size("0").is_err());
        assert_eq!(some_time("1m30s"), Ok(Duration::from_secs(90)));
        for text in ["0s", "5", "-1s", "s", "9000h"] {
            assert!(some_time(text).is_err(), "{text}");
        }
        for text in ["-1", "NaN", "inf", "x"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
