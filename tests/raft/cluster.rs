//! What a healthy cluster does.

use std::time::Duration;

use quorate::node::apply::{Operation, Response};
use quorate::node::fault::Fault;
use quorate::node::replica::Replica;
use quorate::proto::etcdserverpb::{CompactionRequest, TxnRequest};
use tempfile::tempdir;

use crate::support::*;

#[tokio::test]
async fn three_founders_elect_a_leader_and_what_is_put_on_any_is_read_on_each() {
    let root = tempdir().unwrap();
    let begun = now();
    let members = cluster(root.path(), 3, &options()).await;
    eprintln!("three ready after {:?}", now().since(begun));
    leader(&members).await;
    for (n, member) in members.iter().enumerate() {
        let key = format!("k{n}");
        member.put(&key, "v").await.unwrap();
        // The member that answered has it, and a linearizable read sees it on each.
        assert_eq!(member.local(&key).unwrap(), "v");
        for other in &members {
            assert_eq!(other.get(&key).await.unwrap().unwrap(), "v");
        }
    }
    agree(&members.iter().collect::<Vec<_>>()).await;
    // Who is elected may change on a busy machine, and all hear of it.
    until("all know who leads", || {
        let leader = members[0].standing().leader;
        leader.is_some() && members.iter().all(|it| it.standing().leader == leader)
    })
    .await;
    // All are told of every change, in order, a moment after it is applied.
    until("all are told", || members.iter().all(|it| it.heard.0.lock().len() >= 3)).await;
    for member in &members {
        let heard = member.heard.0.lock().clone();
        let revisions: Vec<_> = heard.iter().map(|it| it.1).collect();
        assert_eq!(revisions, [2, 3, 4]);
        let list = member.node.members();
        let names: Vec<_> = list.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names.len(), 3);
        assert!(list.iter().all(|it| it.client_urls.len() == 1 && !it.is_learner));
        let standing = member.standing();
        assert!(!standing.is_learner && standing.term >= 1 && standing.committed > 3);
    }
    // A fault of the operation comes back from wherever it was asked.
    let compact = Operation::Compact(CompactionRequest { revision: 99, physical: false });
    for member in &members {
        assert_eq!(member.propose(compact.clone()).await, Err(Fault::FutureRevision));
    }
    for member in members {
        member.shutdown().await;
    }
}

#[tokio::test]
async fn many_writers_on_all_members_and_none_of_their_writes_is_lost_or_done_twice() {
    const WRITERS: usize = 30;
    const EACH: usize = 50;
    let root = tempdir().unwrap();
    let members = cluster(root.path(), 3, &options()).await;
    let begun = now();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let member = &members[writer % 3];
        writers.push(member.on(move |node| async move {
            for n in 0..EACH {
                let put = quorate::proto::etcdserverpb::PutRequest {
                    key: format!("{writer}/{n}").into(),
                    value: "v".into(),
                    ..Default::default()
                };
                propose(&node, Operation::Put(put)).await.unwrap();
            }
        }));
    }
    futures_util::future::join_all(writers).await;
    let took = now().since(begun);
    eprintln!("{} puts by {WRITERS} writers in {took:?}", WRITERS * EACH);
    let count = i64::try_from(WRITERS * EACH).unwrap();
    agree(&members.iter().collect::<Vec<_>>()).await;
    for member in &members {
        assert_eq!(member.state(quorate::node::apply::State::revision), 1 + count);
        assert_eq!(member.state(|it| it.kv.keys()), WRITERS * EACH);
    }
}

#[tokio::test]
async fn a_read_on_another_member_sees_every_write_that_was_acknowledged_before() {
    let root = tempdir().unwrap();
    let members = cluster(root.path(), 3, &options()).await;
    for n in 0..100 {
        let (writer, reader) = (&members[n % 3], &members[(n + 1) % 3]);
        let value = n.to_string();
        writer.put("k", &value).await.unwrap();
        assert_eq!(reader.get("k").await.unwrap().unwrap(), value);
    }
    // Many at once share a round.
    let begun = now();
    let reads = (0..500).map(|_| members[1].get("k"));
    for read in futures_util::future::join_all(reads).await {
        assert_eq!(read.unwrap().unwrap(), "99");
    }
    eprintln!("500 linearizable reads in {:?}", now().since(begun));
}

#[tokio::test]
async fn the_leadership_moves_where_it_is_told_to_and_writes_go_on() {
    let root = tempdir().unwrap();
    // Nobody campaigns before seven seconds have passed: what is quicker was handed over.
    let members = cluster(root.path(), 3, &calm()).await;
    let old = leader(&members).await;
    let (new, other) = (&members[(old + 1) % 3], &members[(old + 2) % 3]);
    let to = new.id();
    let not_leader = other.on(move |node| async move { node.move_leader(to).await }).await;
    assert_eq!(not_leader, Err(Fault::NotLeader));
    let stranger = quorate::cluster::MemberId(77);
    let bad = members[old].on(move |node| async move { node.move_leader(stranger).await }).await;
    assert_eq!(bad, Err(Fault::BadLeaderTransferee));
    let begun = now();
    members[old].on(move |node| async move { node.move_leader(to).await }).await.unwrap();
    assert!(now().since(begun) < Duration::from_secs(5));
    until("all know it", || members.iter().all(|it| it.standing().leader == Some(to))).await;
    for member in &members {
        put_somewhere(&[member], "k", "v").await;
    }
    // One that ends by itself hands over first.
    let all: Vec<_> = members.into_iter().collect();
    let (leads, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.id() == to);
    for member in leads {
        member.shutdown().await;
    }
    let took = put_somewhere(&rest.iter().collect::<Vec<_>>(), "k", "w").await;
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn an_empty_transaction_goes_through_the_log_like_any_other() {
    let root = tempdir().unwrap();
    let members = cluster(root.path(), 1, &options()).await;
    let answer = members[0].propose(Operation::Txn(TxnRequest::default())).await.unwrap();
    assert!(matches!(answer, Response::Txn(it) if it.succeeded));
}
