//! What stands behind the peer port: who may connect, and what becomes of each call.

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::TransferLeaderError;

use super::acknowledged::Word;
use super::codec::{self, Malformed, Reader, Writer};
use super::end::End;
use super::machine::Parcel;
use super::members;
use super::methods;
use super::node::Inner;
use super::propose::Fate;
use super::types::{Snapshot, Vote};
use crate::cluster::{Member, MemberId, Role};
use crate::node::apply::Command;
use crate::node::fault::Fault;
use crate::node::raft::offer::Finish;
use crate::node::raft::receive::Received;
use crate::node::transport::{Door, Failure, Hello, Identity, Page, Refusal, RefusalKind};

impl From<Malformed> for Failure {
    fn from(error: Malformed) -> Failure {
        Failure { code: methods::MALFORMED, detail: error.to_string() }
    }
}

fn stopped(error: impl std::fmt::Display) -> Failure {
    Failure { code: methods::STOPPED, detail: error.to_string() }
}

fn not_taken(error: impl std::error::Error) -> Failure {
    let mut detail = error.to_string();
    if let Some(source) = error.source() {
        detail = format!("{detail}: {source}");
    }
    tracing::warn!(error = detail, "a snapshot is not taken");
    Failure { code: methods::NOT_TAKEN, detail }
}

/// What a member says in its own name must be its own.
fn own_vote(from: &Hello, vote: &Vote) -> Result<(), Failure> {
    if vote.leader_id.voted_for == from.from.member.0 {
        return Ok(());
    }
    let whose = MemberId(vote.leader_id.voted_for);
    Err(Malformed(format!("member {} votes as {whose}", from.from.member)).into())
}

impl Door for Inner {
    fn identity(&self) -> Identity {
        let ids = self.shared.ids;
        Identity { cluster: ids.cluster, member: ids.member, incarnation: ids.incarnation }
    }

    fn greet(&self, who: &Hello) -> Result<(), Refusal> {
        let (id, incarnation) = (who.from.member, who.from.incarnation);
        if *self.stopping.borrow() {
            return Err(Refusal::new(RefusalKind::NotReady, "the member is stopping"));
        }
        let known = {
            let replicated = self.shared.replicated.read();
            if replicated.state.is_removed(id) {
                let what = format!("member {id} has been removed from the cluster");
                return Err(Refusal::new(RefusalKind::Removed, what));
            }
            replicated.state.member(id).and_then(|it| it.incarnation)
        };
        // An emptied disk may have voted: under its old ID it is not listened to again. Until the
        // member has published which data it runs on, what was seen first counts. Strangers may
        // be members that this one has not heard of yet; nothing is kept of them.
        let known = known.unwrap_or_else(|| {
            if self.place(id).is_none() {
                return incarnation;
            }
            *self.seen.lock().entry(id).or_insert(incarnation)
        });
        if known == incarnation {
            return Ok(());
        }
        let what = format!("member {id} is known by data {known}, not {incarnation}");
        Err(Refusal::new(RefusalKind::WrongIncarnation, what))
    }

