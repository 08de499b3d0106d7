//! Where a node says how it is. There is one state; the home's `state.json`, the state page and the
//! termination log all say it.

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::barrier::Refused;
use super::home::{HomeLock, NodeHome, NodeState, Phase, ProcessRef};
use super::page::{self, Shown};
use crate::clock::Clock;
use crate::cluster::{Exit, NodeWord};

/// Between two looks at how far a start has come; no remediation delay is shorter than two.
const STEP: Duration = Duration::from_millis(500);
/// Between two lines in the log about it.
const SPEAK: Duration = Duration::from_secs(10);

/// Where a node is heard beside its home.
#[derive(Clone, Debug, Default)]
pub struct Outlets {
    /// Where the state page listens.
    pub page: Option<SocketAddr>,
    /// The file that gets its last word: in a container, what its termination message is read from.
    pub termination_log: Option<PathBuf>,
}

/// Tells the state of a node that holds its lock.
#[derive(Debug)]
pub(super) struct Teller {
    home: NodeHome,
    shown: Shown,
    told: Mutex<NodeState>,
    // The page's task ends with it.
    page: JoinSet<()>,
}

impl Teller {
    pub(super) fn new(home: NodeHome, state: &NodeState) -> Teller {
        let shown = Shown::new(word(&home, state));
        Teller { home, shown, told: Mutex::new(state.clone()), page: JoinSet::new() }
    }

    /// Opens the state page.
    pub(super) fn open_page(&mut self, address: SocketAddr) -> Result<(), Refused> {
        self.page.spawn(page::serve(page::listen(address)?, self.shown.clone()));
        Ok(())
    }

    /// What others are told may lag; what is done does not depend on it.
    pub(super) fn tell(&self, state: &NodeState) {
        let state = NodeState { read_mib: read_mib(), ..state.clone() };
        self.shown.show(word(&self.home, &state));
        if let Err(error) = self.home.write_state(&state) {
            tracing::warn!(%error, "the state cannot be written");
        }
        *self.told.lock() = state;
    }

    /// Tells how far a start has come, for as long as this is waited for: from its silence alone
    /// nobody could tell one that reads much data from one that hangs.
    pub(super) async fn tell_progress(&self) -> Infallible {
        let mut step = tokio::time::interval(STEP);
        let mut spoken = Clock.monotonic();
        loop {
            step.tick().await;
            let told = self.told.lock().clone();
            if read_mib() == told.read_mib {
                continue;
            }
            self.tell(&told);
            if Clock.monotonic().since(spoken) >= SPEAK {
                spoken = Clock.monotonic();
                tracing::info!(read_mib = read_mib(), "the data is being read");
            }
        }
    }

    /// The last word of a node that has ended. What the data directory holds is not looked at while
    /// something may still write there: half of it would be taken for damage, or for none.
    pub(super) fn last(
        &self,
        _lock: &HomeLock,
        state: &NodeState,
        is_busy: bool,
        outlets: &Outlets,
    ) {
        let Some(log) = &outlets.termination_log else { return };
        let runs = is_busy || state.engine.is_some_and(|it| it != state.wrapper && it.alive());
        let disk = (!runs).then(|| self.home.disk());
        let word = NodeWord { disk, ..word(&self.home, state) };
        self.shown.show(word.clone());
        write_last(log, &word);
    }
}

/// Leaves the reason of a node that did not even get as far as its lock. With a home that is free
/// it goes into `state.json` too; where that cannot be done, it stays on standard error only.
pub fn leave_word(home: Option<&NodeHome>, exit: &Exit, outlets: &Outlets) {
    let write = |home: &NodeHome| -> Option<()> {
        home.create().ok()?;
        let _lock = home.try_lock().ok()??;
        let state = NodeState {
            wrapper: ProcessRef::current().ok()?,
            engine: None,
            phase: Phase::Ended,
            member: exit.member,
            read_mib: 0,
            data_gone: false,
            complaint: None,
            exit: Some(exit.clone()),
        };
        home.write_state(&state).ok()
    };
    if let Some(home) = home
        && write(home).is_none()
    {
        tracing::debug!(home = %home.dir().display(), "the state could not be written");
    }
    last_word_outside(home, exit, outlets);
}

/// The last word of a node that has no say in its home, as while another process has it; what its
/// data directory holds is not looked at.
pub(super) fn last_word_outside(home: Option<&NodeHome>, exit: &Exit, outlets: &Outlets) {
    let Some(log) = &outlets.termination_log else { return };
    let stamp = home.and_then(|it| it.stamp().ok().flatten());
    let word = NodeWord {
        phase: Phase::Ended,
        member: exit.member,
        read_mib: 0,
        data_gone: false,
        complaint: None,
        exit: Some(exit.clone()),
        stamp: stamp.map(|it| it.identity()),
        incarnation: stamp.map(|it| it.incarnation),
        disk: None,
    };
    write_last(log, &word);
}

fn word(home: &NodeHome, state: &NodeState) -> NodeWord {
    // One that cannot be read ends the node, with that as its reason.
    let stamp = home.stamp().ok().flatten();
    NodeWord {
        phase: state.phase,
        member: state.member,
        read_mib: state.read_mib,
        data_gone: state.data_gone,
        complaint: state.complaint.clone(),
        exit: state.exit.clone(),
        stamp: stamp.map(|it| it.identity()),
        incarnation: stamp.map(|it| it.incarnation),
        disk: None,
    }
}

/// How many MiB this process has read, from files above all: its data, while it starts. 0 where the
/// kernel does not count (`/proc/self/io`, `proc_pid_io(5)`).
fn read_mib() -> u64 {
    let counts = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let read = counts.lines().find_map(|it| it.strip_prefix("rchar: ")?.parse::<u64>().ok());
    read.unwrap_or(0) >> 20
}

/// Into the file itself and never beside it: in a container it is a mount of its own, which cannot
/// be replaced by another file.
fn write_last(path: &Path, word: &NodeWord) {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        file.write_all(word.to_line().as_bytes())
    };
    if let Err(error) = write() {
        tracing::warn!(path = %path.display(), %error, "the termination log cannot be written");
    }
}
