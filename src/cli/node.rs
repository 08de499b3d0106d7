//! `quorate node`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::{BadInput, logging};
use crate::clock::Clock;
use crate::cluster::{Exit, ExitKind, FoundingId, MemberId};
use crate::node::embedded::{self, Log};
use crate::node::home::NodeHome;
use crate::node::port;
use crate::node::prepare::Orders;
use crate::node::run::{Engine, Run, run as run_node};
use crate::node::settings;
use crate::node::tell::{Outlets, leave_word};
use crate::render::NodeConfig;

/// Run one member: prepare its home safely, then serve
///
/// Serves etcd's v3 API by itself, or runs an upstream etcd in its place (--exec). Takes etcd's own
/// flags, ETCD_* variables and --config-file. Looks at what the data directory holds and at what a
/// quorum of the peers says, and starts the engine only where that is safe: from its data, as a
/// founder once every listed node is there, or as a member that was added. A setting given both as
/// flag and as variable: the flag wins, with a warning. A config file counts alone.
#[derive(Debug, clap::Args)]
// Without clap's own -h: etcd takes `-heartbeat-interval 100` with one dash.
#[command(after_help = AFTER, disable_help_flag = true)]
pub(crate) struct Args {
    /// Run this etcd binary (3.4 or newer) as the engine [default: the embedded one]
    ///
    /// A name without a slash is looked for on the PATH, then in /usr/local/bin, /usr/bin, /bin
    /// and /.
    #[arg(long, value_name = "PATH")]
    exec: Option<PathBuf>,
    /// Where the lock, the stamp and the set-asides lie [default: beside the data dir]
    #[arg(long, value_name = "DIR")]
    node_home: Option<PathBuf>,
    /// The founding this node belongs to
    #[arg(long, value_name = "HEX")]
    founding_id: Option<FoundingId>,
    /// The member this node is to run
    #[arg(long, value_name = "HEX")]
    expect_member: Option<MemberId>,
    /// The removed member whose data may be set aside
    #[arg(long, value_name = "HEX")]
    replaces: Option<MemberId>,
    /// The member that has run here before, even if its disk no longer says so; it is never made
    /// anew on an empty disk. Nothing, or an empty text, for none
    #[arg(long, value_name = "HEX", env = "QUORATE_HAS_RUN")]
    has_run: Option<String>,
    /// Serve the state page there: GET /state and /livez
    #[arg(long, value_name = "HOST:PORT")]
    state_listen: Option<String>,
    /// Write the last word, one line of JSON, into this file at the end
    #[arg(long, value_name = "PATH")]
    termination_log: Option<PathBuf>,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// etcd's flags, such as --name etcd1 --data-dir /var/lib/etcd/etcd1
    #[arg(value_name = "ETCD FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
    flags: Vec<String>,
}

const AFTER: &str = "\
Exit codes (the same reason is printed as one JSON line on standard error):
  0 Clean, stopped as asked        1 Unknown                 2 BadConfig
  40 Removed                      41 StaleData              42 DataLost
  43 DataGone                     44 DataDamaged            45 Foreign
  46 ClusterIdMismatch            47 AlreadyBootstrapped    48 MemberCountUnequal
  49 NoPeers                      50 NameNotInCluster       51 AddressInUse
  52 DiskFull                     53 Locked                 54 Killed

Environment:
  QUORATE_LOG    what is logged, instead of --log-level; also of the libraries beneath, for who looks
                 for a fault: debug, or info,openraft=debug

Examples:
  quorate node                                     one member on localhost's ports
  quorate node --config-file /etc/etcd/etcd.yaml
  quorate node --exec /usr/bin/etcd --name etcd1 --data-dir /var/lib/etcd/etcd1 \\
    --initial-cluster etcd1=http://192.168.2.210:2380 --initial-cluster-state new";

/// What threads that may be stuck are given at the end.
const LAST: Duration = Duration::from_secs(1);

