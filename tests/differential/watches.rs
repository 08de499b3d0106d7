//! One stream of watches, of which the first is told everything there is.
//!
//! From what that one has heard follows which event each other watch is still to hear: that one is
//! waited for, and never a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prost::bytes::Bytes;
use quorate::proto::etcdserverpb::watch_client::WatchClient;
use quorate::proto::etcdserverpb::watch_create_request::FilterType;
use quorate::proto::etcdserverpb::watch_request::RequestUnion;
use quorate::proto::etcdserverpb::{
    ResponseHeader, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
    WatchResponse,
};
use quorate::proto::mvccpb::Event;
use tokio::sync::mpsc;
use tonic::Streaming;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::plain::make_plain;

/// Generous: who waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// A server may let a request for progress fall while one of the watches is behind.
const AGAIN: Duration = Duration::from_secs(1);
/// The watch of everything.
const ALL: i64 = 0;
/// The watch of answers that are of none.
const NONE: i64 = -1;

/// What one watch was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    request: WatchCreateRequest,
    /// The first revision it is told of.
    from: i64,
    events: Vec<Event>,
    /// How it ended by itself.
    end: Option<WatchResponse>,
}

pub struct Watches {
    requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
    /// What every header says.
    own: ResponseHeader,
    /// By ID; a watch that was cancelled stays until its ID is used again.
    heard: BTreeMap<i64, Heard>,
}

/// The revision of an event.
fn revision(event: &Event) -> i64 {
    event.kv.as_ref().unwrap().mod_revision
}

/// Whether a watch is told of this change at all.
fn wants(request: &WatchCreateRequest, event: &Event) -> bool {
    let key = &event.kv.as_ref().unwrap().key;
    // No key at all is the lowest one there can be.
    let from = if request.key.is_empty() { &b"\0"[..] } else { &request.key };
    let to = &request.range_end;
    let is_in = match &to[..] {
        b"" => key == from,
        b"\0" => key >= from,
        to => key >= from && &key[..] < to,
    };
    let filter = if event.r#type == 0 { FilterType::Noput } else { FilterType::Nodelete };
    is_in && !request.filters.contains(&filter.into())
}

