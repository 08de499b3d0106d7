//! What is promised of compactions and of leases, beside the order of all changes.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate::clock::Moment;

use super::history::{Asked, Asking, Changes, History};

/// A compaction: when it was asked for, and when it was acknowledged.
struct Compaction {
    revision: i64,
    began: u64,
    ended: Option<u64>,
    by: usize,
}

/// When each revision was first applied anywhere.
pub type Times = BTreeMap<i64, Moment>;

impl History {
    fn compactions(&self) -> Vec<Compaction> {
        let all = self.all.iter().enumerate();
        let compaction = |(by, it): (usize, &Asking)| {
            let Asked::Compact { revision, .. } = it.asked else { return None };
            let ended = it.told.as_ref().filter(|it| it.1.done).map(|it| it.0);
            Some(Compaction { revision, began: it.began, ended, by })
        };
        all.filter_map(compaction).collect()
    }

    /// Whether anybody asked for that.
    pub fn was_compacted(&self, at: i64) -> bool {
        self.compactions().iter().any(|it| it.revision == at)
    }

    /// Reads below a compaction are told so, and nobody else is.
    pub fn check_compactions(&self) -> Vec<String> {
        let compactions = self.compactions();
        let mut wrong = Vec::new();
        for (number, it) in self.all.iter().enumerate() {
            let Some((ended, told)) = &it.told else { continue };
            let least = match it.asked {
                // At the compacted revision all can be read.
                Asked::Past { revision, .. } => revision + 1,
                Asked::Compact { revision, .. } => revision,
                _ => continue,
            };
            let before = |it: &&Compaction| it.revision >= least && it.by != number;
            if told.done {
                let done = |c: &Compaction| c.ended.is_some_and(|ended| ended < it.began);
                let done = compactions.iter().filter(before).find(|c| done(c));
                if let Some(done) = done {
                    wrong.push(format!("{it:?}, after a compaction at {}", done.revision));
                }
            } else if !compactions.iter().filter(before).any(|c| c.began < *ended) {
                wrong.push(format!("{it:?}, and no other compaction reached that far"));
            }
        }
        wrong
    }

    /// A lease that nobody revokes lives on for its time after the last word that it lives.
    pub fn check_leases(&self, changes: &Changes, times: &Times) -> Vec<String> {
        let mut wrong = Vec::new();
        for it in &self.all {
            let Asked::Grant { lease, ttl } = it.asked else { continue };
            let about: Vec<_> = self.all.iter().filter(|it| it.asked.lease() == lease).collect();
            if about.iter().any(|it| matches!(it.asked, Asked::Revoke { .. })) {
                continue;
            }
            let told = |done: bool| {
                let about = about
                    .iter()
                    .filter(move |it| it.told.as_ref().is_some_and(|(_, told)| told.done == done));
                about.copied()
            };
            // From when it was asked for: when it was done, nobody here knows.
            let renews = |it: &&Asking| !matches!(it.asked, Asked::Put { .. });
            let last = told(true).filter(renews).map(|it| it.at).max();
            let Some(last) = last else { continue };
            let least = last.after(Duration::from_secs(ttl.unsigned_abs()));
            if let Some(early) = told(false).find(|it| it.until < least) {
                wrong.push(format!("{early:?}, and it was to live until {least:?}"));
            }
            let prefix = format!("l{lease}.");
            let ended = changes.iter().find(|(_, events)| {
                events.iter().any(|it| it.value.is_none() && it.key.starts_with(&prefix))
            });
            let ended = ended.and_then(|it| Some((it.0, times.get(it.0)?)));
            if let Some((revision, at)) = ended.filter(|it| *it.1 < least) {
                wrong.push(format!(
                    "lease {lease} of {ttl} s, last known to live at {last:?}, ended at {at:?} \
                     (revision {revision})"
                ));
            }
        }
        wrong
    }
}
