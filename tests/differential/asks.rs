//! What is asked of a server, what it replies, and nothing of what it means.

use std::time::Duration;

use quorate::proto::etcdserverpb::auth_client::AuthClient;
use quorate::proto::etcdserverpb::cluster_client::ClusterClient;
use quorate::proto::etcdserverpb::kv_client::KvClient;
use quorate::proto::etcdserverpb::lease_client::LeaseClient;
use quorate::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AuthStatusRequest, AuthStatusResponse, CompactionRequest,
    CompactionResponse, DefragmentRequest, DefragmentResponse, DeleteRangeRequest,
    DeleteRangeResponse, HashKvRequest, HashKvResponse, LeaseGrantRequest, LeaseGrantResponse,
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse,
    LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse, MoveLeaderRequest, MoveLeaderResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, ResponseHeader, StatusRequest, StatusResponse,
    TxnRequest, TxnResponse, WatchCreateRequest, WatchResponse,
};
use tonic::transport::Channel;
use tonic::{Code, Status};

macro_rules! calls {
    ($($name:ident: $client:ident.$method:ident($request:ty) -> $response:ty;)*) => {
        /// One thing that a client asks for.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Ask {
            $($name($request),)*
            KeepAlive(LeaseKeepAliveRequest),
            Watch(WatchCreateRequest),
            /// The watch of this ID.
            Cancel(i64),
            Progress,
        }

        /// What it is answered.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Reply {
            $($name($response),)*
            KeepAlive(LeaseKeepAliveResponse),
            /// The answer on the stream of watches that is to the request, and not to a write.
            Watch(WatchResponse),
            /// Nothing at all, as is right.
            Silence,
        }

        impl Reply {
            pub fn header(&mut self) -> Option<&mut ResponseHeader> {
                match self {
                    $(Reply::$name(it) => it.header.as_mut(),)*
                    Reply::KeepAlive(it) => it.header.as_mut(),
                    Reply::Watch(it) => it.header.as_mut(),
                    Reply::Silence => None,
                }
            }
        }

        impl Clients {
            /// Asks what is no matter of the stream of watches.
            pub async fn ask(&self, ask: &Ask) -> Result<Reply, Status> {
                Ok(match ask.clone() {
                    $(Ask::$name(it) => {
                        Reply::$name(self.$client.clone().$method(it).await?.into_inner())
                    })*
                    Ask::KeepAlive(it) => {
                        let requests = futures_util::stream::iter([it]);
                        let answers = self.lease.clone().lease_keep_alive(requests).await?;
                        Reply::KeepAlive(answers.into_inner().message().await?.expect("an answer"))
                    }
                    Ask::Watch(_) | Ask::Cancel(_) | Ask::Progress => unreachable!("{ask:?}"),
                })
            }
        }
    };
}

calls! {
    Range: kv.range(RangeRequest) -> RangeResponse;
    Put: kv.put(PutRequest) -> PutResponse;
    DeleteRange: kv.delete_range(DeleteRangeRequest) -> DeleteRangeResponse;
    Txn: kv.txn(TxnRequest) -> TxnResponse;
    Compact: kv.compact(CompactionRequest) -> CompactionResponse;
    Grant: lease.lease_grant(LeaseGrantRequest) -> LeaseGrantResponse;
    Revoke: lease.lease_revoke(LeaseRevokeRequest) -> LeaseRevokeResponse;
    TimeToLive: lease.lease_time_to_live(LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse;
    Leases: lease.lease_leases(LeaseLeasesRequest) -> LeaseLeasesResponse;
    MemberList: cluster.member_list(MemberListRequest) -> MemberListResponse;
    MemberAdd: cluster.member_add(MemberAddRequest) -> MemberAddResponse;
    MemberRemove: cluster.member_remove(MemberRemoveRequest) -> MemberRemoveResponse;
    MemberUpdate: cluster.member_update(MemberUpdateRequest) -> MemberUpdateResponse;
    MemberPromote: cluster.member_promote(MemberPromoteRequest) -> MemberPromoteResponse;
    Status: maintenance.status(StatusRequest) -> StatusResponse;
    Alarm: maintenance.alarm(AlarmRequest) -> AlarmResponse;
    HashKv: maintenance.hash_kv(HashKvRequest) -> HashKvResponse;
    Defragment: maintenance.defragment(DefragmentRequest) -> DefragmentResponse;
    MoveLeader: maintenance.move_leader(MoveLeaderRequest) -> MoveLeaderResponse;
    AuthStatus: auth.auth_status(AuthStatusRequest) -> AuthStatusResponse;
}

/// A client of each service of one server.
pub struct Clients {
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    cluster: ClusterClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    auth: AuthClient<Channel>,
}

impl Clients {
    pub fn new(channel: &Channel) -> Clients {
        Clients {
            kv: KvClient::new(channel.clone()),
            lease: LeaseClient::new(channel.clone()),
            cluster: ClusterClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel.clone()),
            auth: AuthClient::new(channel.clone()),
        }
    }
}

/// A refusal: what clients decide by.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub code: Code,
    pub text: String,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Refusal {
        Refusal { code: status.code(), text: status.message().to_owned() }
    }
}

/// What came of it, and what has to be known to judge it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub said: Result<Reply, Refusal>,
    /// How long ago the lease in question was granted or renewed, at most.
    pub age: Duration,
}

impl Ask {
    /// Whether how far the watches got would be chance if they had not heard all by then.
    pub fn needs_level_watches(&self) -> bool {
        matches!(self, Ask::Compact(_) | Ask::Watch(_) | Ask::Cancel(_) | Ask::Progress)
    }
}
