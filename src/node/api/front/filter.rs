//! Makes an `:authority` that is none into one, before HTTP/2 is read.
//!
//! etcdctl 3.4 sends `http://host:port` there for `endpoint status`, `endpoint hashkv` and
//! `defrag`, and clients of 3.5.0 a list of endpoints (etcd#13192). Go's server takes both; a
//! strict one resets the stream. So the frames of a client's connection pass through here up to
//! its first HEADERS; from then on those of a client with a good authority, which is nearly
//! every one, are not looked at any more.
//!
//! The new value is never longer than the old one. That keeps the compression tables of both
//! ends in step: ours may keep an entry that the client's has dropped already, but never the
//! other way round, and entries are counted from the newest.
//!
//! Never waits for more than it must: a client may be waiting for our SETTINGS. Never judges:
//! what it does not understand goes on as it came, and HTTP/2 itself refuses it.

use axum::http::uri::Authority;

use super::hpack;

/// What an HTTP/2 client begins with (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length, type, flags and stream of a frame.
const HEAD: usize = 9;
/// The longest frame that a client may send before it is allowed longer ones, which it is not.
const LONGEST: usize = 16_384;
const HEADERS: u8 = 0x1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::node::api) enum Protocol {
    /// HTTP/1, or nothing that is known: HTTP/1 will say so.
    One,
    /// HTTP/2.
    Two,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Inside of the preface.
    Preface,
    /// Inside of a frame's head.
    Head,
    /// Inside of HEADERS of this length.
    Headers(usize),
    /// Inside of another frame, with so many bytes to come.
    Other(usize),
    /// Nothing is looked at any more.
    Through,
}

/// See the module. Holds at most one HEADERS frame.
#[derive(Debug)]
pub(super) struct Filter {
    state: State,
    held: Vec<u8>,
    protocol: Option<Protocol>,
    /// One authority had to be made good, so others may have to.
    is_odd: bool,
}

impl Filter {
    pub(super) fn new() -> Filter {
        Filter { state: State::Preface, held: Vec::new(), protocol: None, is_odd: false }
    }

    /// What the client speaks, once that is known: of HTTP/2, once its first frame begins, which
    /// belongs to its greeting and waits for nothing of ours.
    pub(super) fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// True once everything that follows passes unseen.
    pub(super) fn is_through(&self) -> bool {
        matches!(self.state, State::Through)
    }

    /// Takes bytes as they came and adds to `out` those that are to be read.
    pub(super) fn pass(&mut self, mut rest: &[u8], out: &mut Vec<u8>) {
        while !rest.is_empty() {
            match self.state {
                State::Preface => {
                    let wanted = PREFACE[self.held.len()..].iter();
                    let same = wanted.zip(rest).take_while(|(want, got)| want == got).count();
                    self.hold(&mut rest, same);
                    if self.held.len() == PREFACE.len() {
                        self.release(State::Head, out);
                    } else if !rest.is_empty() {
                        self.end(out);
                    }
                }
                State::Head => {
                    let missing = HEAD - self.held.len();
                    self.hold(&mut rest, missing);
                    if let Some(&[high, middle, low, kind, ..]) = self.held.first_chunk::<HEAD>() {
                        self.begin_frame([high, middle, low], kind, out);
                    }
                }
                State::Headers(length) => {
                    let missing = HEAD + length - self.held.len();
                    self.hold(&mut rest, missing);
                    if self.held.len() == HEAD + length {
                        self.end_headers(out);
                    }
                }
                State::Other(left) => {
                    let (now, later) = rest.split_at(left.min(rest.len()));
                    out.extend_from_slice(now);
                    rest = later;
                    let left = left - now.len();
                    self.state = if left == 0 { State::Head } else { State::Other(left) };
                }
                State::Through => {
                    out.extend_from_slice(rest);
                    rest = &[];
                }
            }
        }
    }

