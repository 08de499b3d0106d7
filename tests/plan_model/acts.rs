//! Our steps, with the fences that `plan::Step` asks of an executor, and what nodes do by
//! themselves.

use quorate::cluster::{ExitKind, NodeName};
use quorate::plan::{Step, StopReason, next_step};

use super::world::{
    Blind, Data, Entry, FRESH, Kind, MAX, Mode, Node, Part, Proc, Who, World, index, member_of, url,
};

/// A planned step in the terms of this world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Act {
    pub(crate) kind: Kind,
    pub(crate) parts: [Option<Part>; MAX],
}

/// Where a plan leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    Act(Act),
    Wait,
    /// For this reason.
    Blocked(&'static str),
    Done,
}

const PART: Part = Part { who: None, replaces: None, flag: false };

impl Plan {
    pub(crate) fn of(step: &Step) -> Plan {
        let mut parts = [None; MAX];
        let mut all = |nodes: &[NodeName]| nodes.iter().for_each(|n| parts[index(n)] = Some(PART));
        let kind = match step {
            Step::Wait { .. } => return Plan::Wait,
            Step::Blocked { why } => return Plan::Blocked(why.reason),
            Step::Done => return Plan::Done,
            Step::Found { nodes, founding } => {
                all(nodes);
                if founding.is_some() { Kind::FoundMore } else { Kind::FoundAnew }
            }
            Step::Start { nodes } => {
                for start in nodes {
                    let who = member_of(start.member).map(|(i, who)| {
                        assert_eq!(i, index(&start.node), "{step} for another node's member");
                        who
                    });
                    let replaces = start.replaces.and_then(member_of).map(|(_, who)| who);
                    parts[index(&start.node)] = Some(Part { who, replaces, ..PART });
                }
                Kind::Start
            }
            Step::Stop { node, member, why } => {
                let who = member.and_then(member_of).map(|(_, who)| who);
                parts[index(node)] = Some(Part { who, ..PART });
                match why {
                    StopReason::Silent => Kind::StopByForce,
                    StopReason::Unfounded => Kind::StopUnfounded,
                    StopReason::Retired | StopReason::Restart => Kind::Stop,
                }
            }
            Step::MoveLeader { from, to } => {
                for (id, flag) in [(from, false), (to, true)] {
                    let (i, who) = member_of(*id).expect("a stranger never leads here");
                    parts[i] = Some(Part { who: Some(who), flag, ..PART });
                }
                Kind::MoveLeader
            }
            Step::Remove { member, .. } => match member_of(*member) {
                None => Kind::RemoveStranger,
                Some((i, who)) => {
                    parts[i] = Some(Part { who: Some(who), ..PART });
                    Kind::Remove
                }
            },
            Step::AddLearner { node, peer_url } => {
                let i = index(node);
                parts[i] = Some(Part { flag: *peer_url == url(i, true), ..PART });
                Kind::AddLearner
            }
            Step::Promote { member, .. } => {
                let (i, who) = member_of(*member).expect("strangers are voters");
                parts[i] = Some(Part { who: Some(who), ..PART });
                Kind::Promote
            }
            Step::UpdatePeerUrls { member, peer_urls, .. } => {
                let (i, who) = member_of(*member).expect("a member of a node");
                let flag = *peer_urls == [url(i, true)];
                parts[i] = Some(Part { who: Some(who), flag, ..PART });
                Kind::UpdateUrl
            }
            Step::ForgetNode { node, data_of } => {
                let who = data_of.and_then(member_of).map(|(_, who)| who);
                parts[index(node)] = Some(Part { who, ..PART });
                Kind::Forget
            }
        };
        Plan::Act(Act { kind, parts })
    }
}

impl World {
    pub(crate) fn step(&self, blind: Blind) -> Step {
        next_step(&self.wanted(), &self.observe(blind))
    }

    /// What is planned, which must be fit to be planned here.
    pub(crate) fn plan(&self, blind: Blind) -> Plan {
        let plan = Plan::of(&self.step(blind));
        if let Plan::Act(act) = &plan {
            super::check_plan(self, act);
        }
        plan
    }

