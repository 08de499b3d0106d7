//! What the followers said they have. Who then has less, has lost what its word was counted for: an
//! older copy of its data was put back, or its disk lies.
//!
//! The leader alone can tell, and only of what was said to it in its present term. It does not
//! begin anew with such a follower, as with one whose log merely differs, but tells it; openraft
//! would not believe it and stop, or ask it for ever. etcd's follower finds out by the commit index
//! that a heartbeat carries ("tocommit is out of range", raft's log.go), and ends as well.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;

use super::codec::{Malformed, Reader, Writer};
use super::types::Vote;
use crate::cluster::MemberId;

/// The index that each follower's log reached, as it said to this member when it led.
#[derive(Debug, Default)]
pub(super) struct Acknowledged(Mutex<BTreeMap<MemberId, Word>>);

/// One follower's word: all up to `index` is on its disk, in the log of the leader elected by `vote`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) vote: Vote,
    pub(super) index: u64,
}

impl Acknowledged {
    /// A follower has all up to here.
    pub(super) fn note(&self, by: MemberId, word: Word) {
        let mut words = self.0.lock();
        match words.get_mut(&by) {
            Some(known) if known.vote == word.vote => known.index = known.index.max(word.index),
            _ => {
                // Whoever is elected begins with nobody's word.
                words.retain(|_, it| it.vote == word.vote);
                words.insert(by, word);
            }
        }
    }

    /// A follower has another entry than this one, or none: the word that it breaks, if it gave one.
    pub(super) fn broken(&self, by: MemberId, differs: &Word) -> Option<Word> {
        let words = self.0.lock();
        words.get(&by).filter(|it| it.vote == differs.vote && it.index >= differs.index).cloned()
    }
}

impl Word {
    /// As a follower is told of it.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.vote(&self.vote);
        out.u64(self.index);
        out.0.freeze()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Word, Malformed> {
        let mut from = Reader(bytes);
        let word = Word { vote: from.vote()?, index: from.u64()? };
        from.end()?;
        Ok(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(term: u64, index: u64) -> Word {
        Word { vote: Vote::new_committed(term, 1), index }
    }

    #[test]
    fn a_word_is_broken_by_what_is_within_it_and_said_to_the_same_leader() {
        let (a, b) = (MemberId(7), MemberId(8));
        let known = Acknowledged::default();
        assert_eq!(known.broken(a, &word(1, 0)), None);
        known.note(a, word(1, 20));
        // A late answer takes nothing back.
        known.note(a, word(1, 10));
        assert_eq!(known.broken(a, &word(1, 20)), Some(word(1, 20)));
        assert_eq!(known.broken(a, &word(1, 21)), None);
        assert_eq!(known.broken(b, &word(1, 20)), None);
        // Another leader's log may differ: what was said before counts for nothing.
        assert_eq!(known.broken(a, &word(2, 20)), None);
        known.note(b, word(2, 5));
        assert_eq!(known.broken(a, &word(1, 20)), None);
        assert_eq!(Word::decode(word(3, 9).encode()).unwrap(), word(3, 9));
    }
}
