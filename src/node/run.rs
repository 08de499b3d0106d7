//! One node from its lock to its typed end.

use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use super::barrier::Refused;
use super::data::{DataWatch, Writer};
use super::embedded;
use super::engine;
use super::home::{HomeLock, LogFile, NodeHome, NodeState, Phase, ProcessRef};
use super::prepare::{Orders, prepare};
use super::tell::{self, Outlets, Teller};
use crate::clock::Clock;
use crate::cluster::{Exit, ExitKind, MemberId};
use crate::render::NodeConfig;

/// What to run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Where.
    pub home: NodeHome,
    /// With which configuration.
    pub config: NodeConfig,
    /// On whose orders.
    pub orders: Orders,
    /// What serves.
    pub engine: Engine,
    /// Where else it says how it is.
    pub outlets: Outlets,
}

/// What serves once the home is prepared.
#[derive(Clone, Debug)]
pub enum Engine {
    /// This process itself.
    Embedded(Box<embedded::Options>),
    /// An upstream etcd's binary, which it starts.
    Upstream(PathBuf),
}

/// Prepares the home, runs the engine to its end, and says how it ended.
///
/// The same goes into the home's `state.json`, unless another process holds the home, and into the
/// termination log.
pub async fn run(run: Run) -> Exit {
    let mut node = match Node::new(&run).await {
        Ok(node) => node,
        Err(Refused { kind, detail }) => {
            let exit = Exit { kind, member: run.orders.expect, at: Clock.now(), detail };
            tell::last_word_outside(Some(&run.home), &exit, &run.outlets);
            return exit;
        }
    };
    let exit = match node.live(&run).await {
        Ok(exit) => exit,
        Err(Refused { kind, detail }) => {
            Exit { kind, member: node.state.member, at: Clock.now(), detail }
        }
    };
    node.state.phase = Phase::Ended;
    node.state.exit = Some(exit.clone());
    node.write();
    node.teller.last(&node.lock, &node.state, node.is_busy, &run.outlets);
    if node.is_busy {
        // The lock is let go of by the system, with the process.
        std::mem::forget(node);
    }
    exit
}

