//! How openraft reaches the other members: its messages over the peer transport.
//!
//! Log entries go through the ordered lane, two messages unanswered at a time. Heartbeats, which
//! are also how a leader makes sure that it still leads, are calls of their own: each answer
//! belongs to one question, so none that comes late is taken for the answer to the next.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use openraft::base::BoxFuture;
use openraft::errors::ErrorSource;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::BoxedErrorSource;
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, StorageError};

use super::acknowledged::{Acknowledged, Word};
use super::codec::{self, Malformed};
use super::keeper::Keeper;
use super::machine::{Offers, Parcel};
use super::methods;
use super::offer::{self, Begin, Finish, Offer};
use super::shared::Shared;
use super::types::{LogId, Place, Snapshot, Types, Vote};
use crate::cluster::MemberId;
use crate::node::mvcc::StoreError;
use crate::node::transport::{Address, AppendReceiver, AppendSender, CallError, Peer, Peers};

/// Messages with log entries that are not answered; more were no faster (storage.md).
const DEPTH: usize = 2;
/// For a member to hear that it has lost something.
const TELL: Duration = Duration::from_secs(1);
/// For the answer to one: the follower's disk may be slow. One that is gone is noticed by the
/// transport, earlier.
const APPEND: Duration = Duration::from_secs(10);
/// For a chunk of a snapshot to be taken in.
const CHUNK: Duration = Duration::from_secs(30);
/// For a whole snapshot to be checked and installed.
const INSTALL: Duration = Duration::from_secs(300);

type Rpc<T> = Result<T, RPCError<Types>>;

/// All members, and how to reach them.
#[derive(Clone, Debug)]
pub(super) struct Links {
    pub(super) shared: Arc<Shared>,
    pub(super) peers: Peers,
    pub(super) keeper: Arc<Keeper>,
    pub(super) offers: Arc<Offers>,
    pub(super) acknowledged: Arc<Acknowledged>,
    /// The last entry that this member, leading, has told another was committed, or is about to.
    pub(super) announced: Arc<AtomicU64>,
}

/// One member, as openraft calls it.
#[derive(Debug)]
pub(super) struct Network {
    links: Links,
    target: MemberId,
    /// As openraft had it when it began; what was applied since goes before.
    place: Place,
    /// For heartbeats only.
    is_for_heartbeats: bool,
}

impl Links {
    /// A member, at its address as it is known here; `place` if it is not.
    pub(super) fn peer(&self, id: MemberId, place: Option<&Place>) -> Option<Peer> {
        let replicated = self.shared.replicated.read();
        let place = replicated.membership.get_node(&id.0).or(place)?;
        let incarnation = replicated.state.member(id).and_then(|it| it.incarnation);
        let address = Address { id, urls: place.peer_urls.clone(), incarnation };
        drop(replicated);
        Some(self.peers.peer(&address))
    }

    /// A message in the form that it travels in.
    fn letter(&self, request: &AppendEntriesRequest<Types>) -> Bytes {
        if let Some(committed) = request.leader_commit {
            self.announced.fetch_max(committed.index, Ordering::SeqCst);
        }
        codec::append(request).freeze()
    }

    fn network(&self, target: u64, place: &Place, is_for_heartbeats: bool) -> Network {
        let (links, target, place) = (self.clone(), MemberId(target), place.clone());
        Network { links, target, place, is_for_heartbeats }
    }
}

impl RaftNetworkFactory<Types> for Links {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &Place) -> Network {
        self.network(target, node, false)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Place) -> Network {
        self.network(target, node, true)
    }
}

/// A call that came to nothing, as openraft has it: whom to ask again at once, and whom later.
fn rpc(error: &CallError) -> RPCError<Types> {
    match error {
        CallError::Lost { .. } | CallError::Timeout { .. } | CallError::Busy { .. } => {
            RPCError::Network(NetworkError::new(error))
        }
        _ => RPCError::Unreachable(Unreachable::new(error)),
    }
}

fn unread(error: Malformed) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&error))
}

impl Network {
    fn peer(&self) -> Rpc<Peer> {
        let none = || RPCError::Unreachable(Unreachable::from_string("no address is known"));
        self.links.peer(self.target, Some(&self.place)).ok_or_else(none)
    }

    async fn call(&self, method: u8, body: &[u8], option: &RPCOption) -> Rpc<Bytes> {
        self.peer()?.call(method, body, option.hard_ttl()).await.map_err(|it| rpc(&it))
    }

