//! A well-behaved world, to see where the rules lead: every step succeeds at once, every node
//! that is started catches up, and time passes while a step waits.

use super::census::Census;
use super::next_step;
use super::step::{RemoveReason, StartNode, Step, StopReason, Waiting};
use super::view::View;
use crate::cluster::{
    Answer, ClusterId, Disk, Evidence, Founding, FoundingId, Health, Identity, LedgerEntry,
    LedgerKind, Member, MemberId, MemberList, NodeName, NodeSeen, Observed, Process, Role,
    Timestamp, Wanted, founding_member_id,
};

/// One planned step, with the figures before and after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The step.
    pub step: Step,
    /// The step in words; the ID of a member that is yet to be added is not known, and says so.
    pub text: String,
    /// The figures before it.
    pub before: Census,
    /// The figures once it has had its effect.
    pub after: Census,
    /// Why it is taken.
    pub why: String,
}

/// IDs of members that a simulation adds begin here, far from any hash that is likely to be met.
const FIRST_FRESH: u64 = 0xffff_ffff_0000_0000;

/// Every step from what was `seen` to the end: [`Step::Done`], a [`Step::Blocked`], or a wait
/// that nothing in a well-behaved world ends. At most `limit` steps.
pub fn simulate(wanted: &Wanted, seen: &Observed, limit: usize) -> Vec<Planned> {
    let mut world = World { wanted, seen: seen.clone(), next_id: FIRST_FRESH };
    let mut planned = Vec::new();
    while planned.len() < limit {
        let step = next_step(wanted, &world.seen);
        let before = Census::of(wanted, &world.seen);
        let why = why(wanted, &world.seen, &step).to_owned();
        let is_end = matches!(step, Step::Done | Step::Blocked { .. });
        let unchanged = world.seen.clone();
        if !is_end {
            world.carry_out(&step);
        }
        let after = Census::of(wanted, &world.seen);
        let text = world.in_words(&step);
        planned.push(Planned { step, text, before, after, why });
        if is_end || world.seen == unchanged {
            break;
        }
    }
    planned
}

/// Why a step is taken. The stop of an only voter is announced here (safety 14): it is the one
/// stop that costs the quorum.
fn why(wanted: &Wanted, seen: &Observed, step: &Step) -> &'static str {
    match step {
        Step::Found { .. } => "no node holds data and nothing was founded before",
        Step::Start { nodes } if nodes.iter().any(|n| n.replaces.is_some()) => {
            "it joins the members that are there; what a removed member left is kept for undo"
        }
        Step::Start { .. } => "it is a member and does not run",
        Step::Stop { why: StopReason::Retired, .. } => {
            "its member is in the list no more, so nobody needs it"
        }
        Step::Stop { why: StopReason::Unfounded, .. } => {
            "another founding node is lost, so this founding cannot be finished"
        }
        Step::Stop { why: StopReason::Silent, .. } => {
            "it takes part in nothing, and ends only by force"
        }
        Step::Stop { node, why: StopReason::Restart, .. } if is_only_voter(wanted, seen, node) => {
            "it is the only voter: nothing is served until it is back"
        }
        Step::Stop { why: StopReason::Restart, .. } => "the others hold a quorum without it",
        Step::MoveLeader { .. } => "a leader that just stops costs an election",
        Step::Remove { why: RemoveReason::Unwanted, .. } => "the spec does not want it any more",
        Step::Remove { why: RemoveReason::Replace(Evidence::Requested), .. } => {
            "a person asked for a new member here, and the others hold a quorum without it"
        }
        Step::Remove { why: RemoveReason::NoProgress, .. } => {
            "it has no vote to lose, and may get on if it begins anew"
        }
        Step::Remove { why: RemoveReason::ForeignUnstarted, .. } => {
            "it counts as a voter and never votes, so one failure more would stall the others"
        }
        Step::Remove { why: RemoveReason::Replace(Evidence::DataGone), .. } => {
            "the others hold a quorum without it, and it would not survive a restart"
        }
        Step::Remove { why: RemoveReason::Replace(Evidence::Silent), .. } => {
            "the others hold a quorum without it, and it was not heard past the remediation delay"
        }
        Step::Remove { .. } => "the others hold a quorum without it, and it cannot come back",
        Step::AddLearner { .. } => "a learner costs no quorum while it catches up",
        Step::Promote { .. } => "it has caught up, so its vote cannot stall the others",
        Step::UpdatePeerUrls { .. } => "the others must know where it will be",
        Step::ForgetNode { .. } => "nothing uses it any more",
        Step::Wait { .. } => "the next change could cost the quorum before that",
        Step::Blocked { .. } => "this needs a person",
        Step::Done => "the cluster is as wanted",
    }
}

