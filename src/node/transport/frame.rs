//! What travels on an upgraded connection: checked frames, each of a bounded length.
//!
//! ```text
//! 0    2     3       4       8   16       20
//! "QR" kind  method  length  id  checksum  body …       numbers: little end first
//! ```
//!
//! The checksum (CRC-32C) is over the rest of the header and the body. Nothing of a frame is
//! believed before it has been checked, except that so many bytes follow, and those are made room
//! for only as they arrive: a header that lies costs its sender the connection and us nothing.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes before the body.
pub const HEADER: usize = 20;
/// What every frame begins with.
pub const MAGIC: [u8; 2] = *b"QR";

/// Where the checksum stands.
const CHECKED: usize = 16;
/// Bodies of at least this length keep the buffer they came in; shorter ones are copied out, so
/// that one small thing that is kept does not keep a large buffer with it.
const OWN_BUFFER: usize = 64 << 10;
/// The least and the most that is made room for at once.
const ROOM: (usize, usize) = (16 << 10, 1 << 20);

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Asks for something; the method says for what.
    Call = 1,
    /// What was asked for.
    Answer = 2,
    /// The handler failed: a code and a text.
    Failed = 3,
    /// Not even begun: one byte says why.
    Declined = 4,
    /// Are you there?
    Ping = 5,
    /// I am.
    Pong = 6,
    /// No call is taken any more on this connection; the body is empty or a refusal.
    Goodbye = 7,
}

