//! etcd's semantics, written down as naively as possible: all events ever, and every look at the
//! keys is made by going through them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate::node::apply::{Operation, Response};
use quorate::node::fault::Fault;
use quorate::proto::etcdserverpb::compare::TargetUnion;
use quorate::proto::etcdserverpb::request_op::Request;
use quorate::proto::etcdserverpb::response_op::Response as Inner;
use quorate::proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, CompactionResponse, Compare, DeleteRangeRequest,
    DeleteRangeResponse, LeaseGrantResponse, LeaseRevokeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use quorate::proto::mvccpb::KeyValue;

use crate::ops::{MAX_TXN_OPS, Op};
use crate::subject::Answer;

/// A key after one of its changes; a deleted one has version 0.
type Event = KeyValue;

/// The whole store.
#[derive(Clone)]
pub struct Model {
    pub events: Vec<Event>,
    pub revision: i64,
    pub compacted: i64,
    pub leases: BTreeMap<i64, i64>,
    pub alarms: BTreeSet<(i32, u64)>,
    /// In the midst of a revision.
    writing: bool,
}

const NOSPACE: i32 = 1;
const CORRUPT: i32 = 2;

#[expect(clippy::unnecessary_wraps, reason = "every field that takes it is optional")]
fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap()
}

fn is_in(key: &[u8], from: &[u8], end: &[u8]) -> bool {
    match end {
        b"" => key == from,
        b"\0" => key >= from,
        _ => key >= from && key < end,
    }
}

impl Model {
    pub fn new() -> Model {
        Model {
            events: Vec::new(),
            revision: 1,
            compacted: -1,
            leases: BTreeMap::new(),
            alarms: BTreeSet::new(),
            writing: false,
        }
    }

    pub fn ask(&mut self, op: &Op) -> Result<Answer, Fault> {
        match op {
            Op::Range(it) => {
                check_range(it)?;
                self.range(it).map(Answer::Range)
            }
            Op::Do(it) => {
                let mut after = self.clone();
                let answer = after.act(it)?;
                *self = after;
                Ok(Answer::Done(answer))
            }
        }
    }

    fn act(&mut self, operation: &Operation) -> Result<Response, Fault> {
        match operation {
            Operation::Put(it) => check_put(it)?,
            Operation::DeleteRange(it) if it.key.is_empty() => return Err(Fault::EmptyKey),
            Operation::Txn(it) => check_txn(it)?,
            Operation::LeaseGrant(it) if it.ttl > 9_000_000_000 => {
                return Err(Fault::LeaseTtlTooLarge);
            }
            _ => {}
        }
        let only_reads = matches!(operation, Operation::Txn(it) if only_ranges(it));
        let alarm = matches!(operation, Operation::Alarm(_));
        let on = |kind| !alarm && !only_reads && self.alarms.iter().any(|it| it.0 == kind);
        if on(CORRUPT) {
            return Err(Fault::Corrupt);
        }
        let grows = match operation {
            Operation::Put(_) | Operation::LeaseGrant(_) => true,
            Operation::Txn(it) => has_put(it),
            _ => false,
        };
        if grows && on(NOSPACE) {
            return Err(Fault::NoSpace);
        }
        let response = match operation {
            Operation::Put(it) => {
                self.find_lease(it.lease)?;
                Response::Put(self.put(it)?)
            }
            Operation::DeleteRange(it) => Response::DeleteRange(self.delete_range(it)),
            Operation::Txn(it) => Response::Txn(self.txn(it)?),
            Operation::Compact(it) => {
                if it.revision <= self.compacted {
                    return Err(Fault::Compacted);
                }
                if it.revision > self.revision {
                    return Err(Fault::FutureRevision);
                }
                self.compacted = it.revision;
                Response::Compact(CompactionResponse { header: header(self.revision) })
            }
            Operation::LeaseGrant(it) => {
                if self.leases.contains_key(&it.id) {
                    return Err(Fault::LeaseExists);
                }
                self.leases.insert(it.id, it.ttl);
                let (header, id, ttl) = (header(self.revision), it.id, it.ttl);
                Response::LeaseGrant(LeaseGrantResponse { header, id, ttl, error: String::new() })
            }
            Operation::LeaseRevoke(it) => {
                self.leases.remove(&it.id).ok_or(Fault::LeaseNotFound)?;
                for kv in self.now().into_values().filter(|kv| kv.lease == it.id) {
                    self.delete_range(&DeleteRangeRequest { key: kv.key, ..Default::default() });
                }
                Response::LeaseRevoke(LeaseRevokeResponse { header: header(self.current()) })
            }
            Operation::Alarm(it) => Response::Alarm(self.alarm(it)),
            Operation::Publish(_) => Response::Published,
        };
        self.revision = self.current();
        self.writing = false;
        Ok(response)
    }

