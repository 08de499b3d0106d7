//! What all rounds together came to.

use std::collections::BTreeMap;
use std::fmt;

use crate::faults::Kind;

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) rounds: usize,
    /// Of rounds that did not end as they should; by their seed, with the reason.
    pub(crate) failed: Vec<(u64, String)>,
    pub(crate) faults: BTreeMap<Kind, usize>,
    pub(crate) acknowledged: usize,
    pub(crate) lost: usize,
    pub(crate) unknown: usize,
    pub(crate) happened: usize,
    pub(crate) reads: usize,
    /// Changes that watchers were told of.
    pub(crate) watched: usize,
    pub(crate) violations: usize,
    pub(crate) steps: usize,
    pub(crate) replaced: usize,
    pub(crate) not_safe: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} rounds: {} acknowledged writes, {} lost; {} without an answer, of which {} \
             happened; {} reads, {} changes told to watchers; {} violations",
            self.rounds,
            self.acknowledged,
            self.lost,
            self.unknown,
            self.happened,
            self.reads,
            self.watched,
            self.violations,
        )?;
        writeln!(
            f,
            "{} steps of `up`, {} of them removals; {} unsafe",
            self.steps, self.replaced, self.not_safe
        )?;
        let faults: Vec<_> = self.faults.iter().map(|(kind, n)| format!("{n} {kind:?}")).collect();
        writeln!(f, "{} faults: {}", self.faults.values().sum::<usize>(), faults.join(", "))?;
        for (seed, why) in &self.failed {
            let why = why.lines().next().unwrap_or_default();
            writeln!(f, "FAILED: QUORATE_SEED={seed} QUORATE_ROUNDS=1: {why:.400}")?;
        }
        Ok(())
    }
}
