//! Members apply the same log in batches of their own, and checkpoint, sweep and restart when
//! they like: what they hold must be the same all the same.

use proptest::collection::vec;
use proptest::prelude::*;
use quorate::node::apply::Operation;

use crate::ops::{Op, sequence};
use crate::sequences::{Between, between};
use crate::subject::Subject;

fn run(log: &[Operation], between: &[Between]) -> Subject {
    let mut subject = Subject::new();
    for (n, operation) in log.iter().enumerate() {
        subject.apply(operation);
        if let Some(between) = between.get(n % between.len().max(1)) {
            subject.live(*between);
        }
    }
    subject
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// The log is taken unchecked: whatever is in it, members must agree on it.
    #[test]
    fn the_same_log_gives_the_same_state_whatever_happens_in_between(
        ops in sequence(80),
        first in vec(between(), 1..20),
        second in vec(between(), 1..20),
    ) {
        let log: Vec<_> = ops.into_iter().filter_map(|op| match op {
            Op::Do(it) => Some(it),
            Op::Range(_) => None,
        }).collect();
        let quiet = run(&log, &[]);
        for between in [first, second] {
            let other = run(&log, &between);
            prop_assert_eq!(other.state.metas(), quiet.state.metas());
            prop_assert_eq!(other.state.kv.bytes(), quiet.state.kv.bytes());
            prop_assert_eq!(
                other.state.leases().collect::<Vec<_>>(),
                quiet.state.leases().collect::<Vec<_>>()
            );
            for revision in quiet.state.kv.compacted().max(1)..=quiet.state.revision() {
                prop_assert_eq!(other.state.kv.hash(revision), quiet.state.kv.hash(revision));
            }
        }
    }
}
