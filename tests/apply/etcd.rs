//! The same random sequences against a real etcd. `ETCD` names another binary, `ROUNDS` how many
//! fresh ones of it: 3 if nothing is said.
//!
//! Left out is what etcd 3.4 does in another way than later ones (it checks no sort option), and
//! transactions that would end its process.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use quorate::node::apply::{Operation, Response};
use quorate::node::fault::Fault;
use quorate::proto::etcdserverpb::kv_client::KvClient;
use quorate::proto::etcdserverpb::lease_client::LeaseClient;
use quorate::proto::etcdserverpb::{LeaseTimeToLiveRequest, ResponseHeader};
use tonic::Status;
use tonic::transport::Channel;

use crate::lone_etcd::LoneEtcd;
use crate::model::Model;
use crate::ops::{MAX_TXN_OPS, Op, calm_sequence, corners};
use crate::subject::{Answer, Subject};

struct Etcd {
    _process: LoneEtcd,
    keys: KvClient<Channel>,
    leases: LeaseClient<Channel>,
}

impl Etcd {
    async fn start() -> Etcd {
        let etcd = LoneEtcd::start(&[format!("--max-txn-ops={MAX_TXN_OPS}")]).await;
        let keys = KvClient::new(etcd.channel.clone());
        let leases = LeaseClient::new(etcd.channel.clone());
        Etcd { _process: etcd, keys, leases }
    }

    async fn ask(&mut self, op: &Op) -> Result<Answer, Status> {
        Ok(match op.clone() {
            Op::Range(it) => {
                let mut it = self.keys.range(it).await?.into_inner();
                plain(&mut it.header);
                Answer::Range(it)
            }
            Op::Do(Operation::Put(it)) => {
                let mut it = self.keys.put(it).await?.into_inner();
                plain(&mut it.header);
                Answer::Done(Response::Put(it))
            }
            Op::Do(Operation::DeleteRange(it)) => {
                let mut it = self.keys.delete_range(it).await?.into_inner();
                plain(&mut it.header);
                Answer::Done(Response::DeleteRange(it))
            }
            Op::Do(Operation::Txn(it)) => {
                let mut it = self.keys.txn(it).await?.into_inner();
                plain(&mut it.header);
                Answer::Done(Response::Txn(it))
            }
            Op::Do(Operation::Compact(it)) => {
                let mut it = self.keys.compact(it).await?.into_inner();
                plain(&mut it.header);
                Answer::Done(Response::Compact(it))
            }
            Op::Do(Operation::LeaseGrant(it)) => {
                let mut it = self.leases.lease_grant(it).await?.into_inner();
                plain(&mut it.header);
                Answer::Done(Response::LeaseGrant(it))
            }
            Op::Do(Operation::LeaseRevoke(it)) => {
                let mut it = self.leases.lease_revoke(it).await?.into_inner();
                plain(&mut it.header);
                Answer::Done(Response::LeaseRevoke(it))
            }
            Op::Do(Operation::Alarm(_) | Operation::Publish(_)) => {
                return Err(Status::unimplemented("not compared"));
            }
        })
    }
}

/// Leaves what apply knows of a header.
fn plain(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    }
}

fn said(fault: Fault) -> (String, String) {
    (format!("{:?}", fault.code()), fault.to_string())
}

#[tokio::test]
async fn every_answer_is_that_of_a_real_etcd() {
    let mut runner = TestRunner::default();
    let rounds = std::env::var("ROUNDS").map_or(3, |it| it.parse().unwrap());
    let (mut asked, mut refused) = (0, 0);
    for round in 0..rounds {
        let mut etcd = Etcd::start().await;
        let (mut subject, mut model) = (Subject::new(), Model::new());
        let ops = match round {
            0 => corners(),
            _ => calm_sequence(400).new_tree(&mut runner).unwrap().current(),
        };
        for (n, op) in ops.iter().enumerate() {
            let expected = model.clone().ask(op);
            if expected == Err(Fault::InvalidSortOption) || model.kills_etcd(op) {
                continue;
            }
            let _ = model.ask(op);
            let theirs = etcd.ask(op).await;
            let theirs = theirs.map_err(|it| (format!("{:?}", it.code()), it.message().to_owned()));
            let ours = subject.ask(op).map_err(said);
            assert_eq!(ours, theirs, "round {round}, operation {n}: {op:?}");
            asked += 1;
            refused += i32::from(ours.is_err());
        }
        for id in 1..5 {
            let request = LeaseTimeToLiveRequest { id, keys: true };
            let theirs = etcd.leases.lease_time_to_live(request).await.unwrap().into_inner();
            let ours = subject.state.lease(id);
            assert_eq!(theirs.granted_ttl, ours.map_or(0, quorate::node::apply::Lease::ttl));
            let mut keys = theirs.keys;
            keys.sort();
            let ours = ours.into_iter().flat_map(|it| it.keys().cloned());
            assert_eq!(ours.collect::<Vec<_>>(), keys, "lease {id}");
        }
    }
    println!("{asked} operations, {refused} of them refused");
}
