//! What a cluster is: nodes we run, members the cluster counts, and how many make a quorum.
//!
//! A **node** is a place (a pod, a process) and keeps its name for life. A **member** is an
//! entry in the cluster's own list and gets a fresh ID each time it is added. Most join bugs
//! come from taking one for the other.
//!
//! Pure: types and arithmetic, no I/O, no clock.

mod exit;
mod id;
mod identity;
mod member;
mod observed;
mod record;
mod setting;
pub mod spec;
mod wanted;
mod word;

pub use exit::{Exit, ExitKind};
pub use id::{ClusterId, FoundingId, Incarnation, MemberId, NodeName, Timestamp};
pub use identity::{added_member_id, founding_cluster_id, founding_member_id};
pub use member::{Member, MemberList, Role, quorum};
pub use observed::{Answer, Disk, Health, Identity, NodeSeen, Observed, Process};
pub use record::{Evidence, Founding, LedgerEntry, LedgerKind, Record, ReplaceRequest};
pub use setting::{
    Kind, Known, Place, SettingError, canonical_value, duration, find_setting, is_bool_setting,
    is_known_setting, known_settings, nanoseconds, near_setting,
};
pub use wanted::{Options, Remediation, Wanted, WantedNode};
pub use word::{NodeWord, Phase};
