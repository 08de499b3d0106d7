//! What is kept of a state, what it is opened from, and what stops it.

use std::sync::Arc;

use bytes::Bytes;
use quorate::cluster::{Incarnation, MemberId};
use quorate::node::apply::{
    Command, Halt, LeaseChange, NO_QUOTA, OpenError, Operation, Progress, Published, Response,
    Seat, State, Ticket, read_snapshot_meta,
};
use quorate::node::checkpoint::{Batch, Checkpoint, Sled};
use quorate::node::fault::Fault;
use quorate::proto::etcdserverpb::{
    AlarmRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
};

use crate::ops::{Op, corners};
use crate::subject::Subject;

fn seat(id: u64, voter: bool, wants_vote: bool) -> Seat {
    let peer_urls = vec![format!("http://127.0.0.{id}:2380")];
    Seat { id: MemberId(id), peer_urls, voter, wants_vote }
}

fn publish(member: u64, incarnation: u64) -> Operation {
    let client_urls = vec![format!("http://127.0.0.{member}:2379")];
    Operation::Publish(Published { member, name: format!("m{member}"), client_urls, incarnation })
}

fn command(operation: &Operation) -> Command {
    Command::new(Ticket::default(), operation)
}

/// A state that has something of everything.
fn rich() -> Subject {
    let mut it = Subject::new();
    for id in [1, 2, -3] {
        it.apply(&Operation::LeaseGrant(LeaseGrantRequest { id, ttl: 60 })).result.unwrap();
    }
    for (key, lease) in [("z", 1), ("a", 1), ("m", 2), ("n", 0)] {
        let put = PutRequest { key: key.into(), lease, ..PutRequest::default() };
        it.apply(&Operation::Put(put)).result.unwrap();
    }
    let nospace = AlarmRequest { action: 1, member_id: 1, alarm: 1 };
    it.apply(&Operation::Alarm(nospace)).result.unwrap();
    it
}

#[test]
fn a_snapshots_head_opens_as_the_same_state() {
    let mut it = rich();
    it.checkpoint(usize::MAX);
    let index = it.state.applied().unwrap().index;
    it.state
        .apply_membership(index + 1, 3, vec![seat(1, true, false), seat(2, false, true)])
        .unwrap();
    it.state.apply(index + 2, 3, &command(&publish(1, 77))).unwrap();
    it.state.apply_membership(index + 3, 3, vec![seat(1, true, false)]).unwrap();
    it.state.apply_blank(index + 4, 4).unwrap();

    let head = it.state.snapshot_meta();
    let opened = State::open(it.disk.clone(), read_snapshot_meta(head.clone()).unwrap(), NO_QUOTA);
    let opened = opened.unwrap();
    assert_eq!(opened.metas(), it.state.metas());
    assert_eq!(opened.applied(), it.state.applied());
    assert!(opened.leases().eq(it.state.leases()));
    assert!(opened.members().eq(it.state.members()));
    assert!(opened.is_removed(MemberId(2)) && !opened.is_removed(MemberId(1)));
    let keys: Vec<_> = opened.lease(1).unwrap().keys().cloned().collect();
    assert_eq!(keys, ["a", "z"]);

    let cut = read_snapshot_meta(head.slice(..head.len() - 1));
    assert!(matches!(cut, Err(OpenError::Damaged { .. })), "{cut:?}");
}

/// A state, and the real thing to keep it in.
fn write(state: &mut State, sled: &Sled) {
    let Progress { records, removed, metas, applied } = state.progress(10);
    let applied = applied.map_or(0, |it| it.index);
    let last = records.last().map_or(0, |it| it.revision.main);
    sled.write(&Batch { puts: records, removes: removed, meta: metas, applied }).unwrap();
    state.kv.written_up_to(last, 0);
}

#[test]
fn a_state_kept_in_sled_is_the_same_after_each_restart() {
    let home = tempfile::tempdir().unwrap();
    let mut sled = Arc::new(Sled::create(home.path()).unwrap());
    let mut state = State::new(sled.clone(), NO_QUOTA);
    let mut other = Subject::new();
    let lease = Operation::LeaseGrant(LeaseGrantRequest { id: 1, ttl: 60 });
    let put = |key, lease| {
        let key = Bytes::from_static(key);
        Operation::Put(PutRequest { key, lease, ..PutRequest::default() })
    };
    let mut log = vec![lease, put(b"a:b", 1), put(b"\0", 0), put(b"\xff", 1), put(b"x", 1)];
    log.extend(corners().into_iter().filter_map(|it| match it {
        Op::Do(it) => Some(it),
        Op::Range(_) => None,
    }));
    for (index, operation) in (1..).zip(&log) {
        state.apply(index, 1, &command(operation)).unwrap();
        other.apply(operation);
        if index % 3 == 0 {
            write(&mut state, &sled);
        }
        if index % 7 == 0 {
            write(&mut state, &sled);
            sled.flush().unwrap();
            drop((state, sled));
            sled = Arc::new(Sled::open(home.path()).unwrap());
            let metas = sled.metas(b"").unwrap();
            state = State::open(sled.clone(), metas, NO_QUOTA).unwrap();
        }
        assert_eq!(state.metas(), other.state.metas(), "entry {index}");
        assert_eq!(state.kv.hash(0), other.state.kv.hash(0), "entry {index}");
        assert_eq!(state.kv.bytes(), other.state.kv.bytes(), "entry {index}");
        assert!(state.leases().eq(other.state.leases()), "entry {index}");
    }
}

