//! What really happened: all changes from the first revision on, as a member tells them when the
//! round is over, and the state of every key at each revision.

use std::collections::BTreeMap;

use crate::operation::{Event, Kv};

/// The revision of an empty store.
pub(crate) const EMPTY: i64 = 1;

pub(crate) struct Truth {
    pub(crate) last: i64,
    changes: BTreeMap<i64, Vec<Event>>,
    /// Of each key, what it was from which revision on.
    states: BTreeMap<String, BTreeMap<i64, Option<Kv>>>,
}

impl Truth {
    /// Of all events up to a revision, in the order told; and what is wrong with them alone.
    pub(crate) fn of(events: &[Event], last: i64) -> (Truth, Vec<String>) {
        let mut wrong = Vec::new();
        let mut truth = Truth { last, changes: BTreeMap::new(), states: BTreeMap::new() };
        let mut at = EMPTY;
        for event in events {
            if event.revision < at || event.revision > at + 1 {
                wrong.push(format!("the history goes from {at} to {event:?}"));
            }
            at = event.revision;
            let before = truth.state(&event.key, event.revision - 1).cloned();
            match (&before, &event.put) {
                (None, None) => wrong.push(format!("deleted, and was not there: {event:?}")),
                (_, Some(kv)) => {
                    let created = before.as_ref().map_or(at, |it| it.created);
                    let version = before.as_ref().map_or(1, |it| it.version + 1);
                    if (kv.created, kv.modified, kv.version) != (created, at, version) {
                        wrong.push(format!("{event:?} does not follow {before:?}"));
                    }
                }
                (Some(_), None) => {}
            }
            let states = truth.states.entry(event.key.clone()).or_default();
            if states.insert(at, event.put.clone()).is_some() {
                wrong.push(format!("a key twice in one revision: {event:?}"));
            }
            truth.changes.entry(at).or_default().push(event.clone());
        }
        if at != last {
            wrong.push(format!("the history ends at {at}, and the store is at {last}"));
        }
        (truth, wrong)
    }

    pub(crate) fn revisions(&self) -> impl Iterator<Item = (i64, &[Event])> {
        self.changes.iter().map(|(revision, events)| (*revision, events.as_slice()))
    }

    /// What changed at one.
    pub(crate) fn changes_at(&self, revision: i64) -> &[Event] {
        self.changes.get(&revision).map_or(&[], Vec::as_slice)
    }

    /// A key as it was at a revision.
    pub(crate) fn state(&self, key: &str, revision: i64) -> Option<&Kv> {
        let (_, state) = self.states.get(key)?.range(..=revision).next_back()?;
        state.as_ref()
    }

    /// All that was there at a revision, by key.
    pub(crate) fn all(&self, revision: i64) -> Vec<Kv> {
        self.states.keys().filter_map(|key| self.state(key, revision).cloned()).collect()
    }
}
