//! `quorate up`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::context::{self, HomeArg, Source};
use super::screen::Screen;
use super::spec_file::{Change, SpecFile};
use super::{BadInput, HELD, last_spec, view};
use crate::clock::Clock;
use crate::cluster::{NodeName, Observed, Wanted};
use crate::execute::local::home::{ClusterHome, ClusterHomeError, UpState};
use crate::execute::local::{Engine, Local, LocalError};
use crate::execute::{Outcome, Turn, turn};
use crate::node::data::{self, Writer};
use crate::node::embedded;
use crate::node::home::ProcessRef;
use crate::plan::Step;
use crate::render;

/// Between two turns while something is under way.
const BUSY: Duration = Duration::from_millis(100);
/// Between two turns while all is as wanted.
const IDLE: Duration = Duration::from_secs(1);

/// Run a cluster from one file, and keep it as the file says
///
/// Renders each node's configuration, starts each node as a process of this machine, and then
/// looks after them until it is stopped: what breaks is put right in the safe order (remove, add
/// as learner, set the data aside, start as `existing`, promote), and changes of the file are
/// followed one safe step at a time.
///
/// Ctrl-C stops the members in order and keeps their data; a second one stops them at once. The
/// next `up` resumes. Members outlive an `up` that is killed, and the next one adopts them.
///
/// Each node and its engine log to HOME/NODE/log; past 16 MiB its end goes to log.1, and it begins
/// anew.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    quorate up                                   three nodes on loopback\n  \
    quorate up -f deploy/samples/howto-local.yaml\n  \
    quorate up -f cluster.yaml --home /srv/demo --engine /opt/etcd/etcd\n\n\
    Exit codes: 0 stopped as asked · 1 failed · 2 bad input, nothing started · 5 another `up` holds the home")]
pub(crate) struct Args {
    /// The spec: one EtcdCluster [default: three nodes on loopback]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    home: HomeArg,
    /// What the nodes run: `embedded`, or an etcd binary by its path or its name on PATH
    /// [default: embedded]
    #[arg(long, value_name = "PATH")]
    engine: Option<PathBuf>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Everything that can be refused is refused here, before a directory is made.
    let read = context::read_spec(args.file.as_deref())?;
    let (spec, source) = (&read.spec, read.source());
    let spec_file = source.map(|s| SpecFile::new(s.path, s.text.as_bytes().to_vec()));
    let home = args.home.for_cluster(&spec.metadata.name)?;
    let remembered = home.read()?;
    let (wanted, _) = context::resolve(spec, source, remembered.as_ref())?;
    context::must_be_local(spec, &wanted, source)?;
    let engine = Engine::find(args.engine.as_deref())?;
    must_fit(&engine, &wanted, &home)?;

    home.create()?;
    let _lock = match home.lock() {
        Err(held @ ClusterHomeError::Held { .. }) => {
            eprintln!("error: {held}");
            return Ok(ExitCode::from(HELD));
        }
        other => other?,
    };
    // Only now is the record ours to write; another `up` may have written since.
    let remembered = home.read()?;
    let (wanted, file) = context::resolve(spec, source, remembered.as_ref())?;
    if remembered.as_ref() != Some(&file) {
        home.write(&file)?;
    }
    last_spec::write(&home, spec)?;
    match spec.kubernetes_only().as_slice() {
        [] => {}
        [field] => eprintln!("note: {field} means something on Kubernetes only; ignored here"),
        fields => {
            let fields = fields.join(", ");
            eprintln!("note: these mean something on Kubernetes only; ignored here: {fields}");
        }
    }
    drop(read);
    supervise(args, home, wanted, engine, spec_file)
}