fn is_only_voter(wanted: &Wanted, seen: &Observed, node: &NodeName) -> bool {
    let Some(list) = seen.members.known() else { return false };
    let view = View::new(wanted, seen, list);
    view.voters().count() == 1 && view.member_of(node).is_some_and(|m| m.role == Role::Voter)
}

struct World<'a> {
    wanted: &'a Wanted,
    seen: Observed,
    next_id: u64,
}

impl World<'_> {
    fn carry_out(&mut self, step: &Step) {
        match step {
            Step::Found { nodes, .. } => self.found(nodes),
            Step::Start { nodes } => nodes.iter().for_each(|n| self.start(n)),
            Step::Stop { node, .. } => self.stop(node),
            Step::MoveLeader { to, .. } => {
                if let Answer::Known(list) = &mut self.seen.members {
                    list.leader = Some(*to);
                }
            }
            Step::Remove { member, node, why } => self.remove(*member, node.as_ref(), *why),
            Step::AddLearner { peer_url, .. } => {
                let id = self.fresh_id();
                self.edit_list(|members| {
                    members.push(Member {
                        id,
                        name: String::new(),
                        peer_urls: vec![peer_url.clone()],
                        client_urls: Vec::new(),
                        role: Role::Learner,
                    });
                });
            }
            Step::Promote { member, node } => {
                self.edit_list(|members| {
                    members
                        .iter_mut()
                        .filter(|m| m.id == *member)
                        .for_each(|m| m.role = Role::Voter);
                });
                self.serve(node, *member, Role::Voter);
            }
            Step::UpdatePeerUrls { member, node, peer_urls } => {
                self.edit_list(|members| {
                    let moved = members.iter_mut().filter(|m| m.id == *member);
                    moved.for_each(|m| m.peer_urls.clone_from(peer_urls));
                });
                if let Some(seen) = self.seen.nodes.get_mut(node) {
                    seen.outdated = true;
                }
            }
            Step::ForgetNode { node, .. } => {
                self.seen.nodes.remove(node);
            }
            Step::Wait { what, since } => self.wait(what, *since),
            Step::Blocked { .. } | Step::Done => {}
        }
    }

    fn in_words(&self, step: &Step) -> String {
        let fresh = FIRST_FRESH..self.next_id;
        fresh.fold(step.to_string(), |text, id| text.replace(&format!("{id:x}"), "its new member"))
    }

    fn fresh_id(&mut self) -> MemberId {
        let taken = |id: u64, seen: &Observed| {
            let listed =
                seen.members.known().is_some_and(|l| l.members.iter().any(|m| m.id.0 == id));
            listed || seen.nodes.values().any(|n| super::view::runs(seen, n) == Some(MemberId(id)))
        };
        while taken(self.next_id, &self.seen) {
            self.next_id += 1;
        }
        let id = MemberId(self.next_id);
        self.next_id += 1;
        id
    }

    fn edit_list(&mut self, edit: impl FnOnce(&mut Vec<Member>)) {
        if let Answer::Known(list) = &mut self.seen.members {
            edit(&mut list.members);
        }
    }

    fn found(&mut self, nodes: &[NodeName]) {
        let wanted = self.wanted;
        let founding = self.seen.record.founding.get_or_insert_with(|| Founding {
            id: FoundingId(0),
            token: wanted.token.clone(),
            nodes: wanted.nodes.iter().map(|(n, w)| (n.clone(), w.peer_url.clone())).collect(),
            started: std::collections::BTreeSet::new(),
            cluster: None,
        });
        founding.started.extend(nodes.iter().cloned());
        let founding = founding.clone();
        let members = founding.nodes.iter().map(|(name, url)| Member {
            id: founding_member_id([url.as_str()], &founding.token),
            name: name.0.clone(),
            peer_urls: vec![url.clone()],
            client_urls: wanted.nodes.get(name).map(|w| w.client_urls.clone()).unwrap_or_default(),
            role: Role::Voter,
        });
        let members: Vec<_> = members.collect();
        let ids: Vec<_> =
            founding.nodes.keys().cloned().zip(members.iter().map(|m| m.id)).collect();
        self.seen.members = Answer::Known(MemberList {
            cluster: founding.cluster_id(),
            leader: members.first().map(|m| m.id),
            members,
        });
        if let Some(founding) = &mut self.seen.record.founding {
            founding.cluster = Some(founding.cluster_id());
        }
        for (node, id) in ids {
            self.serve(&node, id, Role::Voter);
        }
    }

    fn start(&mut self, start: &StartNode) {
        let Answer::Known(list) = &mut self.seen.members else {
            // A full outage: what holds data comes back with it, and brings the list along.
            self.serve(&start.node, start.member, Role::Voter);
            return;
        };
        let listed = list.members.iter_mut().find(|m| m.id == start.member);
        let role = listed.map_or(Role::Learner, |member| {
            member.name.clone_from(&start.node.0);
            member.role
        });
        self.serve(&start.node, start.member, role);
    }

    fn serve(&mut self, node: &NodeName, member: MemberId, role: Role) {
        let cluster = self.seen.members.known().map_or(ClusterId(0), |list| list.cluster);
        let founding = self.seen.record.founding.as_ref().map(|f| f.id);
        let peer_url = self.wanted.nodes.get(node).map(|w| w.peer_url.clone());
        let health = Health::Answers {
            member,
            role,
            has_leader: true,
            caught_up: true,
            progress_at: self.seen.now,
        };
        let disk = Disk::Holds(Identity { cluster, member, founding });
        self.seen.nodes.insert(
            node.clone(),
            NodeSeen {
                process: Process::Running { supervised: true },
                process_since: self.seen.now,
                stamp: Some(Identity { cluster, member, founding }),
                promised: None,
                disk,
                health,
                unhealthy_since: None,
                exit: None,
                data_gone: false,
                peer_url,
                outdated: false,
            },
        );
    }

    fn stop(&mut self, node: &NodeName) {
        if let Some(seen) = self.seen.nodes.get_mut(node) {
            seen.process = Process::Stopped;
            seen.health = Health::NotAsked;
            seen.exit = None;
            if seen.data_gone {
                seen.disk = Disk::Empty;
                seen.data_gone = false;
            }
        }
    }

    fn remove(&mut self, member: MemberId, node: Option<&NodeName>, why: RemoveReason) {
        self.edit_list(|members| members.retain(|m| m.id != member));
        let what = match why {
            RemoveReason::Replace(evidence) => LedgerKind::Replaced(evidence),
            RemoveReason::NoProgress => LedgerKind::LearnerGaveUp,
            RemoveReason::Unwanted | RemoveReason::ForeignUnstarted => return,
        };
        if let Some(node) = node {
            let at = self.seen.now;
            self.seen.record.ledger.push(LedgerEntry { node: node.clone(), member, at, what });
        }
    }

    /// Lets pass what is waited for.
    fn wait(&mut self, what: &Waiting, since: Option<Timestamp>) {
        match what {
            Waiting::Dwell { until, .. } => self.seen.now = self.seen.now.max(*until),
            Waiting::ForeignMember(_) | Waiting::Retry { .. } => {
                let from = since.unwrap_or(self.seen.now);
                self.seen.now = self.seen.now.max(Timestamp(from.0 + 60_000));
            }
            Waiting::CatchUp(member) => {
                let joining = self.seen.nodes.values_mut();
                for node in joining {
                    if let Health::Answers { member: id, caught_up, .. } = &mut node.health
                        && id == member
                    {
                        *caught_up = true;
                    }
                }
            }
            Waiting::Starting(nodes) => {
                let members =
                    self.seen.members.known().map(|l| l.members.clone()).unwrap_or_default();
                for node in nodes {
                    let url = self.wanted.nodes.get(node).map(|w| &w.peer_url);
                    let member =
                        members.iter().find(|m| m.peer_urls.iter().any(|u| Some(u) == url));
                    if let Some(member) = member {
                        self.serve(node, member.id, member.role);
                    }
                }
            }
            Waiting::Quorum(_) | Waiting::Unknown(_) | Waiting::HealthyVoters(_) => {}
        }
    }
}
