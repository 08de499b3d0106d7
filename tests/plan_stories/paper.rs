//! A cluster on paper: one observation that all is well, for a story to spoil.

use std::collections::{BTreeMap, BTreeSet};

use quorate::cluster::{
    Answer, ClusterId, Disk, Evidence, Exit, ExitKind, Founding, FoundingId, Health, Identity,
    LedgerEntry, LedgerKind, Member, MemberId, MemberList, NodeName, NodeSeen, Observed, Options,
    Process, Record, Remediation, ReplaceRequest, Role, Timestamp, Wanted, WantedNode,
};
use quorate::plan::{Planned, Step, next_step, simulate};

pub(crate) const NOW: Timestamp = Timestamp(1_000_000_000_000);
pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);
pub(crate) const FOUNDING: FoundingId = FoundingId(0xf1);
pub(crate) const DAY: u64 = 24 * 60 * 60;

/// This many seconds before now.
pub(crate) fn ago(seconds: u64) -> Timestamp {
    millis_ago(seconds * 1000)
}

pub(crate) fn millis_ago(millis: u64) -> Timestamp {
    Timestamp(NOW.0 - millis)
}

pub(crate) fn name(i: u64) -> NodeName {
    NodeName(format!("n{i}"))
}

pub(crate) fn url(i: u64) -> String {
    format!("http://n{i}:2380")
}

pub(crate) fn wanted_node(i: u64) -> WantedNode {
    WantedNode { peer_url: url(i), client_urls: vec![format!("http://n{i}:2379")] }
}

pub(crate) fn identity(member: u64) -> Identity {
    Identity { cluster: CLUSTER, member: MemberId(member), founding: Some(FOUNDING) }
}

/// What member `id` answers when it is well.
pub(crate) fn answers(id: u64, role: Role) -> Health {
    Health::Answers {
        member: MemberId(id),
        role,
        has_leader: true,
        caught_up: true,
        progress_at: ago(1),
    }
}

/// A home that has never been used.
pub(crate) fn empty_node() -> NodeSeen {
    NodeSeen {
        process: Process::Stopped,
        process_since: ago(DAY),
        disk: Disk::Empty,
        stamp: None,
        promised: None,
        health: Health::NotAsked,
        unhealthy_since: None,
        exit: None,
        data_gone: false,
        peer_url: None,
        outdated: false,
    }
}

pub(crate) fn member(i: u64, role: Role) -> Member {
    Member {
        id: MemberId(i),
        name: format!("n{i}"),
        peer_urls: vec![url(i)],
        client_urls: vec![format!("http://n{i}:2379")],
        role,
    }
}

/// What is wanted and what is seen.
#[derive(Clone)]
pub(crate) struct Paper {
    pub(crate) wanted: Wanted,
    pub(crate) seen: Observed,
}

impl Paper {
    /// Nodes n1, n2, … with nothing on them, and no founding.
    pub(crate) fn blank(size: u64) -> Self {
        let wanted = Wanted {
            name: "paper".to_owned(),
            token: "paper".to_owned(),
            nodes: (1..=size).map(|i| (name(i), wanted_node(i))).collect(),
            options: Options::default(),
            remediation: Remediation::default(),
        };
        let seen = Observed {
            now: NOW,
            record: Record::default(),
            members: Answer::Unknown("no member answers".to_owned()),
            first_seen: BTreeMap::new(),
            nodes: (1..=size).map(|i| (name(i), empty_node())).collect(),
        };
        Paper { wanted, seen }
    }

    /// Nodes n1, n2, … that run the voters 1, 2, …, all well; n1 leads.
    pub(crate) fn well(size: u64) -> Self {
        let mut paper = Paper::blank(size);
        paper.seen.members = Answer::Known(MemberList {
            cluster: CLUSTER,
            leader: Some(MemberId(1)),
            members: (1..=size).map(|i| member(i, Role::Voter)).collect(),
        });
        paper.founded(true);
        for i in 1..=size {
            paper.seen.first_seen.insert(MemberId(i), ago(DAY));
            paper.runs(i, i, Role::Voter);
        }
        paper
    }

    /// A founding of all wanted nodes is on record, each of them started.
    pub(crate) fn founded(&mut self, latched: bool) {
        let nodes: BTreeMap<_, _> =
            self.wanted.nodes.iter().map(|(n, w)| (n.clone(), w.peer_url.clone())).collect();
        self.seen.record.founding = Some(Founding {
            id: FOUNDING,
            token: "paper".to_owned(),
            started: nodes.keys().cloned().collect::<BTreeSet<_>>(),
            nodes,
            cluster: latched.then_some(CLUSTER),
        });
    }

    /// Node `i` runs member `id` and is well.
    pub(crate) fn runs(&mut self, i: u64, id: u64, role: Role) {
        self.seen.nodes.insert(
            name(i),
            NodeSeen {
                process: Process::Running { supervised: true },
                disk: Disk::Holds(identity(id)),
                stamp: Some(identity(id)),
                health: answers(id, role),
                peer_url: Some(url(i)),
                ..empty_node()
            },
        );
    }

