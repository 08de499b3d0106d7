//! The header block of a gRPC request, as short as header compression makes it: each field is told
//! once and named by its place in the table of the connection from then on.
//!
//! Source: RFC 7541; gRPC's `PROTOCOL-HTTP2.md` for the fields.

use bytes::{BufMut, Bytes};

use crate::node::api::put_string;

/// Entries of the static table; those of a connection come after it, the newest first.
const STATIC: usize = 61;
/// So many are named by one byte.
const MOST: usize = 126 - STATIC;
/// The table that everybody has before he says otherwise, in bytes of RFC 7541 §4.1. What is told
/// here stays far below.
const TABLE: u32 = 4096;

/// How a value is told for the table: the name's place in the static one, or the name.
const PATH: &[u8] = b"\x44";
const AUTHORITY: &[u8] = b"\x41";
const CONTENT_TYPE: &[u8] = b"\x5f";
const TE: &[u8] = b"\x40\x02te";

/// What was told on one connection.
#[derive(Debug)]
pub(super) struct Fields {
    authority: Bytes,
    told: Vec<(&'static [u8], Bytes)>,
    /// The other side keeps no table of ours, and is to be told so once.
    is_refused: bool,
    has_said_so: bool,
}

impl Fields {
    pub(super) fn new(authority: &str) -> Fields {
        let authority = Bytes::copy_from_slice(authority.as_bytes());
        Fields { authority, told: Vec::new(), is_refused: false, has_said_so: false }
    }

    /// The other side's table is this long. What is shorter than usual is not used at all.
    pub(super) fn limit(&mut self, size: u32) {
        self.is_refused |= size < TABLE;
    }

    /// The block of a request for a method.
    pub(super) fn block(&mut self, path: &Bytes) -> Vec<u8> {
        let mut block = Vec::with_capacity(16);
        if self.is_refused && !self.has_said_so {
            self.has_said_so = true;
            self.told.clear();
            block.put_u8(0x20); // the table is of size 0 from now on
        }
        block.put_slice(b"\x83\x86"); // POST, http
        self.put(PATH, path, &mut block);
        let authority = self.authority.clone();
        self.put(AUTHORITY, &authority, &mut block);
        self.put(CONTENT_TYPE, &Bytes::from_static(b"application/grpc"), &mut block);
        self.put(TE, &Bytes::from_static(b"trailers"), &mut block);
        block
    }

    fn put(&mut self, name: &'static [u8], value: &Bytes, block: &mut Vec<u8>) {
        let known = self.told.iter().position(|it| it.0 == name && it.1 == *value);
        if let Some(at) = known {
            let place = STATIC + self.told.len() - at;
            block.put_u8(0x80 | u8::try_from(place).unwrap_or(0)); // MOST is within it
            return;
        }
        if self.is_refused || self.told.len() == MOST {
            block.put_u8(0); // for this once, with its name
            let plain = match name {
                PATH => &b"\x05:path"[..],
                AUTHORITY => b"\x0a:authority",
                CONTENT_TYPE => b"\x0ccontent-type",
                _ => b"\x02te",
            };
            block.put_slice(plain);
        } else {
            self.told.push((name, value.clone()));
            block.put_slice(name);
        }
        put_string(value, block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_told_once_and_named_by_its_place_from_then_on() {
        let (range, put) = (Bytes::from_static(b"/kv/Range"), Bytes::from_static(b"/kv/Put"));
        let mut fields = Fields::new("a:1");
        let told =
            b"\x83\x86\x44\x09/kv/Range\x41\x03a:1\x5f\x10application/grpc\x40\x02te\x08trailers";
        assert_eq!(fields.block(&range), &told[..]);
        assert_eq!(fields.block(&range), &b"\x83\x86\xc1\xc0\xbf\xbe"[..]);
        assert_eq!(fields.block(&put), &b"\x83\x86\x44\x07/kv/Put\xc1\xc0\xbf"[..]);
        assert_eq!(fields.block(&range), &b"\x83\x86\xc2\xc1\xc0\xbf"[..]);
    }

    #[test]
    fn a_side_without_a_table_is_told_everything_each_time() {
        let path = Bytes::from_static(b"/x");
        let mut fields = Fields::new("a");
        fields.limit(0);
        let plain = b"\x83\x86\x00\x05:path\x02/x\x00\x0a:authority\x01a\x00\x0ccontent-type\x10application/grpc\x00\x02te\x08trailers";
        assert_eq!(fields.block(&path), [&b"\x20"[..], plain].concat());
        assert_eq!(fields.block(&path), &plain[..]);
    }
}
