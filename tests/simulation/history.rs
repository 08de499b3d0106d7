//! What clients asked and were told, and whether there is one order that explains it all.
//!
//! etcd's revisions name that order: every answer says after which change it was given. So no
//! order has to be searched for; it is enough that each answer is right at its place, and that
//! whatever had ended before something else began stands before it (Herlihy and Wing 1990,
//! "Linearizability").

use std::collections::BTreeMap;

use quorate::clock::{Clock, Moment};

/// A value that is written once only, so that it names who wrote it.
pub type Value = String;

#[derive(Clone, Debug)]
pub enum Asked {
    Put {
        key: String,
        value: Value,
        /// 0: none.
        lease: i64,
    },
    Delete {
        key: String,
    },
    /// If the key holds that (`None`: if it is not there), write these, else read it.
    Swap {
        key: String,
        expect: Option<Value>,
        puts: Vec<(String, Value)>,
    },
    Get {
        key: String,
    },
    All,
    /// What the key held at a revision.
    Past {
        key: String,
        revision: i64,
    },
    Compact {
        revision: i64,
        physical: bool,
    },
    Grant {
        lease: i64,
        ttl: i64,
    },
    KeepAlive {
        lease: i64,
    },
    Revoke {
        lease: i64,
    },
}

impl Asked {
    /// The lease that it is about, or needs; 0: none.
    pub fn lease(&self) -> i64 {
        match self {
            Asked::Put { lease, .. }
            | Asked::Grant { lease, .. }
            | Asked::KeepAlive { lease }
            | Asked::Revoke { lease } => *lease,
            _ => 0,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Told {
    /// The revision of the header; 0 if there was none.
    pub revision: i64,
    /// Of a deletion: whether there was something. Of a swap: whether it was done. Of what asks
    /// for the past: that it was not compacted. Of a lease, and of a put with one: whether it was
    /// there.
    pub done: bool,
    /// What was read, with the revision at which it was written.
    pub found: Vec<(String, Value, i64)>,
}

#[derive(Clone, Debug)]
pub struct Asking {
    pub asked: Asked,
    pub began: u64,
    /// When it began and was over, on the clock.
    pub at: Moment,
    pub until: Moment,
    /// `None`: nobody knows what came of it.
    pub told: Option<(u64, Told)>,
}

/// What one change did to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub key: String,
    /// `None`: deleted.
    pub value: Option<Value>,
}

/// All changes by their revision.
pub type Changes = BTreeMap<i64, Vec<Event>>;

#[derive(Default)]
pub struct History {
    pub all: Vec<Asking>,
    now: u64,
}

/// Where an answer stands: after the change of its revision, or as that change.
fn place(revision: i64, is_write: bool) -> i64 {
    2 * revision + i64::from(!is_write)
}

impl History {
    pub fn now(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    pub fn begin(&mut self, asked: Asked) -> usize {
        let (began, at) = (self.now(), Clock.monotonic());
        self.all.push(Asking { asked, began, at, until: at, told: None });
        self.all.len() - 1
    }

    pub fn end(&mut self, number: usize, told: Told) {
        let now = self.now();
        let it = &mut self.all[number];
        (it.told, it.until) = (Some((now, told)), Clock.monotonic());
    }

    pub fn acknowledged(&self) -> u64 {
        let writes = |it: &Asked| {
            matches!(it, Asked::Put { .. } | Asked::Delete { .. } | Asked::Swap { .. })
        };
        let is_write = |it: &&Asking| it.told.is_some() && writes(&it.asked);
        self.all.iter().filter(is_write).count() as u64
    }

    /// What is wrong.
    pub fn check(&self, changes: &Changes) -> Vec<String> {
        let mut wrong = Vec::new();
        let states = States::new(changes);
        let mut expected = 2;
        for revision in changes.keys() {
            if *revision != expected {
                wrong.push(format!("between revisions {expected} and {revision} nothing happened"));
            }
            expected = revision + 1;
        }
        let writers = self.writers();
        let mut places = Vec::new();
        let mut taken = BTreeMap::new();
        for (revision, events) in changes {
            let values = events.iter().filter_map(|it| it.value.as_ref());
            for value in values {
                let Some(writer) = writers.get(value) else {
                    wrong.push(format!("nobody wrote {value}, found at revision {revision}"));
                    continue;
                };
                let before = taken.insert(*writer, *revision);
                if before.is_some_and(|it| it != *revision) {
                    wrong.push(format!(
                        "{:?} was done twice: {before:?}, {revision}",
                        self.all[*writer].asked
                    ));
                }
            }
        }
        for (number, it) in self.all.iter().enumerate() {
            match &it.told {
                // Without a revision it stands nowhere.
                Some((_, told)) if told.revision == 0 => {}
                Some((ended, told)) => match states.explains(&it.asked, told) {
                    Ok(is_write) => places.push((
                        it.began,
                        Some(*ended),
                        place(told.revision, is_write),
                        number,
                    )),
                    Err(why) => wrong.push(format!("{:?} was told {told:?}: {why}", it.asked)),
                },
                None => {
                    if let Some(revision) = taken.get(&number) {
                        places.push((it.began, None, place(*revision, true), number));
                    }
                }
            }
        }
        wrong.extend(self.in_real_time(places));
        wrong
    }

    /// Who wrote which value.
    fn writers(&self) -> BTreeMap<&Value, usize> {
        let mut writers = BTreeMap::new();
        for (number, it) in self.all.iter().enumerate() {
            match &it.asked {
                Asked::Put { value, .. } => {
                    writers.insert(value, number);
                }
                Asked::Swap { puts, .. } => writers.extend(puts.iter().map(|it| (&it.1, number))),
                _ => {}
            }
        }
        writers
    }

    /// What had ended before something began must not stand behind it.
    fn in_real_time(&self, mut places: Vec<(u64, Option<u64>, i64, usize)>) -> Vec<String> {
        let mut ends: Vec<_> = places.iter().filter_map(|it| Some((it.1?, it.2, it.3))).collect();
        ends.sort_unstable();
        places.sort_unstable();
        let mut ends = ends.into_iter().peekable();
        let mut latest: Option<(i64, usize)> = None;
        let mut wrong = Vec::new();
        for (began, _, place, number) in places {
            while let Some((_, at, by)) = ends.next_if(|it| it.0 < began) {
                latest = latest.max(Some((at, by)));
            }
            if let Some((at, by)) = latest.filter(|it| it.0 > place) {
                let (early, late) = (&self.all[by], &self.all[number]);
                wrong.push(format!(
                    "{:?}, told {:?}, began after {:?}, told {:?}, had ended, and stands before it ({place} < {at})",
                    late.asked, late.told, early.asked, early.told
                ));
            }
        }
        wrong
    }
}

/// What each key held when.
struct States<'a> {
    changes: &'a Changes,
    keys: BTreeMap<&'a str, Vec<(i64, Option<&'a Value>)>>,
}

impl<'a> States<'a> {
    fn new(changes: &'a Changes) -> States<'a> {
        let mut keys: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (revision, events) in changes {
            for it in events {
                keys.entry(&it.key).or_default().push((*revision, it.value.as_ref()));
            }
        }
        States { changes, keys }
    }

    fn at(&self, key: &str, revision: i64) -> Option<(&Value, i64)> {
        let all = self.keys.get(key)?;
        let next = all.partition_point(|it| it.0 <= revision);
        let (at, value) = all.get(next.checked_sub(1)?)?;
        Some(((*value)?, *at))
    }

    fn found(&self, key: &str, revision: i64) -> Vec<(String, Value, i64)> {
        let found = self.at(key, revision);
        found.map(|(value, at)| (key.to_owned(), value.clone(), at)).into_iter().collect()
    }

    /// Whether the answer is right where it stands, and whether it is of a write.
    fn explains(&self, asked: &Asked, told: &Told) -> Result<bool, String> {
        let nothing = Vec::new();
        let events = self.changes.get(&told.revision).unwrap_or(&nothing);
        let before = told.revision - 1;
        let wrote = |puts: &[(String, Option<Value>)]| {
            let expected: Vec<_> = puts
                .iter()
                .map(|(key, value)| Event { key: key.clone(), value: value.clone() })
                .collect();
            if *events == expected { Ok(true) } else { Err(format!("the change is {events:?}")) }
        };
        let read = |expected: Vec<_>| {
            if told.found == expected { Ok(false) } else { Err(format!("there was {expected:?}")) }
        };
        match asked {
            Asked::Put { key, value, .. } => wrote(&[(key.clone(), Some(value.clone()))]),
            Asked::Delete { key } if told.done => {
                if self.at(key, before).is_none() {
                    return Err("there was nothing to delete".to_owned());
                }
                wrote(&[(key.clone(), None)])
            }
            Asked::Delete { key } => match self.at(key, told.revision) {
                None => Ok(false),
                Some(found) => Err(format!("there was {found:?}")),
            },
            Asked::Swap { key, expect, puts } if told.done => {
                let found = self.at(key, before).map(|it| it.0);
                if found != expect.as_ref() {
                    return Err(format!("the key held {found:?}"));
                }
                let puts: Vec<_> =
                    puts.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
                wrote(&puts)
            }
            Asked::Swap { key, expect, .. } => {
                let found = self.at(key, told.revision).map(|it| it.0);
                if found == expect.as_ref() {
                    return Err(format!("the key held {found:?}"));
                }
                read(self.found(key, told.revision))
            }
            Asked::Past { key, revision } => read(self.found(key, *revision)),
            Asked::Compact { revision, .. } if *revision > told.revision => {
                Err("that is to come".to_owned())
            }
            Asked::Compact { .. }
            | Asked::Grant { .. }
            | Asked::KeepAlive { .. }
            | Asked::Revoke { .. } => Ok(false),
            Asked::Get { key } => read(self.found(key, told.revision)),
            Asked::All => {
                let keys = self.keys.keys().filter(|it| it.starts_with('k'));
                read(keys.flat_map(|key| self.found(key, told.revision)).collect())
            }
        }
    }
}