    /// The reconciler writes down the cluster ID whenever a quorum answers it.
    pub(crate) fn latch(&mut self) {
        if self.has_quorum() {
            self.latched = self.latched.map(|_| true);
        }
    }

    /// Carries out a step as an executor does; `None` where a fence refuses it or nothing
    /// changes. With `half`, the executor dies in the middle.
    pub(crate) fn execute(&self, act: &Act, half: bool) -> Option<World> {
        let mut w = *self;
        let limit = if half { 1 } else { MAX };
        let parts = act.parts.iter().enumerate().filter_map(|(i, p)| Some((i, (*p)?))).take(limit);
        let is_done = match act.kind {
            Kind::FoundAnew => w.found_anew() && parts.fold(true, |ok, (i, _)| ok && w.found(i)),
            Kind::FoundMore => parts.fold(true, |ok, (i, _)| ok && w.found(i)),
            Kind::Start => {
                parts.for_each(|(i, part)| w.start(i, part));
                true
            }
            Kind::Stop | Kind::StopUnfounded | Kind::StopByForce => {
                parts.fold(true, |_, (i, part)| w.stop(i, part.who, act.kind))
            }
            Kind::MoveLeader => w.move_leader(act),
            Kind::Remove => parts.fold(true, |_, (i, part)| w.remove(i, part.who)),
            Kind::RemoveStranger => {
                let may = w.has_quorum() && w.stranger.is_some();
                w.stranger = w.stranger.filter(|_| !may);
                may
            }
            Kind::AddLearner => parts.fold(true, |_, (i, part)| w.add_learner(i, part.flag)),
            Kind::Promote => parts.fold(true, |_, (i, part)| w.promote(i, part.who)),
            Kind::UpdateUrl => parts.fold(true, |_, (i, part)| w.update_url(i, part)),
            Kind::Forget => parts.fold(true, |_, (i, part)| w.forget(i, part.who)),
        };
        w.settle();
        (is_done && w != *self).then_some(w)
    }

    /// Refused while any node runs, holds data or bears a stamp, and once a cluster is latched.
    fn found_anew(&mut self) -> bool {
        let is_clear =
            |n: &Node| n.proc == Proc::Stopped && n.data == Data::Empty && n.stamp.is_none();
        if self.latched == Some(true) || !self.nodes().iter().all(is_clear) {
            return false;
        }
        // Only if every single home is gone may something acknowledged have been there: no
        // observation can tell that from a founding that nothing came of.
        self.acked = false;
        self.latched = Some(false);
        for i in 0..self.nodes().len() {
            self.drop_entry(i);
            let node = &mut self.nodes[i];
            node.founder = node.wanted;
            node.founded_at_new_url = node.wants_new_url && node.wanted;
            node.founder_started = false;
        }
        true
    }

    fn found(&mut self, i: usize) -> bool {
        let node = &mut self.nodes[i];
        if !node.founder || node.founder_started || node.proc != Proc::Stopped {
            return false;
        }
        node.founder_started = true;
        node.proc = Proc::Barrier { agreed: false, frozen: false };
        (node.exit, node.late, node.managed) = (None, false, true);
        node.runs_at_new_url = node.wants_new_url;
        true
    }

    fn start(&mut self, i: usize, part: Part) {
        let node = &mut self.nodes[i];
        // A node that runs holds its lock.
        let (Proc::Stopped, Some(expect)) = (node.proc, part.who) else { return };
        let owns = matches!(node.data, Data::Of { who: Who::Current, .. });
        let entry = node.entry.as_mut().filter(|e| e.voter && !e.started && !owns);
        if let Some(entry) = entry.filter(|_| expect == Who::Current) {
            if entry.adopted {
                return;
            }
            entry.adopted = true;
        }
        node.proc = Proc::Preparing { expect, replaces: part.replaces, frozen: false };
        (node.exit, node.late, node.managed) = (None, false, true);
        if node.wanted {
            node.runs_at_new_url = node.wants_new_url;
        }
    }