/// Refuses settings that the engine does not have, and data that another engine wrote.
fn must_fit(engine: &Engine, wanted: &Wanted, home: &ClusterHome) -> anyhow::Result<()> {
    let written = match engine {
        Engine::Embedded => Writer::Embedded,
        Engine::Upstream(_) => Writer::Upstream,
    };
    for node in home.nodes()? {
        // What cannot be read is told by the node itself, and is no reason to refuse the others.
        let found = data::ids(&home.node(&node).data()).ok().flatten().map(|it| it.writer);
        if found.is_some_and(|it| it != written) {
            let (whose, fix) = match written {
                Writer::Embedded => ("an upstream etcd", "name it with --engine PATH"),
                Writer::Upstream => ("the embedded engine", "leave out --engine"),
            };
            let dir = home.dir().display();
            return Err(BadInput(format!("{dir}: the data of {node} is of {whose}; {fix}")).into());
        }
    }
    if *engine == Engine::Embedded {
        for node in wanted.nodes.keys() {
            let config = render::node_config(wanted, &[], node, "");
            embedded::read(&config).map_err(|it| BadInput(format!("spec.options: {it}")))?;
        }
    }
    Ok(())
}

fn supervise(
    args: Args,
    home: ClusterHome,
    wanted: Wanted,
    engine: Engine,
    spec_file: Option<SpecFile>,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let up = Up {
            local: Local::new(home.clone(), engine),
            spec_file,
            screen: Screen::new(&wanted, home.dir()),
            clock: Clock,
            stop: Stop::new()?,
            source: args.file,
            told: None,
            home,
            wanted,
        };
        up.run().await
    })
}

/// One supervision, from start to Ctrl-C.
struct Up {
    home: ClusterHome,
    wanted: Wanted,
    local: Local,
    source: Option<PathBuf>,
    spec_file: Option<SpecFile>,
    screen: Screen,
    clock: Clock,
    stop: Stop,
    /// What other commands were last told of what goes on here.
    told: Option<UpState>,
}

impl Up {
    async fn run(mut self) -> anyhow::Result<ExitCode> {
        let mut seen: Option<Observed> = None;
        loop {
            self.follow_spec();
            // A turn may last some seconds, and whoever presses Ctrl-C wants to be heard at once.
            // What is left undone is found by the next `up`, as after a crash.
            let turned = tokio::select! {
                turned = one_turn(&mut self.local, &self.wanted) => turned,
                () = self.stop.signal() => return self.shut_down(seen.as_ref()).await,
            };
            let pause = match turned {
                Ok(turn) => {
                    let pause = pause_after(&turn);
                    self.tell(&turn);
                    seen = Some(turn.seen);
                    pause
                }
                // Nothing is undone: the next turn observes afresh.
                Err(error) => {
                    self.screen.problem(&format!("{:#}", anyhow::Error::from(error)));
                    IDLE
                }
            };
            if self.stop.within(pause).await {
                return self.shut_down(seen.as_ref()).await;
            }
        }
    }

    /// Takes up a changed file, if it is one that can be followed (safety 21).
    fn follow_spec(&mut self) {
        let Some(path) = self.source.clone() else { return };
        let now = self.clock.steady();
        let change = self.spec_file.as_mut().map_or(Change::None, |file| file.poll(now));
        let problem = match change {
            Change::None => return,
            Change::Vanished(problem) => Some(problem),
            Change::Bytes(bytes) => match self.accept(bytes, &path) {
                Ok(true) => {
                    self.screen.event("the file has changed; following it");
                    self.screen.wanted(&self.wanted);
                    None
                }
                Ok(false) => None,
                Err(error) => {
                    // What is wrong with the file stays wrong; what the machine lacked may not.
                    if error.downcast_ref::<BadInput>().is_none()
                        && let Some(file) = self.spec_file.as_mut()
                    {
                        file.tell_again();
                    }
                    Some(format!("{error:#}"))
                }
            },
        };
        self.screen.spec_refused(problem);
    }

    fn accept(&mut self, bytes: Vec<u8>, path: &Path) -> anyhow::Result<bool> {
        let (spec, text) = context::spec_of(bytes, path)?;
        let source = Some(Source { path, text: &text });
        let remembered = self.home.read()?;
        let (wanted, file) = context::resolve(&spec, source, remembered.as_ref())?;
        context::must_be_local(&spec, &wanted, source)?;
        if remembered.as_ref() != Some(&file) {
            self.home.write(&file)?;
        }
        last_spec::write(&self.home, &spec)?;
        let changed = wanted != self.wanted;
        self.wanted = wanted;
        Ok(changed)
    }