    async fn call(&self, from: &Hello, method: u8, body: Bytes) -> Result<Bytes, Failure> {
        let was_removed = || self.shared.replicated.read().state.is_removed(from.from.member);
        match method {
            // It would never hear what came of it, and say that nothing did.
            methods::PROPOSE if was_removed() => Ok(Fate::NotTaken.encode()),
            methods::MEMBERS if was_removed() => Ok(members::refused(Fault::Stopped)),
            methods::APPEND => {
                let request = codec::read_append(body)?;
                own_vote(from, &request.vote)?;
                if request.vote.leader_id.term >= self.term() {
                    *self.heard.lock() = Some((from.from.member, self.shared.clock.monotonic()));
                }
                let answer = self.raft.append_entries(request).await.map_err(stopped)?;
                Ok(codec::appended(&answer))
            }
            methods::VOTE => {
                let request = codec::read_vote_request(body)?;
                own_vote(from, &request.vote)?;
                Ok(codec::voted(&self.raft.vote(request).await.map_err(stopped)?))
            }
            methods::PRE_VOTE => {
                let request = codec::read_vote_request(body)?;
                own_vote(from, &request.vote)?;
                Ok(codec::voted(&self.raft.pre_vote(request).await.map_err(stopped)?))
            }
            methods::TRANSFER => {
                let request = codec::read_transfer(body)?;
                own_vote(from, request.from_leader())?;
                let answer = self.raft.handle_transfer_leader(request).await.map_err(stopped)?;
                let mut out = Writer::default();
                match answer {
                    Ok(()) => out.u8(0),
                    Err(TransferLeaderError::VoteChanged { actual, .. }) => {
                        out.u8(1);
                        out.vote(&actual);
                    }
                    Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
                        out.u8(2);
                        out.log_id(actual.as_ref());
                    }
                }
                Ok(out.0.freeze())
            }
            methods::SNAPSHOT_BEGIN => self.receiver.begin(body).await.map_err(not_taken),
            methods::SNAPSHOT_CHUNK => self.receiver.chunk(body).await.map_err(not_taken),
            methods::SNAPSHOT_FINISH => {
                let finished = self.receiver.finish(body).await.map_err(not_taken)?;
                let Some((finish, received)) = finished else { return Ok(Bytes::new()) };
                own_vote(from, &finish.vote)?;
                self.install(finish, received).await
            }
            methods::PROPOSE => {
                // It outlives the frame it came in.
                let command = Command::from_bytes(Bytes::copy_from_slice(&body));
                let command = command.map_err(|it| Malformed(it.to_string()))?;
                // Once in the log, what no member can apply would end them all.
                command.operation().map_err(|it| Malformed(it.to_string()))?;
                Ok(self.take(command).await.encode())
            }
            methods::READ_INDEX => self.read_index().await.map_err(stopped),
            methods::MEMBERS => {
                let answer = self.change_for(&body).await;
                answer.ok_or_else(|| Malformed("no change of the members".to_owned()).into())
            }
            methods::LEASE_RENEW | methods::LEASE_LEFT => {
                let id = Reader(body).u64()?.cast_signed();
                Ok(self.lessor_for(method, id).await)
            }
            methods::PING => Ok(Bytes::new()),
            methods::VOTED_IN => {
                let mut out = Writer::default();
                out.u64(self.voted_in()?);
                Ok(out.0.freeze())
            }
            methods::BROKEN_WORD => {
                let word = Word::decode(body)?;
                own_vote(from, &word.vote)?;
                let is_broken = self.check_word(&word);
                Ok(Bytes::from_static(if is_broken { methods::HEARD } else { &[] }))
            }
            method => Err(Malformed(format!("no method {method}")).into()),
        }
    }

    fn http(&self, path: &str) -> Option<Page> {
        match path {
            "/members" => Some(Page::members(&self.listed())),
            "/version" => {
                let (server, cluster) = &self.options.versions;
                Some(Page::version(server, Some(cluster)))
            }
            _ => None,
        }
    }
}

impl Inner {
    /// The leader says how far this member's log once went. It may be shorter for a good reason, that
    /// another leader had it cut; then it has that one's vote. Whether it ends.
    fn check_word(&self, word: &Word) -> bool {
        let next = self.log.bounds().next;
        let vote = self.raft.server_metrics().borrow_watched().vote;
        if vote != word.vote || next > word.index {
            return false;
        }
        self.shared.ends.say(End::StorageDamaged(format!(
            "its log ends before entry {next} and had acknowledged entry {}: an older copy of the \
             data was put back, or the disk lost what it had confirmed",
            word.index
        )));
        true
    }

    /// The members as etcd lists them.
    fn listed(&self) -> Vec<Member> {
        let list = self.shared.replicated.read().state.member_list();
        let member = |it: crate::proto::etcdserverpb::Member| Member {
            id: MemberId(it.id),
            name: it.name,
            peer_urls: it.peer_urls,
            client_urls: it.client_urls,
            role: if it.is_learner { Role::Learner } else { Role::Voter },
        };
        list.into_iter().map(member).collect()
    }

    /// Has openraft put a snapshot in the place of the state.
    async fn install(&self, finish: Finish, received: Received) -> Result<Bytes, Failure> {
        let Finish { vote, meta, .. } = finish;
        // openraft takes it for impossible, and panics.
        if meta.last_log_id.is_none_or(|it| *it.leader_id > vote.leader_id.term) {
            return Err(Malformed("a snapshot of a later term than its leader's".to_owned()).into());
        }
        let snapshot = Snapshot { meta, snapshot: Parcel::Received(Box::new(received)) };
        let answer = self.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        Ok(codec::vote(&answer.vote))
    }
}