    /// The client sends no more, or is not to be looked at any more: what was held goes on.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        let is_greeting = matches!(self.state, State::Preface);
        self.protocol.get_or_insert(if is_greeting { Protocol::One } else { Protocol::Two });
        self.release(State::Through, out);
    }

    fn hold(&mut self, rest: &mut &[u8], wanted: usize) {
        let (now, later) = rest.split_at(wanted.min(rest.len()));
        self.held.extend_from_slice(now);
        *rest = later;
    }

    fn release(&mut self, next: State, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        self.state = next;
        if self.is_through() {
            self.held = Vec::new();
        }
    }

    fn begin_frame(&mut self, length: [u8; 3], kind: u8, out: &mut Vec<u8>) {
        self.protocol = Some(Protocol::Two);
        let length = length.iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
        if length > LONGEST {
            self.end(out);
        } else if kind == HEADERS && length > 0 {
            self.state = State::Headers(length);
        } else {
            self.release(if length == 0 { State::Head } else { State::Other(length) }, out);
        }
    }

    fn end_headers(&mut self, out: &mut Vec<u8>) {
        if let Some(mended) = mend_frame(&self.held) {
            self.held = mended;
            self.is_odd = true;
        }
        self.release(if self.is_odd { State::Head } else { State::Through }, out);
    }
}

/// HEADERS with a good authority; `None` if they have one already, or none to be seen. A block
/// that goes on in CONTINUATION is read as far as it goes: pseudo-headers stand first in it.
fn mend_frame(frame: &[u8]) -> Option<Vec<u8>> {
    let (head, payload) = frame.split_first_chunk::<HEAD>()?;
    let has = |flag| head[4] & flag != 0;
    let padding = if has(PADDED) { usize::from(*payload.first()?) } else { 0 };
    let begin = usize::from(has(PADDED)) + if has(PRIORITY) { 5 } else { 0 };
    let end = payload.len().checked_sub(padding)?;
    let block = payload.get(begin..end)?;

    let found = hpack::authority(block)?;
    let mended = mend(&found.text)?;
    let mut frame = Vec::with_capacity(frame.len() + 8);
    frame.extend_from_slice(head);
    frame.extend_from_slice(&payload[..begin + found.place.start]);
    hpack::put_string(&mended, &mut frame);
    frame.extend_from_slice(&payload[begin + found.place.end..]);
    let length = frame.len() - HEAD;
    if length > LONGEST {
        return None; // the old one was coded, and does not fit any more in plain bytes
    }
    let length = u32::try_from(length).ok()?.to_be_bytes();
    *frame.first_chunk_mut::<3>()? = [length[1], length[2], length[3]];
    Some(frame)
}

