//! One client's stream. It does nothing but when its client takes what is sent, so that one who
//! does not read costs no more than what waits for it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::time::{Sleep, sleep};
use tonic::{Status, Streaming};

use super::super::lease::end;
use super::super::shared::Api;
use super::super::status::received;
use super::codec::Said;
use crate::node::fault::Fault;
use crate::node::replica::Replica;
use crate::node::watch::{Feed, Hub, Taken};
use crate::proto::etcdserverpb::WatchRequest;
use crate::proto::etcdserverpb::watch_request::RequestUnion;

/// Looks at the store before others on this thread get their turn.
const LOOKS_AT_ONCE: u32 = 8;

/// See [the module](self).
pub struct WatchStream<R> {
    api: Arc<Api<R>>,
    feed: Feed,
    /// `None` once the client has nothing more to ask; its watches go on.
    requests: Option<Streaming<WatchRequest>>,
    /// Why it has to end.
    end: Pin<Box<dyn Future<Output = Fault> + Send>>,
    tick: Pin<Box<Sleep>>,
    interval: Duration,
    is_over: bool,
}

impl<R: Replica> WatchStream<R> {
    pub(super) fn new(
        api: &Arc<Api<R>>,
        hub: &Arc<Hub>,
        requests: Streaming<WatchRequest>,
        requires_leader: bool,
        interval: Duration,
    ) -> WatchStream<R> {
        // Not all of those that began together are to be told together.
        let drawn = getrandom::u32().unwrap_or_default();
        let interval = interval + interval.mul_f64(f64::from(drawn) / f64::from(u32::MAX) / 10.0);
        WatchStream {
            api: Arc::clone(api),
            feed: Feed::new(hub, api.options().max_message_bytes()),
            requests: Some(requests),
            end: Box::pin(end(Arc::clone(api), requires_leader)),
            tick: Box::pin(sleep(interval)),
            interval,
            is_over: false,
        }
    }

    /// Takes one request, if there is one.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Result<bool, Status> {
        let Some(requests) = &mut self.requests else { return Ok(false) };
        let request = match Pin::new(requests).poll_next(cx) {
            Poll::Pending => return Ok(false),
            Poll::Ready(None) => {
                self.requests = None;
                return Ok(false);
            }
            Poll::Ready(Some(request)) => request.map_err(received)?,
        };
        let feed = &mut self.feed;
        match request.request_union {
            Some(RequestUnion::CreateRequest(it)) => {
                self.api.replica().read(|state| feed.create(&state.kv, &it));
            }
            Some(RequestUnion::CancelRequest(it)) => {
                self.api.replica().read(|state| feed.cancel(&state.kv, it.watch_id));
            }
            Some(RequestUnion::ProgressRequest(_)) => feed.ask_progress(),
            None => {} // of a later version; etcd ignores it, too
        }
        Ok(true)
    }

    fn poll_said(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Said, Status>>> {
        if let Poll::Ready(fault) = self.end.as_mut().poll(cx) {
            return Poll::Ready(Some(Err(fault.into())));
        }
        if self.tick.as_mut().poll(cx).is_ready() {
            self.tick.set(sleep(self.interval));
            // To be woken by it.
            let _ = self.tick.as_mut().poll(cx);
            self.feed.tick();
        }
        let mut looks = 0;
        loop {
            // One answer for one request, so that none of them waits for all of the others.
            let has_asked = match self.poll_request(cx) {
                Ok(has_asked) => has_asked,
                Err(status) => return Poll::Ready(Some(Err(status))),
            };
            match self.feed.take() {
                Taken::Answer(answer) => {
                    self.api.metrics().events.inc_by(answer.events.len() as u64);
                    let header = self.api.header(answer.revision);
                    return Poll::Ready(Some(Ok(Said { header, answer })));
                }
                Taken::Store if looks == LOOKS_AT_ONCE => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Taken::Store => {
                    looks += 1;
                    let feed = &mut self.feed;
                    if self.api.replica().read(|state| feed.look(&state.kv)).is_err() {
                        return Poll::Ready(Some(Err(Fault::Storage.into())));
                    }
                }
                Taken::Nothing if has_asked => {}
                Taken::Nothing => {
                    if self.feed.poll_ready(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl<R: Replica> Stream for WatchStream<R> {
    type Item = Result<Said, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let polled = self.poll_said(cx);
        self.is_over = matches!(polled, Poll::Ready(Some(Err(_))));
        polled
    }
}

impl<R> std::fmt::Debug for WatchStream<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WatchStream").field("feed", &self.feed).finish_non_exhaustive()
    }
}
