//! What the client makes of members that are dead, frozen, cut off, full or closed to it.

use std::time::Duration;

use quorate::client::{Client, ClientError, Refusal};
use quorate::cluster::MemberId;
use tokio::time::{Instant, sleep};

use crate::etcd::{Etcd, PATIENCE, until};

/// Enough for a healthy call on a busy machine, and far below the deadlines that nobody is to wait
/// for.
const PROMPT: Duration = Duration::from_secs(5);

/// Safety 5: without a quorum the list is unknown, whatever a lone member says.
#[tokio::test]
async fn safety_5_a_lone_member_cannot_vouch_for_the_list_it_still_tells() {
    let mut etcd = Etcd::start(3).await;
    let client = Client::new(Duration::from_secs(1));
    let patient = Client::new(PATIENCE);
    let before = until(async || client.vouched_members(&etcd.clients()).await, |_| true).await;
    etcd.kill(1);
    etcd.kill(2);

    // The one that answers connections says more than the two that refuse them. Its time is over a
    // tenth of a second before that of the whole, which a busy machine may miss now and then.
    let mut tries = 0;
    loop {
        tries += 1;
        let began = Instant::now();
        let unknown = client.vouched_members(&etcd.clients()).await.unwrap_err();
        assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
        let ClientError::NoEndpoint { tried: 3, source: Some(most_telling), .. } = unknown else {
            panic!("{unknown:?}")
        };
        if matches!(*most_telling, ClientError::Timeout { .. }) {
            break;
        }
        assert!(tries < 5, "{most_telling:?}");
    }
    let local = patient.local_members(&etcd.client(0)).await.unwrap();
    assert_eq!((local.cluster, &local.members), (before.cluster, &before.members));

    // A change is not even sent, so there is no doubt whether it happened.
    let unsent = client.remove(&etcd.clients(), before.members[0].id).await.unwrap_err();
    assert!(!unsent.is_ambiguous(), "{unsent:?}");
    let status = patient.status(&etcd.client(0)).await.unwrap();
    let end = Instant::now() + PATIENCE;
    while patient.status(&etcd.client(0)).await.unwrap().leader.is_some() {
        assert!(Instant::now() < end, "{status:?}");
        sleep(Duration::from_millis(50)).await;
    }
    let errors = patient.status(&etcd.client(0)).await.unwrap().errors;
    assert_eq!(errors, ["etcdserver: no leader"]);

    // A member that comes back is reached as soon as anyone could reach it, though this client
    // has failed on it all the while.
    etcd.restart(1);
    let returned = etcd.client(1);
    let end = Instant::now() + PATIENCE;
    while Client::new(Duration::from_secs(1)).status(&returned).await.is_err() {
        let _ = tokio::time::timeout(Duration::from_millis(50), client.status(&returned)).await;
        assert!(Instant::now() < end, "the member does not come back");
    }
    let began = Instant::now();
    until(async || client.status(&returned).await, |_| true).await;
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
    etcd.wait_for_leader(1).await;
    let after = until(async || client.vouched_members(&etcd.clients()).await, |_| true).await;
    assert_eq!(after.members, before.members);
}

#[tokio::test]
async fn a_frozen_member_times_out_alone_and_thaws_without_delay() {
    let etcd = Etcd::start(3).await;
    let client = Client::new(Duration::from_secs(10));
    let all = etcd.clients();
    // Make it the preferred one: it is the one that answered last.
    let (_, frozen) = etcd.leader_and_follower().await;
    client.status(&etcd.client(frozen)).await.unwrap();
    etcd.freeze(frozen);

    let began = Instant::now();
    let list = client.vouched_members(&all).await.unwrap();
    assert_eq!(list.members.len(), 3);
    let nobody = client.promote(&all, MemberId(0xdead)).await.unwrap_err();
    assert_eq!(nobody.refusal(), Some(Refusal::MemberNotFound), "{nobody:?}");
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());

    let (silence, others) = tokio::join!(
        async {
            let began = Instant::now();
            (client.status(&etcd.client(frozen)).await.unwrap_err(), began.elapsed())
        },
        async {
            let began = Instant::now();
            for endpoint in all.iter().filter(|it| **it != etcd.client(frozen)) {
                client.status(endpoint).await.unwrap();
            }
            began.elapsed()
        }
    );
    assert!(matches!(silence.0, ClientError::Timeout { .. }), "{silence:?}");
    assert!(silence.0.is_ambiguous());
    assert!((9900..20_000).contains(&silence.1.as_millis()), "{silence:?}");
    assert!(others < PROMPT, "{others:?}");

    etcd.thaw(frozen);
    let began = Instant::now();
    client.status(&etcd.client(frozen)).await.unwrap();
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_dead_member_is_told_from_a_broken_call() {
    let mut etcd = Etcd::start(3).await;
    let client = Client::new(Duration::from_secs(20));
    // The leader stays for now: an election would take its own time.
    let (leader, dead) = etcd.leader_and_follower().await;
    let other = 3 - leader - dead;
    let [leader_url, dead_url] = [leader, dead].map(|it| etcd.client(it));
    client.put(&dead_url, b"k", b"v").await.unwrap();

    // Nothing listens: certainly not sent, and known at once.
    etcd.kill(dead);
    // The news of the open connection's end is on its way; a call that overtakes it was sent.
    sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    let refused = client.put(&dead_url, b"k", b"w").await.unwrap_err();
    assert!(matches!(refused, ClientError::Unreachable { .. }), "{refused:?}");
    assert!(!refused.is_ambiguous() && began.elapsed() < PROMPT, "{:?}", began.elapsed());
    let dead_first = [dead_url, leader_url.clone(), etcd.client(other)];
    let began = Instant::now();
    assert_eq!(client.vouched_members(&dead_first).await.unwrap().members.len(), 3);
    let nobody = client.remove(&dead_first, MemberId(0xdead)).await.unwrap_err();
    assert_eq!(nobody.refusal(), Some(Refusal::MemberNotFound), "{nobody:?}");
    assert!(began.elapsed() < PROMPT, "{:?}", began.elapsed());

    // Sent, and then the member dies: who knows.
    etcd.kill(other);
    let (put, ()) = tokio::join!(client.put(&leader_url, b"k", b"x"), async {
        sleep(Duration::from_millis(500)).await;
        etcd.kill(leader);
    });
    let broken = put.unwrap_err();
    assert!(matches!(broken, ClientError::Interrupted { .. }), "{broken:?}");
    assert!(broken.is_ambiguous());

    for endpoint in ["https://127.0.0.1:1", "nonsense", ""] {
        let error = client.status(endpoint).await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    }
    let none = client.vouched_members(&[]).await.unwrap_err();
    assert!(matches!(none, ClientError::NoEndpoint { tried: 0, .. }), "{none:?}");
}

