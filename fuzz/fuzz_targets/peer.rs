//! What a peer says: its greeting, its frames and what is in them.
//!
//! Frames are the same however they are cut, and what was decoded encodes to the bytes that came.
//! A frame in which a bit was flipped, or that was cut, is never one. Of raft's own messages and
//! payloads, what was read writes to the bytes that came, but for a membership, which is JSON: that
//! one writes to what it writes to again. A greeting that was read greets the same.

#![no_main]

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use quorate::node::raft::fuzzing::Form;
use quorate::node::transport::frame::{self, Frame, FrameError, HEADER};
use quorate::node::transport::{Hello, Refusal};
use quorate_fuzz::input::Input;
use quorate_fuzz::log::word;

/// As [`quorate::node::transport::Limits`] has it, only less.
const MOST: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    match input.u8() % 16 {
        0 => frames(usize::from(input.u16()), input.0),
        // With right checksums, to come to what is behind them.
        1 => frames(usize::from(input.u16()), &sealed(input.0)),
        2 => broken(&mut input),
        3 => greeting(&mut input),
        n => message(Form::ALL[usize::from(n) - 4], input.0),
    }
});

fn all(bytes: &[u8], piece: usize) -> (Vec<Frame>, Result<(), FrameError>) {
    let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
    for some in bytes.chunks(piece.max(1)) {
        frame::make_room(&mut buffer);
        buffer.extend_from_slice(some);
        loop {
            match frame::decode(&mut buffer, MOST) {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(error) => return (found, Err(error)),
            }
        }
    }
    let end = frame::end(&buffer);
    (found, end)
}

fn frames(piece: usize, bytes: &[u8]) {
    let (found, end) = all(bytes, bytes.len());
    assert_eq!(all(bytes, piece), (found.clone(), end.clone()), "in pieces of {piece}");
    let mut again = BytesMut::new();
    for Frame { kind, method, id, body } in found {
        frame::encode(&mut again, MOST, (kind, method, id), &body).expect("it was not too long");
    }
    assert!(bytes.starts_with(&again));
    assert_eq!(end.is_ok(), again.len() == bytes.len());
}

fn sealed(bytes: &[u8]) -> Vec<u8> {
    let (mut bytes, mut at) = (bytes.to_vec(), 0);
    while bytes.len() >= at + HEADER {
        let length = word(&bytes, at + 4) as usize;
        let Some(body) = bytes.get(at + HEADER..at + HEADER + length) else { break };
        let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[at..at + 16]), body);
        bytes[at + 16..at + HEADER].copy_from_slice(&sum.to_le_bytes());
        at += HEADER + length;
    }
    bytes
}

/// One frame with some bits flipped, and cut.
fn broken(input: &mut Input<'_>) {
    let (at, bits, cut) = (usize::from(input.u16()), input.u8(), usize::from(input.u16()));
    let (method, id) = (input.u8(), input.u64());
    let mut whole = BytesMut::new();
    frame::encode(&mut whole, MOST, (frame::Kind::Call, method, id), input.0).expect("it is short");
    let mut bytes = whole.clone();
    let at = at % bytes.len();
    bytes[at] ^= bits;
    bytes.truncate(bytes.len() - cut % bytes.len());
    let same = bytes == whole;
    let (found, end) = all(&bytes, bytes.len());
    assert_eq!((found.len() == 1, end.is_ok()), (same, same), "{bits:02x} at {at}");
}

fn message(form: Form, bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let Some(again) = form.again(bytes.clone()) else { return };
    if again != bytes {
        assert!(matches!(form, Form::Append | Form::Payload(2)), "{form:?} became {again:?}");
        assert_eq!(form.again(again.clone()), Some(again), "{form:?} of what was written");
    }
}

/// Names that the greeting knows, and one that it does not.
const NAMES: [&str; 9] = [
    "connection",
    "upgrade",
    "x-etcd-cluster-id",
    "x-server-from",
    "x-quorate-incarnation",
    "x-raft-to",
    "x-quorate-lane",
    "x-quorate-silence-ms",
    "host",
];

fn greeting(input: &mut Input<'_>) {
    let mut headers = HeaderMap::new();
    let mut rest = std::mem::take(&mut input.0);
    // A line each: the number of a name, then the value.
    while let Some((name, after)) = rest.split_first() {
        let end = after.iter().position(|it| *it == b'\n').unwrap_or(after.len());
        let name = NAMES[usize::from(*name) % NAMES.len()];
        if let Ok(value) = HeaderValue::from_bytes(&after[..end]) {
            headers.append(HeaderName::from_static(name), value);
        }
        rest = after.get(end + 1..).unwrap_or_default();
    }
    match Hello::read(&Method::GET, &headers) {
        Ok(hello) => {
            assert_eq!(Hello::read(&Method::GET, &hello.headers()), Ok(hello));
            let _ = hello.check(&hello.from);
        }
        Err(refusal) => {
            let json = serde_json::to_vec(&refusal).expect("text is JSON");
            assert_eq!(serde_json::from_slice::<Refusal>(&json).ok(), Some(refusal));
        }
    }
}
