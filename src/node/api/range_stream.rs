//! `RangeStream`: a range in chunks that are all of one revision, each read when it is wanted.
//!
//! Source: etcd 3.7's `v3_server.go` (`rangeStream`).

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::try_unfold;
use futures_util::{Stream, StreamExt};
use prost::Message;
use tonic::Status;

use super::shared::Api;
use crate::node::fault::Fault;
use crate::node::replica::Replica;
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse};

/// Keys in the first chunk; the others are made to fit in size.
const FIRST_CHUNK: i64 = 10;

/// Refuses what cannot be read piece by piece, in etcd's words.
pub(super) fn check(request: &RangeRequest) -> Result<(), Status> {
    let is_by_key = match (request.sort_target(), request.sort_order()) {
        (SortTarget::Key, order) => order != SortOrder::Descend,
        (_, _) => false,
    };
    if !is_by_key {
        return Err(Status::unimplemented("RangeStream does not support custom sort orders"));
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters.iter().any(|it| *it != 0) {
        return Err(Status::unimplemented("RangeStream does not support revision filters"));
    }
    Ok(())
}

/// Where a stream stands.
struct Reading {
    /// What is to be read next.
    request: RangeRequest,
    /// Keys that may still be sent; `None` for all.
    left: Option<i64>,
    /// Keys sent.
    sent: i64,
    /// The store's revision when the stream began; 0 before.
    began_at: i64,
}

/// The chunks. Read what is read after the barrier of the request, if it has one.
pub(super) fn chunks<R: Replica>(
    api: Arc<Api<R>>,
    request: RangeRequest,
) -> impl Stream<Item = Result<RangeStreamResponse, Status>> + Send + 'static {
    let left = (request.limit > 0).then_some(request.limit);
    let reading = Reading { request, left, sent: 0, began_at: 0 };
    try_unfold(Some(reading), move |reading| {
        let api = Arc::clone(&api);
        async move {
            let Some(reading) = reading else { return Ok(None) };
            let (chunk, next) = reading.step(&api)?;
            Ok(Some((RangeStreamResponse { range_response: Some(chunk) }, next)))
        }
    })
    .map(|chunk: Result<_, Fault>| chunk.map_err(Status::from))
}

impl Reading {
    /// The next chunk, and where to go on after it.
    fn step<R: Replica>(mut self, api: &Api<R>) -> Result<(RangeResponse, Option<Reading>), Fault> {
        if api.is_stopping() {
            return Err(Fault::Stopped);
        }
        if self.request.count_only {
            let mut counted = api.replica().read(|state| state.range(&self.request))?;
            api.fill(&mut counted.header);
            return Ok((counted, None));
        }
        if self.began_at == 0 {
            self.request.limit = FIRST_CHUNK;
        }
        if let Some(left) = self.left {
            self.request.limit = self.request.limit.min(left);
        }
        let chunk = api.replica().read(|state| state.range(&self.request))?;
        if self.began_at == 0 {
            self.began_at = chunk.header.as_ref().map_or(0, |it| it.revision);
            if self.request.revision <= 0 {
                self.request.revision = self.began_at;
            }
        }
        let number = i64::try_from(chunk.kvs.len()).unwrap_or(i64::MAX);
        self.sent += number;
        self.left = self.left.map(|left| left - number);
        let last = chunk.kvs.last().map(|it| it.key.clone());
        let size = chunk.encoded_len();
        let mut out = RangeResponse { kvs: chunk.kvs, ..RangeResponse::default() };
        let next = last.filter(|_| chunk.more).map(|last| after(&last));
        if let Some(next) = &next {
            self.request.key = next.clone();
            self.request.limit = fitting(number, size, api.options().max_request_bytes);
        }
        if next.is_some() && self.left != Some(0) {
            return Ok((out, Some(self)));
        }
        out.header = Some(api.header(self.began_at));
        out.more = chunk.more;
        out.count = self.sent;
        if next.is_some() {
            let rest = RangeRequest { count_only: true, limit: 0, ..self.request };
            out.count += api.replica().read(|state| state.range(&rest))?.count;
        }
        Ok((out, None))
    }
}

/// The lowest key above this one.
fn after(key: &[u8]) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

/// How many keys fill a chunk, going by the last one; at most twice as many as it had, for the
/// next ones may be larger.
fn fitting(keys: i64, size: usize, wanted: usize) -> i64 {
    let keys = keys.max(1);
    let each = i64::try_from(size).unwrap_or(i64::MAX) / keys;
    (i64::try_from(wanted).unwrap_or(i64::MAX) / each.max(1)).clamp(1, keys.saturating_mul(2))
}
