//! The methods of a peer's calls, and what its failures are called. Numbers once given stay.

/// Log entries, or none: a heartbeat. On both lanes.
pub(super) const APPEND: u8 = 1;
/// A vote is asked for.
pub(super) const VOTE: u8 = 2;
/// Whether a vote would be given.
pub(super) const PRE_VOTE: u8 = 3;
/// Lead, from here on.
pub(super) const TRANSFER: u8 = 4;
/// A snapshot begins; the answer says from where.
pub(super) const SNAPSHOT_BEGIN: u8 = 5;
/// Some of its records.
pub(super) const SNAPSHOT_CHUNK: u8 = 6;
/// The rest of it; the answer to the last piece comes when it is installed.
pub(super) const SNAPSHOT_FINISH: u8 = 7;
/// An operation for the leader.
pub(super) const PROPOSE: u8 = 8;
/// Up to where a linearizable read has to see.
pub(super) const READ_INDEX: u8 = 9;
/// A change of the members, for the leader.
pub(super) const MEMBERS: u8 = 10;
/// A lease is renewed.
pub(super) const LEASE_RENEW: u8 = 11;
/// What is left of a lease.
pub(super) const LEASE_LEFT: u8 = 12;

/// Nothing; whether there is an answer is the answer.
pub(super) const PING: u8 = 13;
/// What the called member said it has, and does not have any more.
pub(super) const BROKEN_WORD: u8 = 14;
/// The answer of one that finds it so, and ends.
pub(super) const HEARD: &[u8] = &[1];

/// The term that the called member has voted in last.
pub(super) const VOTED_IN: u8 = 15;

/// What came cannot be read, or is not for this member.
pub(super) const MALFORMED: u16 = 1;
/// Raft has stopped here.
pub(super) const STOPPED: u16 = 2;
/// A snapshot was not taken.
pub(super) const NOT_TAKEN: u16 = 3;
