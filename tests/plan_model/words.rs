//! Worlds in a few lines, for whoever has to find out why one is refused.

use std::fmt;

use super::world::{Data, Entry, Mode, Node, Proc, World};

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quorum = if self.has_quorum() { "quorum" } else { "no quorum" };
        write!(f, "{quorum}, latched {:?}, acked {}", self.latched, self.acked)?;
        if let Some(stranger) = self.stranger {
            write!(f, ", stranger started {} old {}", stranger.started, stranger.old)?;
        }
        if let Some(kind) = self.pending {
            write!(f, ", pending {kind:?}")?;
        }
        for (i, node) in self.nodes().iter().enumerate() {
            write!(f, "\n    n{i}: {node}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = [
            (self.wanted, "wanted"),
            (self.wants_new_url, "to-move"),
            (!self.managed, "no-home"),
            (self.runs_at_new_url, "moved"),
            (self.founder, "founder"),
            (self.founder_started, "f-started"),
            (self.late, "late"),
            (self.gone, "gone"),
            (self.requested, "requested"),
        ];
        for (_, word) in flags.iter().filter(|(is, _)| *is) {
            write!(f, "{word} ")?;
        }
        match self.proc {
            Proc::Stopped => write!(f, "| stopped {:?}", self.exit)?,
            Proc::Barrier { agreed, frozen } => {
                write!(f, "| barrier agreed {agreed} frozen {frozen}")?;
            }
            Proc::Preparing { expect, replaces, frozen } => {
                write!(f, "| prepares {expect:?} for {replaces:?} frozen {frozen}")?;
            }
            Proc::Running { mode, supervised } => {
                write!(f, "| runs")?;
                if mode != Mode::Fine {
                    write!(f, " {mode:?}")?;
                }
                if !supervised {
                    write!(f, " alone")?;
                }
            }
        }
        match self.data {
            Data::Empty => write!(f, " | empty")?,
            Data::Of { who, full } => write!(f, " | data {who:?} full {full}")?,
            Data::Damaged { who } => write!(f, " | damaged {who:?}")?,
            Data::Foreign => write!(f, " | foreign")?,
        }
        write!(f, " stamp {:?}", self.stamp)?;
        if let Some(entry) = self.entry {
            write!(f, " | {entry}")?;
        }
        if let Some(part) = self.pending {
            write!(f, " | {part:?}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.voter { "voter" } else { "learner" })?;
        let flags = [
            (self.leads, "leads"),
            (!self.started, "unstarted"),
            (self.has_run, "has-run"),
            (self.adopted, "adopted"),
            (self.in_sync, "in-sync"),
            (self.old, "old"),
            (self.at_new_url, "moved"),
        ];
        for (_, word) in flags.iter().filter(|(is, _)| *is) {
            write!(f, " {word}")?;
        }
        Ok(())
    }
}
