//! The alarms that are on: which, and raised by whom. What they forbid is not decided here.
//!
//! Source: etcd's `api/v3alarm/alarms.go`.

use std::collections::BTreeSet;

use crate::proto::etcdserverpb::{AlarmMember, AlarmType};

/// The active alarms.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Alarms {
    /// Type and member. The type is kept as it came: a later version may know more of them.
    active: BTreeSet<(i32, u64)>,
}

impl Alarms {
    pub(super) fn is_active(&self, kind: AlarmType) -> bool {
        let kind = i32::from(kind);
        self.active.range((kind, 0)..=(kind, u64::MAX)).next().is_some()
    }

    /// Those of a type, or all for the type `NONE`.
    pub(super) fn of(&self, kind: i32) -> Vec<AlarmMember> {
        let all = self.active.iter();
        all.filter(|it| kind == NONE || it.0 == kind).map(|&(kind, id)| shown(id, kind)).collect()
    }

    /// Raises one; answers it also if it was on already, and nothing for the type `NONE`.
    pub(super) fn raise(&mut self, member: u64, kind: i32) -> Vec<AlarmMember> {
        if kind == NONE {
            return Vec::new();
        }
        self.active.insert((kind, member));
        vec![shown(member, kind)]
    }

    /// Drops one; answers it if it was on.
    pub(super) fn drop(&mut self, member: u64, kind: i32) -> Vec<AlarmMember> {
        let was_on = self.active.remove(&(kind, member));
        was_on.then(|| shown(member, kind)).into_iter().collect()
    }
}

const NONE: i32 = AlarmType::None as i32;

fn shown(member_id: u64, alarm: i32) -> AlarmMember {
    AlarmMember { member_id, alarm }
}
