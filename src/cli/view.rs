//! A cluster as people and scripts see it: the members, one sentence, what comes next.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cluster::{
    Disk, ExitKind, Health, Identity, MemberId, NodeName, NodeSeen, Observed, Process, Role,
    Wanted, quorum,
};
use crate::execute::Turn;
use crate::execute::local::MemberFigures;
use crate::plan::{Census, Step};

/// One node and the member it runs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MemberView {
    pub(crate) node: String,
    pub(crate) member: Option<MemberId>,
    pub(crate) role: Option<Role>,
    pub(crate) health: &'static str,
    pub(crate) leader: bool,
    pub(crate) peer_url: Option<String>,
    pub(crate) client_urls: Vec<String>,
    pub(crate) revision: Option<i64>,
    pub(crate) disk: &'static str,
    pub(crate) exit: Option<ExitView>,
    /// What is worth knowing about it right now; empty when nothing is.
    pub(crate) note: String,
}

/// How a node last ended.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ExitView {
    pub(crate) kind: ExitKind,
    pub(crate) detail: String,
}

/// One word for the whole cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// As wanted.
    Healthy,
    /// Serving, and being changed.
    Working,
    /// Serving, and not as wanted.
    Degraded,
    /// No quorum answers although members run.
    NoQuorum,
    /// Nothing runs, and the data is there.
    Stopped,
}

impl Verdict {
    /// Judges an observation and the step that follows from it.
    ///
    /// `tended` says that an `up` looks after the cluster, which is then not just stopped.
    pub(crate) fn of(seen: &Observed, next: &Step, tended: bool) -> Self {
        let runs = tended
            || matches!(next, Step::Blocked { .. })
            || seen.nodes.values().any(|n| n.process != Process::Stopped);
        match (seen.members.known(), next) {
            (Some(_), Step::Done) => Verdict::Healthy,
            (Some(_), Step::Blocked { .. }) => Verdict::Degraded,
            (Some(_), _) => Verdict::Working,
            (None, _) if runs => Verdict::NoQuorum,
            (None, _) => Verdict::Stopped,
        }
    }
}

/// The member a node runs, or last ran.
pub(crate) fn member_of(node: &NodeSeen) -> Option<MemberId> {
    match (&node.health, &node.disk) {
        (Health::Answers { member, .. }, _) | (_, Disk::Holds(Identity { member, .. })) => {
            Some(*member)
        }
        (_, Disk::Damaged { stamp }) => Some(stamp.member),
        (_, Disk::Stale { log }) => Some(log.member),
        _ => node.exit.as_ref().and_then(|e| e.member),
    }
}

/// Every node of an observation, in the order of names.
pub(crate) fn members(
    seen: &Observed,
    figures: &BTreeMap<NodeName, MemberFigures>,
) -> Vec<MemberView> {
    let list = seen.members.known();
    let view = |(name, node): (&NodeName, &NodeSeen)| {
        let member = member_of(node);
        let listed = list.and_then(|l| l.members.iter().find(|m| Some(m.id) == member));
        let figures = figures.get(name);
        MemberView {
            node: name.0.clone(),
            member,
            role: listed.map(|m| m.role),
            health: health_word(node),
            leader: member.is_some() && list.and_then(|l| l.leader) == member,
            peer_url: node.peer_url.clone(),
            client_urls: listed.map(|m| m.client_urls.clone()).unwrap_or_default(),
            revision: figures.map(|f| f.status.revision),
            disk: disk_word(&node.disk),
            exit: node.exit.as_ref().map(|e| ExitView { kind: e.kind, detail: e.detail.clone() }),
            note: note(seen, node),
        }
    };
    seen.nodes.iter().map(view).collect()
}

fn health_word(node: &NodeSeen) -> &'static str {
    match (&node.process, &node.health) {
        (Process::Unknown(_), _) => "unknown",
        (Process::Stopped, _) => "stopped",
        (Process::Preparing, _) => "preparing",
        (Process::Running { .. }, Health::Answers { has_leader: true, .. }) => "healthy",
        (Process::Running { .. }, Health::Answers { .. }) => "starting",
        (Process::Running { .. }, Health::Silent | Health::NotAsked) => "silent",
    }
}

fn disk_word(disk: &Disk) -> &'static str {
    match disk {
        Disk::Unknown(_) => "unknown",
        Disk::Empty => "empty",
        Disk::Holds(_) => "holds",
        Disk::Stale { .. } => "stale",
        Disk::Foreign(_) => "foreign",
        Disk::Damaged { .. } => "damaged",
    }
}

