//! What is asked next, by chance: on few keys, and near to where the revisions are, so that the
//! requests meet.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use prost::bytes::Bytes;
use quorate::proto::etcdserverpb::compare::TargetUnion;
use quorate::proto::etcdserverpb::request_op::Request;
use quorate::proto::etcdserverpb::watch_create_request::FilterType;
use quorate::proto::etcdserverpb::{
    AlarmRequest, AuthStatusRequest, CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest,
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, MemberListRequest, PutRequest, RangeRequest, RequestOp, StatusRequest,
    TxnRequest, WatchCreateRequest,
};

use crate::asks::Ask;

const KEYS: [&[u8]; 9] = [b"\0", b"a", b"a\0", b"a:b", b"aa", b"ab", b"b", b"\xff", b"\xff\xff"];
const ENDS: [&[u8]; 6] = [b"\0", b"a", b"ab", b"b", b"c", b"\xff"];
const VALUES: [&[u8]; 4] = [b"", b"x", b"y\0", b"\xff"];

/// The leases that keys are bound to, longer than any test. Others are granted and let be.
pub const LEASES: std::ops::RangeInclusive<i64> = 1..=4;
/// Seconds; a day.
const LONG: i64 = 86_400;

/// Where the two servers are.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    pub revision: i64,
    pub compacted: i64,
    /// The watches there are.
    pub watches: &'a [i64],
}

fn bytes(of: &'static [&'static [u8]]) -> impl Strategy<Value = Bytes> {
    select(of).prop_map(Bytes::from_static)
}

/// Now and then no key at all.
fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![150 => bytes(&KEYS), 1 => Just(Bytes::new())]
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![3 => Just(Bytes::new()), 3 => Just(Bytes::from_static(b"\0")), 3 => bytes(&ENDS)]
}

/// Mostly none; the last one is never there.
fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![12 => Just(0), 8 => 1..3i64, 2 => 3..6i64]
}

fn limit() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0), 6 => 1..5i64, 1 => -2..0i64, 1 => Just(i64::MAX)]
}

