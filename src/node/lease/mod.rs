//! Keeps the time of leases, on the member that leads.
//!
//! Which leases there are is replicated ([`crate::node::apply`]); when one ends is not. Only the
//! leader counts down, on a clock that nobody can set, and proposes the end of what has run out.
//! Whoever begins to lead gives every lease its full time anew and one election timeout more, as
//! it cannot know what was renewed with the one before: a lease may live longer for a change of
//! leader, never shorter.
//!
//! Knows nothing of raft and waits for nothing. Source: etcd's `lease/lessor.go`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use crate::clock::Moment;

/// A lease, as time goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Running {
    ttl: i64,
    ends: Moment,
    /// Its end was handed out, to be proposed.
    is_ending: bool,
}

/// What is left of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Seconds until it runs out, rounded down; 0 or less if it has.
    pub seconds: i64,
    /// Seconds it was granted.
    pub ttl: i64,
}

/// What came of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It lives for so many seconds again.
    Renewed(i64),
    /// It has run out, and its end is being agreed on.
    Ending,
    /// There is no such lease.
    Unknown,
    /// This member does not keep the time.
    NotLeading,
}

/// The time of all leases; nothing while this member does not lead.
#[derive(Debug, Default)]
pub struct Lessor {
    running: Option<BTreeMap<i64, Running>>,
    /// When to look at which. What was renewed since is put off when its turn comes.
    due: BinaryHeap<Reverse<(Moment, i64)>>,
}

impl Lessor {
    /// Begins to keep the time of these, each with its full time and `extra` (etcd's `Promote`).
    pub fn lead(
        &mut self,
        leases: impl IntoIterator<Item = (i64, i64)>,
        now: Moment,
        extra: Duration,
    ) {
        let ends = |ttl| now.after(span(ttl)).after(extra);
        let running = |(id, ttl)| (id, Running { ttl, ends: ends(ttl), is_ending: false });
        let running: BTreeMap<_, _> = leases.into_iter().map(running).collect();
        self.due = running.iter().map(|(id, it)| Reverse((it.ends, *id))).collect();
        self.running = Some(running);
    }

    /// Keeps no time any more (etcd's `Demote`).
    pub fn follow(&mut self) {
        *self = Lessor::default();
    }

    /// Whether it keeps the time.
    pub fn is_leading(&self) -> bool {
        self.running.is_some()
    }

    /// A lease began.
    pub fn granted(&mut self, id: i64, ttl: i64, now: Moment) {
        let Some(running) = &mut self.running else { return };
        let ends = now.after(span(ttl));
        running.insert(id, Running { ttl, ends, is_ending: false });
        self.due.push(Reverse((ends, id)));
    }

    /// A lease ended.
    pub fn revoked(&mut self, id: i64) {
        if let Some(running) = &mut self.running {
            running.remove(&id);
        }
    }

    /// Gives a lease its full time again.
    pub fn renew(&mut self, id: i64, now: Moment) -> Renewal {
        let Some(running) = &mut self.running else { return Renewal::NotLeading };
        match running.get_mut(&id) {
            None => Renewal::Unknown,
            Some(it) if it.is_ending || it.ends <= now => Renewal::Ending,
            Some(it) => {
                // Its place among those due stays: it is put off when its turn comes.
                it.ends = now.after(span(it.ttl));
                Renewal::Renewed(it.ttl)
            }
        }
    }

    /// What is left of a lease; `None` if it is unknown.
    pub fn left(&self, id: i64, now: Moment) -> Option<Left> {
        let it = self.running.as_ref()?.get(&id)?;
        let seconds = i64::try_from(it.ends.since(now).as_secs()).unwrap_or(i64::MAX);
        Some(Left { seconds, ttl: it.ttl })
    }

    /// When the next one may run out.
    pub fn next(&self) -> Option<Moment> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// Some leases that have run out, at most so many; each is handed out once, until
    /// [`Self::again`].
    pub fn ended(&mut self, now: Moment, most: usize) -> Vec<i64> {
        let mut ended = Vec::new();
        let Some(running) = &mut self.running else { return ended };
        while ended.len() < most
            && let Some(&Reverse((at, id))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            let Some(it) = running.get_mut(&id) else { continue };
            if it.ends > now {
                self.due.push(Reverse((it.ends, id)));
            } else if !it.is_ending {
                it.is_ending = true;
                ended.push(id);
            }
        }
        ended
    }

    /// The end of a lease could not be agreed on: it is handed out again from `at` on.
    pub fn again(&mut self, id: i64, at: Moment) {
        let Some(it) = self.running.as_mut().and_then(|it| it.get_mut(&id)) else { return };
        it.is_ending = false;
        self.due.push(Reverse((at, id)));
    }
}

fn span(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(1).after(Duration::from_secs(seconds))
    }

    #[test]
    fn a_lease_runs_out_once_unless_it_is_renewed_and_a_new_leader_gives_all_more_time() {
        let mut lessor = Lessor::default();
        assert_eq!(lessor.renew(1, at(0)), Renewal::NotLeading);
        lessor.lead([(1, 5), (2, 5)], at(0), Duration::from_secs(1));
        lessor.granted(3, 2, at(0));
        assert_eq!(lessor.left(1, at(2)), Some(Left { seconds: 4, ttl: 5 }));
        assert_eq!(lessor.ended(at(1), 10), [0; 0]);
        assert_eq!(lessor.renew(1, at(4)), Renewal::Renewed(5));
        assert_eq!(lessor.ended(at(4), 10), [3]);
        assert_eq!(lessor.ended(at(5), 10), [0; 0]);
        assert_eq!(lessor.renew(3, at(5)), Renewal::Ending);
        lessor.revoked(3);
        assert_eq!(lessor.renew(3, at(5)), Renewal::Unknown);
        assert_eq!(lessor.ended(at(6), 10), [2]);
        lessor.again(2, at(7));
        assert_eq!(lessor.ended(at(6), 10), [0; 0]);
        assert_eq!(lessor.ended(at(20), 1).len(), 1);
        assert_eq!(lessor.ended(at(20), 1).len(), 1);
        lessor.follow();
        assert_eq!(lessor.next(), None);
    }
}
