//! Every call of the API: where it is found, what kind of call it is, and who may make it.

/// The service that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Kv,
    Watch,
    Lease,
    Cluster,
    Maintenance,
    AuthStatus,
    Health,
    /// A call of etcd that is not built yet.
    None,
}

/// Which side sends more than one message; as the metrics call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unary,
    ServerStream,
    BidiStream,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        }
    }
}

/// Whether a learner answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Learner {
    Yes,
    No,
    /// The request decides.
    Asks,
}

/// One call.
#[derive(Debug)]
pub(super) struct Method {
    /// `/package.Service/Call`.
    pub(super) path: &'static str,
    pub(super) service: Service,
    pub(super) kind: Kind,
    pub(super) learner: Learner,
}

impl Method {
    /// Service and call, as the metrics name them.
    pub(super) fn names(&self) -> (&'static str, &'static str) {
        self.path.trim_start_matches('/').split_once('/').unwrap_or_default()
    }
}

/// The call of this path, and its place in [`ALL`].
pub(super) fn find(path: &str) -> Option<(usize, &'static Method)> {
    let at = ALL.binary_search_by(|it| it.path.cmp(path)).ok()?;
    Some((at, &ALL[at]))
}

/// Whether there is a service of that name, with whatever calls.
pub(super) fn has_service(name: &str) -> bool {
    ALL.iter().any(|it| it.names().0 == name)
}

const fn method(path: &'static str, service: Service, kind: Kind, learner: Learner) -> Method {
    Method { path, service, kind, learner }
}

const fn unary(path: &'static str, service: Service) -> Method {
    method(path, service, Kind::Unary, Learner::No)
}

/// The calls that go the short way.
pub(super) const PUT: &str = "/etcdserverpb.KV/Put";
pub(super) const RANGE: &str = "/etcdserverpb.KV/Range";

/// Sorted by path.
pub(super) const ALL: &[Method] = &[
    unary("/etcdserverpb.Auth/AuthDisable", Service::None),
    unary("/etcdserverpb.Auth/AuthEnable", Service::None),
    unary("/etcdserverpb.Auth/AuthStatus", Service::AuthStatus),
    unary("/etcdserverpb.Auth/Authenticate", Service::None),
    unary("/etcdserverpb.Auth/RoleAdd", Service::None),
    unary("/etcdserverpb.Auth/RoleDelete", Service::None),
    unary("/etcdserverpb.Auth/RoleGet", Service::None),
    unary("/etcdserverpb.Auth/RoleGrantPermission", Service::None),
    unary("/etcdserverpb.Auth/RoleList", Service::None),
    unary("/etcdserverpb.Auth/RoleRevokePermission", Service::None),
    unary("/etcdserverpb.Auth/UserAdd", Service::None),
    unary("/etcdserverpb.Auth/UserChangePassword", Service::None),
    unary("/etcdserverpb.Auth/UserDelete", Service::None),
    unary("/etcdserverpb.Auth/UserGet", Service::None),
    unary("/etcdserverpb.Auth/UserGrantRole", Service::None),
    unary("/etcdserverpb.Auth/UserList", Service::None),
    unary("/etcdserverpb.Auth/UserRevokeRole", Service::None),
    unary("/etcdserverpb.Cluster/MemberAdd", Service::Cluster),
    unary("/etcdserverpb.Cluster/MemberList", Service::Cluster),
    unary("/etcdserverpb.Cluster/MemberPromote", Service::Cluster),
    unary("/etcdserverpb.Cluster/MemberRemove", Service::Cluster),
    unary("/etcdserverpb.Cluster/MemberUpdate", Service::Cluster),
    unary("/etcdserverpb.KV/Compact", Service::Kv),
    unary("/etcdserverpb.KV/DeleteRange", Service::Kv),
    unary(PUT, Service::Kv),
    method(RANGE, Service::Kv, Kind::Unary, Learner::Asks),
    method("/etcdserverpb.KV/RangeStream", Service::Kv, Kind::ServerStream, Learner::No),
    unary("/etcdserverpb.KV/Txn", Service::Kv),
    unary("/etcdserverpb.Lease/LeaseGrant", Service::Lease),
    method("/etcdserverpb.Lease/LeaseKeepAlive", Service::Lease, Kind::BidiStream, Learner::No),
    unary("/etcdserverpb.Lease/LeaseLeases", Service::Lease),
    unary("/etcdserverpb.Lease/LeaseRevoke", Service::Lease),
    unary("/etcdserverpb.Lease/LeaseTimeToLive", Service::Lease),
    unary("/etcdserverpb.Maintenance/Alarm", Service::Maintenance),
    unary("/etcdserverpb.Maintenance/Defragment", Service::Maintenance),
    unary("/etcdserverpb.Maintenance/Downgrade", Service::None),
    unary("/etcdserverpb.Maintenance/Hash", Service::Maintenance),
    unary("/etcdserverpb.Maintenance/HashKV", Service::Maintenance),
    unary("/etcdserverpb.Maintenance/MoveLeader", Service::Maintenance),
    method("/etcdserverpb.Maintenance/Snapshot", Service::None, Kind::ServerStream, Learner::Yes),
    method("/etcdserverpb.Maintenance/Status", Service::Maintenance, Kind::Unary, Learner::Yes),
    method("/etcdserverpb.Watch/Watch", Service::Watch, Kind::BidiStream, Learner::No),
    unary("/grpc.health.v1.Health/Check", Service::Health),
    method("/grpc.health.v1.Health/Watch", Service::Health, Kind::ServerStream, Learner::No),
    unary("/v3electionpb.Election/Campaign", Service::None),
    unary("/v3electionpb.Election/Leader", Service::None),
    method("/v3electionpb.Election/Observe", Service::None, Kind::ServerStream, Learner::No),
    unary("/v3electionpb.Election/Proclaim", Service::None),
    unary("/v3electionpb.Election/Resign", Service::None),
    unary("/v3lockpb.Lock/Lock", Service::None),
    unary("/v3lockpb.Lock/Unlock", Service::None),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_found_by_its_path() {
        assert!(ALL.is_sorted_by(|a, b| a.path < b.path));
        for (at, method) in ALL.iter().enumerate() {
            assert_eq!(find(method.path).unwrap().0, at);
            assert!(has_service(method.names().0));
        }
        assert!(find("/etcdserverpb.KV/Nothing").is_none() && !has_service("etcdserverpb.K"));
    }
}
