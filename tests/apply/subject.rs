//! What is tested: a state behind the checks that a service makes, on a disk that it can be
//! opened from again.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use quorate::node::apply::{
    Applied, Command, LeaseChange, NO_QUOTA, Operation, ReadOnlyTxn, Response, State, Ticket, check,
};
use quorate::node::fault::Fault;
use quorate::node::mvcc::{Record, Records, Revision, Seen, StoreError};
use quorate::proto::etcdserverpb::RangeResponse;

use crate::ops::{MAX_TXN_OPS, Op};

/// An answer of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To a read.
    Range(RangeResponse),
    /// To anything else.
    Done(Response),
}

/// A checkpoint as it should be.
#[derive(Default)]
pub struct Disk {
    records: Mutex<BTreeMap<Revision, Record>>,
    metas: Mutex<BTreeMap<Bytes, Bytes>>,
    /// Nothing can be read while this is set.
    pub broken: AtomicBool,
}

impl Disk {
    fn works(&self) -> Result<(), StoreError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError::Io("it is broken".to_owned()));
        }
        Ok(())
    }
}

impl Records for Disk {
    fn get(&self, at: Revision) -> Result<Option<Record>, StoreError> {
        self.works()?;
        Ok(self.records.lock().get(&at).cloned())
    }

    fn scan(
        &self,
        from: Revision,
        to: i64,
        see: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.works()?;
        let to = Revision { main: to, sub: i64::MAX };
        let records = self.records.lock();
        for record in records.range((Bound::Included(from), Bound::Included(to))) {
            if see(record.1.seen()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// A state.
pub struct Subject {
    pub state: State,
    pub disk: Arc<Disk>,
    index: u64,
    /// What the last operation did beside its answer.
    pub changes: Vec<Record>,
    pub lease: Option<LeaseChange>,
}

impl Subject {
    pub fn new() -> Subject {
        Subject::with_quota(NO_QUOTA)
    }

    pub fn with_quota(quota: u64) -> Subject {
        let disk = Arc::new(Disk::default());
        let state = State::new(disk.clone(), quota);
        Subject { state, disk, index: 0, changes: Vec::new(), lease: None }
    }

    /// Does what a service and the log do.
    pub fn ask(&mut self, op: &Op) -> Result<Answer, Fault> {
        self.changes.clear();
        self.lease = None;
        match op {
            Op::Range(it) => {
                check::check_range(it)?;
                self.state.range(it).map(Answer::Range)
            }
            Op::Do(operation) => {
                let mut operation = operation.clone();
                match &mut operation {
                    Operation::Put(it) => check::check_put(it)?,
                    Operation::DeleteRange(it) => check::check_delete_range(it)?,
                    Operation::Txn(it) => check::check_txn(it, MAX_TXN_OPS)?,
                    Operation::LeaseGrant(it) => check::check_lease_grant(it, 2)?,
                    _ => {}
                }
                if let Operation::Txn(it) = &operation
                    && let Some(it) = ReadOnlyTxn::of(it)
                {
                    return self.state.read_txn(&it).map(|it| Answer::Done(Response::Txn(it)));
                }
                let applied = self.apply(&operation);
                self.changes = applied.changes.into_iter().map(|it| it.record).collect();
                self.lease = applied.lease;
                applied.result.map(Answer::Done)
            }
        }
    }

    /// Has the next entry of the log applied.
    pub fn apply(&mut self, operation: &Operation) -> Applied {
        self.index += 1;
        let ticket = Ticket { proposer: 1, serial: self.index };
        let applied = self.state.apply(self.index, 1, &Command::new(ticket, operation));
        let applied = applied.expect("applies");
        assert_eq!(applied.ticket, ticket);
        applied
    }

    /// Writes what is new.
    pub fn checkpoint(&mut self, sweep: usize) {
        let progress = self.state.progress(sweep);
        let last = progress.records.last().map(|it| it.revision.main);
        let mut records = self.disk.records.lock();
        records.extend(progress.records.into_iter().map(|it| (it.revision, it)));
        for it in progress.removed {
            records.remove(&it);
        }
        drop(records);
        let mut metas = self.disk.metas.lock();
        for (name, blob) in progress.metas {
            match blob {
                Some(blob) => metas.insert(name, blob),
                None => metas.remove(&name),
            };
        }
        drop(metas);
        if let Some(last) = last {
            self.state.kv.written_up_to(last, 0);
        }
    }

    /// Dies after a checkpoint and comes back.
    pub fn reopen(&mut self) {
        self.checkpoint(usize::MAX);
        let metas = self.disk.metas.lock().clone();
        let state = State::open(self.disk.clone(), metas, self.state.quota()).expect("opens");
        assert_eq!(state.metas(), self.state.metas());
        self.state = state;
    }
}
