//! What a cluster agrees on: one operation a log entry, in the form it has in the log.
//!
//! ```text
//! kind u8 | proposer u64 | serial u64 | body (the protobuf message of that kind)
//! ```
//!
//! Proposer and serial tell the replica that asked which answer is its own. Everything that apply
//! may not find out by itself (a time, an ID) travels in the body.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use crate::proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, TxnRequest,
};

/// One change of the replicated state.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Write a key.
    Put(PutRequest),
    /// Delete keys.
    DeleteRange(DeleteRangeRequest),
    /// Compare, then do one or the other.
    Txn(TxnRequest),
    /// Give up history.
    Compact(CompactionRequest),
    /// Begin a lease; its ID is never 0 here.
    LeaseGrant(LeaseGrantRequest),
    /// End a lease and delete its keys.
    LeaseRevoke(LeaseRevokeRequest),
    /// Raise or drop an alarm.
    Alarm(AlarmRequest),
    /// A member tells its name, its client URLs and which incarnation it is.
    Publish(Published),
}

/// What a member says of itself once it has started.
#[derive(Clone, PartialEq, Message)]
pub struct Published {
    /// The member.
    #[prost(uint64, tag = "1")]
    pub member: u64,
    /// Its name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Where clients reach it.
    #[prost(string, repeated, tag = "3")]
    pub client_urls: Vec<String>,
    /// Drawn when its data was first created (safety 12).
    #[prost(uint64, tag = "4")]
    pub incarnation: u64,
}

/// Who proposed an operation, and as their how manieth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// Drawn at random by each process at its start, so that an old one's are never taken for ours.
    pub proposer: u64,
    /// Counted up by each process.
    pub serial: u64,
}

/// An operation with its ticket, encoded once and copied out of whatever buffer it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command(Bytes);

/// A log entry that no version up to this one can have written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an operation: {0}")]
pub struct NotAnOperation(pub String);

impl Command {
    const HEAD: usize = 1 + 8 + 8;

    /// Encodes an operation.
    pub fn new(ticket: Ticket, operation: &Operation) -> Command {
        let body: (u8, &dyn Encode) = match operation {
            Operation::Put(it) => (1, it),
            Operation::DeleteRange(it) => (2, it),
            Operation::Txn(it) => (3, it),
            Operation::Compact(it) => (4, it),
            Operation::LeaseGrant(it) => (5, it),
            Operation::LeaseRevoke(it) => (6, it),
            Operation::Alarm(it) => (7, it),
            Operation::Publish(it) => (8, it),
        };
        let mut bytes = BytesMut::with_capacity(Self::HEAD + body.1.length());
        bytes.put_u8(body.0);
        bytes.put_u64_le(ticket.proposer);
        bytes.put_u64_le(ticket.serial);
        body.1.encode_into(&mut bytes);
        Command(bytes.freeze())
    }

    /// Takes bytes from the log or a peer for what they are; the operation is read later.
    ///
    /// # Errors
    ///
    /// [`NotAnOperation`] if they are too short to have a ticket.
    pub fn from_bytes(bytes: Bytes) -> Result<Command, NotAnOperation> {
        if bytes.len() < Self::HEAD {
            return Err(NotAnOperation(format!("{} bytes", bytes.len())));
        }
        Ok(Command(bytes))
    }

    /// As it stands in the log.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Whose it is.
    pub fn ticket(&self) -> Ticket {
        let mut head = &self.0[1..Self::HEAD];
        Ticket { proposer: head.get_u64_le(), serial: head.get_u64_le() }
    }

    /// What is to be done. Keys and values share this command's buffer: copy what is to be kept.
    ///
    /// # Errors
    ///
    /// [`NotAnOperation`]; the log is then damaged, or was written by a later version.
    pub fn operation(&self) -> Result<Operation, NotAnOperation> {
        let body = self.0.slice(Self::HEAD..);
        let wrong = |e: prost::DecodeError| NotAnOperation(e.to_string());
        Ok(match self.0[0] {
            1 => Operation::Put(Message::decode(body).map_err(wrong)?),
            2 => Operation::DeleteRange(Message::decode(body).map_err(wrong)?),
            3 => Operation::Txn(Message::decode(body).map_err(wrong)?),
            4 => Operation::Compact(Message::decode(body).map_err(wrong)?),
            5 => Operation::LeaseGrant(Message::decode(body).map_err(wrong)?),
            6 => Operation::LeaseRevoke(Message::decode(body).map_err(wrong)?),
            7 => Operation::Alarm(Message::decode(body).map_err(wrong)?),
            8 => Operation::Publish(Message::decode(body).map_err(wrong)?),
            kind => return Err(NotAnOperation(format!("kind {kind}"))),
        })
    }
}

/// `Message` without its generic methods.
trait Encode {
    fn length(&self) -> usize;
    fn encode_into(&self, bytes: &mut BytesMut);
}

impl<T: Message> Encode for T {
    fn length(&self) -> usize {
        self.encoded_len()
    }

    fn encode_into(&self, bytes: &mut BytesMut) {
        self.encode_raw(bytes);
    }
}
