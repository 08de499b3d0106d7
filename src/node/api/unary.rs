//! The short way of the calls that are made most: one small message there, one back.
//!
//! tonic treats every call as a stream of messages each way, with buffers and state to go with it.
//! A request that came whole in one frame needs none of that, and its answer neither. Everything
//! else about a call that is out of the ordinary, errors of its form included, is tonic's: what
//! was read of it is put back in front.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::http::{HeaderMap, HeaderValue, Request, Response};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use prost::Message;
use tonic::Status;
use tonic::body::Body;

/// gRPC's head of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// What a request is, once its first frame is there.
pub(super) enum Met<Q> {
    /// The whole of it.
    Whole(HeaderMap, Q),
    /// For tonic, as if nothing had been read.
    Other(Box<Request<Rest>>),
}

/// Reads a request of at most `most` bytes if it came whole.
pub(super) async fn meet<Q: Message + Default>(request: Request<Incoming>, most: usize) -> Met<Q> {
    let (head, mut body) = request.into_parts();
    let put_back =
        |head, first, body| Met::Other(Box::new(Request::from_parts(head, Rest { first, body })));
    if head.headers.contains_key("grpc-encoding") {
        return put_back(head, None, body);
    }
    let first = match body.frame().await {
        Some(Ok(frame)) => frame,
        // An end, or an error that will be there again.
        None => return put_back(head, None, body),
        Some(Err(error)) => return put_back(head, Some(Err(error)), body),
    };
    if body.is_end_stream()
        && let Some(message) = first.data_ref().and_then(|data| only_message(data, most))
        && let Ok(message) = Q::decode(message)
    {
        return Met::Whole(head.headers, message);
    }
    put_back(head, Some(Ok(first)), body)
}

/// The message, if that is all there is in it.
fn only_message(data: &Bytes, most: usize) -> Option<Bytes> {
    let [compressed, length @ ..] = *data.first_chunk::<PREFIX>()?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    let is_whole = compressed == 0 && length <= most && data.len() == PREFIX + length;
    is_whole.then(|| data.slice(PREFIX..))
}

/// A body of which a piece was read already.
pub(super) struct Rest {
    first: Option<Result<Frame<Bytes>, hyper::Error>>,
    body: Incoming,
}

impl hyper::body::Body for Rest {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Poll::Ready(ready!(Pin::new(&mut self.body).poll_frame(context))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// The answer of a call as HTTP.
pub(super) fn answer<A: Message>(result: Result<tonic::Response<A>, Status>) -> Response<Body> {
    let message = match result {
        Ok(message) => message.into_inner(),
        Err(status) => return status.into_http(),
    };
    let length = message.encoded_len();
    let Ok(prefix) = u32::try_from(length) else {
        let what = format!("Cannot return body with more than 4GB of data but got {length} bytes");
        return Status::resource_exhausted(what).into_http();
    };
    let mut data = BytesMut::with_capacity(PREFIX + length);
    data.put_u8(0);
    data.put_u32(prefix);
    // It grows, so there is always room.
    let _ = message.encode(&mut data);
    let mut response = Response::new(Body::new(Whole { data: Some(data.freeze()), ended: false }));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", kind);
    response
}

/// One message and the status that all went well.
struct Whole {
    data: Option<Bytes>,
    ended: bool,
}

impl hyper::body::Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match self.data.take() {
            Some(data) => Some(Frame::data(data)),
            None if self.ended => None,
            None => {
                self.ended = true;
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                Some(Frame::trailers(trailers))
            }
        };
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_plain_message_within_the_limit_goes_the_short_way() {
        let frame = |bytes: &'static [u8]| only_message(&Bytes::from_static(bytes), 3);
        assert_eq!(frame(b"\0\0\0\0\x03abc").as_deref(), Some(&b"abc"[..]));
        assert_eq!(frame(b"\0\0\0\0\0").as_deref(), Some(&b""[..]));
        for other in [
            &b""[..],
            b"\0\0\0\0",
            b"\x01\0\0\0\x03abc",
            b"\0\0\0\0\x03ab",
            b"\0\0\0\0\x02abc",
            b"\0\0\0\0\x04abcd",
            b"\0\xff\xff\xff\xff",
        ] {
            assert_eq!(frame(other), None, "{other:?}");
        }
    }
}