/// A good authority for one that is none, not longer than it.
fn mend(text: &[u8]) -> Option<Vec<u8>> {
    let is_good = |text: &[u8]| Authority::try_from(text).is_ok();
    if is_good(text) {
        return None;
    }
    let scheme = text.windows(3).position(|it| it == b"://");
    let rest = scheme.map_or(text, |at| &text[at + 3..]);
    let host = rest.split(|it| matches!(it, b'/' | b'?' | b'#')).next().unwrap_or_default();
    if is_good(host) {
        return Some(host.to_vec());
    }
    // Nothing is decided by it, so any will do.
    let any = &b"localhost"[..text.len().min(9)];
    is_good(any).then(|| any.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    /// HEADERS with this authority, plain and with incremental indexing, between other fields.
    fn headers(authority: &str, flags: u8) -> Vec<u8> {
        let mut block = if flags & PADDED != 0 { vec![3] } else { vec![] };
        block.extend_from_slice(if flags & PRIORITY != 0 { &[0, 0, 0, 0, 9] } else { &[] });
        block.extend_from_slice(b"\x83\x86\x41");
        hpack::put_string(authority.as_bytes(), &mut block);
        block.extend_from_slice(b"\x04\x02/x");
        block.extend_from_slice(if flags & PADDED != 0 { &[0; 3] } else { &[] });
        frame(HEADERS, flags | 4, &block)
    }

    fn connection(authority: &str, flags: u8) -> Vec<u8> {
        let frames = [
            PREFACE.to_vec(),
            frame(4, 0, b""),
            frame(4, 0, b"\0\x02\0\0\0\0"),
            headers(authority, flags),
            frame(0, 0, b"data that looks like \x41\x03a/b"),
            // The client's table lost it meanwhile, and it comes as a literal again.
            headers(authority, 0),
            frame(8, 0, b"\0\0\0\x01"),
        ];
        frames.concat()
    }

    fn pass(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut filter, mut out) = (Filter::new(), Vec::new());
        for piece in pieces {
            filter.pass(piece, &mut out);
        }
        filter.end(&mut out);
        out
    }

    #[test]
    fn a_bad_authority_is_made_good_in_every_headers_however_the_bytes_are_split() {
        for flags in [0, PADDED, PRIORITY, PADDED | PRIORITY] {
            for (given, good) in [
                ("http://127.0.0.1:2379", "127.0.0.1:2379"),
                ("https://[::1]:2379/x?y#z", "[::1]:2379"),
                ("#initially=[http://a:1;http://b:2]", "localhost"),
                ("http://", "localho"),
                ("/a", "lo"),
            ] {
                let bytes = connection(given, flags);
                let wanted = connection(good, flags);
                assert_eq!(pass(&[&bytes]), wanted, "{given}");
                for at in 0..bytes.len() {
                    let (one, two) = bytes.split_at(at);
                    assert_eq!(pass(&[one, two]), wanted, "{given} split at {at}");
                }
                let single: Vec<_> = bytes.chunks(1).collect();
                assert_eq!(pass(&single), wanted, "{given} in single bytes");
            }
        }
    }

    #[test]
    fn what_is_good_or_not_understood_goes_on_as_it_came() {
        let huge = [&PREFACE[..], &[0xff, 0xff, 0xff, 1, 4, 0, 0, 0, 1], &vec![7; 40_000]].concat();
        let padded_beyond =
            [&PREFACE[..], &frame(HEADERS, PADDED | 4, b"\xff\x41\x03a/b")].concat();
        let cut = [
            &PREFACE[..],
            &frame(HEADERS, 0, b"\x83\x86\x41\x15http://127.0"),
            &frame(9, 4, b".0.1:2379"),
        ]
        .concat();
        for bytes in [
            connection("127.0.0.1:2379", 0),
            connection("", 0),
            b"GET /health HTTP/1.1\r\n\r\n".to_vec(),
            b"PRI * HTTP/2.1\r\n\r\n".to_vec(),
            b"PR".to_vec(),
            b"\x16\x03\x01\x02\0\x01\0".to_vec(),
            [&PREFACE[..], &frame(HEADERS, 4, b"")].concat(),
            huge,
            padded_beyond,
            cut,
        ] {
            assert_eq!(pass(&[&bytes]), bytes);
            let single: Vec<_> = bytes.chunks(1).collect();
            assert_eq!(pass(&single), bytes);
        }
    }

    #[test]
    fn a_client_that_waits_for_us_gets_all_it_sent_passed_on() {
        let (mut filter, mut out) = (Filter::new(), Vec::new());
        let greeting = [&PREFACE[..], &frame(4, 0, b"\0\x02\0\0\0\0")].concat();
        filter.pass(&greeting[..PREFACE.len()], &mut out);
        assert_eq!((out.len(), filter.protocol()), (PREFACE.len(), None));
        filter.pass(&greeting[PREFACE.len()..], &mut out);
        assert_eq!((out.len(), filter.protocol()), (greeting.len(), Some(Protocol::Two)));
        assert!(!filter.is_through());
        filter.pass(&headers("a:1", 0), &mut out);
        assert!(filter.is_through(), "nothing is left to look at for a good client");
    }
}
