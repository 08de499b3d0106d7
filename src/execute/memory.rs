//! What a reconciler remembers between two readings; all of it may be lost at any time (safety 8).

use std::collections::{BTreeMap, BTreeSet};

use crate::client::Status;
use crate::cluster::{Exit, Health, MemberId, MemberList, NodeName, Process, Timestamp};

/// Since when things are as they were last seen.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Since when a node was seen other than healthy while a quorum answered.
    unhealthy_since: BTreeMap<NodeName, Timestamp>,
    /// Since when each listed member was seen.
    first_seen: BTreeMap<MemberId, Timestamp>,
    /// How each node's process was last seen, how far its start had come, and since when that is so.
    process_since: BTreeMap<NodeName, (Process, u64, Timestamp)>,
    /// Nodes that did not answer at the last reading.
    silent: BTreeSet<NodeName>,
    /// The applied index each member was last seen at, and since when.
    progress: BTreeMap<MemberId, (u64, Timestamp)>,
    /// How each node ended last, and when that was by a clock that nobody sets.
    exits: BTreeMap<NodeName, (Exit, Timestamp)>,
}

/// Since when one node is as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    pub(super) process: Timestamp,
    pub(super) unhealthy: Option<Timestamp>,
}

impl Memory {
    /// How a node's member is, from what it said of itself. `lead` is the last index that any
    /// member knows of.
    pub(super) fn health(
        &mut self,
        process: &Process,
        status: Option<&Status>,
        lead: u64,
        now: Timestamp,
    ) -> Health {
        if !matches!(process, Process::Running { .. }) {
            return Health::NotAsked;
        }
        let Some(status) = status else { return Health::Silent };
        let progress = self.progress.entry(status.member).or_insert((0, now));
        if status.applied_index > progress.0 {
            *progress = (status.applied_index, now);
        }
        Health::Answers {
            member: status.member,
            role: status.role,
            has_leader: status.leader.is_some(),
            // etcd's own measure of "in sync with leader" (etcdserver/server.go, readyPercent).
            caught_up: status.applied_index.saturating_mul(10) >= lead.saturating_mul(9),
            progress_at: progress.1,
        }
    }

    /// Begins a node's dwell anew: it does not answer, and is not to blame for it.
    pub(super) fn excuse(&mut self, name: &NodeName, now: Timestamp) {
        self.unhealthy_since.insert(name.clone(), now);
    }

    /// Takes note of how a node is seen now. `read_mib` is how much its process has read so far: one
    /// that prepares and gets on with it is looked at anew each time.
    pub(super) fn note(
        &mut self,
        name: &NodeName,
        process: &Process,
        read_mib: u64,
        health: Health,
        quorum_answers: bool,
        now: Timestamp,
    ) -> Since {
        let is_healthy = matches!(health, Health::Answers { has_leader: true, .. });
        let was_silent = self.silent.remove(name);
        if health == Health::Silent {
            self.silent.insert(name.clone());
        }
        if is_healthy {
            self.unhealthy_since.remove(name);
        } else if !quorum_answers || was_silent && health != Health::Silent {
            // Without a quorum nobody is to blame alone: every dwell begins when a quorum is back.
            // One that speaks again after a silence has not found its leader yet.
            self.unhealthy_since.insert(name.clone(), now);
        } else {
            self.unhealthy_since.entry(name.clone()).or_insert(now);
        }
        let read = if *process == Process::Preparing { read_mib } else { 0 };
        let since = self.process_since.get(name);
        let since = since.filter(|(was, was_read, _)| was == process && *was_read == read);
        let since = since.map_or(now, |(_, _, at)| *at);
        self.process_since.insert(name.clone(), (process.clone(), read, since));
        Since { process: since, unhealthy: self.unhealthy_since.get(name).copied() }
    }

    /// The same end, with a time of our own clock in place of a machine's, which was asked when it
    /// came about, and may have been set since. `wall` is what that says now.
    pub(super) fn dated(
        &mut self,
        name: &NodeName,
        exit: Exit,
        wall: Timestamp,
        now: Timestamp,
    ) -> Exit {
        let known = self.exits.get(name).filter(|it| it.0 == exit).map(|it| it.1);
        let at = known.unwrap_or_else(|| Timestamp(now.0.saturating_sub(wall.since(exit.at))));
        self.exits.insert(name.clone(), (exit.clone(), at));
        Exit { at, ..exit }
    }

    /// Takes note of who is in the list, and tells since when each one was seen there.
    pub(super) fn list(
        &mut self,
        list: Option<&MemberList>,
        now: Timestamp,
    ) -> BTreeMap<MemberId, Timestamp> {
        if let Some(list) = list {
            let listed: BTreeSet<_> = list.members.iter().map(|m| m.id).collect();
            self.first_seen.retain(|id, _| listed.contains(id));
            for id in listed {
                self.first_seen.entry(id).or_insert(now);
            }
        }
        self.first_seen.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ExitKind;

    #[test]
    fn a_start_that_gets_on_begins_its_dwell_anew_and_one_that_hangs_does_not() {
        let (mut memory, name) = (Memory::default(), NodeName::from("etcd1"));
        let mut since = |process: &Process, read, now| {
            memory.note(&name, process, read, Health::NotAsked, true, Timestamp(now)).process.0
        };
        let runs = Process::Running { supervised: true };
        assert_eq!(since(&Process::Preparing, 0, 10), 10);
        assert_eq!(since(&Process::Preparing, 0, 20), 10);
        assert_eq!(since(&Process::Preparing, 7, 30), 30);
        assert_eq!(since(&Process::Preparing, 7, 40), 30);
        // What it reads once it runs says nothing of how it is.
        assert_eq!(since(&runs, 8, 50), 50);
        assert_eq!(since(&runs, 9, 60), 50);
    }

    #[test]
    fn an_end_is_as_long_ago_as_it_was_whatever_the_clock_is_set_to() {
        let (mut memory, name) = (Memory::default(), NodeName::from("etcd1"));
        let end = |at| Exit {
            kind: ExitKind::Killed,
            member: None,
            at: Timestamp(at),
            detail: String::new(),
        };
        let mut dated =
            |at, wall, now| memory.dated(&name, end(at), Timestamp(wall), Timestamp(now)).at.0;
        assert_eq!(dated(900_000, 900_400, 5_000), 4_600);
        assert_eq!(dated(900_000, 999_999, 6_000), 4_600, "set forward");
        assert_eq!(dated(900_000, 100_000, 7_000), 4_600, "set back");
        assert_eq!(dated(100_500, 101_000, 8_000), 7_500, "another end");
    }
}
