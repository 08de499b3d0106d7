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
use crate::clock::Moment;
use crate::cluster::MemberId;

/// What each follower said to this member when it led, and who was told that its word is broken.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    words: Mutex<BTreeMap<MemberId, Word>>,
    told: Mutex<BTreeMap<MemberId, Told>>,
}

/// One follower's word: all up to `index` is on its disk, in the log of the leader elected by `vote`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) vote: Vote,
    pub(super) index: u64,
}

/// A member that was told, for as long as its connection lasts: whoever has heard it ends, and a
/// process that comes after it may have other data.
#[derive(Debug)]
struct Told {
    /// Since when it is connected; `None` if that is not known, so that nothing lasts.
    connected: Option<Moment>,
    /// It has heard, or will be answering soon.
    has_heard: bool,
}

/// What is to be done about a broken word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ToTell {
    /// Nobody has said so yet here.
    pub(super) is_news: bool,
    /// The member is to be told.
    pub(super) member: bool,
}

impl Acknowledged {
    /// A follower has all up to here.
    pub(super) fn note(&self, by: MemberId, word: Word) {
        let mut words = self.words.lock();
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
        let words = self.words.lock();
        words.get(&by).filter(|it| it.vote == differs.vote && it.index >= differs.index).cloned()
    }

    /// A member broke its word, as it shows at each heartbeat until it has ended: what is not done
    /// about it yet. `connected`: since when it is connected.
    pub(super) fn to_tell(&self, member: MemberId, connected: Option<Moment>) -> ToTell {
        let mut told = self.told.lock();
        let known =
            told.get_mut(&member).filter(|it| connected.is_some() && it.connected == connected);
        if let Some(it) = known {
            let had_heard = std::mem::replace(&mut it.has_heard, true);
            return ToTell { is_news: false, member: !had_heard };
        }
        told.insert(member, Told { connected, has_heard: true });
        ToTell { is_news: true, member: true }
    }

    /// The call was lost, or came before the member knew who leads: it is to be told again.
    pub(super) fn not_heard(&self, member: MemberId) {
        if let Some(told) = self.told.lock().get_mut(&member) {
            told.has_heard = false;
        }
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

    #[test]
    fn it_is_said_once_a_connection_and_to_the_member_until_it_has_heard() {
        let (a, b) = (MemberId(7), MemberId(8));
        let known = Acknowledged::default();
        let to_tell = |id, at: u64| {
            let it = known.to_tell(id, Some(Moment(at)));
            (it.is_news, it.member)
        };
        assert_eq!(to_tell(a, 1), (true, true));
        assert_eq!((to_tell(a, 1), to_tell(a, 1)), ((false, false), (false, false)));
        assert_eq!(to_tell(b, 1), (true, true));
        known.not_heard(a);
        assert_eq!((to_tell(a, 1), to_tell(a, 1)), ((false, true), (false, false)));
        assert_eq!((to_tell(b, 1), to_tell(a, 2)), ((false, false), (true, true)));
        // Nothing lasts where it cannot be told how long.
        let all = ToTell { is_news: true, member: true };
        assert_eq!((known.to_tell(a, None), known.to_tell(a, None)), (all, all));
    }
}
