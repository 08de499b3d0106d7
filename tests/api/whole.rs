//! A request that comes in one frame goes a short way; what comes in pieces goes tonic's. Nobody is
//! to see a difference.

use std::convert::Infallible;

use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::HeaderMap;
use hyper::body::{Body, Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use prost::bytes::Bytes;
use quorate::node::api::Options;
use quorate::node::apply::NO_QUOTA;
use quorate::proto::etcdserverpb::{PutRequest, RangeRequest, RangeResponse};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{PATIENCE, Served};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";

/// All of an answer but its date.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
    trailers: Vec<(String, Vec<u8>)>,
}

fn sorted(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let fields = headers.iter().filter(|(name, _)| *name != "date");
    let mut fields: Vec<_> =
        fields.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    fields.sort();
    fields
}

async fn said<B>(served: &Served, path: &str, fields: &[(&str, &str)], body: B) -> Said
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(&served.address).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut request = hyper::Request::post(format!("{}{path}", served.url()))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let sent = client.send_request(request.body(body).unwrap());
    let answer = timeout(PATIENCE, sent).await.unwrap().unwrap();
    let (head, body) = answer.into_parts();
    let body = timeout(PATIENCE, body.collect()).await.unwrap().unwrap();
    let trailers = body.trailers().map(sorted).unwrap_or_default();
    let headers = sorted(&head.headers);
    Said { status: head.status.as_u16(), headers, body: body.to_bytes(), trailers }
}

/// The answer, which is the same whether it is asked in one frame or in several.
async fn asked(served: &Served, path: &str, fields: &[(&str, &str)], bytes: &[u8]) -> Said {
    let whole = said(served, path, fields, Full::new(Bytes::copy_from_slice(bytes))).await;
    for cut in [0, 3, 5, bytes.len().saturating_sub(1), bytes.len()] {
        let (begin, rest) = bytes.split_at(cut.min(bytes.len()));
        let pieces = [begin, rest].map(|it| Ok(Frame::data(Bytes::copy_from_slice(it))));
        let pieces = said(served, path, fields, StreamBody::new(stream::iter(pieces))).await;
        assert_eq!(whole, pieces, "{path} {fields:?} cut at {cut} of {bytes:?}");
    }
    whole
}

fn framed(compressed: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[compressed], &length[..], message].concat()
}

#[tokio::test]
async fn a_request_is_answered_the_same_in_one_frame_and_in_pieces() {
    let options = Options { max_request_bytes: 1000, ..Options::default() };
    let served = Served::start_with(options, NO_QUOTA).await;
    let put = |key: &str, size: usize| {
        let value = vec![b'v'; size].into();
        PutRequest { key: key.to_owned().into(), value, ..Default::default() }.encode_to_vec()
    };
    let leased = PutRequest { key: "a".into(), lease: 7, ..Default::default() }.encode_to_vec();
    let get = |key: &'static str, revision| {
        RangeRequest { key: key.into(), revision, ..Default::default() }.encode_to_vec()
    };
    served.ctl(&["put", "a", "b"]).await;

    let found = asked(&served, RANGE, &[], &framed(0, &get("a", 0))).await;
    assert_eq!(found.trailers, [("grpc-status".to_owned(), b"0".to_vec())]);
    let answer = RangeResponse::decode(&found.body[5..]).unwrap();
    assert_eq!(&answer.kvs[0].value[..], b"b");

    let code =
        |said: &Said| said.headers.iter().find(|it| it.0 == "grpc-status").map(|it| it.1.clone());
    // What is wrong, with the status it ends with.
    for (path, fields, bytes, status) in [
        (RANGE, &[][..], framed(0, &get("a", 99)), "11"),
        (RANGE, &[], framed(0, &get("", 0)), "3"),
        (RANGE, &[("grpc-timeout", "0n")], framed(0, &get("a", 0)), ""),
        (RANGE, &[("hasleader", "true")], framed(0, &get("a", 0)), ""),
        (RANGE, &[("grpc-encoding", "gzip")], framed(1, b"zip"), "12"),
        (RANGE, &[("grpc-encoding", "identity")], framed(0, &get("a", 0)), ""),
        (RANGE, &[("grpc-accept-encoding", "gzip")], framed(0, &get("a", 0)), ""),
        (RANGE, &[], framed(1, &get("a", 0)), "13"),
        (RANGE, &[], framed(9, &get("a", 0)), "13"),
        (RANGE, &[], framed(0, b"\xff\xff"), "13"),
        (RANGE, &[], [framed(0, &get("a", 0)), framed(0, &get("a", 0))].concat(), ""),
        (RANGE, &[], framed(0, &get("a", 0))[..7].to_vec(), ""),
        (RANGE, &[], b"\0\0\0".to_vec(), ""),
        (RANGE, &[], Vec::new(), "13"),
        (PUT, &[], framed(0, &put("", 1)), "3"),
        (PUT, &[], framed(0, &put("a", 1001)), "3"),
        (PUT, &[], framed(0, &put("a", 3 << 20)), "8"),
        (PUT, &[], framed(0, &leased), "5"),
    ] {
        let said = asked(&served, path, fields, &bytes).await;
        if !status.is_empty() {
            assert_eq!(code(&said).as_deref(), Some(status.as_bytes()), "{path} {said:?}");
        }
    }
}