impl Watches {
    pub async fn open(channel: &Channel, own: ResponseHeader) -> Watches {
        let (requests, receiver) = mpsc::channel(16);
        let everything = Bytes::from_static(b"\0");
        let (key, range_end) = (everything.clone(), everything);
        let all = WatchCreateRequest { key, range_end, prev_kv: true, ..Default::default() };
        let request_union = Some(RequestUnion::CreateRequest(all.clone()));
        // Before the first request some servers say nothing.
        requests.send(WatchRequest { request_union }).await.unwrap();
        let mut client = WatchClient::new(channel.clone());
        let answers = client.watch(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        let mut watches = Watches { requests, answers, own, heard: BTreeMap::new() };
        let created = watches.next().await;
        assert!(created.created && created.watch_id == ALL, "{created:?}");
        watches.enter(all, &created);
        watches
    }

    fn enter(&mut self, request: WatchCreateRequest, created: &WatchResponse) {
        let next = created.header.as_ref().unwrap().revision + 1;
        let from = if request.start_revision > 0 { request.start_revision } else { next };
        let heard = Heard { request, from, events: Vec::new(), end: None };
        self.heard.insert(created.watch_id, heard);
    }

    async fn ask(&self, request: RequestUnion) {
        let request = WatchRequest { request_union: Some(request) };
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> WatchResponse {
        let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await;
        self.plain(answer.expect("an answer in time").unwrap().expect("the stream goes on"))
    }

    fn plain(&self, mut answer: WatchResponse) -> WatchResponse {
        make_plain(answer.header.as_mut().expect("a header"), &self.own);
        answer
    }

    /// Takes one answer; gives it back if it is to a request.
    async fn hear(&mut self) -> Option<WatchResponse> {
        let mut answer = self.next().await;
        if answer.created {
            return Some(answer);
        }
        if answer.watch_id == NONE {
            return None; // progress that was asked for twice
        }
        let heard = self.heard.get_mut(&answer.watch_id).expect("a watch that was asked for");
        assert!(heard.end.is_none(), "nothing after the end: {answer:?}");
        let before = heard.events.last().map_or(0, revision);
        let events = std::mem::take(&mut answer.events);
        if let Some(first) = events.first() {
            assert!(revision(first) > before, "a revision is split: {events:?}");
            assert!(answer.header.as_ref().unwrap().revision >= revision(first), "{answer:?}");
        }
        heard.events.extend(events);
        answer.canceled.then_some(answer)
    }

    /// Takes answers up to the one to a request.
    async fn answer(&mut self) -> WatchResponse {
        loop {
            if let Some(answer) = self.hear().await {
                return answer;
            }
        }
    }

    /// What everybody could be told by now.
    fn history(&self) -> &[Event] {
        &self.heard[&ALL].events
    }

    /// Waits until every watch has heard all there is up to this revision.
    pub async fn level(&mut self, now: i64) {
        loop {
            let last = |it: &Heard| {
                let mut wanted = self.history().iter().rev().filter(|e| wants(&it.request, e));
                wanted.next().map(revision).filter(|last| *last >= it.from)
            };
            let behind = |it: &Heard| it.events.last().map(revision) < last(it);
            let is_told = self.history().last().map_or(1, revision) >= now;
            if is_told && !self.heard.values().any(|it| it.end.is_none() && behind(it)) {
                return;
            }
            let answer = self.hear().await;
            assert_eq!(answer, None, "nobody asked");
        }
    }

    /// The first thing in which what was heard here is not what was heard there.
    pub fn difference(&self, there: &Watches) -> Option<String> {
        let ids: BTreeSet<_> = self.heard.keys().chain(there.heard.keys()).collect();
        ids.into_iter().find_map(|id| {
            let (Some(ours), Some(theirs)) = (self.heard.get(id), there.heard.get(id)) else {
                return Some(format!("only one of the two has a watch {id}"));
            };
            let most = ours.events.len().max(theirs.events.len());
            let event = (0..most).find(|n| ours.events.get(*n) != theirs.events.get(*n));
            let event = event.map(|n| (ours.events.get(n), theirs.events.get(n)));
            (ours != theirs).then(|| {
                let (of, ends) = (&ours.request, (&ours.end, &theirs.end));
                format!("watch {id} (ours, theirs): ends {ends:?}, event {event:?}, {of:?}")
            })
        })
    }

    /// Those that are still told something, but for that of everything.
    pub fn live(&self) -> impl Iterator<Item = i64> {
        let live = self.heard.iter().filter(|(id, it)| **id != ALL && it.end.is_none());
        live.map(|(id, _)| *id)
    }

    /// Whether a key was deleted and written again in one transaction, that of this revision.
    pub fn has_rewritten(&self, at: i64) -> bool {
        let key = |it: &Event| it.kv.as_ref().unwrap().key.clone();
        let all: Vec<_> = self.history().iter().filter(|it| revision(it) == at).collect();
        let mut deleted = all.iter().enumerate().filter(|(_, it)| it.r#type == 1);
        deleted.any(|(n, gone)| all[n..].iter().any(|it| it.r#type == 0 && key(it) == key(gone)))
    }

    /// An ID that no watch has had, and that is never drawn.
    pub fn free_id(&self) -> i64 {
        1000 + i64::try_from(self.heard.len()).unwrap()
    }

    /// Whether one of them is yet to begin.
    pub fn are_ahead(&self, now: i64) -> bool {
        self.heard.values().any(|it| it.end.is_none() && it.request.start_revision > now)
    }

    /// Those that ended because the past they were to begin with is compacted.
    pub fn compacted(&self) -> impl Iterator<Item = i64> {
        let compacted = |it: &Heard| it.end.as_ref().is_some_and(|end| end.compact_revision != 0);
        self.heard.iter().filter(move |(_, it)| compacted(it)).map(|(id, _)| *id)
    }

    /// Where a watch is to start: from now on if it is one into a past in which nothing happened that
    /// it would be told of: nobody could say when it has caught up. What lies at the compacted
    /// revision does not count, for it may be gone.
    pub fn certain_start(&self, request: &WatchCreateRequest, now: i64, compacted: i64) -> i64 {
        let start = request.start_revision;
        let least = start.max(compacted + 1);
        let is_told = |it: &Event| revision(it) >= least && wants(request, it);
        let is_past = start > 0 && start >= compacted && start <= now;
        if is_past && !self.history().iter().any(is_told) { 0 } else { start }
    }

    /// Begins a watch. If it ends at once because its past is compacted, that is heard as well.
    pub async fn create(&mut self, request: &WatchCreateRequest, compacted: i64) -> WatchResponse {
        self.ask(RequestUnion::CreateRequest(request.clone())).await;
        let answer = self.answer().await;
        assert!(answer.created, "{answer:?}");
        if answer.canceled {
            return answer;
        }
        self.enter(request.clone(), &answer);
        if (1..compacted).contains(&request.start_revision) {
            let end = self.answer().await;
            self.heard.get_mut(&answer.watch_id).expect("just entered").end = Some(end);
        }
        answer
    }

    /// Ends a watch; `None` if there is none of this ID, for then nothing is said.
    pub async fn cancel(&mut self, watch_id: i64) -> Option<WatchResponse> {
        let is_there = self.live().any(|it| it == watch_id);
        self.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })).await;
        if !is_there {
            return None;
        }
        let answer = self.answer().await;
        assert!(answer.canceled && answer.watch_id == watch_id, "{answer:?}");
        self.heard.get_mut(&watch_id).expect("it was live").end = Some(answer.clone());
        Some(answer)
    }

    /// Asks for the progress of all, until it is told for this revision.
    pub async fn progress(&mut self, now: i64) -> WatchResponse {
        for _ in 0..PATIENCE.as_secs() {
            self.ask(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
            // Nothing is lost if it is given up: a message is there as a whole or not at all.
            while let Ok(answer) = tokio::time::timeout(AGAIN, self.answers.message()).await {
                let answer = self.plain(answer.unwrap().expect("the stream goes on"));
                assert!(answer.watch_id == NONE && answer.events.is_empty(), "{answer:?}");
                if answer.header.as_ref().unwrap().revision == now {
                    return answer;
                }
            }
        }
        panic!("no progress at revision {now} of {:?}: {:#?}", self.own, self.heard);
    }
}
