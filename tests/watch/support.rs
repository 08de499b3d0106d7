//! A server over a replica of one with a hub that hears it, and a client's stream of watches.

use std::sync::Arc;
use std::time::Duration;

use prost::bytes::Bytes;
use quorate::cluster::{ClusterId, MemberId};
use quorate::node::alone::Alone;
use quorate::node::api::{Api, Metrics, Options, Server, watch};
use quorate::node::apply::{Operation, Response};
use quorate::node::watch::{Hub, Limits, Watchers};
use quorate::proto::etcdserverpb::watch_client::WatchClient;
use quorate::proto::etcdserverpb::watch_request::RequestUnion;
use quorate::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, WatchCancelRequest, WatchCreateRequest,
    WatchProgressRequest, WatchRequest, WatchResponse,
};
use quorate::proto::mvccpb::Event;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// Generous: a machine under load must not fail a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for what should not come.
pub(crate) const SILENCE: Duration = Duration::from_millis(150);

pub(crate) struct Served {
    pub(crate) alone: Arc<Alone>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) address: String,
    stop: Option<oneshot::Sender<()>>,
}

impl Served {
    pub(crate) async fn start() -> Served {
        Served::start_with(Options::default(), Limits::default(), Duration::from_secs(600)).await
    }

    pub(crate) async fn start_with(options: Options, limits: Limits, interval: Duration) -> Served {
        let hub = Hub::new(limits);
        let hears = Arc::clone(&hub);
        let alone = Alone::new(ClusterId(7), MemberId(1)).heard_by(move |applied| {
            if let Some(last) = applied.changes.last() {
                hears.applied(&applied.changes, last.record.revision.main);
            }
        });
        let alone = Arc::new(alone);
        let metrics = Arc::new(Metrics::new().unwrap());
        let api = Api::new(Arc::clone(&alone), options, Arc::clone(&metrics));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await; // an end of the test is one as well
        };
        let watch = watch::service(Arc::clone(&api), Arc::clone(&hub), interval);
        tokio::spawn(Server::new(api).with_watch(watch).serve(vec![listener], shutdown));
        Served { alone, hub, metrics, address, stop: Some(stop) }
    }

    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn channel(&self) -> Channel {
        let url = format!("http://{}", self.address);
        Endpoint::from_shared(url).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn watch(&self) -> Watching {
        Watching::open(self.channel().await, false).await.unwrap()
    }

    pub(crate) fn put(&self, key: &str, value: &str) -> i64 {
        let put = PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() };
        match self.alone.apply(&Operation::Put(put)).unwrap() {
            Response::Put(it) => it.header.unwrap().revision,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delete(&self, key: &str, end: &str) -> i64 {
        let (key, range_end) = (bytes(key), bytes(end));
        let delete = DeleteRangeRequest { key, range_end, prev_kv: false };
        match self.alone.apply(&Operation::DeleteRange(delete)).unwrap() {
            Response::DeleteRange(it) => it.header.unwrap().revision,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn compact(&self, revision: i64) {
        let compact = CompactionRequest { revision, physical: false };
        self.alone.apply(&Operation::Compact(compact)).unwrap();
    }
}

/// A client's stream.
pub(crate) struct Watching {
    pub(crate) requests: Option<mpsc::Sender<WatchRequest>>,
    pub(crate) answers: Streaming<WatchResponse>,
}

impl Watching {
    pub(crate) async fn open(channel: Channel, requires_leader: bool) -> Result<Watching, Status> {
        Watching::open_with(channel, requires_leader, None).await
    }

    /// With a first request, before which some servers say nothing at all.
    pub(crate) async fn open_with(
        channel: Channel,
        requires_leader: bool,
        first: Option<WatchRequest>,
    ) -> Result<Watching, Status> {
        let (requests, receiver) = mpsc::channel(1024);
        if let Some(first) = first {
            requests.send(first).await.unwrap();
        }
        let mut request = Request::new(ReceiverStream::new(receiver));
        if requires_leader {
            request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        }
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let answers = client.watch(request).await?.into_inner();
        Ok(Watching { requests: Some(requests), answers })
    }

    pub(crate) async fn ask(&self, request: RequestUnion) {
        let request = WatchRequest { request_union: Some(request) };
        self.requests.as_ref().unwrap().send(request).await.unwrap();
    }

    pub(crate) async fn create(&self, request: WatchCreateRequest) {
        self.ask(RequestUnion::CreateRequest(request)).await;
    }

    /// Creates a watch and takes its first answer.
    pub(crate) async fn created(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.create(request).await;
        let answer = self.next().await;
        assert!(answer.created && answer.events.is_empty(), "{answer:?}");
        answer
    }

    pub(crate) async fn cancel(&self, watch_id: i64) {
        self.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })).await;
    }

    pub(crate) async fn progress(&self) {
        self.ask(RequestUnion::ProgressRequest(WatchProgressRequest {})).await;
    }

    pub(crate) async fn result(&mut self) -> Result<Option<WatchResponse>, Status> {
        tokio::time::timeout(PATIENCE, self.answers.message()).await.expect("an answer in time")
    }

    pub(crate) async fn next(&mut self) -> WatchResponse {
        self.result().await.unwrap().expect("the stream goes on")
    }

    pub(crate) async fn is_silent(&mut self) {
        if let Ok(answer) = tokio::time::timeout(SILENCE, self.answers.message()).await {
            panic!("{answer:?}");
        }
    }
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn watch(key: &str) -> WatchCreateRequest {
    WatchCreateRequest { key: bytes(key), ..WatchCreateRequest::default() }
}

pub(crate) fn watch_range(key: &str, end: &str) -> WatchCreateRequest {
    WatchCreateRequest { range_end: bytes(end), ..watch(key) }
}

/// `+key=value@revision` for a put, `-key@revision` for a deletion; `(old)` follows if the key as
/// it was before is told.
pub(crate) fn told(events: &[Event]) -> Vec<String> {
    let text = |it: &Bytes| String::from_utf8_lossy(it).into_owned();
    let one = |event: &Event| {
        let kv = event.kv.as_ref().unwrap();
        let before = event.prev_kv.as_ref().map(|it| format!("({})", text(&it.value)));
        let before = before.unwrap_or_default();
        match event.r#type {
            0 => format!("+{}={}@{}{before}", text(&kv.key), text(&kv.value), kv.mod_revision),
            _ => format!("-{}@{}{before}", text(&kv.key), kv.mod_revision),
        }
    };
    events.iter().map(one).collect()
}