fn note(seen: &Observed, node: &NodeSeen) -> String {
    let mut notes = Vec::new();
    if node.data_gone {
        notes.push("its data dir was deleted under it".to_owned());
    }
    match &node.process {
        Process::Running { supervised: false } => {
            notes.push("runs without its supervisor".to_owned());
        }
        Process::Unknown(why) => notes.push(why.clone()),
        _ => {}
    }
    match &node.disk {
        Disk::Unknown(why) | Disk::Foreign(why) => notes.push(why.clone()),
        Disk::Stale { log } => {
            notes.push(format!("holds data of the former member {}", log.member));
        }
        Disk::Damaged { .. } => notes.push("its log cannot be read".to_owned()),
        Disk::Empty | Disk::Holds(_) => {}
    }
    if let Some(exit) = node.exit.as_ref().filter(|e| e.kind != ExitKind::Clean) {
        notes.push(format!("{}: {}", exit.kind, exit.detail));
    }
    if let Some(since) = node.unhealthy_since.filter(|_| seen.members.known().is_some()) {
        let seconds = seen.now.since(since) / 1000;
        if seconds > 0 {
            notes.push(format!("not healthy for {seconds} s"));
        }
    }
    if node.outdated {
        notes.push("restarts soon with a changed configuration".to_owned());
    }
    notes.join("; ")
}

/// The members as an aligned table, header first; the leader is starred.
pub(crate) fn table(members: &[MemberView]) -> Vec<String> {
    let mut rows =
        vec![["  NODE", "MEMBER", "ROLE", "HEALTH", "REVISION", "NOW"].map(str::to_owned)];
    for m in members {
        let star = if m.leader { "* " } else { "  " };
        rows.push([
            format!("{star}{}", m.node),
            m.member.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            m.role.map_or("-", role_word).to_owned(),
            m.health.to_owned(),
            m.revision.map_or_else(|| "-".to_owned(), |r| r.to_string()),
            m.note.clone(),
        ]);
    }
    align(&rows)
}

/// Pads every column but the last to its widest cell.
pub(crate) fn align<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(c, w)| format!("{c:w$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Voter => "voter",
        Role::Learner => "learner",
    }
}

/// The figures; while no quorum answers, those of the founding or of what is wanted, and nobody is
/// known to be well.
pub(crate) fn figures(wanted: &Wanted, seen: &Observed) -> Census {
    if seen.members.known().is_some() {
        return Census::of(wanted, seen);
    }
    let founded = seen.record.founding.as_ref().map(|f| f.nodes.len());
    let voters = founded.unwrap_or(wanted.nodes.len());
    Census { voters, quorum: quorum(voters), ..Census::default() }
}

/// One sentence of verdict for a tired person.
pub(crate) fn verdict_sentence(wanted: &Wanted, seen: &Observed, verdict: Verdict) -> String {
    let name = &wanted.name;
    let census = figures(wanted, seen);
    let figures =
        format!("{} of {} voters healthy, quorum {}", census.healthy, census.voters, census.quorum);
    match verdict {
        Verdict::Healthy => {
            let spare = match census.tolerance {
                0 => "no failure can be borne".to_owned(),
                1 => "1 failure can be borne".to_owned(),
                n => format!("{n} failures can be borne"),
            };
            format!("{name} is as wanted: {figures}; {spare}.")
        }
        Verdict::Working => format!("{name} serves and is being changed: {figures}."),
        Verdict::Degraded => format!("{name} serves, but needs a person: {figures}."),
        Verdict::NoQuorum => {
            let why = match &seen.members {
                crate::cluster::Answer::Unknown(why) | crate::cluster::Answer::Refused(why) => {
                    why.as_str()
                }
                crate::cluster::Answer::Known(_) => "",
            };
            let (quorum, voters) = (census.quorum, census.voters);
            format!("{name} does not serve: no quorum ({quorum} of {voters}) answers: {why}.")
        }
        Verdict::Stopped => format!("{name} is stopped."),
    }
}

/// The line that `up` prints when all is as wanted.
pub(crate) fn sentence(wanted: &Wanted, turn: &Turn, members: &[MemberView]) -> String {
    let census = Census::of(wanted, &turn.seen);
    let leader = members.iter().find(|m| m.leader).map_or("none", |m| m.node.as_str());
    format!(
        "ready: {} of {} voters healthy, quorum {}, leader {leader}",
        census.healthy, census.voters, census.quorum
    )
}