    /// Shows the turn here, and writes it down for other commands. Where that cannot be done (no
    /// room, most likely), the members are looked after all the same.
    fn tell(&mut self, turn: &Turn) {
        if let Err(error) = self.try_tell(turn) {
            self.screen.problem(&format!("{error:#}"));
        }
    }

    fn try_tell(&mut self, turn: &Turn) -> anyhow::Result<()> {
        self.screen.turn(&self.wanted, turn, &view::members(&turn.seen, self.local.figures()));
        let step = turn.step.to_string();
        let spec_problem = self.screen.spec_problem().map(str::to_owned);
        let ends = self.local.ends();
        let is_news = |told: &UpState| {
            told.step != step || told.spec_problem != spec_problem || told.ends != ends
        };
        if self.told.as_ref().is_none_or(is_news) {
            let process = ProcessRef::current()?;
            let state = UpState { process, step, since: self.clock.now(), spec_problem, ends };
            self.home.write_up_state(&state)?;
            self.told = Some(state);
        }
        Ok(())
    }

    /// Stops the members, followers first; a second signal stops them at once.
    async fn shut_down(mut self, seen: Option<&Observed>) -> anyhow::Result<ExitCode> {
        self.screen
            .event("stopping the members; their data stays (once more to stop them at once)");
        let nodes = stop_order(&self.home, seen)?;
        let mut tell = |what: &str| self.screen.event(what);
        tokio::select! {
            result = stop_all(&self.local, &nodes, false, &mut tell) => result?,
            () = self.stop.signal() => stop_all(&self.local, &nodes, true, &mut |_| ()).await?,
        }
        self.screen.close(&format!(
            "stopped; `quorate up` with the same home starts them again ({})",
            self.home.dir().display()
        ));
        Ok(ExitCode::SUCCESS)
    }
}

/// A turn, with the wishes people left before it and what it showed for good after it.
async fn one_turn(local: &mut Local, wanted: &Wanted) -> Result<Turn, LocalError> {
    local.remember(None)?;
    let turn = turn(local, wanted).await?;
    local.remember(Some(&turn.seen))?;
    Ok(turn)
}

/// Stops nodes, one after the other. One that does not stop, or of which nothing can be known, keeps
/// no other running, and is named in the end.
pub(super) async fn stop_all(
    local: &Local,
    nodes: &[NodeName],
    by_force: bool,
    tell: &mut impl FnMut(&str),
) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for node in nodes {
        let stopped =
            if by_force { local.kill_node(node).await } else { local.stop_node(node).await };
        match stopped {
            Ok(()) => tell(&format!("{node} has stopped")),
            Err(error) => failed.push(format!("{node}: {error}")),
        }
    }
    anyhow::ensure!(failed.is_empty(), "not stopped: {}", failed.join("; "));
    Ok(())
}

/// Every node of the home, the leader last: it need not hand its office to one that goes next.
pub(super) fn stop_order(
    home: &ClusterHome,
    seen: Option<&Observed>,
) -> anyhow::Result<Vec<NodeName>> {
    let mut nodes = home.nodes()?;
    let leader = seen.and_then(|s| s.members.known()).and_then(|list| list.leader);
    nodes.sort_by_key(|node| {
        let member = seen.and_then(|s| s.nodes.get(node)).and_then(view::member_of);
        leader.is_some() && member == leader
    });
    Ok(nodes)
}

fn pause_after(turn: &Turn) -> Duration {
    match (&turn.step, &turn.outcome) {
        (Step::Done | Step::Blocked { .. }, _) => IDLE,
        (Step::Wait { .. }, _) | (_, Outcome::NotNow(_)) => BUSY,
        _ => Duration::from_millis(10),
    }
}

/// SIGINT and SIGTERM, each meaning the same.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Stop {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn signal(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// True if a signal came before `pause` was over.
    async fn within(&mut self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.signal()).await.is_ok()
    }
}
