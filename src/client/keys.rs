//! A few calls on keys: what tests and health checks need, not a client library.

use super::status::header;
use super::{Client, ClientError};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::kv_client::KvClient;

/// The largest answer taken: a list of millions of keys. tonic's own limit is 4 MiB.
const MAX_ANSWER: usize = 256 << 20;

/// What a read of one key found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// The store's revision at the read.
    pub revision: i64,
    /// The value; `None` if there is no such key.
    pub value: Option<Vec<u8>>,
}

impl Client {
    /// Writes a key; returns the revision of the write.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`]; ambiguous ones mean that the write may have happened.
    pub async fn put(&self, endpoint: &str, key: &[u8], value: &[u8]) -> Result<i64, ClientError> {
        const CALL: &str = "put";
        let request = pb::PutRequest {
            key: key.to_vec().into(),
            value: value.to_vec().into(),
            ..pb::PutRequest::default()
        };
        let answer = self
            .call(CALL, endpoint, |channel| async { KvClient::new(channel).put(request).await })
            .await?;
        Ok(header(CALL, endpoint, answer.header)?.revision)
    }

    /// Reads a key: from a quorum, or from the endpoint's local state when `serializable`.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`].
    pub async fn get(
        &self,
        endpoint: &str,
        key: &[u8],
        serializable: bool,
    ) -> Result<Got, ClientError> {
        const CALL: &str = "get";
        let request = pb::RangeRequest {
            key: key.to_vec().into(),
            serializable,
            ..pb::RangeRequest::default()
        };
        let answer = self.range(CALL, endpoint, request).await?;
        Ok(Got {
            revision: header(CALL, endpoint, answer.header)?.revision,
            value: answer.kvs.into_iter().next().map(|it| it.value.into()),
        })
    }

    /// Lists the keys that begin with `prefix`, in order, without their values. An empty prefix
    /// means every key.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`].
    pub async fn keys(
        &self,
        endpoint: &str,
        prefix: &[u8],
        serializable: bool,
    ) -> Result<Vec<Vec<u8>>, ClientError> {
        let request = pb::RangeRequest { keys_only: true, serializable, ..beginning_with(prefix) };
        let answer = self.range("list of keys", endpoint, request).await?;
        Ok(answer.kvs.into_iter().map(|it| it.key.into()).collect())
    }

    /// Counts the keys that begin with `prefix`.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`].
    pub async fn count(
        &self,
        endpoint: &str,
        prefix: &[u8],
        serializable: bool,
    ) -> Result<u64, ClientError> {
        let request = pb::RangeRequest { count_only: true, serializable, ..beginning_with(prefix) };
        let answer = self.range("count of keys", endpoint, request).await?;
        Ok(answer.count.try_into().unwrap_or_default())
    }

    async fn range(
        &self,
        call: &'static str,
        endpoint: &str,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, ClientError> {
        self.call(call, endpoint, |channel| async {
            KvClient::new(channel).max_decoding_message_size(MAX_ANSWER).range(request).await
        })
        .await
    }
}

/// A range over every key with this prefix: up to the prefix with its last byte that is not 0xff
/// raised by one; a zero byte as its end means that there is no end.
fn beginning_with(prefix: &[u8]) -> pb::RangeRequest {
    let mut end = prefix.to_vec();
    while end.pop_if(|it| *it == u8::MAX).is_some() {}
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0),
    }
    let key = if prefix.is_empty() { vec![0] } else { prefix.to_vec() };
    pb::RangeRequest { key: key.into(), range_end: end.into(), ..pb::RangeRequest::default() }
}
