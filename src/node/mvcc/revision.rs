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

/// A record where it stands: nothing of it is copied before somebody wants to keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// When.
    pub revision: Revision,
    /// Whether the key was deleted.
    pub tombstone: bool,
    /// The key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// The revision that made the key.
    pub created: i64,
    /// How often it has changed since.
    pub version: i64,
    /// Its lease, or 0.
    pub lease: i64,
}

/// Bytes of a record before its key.
const HEAD: usize = 1 + 3 * 8 + 4;

impl Record {
    /// Bytes it counts for in the quota: the same on every member.
    pub fn size(&self) -> u64 {
        self.seen().size()
    }

    /// As it is stored under [`Revision::to_key`], and as it is hashed.
    pub fn encode(&self) -> Bytes {
        let seen = self.seen();
        let mut bytes = BytesMut::with_capacity(seen.length());
        seen.parts(|part| bytes.put_slice(part));
        bytes.freeze()
    }

    /// Reads what [`Self::encode`] wrote, copying key and value.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`].
    pub fn decode(revision: Revision, bytes: &[u8]) -> Result<Record, StoreError> {
        Ok(Seen::decode(revision, bytes)?.to_record())
    }

    /// The same, to be looked at.
    pub fn seen(&self) -> Seen<'_> {
        Seen {
            revision: self.revision,
            tombstone: self.tombstone,
            key: &self.kv.key,
            value: &self.kv.value,
            created: self.kv.create_revision,
            version: self.kv.version,
            lease: self.kv.lease,
        }
    }
}

impl<'a> Seen<'a> {
    /// Bytes it counts for in the quota.
    pub fn size(&self) -> u64 {
        (self.key.len() + self.value.len()) as u64 + OVERHEAD
    }

    /// Bytes of its stored form.
    pub fn length(&self) -> usize {
        HEAD + self.key.len() + self.value.len()
    }

    /// Its stored form, part by part.
    ///
    /// ```text
    /// kind u8 | create i64 | version i64 | lease i64 | key length u32 | key | value
    /// ```
    ///
    /// Numbers have their small end first.
    pub fn parts(&self, mut take: impl FnMut(&[u8])) {
        let mut head = [if self.tombstone { DELETE } else { PUT }; HEAD];
        head[1..9].copy_from_slice(&self.created.to_le_bytes());
        head[9..17].copy_from_slice(&self.version.to_le_bytes());
        head[17..25].copy_from_slice(&self.lease.to_le_bytes());
        // A request is far smaller than that (`--max-request-bytes`).
        let length = u32::try_from(self.key.len()).unwrap_or(u32::MAX);
        head[25..].copy_from_slice(&length.to_le_bytes());
        take(&head);
        take(self.key);
        take(self.value);
    }

    /// A copy that can be kept.
    pub fn to_record(&self) -> Record {
        let kv = KeyValue {
            key: Bytes::copy_from_slice(self.key),
            value: Bytes::copy_from_slice(self.value),
            create_revision: self.created,
            mod_revision: self.revision.main,
            version: self.version,
            lease: self.lease,
        };
        Record { revision: self.revision, kv, tombstone: self.tombstone }
    }

    /// Reads what [`Record::encode`] wrote.
    ///
    /// # Errors
    ///
    /// [`StoreError::Damaged`].
    pub fn decode(revision: Revision, mut bytes: &'a [u8]) -> Result<Seen<'a>, StoreError> {
        let damaged = |what: &str| {
            let Revision { main, sub } = revision;
            StoreError::Damaged(format!("the record at revision {main}.{sub} {what}"))
        };
        if bytes.len() < HEAD {
            return Err(damaged("is too short"));
        }
        let tombstone = match bytes.get_u8() {
            PUT => false,
            DELETE => true,
            _ => return Err(damaged("is of an unknown kind")),
        };
        let (created, version, lease) =
            (bytes.get_i64_le(), bytes.get_i64_le(), bytes.get_i64_le());
        let length = bytes.get_u32_le() as usize;
        let Some((key, value)) = bytes.split_at_checked(length) else {
            return Err(damaged("is cut short"));
        };
        Ok(Seen { revision, tombstone, key, value, created, version, lease })
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
