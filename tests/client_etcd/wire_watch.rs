//! Watch: creation, events, progress, fragments, cancellation, lost history.

use prost::bytes::Bytes;
use quorate::proto::etcdserverpb::watch_create_request::FilterType;
use quorate::proto::etcdserverpb::watch_request::RequestUnion;
use quorate::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, WatchCancelRequest, WatchCreateRequest,
    WatchProgressRequest, WatchRequest, WatchResponse, kv_client::KvClient,
    watch_client::WatchClient,
};
use quorate::proto::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::etcd::{Etcd, PATIENCE, connect, feed};

struct Watch {
    requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

impl Watch {
    /// Opens the stream with a first watch on it: until then a member does not answer at all.
    async fn open(channel: Channel, first: WatchCreateRequest) -> Watch {
        let (requests, stream) = feed();
        requests.send(create(first)).await.unwrap();
        let mut client = WatchClient::new(channel).max_decoding_message_size(64 << 20);
        let answers = tokio::time::timeout(PATIENCE, client.watch(stream)).await;
        Watch { requests, answers: answers.expect("headers in time").unwrap().into_inner() }
    }

    async fn send(&self, request: RequestUnion) {
        let request = WatchRequest { request_union: Some(request) };
        self.requests.send(request).await.unwrap();
    }

    async fn create(&self, more: WatchCreateRequest) {
        self.requests.send(create(more)).await.unwrap();
    }

    async fn next(&mut self) -> WatchResponse {
        let next = tokio::time::timeout(PATIENCE, self.answers.message()).await;
        next.expect("an answer in time").unwrap().unwrap()
    }
}

/// Begins a watch of every key that begins with `k`.
fn create(more: WatchCreateRequest) -> WatchRequest {
    let (key, range_end) = (Bytes::from_static(b"k"), Bytes::from_static(b"l"));
    let create = WatchCreateRequest { key, range_end, ..more };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

fn put(key: &'static str, value: impl Into<Bytes>) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

#[tokio::test]
async fn changes_are_followed_from_the_past_on_until_cancelled() {
    let etcd = Etcd::start(1).await;
    let channel = connect(&etcd).await;
    let mut kv = KvClient::new(channel.clone());
    kv.put(put("k1", "a")).await.unwrap();
    kv.put(put("k1", "b")).await.unwrap();
    let delete = DeleteRangeRequest { key: "k1".into(), ..DeleteRangeRequest::default() };
    kv.delete_range(delete.clone()).await.unwrap();

    let past = WatchCreateRequest {
        start_revision: 2,
        prev_kv: true,
        watch_id: 42,
        ..WatchCreateRequest::default()
    };
    let mut watch = Watch::open(channel, past).await;
    let created = watch.next().await;
    assert!(created.created && !created.canceled && created.events.is_empty());
    assert_eq!(created.watch_id, 42);
    let mut events = Vec::new();
    while events.len() < 3 {
        let answer = watch.next().await;
        assert_eq!(answer.watch_id, 42);
        events.extend(answer.events);
    }
    let seen: Vec<_> = events
        .iter()
        .map(|it| {
            let (kv, previous) = (it.kv.as_ref().unwrap(), it.prev_kv.as_ref());
            let previous = previous.map(|it| it.value.to_vec());
            (it.r#type(), kv.value.to_vec(), kv.mod_revision, previous)
        })
        .collect();
    assert_eq!(
        seen,
        [
            (EventType::Put, b"a".to_vec(), 2, None),
            (EventType::Put, b"b".to_vec(), 3, Some(b"a".to_vec())),
            (EventType::Delete, Vec::new(), 4, Some(b"b".to_vec())),
        ]
    );

    // A second watch on the same stream leaves puts out; both see what is due to them.
    watch
        .create(WatchCreateRequest {
            filters: vec![FilterType::Noput.into()],
            watch_id: 43,
            progress_notify: true,
            ..WatchCreateRequest::default()
        })
        .await;
    assert!(watch.next().await.created);
    kv.put(put("k2", "c")).await.unwrap();
    kv.delete_range(DeleteRangeRequest { key: "k2".into(), ..delete }).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let answer = watch.next().await;
        seen.extend(answer.events.iter().map(|it| (answer.watch_id, it.r#type())));
    }
    seen.sort_by_key(|it| it.0);
    assert_eq!(seen, [(42, EventType::Put), (42, EventType::Delete), (43, EventType::Delete)]);

    watch.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
    let progress = watch.next().await;
    assert_eq!((progress.watch_id, progress.events.len()), (-1, 0));
    assert_eq!(progress.header.unwrap().revision, 6);

    watch.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 42 })).await;
    let canceled = watch.next().await;
    assert!(canceled.canceled && !canceled.created);
    assert_eq!(canceled.watch_id, 42);

    let compact = CompactionRequest { revision: 5, ..CompactionRequest::default() };
    kv.compact(compact).await.unwrap();
    watch.create(WatchCreateRequest { start_revision: 2, ..WatchCreateRequest::default() }).await;
    let created = watch.next().await;
    assert!(created.created);
    let lost = watch.next().await;
    assert!(lost.canceled && lost.watch_id == created.watch_id);
    assert_eq!(lost.compact_revision, 5);
    watch.create(WatchCreateRequest { watch_id: 43, ..WatchCreateRequest::default() }).await;
    let taken = watch.next().await;
    assert!(taken.canceled && !taken.cancel_reason.is_empty(), "{taken:?}");
}

#[tokio::test]
async fn a_large_answer_comes_in_fragments_when_asked_for() {
    let etcd = Etcd::start(1).await;
    let channel = connect(&etcd).await;
    let mut kv = KvClient::new(channel.clone());
    for _ in 0..3 {
        kv.put(put("k1", vec![b'x'; 1_000_000])).await.unwrap();
    }
    let past =
        WatchCreateRequest { start_revision: 2, fragment: true, ..WatchCreateRequest::default() };
    let mut watch = Watch::open(channel, past).await;
    assert!(watch.next().await.created);
    // Two fit into one answer of 2 MiB.
    let pieces = [watch.next().await, watch.next().await];
    assert_eq!(pieces.each_ref().map(|it| it.fragment), [true, false]);
    assert_eq!(pieces.each_ref().map(|it| it.events.len()), [2, 1]);
}