/// Tries for a moment: others look at the lock by taking it for an instant.
async fn take_lock(home: &NodeHome) -> Result<Option<HomeLock>, Refused> {
    home.create()?;
    for _ in 0..20 {
        if let Some(lock) = home.try_lock()? {
            return Ok(Some(lock));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    Ok(None)
}

fn holder_text(home: &NodeHome) -> String {
    let state = home.read_state().ok().flatten();
    let holders = state.map(|s| [Some(s.wrapper), s.engine]).into_iter().flatten().flatten();
    let pids: Vec<_> = holders.filter(ProcessRef::alive).map(|p| p.pid.to_string()).collect();
    let who = if pids.is_empty() {
        "another process".to_owned()
    } else {
        format!("pid {}", pids.join(" and "))
    };
    format!("{} is held by {who}; the node runs already", home.dir().display())
}

/// An engine that can be run.
enum Runnable<'a> {
    Embedded(&'a embedded::Options),
    Upstream(engine::Engine),
}

/// A node that holds its lock.
pub(super) struct Node {
    pub(super) home: NodeHome,
    pub(super) lock: HomeLock,
    pub(super) state: NodeState,
    pub(super) log: LogFile,
    pub(super) signals: Signals,
    pub(super) teller: Teller,
    /// Something may still write to the data, and will until the process is gone.
    pub(super) is_busy: bool,
}

/// What a node ends at: SIGTERM, SIGINT and SIGHUP, each meaning the same.
pub(super) struct Signals([SignalStream; 3]);

impl Signals {
    fn new() -> std::io::Result<Signals> {
        let of = |kind| signal(kind);
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        let [terminate, interrupt, hangup] = kinds.map(of);
        Ok(Signals([terminate?, interrupt?, hangup?]))
    }

    /// Returns when one has come.
    pub(super) async fn next(&mut self) {
        let Signals([terminate, interrupt, hangup]) = self;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

impl Node {
    /// Takes the lock, and says in the home that it has it.
    async fn new(run: &Run) -> Result<Self, Refused> {
        let io = |e: std::io::Error| Refused { kind: ExitKind::Unknown, detail: e.to_string() };
        // First of all: the first process of a container does not hear a signal that it has not
        // asked for.
        let signals = Signals::new().map_err(io)?;
        let lock = take_lock(&run.home)
            .await?
            .ok_or_else(|| Refused { kind: ExitKind::Locked, detail: holder_text(&run.home) })?;
        let state = NodeState {
            wrapper: ProcessRef::current().map_err(io)?,
            engine: None,
            phase: Phase::Preparing,
            member: run.orders.expect,
            read_mib: 0,
            data_gone: false,
            complaint: None,
            exit: None,
        };
        run.home.write_state(&state)?;
        let teller = Teller::new(run.home.clone(), &state);
        let mut log = LogFile::new(run.home.log());
        // Nobody looked after it while the node was down, or an engine ran alone.
        if log.is_too_long() {
            tell_cut(log.cut());
        }
        Ok(Node { home: run.home.clone(), lock, state, log, signals, teller, is_busy: false })
    }

    async fn live(&mut self, run: &Run) -> Result<Exit, Refused> {
        if let Some(address) = run.outlets.page {
            self.teller.open_page(address)?;
        }
        let Node { home, lock, state, signals, teller, .. } = self;
        let prepared = async {
            // What cannot be run is found out before anything is touched.
            let (engine, writer) = match &run.engine {
                Engine::Embedded(options) => (Runnable::Embedded(options), Writer::Embedded),
                Engine::Upstream(path) => {
                    (Runnable::Upstream(engine::Engine::new(path).await?), Writer::Upstream)
                }
            };
            let tell = |phase| {
                state.phase = phase;
                teller.tell(state);
            };
            let prepared =
                prepare(home, lock, run.config.clone(), run.orders, writer, tell).await?;
            Ok::<_, Refused>((engine, prepared))
        };
        let (engine, prepared) = tokio::select! {
            result = prepared => result?,
            never = teller.tell_progress() => match never {},
            () = signals.next() => return Ok(clean(run.orders.expect)),
        };
        self.state.member = Some(prepared.member);
        // The engine may need long until it runs.
        self.write();
        match engine {
            Runnable::Embedded(options) => self.serve(options, &prepared).await,
            Runnable::Upstream(engine) => self.run_upstream(&engine, &prepared.config).await,
        }
    }

    /// Looks after the data directory (safety 10).
    pub(super) fn note_data(&mut self, data: &mut DataWatch) {
        if !data.is_gone() || self.state.data_gone {
            return;
        }
        tracing::error!(
            data = %self.home.data().display(),
            "the data directory was deleted under the running engine; it goes on, and is replaced \
             as soon as the others hold a quorum"
        );
        self.state.data_gone = true;
        self.write();
    }

    /// Keeps the log from growing without bound.
    pub(super) async fn bound_log(&mut self) {
        if !self.log.is_too_long() {
            return;
        }
        let mut log = self.log.clone();
        // The copy may take a while, in which the members are to be answered.
        let cut = tokio::task::spawn_blocking(move || (log.cut(), log)).await;
        if let Ok((cut, log)) = cut {
            self.log = log;
            tell_cut(cut);
        }
    }

    pub(super) fn write(&self) {
        self.teller.tell(&self.state);
    }
}

fn tell_cut(cut: std::io::Result<()>) {
    match cut {
        Ok(()) => tracing::info!("the log was too long; what came before is in log.1"),
        Err(error) => tracing::warn!(%error, "the log was too long, and could not be kept"),
    }
}

pub(super) fn clean(member: Option<MemberId>) -> Exit {
    Exit { kind: ExitKind::Clean, member, at: Clock.now(), detail: "stopped as asked".to_owned() }
}