    pub(crate) fn node(&mut self, i: u64) -> &mut NodeSeen {
        self.seen.nodes.get_mut(&name(i)).expect("a node of the paper")
    }

    pub(crate) fn list(&mut self) -> &mut MemberList {
        match &mut self.seen.members {
            Answer::Known(list) => list,
            _ => panic!("no list on this paper"),
        }
    }

    pub(crate) fn member(&mut self, id: u64) -> &mut Member {
        let members = &mut self.list().members;
        members.iter_mut().find(|m| m.id.0 == id).expect("a member of the paper")
    }

    /// Puts a member into the list, first seen now.
    pub(crate) fn adds(&mut self, member: Member) {
        self.list().members.push(member);
    }

    /// A learner `id` for node `i` that was added and has not started.
    pub(crate) fn adds_learner(&mut self, i: u64, id: u64) {
        let added = member(i, Role::Learner);
        self.adds(Member {
            id: MemberId(id),
            name: String::new(),
            client_urls: Vec::new(),
            ..added
        });
    }

    pub(crate) fn removes(&mut self, id: u64) {
        self.list().members.retain(|m| m.id.0 != id);
    }

    /// Node `i` is stopped; its data is left as it was.
    pub(crate) fn stops(&mut self, i: u64) {
        let node = self.node(i);
        (node.process, node.health) = (Process::Stopped, Health::NotAsked);
        node.unhealthy_since = Some(NOW);
    }

    /// Node `i` is stopped and its data dir deleted.
    pub(crate) fn loses(&mut self, i: u64) {
        self.stops(i);
        self.node(i).disk = Disk::Empty;
    }

    /// Node `i` is stopped, and its log was found damaged then.
    pub(crate) fn damaged(&mut self, i: u64, at: Timestamp) {
        self.stops(i);
        self.node(i).disk = Disk::Damaged { stamp: identity(i) };
        self.ended(i, ExitKind::DataDamaged, i, at);
    }

    /// Node `i` runs and has not answered for so long.
    pub(crate) fn silent(&mut self, i: u64, since: Timestamp) {
        let node = self.node(i);
        (node.health, node.unhealthy_since) = (Health::Silent, Some(since));
    }

    pub(crate) fn ended(&mut self, i: u64, kind: ExitKind, id: u64, at: Timestamp) {
        let detail = "so it said".to_owned();
        self.node(i).exit = Some(Exit { kind, member: Some(MemberId(id)), at, detail });
    }

    /// A member of node `i` was given up before.
    pub(crate) fn gave_up(&mut self, i: u64, id: u64, at: Timestamp, what: LedgerKind) {
        let entry = LedgerEntry { node: name(i), member: MemberId(id), at, what };
        self.seen.record.ledger.push(entry);
    }

    /// Members of node `i` were replaced so often, an hour ago.
    pub(crate) fn replaced(&mut self, i: u64, times: u64) {
        for old in 0..times {
            let what = LedgerKind::Replaced(Evidence::DataLost);
            self.gave_up(i, 1000 + old, ago(3600), what);
        }
    }

    /// A person asks for a new member on node `i`.
    pub(crate) fn asks(&mut self, i: u64, id: u64, at: Timestamp) {
        let member = Some(MemberId(id));
        self.seen.record.requests.insert(name(i), ReplaceRequest { member, at });
    }

    /// The spec names one node more.
    pub(crate) fn wants(&mut self, i: u64) {
        self.wanted.nodes.insert(name(i), wanted_node(i));
        self.seen.nodes.entry(name(i)).or_insert_with(empty_node);
    }

    pub(crate) fn wants_no_more(&mut self, i: u64) {
        self.wanted.nodes.remove(&name(i));
    }

    /// Node `i` is to be elsewhere.
    pub(crate) fn moves(&mut self, i: u64, to: &str) {
        self.wants_at(i, to);
        self.node(i).outdated = true;
    }

    /// The spec has node `i` there.
    pub(crate) fn wants_at(&mut self, i: u64, to: &str) {
        let node = self.wanted.nodes.get_mut(&name(i)).expect("a wanted node");
        to.clone_into(&mut node.peer_url);
    }

    /// No list: nobody answers with a quorum behind it.
    pub(crate) fn loses_quorum(&mut self) {
        self.seen.members = Answer::Unknown("no member answers".to_owned());
    }

    pub(crate) fn step(&self) -> Step {
        next_step(&self.wanted, &self.seen)
    }

    /// The next step in words.
    pub(crate) fn says(&self) -> String {
        self.step().to_string()
    }

    /// The word for what blocks the next step.
    pub(crate) fn blocked(&self) -> &'static str {
        match self.step() {
            Step::Blocked { why } => why.reason,
            step => panic!("not blocked: {step}"),
        }
    }

    pub(crate) fn plans(&self) -> Vec<Planned> {
        simulate(&self.wanted, &self.seen, 50)
    }

    /// Every step to come.
    pub(crate) fn trace(&self) -> Vec<String> {
        self.plans().into_iter().map(|p| p.text).collect()
    }
}