    fn stop(&mut self, i: usize, who: Option<Who>, kind: Kind) -> bool {
        let node = &self.nodes[i];
        let runs = match node.proc {
            Proc::Preparing { expect, .. } => Some(expect),
            Proc::Running { .. } => node.stamp,
            Proc::Barrier { .. } | Proc::Stopped => None,
        };
        if who.is_some() && runs.is_some() && who != runs {
            return false;
        }
        if kind == Kind::StopUnfounded && !matches!(node.proc, Proc::Barrier { .. }) {
            return false;
        }
        let exit = if kind == Kind::StopByForce { ExitKind::Killed } else { ExitKind::Clean };
        self.end(i, Some((exit, runs)));
        true
    }

    /// The node's processes are gone.
    pub(crate) fn end(&mut self, i: usize, exit: Option<(ExitKind, Option<Who>)>) {
        let node = &mut self.nodes[i];
        if node.gone {
            (node.data, node.gone) = (Data::Empty, false);
        }
        (node.proc, node.exit, node.late) = (Proc::Stopped, exit, false);
    }

    fn move_leader(&mut self, act: &Act) -> bool {
        let place = |flag| act.parts.iter().position(|p| p.is_some_and(|p| p.flag == flag));
        let (Some(from), Some(to)) = (place(false), place(true)) else { return false };
        let is_current = |i: usize| act.parts[i].and_then(|p| p.who) == Some(Who::Current);
        let leads = self.nodes[from].entry.is_some_and(|e| e.leads) && is_current(from);
        let able = self.nodes[to].entry.is_some_and(|e| e.voter)
            && is_current(to)
            && self.lives(&self.nodes[to]);
        if !self.has_quorum() || !leads || !able {
            return false;
        }
        for (i, node) in self.nodes_mut().iter_mut().enumerate() {
            if let Some(entry) = &mut node.entry {
                entry.leads = i == to;
            }
        }
        true
    }

    pub(crate) fn remove(&mut self, i: usize, who: Option<Who>) -> bool {
        if !self.has_quorum() || self.nodes[i].entry.is_none() || who != Some(Who::Current) {
            return false;
        }
        self.drop_entry(i);
        true
    }

    /// As etcd does: one learner at a time, and none while a voter is down.
    fn add_learner(&mut self, i: usize, at_new_url: bool) -> bool {
        let is_learner = |n: &Node| n.entry.is_some_and(|e| !e.voter);
        let is_refused = self.nodes().iter().any(is_learner)
            || self.living_voters() < self.voters()
            || self.nodes[i].entry.is_some();
        if !self.has_quorum() || is_refused {
            return false;
        }
        self.nodes[i].entry = Some(Entry { voter: false, ..added(at_new_url) });
        true
    }

    /// As etcd does: it looks at how far the learner's log is, not at whether it still runs.
    fn promote(&mut self, i: usize, who: Option<Who>) -> bool {
        let has_quorum = self.has_quorum();
        let entry = self.nodes[i].entry.as_mut();
        let Some(entry) = entry.filter(|e| !e.voter && e.in_sync && who == Some(Who::Current))
        else {
            return false;
        };
        entry.voter |= has_quorum;
        has_quorum
    }

    fn update_url(&mut self, i: usize, part: Part) -> bool {
        let has_quorum = self.has_quorum();
        let entry = self.nodes[i].entry.as_mut().filter(|_| part.who == Some(Who::Current));
        let Some(entry) = entry.filter(|_| has_quorum) else { return false };
        entry.at_new_url = part.flag;
        true
    }

    fn forget(&mut self, i: usize, data_of: Option<Who>) -> bool {
        let node = &self.nodes[i];
        let lies_there = match node.data {
            Data::Empty => None,
            Data::Of { who, .. } | Data::Damaged { who } => Some(who),
            Data::Foreign => return false,
        };
        if node.proc != Proc::Stopped || lies_there.is_some() && lies_there != data_of {
            return false;
        }
        self.assert_nobodys(i, lies_there);
        let node = &mut self.nodes[i];
        *node = Node {
            wanted: node.wanted,
            wants_new_url: node.wants_new_url,
            founder: node.founder,
            founded_at_new_url: node.founded_at_new_url,
            founder_started: node.founder_started,
            entry: node.entry,
            ..FRESH
        };
        true
    }