#[test]
fn a_checkpoint_is_told_only_what_changed() {
    let mut it = rich();
    let names = |it: &mut Subject| {
        let metas = it.state.progress(10).metas.into_iter();
        metas
            .map(|(name, blob)| (name.escape_ascii().to_string(), blob.is_some()))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&mut it).len(), 6);
    assert_eq!(names(&mut it), [("apply/state".to_owned(), true)]);
    it.apply(&Operation::LeaseRevoke(LeaseRevokeRequest { id: -3 })).result.unwrap();
    let gone = "apply/lease/".to_owned() + &"\\xff".repeat(7) + "\\xfd";
    assert_eq!(names(&mut it), [("apply/state".to_owned(), true), (gone, false)]);
}

#[test]
fn what_was_kept_and_cannot_be_understood_is_said() {
    let mut it = rich();
    it.checkpoint(usize::MAX);
    let metas = it.state.metas();
    let open = |metas: Vec<(Bytes, Bytes)>| State::open(it.disk.clone(), metas, NO_QUOTA).err();

    assert!(open(metas.clone()).is_none());
    let other = (Bytes::from("raft/vote"), Bytes::from("\u{ff}"));
    assert!(open([metas.clone(), vec![other]].concat()).is_none(), "others' blobs are theirs");
    for n in 0..metas.len() {
        let mut broken = metas.clone();
        broken[n].1 = Bytes::from_static(b"\xff\xff\xff");
        let name = broken[n].0.escape_ascii().to_string();
        let error = open(broken).expect("broken");
        assert!(matches!(&error, OpenError::Damaged { name: it, .. } if *it == name), "{error}");
    }
    assert!(matches!(open(metas[1..].to_vec()), Some(OpenError::Damaged { .. })), "no state");
    let mut short = metas.clone();
    short[3].0 = Bytes::from_static(b"apply/lease/1");
    assert!(matches!(open(short), Some(OpenError::Damaged { .. })), "no ID");
    let mut newer = metas.clone();
    newer[0].1 = Bytes::from_static(&[8, 2]);
    assert!(matches!(open(newer), Some(OpenError::Newer { found: 2 })));
}

#[test]
fn an_entry_out_of_order_or_unreadable_stops_it_and_changes_nothing() {
    let mut it = rich();
    let before = it.state.metas();
    let last = it.state.applied().unwrap().index;
    let put = command(&Operation::Put(PutRequest { key: "k".into(), ..PutRequest::default() }));
    for index in [last, last + 2, 0] {
        let halt = it.state.apply(index, 1, &put).unwrap_err();
        assert!(matches!(halt, Halt::Order { applied, .. } if applied == last), "{halt}");
        assert!(it.state.apply_blank(index, 1).is_err());
        assert!(it.state.apply_membership(index, 1, Vec::new()).is_err());
    }
    for garbage in [&[99; 17][..], &[1; 40]] {
        let garbage = Command::from_bytes(Bytes::from_static(garbage)).unwrap();
        let halt = it.state.apply(last + 1, 1, &garbage).unwrap_err();
        assert!(matches!(halt, Halt::Entry { .. }), "{halt}");
    }
    assert_eq!(it.state.metas(), before);
    it.state.apply(last + 1, 1, &put).unwrap();
}

