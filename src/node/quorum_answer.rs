//! The member list as a quorum vouches for it, found through the peers that a start knows.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use super::prepare::PEER_LIMIT;
use crate::client::{Client, peer};
use crate::cluster::{Member, MemberList, Role, quorum};

/// What each peer URL that answers has for a list.
type Lists = BTreeMap<String, Vec<Member>>;

/// A member list that a quorum vouches for.
///
/// Where not even a quorum of peer ports answers, none will vouch, and nobody is asked: a cluster
/// that starts as a whole would wait for itself.
pub(super) async fn quorum_answer(peers: &[String]) -> Option<MemberList> {
    let lists = local_lists(peers.iter().cloned().collect()).await;
    let endpoints: BTreeSet<_> =
        lists.values().flatten().flat_map(|it| it.client_urls.iter().cloned()).collect();
    let endpoints: Vec<_> = endpoints.into_iter().collect();
    if endpoints.is_empty() || !is_quorum_there(peers, &lists).await {
        return None;
    }
    Client::new(PEER_LIMIT).vouched_members(&endpoints).await.ok()
}

async fn local_lists(urls: BTreeSet<String>) -> Lists {
    let asked = urls.into_iter().map(|url| async {
        let answer = peer::members(&url, PEER_LIMIT).await.ok()?;
        Some((url, answer.members))
    });
    join_all(asked).await.into_iter().flatten().collect()
}

/// Whether the peer ports of a quorum of any of these lists answer. Each port is asked once, however
/// many lists have it.
async fn is_quorum_there(peers: &[String], lists: &Lists) -> bool {
    let listed = lists.values().flatten().flat_map(|it| &it.peer_urls);
    let not_asked = listed.filter(|url| !peers.contains(url)).cloned().collect();
    let others = local_lists(not_asked).await;
    let answers = |url: &String| lists.contains_key(url) || others.contains_key(url);
    lists.values().any(|list| {
        let voters: Vec<_> = list.iter().filter(|it| it.role == Role::Voter).collect();
        let there = voters.iter().filter(|it| it.peer_urls.iter().any(answers)).count();
        !voters.is_empty() && there >= quorum(voters.len())
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers `/members` with a list of so many voters of these URLs; counts who asks.
    async fn answer(listener: TcpListener, urls: Vec<String>, asked: Arc<AtomicUsize>) {
        let voter = |(id, url): (usize, &String)| json!({ "id": id + 1, "peerURLs": [url] });
        let body = json!(urls.iter().enumerate().map(voter).collect::<Vec<_>>()).to_string();
        let head = format!("X-Etcd-Cluster-ID: c1\r\nContent-Length: {}", body.len());
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            asked.fetch_add(1, Ordering::Relaxed);
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    /// Of seven voters so many answer, and a start knows the first ones of them. Whether a quorum is
    /// there, and how often each of those that answer was asked.
    async fn seven(answering: usize, known: usize) -> (bool, Vec<usize>) {
        let mut urls = Vec::new();
        let mut listeners = Vec::new();
        for _ in 0..7 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            urls.push(format!("http://{}", listener.local_addr().unwrap()));
            listeners.push(listener);
        }
        listeners.truncate(answering);
        let asked: Vec<_> = listeners.iter().map(|_| Arc::new(AtomicUsize::new(0))).collect();
        for (listener, asked) in listeners.into_iter().zip(&asked) {
            tokio::spawn(answer(listener, urls.clone(), Arc::clone(asked)));
        }
        let peers = &urls[..known];
        let lists = local_lists(peers.iter().cloned().collect()).await;
        let is_there = is_quorum_there(peers, &lists).await;
        (is_there, asked.iter().map(|it| it.load(Ordering::Relaxed)).collect())
    }

    #[tokio::test]
    async fn each_peer_is_asked_once_and_a_quorum_of_them_is_enough() {
        assert_eq!(seven(7, 6).await, (true, vec![1; 7]));
        // Also those that the start knows nothing of, once somebody has named them.
        assert_eq!(seven(4, 1).await, (true, vec![1; 4]));
        assert_eq!(seven(3, 7).await, (false, vec![1; 3]));
        assert_eq!(seven(0, 7).await, (false, vec![]));
    }
}
