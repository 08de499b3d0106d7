//! Starting and stopping one node's processes on this machine.
//!
//! A node is two processes: `quorate node`, and the engine it started. Either may be gone or
//! frozen while the other lives; what runs is told by the node's lock and its `state.json`,
//! never by a parent's memory, so that a new `up` knows as much as the one that was killed.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::LocalError;
use super::home::io_error;
use crate::cluster::{FoundingId, MemberId, Process};
use crate::node::home::{NodeHome, NodeState, Phase, ProcessRef};

/// How long a node that was asked to stop may take; etcd ends within 1.5 s.
const GRACE: Duration = Duration::from_secs(10);
/// How long a killed process may take to be gone.
const GONE: Duration = Duration::from_secs(5);

/// What `quorate node` is told beyond its configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StartAs {
    pub(super) founding: Option<FoundingId>,
    pub(super) member: Option<MemberId>,
    pub(super) replaces: Option<MemberId>,
}

/// What runs of a node.
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) state: Option<NodeState>,
}

/// Looks at the lock and the state file; a file that cannot be read makes it unknown.
pub(super) fn look(home: &NodeHome) -> Running {
    let locked = match home.is_locked() {
        Ok(locked) => locked,
        Err(e) => return Running { process: unknown(&e), state: None },
    };
    let mut state = match home.read_state() {
        Ok(state) => state,
        Err(e) => return Running { process: unknown(&e), state: None },
    };
    if !locked {
        return Running { process: Process::Stopped, state };
    }
    let lives = |p: Option<&ProcessRef>| p.is_some_and(ProcessRef::alive);
    if let Some(s) =
        state.as_mut().filter(|s| !lives(Some(&s.wrapper)) && !lives(s.engine.as_ref()))
    {
        // Its wrapper died right after it had started it.
        s.engine = home.holders().into_iter().find(|h| h.is_engine).map(|h| h.process);
    }
    let process = match &state {
        Some(s) if lives(Some(&s.wrapper)) && s.phase == Phase::Running => {
            // One that is its own engine is silent when it is frozen, and nobody else can tell.
            let embeds = s.engine == Some(s.wrapper);
            Process::Running { supervised: embeds || !s.wrapper.is_frozen() }
        }
        Some(s) if lives(s.engine.as_ref()) => Process::Running { supervised: false },
        // The wrapper prepares, or is about to let go of the lock; or a new one holds it and has
        // not yet written its state, over an old one or for the first time.
        Some(_) | None => Process::Preparing,
    };
    Running { process, state }
}

fn unknown(error: &dyn std::error::Error) -> Process {
    let mut text = error.to_string();
    if let Some(source) = error.source() {
        text.push_str(": ");
        text.push_str(&source.to_string());
    }
    Process::Unknown(text)
}

/// Starts `quorate node` with exactly `settings` as its `ETCD_*` environment.
///
/// Its output goes to the node's own log file and it leads a process group of its own, so that
/// neither a closed pipe nor the terminal's Ctrl-C reaches it.
pub(super) fn spawn(
    home: &NodeHome,
    engine: &Engine,
    environment: &BTreeMap<String, String>,
    start: StartAs,
) -> Result<Child, LocalError> {
    // What runs here now, also when another version has taken its file's place since.
    let own = Path::new("/proc/self/exe");
    let quorate = std::env::current_exe().map_err(io_error("find", own))?;
    let program = if quorate.exists() { &quorate } else { own };
    let log = open_log(&home.log())?;
    let errors = log.try_clone().map_err(io_error("open", &home.log()))?;
    let mut command = Command::new(program);
    command.arg0(&quorate);
    command.arg("node").arg("--node-home").arg(home.dir());
    if let Engine::Upstream(path) = engine {
        command.arg("--exec").arg(path);
    }
    let flags = [
        ("--founding-id", start.founding.map(|id| id.to_string())),
        ("--expect-member", start.member.map(|id| id.to_string())),
        ("--replaces", start.replaces.map(|id| id.to_string())),
    ];
    for (flag, value) in flags {
        if let Some(value) = value {
            command.arg(flag).arg(value);
        }
    }
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD") {
            command.env_remove(name);
        }
    }
    command
        .envs(environment)
        .current_dir(home.dir())
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .process_group(0)
        .kill_on_drop(false)
        .spawn()
        .map_err(|source| LocalError::Spawn { node: home.dir().to_owned(), source })
}