#[test]
fn a_voter_to_be_is_shown_unstarted_and_a_strangers_word_is_not_taken() {
    let mut state = Subject::new().state;
    state.apply_membership(0, 1, vec![seat(1, true, false)]).unwrap();
    let both = vec![seat(2, false, true), seat(1, true, false), seat(3, false, false)];
    state.apply_membership(1, 1, both).unwrap();
    let say = |state: &mut State, it: Operation| {
        let next = state.applied().unwrap().index + 1;
        state.apply(next, 1, &command(&it)).unwrap().result
    };
    for id in [1, 2, 3] {
        assert_eq!(say(&mut state, publish(id, id * 10)), Ok(Response::Published));
    }
    assert_eq!(say(&mut state, publish(4, 1)), Err(Fault::MemberNotFound));
    assert_eq!(say(&mut state, publish(2, 21)), Err(Fault::MemberExists), "other data, same ID");
    assert_eq!(state.member(MemberId(2)).unwrap().incarnation, Some(Incarnation(20)));

    let list = state.member_list();
    let shown: Vec<_> = list.iter().map(|it| (it.id, it.name.as_str(), it.is_learner)).collect();
    assert_eq!(shown, [(1, "m1", false), (2, "", false), (3, "m3", true)]);
    assert!(list[1].client_urls.is_empty());

    let promoted = vec![seat(1, true, false), seat(2, true, true)];
    let next = state.applied().unwrap().index + 1;
    state.apply_membership(next, 2, promoted).unwrap();
    let list = state.member_list();
    assert_eq!((list.len(), list[1].name.as_str()), (2, "m2"));
    assert!(state.removed().eq([MemberId(3)]));
    assert_eq!(say(&mut state, publish(3, 30)), Err(Fault::MemberNotFound));
}

#[test]
fn an_ended_lease_takes_its_keys_along_in_one_revision() {
    let mut it = rich();
    let nospace_off = AlarmRequest { action: 2, member_id: 1, alarm: 1 };
    it.apply(&Operation::Alarm(nospace_off)).result.unwrap();
    // Bound to another lease meanwhile: not this one's any more.
    let moved = PutRequest { key: "z".into(), lease: 2, ..PutRequest::default() };
    it.apply(&Operation::Put(moved)).result.unwrap();
    let kept = PutRequest { key: "z".into(), ignore_lease: true, ..PutRequest::default() };
    it.apply(&Operation::Put(kept)).result.unwrap();
    let before = it.state.revision();
    let ended = it.apply(&Operation::LeaseRevoke(LeaseRevokeRequest { id: 2 }));
    let Ok(Response::LeaseRevoke(answer)) = ended.result else { panic!("{ended:?}") };
    assert_eq!(answer.header.unwrap().revision, before + 1);
    assert_eq!(ended.lease, Some(LeaseChange::Revoked { id: 2 }));
    let keys: Vec<_> = ended.changes.iter().map(|it| it.record.kv.key.clone()).collect();
    assert_eq!(keys, ["m", "z"]);
    assert!(ended.changes.iter().all(|it| it.record.tombstone));
    assert_eq!(it.state.lease(1).unwrap().keys().collect::<Vec<_>>(), ["a"]);
    // A lease without keys moves no revision.
    let ended = it.apply(&Operation::LeaseRevoke(LeaseRevokeRequest { id: -3 }));
    assert!(ended.result.is_ok() && ended.changes.is_empty());
    assert_eq!(it.state.revision(), before + 1);
}

#[test]
fn a_store_that_fails_stops_it_before_anything_of_the_entry_is_done() {
    use quorate::proto::etcdserverpb::request_op::Request;
    use quorate::proto::etcdserverpb::{RangeRequest, RequestOp, TxnRequest};
    use std::sync::atomic::Ordering;

    let mut it = rich();
    let nospace_off = AlarmRequest { action: 2, member_id: 1, alarm: 1 };
    it.apply(&Operation::Alarm(nospace_off)).result.unwrap();
    it.checkpoint(usize::MAX);
    let before = it.state.metas();
    let next = it.state.applied().unwrap().index + 1;

    let new = PutRequest { key: "new".into(), ..PutRequest::default() };
    let old = PutRequest { key: "a".into(), prev_kv: true, lease: 2, ..PutRequest::default() };
    let read = RangeRequest { key: "a".into(), ..RangeRequest::default() };
    let puts = [new, old.clone()].map(|it| RequestOp { request: Some(Request::RequestPut(it)) });
    let txn = Operation::Txn(TxnRequest { success: puts.into(), ..TxnRequest::default() });
    it.disk.broken.store(true, Ordering::Relaxed);
    for operation in [Operation::Put(old), txn.clone()] {
        let halt = it.state.apply(next, 1, &command(&operation)).unwrap_err();
        assert!(matches!(halt, Halt::Store { index, .. } if index == next), "{halt}");
    }
    assert_eq!(it.state.range(&read), Err(Fault::Storage));
    let failed = State::open(it.disk.clone(), before.clone(), NO_QUOTA);
    assert!(matches!(failed, Err(OpenError::Store(_))));

    it.disk.broken.store(false, Ordering::Relaxed);
    assert_eq!(it.state.metas(), before);
    assert_eq!(it.state.lease(1).unwrap().keys().collect::<Vec<_>>(), ["a", "z"]);
    let applied = it.state.apply(next, 1, &command(&txn)).unwrap();
    assert_eq!(applied.changes.len(), 2);
    assert_eq!(it.state.lease(2).unwrap().keys().collect::<Vec<_>>(), ["a", "m"]);
}
