//! What goes wrong, and what people and a failing reconciler do: each costs one fault.

use quorate::cluster::{ExitKind, quorum};

use super::acts::{Plan, added};
use super::world::{Blind, Data, Entry, Kind, Mode, Node, Proc, Stranger, Who, World};

impl World {
    /// Every world that is one fault away.
    pub(crate) fn failures(&self) -> Vec<World> {
        let mut out = Faults { from: *self, out: Vec::new() };
        for i in 0..self.nodes().len() {
            out.process(i);
            out.disk(i);
            out.hands(i);
            out.spec(i);
        }
        out.strangers();
        if self.pending.is_none() {
            out.reconciler();
        }
        out.out
    }
}

struct Faults {
    from: World,
    out: Vec<World>,
}

impl Faults {
    fn happens(&mut self, change: impl FnOnce(&mut World)) {
        let mut w = self.from;
        change(&mut w);
        w.settle();
        if w != self.from {
            self.out.push(w);
        }
    }

    fn node(&mut self, i: usize, change: impl FnOnce(&mut Node)) {
        self.happens(|w| change(&mut w.nodes[i]));
    }

    /// A process dies, hangs, cannot be reached, or cannot be started.
    fn process(&mut self, i: usize) {
        let proc = self.from.nodes[i].proc;
        if proc == Proc::Stopped {
            return;
        }
        self.happens(|w| w.end(i, None));
        match proc {
            Proc::Stopped => {}
            Proc::Barrier { agreed, .. } => self.node(i, |n| {
                n.proc = Proc::Barrier { agreed, frozen: true };
            }),
            Proc::Preparing { expect, replaces, .. } => {
                self.node(i, |n| n.proc = Proc::Preparing { expect, replaces, frozen: true });
                self.happens(|w| w.end(i, Some((ExitKind::AddressInUse, Some(expect)))));
            }
            Proc::Running { supervised, .. } => {
                for mode in [Mode::Frozen, Mode::Muted] {
                    self.node(i, |n| n.proc = Proc::Running { mode, supervised });
                }
                if let Proc::Running { mode, supervised: true } = proc {
                    self.node(i, |n| n.proc = Proc::Running { mode, supervised: false });
                }
            }
        }
    }

    /// Data is deleted, with or without the stamp beside it, damaged, or exchanged.
    fn disk(&mut self, i: usize) {
        let node = self.from.nodes[i];
        match (node.proc, node.data) {
            (Proc::Running { .. }, _) => {
                self.node(i, |n| n.gone = true);
                return;
            }
            (Proc::Stopped, _) => {}
            (Proc::Barrier { .. } | Proc::Preparing { .. }, _) => return,
        }
        if let Data::Of { who, .. } = node.data {
            self.node(i, |n| n.data = Data::Empty);
            self.node(i, |n| (n.data, n.stamp) = (Data::Empty, None));
            self.node(i, |n| n.data = Data::Damaged { who });
        }
        if node.managed || node.wanted {
            self.node(i, |n| (n.data, n.managed) = (Data::Foreign, true));
        }
        if node.managed && self.from.latched == Some(true) {
            self.node(i, |n| n.data = Data::Of { who: Who::Earlier, full: false });
        }
    }

    /// A person removes a member, adds one for a node of ours, or asks for a new one.
    fn hands(&mut self, i: usize) {
        let w = self.from;
        let node = w.nodes[i];
        if !w.has_quorum() {
            return;
        }
        if node.entry.is_some() {
            let mut removed = w;
            removed.remove(i, Some(Who::Current));
            // etcd's own check keeps people from removing the quorum.
            if removed.has_quorum() {
                self.happens(|w| w.drop_entry(i));
            }
            if node.wanted {
                self.node(i, |n| n.requested = true);
            }
        } else if w.living_voters() == w.voters() && node.wanted {
            let entry = added(node.wants_new_url);
            self.node(i, |n| n.entry = Some(Entry { voter: false, ..entry }));
            if w.living_voters() >= quorum(w.voters() + 1) {
                self.node(i, |n| n.entry = Some(entry));
            }
        }
    }

    /// A node comes into the spec, leaves it, takes another's place, or moves.
    fn spec(&mut self, i: usize) {
        let node = self.from.nodes[i];
        if !node.wanted {
            self.node(i, |n| n.wanted = true);
            for j in 0..self.from.nodes().len() {
                if self.from.nodes[j].wanted {
                    self.happens(|w| (w.nodes[i].wanted, w.nodes[j].wanted) = (true, false));
                }
            }
            return;
        }
        if self.from.nodes().iter().filter(|n| n.wanted).count() > 1 {
            self.node(i, |n| (n.wanted, n.requested) = (false, false));
        }
        self.node(i, |n| n.wants_new_url = !n.wants_new_url);
    }

    /// A voter is added for a place that is none of ours.
    fn strangers(&mut self) {
        let w = self.from;
        let is_allowed = w.has_quorum()
            && w.living_voters() == w.voters()
            && w.living_voters() >= quorum(w.voters() + 1);
        if w.stranger.is_none() && is_allowed {
            for started in [false, true] {
                self.happens(|w| w.stranger = Some(Stranger { started, old: false }));
            }
        }
    }

    /// The reconciler cannot see all, dies half way through a step or forgets everything, or is
    /// slow: whatever it planned comes later.
    fn reconciler(&mut self) {
        let mut blinds = vec![Blind::List, Blind::Refused];
        for i in 0..self.from.nodes().len() {
            blinds.extend([Blind::Disk(i), Blind::Process(i)]);
        }
        for blind in blinds {
            let plan = self.from.plan(blind);
            // Nobody gets on by waiting for what is refused.
            let may_wait = blind != Blind::Refused || self.from.latched != Some(true);
            assert!(may_wait || plan != Plan::Wait, "safety 5: waits to be let in\n{}", self.from);
            if let Plan::Act(act) = plan {
                if matches!(blind, Blind::List | Blind::Refused) {
                    let is_harmless = matches!(
                        act.kind,
                        Kind::FoundAnew
                            | Kind::FoundMore
                            | Kind::Start
                            | Kind::StopUnfounded
                            | Kind::StopByForce
                    );
                    assert!(is_harmless, "safety 5: {:?} without a list\n{}", act, self.from);
                }
                let next = self.from.execute(&act, false);
                self.out.extend(next.inspect(|next| super::check(&self.from, next, &act)));
            }
        }
        if let Plan::Act(act) = self.from.plan(Blind::Not) {
            self.out.extend(self.from.execute(&act, true));
            let mut w = self.from;
            w.latch();
            w.pending = Some(act.kind);
            for (node, part) in w.nodes.iter_mut().zip(act.parts) {
                node.pending = part;
            }
            self.out.push(w);
        }
        self.happens(|w| {
            for node in w.nodes_mut() {
                node.late = false;
                if let Some(entry) = &mut node.entry {
                    entry.old = false;
                }
            }
            w.stranger = w.stranger.map(|s| Stranger { old: false, ..s });
        });
    }
}
