//! Revisions, and the records that stand at them.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::StoreError;
use crate::proto::mvccpb::KeyValue;

/// A point in the history: which transaction, and which of its changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// The transaction's, from 2 on; what clients call the revision.
    pub main: i64,
    /// The place inside of it, from 0.
    pub sub: i64,
}

impl Revision {
    /// The first place of a transaction.
    pub fn first_of(main: i64) -> Revision {
        Revision { main, sub: 0 }
    }

    /// Sixteen bytes that sort as revisions do.
    pub fn to_key(self) -> [u8; 16] {
        let (main, sub) = (self.main.cast_unsigned(), self.sub.cast_unsigned());
        (u128::from(main) << 64 | u128::from(sub)).to_be_bytes()
    }

    /// Reads what [`Self::to_key`] wrote; `None` if it is something else.
    pub fn from_key(key: &[u8]) -> Option<Revision> {
        let mut key: &[u8] = <&[u8; 16]>::try_from(key).ok()?;
        Some(Revision { main: key.get_i64(), sub: key.get_i64() }).filter(|it| it.main >= 0)
    }
}

/// One change of one key. Its key and value are copies, owned by the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// When.
    pub revision: Revision,
    /// The key after the change. Of a deleted one, only its name and the revision.
    pub kv: KeyValue,
    /// Whether the key was deleted.
    pub tombstone: bool,
}

/// What a record takes beside its key and value, in memory and on disk, roughly.
const OVERHEAD: u64 = 64;
const PUT: u8 = 1;
const DELETE: u8 = 2;

impl Record {
    /// Bytes it counts for in the quota: the same on every member.
    pub fn size(&self) -> u64 {
        (self.kv.key.len() + self.kv.value.len()) as u64 + OVERHEAD
    }

    /// As it is stored under [`Revision::to_key`], and as it is hashed.
    ///
    /// ```text
    /// kind u8 | create i64 | version i64 | lease i64 | key length u32 | key | value
    /// ```
    ///
    /// Numbers have their small end first.
    pub fn encode(&self) -> Bytes {
        let mut bytes =
            BytesMut::with_capacity(1 + 3 * 8 + 4 + self.kv.key.len() + self.kv.value.len());
        bytes.put_u8(if self.tombstone { DELETE } else { PUT });
        bytes.put_i64_le(self.kv.create_revision);
        bytes.put_i64_le(self.kv.version);
        bytes.put_i64_le(self.kv.lease);
        // A request is far smaller than that (`--max-request-bytes`).
        bytes.put_u32_le(u32::try_from(self.kv.key.len()).unwrap_or(u32::MAX));
        bytes.put_slice(&self.kv.key);
        bytes.put_slice(&self.kv.value);
        bytes.freeze()
    }

    /// Reads what [`Self::encode`] wrote, copying key and value.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`].
    pub fn decode(revision: Revision, mut bytes: &[u8]) -> Result<Record, StoreError> {
        let damaged = |what: &str| {
            let Revision { main, sub } = revision;
            StoreError::Damaged(format!("the record at revision {main}.{sub} {what}"))
        };
        if bytes.len() < 1 + 3 * 8 + 4 {
            return Err(damaged("is too short"));
        }
        let tombstone = match bytes.get_u8() {
            PUT => false,
            DELETE => true,
            _ => return Err(damaged("is of an unknown kind")),
        };
        let (create_revision, version, lease) =
            (bytes.get_i64_le(), bytes.get_i64_le(), bytes.get_i64_le());
        let length = bytes.get_u32_le() as usize;
        let Some((key, value)) = bytes.split_at_checked(length) else {
            return Err(damaged("is cut short"));
        };
        let kv = KeyValue {
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
            create_revision,
            mod_revision: revision.main,
            version,
            lease,
        };
        Ok(Record { revision, kv, tombstone })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_else_is() {
        let revision = Revision { main: 7, sub: 3 };
        assert_eq!(Revision::from_key(&revision.to_key()), Some(revision));
        assert_eq!(Revision::from_key(b"short"), None);
        let kv = KeyValue {
            key: Bytes::from_static(b"a:b\0\xff"),
            value: Bytes::new(),
            create_revision: 5,
            mod_revision: 7,
            version: 2,
            lease: -1,
        };
        let record = Record { revision, kv, tombstone: false };
        let bytes = record.encode();
        assert_eq!(Record::decode(revision, &bytes).unwrap(), record);
        for end in 0..bytes.len() {
            assert!(Record::decode(revision, &bytes[..end]).is_err(), "cut at {end}");
        }
        assert!(Record::decode(revision, &[9; 64]).is_err());
    }
}
