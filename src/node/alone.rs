//! A replica that is alone: one member, no log, no network. It applies at once and forgets
//! everything at the end.
//!
//! For the tests of whatever stands on [`Replica`]: the services run against it as against a
//! cluster, the state and every answer are the real ones, and a test can take its leader away or
//! have the next calls refused. No clock: a lease has always all of its time left.

use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::apply::{
    Applied, Command, NO_QUOTA, Operation, Published, Response, Seat, State, Ticket,
};
use super::fault::Fault;
use super::mvcc::{Record, Records, Revision, Seen, StoreError};
use super::replica::{Replica, Standing};
use crate::cluster::{ClusterId, MemberId, added_member_id};
use crate::proto::etcdserverpb::Member;

/// Hears of each entry once it is applied, in order; it may read the state.
type Listener = Box<dyn Fn(&Applied) + Send + Sync>;

/// See [the module](self).
pub struct Alone {
    cluster: ClusterId,
    member: MemberId,
    state: RwLock<State>,
    standing: watch::Sender<Standing>,
    /// Held over apply and listener, so that what is heard is in order.
    entry: Mutex<Log>,
    refusal: Mutex<Option<Fault>>,
    listener: Option<Listener>,
}

/// What takes the place of a log: how far it would be.
struct Log {
    index: u64,
    serial: u64,
}

impl Alone {
    /// A cluster of this member, which leads it in term 1 and has published itself as `alone`,
    /// with the client URL `http://127.0.0.1:2379` and the peer URL `http://127.0.0.1:2380`.
    pub fn new(cluster: ClusterId, member: MemberId) -> Alone {
        Alone::with_quota(cluster, member, NO_QUOTA)
    }

    /// The same with a quota, in bytes.
    pub fn with_quota(cluster: ClusterId, member: MemberId, quota: u64) -> Alone {
        let standing =
            Standing { leader: Some(member), term: 1, committed: 0, applied: 0, is_learner: false };
        let alone = Alone {
            cluster,
            member,
            state: RwLock::new(State::new(Arc::new(Nowhere), quota)),
            standing: watch::Sender::new(standing),
            entry: Mutex::new(Log { index: 0, serial: 0 }),
            refusal: Mutex::new(None),
            listener: None,
        };
        let peer_urls = vec!["http://127.0.0.1:2380".to_owned()];
        let seat = Seat { id: member, peer_urls, voter: true, wants_vote: false };
        let published = Published {
            member: member.0,
            name: "alone".to_owned(),
            client_urls: vec!["http://127.0.0.1:2379".to_owned()],
            incarnation: 1,
        };
        // Neither can fail in an empty state.
        let _ = alone.seat(|_| Ok(vec![seat]));
        let _ = alone.apply(&Operation::Publish(published));
        alone
    }

    /// Has `listener` called after each operation, before its answer: for the watch hub.
    #[must_use]
    pub fn heard_by(mut self, listener: impl Fn(&Applied) + Send + Sync + 'static) -> Alone {
        self.listener = Some(Box::new(listener));
        self
    }

    /// From now on every call that needs a quorum is refused with this; `None` ends it.
    pub fn refuse(&self, fault: Option<Fault>) {
        *self.refusal.lock() = fault;
    }

    /// Gives it another leader, or none, in another term; or makes it a learner.
    pub fn stand(&self, change: impl FnOnce(&mut Standing)) {
        self.standing.send_modify(change);
    }

    /// Applies an operation, whatever [`Alone::refuse`] says: as if another member had asked.
    ///
    /// # Errors
    ///
    /// The fault of the operation.
    pub fn apply(&self, operation: &Operation) -> Result<Response, Fault> {
        let mut log = self.entry.lock();
        log.serial += 1;
        let command = Command::new(Ticket { proposer: 1, serial: log.serial }, operation);
        let (index, term) = (log.index + 1, self.standing.borrow().term);
        let applied = self.state.write().apply(index, term, &command);
        let applied = applied.map_err(|_| Fault::Storage)?;
        log.index = index;
        self.arrived(index);
        if let Some(listener) = &self.listener {
            listener(&applied);
        }
        applied.result
    }

    /// Applies a member list made of the one before.
    fn seat(
        &self,
        change: impl FnOnce(Vec<Seat>) -> Result<Vec<Seat>, Fault>,
    ) -> Result<(), Fault> {
        let mut log = self.entry.lock();
        let mut state = self.state.write();
        let before = state.members().map(|it| Seat {
            id: it.id,
            peer_urls: it.peer_urls.clone(),
            voter: it.voter,
            wants_vote: it.wants_vote,
        });
        let after = change(before.collect())?;
        let (index, term) = (log.index + 1, self.standing.borrow().term);
        if state.apply_membership(index, term, after).is_ok() {
            log.index = index;
            self.arrived(index);
        }
        Ok(())
    }

    fn arrived(&self, index: u64) {
        // Nobody who waits for another leader is woken by it.
        self.standing.send_if_modified(|it| {
            (it.committed, it.applied) = (index, index);
            false
        });
    }

    fn permit(&self) -> Result<(), Fault> {
        match *self.refusal.lock() {
            Some(fault) => Err(fault),
            None if self.standing.borrow().leader.is_none() => Err(Fault::NoLeader),
            None => Ok(()),
        }
    }
}

impl Replica for Alone {
    fn cluster(&self) -> ClusterId {
        self.cluster
    }

    fn member(&self) -> MemberId {
        self.member
    }

    fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    fn standing_changes(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    async fn propose(&self, operation: Operation) -> Result<Response, Fault> {
        self.permit()?;
        self.apply(&operation)
    }

    async fn read_barrier(&self) -> Result<(), Fault> {
        self.permit()
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read())
    }

