//! Counts how each call ended; of a stream of answers, that stands in its trailers.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Frame, SizeHint};
use tonic::{Code, Status};

use super::metrics::Metrics;

/// A call whose end is counted, once: as cancelled if it is dropped before it has one, as its
/// client went away first.
pub(super) struct Handled {
    metrics: Arc<Metrics>,
    method: usize,
    is_done: bool,
}

impl Handled {
    pub(super) fn new(metrics: Arc<Metrics>, method: usize) -> Handled {
        Handled { metrics, method, is_done: false }
    }

    pub(super) fn count(&mut self, code: Code) {
        if !self.is_done {
            self.is_done = true;
            self.metrics.grpc_handled(self.method, code);
        }
    }
}

impl Drop for Handled {
    fn drop(&mut self) {
        self.count(Code::Cancelled);
    }
}

/// A body whose end is that of its call.
pub(super) struct Counted {
    body: tonic::body::Body,
    call: Handled,
}

impl Counted {
    pub(super) fn new(body: tonic::body::Body, call: Handled) -> Counted {
        Counted { body, call }
    }
}

impl Body for Counted {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref() {
                    let status = Status::from_header_map(trailers);
                    self.call.count(status.map_or(Code::Ok, |it| it.code()));
                }
            }
            Some(Err(status)) => self.call.count(status.code()),
            None => self.call.count(Code::Ok),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