    /// Remembers what the member says it has, and does not let it have less.
    fn heed(&self, reach: &Reach, answer: &AppendEntriesResponse<Types>) -> Rpc<()> {
        let word = |id: LogId| Word { vote: reach.vote, index: id.index };
        let has = match answer {
            AppendEntriesResponse::Success => reach.last,
            AppendEntriesResponse::PartialSuccess(matching) => *matching,
            AppendEntriesResponse::HigherVote(_) => None,
            AppendEntriesResponse::Conflict => {
                let Some(differs) = reach.prev else {
                    // Nothing can conflict with nothing before it.
                    return Err(unread(Malformed("a conflict before the first entry".to_owned())));
                };
                let broken = self.links.acknowledged.broken(self.target, &word(differs));
                return broken.map_or(Ok(()), |word| Err(self.tell(word)));
            }
        };
        if let Some(has) = has {
            self.links.acknowledged.note(self.target, word(has));
        }
        Ok(())
    }

    /// Tells the member that it has lost what it acknowledged; it is left alone until it has ended.
    fn tell(&self, word: Word) -> RPCError<Types> {
        let lost = format!("it has lost what it acknowledged, up to entry {}", word.index);
        let target = self.target;
        let connected = self.links.peers.hearing().connected_since(target);
        let to_tell = self.links.acknowledged.to_tell(target, connected);
        if to_tell.is_news {
            tracing::error!(member = %target, lost, "a member is not sent anything");
        }
        if to_tell.member {
            let acknowledged = Arc::clone(&self.links.acknowledged);
            let peer = self.peer();
            tokio::spawn(async move {
                let heard = match peer {
                    Ok(peer) => peer.call(methods::BROKEN_WORD, &word.encode(), TELL).await.ok(),
                    Err(_) => None,
                };
                if heard.is_none_or(|it| *it != *methods::HEARD) {
                    acknowledged.not_heard(target);
                }
            });
        }
        RPCError::Unreachable(Unreachable::from_string(lost))
    }

    /// Sends what a snapshot has, from where the receiver is, until it has installed it.
    async fn send(&self, vote: Vote, offer: &Arc<Offer>) -> Result<Vote, StreamingError<Types>> {
        let peer = self.peer()?;
        let lost = |error: CallError| StreamingError::from(rpc(&error));
        let read = |error: StoreError| {
            let source = BoxedErrorSource::from_string(error);
            StreamingError::StorageError(StorageError::read_snapshot(None, source))
        };
        let begin = Begin { id: offer.id }.encode();
        let has = peer.bulk(methods::SNAPSHOT_BEGIN, &begin, CHUNK).await.map_err(lost)?;
        let has = offer::read_received(has).map_err(unread)?;
        let mut chunks = offer.chunks(has);
        while let Some(chunk) = chunks.recv().await {
            let chunk = chunk.map_err(read)?;
            peer.bulk(methods::SNAPSHOT_CHUNK, &chunk, CHUNK).await.map_err(lost)?;
            self.links.offers.used(self.links.shared.clock.monotonic());
        }
        let hash = offer.hash().await.map_err(read)?;
        let finish = Finish {
            vote,
            meta: offer.meta.clone(),
            head: offer.head.clone(),
            hash: hash.hash,
            revision: hash.revision,
        };
        let mut answer = Bytes::new();
        for piece in finish.encode(&offer.id) {
            answer = peer.bulk(methods::SNAPSHOT_FINISH, &piece, INSTALL).await.map_err(lost)?;
        }
        self.links.offers.done(offer.id);
        Ok(codec::read_vote(answer).map_err(unread)?)
    }
}