/// `as_etcd`: called by etcd's name, so that whoever did expects etcd's log lines.
pub(crate) fn run(mut own: Args, as_etcd: bool) -> anyhow::Result<ExitCode> {
    let flags = split_own(&mut own);
    let absolute = |path: &Path| std::path::absolute(path);
    let named = own.node_home.as_deref().map(absolute).transpose()?.map(NodeHome::new);
    let mut outlets = Outlets { page: None, termination_log: own.termination_log.clone() };
    let has_run = own.has_run.as_ref().filter(|it| !it.is_empty()).map(|it| {
        let wrong = |e| BadInput(format!("--has-run: {it:?} is not an ID in hex ({e})"));
        it.parse::<MemberId>().map_err(wrong)
    });
    let told = flags.and_then(|flags| Ok((configure(&own, &flags)?, has_run.transpose()?)));
    let exit = match told {
        Ok(((config, engine, page), has_run)) => {
            outlets.page = page;
            let mut log = match &engine {
                Engine::Embedded(options) => options.log,
                Engine::Upstream(_) => Log::default(),
            };
            log.json |= as_etcd && !config.extra.contains_key("log-format");
            logging::begin(log);
            let data = absolute(Path::new(&config.data_dir))?;
            let home = match named {
                Some(home) => home.with_data(data),
                None => NodeHome::of_data_dir(&data),
            };
            let (founding, expect) = (own.founding_id, own.expect_member);
            let orders = Orders { founding, expect, replaces: own.replaces, has_run };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let exit = runtime.block_on(run_node(Run { home, config, orders, engine, outlets }));
            // A thread that hangs in the store must not keep the process.
            runtime.shutdown_timeout(LAST);
            exit
        }
        Err(BadInput(detail)) => {
            eprintln!("error: {detail}");
            let (kind, member) = (ExitKind::BadConfig, own.expect_member);
            let exit = Exit { kind, member, at: Clock.now(), detail };
            leave_word(named.as_ref(), &exit, &outlets);
            exit
        }
    };
    let line = serde_json::json!({
        "exit": exit.kind,
        "code": exit.kind.code(),
        "member": exit.member,
        "detail": exit.detail,
    });
    eprintln!("{line}");
    Ok(ExitCode::from(exit.kind.code()))
}

/// What to run, with which engine and with a state page where, or the one line that says what is
/// wrong.
fn configure(
    own: &Args,
    flags: &[String],
) -> Result<(NodeConfig, Engine, Option<SocketAddr>), BadInput> {
    let page = own
        .state_listen
        .as_ref()
        .map(|it| port::resolved(it).map_err(|e| BadInput(format!("--state-listen {it}: {e}"))));
    let page = page.transpose()?;
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let settings = settings::read(flags, environment).map_err(|e| BadInput(e.to_string()))?;
    for warning in &settings.warnings {
        eprintln!("warning: {warning}");
    }
    if let Some(path) = &own.exec {
        return Ok((settings.config, Engine::Upstream(path.clone()), page));
    }
    let mut options = embedded::read(&settings.config).map_err(|e| BadInput(e.to_string()))?;
    for warning in &options.warnings {
        eprintln!("warning: {warning}");
    }
    match embedded::raise_file_limit() {
        Ok(Some(files)) => options.bound_connections(files),
        Ok(None) => {}
        Err(error) => eprintln!("warning: the limit of open files stays as it is: {error}"),
    }
    Ok((settings.config, Engine::Embedded(Box::new(options)), page))
}

/// Once the first of etcd's flags is seen, clap takes all that follows for etcd's; our own may
/// stand among them, as people write flags in any order.
fn split_own(args: &mut Args) -> Result<Vec<String>, BadInput> {
    let mut flags = Vec::new();
    let mut rest = std::mem::take(&mut args.flags).into_iter();
    while let Some(arg) = rest.next() {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (arg.clone(), None),
        };
        if !matches!(
            name.as_str(),
            "--exec"
                | "--node-home"
                | "--founding-id"
                | "--expect-member"
                | "--replaces"
                | "--has-run"
                | "--state-listen"
                | "--termination-log"
        ) {
            flags.push(arg);
            continue;
        }
        let value = value
            .or_else(|| rest.next())
            .ok_or_else(|| BadInput(format!("{name} wants a value: {name}=VALUE")))?;
        let hex = |e| BadInput(format!("{name}: {value:?} is not an ID in hex ({e})"));
        match name.as_str() {
            "--exec" => args.exec = Some(value.clone().into()),
            "--node-home" => args.node_home = Some(value.clone().into()),
            "--founding-id" => args.founding_id = Some(value.parse().map_err(hex)?),
            "--expect-member" => args.expect_member = Some(value.parse().map_err(hex)?),
            "--replaces" => args.replaces = Some(value.parse().map_err(hex)?),
            "--has-run" => args.has_run = Some(value.clone()),
            "--state-listen" => args.state_listen = Some(value.clone()),
            _ => args.termination_log = Some(value.clone().into()),
        }
    }
    Ok(flags)
}
