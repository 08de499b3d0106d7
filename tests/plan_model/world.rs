//! The fake world: what is really there, as opposed to what an observation shows of it.
//!
//! Members are not numbered: every node has at most one entry in the list, and whatever else
//! carries an identity (data, stamp, an order to start) says whether it is that entry's or a
//! former one's ([`Who`]). So worlds that differ only in names and IDs are equal once their
//! nodes are sorted.
//!
//! Time is a flag: `late` and `old` say that every dwell has run out. Writes go on whenever a
//! quorum lives, so data is `full` (holds every acknowledged entry) if its voter lived when a
//! quorum last did.

use std::collections::BTreeMap;

use quorate::cluster::{
    Answer, ClusterId, Disk, Exit, ExitKind, Founding, FoundingId, Health, Identity, Member,
    MemberId, MemberList, NodeName, NodeSeen, Observed, Options, Process, Record, Remediation,
    ReplaceRequest, Role, Timestamp, Wanted, WantedNode, quorum,
};

/// The most nodes a world has.
pub(crate) const MAX: usize = 6;

/// Which of a node's members: the one in the list, the one before it, or an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Who {
    Current,
    Former,
    Earlier,
}

impl Who {
    /// What it is once the current member has left the list.
    pub(crate) fn aged(self) -> Who {
        match self {
            Who::Current => Who::Former,
            Who::Former | Who::Earlier => Who::Earlier,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Proc {
    Stopped,
    /// At the barrier; `agreed` once it has heard every other founder.
    Barrier {
        agreed: bool,
        frozen: bool,
    },
    /// Looking at its disk and its peers, on these orders.
    Preparing {
        expect: Who,
        replaces: Option<Who>,
        frozen: bool,
    },
    Running {
        mode: Mode,
        supervised: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Mode {
    Fine,
    /// Does nothing, until somebody thaws or kills it.
    Frozen,
    /// Serves its peers, and the reconciler cannot reach it.
    Muted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Data {
    Empty,
    Of { who: Who, full: bool },
    Damaged { who: Who },
    Foreign,
}

/// A node's entry in the cluster's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) voter: bool,
    /// Has a name in the list: founders from the beginning, others once they have published it.
    pub(crate) started: bool,
    /// Its engine has run, whether it could say so or not.
    pub(crate) has_run: bool,
    /// Its start was written down, because it is a voter that somebody added.
    pub(crate) adopted: bool,
    /// A learner that has caught up.
    pub(crate) in_sync: bool,
    /// In the list, or without progress, for longer than any patience.
    pub(crate) old: bool,
    pub(crate) at_new_url: bool,
    pub(crate) leads: bool,
}

/// What a planned step says of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Part {
    pub(crate) who: Option<Who>,
    pub(crate) replaces: Option<Who>,
    pub(crate) flag: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Node {
    pub(crate) wanted: bool,
    /// The spec has it at its second address.
    pub(crate) wants_new_url: bool,
    /// Has a home.
    pub(crate) managed: bool,
    /// Last started at its second address.
    pub(crate) runs_at_new_url: bool,
    pub(crate) founder: bool,
    pub(crate) founded_at_new_url: bool,
    /// Written down before its first start.
    pub(crate) founder_started: bool,
    pub(crate) proc: Proc,
    /// On the disk; of a running node whose data is `gone`, what the engine still has open.
    pub(crate) data: Data,
    pub(crate) gone: bool,
    pub(crate) stamp: Option<Who>,
    pub(crate) exit: Option<(ExitKind, Option<Who>)>,
    /// As it is (stopped, starting, not well) for longer than any dwell.
    pub(crate) late: bool,
    /// A person asked for its present member to be replaced.
    pub(crate) requested: bool,
    pub(crate) entry: Option<Entry>,
    /// Its part in a step planned earlier.
    pub(crate) pending: Option<Part>,
}

pub(crate) const FRESH: Node = Node {
    wanted: false,
    wants_new_url: false,
    managed: false,
    runs_at_new_url: false,
    founder: false,
    founded_at_new_url: false,
    founder_started: false,
    proc: Proc::Stopped,
    data: Data::Empty,
    gone: false,
    stamp: None,
    exit: None,
    late: false,
    requested: false,
    entry: None,
    pending: None,
};

/// A voter that somebody added for a place that is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Stranger {
    pub(crate) started: bool,
    pub(crate) old: bool,
}

/// The kinds of steps, without the nodes they speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    FoundAnew,
    FoundMore,
    Start,
    Stop,
    StopUnfounded,
    StopByForce,
    MoveLeader,
    Remove,
    RemoveStranger,
    AddLearner,
    Promote,
    UpdateUrl,
    Forget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct World {
    pub(crate) nodes: [Node; MAX],
    pub(crate) size: u8,
    /// A founding is recorded; `Some(true)` once its cluster ID is latched.
    pub(crate) latched: Option<bool>,
    pub(crate) stranger: Option<Stranger>,
    /// Some write was acknowledged.
    pub(crate) acked: bool,
    /// A step planned on an earlier observation, yet to be executed.
    pub(crate) pending: Option<Kind>,
}

/// What a reconciler fails to see in one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blind {
    Not,
    List,
    /// The members answer that they may not be asked.
    Refused,
    Disk(usize),
    Process(usize),
}

pub(crate) fn name(i: usize) -> NodeName {
    NodeName(format!("n{i}"))
}

pub(crate) fn index(name: &NodeName) -> usize {
    name.0[1..].parse().expect("n and a number")
}

pub(crate) fn url(i: usize, is_new: bool) -> String {
    if is_new { format!("http://moved{i}:2380") } else { format!("http://n{i}:2380") }
}

const STRANGER: MemberId = MemberId(99);
const NOW: Timestamp = Timestamp(1_000_000_000);
const LONG_AGO: Timestamp = Timestamp(1);
const CLUSTER: ClusterId = ClusterId(7);

pub(crate) fn member_id(i: usize, who: Who) -> MemberId {
    MemberId(u64::try_from(i).expect("few nodes") * 10 + who as u64 + 1)
}

/// The node and which of its members; `None` for the stranger.
pub(crate) fn member_of(id: MemberId) -> Option<(usize, Who)> {
    let who = [Who::Current, Who::Former, Who::Earlier];
    let place = |id: u64| usize::try_from(id).expect("few members");
    (id != STRANGER).then(|| (place(id.0 / 10), who[place(id.0 % 10) - 1]))
}

fn time(is_long_ago: bool) -> Timestamp {
    if is_long_ago { LONG_AGO } else { NOW }
}

impl World {
    pub(crate) fn new(wanted: usize, spare: usize) -> Self {
        let mut nodes = [FRESH; MAX];
        nodes.iter_mut().take(wanted).for_each(|n| n.wanted = true);
        World {
            nodes,
            size: u8::try_from(wanted + spare).expect("few nodes"),
            latched: None,
            stranger: None,
            acked: false,
            pending: None,
        }
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes[..usize::from(self.size)]
    }

    pub(crate) fn nodes_mut(&mut self) -> &mut [Node] {
        &mut self.nodes[..usize::from(self.size)]
    }

    pub(crate) fn wanted(&self) -> Wanted {
        let nodes = self.nodes().iter().enumerate().filter(|(_, n)| n.wanted).map(|(i, n)| {
            let peer_url = url(i, n.wants_new_url);
            (name(i), WantedNode { peer_url, client_urls: vec![format!("http://c{i}:2379")] })
        });
        Wanted {
            name: "w".to_owned(),
            token: "w".to_owned(),
            nodes: nodes.collect(),
            options: Options::default(),
            remediation: Remediation::default(),
        }
    }

    /// Whether a node's member takes part: runs, and is where its peers look for it.
    pub(crate) fn lives(&self, node: &Node) -> bool {
        let is_up = matches!(node.proc, Proc::Running { mode: Mode::Fine | Mode::Muted, .. });
        let owns = matches!(node.data, Data::Of { who: Who::Current, .. });
        // The only voter needs nobody to reach it.
        let is_alone = |e: Entry| e.voter && self.voters() == 1;
        let is_reached =
            node.entry.is_some_and(|e| e.at_new_url == node.runs_at_new_url || is_alone(e));
        is_up && owns && is_reached
    }

    /// Whether a node's voter serves clients: one that could take the leadership over.
    pub(crate) fn answers(&self, node: &Node) -> bool {
        self.has_quorum()
            && self.lives(node)
            && node.entry.is_some_and(|e| e.voter)
            && matches!(node.proc, Proc::Running { mode: Mode::Fine, .. })
    }

    pub(crate) fn voters(&self) -> usize {
        let ours = self.nodes().iter().filter(|n| n.entry.is_some_and(|e| e.voter)).count();
        ours + usize::from(self.stranger.is_some())
    }

    pub(crate) fn living_voters(&self) -> usize {
        let is_voter = |n: &&Node| n.entry.is_some_and(|e| e.voter);
        let ours = self.nodes().iter().filter(is_voter).filter(|n| self.lives(n)).count();
        ours + usize::from(self.stranger.is_some_and(|s| s.started))
    }

    pub(crate) fn has_quorum(&self) -> bool {
        self.voters() > 0 && self.living_voters() >= quorum(self.voters())
    }

    /// A quorum could be made of voters that remember the cluster and lack what was acknowledged
    /// last. A voter that has just joined remembers nothing, and cannot lead before it does.
    pub(crate) fn may_forget(&self) -> bool {
        let lacks = |n: &&Node| {
            n.entry.is_some_and(|e| e.voter && e.started)
                && matches!(n.data, Data::Of { who: Who::Current, full: false })
        };
        self.voters() > 0 && self.nodes().iter().filter(lacks).count() >= quorum(self.voters())
    }

    /// True while the disks could bring a quorum back, or nothing was ever founded.
    pub(crate) fn is_recoverable(&self) -> bool {
        let owns = |n: &&Node| {
            n.entry.is_some_and(|e| e.voter)
                && !n.gone
                && n.stamp == Some(Who::Current)
                && matches!(n.data, Data::Of { who: Who::Current, .. })
        };
        let kept = self.nodes().iter().filter(owns).count();
        let kept = kept + usize::from(self.stranger.is_some_and(|s| s.started));
        self.voters() == 0 || kept >= quorum(self.voters())
    }

    /// What follows by itself from what is there: who leads, what a quorum acknowledges, who is
    /// well again.
    pub(crate) fn settle(&mut self) {
        let has_quorum = self.has_quorum();
        self.acked |= has_quorum;
        let before = *self;
        for (node, was) in self.nodes_mut().iter_mut().zip(before.nodes()) {
            let lives = before.lives(was);
            let Some(entry) = &mut node.entry else { continue };
            entry.leads &= lives && entry.voter;
            let receives = has_quorum && lives && (entry.voter || entry.in_sync);
            if receives && matches!(node.proc, Proc::Running { mode: Mode::Fine, .. }) {
                node.late = false;
            }
            if let Data::Of { full, .. } = &mut node.data
                && has_quorum
            {
                *full = receives;
            }
        }
        let leads = |n: &Node| n.entry.is_some_and(|e| e.leads);
        if has_quorum && !self.nodes().iter().any(leads) {
            let able = |n: &Node| before.lives(n) && n.entry.is_some_and(|e| e.voter);
            let first = before.nodes().iter().position(able);
            if let Some(entry) = first.and_then(|i| self.nodes[i].entry.as_mut()) {
                entry.leads = true;
            }
        }
    }

    /// Takes a node's entry out of the list: what was the current member's is a former one's.
    pub(crate) fn drop_entry(&mut self, i: usize) {
        let node = &mut self.nodes[i];
        node.entry = None;
        node.requested = false;
        node.stamp = node.stamp.map(Who::aged);
        match &mut node.data {
            Data::Of { who, full } => (*who, *full) = (who.aged(), false),
            Data::Damaged { who } => *who = who.aged(),
            Data::Empty | Data::Foreign => {}
        }
        if let Some((_, who)) = &mut node.exit {
            *who = who.map(Who::aged);
        }
        if let Proc::Preparing { expect, replaces, .. } = &mut node.proc {
            (*expect, *replaces) = (expect.aged(), replaces.map(Who::aged));
        }
        if let Some(part) = &mut node.pending {
            (part.who, part.replaces) = (part.who.map(Who::aged), part.replaces.map(Who::aged));
        }
    }

    fn identity(i: usize, who: Who) -> Identity {
        let member = member_id(i, who);
        Identity { cluster: CLUSTER, member, founding: Some(FoundingId(1)) }
    }

    fn disk(i: usize, node: &Node) -> Disk {
        if matches!(node.proc, Proc::Running { .. }) {
            let unstamped = || Disk::Unknown("no stamp".to_owned());
            return node.stamp.map_or_else(unstamped, |who| Disk::Holds(Self::identity(i, who)));
        }
        match node.data {
            Data::Empty => Disk::Empty,
            Data::Foreign => Disk::Foreign("somebody's data".to_owned()),
            Data::Damaged { who } => Disk::Damaged { stamp: Self::identity(i, who) },
            Data::Of { who, .. } if node.stamp == Some(who) => Disk::Holds(Self::identity(i, who)),
            Data::Of { who, .. } => Disk::Stale { log: Self::identity(i, who) },
        }
    }

    fn health(&self, i: usize, node: &Node) -> Health {
        match (node.proc, node.data) {
            (Proc::Running { mode: Mode::Fine, .. }, Data::Of { who, .. }) => {
                let entry = node.entry.filter(|_| who == Who::Current);
                Health::Answers {
                    member: member_id(i, who),
                    role: if entry.is_some_and(|e| e.voter) { Role::Voter } else { Role::Learner },
                    has_leader: self.lives(node) && self.has_quorum(),
                    caught_up: entry.is_some_and(|e| e.voter || e.in_sync),
                    progress_at: time(entry.is_some_and(|e| e.old)),
                }
            }
            (Proc::Running { .. }, _) => Health::Silent,
            (Proc::Stopped | Proc::Barrier { .. } | Proc::Preparing { .. }, _) => Health::NotAsked,
        }
    }

    /// What a reconciler sees.
    pub(crate) fn observe(&self, blind: Blind) -> Observed {
        // Learners do not vouch for anything.
        let is_blind = matches!(blind, Blind::List | Blind::Refused);
        let has_list = !is_blind && self.nodes().iter().any(|n| self.answers(n));
        let mut nodes = BTreeMap::new();
        for (i, node) in self.nodes().iter().enumerate() {
            if node.wanted || node.managed {
                nodes.insert(name(i), self.see(i, node, has_list, blind));
            }
        }
        let members = if has_list {
            Answer::Known(self.member_list())
        } else if blind == Blind::Refused {
            Answer::Refused("auth is on".to_owned())
        } else {
            Answer::Unknown("no quorum".to_owned())
        };
        let entries = self.nodes().iter().enumerate().filter_map(|(i, n)| Some((i, n.entry?)));
        let seen = entries.map(|(i, e)| (member_id(i, Who::Current), time(e.old)));
        let first_seen = seen.chain(self.stranger.map(|s| (STRANGER, time(s.old)))).collect();
        Observed { now: NOW, record: self.record(), members, first_seen, nodes }
    }

    fn see(&self, i: usize, node: &Node, has_list: bool, blind: Blind) -> NodeSeen {
        let unread = || "it could not be read".to_owned();
        let health = self.health(i, node);
        let process = match node.proc {
            _ if blind == Blind::Process(i) => Process::Unknown(unread()),
            Proc::Stopped => Process::Stopped,
            Proc::Barrier { .. } | Proc::Preparing { .. } => Process::Preparing,
            Proc::Running { supervised, .. } => Process::Running { supervised },
        };
        let is_well = matches!(health, Health::Answers { has_leader: true, .. });
        let exit = node.exit.filter(|_| process == Process::Stopped);
        NodeSeen {
            process,
            process_since: time(node.late),
            disk: if blind == Blind::Disk(i) {
                Disk::Unknown(unread())
            } else {
                Self::disk(i, node)
            },
            stamp: node.stamp.map(|who| Self::identity(i, who)),
            promised: None,
            health,
            // While no quorum answers nobody is to blame alone: every dwell begins when one is back.
            unhealthy_since: (!is_well).then_some(time(node.late && has_list)),
            exit: exit.map(|(kind, who)| Exit {
                kind,
                member: who.map(|who| member_id(i, who)),
                at: time(node.late),
                detail: String::new(),
            }),
            data_gone: node.gone && matches!(node.proc, Proc::Running { .. }),
            peer_url: node.managed.then(|| url(i, node.runs_at_new_url)),
            outdated: node.wanted && node.managed && node.runs_at_new_url != node.wants_new_url,
        }
    }

    fn member_list(&self) -> MemberList {
        let named = |id: MemberId, started: bool, voter: bool, url: String| Member {
            id,
            name: if started { format!("m{id}") } else { String::new() },
            peer_urls: vec![url],
            client_urls: if started { vec![format!("http://c{id}:2379")] } else { Vec::new() },
            role: if voter { Role::Voter } else { Role::Learner },
        };
        let entries = self.nodes().iter().enumerate().filter_map(|(i, n)| Some((i, n.entry?)));
        let ours = entries.clone().map(|(i, e)| {
            named(member_id(i, Who::Current), e.started, e.voter, url(i, e.at_new_url))
        });
        let theirs =
            self.stranger.map(|s| named(STRANGER, s.started, true, "http://stranger:1".to_owned()));
        let leader =
            entries.clone().find(|(_, e)| e.leads).map(|(i, _)| member_id(i, Who::Current));
        MemberList { cluster: CLUSTER, members: ours.chain(theirs).collect(), leader }
    }

    fn record(&self) -> Record {
        let nodes = || self.nodes().iter().enumerate();
        let founding = self.latched.map(|latched| Founding {
            id: FoundingId(1),
            token: "w".to_owned(),
            nodes: nodes()
                .filter(|(_, n)| n.founder)
                .map(|(i, n)| (name(i), url(i, n.founded_at_new_url)))
                .collect(),
            started: nodes().filter(|(_, n)| n.founder_started).map(|(i, _)| name(i)).collect(),
            cluster: latched.then_some(CLUSTER),
        });
        let requests = nodes().filter(|(_, n)| n.requested).map(|(i, _)| {
            let member = Some(member_id(i, Who::Current));
            (name(i), ReplaceRequest { member, at: NOW })
        });
        let adopted = nodes()
            .filter(|(_, n)| n.entry.is_some_and(|e| e.adopted))
            .map(|(i, _)| member_id(i, Who::Current));
        Record {
            founding,
            ledger: Vec::new(),
            adopted: adopted.collect(),
            requests: requests.collect(),
        }
    }

    /// The same world with its nodes in a normal order, without what makes no difference any
    /// more.
    pub(crate) fn canonical(mut self) -> Self {
        let is_settled = self.latched == Some(true)
            && !self.nodes().iter().any(|n| matches!(n.proc, Proc::Barrier { .. }));
        for node in self.nodes_mut() {
            // How the process of a member ended that is gone from list and disk.
            let is_past = |who: Option<Who>| {
                let owner = match node.data {
                    Data::Of { who, .. } | Data::Damaged { who } => Some(who),
                    Data::Empty | Data::Foreign => None,
                };
                who.is_some() && who != owner && (who != Some(Who::Current) || node.entry.is_none())
            };
            node.exit = node.exit.filter(|(kind, who)| {
                !matches!(kind, ExitKind::Clean | ExitKind::Killed) && !is_past(*who)
            });
            if is_settled {
                (node.founder, node.founded_at_new_url, node.founder_started) =
                    (false, false, false);
            }
        }
        self.nodes_mut().sort_unstable_by(|a, b| b.cmp(a));
        self
    }
}