    fn members(&self) -> Vec<Member> {
        self.state.read().member_list()
    }

    async fn add_member(
        &self,
        peer_urls: Vec<String>,
        as_learner: bool,
    ) -> Result<(Member, Vec<Member>), Fault> {
        self.permit()?;
        // The index stands for the time.
        let seconds = self.standing.borrow().applied;
        let id = added_member_id(peer_urls.iter().map(String::as_str), seconds);
        self.seat(|mut seats| {
            if seats.iter().any(|it| it.id == id) {
                return Err(Fault::MemberExists);
            }
            if clash(&seats, id, &peer_urls) {
                return Err(Fault::PeerUrlExists);
            }
            if as_learner && seats.iter().any(|it| !it.voter && !it.wants_vote) {
                return Err(Fault::TooManyLearners);
            }
            seats.push(Seat { id, peer_urls, voter: false, wants_vote: !as_learner });
            Ok(seats)
        })?;
        let members = self.members();
        let member = members.iter().find(|it| it.id == id.0).cloned();
        Ok((member.ok_or(Fault::MemberNotFound)?, members))
    }

    async fn remove_member(&self, id: MemberId) -> Result<Vec<Member>, Fault> {
        self.permit()?;
        self.seat(|mut seats| {
            let count = seats.len();
            seats.retain(|it| it.id != id);
            if seats.len() < count { Ok(seats) } else { Err(Fault::MemberNotFound) }
        })?;
        Ok(self.members())
    }

    async fn update_member(
        &self,
        id: MemberId,
        peer_urls: Vec<String>,
    ) -> Result<Vec<Member>, Fault> {
        self.permit()?;
        self.seat(|mut seats| {
            if clash(&seats, id, &peer_urls) {
                return Err(Fault::PeerUrlExists);
            }
            find(&mut seats, id)?.peer_urls = peer_urls;
            Ok(seats)
        })?;
        Ok(self.members())
    }

    async fn promote_member(&self, id: MemberId) -> Result<Vec<Member>, Fault> {
        self.permit()?;
        self.seat(|mut seats| {
            let seat = find(&mut seats, id)?;
            if seat.voter {
                return Err(Fault::MemberNotLearner);
            }
            seat.voter = true;
            Ok(seats)
        })?;
        Ok(self.members())
    }

    async fn move_leader(&self, to: MemberId) -> Result<(), Fault> {
        self.permit()?;
        if self.standing.borrow().leader != Some(self.member) {
            return Err(Fault::NotLeader);
        }
        if !self.state.read().member(to).is_some_and(|it| it.voter) {
            return Err(Fault::BadLeaderTransferee);
        }
        self.stand(|it| {
            it.leader = Some(to);
            it.term += 1;
        });
        Ok(())
    }

    async fn renew_lease(&self, id: i64) -> Result<i64, Fault> {
        self.permit()?;
        Ok(self.state.read().lease(id).map_or(0, super::apply::Lease::ttl))
    }

    async fn lease_left(&self, id: i64) -> Result<Option<(i64, i64)>, Fault> {
        self.permit()?;
        Ok(self.state.read().lease(id).map(|it| (it.ttl(), it.ttl())))
    }

    fn disk_size(&self) -> u64 {
        self.state.read().kv.bytes().max(1)
    }

    async fn defragment(&self) -> Result<(), Fault> {
        Ok(())
    }
}

fn find(seats: &mut [Seat], id: MemberId) -> Result<&mut Seat, Fault> {
    seats.iter_mut().find(|it| it.id == id).ok_or(Fault::MemberNotFound)
}

/// Whether another member than `id` has one of these URLs.
fn clash(seats: &[Seat], id: MemberId, peer_urls: &[String]) -> bool {
    let mut others = seats.iter().filter(|it| it.id != id);
    others.any(|it| it.peer_urls.iter().any(|url| peer_urls.contains(url)))
}

/// No record is ever anywhere but in memory.
struct Nowhere;

impl Records for Nowhere {
    fn get(&self, _at: Revision) -> Result<Option<Record>, StoreError> {
        Ok(None)
    }

    fn scan(
        &self,
        _from: Revision,
        _to: i64,
        _see: &mut dyn FnMut(Seen<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::{PutRequest, RangeRequest};

    #[tokio::test]
    async fn a_write_is_heard_and_read_and_a_lost_leader_refuses() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = heard.clone();
        let alone = Alone::new(ClusterId(7), MemberId(1))
            .heard_by(move |it| sink.lock().extend(it.changes.iter().cloned()));
        let put = PutRequest { key: "a".into(), value: "1".into(), ..PutRequest::default() };
        let put = Operation::Put(put);
        let Ok(Response::Put(it)) = alone.propose(put.clone()).await else { panic!("no put") };
        assert_eq!(it.header.unwrap().revision, 2);
        assert_eq!(heard.lock().len(), 1);
        let get = RangeRequest { key: "a".into(), ..RangeRequest::default() };
        alone.read_barrier().await.unwrap();
        assert_eq!(alone.read(|it| it.range(&get)).unwrap().kvs[0].value, "1");

        let urls = vec!["http://127.0.0.1:1".to_owned()];
        let (added, list) = alone.add_member(urls.clone(), false).await.unwrap();
        assert!(!added.is_learner && added.name.is_empty() && list.len() == 2);
        assert_eq!(alone.add_member(urls, true).await, Err(Fault::PeerUrlExists));
        alone.remove_member(MemberId(added.id)).await.unwrap();
        assert!(alone.read(|it| it.is_removed(MemberId(added.id))));

        alone.stand(|it| it.leader = None);
        assert_eq!(alone.propose(put).await, Err(Fault::NoLeader));
        assert_eq!(alone.read_barrier().await, Err(Fault::NoLeader));
    }
}
