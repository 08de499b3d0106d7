//! Whether a history is linearizable. etcd's revisions order all writes, so the order that would
//! prove it is known, and need not be searched for: each write at its revision, each read behind
//! the write of the revision that it was answered with. What is left is to look: each answer is
//! what that order gives, and no operation comes before one that had ended when it began.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::operation::{Answer, Ask, Event, Operation};
use crate::truth::Truth;

/// What came of a look.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    /// Acknowledged writes, and those of them that are not there.
    pub(crate) acknowledged: usize,
    pub(crate) lost: usize,
    /// Writes without an answer, and those of them that happened.
    pub(crate) unknown: usize,
    pub(crate) happened: usize,
    pub(crate) reads: usize,
}

/// Compares what clients were answered with what really happened.
pub(crate) fn check(operations: &[Operation], truth: &Truth) -> Verdict {
    let mut verdict = Verdict::default();
    let mut look = Look { truth, floors: floors(operations), operations, verdict: &mut verdict };
    for at in 0..operations.len() {
        look.one(at);
    }
    look.each_change_is_somebodys();
    verdict
}

/// For each operation, the highest revision that one was answered with before it began.
fn floors(operations: &[Operation]) -> Vec<i64> {
    let mut ended: Vec<(Instant, i64)> = Vec::new();
    for it in operations {
        ended.extend(it.answer.as_ref().map(|answer| (it.returned, answer.revision)));
    }
    ended.sort_unstable();
    let mut highest = 0;
    for it in &mut ended {
        highest = highest.max(it.1);
        it.1 = highest;
    }
    let floor = |it: &Operation| {
        let before = ended.partition_point(|(returned, _)| *returned < it.invoked);
        before.checked_sub(1).map_or(0, |at| ended[at].1)
    };
    operations.iter().map(floor).collect()
}

struct Look<'a> {
    truth: &'a Truth,
    operations: &'a [Operation],
    floors: Vec<i64>,
    verdict: &'a mut Verdict,
}

impl Look<'_> {
    fn wrong(&mut self, at: usize, why: &str) {
        let text = format!("{why}: {}", shown(&self.operations[at]));
        self.verdict.violations.push(text);
    }

    fn one(&mut self, at: usize) {
        let operation = &self.operations[at];
        let Some(answer) = &operation.answer else {
            self.verdict.unknown += usize::from(operation.ask.writes());
            return;
        };
        let floor = self.floors[at];
        let is_late = if answer.wrote { answer.revision > floor } else { answer.revision >= floor };
        if !is_late {
            self.wrong(at, &format!("{floor} had been answered before it began"));
        }
        if answer.revision > self.truth.last {
            self.wrong(at, &format!("of the future: the store is at {}", self.truth.last));
        }
        if answer.wrote {
            self.verdict.acknowledged += 1;
            if !does(&operation.ask, answer.revision, self.truth) {
                self.verdict.lost += 1;
                self.wrong(at, "LOST: acknowledged, and not in the history");
            }
            let before = answer.revision - 1;
            let keys = operation.ask.written();
            let had = keys.iter().filter_map(|key| self.truth.state(key, before).cloned());
            if had.collect::<Vec<_>>() != answer.found {
                self.wrong(at, "not what was there before");
            }
            return;
        }
        self.verdict.reads += 1;
        let found = match &operation.ask {
            Ask::All => self.truth.all(answer.revision),
            Ask::Get { key } | Ask::Swap { key, .. } | Ask::Delete { key } => {
                self.truth.state(key, answer.revision).cloned().into_iter().collect()
            }
            Ask::Put { .. } | Ask::Pair { .. } => return self.wrong(at, "a put that did not put"),
        };
        if found != answer.found {
            self.wrong(at, &format!("read, and not what was there, {found:?}"));
        }
        if let Ask::Swap { modified, .. } = operation.ask
            && found.first().map_or(0, |it| it.modified) == modified
        {
            self.wrong(at, "what it compared with was there");
        }
        if matches!(operation.ask, Ask::Delete { .. }) && !found.is_empty() {
            self.wrong(at, "what it was to delete was there");
        }
    }

    /// Every change is that of one operation, and no operation changed anything twice.
    fn each_change_is_somebodys(&mut self) {
        let mut writers = BTreeMap::new();
        let mut deletions: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        let mut answered = BTreeMap::new();
        for (at, it) in self.operations.iter().enumerate() {
            if let Some(value) = it.ask.value() {
                writers.insert(value, at);
            }
            match (&it.ask, &it.answer) {
                (Ask::Delete { .. }, Some(answer)) if answer.wrote => {
                    answered.insert(answer.revision, at);
                }
                (Ask::Delete { key }, None) => drop(deletions.entry(key).or_default().insert(at)),
                _ => {}
            }
        }
        let mut used = BTreeSet::new();
        for (revision, events) in self.truth.revisions() {
            let at = match &events[0].put {
                Some(kv) => writers.get(kv.value.as_str()).copied(),
                None => answered.get(&revision).copied().or_else(|| {
                    // Any that began late enough will do: for each later change it would as well.
                    let open = deletions.get_mut(events[0].key.as_str())?;
                    let found = open.iter().copied().find(|at| self.floors[*at] < revision)?;
                    open.remove(&found).then_some(found)
                }),
            };
            let Some(at) = at else {
                self.verdict.violations.push(format!("nobody's: {events:?}"));
                continue;
            };
            if !used.insert(at) {
                self.wrong(at, &format!("happened once more at {revision}"));
            }
            self.is_explained(at, revision);
        }
    }

    fn is_explained(&mut self, at: usize, revision: i64) {
        let operation = &self.operations[at];
        match &operation.answer {
            Some(Answer { wrote: true, revision: answered, .. }) if *answered == revision => {}
            Some(answer) => {
                let answer = format!("{answer:?}");
                self.wrong(at, &format!("happened at {revision}, answered was {answer}"));
            }
            None => {
                self.verdict.happened += 1;
                if self.floors[at] >= revision {
                    self.wrong(at, &format!("happened at {revision}, before it began"));
                }
                if !does(&operation.ask, revision, self.truth) {
                    self.wrong(at, &format!("happened at {revision}, and not as a whole"));
                }
            }
        }
        if let Ask::Swap { key, modified, .. } = &operation.ask
            && self.truth.state(key, revision - 1).map_or(0, |it| it.modified) != *modified
        {
            self.wrong(at, &format!("at {revision} it compared with another"));
        }
    }
}

