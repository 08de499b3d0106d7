//! Lease: every call.

use quorate::proto::etcdserverpb::lease_client::LeaseClient;
use quorate::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, kv_client::KvClient,
};
use tonic::Code;

use crate::etcd::{Etcd, connect, feed};

#[tokio::test]
async fn a_lease_is_granted_listed_renewed_and_revoked_with_its_keys() {
    let etcd = Etcd::start(1).await;
    let channel = connect(&etcd).await;
    let mut lease = LeaseClient::new(channel.clone());
    let mut kv = KvClient::new(channel);

    let request = LeaseGrantRequest { ttl: 60, id: 0x1234_5678_9abc };
    let granted = lease.lease_grant(request).await.unwrap().into_inner();
    assert_eq!((granted.id, granted.ttl, &*granted.error), (0x1234_5678_9abc, 60, ""));
    let id = granted.id;
    // Shorter than the shortest that etcd grants.
    let short = lease.lease_grant(LeaseGrantRequest { ttl: 1, id: 0 }).await.unwrap().into_inner();
    assert!(short.id != 0 && short.ttl == 2, "{short:?}");
    lease.lease_revoke(LeaseRevokeRequest { id: short.id }).await.unwrap();

    for key in ["a", "b"] {
        let put = PutRequest { key: key.into(), lease: id, ..PutRequest::default() };
        kv.put(put).await.unwrap();
    }
    let request = LeaseTimeToLiveRequest { id, keys: true };
    let left = lease.lease_time_to_live(request).await.unwrap().into_inner();
    assert_eq!((left.id, left.granted_ttl), (id, 60));
    assert!((50..=60).contains(&left.ttl), "{left:?}");
    let mut keys: Vec<_> = left.keys.iter().map(|it| it.to_vec()).collect();
    keys.sort();
    assert_eq!(keys, [b"a", b"b"]);

    let leases = lease.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner();
    assert_eq!(leases.leases.iter().map(|it| it.id).collect::<Vec<_>>(), [id]);

    let (renewals, stream) = feed();
    renewals.send(LeaseKeepAliveRequest { id }).await.unwrap();
    renewals.send(LeaseKeepAliveRequest { id: 9 }).await.unwrap();
    let mut answers = lease.lease_keep_alive(stream).await.unwrap().into_inner();
    let renewed = answers.message().await.unwrap().unwrap();
    assert_eq!((renewed.id, renewed.ttl), (id, 60));
    let unknown = answers.message().await.unwrap().unwrap();
    assert_eq!((unknown.id, unknown.ttl), (9, 0));

    let revoked = lease.lease_revoke(LeaseRevokeRequest { id }).await.unwrap().into_inner();
    assert_eq!(revoked.header.unwrap().revision, 4);
    let request = LeaseTimeToLiveRequest { id, keys: true };
    let gone = lease.lease_time_to_live(request).await.unwrap().into_inner();
    assert_eq!((gone.ttl, gone.keys.len()), (-1, 0));
    let missing = lease.lease_revoke(LeaseRevokeRequest { id }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(missing.message(), "etcdserver: requested lease not found");
}
