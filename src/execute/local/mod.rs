//! Runs a cluster's nodes as processes of this machine.
//!
//! Everything this executor knows it reads again at each turn, from the homes on disk and from
//! the members themselves; the little it keeps in memory (since when a node is silent, how often
//! it was started) may be lost at any time.

mod abort;
mod act;
mod ends;
pub mod home;
pub mod network;
mod observe;
mod process;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use observe::MemberFigures;
pub use process::Engine;

use crate::client::Client;
use crate::clock::Clock;
use crate::cluster::{Exit, NodeName, Observed, Timestamp, Wanted};
use crate::execute::change::{self, Change};
use crate::execute::memory::Memory;
use crate::execute::{Executor, Outcome};
use crate::node::home::HomeError;
use crate::plan::Step;
use crate::render::RenderError;
use home::{ClusterFile, ClusterHome, ClusterHomeError};

/// How long a membership change may take; its outcome is then unknown.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// How long a member may take to say how it is before it counts as silent: every turn with a
/// frozen member lasts this long.
const PROBE_LIMIT: Duration = Duration::from_millis(800);

/// Why something on this machine failed.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The cluster's home cannot be used.
    #[error(transparent)]
    Home(#[from] ClusterHomeError),
    /// A node's home cannot be used.
    #[error(transparent)]
    NodeHome(#[from] HomeError),
    /// A node's configuration cannot be written down or read back.
    #[error("cannot use the configuration in {}", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// What is wrong with it.
        source: RenderError,
    },
    /// A node's process could not be started.
    #[error("cannot start the node in {}", node.display())]
    Spawn {
        /// The node's home.
        node: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// A node's lock is still held after it was killed: look who holds it with `fuser`.
    #[error("the node in {} does not stop: something still holds {}/lock", node.display(), node.display())]
    Unstoppable {
        /// The node's home.
        node: PathBuf,
    },
    /// No engine to run: install one, or name it.
    #[error("there is no engine at {}: install one (apt-get install etcd-server), or name it with --engine PATH", .0.display())]
    NoEngine(PathBuf),
    /// The system has no free port to give.
    #[error("no free port on 127.0.0.1")]
    NoPort(#[source] io::Error),
    /// The system's random numbers cannot be read.
    #[error("no random numbers from the system")]
    NoRandomness(#[source] getrandom::Error),
}

impl LocalError {
    /// Whether the file system had no room left.
    fn is_disk_full(&self) -> bool {
        let (LocalError::Home(ClusterHomeError::Io { source, .. })
        | LocalError::NodeHome(HomeError::Io { source, .. })
        | LocalError::Spawn { source, .. }) = self
        else {
            return false;
        };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// The executor for local processes.
#[derive(Debug)]
pub struct Local {
    home: ClusterHome,
    engine: Engine,
    client: Client,
    probe: Client,
    clock: Clock,
    memory: Memory,
    /// Client URLs of the members that answered last.
    endpoints: Vec<String>,
    figures: BTreeMap<NodeName, MemberFigures>,
    ends: ends::Ends,
    /// How often each node was started lately, and when last.
    starts: BTreeMap<NodeName, (u32, Timestamp)>,
    /// The nodes whose processes did not end even by force, and when that was tried last.
    unstoppable: BTreeMap<NodeName, Timestamp>,
}

impl Local {
    /// An executor for the cluster in `home`, whose nodes run `engine`.
    pub fn new(home: ClusterHome, engine: Engine) -> Self {
        Local {
            home,
            engine,
            client: Client::new(CALL_LIMIT),
            probe: Client::new(PROBE_LIMIT),
            clock: Clock,
            memory: Memory::default(),
            endpoints: Vec::new(),
            figures: BTreeMap::new(),
            ends: ends::Ends::default(),
            starts: BTreeMap::new(),
            unstoppable: BTreeMap::new(),
        }
    }

    /// What each member said of itself at the last observation.
    pub fn figures(&self) -> &BTreeMap<NodeName, MemberFigures> {
        &self.figures
    }

    /// How nodes ended that could not write it down themselves.
    pub fn ends(&self) -> BTreeMap<NodeName, Exit> {
        self.ends.all()
    }

    /// Takes over what another process knows of such ends.
    pub fn learn_ends(&mut self, ends: impl IntoIterator<Item = (NodeName, Exit)>) {
        for (node, exit) in ends {
            self.ends.note(&node, exit);
        }
    }

    /// Stops a node, as asked first and by force after a while.
    ///
    /// # Errors
    ///
    /// [`LocalError::Unstoppable`] if even that does not end it.
    pub async fn stop_node(&self, node: &NodeName) -> Result<(), LocalError> {
        process::stop(&self.home.node(node), false).await
    }

    /// Stops a node by force, at once.
    ///
    /// # Errors
    ///
    /// As [`Self::stop_node`].
    pub async fn kill_node(&self, node: &NodeName) -> Result<(), LocalError> {
        process::stop(&self.home.node(node), true).await
    }

    /// Writes down what an observation showed for good: the cluster's ID, once a quorum has
    /// answered with it, and the wishes people left.
    ///
    /// # Errors
    ///
    /// [`LocalError::Home`].
    pub fn remember(&mut self, seen: Option<&Observed>) -> Result<(), LocalError> {
        let Some(file) = self.home.read()? else { return Ok(()) };
        let mut now = file.clone();
        change::latch(&mut now.record, seen.and_then(|s| s.members.known()));
        let left = self.home.requests_left()?;
        now.record.requests.extend(left.clone());
        if now != file {
            self.home.write(&now)?;
        }
        for node in left.keys() {
            self.home.request_taken(node)?;
        }
        Ok(())
    }

    /// The members that answered last.
    fn change(&self) -> Change<'_> {
        Change { client: &self.client, endpoints: &self.endpoints }
    }

    fn read_or_new(&self, wanted: &Wanted) -> Result<ClusterFile, LocalError> {
        let file = self.home.read()?;
        Ok(file.unwrap_or_else(|| ClusterFile::new(&wanted.name, &wanted.token)))
    }
}

impl Executor for Local {
    type Error = LocalError;

    async fn observe(&mut self, wanted: &Wanted) -> Result<Observed, LocalError> {
        self.read_world(wanted).await
    }

    async fn execute(
        &mut self,
        wanted: &Wanted,
        seen: &Observed,
        step: &Step,
    ) -> Result<Outcome, LocalError> {
        self.act(wanted, seen, step).await
    }
}
