//! Random sequences against the model, answer by answer.

use proptest::collection::vec;
use proptest::prelude::*;
use quorate::node::mvcc::Record;
use quorate::proto::etcdserverpb::AlarmType;
use quorate::proto::mvccpb::KeyValue;

use crate::model::Model;
use crate::ops::{Op, corners, sequence};
use crate::subject::Subject;

/// What may happen to the process between two operations.
#[derive(Clone, Copy, Debug)]
pub enum Between {
    Nothing,
    Checkpoint { sweep: usize },
    Reopen,
}

pub fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        6 => Just(Between::Nothing),
        2 => prop_oneof![Just(0), 1..5usize, Just(1000)]
            .prop_map(|sweep| Between::Checkpoint { sweep }),
        1 => Just(Between::Reopen),
    ]
}

impl Subject {
    pub fn live(&mut self, between: Between) {
        match between {
            Between::Nothing => {}
            Between::Checkpoint { sweep } => self.checkpoint(sweep),
            Between::Reopen => self.reopen(),
        }
    }
}

fn event(record: &Record) -> KeyValue {
    assert_eq!(record.kv.version == 0, record.tombstone, "{record:?}");
    assert_eq!(record.revision.main, record.kv.mod_revision, "{record:?}");
    record.kv.clone()
}

fn agree(ops: &[Op], between: &[Between]) -> Result<(), TestCaseError> {
    let (mut model, mut subject) = (Model::new(), Subject::new());
    for (n, op) in ops.iter().enumerate() {
        let known = model.events.len();
        let expected = model.ask(op);
        let answer = subject.ask(op);
        prop_assert_eq!(&answer, &expected, "operation {}: {:?}", n, op);
        let changes: Vec<_> = subject.changes.iter().map(event).collect();
        prop_assert_eq!(&changes, &model.events[known..], "operation {}: {:?}", n, op);
        for (sub, record) in (0..).zip(&subject.changes) {
            prop_assert_eq!(record.revision.sub, sub);
        }
        subject.live(between[n % between.len()]);
    }
    let state = &subject.state;
    prop_assert_eq!(state.revision(), model.revision);
    let leases: Vec<_> = state
        .leases()
        .map(|it| (it.id(), it.ttl(), it.keys().cloned().collect::<Vec<_>>()))
        .collect();
    let now = model.now();
    let of = |id: i64| now.values().filter(move |kv| kv.lease == id).map(|kv| kv.key.clone());
    let expected: Vec<_> =
        model.leases.iter().map(|(&id, &ttl)| (id, ttl, of(id).collect::<Vec<_>>())).collect();
    prop_assert_eq!(leases, expected);
    let alarms: Vec<_> =
        state.alarms(AlarmType::None).iter().map(|it| (it.alarm, it.member_id)).collect();
    prop_assert_eq!(alarms, model.alarms.into_iter().collect::<Vec<_>>());
    Ok(())
}

#[test]
fn the_odd_corners_are_the_models_too() {
    let between = [Between::Nothing, Between::Reopen, Between::Checkpoint { sweep: 2 }];
    agree(&corners(), &between[..1]).unwrap();
    agree(&corners(), &between).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_and_every_change_is_the_models(
        ops in sequence(60),
        between in vec(between(), 1..20),
    ) {
        agree(&ops, &between)?;
    }
}
