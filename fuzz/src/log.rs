//! The log's form, written down a second time and only as far as it can be read in one go: what
//! `src/node/log/record.rs` and `segment.rs` say at their heads, and nothing from their code.

use std::collections::BTreeMap;

/// Where a segment's records begin.
pub const START: usize = 80;
/// Bytes before a record's payload.
pub const HEAD: usize = 40;
const LONGEST: u32 = 64 << 20;

/// A record that stands in a segment with both of its sums right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub kind: u8,
    pub tag: u8,
    pub index: u64,
    pub term: u64,
    pub payload: &'a [u8],
}

/// What a segment's sums start from.
pub fn salt(segment: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&segment[32..40]);
    crc32c::crc32c_append(sum, &segment[40..48])
}

/// The head of a segment.
pub fn segment(sequence: u64, first: u64, former_end: u64) -> Vec<u8> {
    let mut bytes = b"quor.log\x01\0\0\0\0\0\0\0".to_vec();
    for field in [0xc1, 0xa, 0x1ca, sequence, first, former_end, 0] {
        bytes.extend_from_slice(&u64::to_le_bytes(field));
    }
    bytes.extend_from_slice(&[0; 8]);
    seal_segment(&mut bytes);
    bytes
}

/// Makes the sum of a segment's head right.
pub fn seal_segment(bytes: &mut [u8]) {
    if bytes.len() >= START {
        let sum = crc32c::crc32c(&bytes[..76]);
        bytes[76..80].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Appends a record with right sums; `back` is how far before it its group begins.
pub fn put(bytes: &mut Vec<u8>, back: u32, record: Record<'_>) {
    let salt = salt(bytes);
    let at = bytes.len();
    let length = u32::try_from(record.payload.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(b"qR");
    bytes.extend_from_slice(&[record.kind, record.tag]);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&back.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c_append(salt, record.payload).to_le_bytes());
    bytes.extend_from_slice(&record.index.to_le_bytes());
    bytes.extend_from_slice(&record.term.to_le_bytes());
    let sum = crc32c::crc32c_append(salt, &bytes[at..]);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(record.payload);
    bytes.resize(at + (bytes.len() - at).next_multiple_of(8), 0);
}

/// Makes right what each record's lengths allow: its mark and both sums.
pub fn seal(bytes: &mut [u8]) {
    seal_segment(bytes);
    if bytes.len() < START {
        return;
    }
    let (salt, mut at) = (salt(bytes), START);
    while bytes.len() >= at + HEAD && bytes[at..at + HEAD].iter().any(|it| *it != 0) {
        let length = word(bytes, at + 4) as usize;
        let Some(payload) = bytes.get(at + HEAD..at + HEAD + length) else { return };
        let sum = crc32c::crc32c_append(salt, payload);
        bytes[at..at + 2].copy_from_slice(b"qR");
        bytes[at + 12..at + 16].copy_from_slice(&sum.to_le_bytes());
        let sum = crc32c::crc32c_append(salt, &bytes[at..at + 32]);
        bytes[at + 32..at + 36].copy_from_slice(&sum.to_le_bytes());
        bytes[at + 36..at + 40].fill(0);
        at += (HEAD + length).next_multiple_of(8);
    }
}

/// The records of a segment up to the first byte that makes none, and up to `end` if that is known.
pub fn intact(bytes: &[u8], end: Option<u64>) -> Vec<Record<'_>> {
    let (mut records, mut at) = (Vec::new(), START);
    while bytes.len() >= at + HEAD && end != Some(at as u64) {
        let (head, length) = (&bytes[at..at + HEAD], word(bytes, at + 4));
        let Some(payload) = bytes.get(at + HEAD..at + HEAD + length as usize) else { break };
        let right = head.starts_with(b"qR")
            && (1..=6).contains(&head[2])
            && length <= LONGEST
            && word(head, 36) == 0
            && crc32c::crc32c_append(salt(bytes), &head[..32]) == word(head, 32)
            && crc32c::crc32c_append(salt(bytes), payload) == word(head, 12);
        if !right {
            break;
        }
        let (index, term) = (long(head, 16), long(head, 24));
        records.push(Record { kind: head[2], tag: head[3], index, term, payload });
        at += (HEAD + length as usize).next_multiple_of(8);
    }
    records
}

/// The entries that such records leave behind.
pub fn entries<'a>(records: &[Record<'a>]) -> BTreeMap<u64, Record<'a>> {
    let mut entries = BTreeMap::new();
    for record in records {
        match record.kind {
            1 => drop(entries.insert(record.index, *record)),
            4 => entries.retain(|index, _| *index < record.index),
            5 => entries.retain(|index, _| *index > record.index),
            _ => {}
        }
    }
    entries
}

/// A number of four bytes.
pub fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}