/// Whether the changes of this revision are exactly what is asked for.
fn does(ask: &Ask, revision: i64, truth: &Truth) -> bool {
    let found = truth.changes_at(revision);
    let keys = ask.written();
    let fits = |(event, key): (&Event, &&str)| {
        event.key == **key && event.put.as_ref().map(|it| it.value.as_str()) == ask.value()
    };
    found.len() == keys.len() && found.iter().zip(&keys).all(fits)
}

fn shown(operation: &Operation) -> String {
    let mut text = format!("{:?} -> {:?}", operation.ask, operation.answer);
    if text.len() > 600 {
        text = text.chars().take(600).collect();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::operation::Kv;
    use crate::support::wait::now;

    fn kv(key: &str, value: &str, created: i64, modified: i64, version: i64) -> Kv {
        Kv { key: key.to_owned(), value: value.to_owned(), created, modified, version }
    }

    fn put(revision: i64, kv: Kv) -> Event {
        Event { revision, key: kv.key.clone(), put: Some(kv) }
    }

    /// Puts to `k` at 2 and 3, a deletion at 4.
    fn truth() -> Truth {
        let events = [
            put(2, kv("k", "a", 2, 2, 1)),
            put(3, kv("k", "b", 2, 3, 2)),
            Event { revision: 4, key: "k".to_owned(), put: None },
        ];
        let (truth, wrong) = Truth::of(&events, 4);
        assert!(wrong.is_empty(), "{wrong:?}");
        truth
    }

    struct Story(Vec<Operation>, Instant);

    impl Story {
        fn new() -> Story {
            Story(Vec::new(), now())
        }

        /// From one second to another.
        fn did(
            mut self,
            from: u64,
            to: u64,
            ask: Ask,
            answer: Option<(i64, bool, Vec<Kv>)>,
        ) -> Story {
            let at = |seconds| self.1 + Duration::from_secs(seconds);
            let answer = answer.map(|(revision, wrote, found)| Answer {
                revision,
                cluster: 1,
                wrote,
                found,
            });
            self.0.push(Operation { ask, invoked: at(from), returned: at(to), answer });
            self
        }

        fn a_put(self, from: u64, to: u64, value: &str, answer: Option<(i64, Vec<Kv>)>) -> Story {
            let ask = Ask::Put { key: "k".to_owned(), value: value.to_owned() };
            self.did(from, to, ask, answer.map(|(revision, found)| (revision, true, found)))
        }

        fn a_get(self, from: u64, to: u64, revision: i64, found: Vec<Kv>) -> Story {
            let ask = Ask::Get { key: "k".to_owned() };
            self.did(from, to, ask, Some((revision, false, found)))
        }

        fn a_delete(self, from: u64, to: u64, answer: Option<(i64, bool, Vec<Kv>)>) -> Story {
            self.did(from, to, Ask::Delete { key: "k".to_owned() }, answer)
        }

        /// The first two puts, as they should be.
        fn begun() -> Story {
            let a = kv("k", "a", 2, 2, 1);
            Story::new().a_put(1, 2, "a", Some((2, vec![]))).a_put(3, 4, "b", Some((3, vec![a])))
        }

        #[track_caller]
        fn is_fine(&self) {
            let verdict = check(&self.0, &truth());
            assert!(verdict.violations.is_empty(), "{verdict:#?}");
        }

        #[track_caller]
        fn is_wrong(&self, why: &str) -> Verdict {
            let verdict = check(&self.0, &truth());
            assert!(verdict.violations.iter().any(|it| it.contains(why)), "{verdict:#?}");
            verdict
        }
    }

    #[test]
    fn a_history_as_it_should_be_is_fine() {
        let b = kv("k", "b", 2, 3, 2);
        let story = Story::begun().a_get(5, 6, 3, vec![b.clone()]);
        let story = story.a_delete(7, 8, Some((4, true, vec![b]))).a_get(9, 10, 4, vec![]);
        story.a_delete(11, 12, Some((4, false, vec![]))).is_fine();
    }

    #[test]
    fn what_nobody_was_answered_may_have_happened_or_not_and_late() {
        let story = Story::begun().a_delete(1, 2, None).a_delete(1, 2, None);
        story.a_put(3, 4, "never", None).is_fine();
    }

    #[test]
    fn an_acknowledged_write_that_is_not_there_is_lost() {
        let story = Story::begun().a_delete(5, 6, None);
        let verdict = story.a_put(7, 8, "c", Some((5, vec![]))).is_wrong("LOST");
        assert_eq!((verdict.acknowledged, verdict.lost), (3, 1));
    }

    #[test]
    fn a_stale_read_is_seen() {
        let a = kv("k", "a", 2, 2, 1);
        let story = Story::begun().a_delete(1, 2, None);
        story.a_get(5, 6, 2, vec![a]).is_wrong("3 had been answered before it began");
    }

    #[test]
    fn a_read_of_what_was_not_there_is_seen() {
        let a = kv("k", "a", 2, 2, 1);
        let story = Story::begun().a_delete(1, 2, None);
        story.a_get(5, 6, 3, vec![a]).is_wrong("not what was there");
    }

    #[test]
    fn a_change_that_nobody_asked_for_is_seen() {
        Story::begun().is_wrong("nobody's");
        // A deletion that began when all had been over is none that explains it.
        let story = Story::begun().a_delete(5, 6, Some((4, true, vec![kv("k", "b", 2, 3, 2)])));
        story.is_fine();
        Story::begun().a_get(5, 6, 4, vec![]).a_delete(7, 8, None).is_wrong("nobody's");
    }

    #[test]
    fn a_write_that_takes_effect_before_one_that_had_ended_is_seen() {
        let a = kv("k", "a", 2, 2, 1);
        let story = Story::new().a_put(3, 4, "a", Some((2, vec![]))).a_delete(1, 2, None);
        story.a_put(1, 2, "b", Some((3, vec![a]))).is_wrong("3 had been answered");
    }

    #[test]
    fn a_swap_must_have_found_what_it_compared_with() {
        let swap = |modified, value: &str| Ask::Swap {
            key: "k".to_owned(),
            modified,
            value: value.to_owned(),
        };
        let (a, b) = (kv("k", "a", 2, 2, 1), kv("k", "b", 2, 3, 2));
        let story = || Story::new().a_put(1, 2, "a", Some((2, vec![]))).a_delete(1, 2, None);
        story().did(3, 4, swap(2, "b"), Some((3, true, vec![a.clone()]))).is_fine();
        story().did(3, 4, swap(2, "b"), None).is_fine();
        story().did(3, 4, swap(7, "b"), Some((3, true, vec![a]))).is_wrong("compared with another");
        let refused = Story::begun().a_delete(1, 2, None);
        refused.did(5, 6, swap(3, "c"), Some((3, false, vec![b]))).is_wrong("was there");
    }

    #[test]
    fn a_gap_in_the_history_is_seen() {
        let events = [put(2, kv("k", "a", 2, 2, 1)), put(4, kv("k", "b", 2, 4, 2))];
        assert_eq!(Truth::of(&events, 4).1.len(), 1);
        assert_eq!(Truth::of(&events[..1], 2).1.len(), 0);
        assert_eq!(Truth::of(&events[..1], 3).1.len(), 1);
    }
}