fn open_log(path: &Path) -> Result<File, LocalError> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    Ok(file.map_err(io_error("open", path))?)
}

/// Waits until a node just spawned has taken its place: it has said so, or how it ended.
pub(super) async fn settled(home: &NodeHome, before: Option<&NodeState>) {
    let spoken = async {
        loop {
            let state = home.read_state().ok().flatten();
            if state.is_some() && state.as_ref() != before {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    // One that stays silent is seen as what it is at the next turn.
    let _ = timeout(Duration::from_secs(3), spoken).await;
}

/// Stops whatever runs of a node: as asked first, by force after a grace period, or by force at
/// once. Returns when the lock is free.
///
/// A frozen or dead wrapper cannot pass a signal on, so the engine is then told directly.
pub(super) async fn stop(home: &NodeHome, by_force: bool) -> Result<(), LocalError> {
    let Running { process, state } = look(home);
    if process == Process::Stopped {
        return Ok(());
    }
    let wrapper = state.map(|s| s.wrapper).filter(|w| by_force || w.alive());
    if let Some(wrapper) = wrapper.filter(|w| by_force || w.is_frozen()) {
        kill(home, Signal::KILL, &[wrapper]);
    }
    match wrapper {
        _ if by_force => kill(home, Signal::KILL, &all_of(home, wrapper)),
        // It passes the signal on to its engine.
        Some(wrapper) if !wrapper.is_frozen() => kill(home, Signal::TERM, &[wrapper]),
        _ => kill(home, Signal::TERM, &all_of(home, wrapper)),
    }
    if !by_force && is_free_within(home, GRACE).await {
        return Ok(());
    }
    kill(home, Signal::KILL, &all_of(home, wrapper));
    if is_free_within(home, GONE).await {
        return Ok(());
    }
    Err(LocalError::Unstoppable { node: home.dir().to_owned() })
}

/// Every process of the node. The engine may have been started after the state was first read, and
/// what was started a moment ago is not written down yet.
fn all_of(home: &NodeHome, wrapper: Option<ProcessRef>) -> Vec<ProcessRef> {
    let engine = look(home).state.and_then(|s| s.engine);
    let recorded: Vec<_> =
        [wrapper, engine].into_iter().flatten().filter(ProcessRef::alive).collect();
    if recorded.is_empty() {
        home.holders().into_iter().map(|h| h.process).collect()
    } else {
        recorded
    }
}

fn kill(home: &NodeHome, signal: Signal, processes: &[ProcessRef]) {
    for process in processes {
        // A process that has gone meanwhile needs no signal.
        if let Err(error) = process.signal(signal) {
            tracing::debug!(node = %home.dir().display(), ?process, %error, "signal not delivered");
        }
    }
}

async fn is_free_within(home: &NodeHome, limit: Duration) -> bool {
    let free = async {
        while !matches!(home.is_locked(), Ok(false)) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(limit, free).await.is_ok()
}

/// What the nodes run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engine {
    /// `quorate node` itself.
    Embedded,
    /// This etcd binary, started by it.
    Upstream(PathBuf),
}

impl Engine {
    /// What the embedded engine is called where an engine is named.
    pub const EMBEDDED: &str = "embedded";

    /// The engine of this name: the embedded one, which is the default, or a binary by its path
    /// or its name on `PATH`.
    ///
    /// # Errors
    ///
    /// [`LocalError::NoEngine`], with what to install.
    pub fn find(given: Option<&Path>) -> Result<Engine, LocalError> {
        let is_file = |p: &Path| p.metadata().is_ok_and(|m| m.is_file());
        let Some(name) = given.filter(|name| *name != Path::new(Engine::EMBEDDED)) else {
            return Ok(Engine::Embedded);
        };
        if name.components().count() > 1 {
            // Nodes run in their own directories, so a relative path would miss there.
            let path = std::path::absolute(name).map_err(io_error("find", name))?;
            return if is_file(&path) {
                Ok(Engine::Upstream(path))
            } else {
                Err(LocalError::NoEngine(path))
            };
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|dir| dir.join(name))
            .find(|p| is_file(p))
            .map(Engine::Upstream)
            .ok_or_else(|| LocalError::NoEngine(name.to_owned()))
    }
}
