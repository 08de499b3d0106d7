//! The only things in which a reply of ours may differ from a real etcd's, and those that are not
//! asked, each with its reason.
//!
//! One that is listed and never met fails the test as well.

use std::collections::BTreeMap;

use How::{Level, Unasked};
use quorate::proto::etcdserverpb::request_op::Request;
use quorate::proto::etcdserverpb::{StatusResponse, TxnRequest};

use crate::asks::{Answer, Ask, Reply};
use crate::chance::LEASES;
use crate::side::Side;

/// Major and minor version of the real etcd.
pub type Version = (u32, u32);

struct Difference {
    what: &'static str,
    reason: &'static str,
    /// Of which etcds.
    of: fn(Version) -> bool,
    how: How,
}

enum How {
    /// Levels it in ours and in theirs, in this order; false if it is not there.
    Level(fn(&Ask, &mut Answer, &mut Answer) -> bool),
    /// What comes after would differ as well: puts something else in the place of the request;
    /// false if it need not.
    Unasked(fn(&mut Ask, &Side) -> bool),
}

/// How often each was met.
#[derive(Debug, Default)]
pub struct Met(BTreeMap<&'static str, usize>);

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";

const ALL: fn(Version) -> bool = |_| true;
const BEFORE_3_5: fn(Version) -> bool = |version| version < (3, 5);

const DIFFERENCES: &[Difference] = &[
    Difference {
        what: "remaining TTL",
        reason: "it runs down on each by itself, and one rounds up what the other cuts off: it is \
                 to be what was granted, less no more than what has passed and a second",
        of: ALL,
        how: Level(|_, ours, theirs| {
            let mut met = false;
            for it in [ours, theirs] {
                let Ok(Reply::TimeToLive(reply)) = &mut it.said else { continue };
                // What has passed is cut off to whole seconds as well.
                let least = reply.granted_ttl - i64::try_from(it.age.as_secs()).unwrap() - 2;
                if reply.granted_ttl > 0 && (least..=reply.granted_ttl).contains(&reply.ttl) {
                    met |= reply.ttl < reply.granted_ttl;
                    reply.ttl = reply.granted_ttl;
                }
            }
            met
        }),
    },
    Difference {
        what: "lease IDs that the server draws",
        reason: "they are random",
        of: ALL,
        how: Level(|ask, ours, theirs| {
            let (Ask::Grant(asked), Ok(Reply::Grant(ours)), Ok(Reply::Grant(theirs))) =
                (ask, &mut ours.said, &mut theirs.said)
            else {
                return false;
            };
            let drawn = asked.id == 0 && ours.id > 0 && theirs.id > 0;
            if drawn {
                theirs.id = ours.id;
            }
            drawn
        }),
    },
    Difference {
        what: "leases that were drawn or are short",
        reason: "in a list the drawn ones have other IDs, and the shortest may have run out on one \
                 of the two only",
        of: ALL,
        how: Level(|_, ours, theirs| {
            let mut met = false;
            for it in [ours, theirs] {
                if let Ok(Reply::Leases(it)) = &mut it.said {
                    let before = it.leases.len();
                    it.leases.retain(|it| LEASES.contains(&it.id));
                    met |= it.leases.len() < before;
                }
            }
            met
        }),
    },
    Difference {
        what: "order of the leases in a list",
        reason: "etcd has them by when they end, which it has to keep for all; ours by ID",
        of: ALL,
        how: Level(|_, ours, theirs| {
            let (Ok(Reply::Leases(ours)), Ok(Reply::Leases(theirs))) =
                (&mut ours.said, &mut theirs.said)
            else {
                return false;
            };
            let met = ours.leases.len() > 1;
            theirs.leases.sort_by_key(|it| it.id);
            met
        }),
    },
    Difference {
        what: "sort options that there are not",
        reason: "etcd 3.4 takes them for none; later ones refuse them as ours does",
        of: BEFORE_3_5,
        how: Level(|_, ours, theirs| {
            let text = "etcdserver: invalid sort option";
            let is_refused = matches!(&ours.said, Err(it) if it.text == text);
            let met = is_refused && theirs.said != ours.said;
            if met {
                theirs.said.clone_from(&ours.said);
            }
            met
        }),
    },
    Difference {
        what: "fields that came later",
        reason: "etcd 3.4 has no hash_revision, storage_version, quota and downgrade in its replies",
        of: BEFORE_3_5,
        how: Level(|_, ours, theirs| match (&mut ours.said, &mut theirs.said) {
            (Ok(Reply::Status(ours)), Ok(Reply::Status(theirs))) => {
                theirs.storage_version.clone_from(&ours.storage_version);
                theirs.db_size_quota = ours.db_size_quota;
                theirs.downgrade_info.clone_from(&ours.downgrade_info);
                true
            }
            (Ok(Reply::HashKv(ours)), Ok(Reply::HashKv(theirs))) => {
                theirs.hash_revision = ours.hash_revision;
                true
            }
            _ => false,
        }),
    },
    Difference {
        what: "versions",
        reason: "ours says 3.7, whose API it has",
        of: ALL,
        how: Level(|_, ours, theirs| {
            let (Ok(Reply::Status(ours)), Ok(Reply::Status(theirs))) =
                (&mut ours.said, &mut theirs.said)
            else {
                return false;
            };
            let is_later = ours.version.starts_with("3.7.") && ours.storage_version == "3.7.0";
            theirs.version.clone_from(&ours.version);
            theirs.storage_version.clone_from(&ours.storage_version);
            is_later
        }),
    },
    Difference {
        what: "sizes and log indexes",
        reason: "the files are others, and so is what the log has beside what was asked for",
        of: ALL,
        how: Level(|_, ours, theirs| {
            let (Ok(Reply::Status(ours)), Ok(Reply::Status(theirs))) =
                (&mut ours.said, &mut theirs.said)
            else {
                return false;
            };
            let is_right = |it: &StatusResponse| {
                (1..=it.db_size).contains(&it.db_size_in_use)
                    && (1..=it.raft_index).contains(&it.raft_applied_index)
            };
            let are_right = is_right(ours) && is_right(theirs);
            (theirs.db_size, theirs.db_size_in_use) = (ours.db_size, ours.db_size_in_use);
            theirs.raft_index = ours.raft_index;
            theirs.raft_applied_index = ours.raft_applied_index;
            are_right
        }),
    },
    Difference {
        what: "hash of the store",
        reason: "it is one of the bytes on the disk, which are others; it serves to compare members \
                 of one cluster",
        of: ALL,
        how: Level(|_, ours, theirs| {
            let (Ok(Reply::HashKv(ours)), Ok(Reply::HashKv(theirs))) =
                (&mut ours.said, &mut theirs.said)
            else {
                return false;
            };
            theirs.hash = ours.hash;
            true
        }),
    },
    Difference {
        what: "hash at a compacted revision",
        reason: "etcd 3.4 refuses it even at the last one; later ones give, at each at which they \
                 once compacted, the hash that they kept of it",
        of: ALL,
        how: Level(|ask, ours, theirs| {
            let Ask::HashKv(asked) = ask else { return false };
            let met = match (&ours.said, &theirs.said) {
                (Ok(Reply::HashKv(ours)), Ok(Reply::HashKv(theirs))) => {
                    asked.revision == ours.compact_revision
                        && theirs.compact_revision < ours.compact_revision
                }
                (Ok(Reply::HashKv(ours)), Err(theirs)) => {
                    asked.revision == ours.compact_revision && theirs.text == COMPACTED
                }
                (Err(ours), Ok(Reply::HashKv(theirs))) => {
                    ours.text == COMPACTED && theirs.hash_revision == asked.revision
                }
                _ => false,
            };
            if met {
                theirs.said.clone_from(&ours.said);
            }
            met
        }),
    },
    Difference {
        what: "headers that are not there",
        reason: "etcd gives none with some replies of maintenance, and the fewer the later; clients \
                 that look for one find it in ours",
        of: ALL,
        how: Level(|ask, ours, theirs| {
            let (Ok(ours), Ok(theirs)) = (&ours.said, &mut theirs.said) else { return false };
            let is_of_these =
                matches!(ask, Ask::Alarm(_) | Ask::Defragment(_) | Ask::MoveLeader(_));
            let met = is_of_these && theirs.header().is_none();
            if met {
                match (ours, theirs) {
                    (Reply::Alarm(ours), Reply::Alarm(theirs)) => theirs.header = ours.header,
                    (Reply::Defragment(ours), Reply::Defragment(theirs)) => {
                        theirs.header = ours.header;
                    }
                    (Reply::MoveLeader(ours), Reply::MoveLeader(theirs)) => {
                        theirs.header = ours.header;
                    }
                    _ => {}
                }
            }
            met
        }),
    },
    Difference {
        what: "whether auth is on",
        reason: "etcd 3.4 cannot be asked; ours answers as later ones do",
        of: BEFORE_3_5,
        how: Level(|ask, ours, theirs| {
            let met = matches!(ask, Ask::AuthStatus(_))
                && matches!(&theirs.said, Err(it) if it.code == tonic::Code::Unimplemented);
            if met {
                theirs.said.clone_from(&ours.said);
            }
            met
        }),
    },
    Difference {
        what: "order of the keys of a lease",
        reason: "etcd gives them in the order of a Go map, which is none; ours in theirs",
        of: ALL,
        how: Level(|_, ours, theirs| {
            let (Ok(Reply::TimeToLive(ours)), Ok(Reply::TimeToLive(theirs))) =
                (&mut ours.said, &mut theirs.said)
            else {
                return false;
            };
            let met = ours.keys.len() > 1;
            theirs.keys.sort();
            met
        }),
    },
    Difference {
        what: "which of the faults of a transaction is told",
        reason: "up to etcd 3.5 the puts are looked at before the ranges, as in ours; later each in \
                 its place. Either way nothing is done",
        of: |version| version >= (3, 6),
        how: Level(|ask, ours, theirs| {
            let (Ask::Txn(_), Err(it), Err(other)) = (ask, &ours.said, &theirs.said) else {
                return false;
            };
            let of_a_put = ["requested lease not found", "key not found"];
            let of_a_range = other.text == COMPACTED || other.text == FUTURE;
            let met = of_a_range && of_a_put.iter().any(|text| it.text.ends_with(text));
            if met {
                theirs.said.clone_from(&ours.said);
            }
            met
        }),
    },
    Difference {
        what: "peer URLs that are none in an update",
        reason: "etcd takes anything here, and then has a member that nobody can reach; ours \
                 refuses them before it looks for the member",
        of: ALL,
        how: Level(|ask, ours, theirs| {
            let text = "etcdserver: given member URLs are invalid";
            let is_refused = matches!(&ours.said, Err(it) if it.text == text);
            let met = matches!(ask, Ask::MemberUpdate(_)) && is_refused && theirs.said != ours.said;
            if met {
                theirs.said.clone_from(&ours.said);
            }
            met
        }),
    },
    Difference {
        what: "sort targets that there are not",
        reason: "the process of etcd 3.4 ends of them; later ones refuse them as ours does",
        of: BEFORE_3_5,
        how: Unasked(|ask, _| match ask {
            Ask::Range(it) if it.sort_target > 4 => {
                it.sort_target = 0;
                true
            }
            _ => false,
        }),
    },
    Difference {
        what: "watches from before the first revision",
        reason: "etcd 3.4 takes a negative start for the present; later ones refuse it as ours does",
        of: BEFORE_3_5,
        how: Unasked(|ask, _| match ask {
            Ask::Watch(it) if it.start_revision < 0 => {
                it.start_revision = 0;
                true
            }
            _ => false,
        }),
    },
    Difference {
        what: "compaction at 0 of a store that was never compacted",
        reason: "etcd does it, and then is a store that was compacted at 0; ours knows no such \
                 state, and refuses it as a second one is refused by both",
        of: ALL,
        how: Unasked(|ask, theirs| match ask {
            Ask::Compact(it) if it.revision == 0 && theirs.compacted == 0 => {
                it.revision = -1;
                true
            }
            _ => false,
        }),
    },
    Difference {
        what: "compaction at a revision that deleted a key and wrote it again",
        reason: "etcd 3.6 keeps the deletion and loses the key, and its process ends of the next \
                 read of it; ours keeps the key",
        of: |version| version >= (3, 5),
        how: Unasked(|ask, theirs| match ask {
            Ask::Compact(it) if theirs.watches.has_rewritten(it.revision) => {
                while theirs.watches.has_rewritten(it.revision) {
                    it.revision -= 1;
                }
                true
            }
            _ => false,
        }),
    },
    Difference {
        what: "watches from the compacted revision",
        reason: "etcd 3.4 drops a deletion that was made in it; later ones keep it as ours does",
        of: BEFORE_3_5,
        how: Unasked(|ask, theirs| match ask {
            Ask::Watch(it) if it.start_revision > 0 && it.start_revision == theirs.compacted => {
                it.start_revision += 1;
                true
            }
            _ => false,
        }),
    },
    Difference {
        what: "watches from a past in which nothing happened to them",
        reason: "etcd looks for the past at intervals, and nobody can tell when it has: what is \
                 done meanwhile would be heard sooner or later, or be compacted",
        of: ALL,
        how: Unasked(|ask, theirs| match ask {
            Ask::Watch(it) => {
                let start = theirs.start_of(it);
                std::mem::replace(&mut it.start_revision, start) != start
            }
            _ => false,
        }),
    },
    Difference {
        what: "progress while a watch is yet to begin",
        reason: "etcd 3.6 tells none before the store is where the last watch is to begin; ours, \
                 as etcd 3.4, tells how far the store is",
        of: |version| version >= (3, 5),
        how: Unasked(|ask, theirs| {
            let met = *ask == Ask::Progress && theirs.watches.are_ahead(theirs.revision);
            if met {
                *ask = Ask::Cancel(i64::MAX);
            }
            met
        }),
    },
    Difference {
        what: "watches whose past is compacted, after their end",
        reason: "etcd keeps them in its books: it does not tell the progress of their stream any \
                 more (3.5 and later), takes their IDs for used, and answers who cancels them. For \
                 ours they are gone, as for the client that was told",
        of: ALL,
        how: Unasked(|ask, theirs| match ask {
            Ask::Progress if theirs.watches.compacted().next().is_some() => {
                *ask = Ask::Cancel(i64::MAX);
                true
            }
            // One that is drawn may be one of theirs.
            Ask::Watch(it) => {
                let are_there = theirs.watches.compacted().next().is_some();
                let is_theirs = theirs.watches.compacted().any(|id| id == it.watch_id);
                let met = is_theirs || are_there && it.watch_id == 0;
                if met {
                    it.watch_id = theirs.watches.free_id();
                }
                met
            }
            Ask::Cancel(it) if theirs.watches.compacted().any(|id| id == *it) => {
                *it = i64::MAX;
                true
            }
            _ => false,
        }),
    },
    Difference {
        what: "transactions that delete, and put with what is kept",
        reason: "etcd looks for what a put keeps before the first operation; if it is deleted by \
                 then, its process ends. Ours undoes the transaction",
        of: ALL,
        how: Unasked(|ask, _| match ask {
            Ask::Txn(it) => deletes(it) && bring(it),
            _ => false,
        }),
    },
];

fn operations(it: &mut TxnRequest) -> impl Iterator<Item = &mut Request> {
    it.success.iter_mut().chain(&mut it.failure).filter_map(|op| op.request.as_mut())
}

fn deletes(it: &mut TxnRequest) -> bool {
    operations(it).any(|op| match op {
        Request::RequestDeleteRange(_) => true,
        Request::RequestTxn(it) => deletes(it),
        _ => false,
    })
}

/// Has every put bring what it would keep; false if none would.
fn bring(it: &mut TxnRequest) -> bool {
    operations(it).fold(false, |kept, op| match op {
        Request::RequestPut(it) => {
            let keeps = it.ignore_value || it.ignore_lease;
            (it.ignore_value, it.ignore_lease) = (false, false);
            kept | keeps
        }
        Request::RequestTxn(it) => bring(it) | kept,
        _ => kept,
    })
}

impl Met {
    /// The request, or what can be asked in its place.
    pub fn askable(&mut self, mut ask: Ask, theirs: &Side) -> Ask {
        for it in DIFFERENCES.iter().filter(|it| (it.of)(theirs.version)) {
            if let Unasked(replace) = it.how
                && replace(&mut ask, theirs)
            {
                *self.0.entry(it.what).or_default() += 1;
            }
        }
        ask
    }

    /// Levels what is allowed to differ.
    pub fn level(&mut self, version: Version, ask: &Ask, ours: &mut Answer, theirs: &mut Answer) {
        for it in DIFFERENCES.iter().filter(|it| (it.of)(version)) {
            if let Level(level) = it.how
                && level(ask, ours, theirs)
            {
                *self.0.entry(it.what).or_default() += 1;
            }
        }
    }

    /// Those of this etcd that were never met.
    pub fn missing(&self, version: Version) -> Vec<(&str, &str)> {
        let of = DIFFERENCES.iter().filter(|it| (it.of)(version) && !self.0.contains_key(it.what));
        of.map(|it| (it.what, it.reason)).collect()
    }
}