#[tokio::test]
async fn many_calls_share_one_connection() {
    let etcd = Etcd::start(1).await;
    let client = Client::new(PATIENCE);
    let endpoint = etcd.client(0);
    for round in 0..20 {
        let puts = (0..10).map(|it| {
            let (client, endpoint) = (client.clone(), &endpoint);
            async move { client.put(endpoint, format!("k{round}.{it}").as_bytes(), b"v").await }
        });
        for put in futures_util::future::join_all(puts).await {
            put.unwrap();
        }
    }
    let keys = client.keys(&endpoint, b"k1", true).await.unwrap();
    assert_eq!(keys.len(), 110);
    assert_eq!(keys[0], b"k1.0");
    assert_eq!(client.count(&endpoint, b"", false).await.unwrap(), 200);
    assert_eq!(connections_of_ours(etcd.host()), 1);
}

#[tokio::test]
async fn members_that_agree_have_equal_hashes_and_a_full_store_says_so() {
    let etcd = Etcd::start_with(3, &["--quota-backend-bytes", "262144"]).await;
    let client = Client::new(PATIENCE);
    let revision = client.put(&etcd.client(0), b"a", b"1").await.unwrap();
    assert_eq!(revision, 2);
    for endpoint in etcd.clients() {
        let got = client.get(&endpoint, b"a", false).await.unwrap();
        assert_eq!((got.revision, got.value.as_deref()), (2, Some(&b"1"[..])));
    }
    assert_eq!(client.get(&etcd.client(1), b"b", true).await.unwrap().value, None);
    let mut hashes = Vec::new();
    for endpoint in etcd.clients() {
        hashes.push(client.hash_kv(&endpoint, revision).await.unwrap());
    }
    assert_eq!(hashes, vec![hashes[0]; 3]);
    let future = client.hash_kv(&etcd.client(0), 99).await.unwrap_err();
    assert_eq!(future.refusal(), Some(Refusal::FutureRevision), "{future:?}");

    let big = vec![b'x'; 100_000];
    let end = Instant::now() + PATIENCE;
    let full = loop {
        match client.put(&etcd.client(0), b"big", &big).await {
            Err(error) => break error,
            Ok(_) => assert!(Instant::now() < end, "the quota is never reached"),
        }
    };
    assert_eq!(full.refusal(), Some(Refusal::NoSpace), "{full:?}");
    assert!(full.is_ambiguous(), "the write that fills the store is applied");
}

/// This process's open connections to `host`, from the kernel's table: remote address, state 01,
/// and a socket that is ours (etcd dials itself too).
fn connections_of_ours(host: &str) -> usize {
    let host: std::net::Ipv4Addr = host.parse().unwrap();
    let remote = format!("{:08X}:", u32::from_le_bytes(host.octets()));
    let sockets: Vec<_> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|it| {
            std::fs::read_link(it.unwrap().path()).ok()?.into_os_string().into_string().ok()
        })
        .collect();
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let rows = table.lines().map(|it| it.split_ascii_whitespace().collect::<Vec<_>>());
    rows.filter(|it| it[2].starts_with(&remote) && it[3] == "01")
        .filter(|it| sockets.contains(&format!("socket:[{}]", it[9])))
        .count()
}
