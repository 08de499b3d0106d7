//! Watches on all keys: some that are open while things break, and go on elsewhere where they
//! stopped; and one at the end that tells everything from the first revision on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate::proto::etcdserverpb as pb;
use quorate::proto::etcdserverpb::watch_client::WatchClient;
use quorate::proto::etcdserverpb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::Streaming;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

use crate::clients::{end, told};
use crate::operation::{Event, PREFIX};
use crate::support::wire::{block_on, channel, spawn};
use crate::truth::EMPTY;

/// After this long in silence, another member is asked: this one may be frozen.
const SILENCE: Duration = Duration::from_secs(3);

struct Watch {
    _requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Watch {
    async fn open(endpoint: &str, from: i64) -> Result<Watch, String> {
        let create = pb::WatchCreateRequest {
            key: PREFIX.into(),
            range_end: end().into(),
            start_revision: from,
            ..Default::default()
        };
        let (requests, receiver) = mpsc::channel(4);
        let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        requests.send(create).await.map_err(|it| it.to_string())?;
        let mut client = WatchClient::new(channel(endpoint)).max_decoding_message_size(256 << 20);
        let call = client.watch(ReceiverStream::new(receiver));
        let answer = timeout(SILENCE, call).await.map_err(|it| it.to_string())?;
        let answers = answer.map_err(|it| it.to_string())?.into_inner();
        Ok(Watch { _requests: requests, answers })
    }

    /// What comes next; `None` where the watch is over.
    async fn next(&mut self) -> Option<pb::WatchResponse> {
        let answer = timeout(SILENCE, self.answers.message()).await.ok()?.ok()??;
        (!answer.canceled).then_some(answer)
    }
}

fn events(answer: pb::WatchResponse) -> impl Iterator<Item = Event> {
    answer.events.into_iter().map(|it| {
        let is_put = it.r#type == 0;
        let kv = told(it.kv.unwrap_or_default());
        Event { revision: kv.modified, key: kv.key.clone(), put: is_put.then_some(kv) }
    })
}

/// Every change up to this revision, as one member tells it.
pub(crate) fn everything(endpoint: &str, last: i64) -> Result<Vec<Event>, String> {
    block_on(async {
        let mut watch = Watch::open(endpoint, EMPTY).await?;
        let mut all: Vec<Event> = Vec::new();
        while all.last().map_or(EMPTY, |it| it.revision) < last {
            let Some(answer) = watch.next().await else {
                let at = all.last().map(|it| it.revision);
                return Err(format!("{endpoint} tells no more at {at:?} of {last}"));
            };
            all.extend(events(answer));
        }
        Ok(all)
    })
}

/// What a watcher was told.
type Told = Arc<Mutex<Vec<Event>>>;

pub(crate) struct Watchers {
    stop: Arc<AtomicBool>,
    each: Vec<(Told, JoinHandle<()>)>,
}

impl Watchers {
    /// One that begins at each endpoint.
    pub(crate) fn start(endpoints: &[String]) -> Watchers {
        let stop = Arc::new(AtomicBool::new(false));
        let one = |at| {
            let heard = Told::default();
            let work = follow(endpoints.to_vec(), at, Arc::clone(&heard), Arc::clone(&stop));
            (heard, spawn(work))
        };
        let each = (0..endpoints.len()).map(one).collect();
        Watchers { stop, each }
    }

    /// What each was told, in the order in which it was.
    pub(crate) fn stop(mut self) -> Vec<Vec<Event>> {
        self.stop.store(true, Ordering::Relaxed);
        let each = self.each.drain(..).map(|(heard, task)| {
            task.abort();
            std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner))
        });
        each.collect()
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        for (_, task) in &self.each {
            task.abort();
        }
    }
}

async fn follow(endpoints: Vec<String>, first: usize, heard: Told, stop: Arc<AtomicBool>) {
    let lock = || heard.lock().unwrap_or_else(PoisonError::into_inner);
    for turn in first.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // Behind the last one: a revision comes whole.
        let from = lock().last().map_or(EMPTY, |it| it.revision) + 1;
        if let Ok(mut watch) = Watch::open(&endpoints[turn % endpoints.len()], from).await {
            while let Some(answer) = watch.next().await {
                lock().extend(events(answer));
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Notes down who has not heard all that happened up to where it is, once and in order; of how many
/// changes they were told.
pub(crate) fn compare(each: &[Vec<Event>], truth: &[Event], wrong: &mut Vec<String>) -> usize {
    for (at, heard) in each.iter().enumerate() {
        let parts = heard.iter().zip(truth);
        if let Some((heard, truth)) = parts.clone().find(|(heard, truth)| heard != truth) {
            wrong.push(format!("watcher {at} was told {heard:?} in place of {truth:?}"));
        }
        if heard.len() > truth.len() {
            wrong.push(format!("watcher {at} was told of more than there is"));
        }
    }
    each.iter().map(Vec::len).sum()
}