    fn assert_nobodys(&self, i: usize, who: Option<Who>) {
        let is_owned = who == Some(Who::Current) && self.nodes[i].entry.is_some();
        assert!(!is_owned, "safety 13: data that a living member owns is set aside\n{self}");
    }

    /// Everything nodes may do next by themselves, in the order in which it is soonest to be
    /// expected. A fair world does not count on luck: that is left out with `fair`.
    pub(crate) fn events(&self, fair: bool) -> Vec<World> {
        let mut out = Vec::new();
        for i in 0..self.nodes().len() {
            let mut w = *self;
            let is_changed = match w.nodes[i].proc {
                Proc::Stopped
                | Proc::Barrier { frozen: true, .. }
                | Proc::Preparing { frozen: true, .. }
                | Proc::Running { mode: Mode::Frozen, .. } => false,
                Proc::Barrier { agreed, frozen: false } => w.at_barrier(i, agreed),
                Proc::Preparing { expect, replaces, frozen: false } => {
                    w.prepare(i, expect, replaces)
                }
                Proc::Running { .. } => w.serve(i),
            };
            if is_changed {
                w.settle();
                out.push(w);
            }
            let thawed = match self.nodes[i].proc {
                _ if fair => continue,
                Proc::Running { mode: Mode::Frozen | Mode::Muted, supervised } => {
                    Proc::Running { mode: Mode::Fine, supervised }
                }
                Proc::Barrier { agreed, frozen: true } => Proc::Barrier { agreed, frozen: false },
                Proc::Preparing { expect, replaces, frozen: true } => {
                    Proc::Preparing { expect, replaces, frozen: false }
                }
                _ => continue,
            };
            let mut w = *self;
            (w.nodes[i].proc, w.nodes[i].late) = (thawed, false);
            w.settle();
            out.push(w);
        }
        if let Some(stranger) = self.stranger.filter(|s| !s.started && !fair) {
            let mut w = *self;
            w.stranger = Some(super::world::Stranger { started: true, ..stranger });
            w.settle();
            out.push(w);
        }
        out
    }

    /// Safety 2. A founder is agreed once every other one was heard at the barrier, and leaves
    /// once every other one is agreed or has left.
    fn at_barrier(&mut self, i: usize, agreed: bool) -> bool {
        let at_home = |n: &Node| n.runs_at_new_url == n.founded_at_new_url;
        let others = || {
            let founders = self.nodes().iter().enumerate().filter(|(_, n)| n.founder);
            founders.filter(|(j, _)| *j != i).map(|(_, n)| n)
        };
        let is_engine =
            |n: &Node| matches!(n.proc, Proc::Running { mode: Mode::Fine | Mode::Muted, .. });
        if !agreed {
            if others().any(is_engine) {
                self.end(i, Some((ExitKind::AlreadyBootstrapped, None)));
                return true;
            }
            let is_heard =
                |n: &Node| matches!(n.proc, Proc::Barrier { frozen: false, .. }) && at_home(n);
            if !others().all(is_heard) {
                return false;
            }
            self.nodes[i].proc = Proc::Barrier { agreed: true, frozen: false };
            return true;
        }
        let agreed = Proc::Barrier { agreed: true, frozen: false };
        let is_past = |n: &Node| n.proc == agreed || is_engine(n);
        if !others().all(is_past) {
            return false;
        }
        if self.voters() == 0 {
            assert!(!self.acked, "safety 1: founded over what was acknowledged\n{self}");
            for node in self.nodes_mut().iter_mut().filter(|n| n.founder) {
                // A founder's name is in the list from the beginning.
                let url = node.founded_at_new_url;
                node.entry = Some(Entry { voter: true, started: true, ..added(url) });
            }
        }
        let node = &mut self.nodes[i];
        // Somebody may have removed it while it waited; it will learn that from its peers.
        let who = if node.entry.is_some() { Who::Current } else { Who::Former };
        if let Some(entry) = &mut node.entry {
            assert!(!entry.has_run, "safety 1, 2: a founder that had run before founds again");
            entry.has_run = true;
        }
        (node.stamp, node.data) = (Some(who), Data::Of { who, full: false });
        node.proc = Proc::Running { mode: Mode::Fine, supervised: true };
        node.late = false;
        true
    }

