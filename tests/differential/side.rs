//! One of the two servers: asked, and its answers freed of what only says which of the two it is.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use quorate::proto::etcdserverpb::{RangeRequest, StatusRequest, WatchCreateRequest};

use crate::asks::{Answer, Ask, Clients, Refusal, Reply};
use crate::differences::Version;
use crate::lone_etcd::{self, LoneEtcd};
use crate::plain::{OWN, Own};
use crate::watches::{PATIENCE, Watches};

/// The most operations of a transaction: few, so that it is met.
pub const MAX_TXN_OPS: usize = 6;

/// The time now.
#[allow(clippy::disallowed_methods, reason = "tests measure what really happens")]
fn now() -> Instant {
    Instant::now()
}

pub struct Side {
    _process: LoneEtcd,
    clients: Clients,
    pub watches: Watches,
    own: Own,
    pub version: Version,
    /// When each lease was granted or renewed, at the earliest.
    renewed: BTreeMap<i64, Instant>,
    /// Up to where the watches have heard all.
    pub revision: i64,
    pub compacted: i64,
    /// Whether what was compacted is certainly gone.
    is_swept: bool,
}

impl Side {
    /// The real etcd.
    pub async fn theirs() -> Side {
        let program = std::env::var("ETCD").unwrap_or_else(|_| "etcd".to_owned());
        Side::of(Command::new(program)).await
    }

    /// The whole node as users start it.
    pub async fn ours() -> Side {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.arg("node");
        Side::of(command).await
    }

    async fn of(command: Command) -> Side {
        let urls = lone_etcd::urls();
        let flags = [format!("--max-txn-ops={MAX_TXN_OPS}")];
        let process = LoneEtcd::start_as(command, &urls, &flags).await;
        let clients = Clients::new(&process.channel);
        let status = clients.ask(&Ask::Status(StatusRequest {})).await.unwrap();
        let Reply::Status(status) = status else { unreachable!("it was asked for its status") };
        let header = status.header.unwrap();
        assert!(header.cluster_id > OWN && header.member_id > OWN, "{header:?}");
        assert!(header.raft_term > 0, "{header:?}");
        let watches = Watches::open(&process.channel, header).await;
        let mut parts = status.version.split('.').map(|it| it.parse().unwrap());
        Side {
            _process: process,
            clients,
            watches,
            own: Own { header, urls },
            version: (parts.next().unwrap(), parts.next().unwrap()),
            renewed: BTreeMap::new(),
            revision: 1,
            compacted: 0,
            is_swept: true,
        }
    }

    /// Waits until every watch has heard all that was done.
    pub async fn level(&mut self) {
        let any = RangeRequest { key: "none".into(), ..RangeRequest::default() };
        let mut reply = self.clients.ask(&Ask::Range(any)).await.unwrap();
        self.revision = reply.header().expect("a header").revision;
        self.watches.level(self.revision).await;
    }

    /// Where a watch can start so that only one thing is right for it to hear.
    pub fn start_of(&self, it: &WatchCreateRequest) -> i64 {
        let mut it = it.clone();
        if it.start_revision == self.compacted && !self.is_swept {
            it.start_revision += 1;
        }
        self.watches.certain_start(&it, self.revision, self.compacted)
    }

    pub async fn ask(&mut self, ask: &Ask) -> Answer {
        let begun = now();
        let said = match ask {
            Ask::Watch(it) => {
                let created = self.watches.create(it, self.compacted).await;
                Ok(Reply::Watch(created))
            }
            Ask::Cancel(id) => {
                let answer = self.watches.cancel(*id).await;
                Ok(answer.map_or(Reply::Silence, Reply::Watch))
            }
            Ask::Progress => Ok(Reply::Watch(self.watches.progress(self.revision).await)),
            other => {
                let request = self.own.address(other.clone());
                let said = tokio::time::timeout(PATIENCE, self.clients.ask(&request)).await;
                said.unwrap_or_else(|_| panic!("never answered: {other:?}")).map_err(Refusal::from)
            }
        };
        let mut answer = Answer { said, age: Duration::ZERO };
        match (ask, &mut answer.said) {
            (Ask::Compact(it), Ok(_)) => {
                (self.compacted, self.is_swept) = (it.revision, it.physical);
            }
            (Ask::Grant(_), Ok(Reply::Grant(it))) => {
                self.renewed.insert(it.id, begun);
            }
            (Ask::KeepAlive(it), Ok(_)) => {
                self.renewed.insert(it.id, begun);
            }
            (Ask::TimeToLive(it), Ok(_)) => {
                answer.age = self.renewed.get(&it.id).map_or(Duration::ZERO, Instant::elapsed);
            }
            _ => {}
        }
        if let Ok(reply) = &mut answer.said {
            self.own.make_plain(reply);
        }
        answer
    }
}