    fn current(&self) -> i64 {
        self.revision + i64::from(self.writing)
    }

    fn at(&self, revision: i64) -> BTreeMap<Bytes, KeyValue> {
        let mut all = BTreeMap::new();
        for it in self.events.iter().filter(|it| it.mod_revision <= revision) {
            if it.version == 0 {
                all.remove(&it.key);
            } else {
                all.insert(it.key.clone(), it.clone());
            }
        }
        all
    }

    pub fn now(&self) -> BTreeMap<Bytes, KeyValue> {
        self.at(i64::MAX)
    }

    fn find_lease(&self, id: i64) -> Result<(), Fault> {
        if id != 0 && !self.leases.contains_key(&id) { Err(Fault::LeaseNotFound) } else { Ok(()) }
    }

    fn range(&self, it: &RangeRequest) -> Result<RangeResponse, Fault> {
        if it.revision > self.current() {
            return Err(Fault::FutureRevision);
        }
        if it.revision > 0 && it.revision < self.compacted {
            return Err(Fault::Compacted);
        }
        let at = if it.revision > 0 { it.revision } else { i64::MAX };
        let all = self.at(at).into_values();
        let mut kvs: Vec<_> = all.filter(|kv| is_in(&kv.key, &it.key, &it.range_end)).collect();
        let mut response = RangeResponse {
            header: header(self.current()),
            kvs: Vec::new(),
            more: false,
            count: count(kvs.len()),
        };
        if it.count_only {
            return Ok(response);
        }
        let bounds = [
            it.min_mod_revision,
            it.max_mod_revision,
            it.min_create_revision,
            it.max_create_revision,
        ];
        let limit = usize::try_from(it.limit).ok().filter(|it| *it > 0).unwrap_or(usize::MAX - 1);
        // Without an order and bounds, etcd takes the first by key before it orders them.
        if it.sort_order == 0 && bounds == [0; 4] {
            kvs.truncate(limit + 1);
        }
        kvs.retain(|kv| {
            (bounds[0] == 0 || kv.mod_revision >= bounds[0])
                && (bounds[1] == 0 || kv.mod_revision <= bounds[1])
                && (bounds[2] == 0 || kv.create_revision >= bounds[2])
                && (bounds[3] == 0 || kv.create_revision <= bounds[3])
        });
        for n in 1..kvs.len() {
            for m in (1..=n).rev() {
                let (a, b) = (&kvs[m - 1], &kvs[m]);
                let order = match it.sort_target {
                    0 => a.key.cmp(&b.key),
                    1 => a.version.cmp(&b.version),
                    2 => a.create_revision.cmp(&b.create_revision),
                    3 => a.mod_revision.cmp(&b.mod_revision),
                    _ => a.value.cmp(&b.value),
                };
                let wrong = if it.sort_order == 2 { order.is_lt() } else { order.is_gt() };
                if wrong {
                    kvs.swap(m - 1, m);
                }
            }
        }
        response.more = kvs.len() > limit;
        kvs.truncate(limit);
        if it.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
            }
        }
        response.kvs = kvs;
        Ok(response)
    }

    fn put(&mut self, it: &PutRequest) -> Result<PutResponse, Fault> {
        let before = self.now().remove(&it.key);
        if (it.ignore_value || it.ignore_lease) && before.is_none() {
            return Err(Fault::KeyNotFound);
        }
        let old = before.clone().unwrap_or_default();
        let main = self.revision + 1;
        self.events.push(KeyValue {
            key: it.key.clone(),
            create_revision: if before.is_some() { old.create_revision } else { main },
            mod_revision: main,
            version: old.version + 1,
            value: if it.ignore_value { old.value } else { it.value.clone() },
            lease: if it.ignore_lease { old.lease } else { it.lease },
        });
        self.writing = true;
        Ok(PutResponse { header: header(main), prev_kv: before.filter(|_| it.prev_kv) })
    }

    fn delete_range(&mut self, it: &DeleteRangeRequest) -> DeleteRangeResponse {
        let mut gone: Vec<_> = self.now().into_values().collect();
        gone.retain(|kv| is_in(&kv.key, &it.key, &it.range_end));
        for kv in &gone {
            let (key, mod_revision) = (kv.key.clone(), self.revision + 1);
            self.events.push(KeyValue { key, mod_revision, ..KeyValue::default() });
            self.writing = true;
        }
        DeleteRangeResponse {
            header: header(self.current()),
            deleted: count(gone.len()),
            prev_kvs: if it.prev_kv { gone } else { Vec::new() },
        }
    }

    fn txn(&mut self, it: &TxnRequest) -> Result<TxnResponse, Fault> {
        self.check(it)?;
        let before = self.clone();
        let mut response = self.run(&before, it)?;
        response.header = header(self.current());
        Ok(response)
    }

    /// Whether etcd would end its process: a transaction that passes all checks and fails.
    pub fn kills_etcd(&self, op: &Op) -> bool {
        let Op::Do(Operation::Txn(it)) = op else { return false };
        check_txn(it).is_ok() && self.check(it).is_ok() && self.clone().run(self, it).is_err()
    }

    fn check(&self, it: &TxnRequest) -> Result<(), Fault> {
        let before = self;
        let mut checks = Vec::new();
        before.gather(it, &mut checks);
        for op in &checks {
            if let Request::RequestPut(it) = op {
                if (it.ignore_value || it.ignore_lease) && !before.now().contains_key(&it.key) {
                    return Err(Fault::KeyNotFound);
                }
                before.find_lease(it.lease)?;
            }
        }
        for op in &checks {
            if let Request::RequestRange(it) = op {
                if it.revision > before.revision {
                    return Err(Fault::FutureRevision);
                }
                if it.revision != 0 && it.revision < before.compacted {
                    return Err(Fault::Compacted);
                }
            }
        }
        Ok(())
    }

    /// The operations that will be done, in order.
    fn gather(&self, it: &TxnRequest, all: &mut Vec<Request>) {
        let ops = if self.all_hold(it) { &it.success } else { &it.failure };
        for op in ops {
            match op.request.clone().expect("checked") {
                Request::RequestTxn(it) => self.gather(&it, all),
                other => all.push(other),
            }
        }
    }

    fn run(&mut self, before: &Model, it: &TxnRequest) -> Result<TxnResponse, Fault> {
        let succeeded = before.all_hold(it);
        let mut responses = Vec::new();
        for op in if succeeded { &it.success } else { &it.failure } {
            let response = match op.request.as_ref().expect("checked") {
                Request::RequestRange(it) => Inner::ResponseRange(self.range(it)?),
                Request::RequestPut(it) => Inner::ResponsePut(self.put(it)?),
                Request::RequestDeleteRange(it) => {
                    Inner::ResponseDeleteRange(self.delete_range(it))
                }
                Request::RequestTxn(it) => Inner::ResponseTxn(self.run(before, it)?),
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        Ok(TxnResponse { header: header(0), succeeded, responses })
    }

    fn all_hold(&self, it: &TxnRequest) -> bool {
        it.compare.iter().all(|it| self.holds(it))
    }

    fn holds(&self, it: &Compare) -> bool {
        let mut kvs: Vec<_> = self.now().into_values().collect();
        kvs.retain(|kv| is_in(&kv.key, &it.key, &it.range_end));
        if kvs.is_empty() {
            if it.target == 3 {
                return false;
            }
            kvs.push(KeyValue::default());
        }
        kvs.iter().all(|kv| {
            use TargetUnion::{CreateRevision, Lease, ModRevision, Value, Version};
            let number = |given: Option<i64>| given.unwrap_or(0);
            let given = it.target_union.clone();
            let order = match (it.target, given) {
                (0, Some(Version(x))) => kv.version.cmp(&x),
                (0, _) => kv.version.cmp(&number(None)),
                (1, Some(CreateRevision(x))) => kv.create_revision.cmp(&x),
                (1, _) => kv.create_revision.cmp(&number(None)),
                (2, Some(ModRevision(x))) => kv.mod_revision.cmp(&x),
                (2, _) => kv.mod_revision.cmp(&number(None)),
                (3, Some(Value(x))) => kv.value.cmp(&x),
                (3, _) => kv.value.cmp(&Bytes::new()),
                (4, Some(Lease(x))) => kv.lease.cmp(&x),
                (4, _) => kv.lease.cmp(&number(None)),
                _ => std::cmp::Ordering::Equal,
            };
            match it.result {
                0 => order.is_eq(),
                1 => order.is_gt(),
                2 => order.is_lt(),
                3 => order.is_ne(),
                _ => true,
            }
        })
    }

    fn alarm(&mut self, it: &AlarmRequest) -> AlarmResponse {
        let this = (it.alarm, it.member_id);
        let shown = |&(alarm, member_id): &(i32, u64)| AlarmMember { member_id, alarm };
        let alarms = match it.action {
            0 => self
                .alarms
                .iter()
                .filter(|on| it.alarm == 0 || on.0 == it.alarm)
                .map(shown)
                .collect(),
            1 if it.alarm != 0 => {
                self.alarms.insert(this);
                vec![shown(&this)]
            }
            2 if self.alarms.remove(&this) => vec![shown(&this)],
            _ => Vec::new(),
        };
        AlarmResponse { header: header(self.revision), alarms }
    }
}

pub fn only_ranges(it: &TxnRequest) -> bool {
    let mut ops = it.success.iter().chain(&it.failure);
    ops.all(|op| matches!(op.request, Some(Request::RequestRange(_))))
}

fn has_put(it: &TxnRequest) -> bool {
    it.success.iter().chain(&it.failure).any(|op| match &op.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(it)) => has_put(it),
        _ => false,
    })
}

