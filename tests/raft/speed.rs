//! How fast it is, said and not judged: that depends on the machine and on how it was built.

use quorate::node::apply::Operation;
use quorate::node::replica::Replica;
use quorate::proto::etcdserverpb::PutRequest;
use tempfile::tempdir;

use crate::support::*;

/// Puts of 256 B a second, by so many writers on one member, and the mean time of one in µs.
async fn puts(member: &Member, writers: usize, each: usize) -> (f64, f64) {
    let begun = now();
    member
        .on(move |node| async move {
            let writer = |w: usize| {
                let node = node.clone();
                async move {
                    for n in 0..each {
                        let put = PutRequest {
                            key: format!("{w}/{n}").into(),
                            value: vec![b'x'; 256].into(),
                            ..PutRequest::default()
                        };
                        propose(&node, Operation::Put(put)).await.unwrap();
                    }
                }
            };
            futures_util::future::join_all((0..writers).map(writer)).await;
        })
        .await;
    let took = now().since(begun).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let (count, each) = ((writers * each) as f64, each as f64);
    (count / took, took / each * 1e6)
}

#[tokio::test]
async fn writes_and_reads_of_one_and_many() {
    for count in [1, 3] {
        let root = tempdir().unwrap();
        let members = cluster(root.path(), count, &options()).await;
        let leads = leader(&members).await;
        for (writers, each) in [(1, 300), (100, 30)] {
            let (rate, mean) = puts(&members[leads], writers, each).await;
            eprintln!(
                "{count} members, {writers} writers on the leader: {rate:.0}/s, {mean:.0} µs"
            );
        }
        if count > 1 {
            let (rate, mean) = puts(&members[(leads + 1) % count], 100, 30).await;
            eprintln!("{count} members, 100 writers on a follower: {rate:.0}/s, {mean:.0} µs");
        }
        for reader in [leads, (leads + 1) % count] {
            let begun = now();
            members[reader]
                .on(|node| async move {
                    for _ in 0..200 {
                        node.read_barrier().await.unwrap();
                    }
                })
                .await;
            let mean = now().since(begun) / 200;
            let role = if reader == leads { "the leader" } else { "a follower" };
            eprintln!("{count} members, linearizable reads one by one on {role}: {mean:?}");
        }
    }
}
