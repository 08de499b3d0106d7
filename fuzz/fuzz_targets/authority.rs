//! The filter that makes an `:authority` good before HTTP/2 is read.
//!
//! However the bytes are split, the same comes out; what came out passes unchanged. What begins as
//! no HTTP/2 passes unchanged. Of HTTP/2, the same frames come out, and but for authorities the
//! same header fields, as a second HPACK decoder reads them with its dynamic table: a good
//! authority stays, and one that is not becomes a good one that is not longer, or stays.

#![no_main]

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};

use fluke_hpack::Decoder;
use http::uri::Authority;
use libfuzzer_sys::fuzz_target;
use quorate::node::api::fuzzing::pass;
use quorate_fuzz::input::Input;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
const NAME: &[u8] = b":authority";

thread_local! {
    static IS_COMPARING: Cell<bool> = const { Cell::new(false) };
}

fuzz_target!(init: forgive_the_other(), |data: &[u8]| {
    let mut input = Input(data);
    let (how, pieces) = (input.u8(), [input.u8(), input.u8(), input.u8()]);
    let bytes = match how % 4 {
        0 => input.0.to_vec(),
        1 => [PREFACE, input.0].concat(),
        _ => connection(&mut input),
    };
    let out = pass([&bytes[..]]);
    assert_eq!(pass(bytes.chunks(1)), out, "in single bytes");
    assert_eq!(pass(split(&bytes, pieces)), out, "in pieces of {pieces:?}");
    assert_eq!(pass([&out[..]]), out, "what is good passes");
    match bytes.strip_prefix(PREFACE) {
        None => assert_eq!(out, bytes),
        Some(came) => compare(came, out.strip_prefix(PREFACE).expect("a preface passes")),
    }
});

/// The other decoder panics at some blocks that are cut off, which is no fault of ours.
fn forgive_the_other() {
    let ours = panic::take_hook();
    panic::set_hook(Box::new(move |it| {
        if !IS_COMPARING.get() {
            ours(it);
        }
    }));
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn decode(decoder: &mut Decoder<'_>, block: &[u8]) -> Option<Fields> {
    IS_COMPARING.set(true);
    let fields = panic::catch_unwind(AssertUnwindSafe(|| decoder.decode(block).ok()));
    IS_COMPARING.set(false);
    fields.ok().flatten()
}

/// Frames, each as its kind, its flags and its payload with two bytes of length.
fn connection(input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    while !input.is_empty() {
        let (kind, flags, payload) = (input.u8() % 10, input.u8(), input.piece());
        let length = u32::try_from(payload.len()).expect("two bytes").to_be_bytes();
        bytes.extend_from_slice(&length[1..]);
        bytes.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
        bytes.extend_from_slice(payload);
    }
    bytes
}

/// Pieces of these lengths in turn.
fn split(bytes: &[u8], pieces: [u8; 3]) -> Vec<&[u8]> {
    let (mut rest, mut all) = (bytes, Vec::new());
    for piece in pieces.iter().cycle() {
        if rest.is_empty() {
            return all;
        }
        let (now, later) = rest.split_at(usize::from(*piece).max(1).min(rest.len()));
        all.push(now);
        rest = later;
    }
    all
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    head: &'a [u8],
    payload: &'a [u8],
}

/// The frames that are whole, and what is left.
fn frames(mut bytes: &[u8]) -> (Vec<Frame<'_>>, &[u8]) {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, later)) = rest.split_at_checked(length) else { break };
        frames.push(Frame { kind: head[3], flags: head[4], head: &head[3..], payload });
        bytes = later;
    }
    (frames, bytes)
}

/// The part of HEADERS that is a header block.
fn block<'a>(frame: &Frame<'a>) -> Option<&'a [u8]> {
    let has = |flag| frame.flags & flag != 0;
    let padding = if has(PADDED) { usize::from(*frame.payload.first()?) } else { 0 };
    let begin = usize::from(has(PADDED)) + if has(PRIORITY) { 5 } else { 0 };
    frame.payload.get(begin..frame.payload.len().checked_sub(padding)?)
}

fn compare(came: &[u8], out: &[u8]) {
    let ((came, rest), (out, passed)) = (frames(came), frames(out));
    assert_eq!((came.len(), rest), (out.len(), passed), "the same frames");
    let (mut before, mut after) = (Decoder::new(), Decoder::new());
    // A header block that goes on in the next frame: as it came and as it passed.
    let mut open: Option<(Vec<u8>, Vec<u8>)> = None;
    let mut is_followed = true;
    for (came, out) in came.iter().zip(&out) {
        assert_eq!(came.head, out.head, "kind, flags and stream");
        if came.kind != HEADERS {
            assert_eq!(came.payload, out.payload);
        }
        let (one, two) = match (came.kind, &mut open) {
            (HEADERS, None) => match (block(came), block(out)) {
                (Some(one), Some(two)) => (one, two),
                (None, _) => {
                    assert_eq!(came.payload, out.payload, "what is not understood passes");
                    is_followed = false;
                    continue;
                }
                (Some(_), None) => panic!("a block was lost"),
            },
            (CONTINUATION, Some(_)) => (came.payload, out.payload),
            // No connection lives on after this, so nobody reads what comes.
            (HEADERS | CONTINUATION, _) => {
                is_followed = false;
                continue;
            }
            _ => continue,
        };
        let (all, passed) = open.get_or_insert_default();
        all.extend_from_slice(one);
        passed.extend_from_slice(two);
        if came.flags & END_HEADERS != 0
            && let Some((all, passed)) = open.take()
            && is_followed
        {
            // A client that sends what cannot be read is refused by HTTP/2 itself.
            let Some(fields) = decode(&mut before, &all) else {
                is_followed = false;
                continue;
            };
            let passed = decode(&mut after, &passed).expect("what could be read still can");
            assert_eq!(fields.len(), passed.len());
            for ((name, value), (same, good)) in fields.iter().zip(&passed) {
                assert_eq!(name, same);
                if value != good {
                    assert_eq!(name, NAME, "only an authority changes");
                    let is_good = |text: &[u8]| Authority::try_from(text).is_ok();
                    assert!(!is_good(value) && is_good(good), "{value:?} became {good:?}");
                    assert!(good.len() <= value.len());
                }
            }
        }
    }
}
