//! Compacts the history by itself (`--auto-compaction-mode`, `--auto-compaction-retention`).
//!
//! Source: etcd's `server/etcdserver/api/v3compactor`.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::node::apply::{Operation, State};
use crate::node::fault::Fault;
use crate::node::replica::Replica;
use crate::proto::etcdserverpb::CompactionRequest;

/// How much of the history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// What was there this long ago can still be read.
    Period(Duration),
    /// So many revisions.
    Revisions(i64),
}

/// No period is looked at in larger steps than a tenth of this.
const LONGEST: Duration = Duration::from_hours(1);
/// In a period, the revision is noted so often.
const NOTES: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// Between two compactions by the number of revisions.
const BY_REVISIONS: Duration = Duration::from_mins(5);

/// Compacts for ever. Each member keeps its own account of when which revision was; the one that
/// leads acts on it.
pub(super) async fn run<R: Replica>(replica: Arc<R>, retention: Retention) {
    match retention {
        Retention::Period(period) => {
            let step = (period.min(LONGEST) / NOTES.get()).max(Duration::from_millis(1));
            let kept = period.as_nanos() / step.as_nanos();
            let mut noted = VecDeque::new();
            let mut ticks = ticks(step);
            for tick in 1_u32.. {
                ticks.tick().await;
                noted.push_back(replica.read(State::revision));
                if (noted.len() as u128) <= kept {
                    continue;
                }
                let then = noted.pop_front().unwrap_or_default();
                if tick % NOTES == 0 {
                    compact(&*replica, then).await;
                }
            }
        }
        Retention::Revisions(kept) => {
            let mut ticks = ticks(BY_REVISIONS);
            loop {
                ticks.tick().await;
                compact(&*replica, replica.read(State::revision).saturating_sub(kept)).await;
            }
        }
    }
}

fn ticks(step: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(step);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

async fn compact<R: Replica>(replica: &R, revision: i64) {
    let leads = replica.standing().leader == Some(replica.member());
    if !leads || revision <= replica.read(|it| it.kv.compacted()) {
        return;
    }
    let request = CompactionRequest { revision, physical: false };
    match replica.propose(Operation::Compact(request)).await {
        Ok(_) => tracing::info!(revision, "the history before it was compacted"),
        // Somebody has compacted further meanwhile.
        Err(Fault::Compacted) => {}
        Err(fault) => tracing::warn!(%fault, revision, "not compacted; tried again later"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{ClusterId, MemberId};
    use crate::node::alone::Alone;
    use crate::proto::etcdserverpb::PutRequest;

    async fn put(alone: &Alone) {
        let put = PutRequest { key: "a".into(), ..PutRequest::default() };
        alone.propose(Operation::Put(put)).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_older_than_the_period_goes_and_what_is_not_stays() {
        let alone = Arc::new(Alone::new(ClusterId(1), MemberId(2)));
        let period = Retention::Period(Duration::from_millis(300));
        let task = tokio::spawn(run(Arc::clone(&alone), period));
        for _ in 0..5 {
            put(&alone).await;
        }
        let old = alone.read(State::revision);
        let compacted = || alone.read(|it| it.kv.compacted());
        tokio::time::timeout(Duration::from_secs(20), async {
            while compacted() < old {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("it compacts");
        assert_eq!(compacted(), old, "what is there now stays");
        alone.stand(|it| it.leader = Some(MemberId(3)));
        put(&alone).await;
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!(compacted(), old, "who does not lead leaves it to the leader");
        task.abort();
    }
}
