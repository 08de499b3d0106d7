//! A node whose engine is an upstream etcd: a process that it starts, watches and stops.

use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::Child;

use super::barrier::Refused;
use super::data::DataWatch;
use super::engine::Engine;
use super::hearing::Hearing;
use super::home::{Phase, ProcessRef};
use super::messages::{self, EngineVersion};
use super::nudge::Nudge;
use super::port;
use super::prepare::other_peers;
use super::run::{Node, clean};
use crate::clock::Clock;
use crate::cluster::{Exit, ExitKind};
use crate::render::NodeConfig;

/// Between two looks at the data directory.
const LOOK: Duration = Duration::from_secs(1);

/// At most this much of an engine's last words is read.
///
/// A panic prints its reason first and then the stack of every goroutine, which is much.
const LAST_WORDS: u64 = 4 << 20;

/// With less than this left, no engine goes on: etcd reserves its log 64 MiB at a time.
const NO_ROOM: u64 = 64 << 10;

impl Node {
    /// Runs the engine to its end, and says how it ended.
    pub(super) async fn run_upstream(
        &mut self,
        engine: &Engine,
        config: &NodeConfig,
    ) -> Result<Exit, Refused> {
        self.lock.make_inheritable(&self.home)?;
        let from = self.log.end();
        // Before, since an engine may outlive us. It makes its log right away.
        self.home.clear_promise(&self.lock)?;
        let mut child = engine.start(&self.home, config)?;
        self.state.engine = child.id().and_then(|pid| ProcessRef::of(pid).ok());
        self.state.phase = Phase::Running;
        self.write();
        let (status, asked) = self.watch(&mut child, config, from).await?;
        Ok(self.classify(config, engine.version(), status, asked, from))
    }

    /// Waits for the engine to end; passes signals on, looks after its data directory, and hears
    /// what it says from this byte of the log on.
    async fn watch(
        &mut self,
        child: &mut Child,
        config: &NodeConfig,
        from: u64,
    ) -> Result<(ExitStatus, bool), Refused> {
        let mut data = DataWatch::new(self.home.data());
        let mut hearing = Hearing::new(from);
        let mut nudge = Nudge::default();
        let mut look = tokio::time::interval(LOOK);
        let mut asked = false;
        loop {
            tokio::select! {
                status = child.wait() => {
                    self.state.data_gone |= data.is_gone();
                    let status = status.map_err(|e| Refused {
                        kind: ExitKind::Unknown,
                        detail: format!("the engine cannot be waited for: {e}"),
                    })?;
                    return Ok((status, asked));
                }
                () = self.signals.next() => asked = self.pass_on(asked),
                _ = look.tick() => {
                    self.note_data(&mut data);
                    self.take_note(hearing.complaint(&self.log));
                    if hearing.waits_for_an_entry() {
                        nudge.give(other_peers(config));
                    }
                    self.bound_log().await;
                }
            }
        }
    }

    fn take_note(&mut self, complaint: Option<&str>) {
        if complaint.is_some() == self.state.complaint.is_some() {
            return;
        }
        self.state.complaint = complaint.map(|text| Exit {
            kind: ExitKind::ClusterIdMismatch,
            member: self.state.member,
            at: Clock.now(),
            detail: format!("{text}; see {}", self.home.log().display()),
        });
        self.write();
    }

    /// What the engine said from there on; the end of it, if it is much.
    fn words_since(&self, from: u64) -> String {
        let from = from.max(self.log.end().saturating_sub(LAST_WORDS));
        // Without words the reason is unknown, which is what the caller then says.
        let words = self.log.read(from, LAST_WORDS).map(|it| it.1).unwrap_or_default();
        String::from_utf8_lossy(&words).into_owned()
    }

    /// The first signal asks the engine to end, a second one makes it.
    fn pass_on(&self, asked: bool) -> bool {
        let signal = if asked { Signal::KILL } else { Signal::TERM };
        if let Some(Err(error)) = self.state.engine.map(|e| e.signal(signal)) {
            tracing::warn!(%error, "the engine cannot be told to stop");
        }
        true
    }

    fn classify(
        &self,
        config: &NodeConfig,
        version: EngineVersion,
        status: ExitStatus,
        asked: bool,
        from: u64,
    ) -> Exit {
        use std::os::unix::process::ExitStatusExt;
        let words = self.words_since(from);
        let exit = |kind, detail| Exit { kind, member: self.state.member, at: Clock.now(), detail };
        match (messages::classify(version, &words), status.signal()) {
            (Some((ExitKind::Removed, text)), _) => exit(ExitKind::Removed, text),
            _ if asked => clean(self.state.member),
            _ if self.state.data_gone => exit(
                ExitKind::DataGone,
                "the engine ended after its data directory was deleted".to_owned(),
            ),
            // A killed engine had no last words; what it said before, it survived.
            (_, Some(signal)) => {
                exit(ExitKind::Killed, format!("the engine was killed by signal {signal}"))
            }
            (Some((ExitKind::AddressInUse, text)), None) => {
                exit(ExitKind::AddressInUse, format!("{text}{}", holders(config)))
            }
            (Some((kind, text)), None) => exit(kind, text),
            // On a full disk the last words may not have found room either.
            (None, None) if self.home.free_bytes().is_ok_and(|free| free < NO_ROOM) => exit(
                ExitKind::DiskFull,
                format!(
                    "the engine ended and {} has no space left: make room there",
                    self.home.dir().display()
                ),
            ),
            (None, None) => exit(
                ExitKind::Unknown,
                format!(
                    "the engine ended ({status}): {}; see {}",
                    messages::last_words(&words),
                    self.home.log().display()
                ),
            ),
        }
    }
}

/// Who has the ports that were wanted.
fn holders(config: &NodeConfig) -> String {
    let urls = config.listen_peer_urls.iter().chain(&config.listen_client_urls);
    let addresses = urls.filter_map(|url| port::listen_address(url).ok());
    let held = addresses.filter_map(|a| Some((a, port::holder(a)?)));
    let texts: Vec<_> = held
        .map(|(a, (pid, command))| format!("; pid {pid} ({command}) listens on port {}", a.port()))
        .collect();
    texts.concat()
}