impl Kind {
    fn new(byte: u8) -> Option<Kind> {
        let all = [
            Kind::Call,
            Kind::Answer,
            Kind::Failed,
            Kind::Declined,
            Kind::Ping,
            Kind::Pong,
            Kind::Goodbye,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// One frame, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is for.
    pub kind: Kind,
    /// What a call asks for; 0 elsewhere.
    pub method: u8,
    /// The call this belongs to; 0 where there is none.
    pub id: u64,
    /// The body; never a small part of a large buffer.
    pub body: Bytes,
}

/// Why a connection's bytes are no frames. The connection ends; what comes after is anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Something else speaks there.
    #[error("not a frame: it begins with {found:02x?}")]
    Magic {
        /// What it begins with.
        found: [u8; 2],
    },
    /// A kind that this version does not know.
    #[error("unknown kind of frame {found}")]
    Kind {
        /// The byte.
        found: u8,
    },
    /// Longer than anything that is taken.
    #[error("a frame of {length} bytes; at most {most} are taken")]
    TooLong {
        /// What its header says.
        length: usize,
        /// The limit.
        most: usize,
    },
    /// The bytes are not those that were sent.
    #[error("a frame's checksum is {computed:08x} and not {written:08x}")]
    Checksum {
        /// What the header says.
        written: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The connection ended inside a frame.
    #[error("the connection ended {missing} bytes before the end of a frame")]
    Truncated {
        /// What is missing, as far as is known.
        missing: usize,
    },
    /// A frame that the other side never sends here.
    #[error("a frame out of place: {kind:?}")]
    OutOfPlace {
        /// Its kind.
        kind: Kind,
    },
}

/// Appends a frame.
///
/// # Errors
///
/// [`FrameError::TooLong`] if the body has more than `most` bytes; nothing is appended.
pub fn encode(
    out: &mut BytesMut,
    most: usize,
    (kind, method, id): (Kind, u8, u64),
    body: &[u8],
) -> Result<(), FrameError> {
    let too_long = || FrameError::TooLong { length: body.len(), most };
    if body.len() > most {
        return Err(too_long());
    }
    let length = u32::try_from(body.len()).map_err(|_| too_long())?;
    let mut header = [0; CHECKED];
    header[..2].copy_from_slice(&MAGIC);
    header[2] = kind as u8;
    header[3] = method;
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..].copy_from_slice(&id.to_le_bytes());
    out.reserve(HEADER + body.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(&checksum(&header, body).to_le_bytes());
    out.extend_from_slice(body);
    Ok(())
}

/// Takes one frame off the front; `None` if it is not all there.
///
/// # Errors
///
/// Any [`FrameError`] but `Truncated`, as soon as the bytes that are there show it.
pub fn decode(buffer: &mut BytesMut, most: usize) -> Result<Option<Frame>, FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER>() else {
        // Something else may speak there, and wait for us.
        return match buffer.first_chunk() {
            Some(found) if *found != MAGIC => Err(FrameError::Magic { found: *found }),
            _ => Ok(None),
        };
    };
    let [m0, m1, kind, method, l0, l1, l2, l3, id @ .., c0, c1, c2, c3] = *header;
    if [m0, m1] != MAGIC {
        return Err(FrameError::Magic { found: [m0, m1] });
    }
    let kind = Kind::new(kind).ok_or(FrameError::Kind { found: kind })?;
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    if length > most {
        return Err(FrameError::TooLong { length, most });
    }
    if buffer.len() - HEADER < length {
        return Ok(None);
    }
    let written = u32::from_le_bytes([c0, c1, c2, c3]);
    let computed = checksum(&buffer[..CHECKED], &buffer[HEADER..HEADER + length]);
    if written != computed {
        return Err(FrameError::Checksum { written, computed });
    }
    buffer.advance(HEADER);
    let body = if length >= OWN_BUFFER {
        buffer.split_to(length).freeze()
    } else {
        let body = Bytes::copy_from_slice(&buffer[..length]);
        buffer.advance(length);
        body
    };
    Ok(Some(Frame { kind, method, id: u64::from_le_bytes(id), body }))
}

/// What it means that a connection ended with this left over.
///
/// # Errors
///
/// [`FrameError::Truncated`] if anything is.
pub fn end(buffer: &[u8]) -> Result<(), FrameError> {
    let Some(header) = buffer.first_chunk::<HEADER>() else {
        let missing = HEADER - buffer.len();
        return if buffer.is_empty() { Ok(()) } else { Err(FrameError::Truncated { missing }) };
    };
    let [_, _, _, _, l0, l1, l2, l3, ..] = *header;
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    Err(FrameError::Truncated { missing: (HEADER.saturating_add(length)) - buffer.len() })
}

/// Makes room for the next read: as much again as has arrived already, within bounds. A buffer
/// that one large frame has made large is given back.
pub fn make_room(buffer: &mut BytesMut) {
    let (least, most) = ROOM;
    if buffer.is_empty() && buffer.capacity() > most {
        *buffer = BytesMut::new();
    }
    if buffer.capacity() - buffer.len() < least / 2 {
        buffer.reserve(buffer.len().clamp(least, most));
    }
}

fn checksum(header: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1 << 20;

    fn frame(body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        encode(&mut out, MOST, (Kind::Call, 7, u64::MAX - 1), body).unwrap();
        out
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let long = vec![7; OWN_BUFFER];
        let bodies = [&b""[..], b"a:b\0\xff", &long, &[9; 3]];
        let mut all = BytesMut::new();
        for body in bodies {
            all.unsplit(frame(body));
        }
        for piece in [1, 19, 20, 21, 4096, all.len()] {
            let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
            for bytes in all.chunks(piece) {
                make_room(&mut buffer);
                buffer.extend_from_slice(bytes);
                while let Some(frame) = decode(&mut buffer, MOST).unwrap() {
                    assert_eq!((frame.kind, frame.method, frame.id), (Kind::Call, 7, u64::MAX - 1));
                    found.push(frame.body);
                }
            }
            assert_eq!(found, bodies);
            assert_eq!(end(&buffer), Ok(()));
        }
    }

    #[test]
    fn each_flipped_bit_and_each_cut_is_noticed() {
        let whole = frame(b"some body");
        for bit in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // A length that grew within the limit waits for bytes that never come.
            match decode(&mut bad, MOST) {
                Ok(None) => assert!(matches!(end(&bad), Err(FrameError::Truncated { .. }))),
                Ok(Some(frame)) => panic!("bit {bit}: {frame:?}"),
                Err(_) => {}
            }
        }
        for length in 1..whole.len() {
            let mut cut = BytesMut::from(&whole[..length]);
            assert_eq!(decode(&mut cut, MOST), Ok(None));
            assert!(matches!(end(&cut), Err(FrameError::Truncated { .. })), "{length}");
        }
    }

    #[test]
    fn what_is_no_frame_is_told_apart_and_a_huge_length_makes_no_room() {
        let error = |bytes: &[u8]| decode(&mut BytesMut::from(bytes), MOST).unwrap_err();
        assert_eq!(error(b"GE"), FrameError::Magic { found: *b"GE" });
        let mut kind = frame(b"");
        kind[2] = 99;
        assert_eq!(error(&kind), FrameError::Kind { found: 99 });
        let mut huge = frame(b"");
        huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(error(&huge), FrameError::TooLong { length: 0xffff_ffff, most: MOST });
        let mut out = BytesMut::new();
        assert!(encode(&mut out, 3, (Kind::Ping, 0, 0), b"four").is_err() && out.is_empty());

        // A header that promises a MiB is given 16 KiB until more than that has arrived.
        let mut promise = BytesMut::from(&frame(&vec![0; MOST])[..HEADER]);
        assert_eq!(decode(&mut promise, MOST), Ok(None));
        make_room(&mut promise);
        assert!(promise.capacity() <= 64 << 10, "{}", promise.capacity());
    }
}
