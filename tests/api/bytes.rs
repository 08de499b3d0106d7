//! Keys and values are bytes, whatever they look like.

use prost::bytes::Bytes;
use quorate::proto::etcdserverpb::kv_client::KvClient;
use quorate::proto::etcdserverpb::{PutRequest, RangeRequest};

use crate::support::{Served, bytes};

#[tokio::test]
async fn any_bytes_are_a_key_or_a_value_and_come_back_as_they_went() {
    let served = Served::start().await;
    let mut kv = KvClient::new(served.channel().await);
    let every: Vec<u8> = (0..=255).collect();
    let keys: [&[u8]; 7] = [b"\0", b"\0\0", b"a", b"a:b", b"a\0b", b"\xff\xff", &every];
    let values: [&[u8]; 5] = [b"", b"\0", b"a:b", b"\xff\xfe", &every];
    for key in keys {
        for value in values {
            let request =
                PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() };
            kv.put(request).await.unwrap();
            let read = RangeRequest { key: bytes(key), ..RangeRequest::default() };
            let read = kv.range(read).await.unwrap().into_inner();
            assert_eq!((read.kvs.len(), &read.kvs[0].key[..]), (1, key));
            assert_eq!(&read.kvs[0].value[..], value, "of {key:?}");
        }
    }
    let end = Bytes::from_static(b"\0");
    let all = RangeRequest { key: end.clone(), range_end: end, ..RangeRequest::default() };
    let all = kv.range(all).await.unwrap().into_inner();
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    assert_eq!(all.kvs.iter().map(|it| &it.key[..]).collect::<Vec<_>>(), sorted);
}
