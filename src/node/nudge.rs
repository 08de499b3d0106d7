//! Helps an upstream etcd over the one place at which it can wait for ever.
//!
//! From 3.6 on, an etcd that starts publishes itself by a proposal, which it makes only once it has
//! applied all but 5,000 of what is committed. It takes its applied index from the last entry that
//! it applied; a snapshot does not count (etcd's `etcdserver/server.go`, `applySnapshot` and
//! `setAppliedIndex`; `v3_server.go`, `processInternalRaftRequestOnce`). So one that was brought up
//! to date by a snapshot alone refuses its own proposal, again and again and as fast as it can,
//! until somebody writes something. In a quiet cluster nobody does.
//!
//! Any entry of the log ends that, and one that changes nothing is as good as any.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::prepare::PEER_LIMIT;
use crate::client::{Client, peer};

/// What was done about an engine that waits.
#[derive(Debug, Default)]
pub(super) struct Nudge(Option<JoinHandle<()>>);

impl Nudge {
    /// Has the cluster that these peers belong to agree on nothing, unless that is under way.
    pub(super) fn give(&mut self, peers: Vec<String>) {
        if self.0.as_ref().is_none_or(JoinHandle::is_finished) {
            self.0 = Some(tokio::spawn(agree_on_nothing(peers)));
        }
    }
}

async fn agree_on_nothing(peers: Vec<String>) {
    let asked = peers.iter().map(|url| peer::members(url, PEER_LIMIT));
    let lists = join_all(asked).await.into_iter().flatten();
    let endpoints: BTreeSet<_> =
        lists.flat_map(|it| it.members).flat_map(|it| it.client_urls).collect();
    let endpoints: Vec<_> = endpoints.into_iter().collect();
    match Client::new(PEER_LIMIT).agree_on_nothing(&endpoints).await {
        Ok(()) => tracing::info!(
            "the engine waits for an entry after its snapshot; the cluster was given an empty one"
        ),
        // It is tried again as long as the engine complains.
        Err(error) => tracing::warn!(%error, "the engine waits for an entry after its snapshot"),
    }
}