fn check_range(it: &RangeRequest) -> Result<(), Fault> {
    if it.key.is_empty() {
        return Err(Fault::EmptyKey);
    }
    if it.sort_order > 2 || it.sort_target > 4 {
        return Err(Fault::InvalidSortOption);
    }
    Ok(())
}

fn check_put(it: &PutRequest) -> Result<(), Fault> {
    if it.key.is_empty() {
        Err(Fault::EmptyKey)
    } else if it.ignore_value && !it.value.is_empty() {
        Err(Fault::ValueProvided)
    } else if it.ignore_lease && it.lease != 0 {
        Err(Fault::LeaseProvided)
    } else {
        Ok(())
    }
}

fn check_txn(it: &TxnRequest) -> Result<(), Fault> {
    check_ops(it, MAX_TXN_OPS)?;
    writes(&it.success)?;
    writes(&it.failure)?;
    Ok(())
}

fn check_ops(it: &TxnRequest, max: usize) -> Result<(), Fault> {
    let most = [it.compare.len(), it.success.len(), it.failure.len()].into_iter().max().unwrap();
    if most > max {
        return Err(Fault::TooManyOps);
    }
    if it.compare.iter().any(|it| it.key.is_empty()) {
        return Err(Fault::EmptyKey);
    }
    for op in it.success.iter().chain(&it.failure) {
        match &op.request {
            None => return Err(Fault::KeyNotFound),
            Some(Request::RequestRange(it)) => check_range(it)?,
            Some(Request::RequestPut(it)) => check_put(it)?,
            Some(Request::RequestDeleteRange(it)) if it.key.is_empty() => {
                return Err(Fault::EmptyKey);
            }
            Some(Request::RequestDeleteRange(_)) => {}
            Some(Request::RequestTxn(it)) => check_ops(it, max - most)?,
        }
    }
    Ok(())
}

