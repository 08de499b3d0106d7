//! What the quota and the alarms let through.

use quorate::node::apply::{Operation, Response};
use quorate::node::fault::Fault;
use quorate::proto::etcdserverpb::request_op::Request;
use quorate::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use crate::subject::Subject;

fn put(key: &'static str, size: usize) -> Operation {
    let value = vec![b'x'; size].into();
    Operation::Put(PutRequest { key: key.into(), value, ..PutRequest::default() })
}

fn delete(key: &'static str) -> Operation {
    Operation::DeleteRange(DeleteRangeRequest { key: key.into(), ..Default::default() })
}

fn grant(id: i64) -> Operation {
    Operation::LeaseGrant(LeaseGrantRequest { id, ttl: 60 })
}

fn txn(failure: Vec<Request>) -> TxnRequest {
    let failure = failure.into_iter().map(|it| RequestOp { request: Some(it) }).collect();
    TxnRequest { failure, ..TxnRequest::default() }
}

fn alarm(action: i32, member_id: u64, alarm: AlarmType) -> Operation {
    Operation::Alarm(AlarmRequest { action, member_id, alarm: alarm.into() })
}

const RAISE: i32 = 1;
const DROP: i32 = 2;

#[test]
fn the_put_that_crosses_the_quota_is_done_and_answered_with_no_space() {
    let mut full = Subject::with_quota(4000);
    let mut free = Subject::new();
    let mut crossed = 0;
    for n in 0..8 {
        let room = full.state.has_room_for(&put("k", 700));
        let (here, there) = (full.apply(&put("k", 700)), free.apply(&put("k", 700)));
        assert_eq!(here.result.is_ok(), room, "put {n}");
        assert_eq!(here.changes.len(), 1, "put {n} is done in any case");
        if let Err(fault) = here.result {
            assert_eq!(fault, Fault::NoSpace);
            crossed += 1;
        }
        there.result.unwrap();
    }
    assert!(crossed > 1 && crossed < 8, "{crossed}");
    // The quota is each member's own business: it must not make them differ.
    assert_eq!(full.state.metas(), free.state.metas());
    assert_eq!(full.state.kv.hash(0), free.state.kv.hash(0));
    // What takes no room is done and answered as ever.
    full.apply(&delete("k")).result.unwrap();
    let revision = full.state.revision();
    let compact = CompactionRequest { revision, physical: false };
    full.apply(&Operation::Compact(compact)).result.unwrap();
    full.apply(&put("k", 700)).result.unwrap();
}

#[test]
fn no_space_refuses_what_grows_until_the_last_alarm_is_dropped() {
    let mut it = Subject::new();
    it.apply(&grant(1)).result.unwrap();
    it.apply(&put("a", 1)).result.unwrap();
    for member in [8, 7] {
        it.apply(&alarm(RAISE, member, AlarmType::Nospace)).result.unwrap();
    }
    let on = |member_id| AlarmMember { member_id, alarm: AlarmType::Nospace.into() };
    assert_eq!(it.state.alarms(AlarmType::None), [on(7), on(8)]);
    assert_eq!(it.state.alarms(AlarmType::Corrupt), []);

    let inner = PutRequest { key: "n".into(), ..PutRequest::default() };
    let nested = txn(vec![Request::RequestTxn(txn(vec![Request::RequestPut(inner)]))]);
    let read = RangeRequest { key: "a".into(), ..RangeRequest::default() };
    for refused in [put("b", 1), grant(2), Operation::Txn(nested)] {
        let applied = it.apply(&refused);
        assert_eq!(applied.result, Err(Fault::NoSpace), "{refused:?}");
        assert!(applied.changes.is_empty() && applied.lease.is_none());
    }
    let remove = DeleteRangeRequest { key: "a".into(), ..DeleteRangeRequest::default() };
    let small = txn(vec![Request::RequestRange(read), Request::RequestDeleteRange(remove)]);
    let revoke = Operation::LeaseRevoke(LeaseRevokeRequest { id: 1 });
    for done in [Operation::Txn(small), delete("a"), revoke] {
        it.apply(&done).result.unwrap();
    }
    let compact = CompactionRequest { revision: 2, physical: false };
    it.apply(&Operation::Compact(compact)).result.unwrap();

    it.apply(&alarm(DROP, 7, AlarmType::Nospace)).result.unwrap();
    assert_eq!(it.apply(&put("b", 1)).result, Err(Fault::NoSpace), "one is still on");
    it.reopen();
    assert_eq!(it.apply(&put("b", 1)).result, Err(Fault::NoSpace), "after a restart too");
    it.apply(&alarm(DROP, 8, AlarmType::Nospace)).result.unwrap();
    it.apply(&put("b", 1)).result.unwrap();
    let Ok(Response::Alarm(none)) = it.apply(&alarm(DROP, 8, AlarmType::Nospace)).result else {
        panic!("dropping what is not on is no fault");
    };
    assert_eq!(none.alarms, []);
}

#[test]
fn corrupt_refuses_every_change_but_the_end_of_the_alarm() {
    let mut it = Subject::new();
    it.apply(&grant(1)).result.unwrap();
    it.apply(&put("a", 1)).result.unwrap();
    it.apply(&alarm(RAISE, 9, AlarmType::Corrupt)).result.unwrap();
    let compact = Operation::Compact(CompactionRequest { revision: 2, physical: false });
    let revoke = Operation::LeaseRevoke(LeaseRevokeRequest { id: 1 });
    let empty = Operation::Txn(TxnRequest::default());
    for refused in [put("a", 1), delete("a"), compact, grant(2), revoke, empty] {
        assert_eq!(it.apply(&refused).result, Err(Fault::Corrupt), "{refused:?}");
    }
    let read = RangeRequest { key: "a".into(), ..RangeRequest::default() };
    assert_eq!(it.state.range(&read).unwrap().count, 1, "it can still be read");
    it.apply(&alarm(DROP, 9, AlarmType::Corrupt)).result.unwrap();
    it.apply(&put("a", 1)).result.unwrap();
}