impl RaftNetworkV2<Types> for Network {
    type SnapshotData = Parcel;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<Types>> {
        let letter = self.links.letter(&request);
        let answer = self.call(methods::APPEND, &letter, &option).await?;
        let answer = codec::read_appended(answer).map_err(unread)?;
        self.heed(&Reach::of(&request), &answer)?;
        Ok(answer)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<Types>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        if self.is_for_heartbeats {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            let exchange = self.peer()?.append(DEPTH, APPEND).await.map_err(|it| rpc(&it))?;
            let pipe = Pipe::new(self, input, exchange);
            let stream = stream::unfold(Some(pipe), |pipe| async move {
                let mut pipe = pipe?;
                let result = pipe.next().await?;
                // After an error the pipe is dropped, and with it the input: openraft waits for
                // that before it begins anew.
                let goes_on = matches!(&result, Ok(Ok(_)));
                Some((result, goes_on.then_some(pipe)))
            });
            Ok(stream.boxed() as BoxStream<'s, _>)
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<Types>> {
        let answer = self.call(methods::VOTE, &codec::vote_request(&request), &option).await?;
        codec::read_voted(answer).map_err(unread)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<Types>> {
        let answer = self.call(methods::PRE_VOTE, &codec::vote_request(&request), &option).await?;
        codec::read_voted(answer).map_err(unread)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let Parcel::Offer(offer) = snapshot.snapshot else {
            let what = "a snapshot that holds nothing to send";
            return Err(StreamingError::Unreachable(Unreachable::from_string(what)));
        };
        let _sending = self.links.keeper.sending();
        tracing::info!(member = %self.target, index = offer.id.index, "sending a snapshot");
        let sent = tokio::select! {
            biased;
            sent = self.send(vote, &offer) => sent,
            closed = cancel => Err(StreamingError::Closed(closed)),
        };
        match &sent {
            Ok(_) => {
                tracing::info!(member = %self.target, index = offer.id.index, "snapshot installed");
            }
            Err(error) => tracing::warn!(member = %self.target, %error, "snapshot broke off"),
        }
        Ok(SnapshotResponse { vote: sent? })
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<Types>> {
        let answer = self.call(methods::TRANSFER, &codec::transfer(&request), &option).await?;
        let mut answer = codec::Reader(answer);
        let expected = request.last_log_id().copied();
        let mut read = || {
            Ok(match answer.u8()? {
                0 => Ok(()),
                1 => Err(TransferLeaderError::VoteChanged {
                    expected: *request.from_leader(),
                    actual: answer.vote()?,
                }),
                _ => Err(TransferLeaderError::LogNotFlushed { expected, actual: answer.log_id()? }),
            })
        };
        read().map_err(unread)
    }
}

/// Requests that go out and answers that come in, two at a time.
struct Pipe<'a, S> {
    network: &'a Network,
    input: S,
    sender: AppendSender,
    receiver: AppendReceiver,
    /// The requests that are not answered.
    unanswered: VecDeque<Reach>,
    /// Nothing more will be sent.
    is_last: bool,
}

/// What a request with log entries reaches from and to.
struct Reach {
    vote: Vote,
    prev: Option<LogId>,
    last: Option<LogId>,
}

impl Reach {
    fn of(request: &AppendEntriesRequest<Types>) -> Reach {
        let prev = request.prev_log_id;
        let last = request.entries.last().map(|it| it.log_id);
        Reach { vote: request.vote, prev, last: last.or(prev) }
    }
}

impl<'a, S: Stream<Item = AppendEntriesRequest<Types>> + Unpin> Pipe<'a, S> {
    fn new(
        network: &'a Network,
        input: S,
        (sender, receiver): (AppendSender, AppendReceiver),
    ) -> Pipe<'a, S> {
        Pipe { network, input, sender, receiver, unanswered: VecDeque::new(), is_last: false }
    }

    /// The next answer; `None` when there is nothing more to send and all is answered.
    async fn next(&mut self) -> Option<Rpc<StreamAppendResult<Types>>> {
        loop {
            if self.is_last || self.unanswered.len() >= DEPTH {
                let reach = self.unanswered.pop_front()?;
                let answer = self.receiver.recv(APPEND).await?;
                return Some(self.read(answer, &reach));
            }
            tokio::select! {
                biased;
                answer = self.receiver.recv(APPEND), if !self.unanswered.is_empty() => {
                    let reach = self.unanswered.pop_front()?;
                    return Some(self.read(answer?, &reach));
                }
                request = self.input.next() => match request {
                    Some(request) => {
                        let reach = Reach::of(&request);
                        let body = self.network.links.letter(&request);
                        if let Err(error) = self.sender.send(methods::APPEND, &body).await {
                            return Some(Err(rpc(&error)));
                        }
                        self.unanswered.push_back(reach);
                    }
                    None => self.is_last = true,
                },
            }
        }
    }

    fn read(
        &self,
        answer: Result<Bytes, CallError>,
        reach: &Reach,
    ) -> Rpc<StreamAppendResult<Types>> {
        let answer = answer.map_err(|it| rpc(&it))?;
        let answer = codec::read_appended(answer).map_err(unread)?;
        self.network.heed(reach, &answer)?;
        Ok(answer.into_stream_result(reach.prev, reach.last))
    }
}