/// The keys put and the ranges deleted, as `(from, to)`.
type Writes = (Vec<Bytes>, Vec<(Bytes, Bytes)>);

fn writes(ops: &[RequestOp]) -> Result<Writes, Fault> {
    let mut puts: Vec<Bytes> = Vec::new();
    let mut deletions = Vec::new();
    for op in ops {
        if let Some(Request::RequestDeleteRange(it)) = &op.request {
            let point: Bytes = [&it.key[..], b"\0"].concat().into();
            let end = if it.range_end.is_empty() { point } else { it.range_end.clone() };
            deletions.push((it.key.clone(), end));
        }
    }
    let deleted =
        |all: &[(Bytes, Bytes)], key: &Bytes| all.iter().any(|(a, b)| a <= key && key < b);
    for op in ops {
        let Some(Request::RequestTxn(it)) = &op.request else { continue };
        let (then, else_) = (writes(&it.success)?, writes(&it.failure)?);
        for key in &then.0 {
            if puts.contains(key) || deleted(&deletions, key) {
                return Err(Fault::DuplicateKey);
            }
            puts.push(key.clone());
        }
        for key in &else_.0 {
            if puts.contains(key) && !then.0.contains(key) || deleted(&deletions, key) {
                return Err(Fault::DuplicateKey);
            }
            if !puts.contains(key) {
                puts.push(key.clone());
            }
        }
        deletions.extend(then.1);
        deletions.extend(else_.1);
    }
    for op in ops {
        if let Some(Request::RequestPut(it)) = &op.request {
            if puts.contains(&it.key) || deleted(&deletions, &it.key) {
                return Err(Fault::DuplicateKey);
            }
            puts.push(it.key.clone());
        }
    }
    Ok((puts, deletions))
}