    /// What `quorate node` decides (src/node/decide.rs is the real table).
    fn prepare(&mut self, i: usize, expect: Who, replaces: Option<Who>) -> bool {
        let has_quorum = self.has_quorum();
        let node = self.nodes[i];
        let is_listed = |who| who == Who::Current && node.entry.is_some();
        let lost = match node.data {
            Data::Foreign => {
                self.end(i, Some((ExitKind::Foreign, Some(expect))));
                return true;
            }
            Data::Of { who, .. } if node.stamp == Some(who) => {
                if !has_quorum || is_listed(who) {
                    self.run(i);
                    return true;
                }
                Some((who, ExitKind::Removed))
            }
            Data::Of { who, .. } => Some((who, ExitKind::StaleData)),
            Data::Damaged { who } => Some((who, ExitKind::DataDamaged)),
            Data::Empty => None,
        };
        let refusal = match (lost, node.entry) {
            (Some((who, kind)), _) if !has_quorum || is_listed(who) || replaces != Some(who) => {
                Some(kind)
            }
            (None, _) if !has_quorum => Some(ExitKind::NoPeers),
            (_, None) => Some(ExitKind::MemberCountUnequal),
            (_, Some(entry))
                if entry.at_new_url != node.runs_at_new_url && expect != Who::Current =>
            {
                Some(ExitKind::MemberCountUnequal)
            }
            _ if expect != Who::Current => Some(ExitKind::StaleData),
            (_, Some(entry)) => {
                let ran_here = entry.voter && node.stamp == Some(Who::Current);
                (entry.started || ran_here).then_some(ExitKind::DataLost)
            }
        };
        if let Some(kind) = refusal {
            self.end(i, Some((kind, Some(expect))));
            return true;
        }
        if let Some((who, _)) = lost {
            self.assert_nobodys(i, Some(who));
        }
        let entry = self.nodes[i].entry.as_mut().expect("not refused");
        assert!(!(entry.voter && entry.has_run), "safety 2: a voter without its memory runs");
        entry.has_run = true;
        (self.nodes[i].stamp, self.nodes[i].data) =
            (Some(Who::Current), Data::Of { who: Who::Current, full: false });
        self.run(i);
        true
    }

    fn run(&mut self, i: usize) {
        self.nodes[i].proc = Proc::Running { mode: Mode::Fine, supervised: true };
        self.nodes[i].late = false;
    }

    /// A running engine ends when it learns that it was removed; one that joined publishes its
    /// name, and catches up.
    fn serve(&mut self, i: usize) -> bool {
        if !self.has_quorum() {
            return false;
        }
        let lives = self.lives(&self.nodes[i]);
        let Data::Of { who, .. } = self.nodes[i].data else { return false };
        match &mut self.nodes[i].entry {
            Some(entry) if who == Who::Current => {
                if !lives || entry.started && (entry.voter || entry.in_sync) {
                    return false;
                }
                // Progress is measured anew from here.
                entry.old = false;
                if entry.started { entry.in_sync = true } else { entry.started = true }
            }
            _ => self.end(i, Some((ExitKind::Removed, Some(who)))),
        }
        true
    }

    /// Time passes: every dwell runs out.
    pub(crate) fn time_passes(&self) -> Option<World> {
        let mut w = *self;
        let has_quorum = self.has_quorum();
        for node in w.nodes_mut() {
            let is_well = has_quorum
                && self.lives(node)
                && matches!(node.proc, Proc::Running { mode: Mode::Fine, .. });
            let has_waited = node.exit.is_some()
                || node.proc != Proc::Stopped
                || node.founder_started && self.latched == Some(false);
            node.late |= node.managed && !is_well && has_waited;
            if let Some(entry) = &mut node.entry {
                entry.old |= !entry.started || !entry.voter;
            }
        }
        if let Some(stranger) = &mut w.stranger {
            stranger.old |= !stranger.started;
        }
        (w != *self).then_some(w)
    }
}

/// An entry that was just added.
pub(crate) fn added(at_new_url: bool) -> Entry {
    Entry {
        voter: true,
        started: false,
        has_run: false,
        adopted: false,
        in_sync: false,
        old: false,
        at_new_url,
        leads: false,
    }
}
