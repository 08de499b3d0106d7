//! As much of HPACK (RFC 7541) as it takes to find a literal `:authority` in a header block.
//!
//! Never keeps a dynamic table: an authority that is named by its place in the table was a
//! literal once, and was looked at then.

use std::ops::Range;

/// The name's place in the static table (RFC 7541, appendix A).
const AUTHORITY: usize = 1;

/// A literal `:authority`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Authority {
    /// Where its value stands in the block, length and all.
    pub(super) place: Range<usize>,
    /// The value in plain bytes.
    pub(super) text: Vec<u8>,
}

/// The first literal `:authority` of a header block. `None` if it has none, or none that can be
/// read: because the block is cut off or wrong, or of characters no authority has.
pub(super) fn authority(block: &[u8]) -> Option<Authority> {
    let mut at = 0;
    while let Some(first) = block.get(at).copied() {
        if first & 0x80 != 0 {
            at = integer(block, at, 7)?.1; // a whole field of the table
            continue;
        }
        if first & 0xe0 == 0x20 {
            at = integer(block, at, 5)?.1; // the table gets another size
            continue;
        }
        // A literal: to be put into the table, or not, or never.
        let (name, mut after) = integer(block, at, if first & 0x40 == 0 { 4 } else { 6 })?;
        let mut is_authority = name == AUTHORITY;
        if name == 0 {
            let text;
            (text, after) = string(block, after)?;
            is_authority = text.plain(block).as_deref() == Some(b":authority");
        }
        let (text, end) = string(block, after)?;
        if is_authority {
            return Some(Authority { place: after..end, text: text.plain(block)? });
        }
        at = end;
    }
    None
}

/// Writes a string in plain bytes.
pub(crate) fn put_string(text: &[u8], to: &mut Vec<u8>) {
    let mut rest = text.len();
    if rest < 0x7f {
        to.push(u8::try_from(rest).unwrap_or(0)); // below 0x7f
    } else {
        to.push(0x7f);
        rest -= 0x7f;
        while rest >= 0x80 {
            to.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
            rest >>= 7;
        }
        to.push(u8::try_from(rest).unwrap_or(0));
    }
    to.extend_from_slice(text);
}

/// An integer whose first byte leaves it so many bits (§5.1), and where it ends.
fn integer(block: &[u8], at: usize, bits: u32) -> Option<(usize, usize)> {
    let most = (1_usize << bits) - 1;
    let mut value = usize::from(*block.get(at)?) & most;
    let mut next = at + 1;
    if value < most {
        return Some((value, next));
    }
    // Four bytes more make 28 bits: longer ones are beyond any block.
    for shift in [0, 7, 14, 21] {
        let byte = usize::from(*block.get(next)?);
        next += 1;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, next));
        }
    }
    None
}

/// A string as it stands in the block.
struct Text {
    is_huffman: bool,
    bytes: Range<usize>,
}

impl Text {
    fn plain(&self, block: &[u8]) -> Option<Vec<u8>> {
        let bytes = &block[self.bytes.clone()];
        if self.is_huffman { huffman(bytes) } else { Some(bytes.to_vec()) }
    }
}

/// A string (§5.2), and where it ends.
fn string(block: &[u8], at: usize) -> Option<(Text, usize)> {
    let is_huffman = block.get(at)? & 0x80 != 0;
    let (length, begin) = integer(block, at, 7)?;
    let end = begin.checked_add(length)?;
    (end <= block.len()).then_some((Text { is_huffman, bytes: begin..end }, end))
}

/// The code of appendix B up to 15 bits, which is all of printable ASCII but the backslash: codes
/// of one length follow each other. Length in bits, the first code, and whose they are.
const CODE: &[(u32, u32, &[u8])] = &[
    (5, 0x0, b"012aceiost"),
    (6, 0x14, b" %-./3456789=A_bdfghlmnpru"),
    (7, 0x5c, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, 0xf8, b"&*,;XZ"),
    (10, 0x3f8, b"!\"()?"),
    (11, 0x7fa, b"'+|"),
    (12, 0xffa, b"#>"),
    (13, 0x1ff8, b"\0$@[]~"),
    (14, 0x3ffc, b"^}"),
    (15, 0x7ffc, b"<`{"),
];

/// Plain bytes of a Huffman-coded string; `None` if it has others than [`CODE`] has.
fn huffman(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(bytes.len() * 8 / 5);
    let (mut code, mut bits) = (0_u32, 0_u32);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        (code, bits) = (code << 1 | u32::from(bit), bits + 1);
        let row = CODE.iter().find(|(length, ..)| *length == bits);
        let symbol = row.and_then(|(_, first, whose)| {
            whose.get(usize::try_from(code.checked_sub(*first)?).ok()?)
        });
        if let Some(symbol) = symbol {
            plain.push(*symbol);
            (code, bits) = (0, 0);
        } else if bits > 15 {
            return None;
        }
    }
    // What is left pads the last byte with ones.
    (bits < 8 && code == (1 << bits) - 1).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two blocks of RFC 7541, appendix C.4.1 and C.3.1: coded and plain.
    const CODED: &[u8] = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
    const PLAIN: &[u8] = b"\x82\x86\x84\x41\x0fwww.example.com";

    #[test]
    fn the_rfcs_examples_are_read() {
        for block in [CODED, PLAIN] {
            let found = authority(block).unwrap();
            assert_eq!(found.text, b"www.example.com");
            assert_eq!(found.place, 4..block.len());
        }
        // By its own name, not to be indexed, behind a change of the table's size.
        let named = b"\x3f\xe1\x1f\x10\x0a:authority\x01x";
        assert_eq!(authority(named).unwrap().text, b"x");
    }

    #[test]
    fn a_block_that_is_cut_or_wrong_has_no_authority_and_breaks_nothing() {
        for block in [CODED, PLAIN] {
            for end in 0..block.len() {
                assert_eq!(authority(&block[..end]), None, "{end}");
            }
        }
        assert_eq!(authority(b"\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(authority(b"\x41\xff\xff\xff\xff\x7f"), None);
        assert_eq!(authority(b"\x41\x82\xff\xff"), None);
    }

    #[test]
    fn a_string_of_any_length_is_read_back() {
        for length in [0, 1, 126, 127, 128, 254, 255, 16_000, 20_000] {
            let text = vec![b'a'; length];
            let mut block = vec![0x01];
            put_string(&text, &mut block);
            assert_eq!(authority(&block).unwrap().text, text);
        }
    }
}
