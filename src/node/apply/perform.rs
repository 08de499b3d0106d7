//! [`State::apply`]: does what an operation says.
//!
//! Source: etcd's `etcdserver/apply/` (`apply.go`, `uber_apply.go`, `apply_auth.go` left out).

use super::leases::{Leases, MAX_TTL};
use super::{
    AT_ONCE, Applied, Command, Failure, Halt, LeaseChange, Operation, Position, Response, State,
    header, quota, txn, write,
};
use crate::node::fault::Fault;
use crate::node::mvcc::{Change, KeyRange, Txn};
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, CompactionResponse, DeleteRangeRequest,
    DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeResponse, PutRequest,
    PutResponse, TxnRequest, TxnResponse,
};

/// What an operation did beside its answer.
#[derive(Default)]
struct Effects {
    changes: Vec<Change>,
    lease: Option<LeaseChange>,
}

impl Effects {
    fn commit(&mut self, writes: Txn<'_>, leases: &mut Leases) {
        self.changes = writes.commit();
        for Change { record, .. } in &self.changes {
            leases.follow(&record.seen());
        }
    }
}

impl State {
    /// Applies the operation of a log entry.
    ///
    /// # Errors
    ///
    /// [`Halt`]: the entry is not applied then, and the member has to stop. That the operation
    /// was refused is not an error but [`Applied::result`].
    pub fn apply(&mut self, index: u64, term: u64, command: &Command) -> Result<Applied, Halt> {
        self.expect(index)?;
        let operation = command.operation().map_err(|source| Halt::Entry { index, source })?;
        // Measured before, as the proposer measured it.
        let room = self.has_room_for(&operation);
        let mut effects = Effects::default();
        let result = match self.perform(operation, &mut effects) {
            Ok(_) if !room => Err(Fault::NoSpace),
            Ok(response) => Ok(response),
            Err(Failure::Fault(fault)) => Err(fault),
            Err(Failure::Store(source)) => return Err(Halt::Store { index, source }),
        };
        self.applied = Some(Position { term, index });
        let Effects { changes, lease } = effects;
        Ok(Applied { ticket: command.ticket(), result, changes, lease })
    }

    fn perform(
        &mut self,
        operation: Operation,
        effects: &mut Effects,
    ) -> Result<Response, Failure> {
        self.permit(&operation)?;
        Ok(match operation {
            Operation::Put(it) => Response::Put(self.put(&it, effects)?),
            Operation::DeleteRange(it) => Response::DeleteRange(self.delete_range(&it, effects)?),
            Operation::Txn(it) => Response::Txn(self.txn(&it, effects)?),
            Operation::Compact(it) => Response::Compact(self.compact(it.revision)?),
            Operation::LeaseGrant(it) => Response::LeaseGrant(self.lease_grant(it, effects)?),
            Operation::LeaseRevoke(it) => Response::LeaseRevoke(self.lease_revoke(it.id, effects)?),
            Operation::Alarm(it) => Response::Alarm(self.alarm(&it)),
            Operation::Publish(it) => {
                self.members.publish(it)?;
                self.dirty.members = true;
                Response::Published
            }
        })
    }

    /// What the active alarms let through.
    fn permit(&self, operation: &Operation) -> Result<(), Fault> {
        if matches!(operation, Operation::Alarm(_) | Operation::Publish(_)) {
            return Ok(());
        }
        if self.alarms.is_active(AlarmType::Corrupt) {
            return Err(Fault::Corrupt);
        }
        // What takes no room may still make some.
        if self.alarms.is_active(AlarmType::Nospace) && quota::cost(operation) > 0 {
            return Err(Fault::NoSpace);
        }
        Ok(())
    }

    fn put(&mut self, request: &PutRequest, effects: &mut Effects) -> Result<PutResponse, Failure> {
        self.leases.look_up(request.lease)?;
        let mut writes = self.kv.begin();
        let response = write::put(&mut writes, request)?;
        effects.commit(writes, &mut self.leases);
        Ok(response)
    }

    fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
        effects: &mut Effects,
    ) -> Result<DeleteRangeResponse, Failure> {
        let mut writes = self.kv.begin();
        let response = write::delete_range(&mut writes, request)?;
        effects.commit(writes, &mut self.leases);
        Ok(response)
    }

    fn txn(&mut self, request: &TxnRequest, effects: &mut Effects) -> Result<TxnResponse, Failure> {
        let plan = txn::plan(&self.kv, request)?;
        plan.check(&self.kv, &self.leases)?;
        let mut writes = self.kv.begin();
        // A failure from here on drops the writes, and all is as it was.
        let mut response = plan.execute(&mut writes)?;
        response.header = header(writes.revision());
        effects.commit(writes, &mut self.leases);
        Ok(response)
    }

    fn compact(&mut self, revision: i64) -> Result<CompactionResponse, Failure> {
        self.kv.compact(revision)?;
        self.kv.forget(AT_ONCE);
        Ok(CompactionResponse { header: header(self.kv.revision()) })
    }

    fn lease_grant(
        &mut self,
        request: LeaseGrantRequest,
        effects: &mut Effects,
    ) -> Result<LeaseGrantResponse, Failure> {
        if request.id == 0 {
            return Err(Fault::LeaseNotFound.into());
        }
        if request.ttl > MAX_TTL {
            return Err(Fault::LeaseTtlTooLarge.into());
        }
        // The proposer has raised it to the least that its timings allow; 1 keeps the unit.
        let (id, ttl) = (request.id, request.ttl.max(1));
        self.leases.grant(id, ttl)?;
        self.dirty.leases.insert(id);
        effects.lease = Some(LeaseChange::Granted { id, ttl });
        let header = header(self.kv.revision());
        Ok(LeaseGrantResponse { header, id, ttl, error: String::new() })
    }

    fn lease_revoke(
        &mut self,
        id: i64,
        effects: &mut Effects,
    ) -> Result<LeaseRevokeResponse, Failure> {
        let lease = self.leases.get(id).ok_or(Fault::LeaseNotFound)?;
        let mut writes = self.kv.begin();
        for key in lease.keys() {
            writes.delete(&KeyRange::One(key.clone()), false)?;
        }
        effects.commit(writes, &mut self.leases);
        self.leases.remove(id);
        self.dirty.leases.insert(id);
        effects.lease = Some(LeaseChange::Revoked { id });
        Ok(LeaseRevokeResponse { header: header(self.kv.revision()) })
    }

    fn alarm(&mut self, request: &AlarmRequest) -> AlarmResponse {
        let (member, kind) = (request.member_id, request.alarm);
        let alarms = match request.action() {
            AlarmAction::Get => self.alarms.of(kind),
            AlarmAction::Activate => self.alarms.raise(member, kind),
            AlarmAction::Deactivate => self.alarms.drop(member, kind),
        };
        self.dirty.alarms |= request.action() != AlarmAction::Get;
        AlarmResponse { header: header(self.kv.revision()), alarms }
    }
}