impl Now<'_> {
    /// One that was lately, or is yet to come.
    fn near(&self) -> impl Strategy<Value = i64> + use<> {
        self.revision - 15..self.revision + 3
    }

    /// At what is compacted, and on either side.
    fn at_floor(&self) -> impl Strategy<Value = i64> + use<> {
        self.compacted - 1..self.compacted + 2
    }

    /// Mostly the latest one.
    fn revision(&self) -> impl Strategy<Value = i64> + use<> {
        prop_oneof![
            40 => Just(0),
            12 => self.near(),
            4 => self.at_floor(),
            1 => -3..0i64,
            1 => Just(i64::MAX),
        ]
    }

    fn range(&self, sorts: bool) -> impl Strategy<Value = RangeRequest> + use<> {
        let unknown = u32::from(sorts);
        let order = prop_oneof![16 => Just(0), 24 => 1..3, unknown => Just(3)];
        let target = prop_oneof![20 => Just(0), 20 => 1..5, unknown => Just(5)];
        let flags = (any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.15));
        let bound = || prop_oneof![12 => Just(0), 3 => self.near()];
        let bounds = (bound(), bound(), bound(), bound());
        let what = (key(), range_end(), limit(), self.revision());
        (what, order, target, flags, bounds).prop_map(
            |((key, range_end, limit, revision), order, target, flags, bounds)| RangeRequest {
                key,
                range_end,
                limit,
                revision,
                sort_order: order,
                sort_target: target,
                serializable: flags.0,
                keys_only: flags.1,
                count_only: flags.2,
                min_mod_revision: bounds.0,
                max_mod_revision: bounds.1,
                min_create_revision: bounds.2,
                max_create_revision: bounds.3,
            },
        )
    }

    fn compare(&self) -> impl Strategy<Value = Compare> + use<> {
        let result = prop_oneof![30 => 0..4, 1 => Just(4)];
        let target = prop_oneof![30 => 0..5, 1 => Just(5)];
        let fits = prop::bool::weighted(0.9);
        let number = prop_oneof![2 => Just(0), 3 => 0..4i64, 3 => self.near()];
        (result, target, key(), range_end(), fits, number, bytes(&VALUES)).prop_map(
            |(result, target, key, range_end, fits, number, value)| {
                let given = match if fits { target } else { target + 1 } {
                    0 => Some(TargetUnion::Version(number)),
                    1 => Some(TargetUnion::CreateRevision(number)),
                    2 => Some(TargetUnion::ModRevision(number)),
                    3 => Some(TargetUnion::Value(value)),
                    4 => Some(TargetUnion::Lease(number)),
                    _ => None,
                };
                Compare { result, target, key, range_end, target_union: given }
            },
        )
    }

    fn request(&self, depth: usize) -> BoxedStrategy<RequestOp> {
        let simple = prop_oneof![
            4 => self.range(false).prop_map(Request::RequestRange),
            8 => put().prop_map(Request::RequestPut),
            2 => delete_range().prop_map(Request::RequestDeleteRange),
        ];
        let some = match depth {
            0 => simple.boxed(),
            _ => prop_oneof![
                5 => simple,
                2 => self.txn(depth - 1).prop_map(Request::RequestTxn),
            ]
            .boxed(),
        };
        prop_oneof![200 => some.prop_map(Some), 1 => Just(None)]
            .prop_map(|request| RequestOp { request })
            .boxed()
    }

    fn txn(&self, depth: usize) -> BoxedStrategy<TxnRequest> {
        let ops = || vec(self.request(depth), 0..4);
        (vec(self.compare(), 0..3), ops(), ops())
            .prop_map(|(compare, success, failure)| TxnRequest { compare, success, failure })
            .boxed()
    }

    fn watch(&self) -> impl Strategy<Value = WatchCreateRequest> + use<> {
        let start = prop_oneof![
            6 => Just(0),
            6 => self.near(),
            2 => self.at_floor(),
            1 => -2..0i64,
        ];
        let watch_id = prop_oneof![6 => Just(0), 1 => 1..6i64, 1 => 100..103i64];
        let filters =
            prop::sample::subsequence(vec![FilterType::Noput, FilterType::Nodelete], 0..3);
        (key(), range_end(), start, any::<bool>(), watch_id, filters).prop_map(
            |(key, range_end, start_revision, prev_kv, watch_id, filters)| WatchCreateRequest {
                key,
                range_end,
                start_revision,
                prev_kv,
                watch_id,
                filters: filters.into_iter().map(i32::from).collect(),
                ..WatchCreateRequest::default()
            },
        )
    }

    fn cancel(&self) -> BoxedStrategy<Ask> {
        if self.watches.is_empty() {
            return (100..103i64).prop_map(Ask::Cancel).boxed();
        }
        prop_oneof![4 => select(self.watches.to_vec()), 1 => 100..103i64]
            .prop_map(Ask::Cancel)
            .boxed()
    }

    fn compact(&self) -> impl Strategy<Value = Ask> + use<> {
        let revision = prop_oneof![
            4 => self.near(),
            2 => self.at_floor(),
            1 => Just(-1),
            1 => Just(i64::MAX),
        ];
        (revision, any::<bool>())
            .prop_map(|(revision, physical)| Ask::Compact(CompactionRequest { revision, physical }))
    }

    fn keys(&self) -> BoxedStrategy<Ask> {
        prop_oneof![
            10 => self.range(true).prop_map(Ask::Range),
            10 => put().prop_map(Ask::Put),
            3 => delete_range().prop_map(Ask::DeleteRange),
            10 => self.txn(2).prop_map(Ask::Txn),
            2 => self.compact(),
        ]
        .boxed()
    }

    fn watches(&self) -> BoxedStrategy<Ask> {
        prop_oneof![
            3 => self.watch().prop_map(Ask::Watch),
            1 => self.cancel(),
            1 => Just(Ask::Progress),
        ]
        .boxed()
    }

    fn looks(&self) -> BoxedStrategy<Ask> {
        let hash = prop_oneof![2 => Just(0), 4 => self.near(), 3 => self.at_floor()];
        prop_oneof![
            any::<bool>()
                .prop_map(|linearizable| Ask::MemberList(MemberListRequest { linearizable })),
            Just(Ask::Status(StatusRequest {})),
            (0..3i32).prop_map(|alarm| Ask::Alarm(AlarmRequest { alarm, ..Default::default() })),
            Just(Ask::AuthStatus(AuthStatusRequest {})),
            hash.prop_map(|revision| Ask::HashKv(HashKvRequest { revision: revision.max(0) })),
        ]
        .boxed()
    }

    /// Anything.
    pub fn ask(&self) -> impl Strategy<Value = Ask> + use<> {
        prop_oneof![35 => self.keys(), 8 => leases(), 6 => self.watches(), 4 => self.looks()]
    }
}

fn put() -> impl Strategy<Value = PutRequest> {
    let flags = (any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    // What is kept is mostly not brought as well.
    (key(), bytes(&VALUES), lease(), flags, prop::bool::weighted(0.9)).prop_map(
        |(key, value, lease, (prev_kv, ignore_value, ignore_lease), fits)| PutRequest {
            key,
            value: if ignore_value && fits { Bytes::new() } else { value },
            lease: if ignore_lease && fits { 0 } else { lease },
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

fn delete_range() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

fn leases() -> impl Strategy<Value = Ask> {
    let ttl = prop_oneof![8 => Just(LONG), 1 => Just(9_000_000_000), 1 => Just(9_000_000_001)];
    let given = (LEASES, ttl).prop_map(|(id, ttl)| LeaseGrantRequest { id, ttl });
    // Whatever these are raised to: nobody speaks of them again.
    let ttl = prop_oneof![Just(0), -3..0i64, Just(i64::MIN), Just(1), Just(LONG)];
    let other = (prop_oneof![Just(0), 1000..i64::MAX], ttl)
        .prop_map(|(id, ttl)| LeaseGrantRequest { id, ttl });
    let id = || prop_oneof![12 => LEASES, 1 => Just(0), 2 => 5..8i64];
    let look = (id(), any::<bool>()).prop_map(|(id, keys)| LeaseTimeToLiveRequest { id, keys });
    prop_oneof![
        6 => given.prop_map(Ask::Grant),
        2 => other.prop_map(Ask::Grant),
        2 => id().prop_map(|id| Ask::Revoke(LeaseRevokeRequest { id })),
        4 => look.prop_map(Ask::TimeToLive),
        2 => Just(Ask::Leases(LeaseLeasesRequest {})),
        2 => id().prop_map(|id| Ask::KeepAlive(LeaseKeepAliveRequest { id })),
    ]
}
