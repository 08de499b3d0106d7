//! What an executor can be asked to do: one step at a time.

use crate::cluster::{Evidence, FoundingId, MemberId, NodeName, Timestamp};

/// One thing to do next. An executor carries it out or refuses it; it never chooses.
///
/// A destructive step names what it expects to find, so that an executor can refuse one that
/// was planned on an old observation. Repeating a step that has succeeded does nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Start these nodes as `new` under one founding; they wait for each other at the barrier.
    ///
    /// With `founding: None` the executor writes a new founding record first. It refuses unless,
    /// under every founding node's lock, no node holds data and no cluster ID was ever latched.
    /// With `Some`, it adds `nodes` to that founding's `started` first, and refuses if the
    /// record holds another founding or already counts one of them as started.
    Found {
        /// The nodes to start.
        nodes: Vec<NodeName>,
        /// The founding they belong to; `None` to decide on a new one.
        founding: Option<FoundingId>,
    },
    /// Start these nodes, all at once: a quorum may need every one of them.
    ///
    /// A voter that bears no name in the list yet was added by a person. Before its first start
    /// the executor writes it into `Record::adopted`, and it refuses to start one that is there
    /// already on an empty disk: it may have voted before it lost its data.
    Start {
        /// Never empty.
        nodes: Vec<StartNode>,
    },
    /// Stop the node's process: first as asked (SIGTERM), after a grace period by force.
    Stop {
        /// The node to stop.
        node: NodeName,
        /// The member it was seen to run; a node that now runs another one is left alone.
        member: Option<MemberId>,
        /// Why; also decides how patient to be.
        why: StopReason,
    },
    /// Hand the leadership over before the leader is stopped or removed.
    MoveLeader {
        /// The leader, as seen.
        from: MemberId,
        /// A healthy, caught-up voter.
        to: MemberId,
    },
    /// Remove a member from the list.
    Remove {
        /// The member; the executor reads the live list first and refuses if it is not as seen.
        member: MemberId,
        /// The node it was matched to, if any.
        node: Option<NodeName>,
        /// Why it goes.
        why: RemoveReason,
    },
    /// Add a learner for this node to the member list.
    AddLearner {
        /// The node that will run it.
        node: NodeName,
        /// Its peer URL.
        peer_url: String,
    },
    /// Make a caught-up learner a voter. Older set-asides are pruned once all is [`Step::Done`].
    Promote {
        /// The learner.
        member: MemberId,
        /// The node that runs it.
        node: NodeName,
    },
    /// Tell the cluster a member's new peer URL, before the node restarts there.
    UpdatePeerUrls {
        /// The member.
        member: MemberId,
        /// Its node.
        node: NodeName,
        /// The whole new list.
        peer_urls: Vec<String>,
    },
    /// Let go of a node that the spec no longer wants and that no member uses: its process is
    /// stopped, its data is set aside (fenced by `data_of`), its place is forgotten.
    ForgetNode {
        /// The node.
        node: NodeName,
        /// Whose data its disk was seen to hold; `None` if it was empty.
        data_of: Option<MemberId>,
    },
    /// Nothing to do until something changes by itself.
    Wait {
        /// What for.
        what: Waiting,
        /// Since when, if that is known.
        since: Option<Timestamp>,
    },
    /// Nothing can be done safely without a person.
    Blocked {
        /// What stands in the way, and what a person can do.
        why: Obstacle,
    },
    /// The cluster is as wanted.
    Done,
}

/// One node to start from data or as a joining member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StartNode {
    /// The node.
    pub node: NodeName,
    /// The member it is to run.
    pub member: MemberId,
    /// The retired member whose data may be set aside first (safety 13); `None` leaves whatever
    /// is there alone.
    pub replaces: Option<MemberId>,
}

/// Why a node is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StopReason {
    /// The member it runs is not in the list (any more).
    Retired,
    /// It waits at the barrier of a founding that is given up. The executor stops it only while
    /// it still prepares: one that has left the barrier meanwhile is a founded member.
    Unfounded,
    /// It is started again with a changed configuration, or under a new supervisor.
    Restart,
    /// It has been silent past the remediation delay: by force at once (safety 11).
    Silent,
}

/// Why a member is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RemoveReason {
    /// Its node gets a new member, on this evidence.
    Replace(Evidence),
    /// The spec no longer wants its node.
    Unwanted,
    /// A learner that made no progress in time.
    NoProgress,
    /// A member nobody here knows that never started (safety 19).
    ForeignUnstarted,
}

/// What a [`Step::Wait`] waits for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Waiting {
    /// For these nodes to pass the founding barrier or to begin to serve.
    Starting(Vec<NodeName>),
    /// For a quorum of voters to answer; the sentence says what was heard instead.
    Quorum(String),
    /// For a source that could not be read.
    Unknown(String),
    /// For a learner to catch up with the leader.
    CatchUp(MemberId),
    /// For silence to last as long as the remediation delay.
    Dwell {
        /// The silent node.
        node: NodeName,
        /// When it counts as lost.
        until: Timestamp,
    },
    /// For more healthy voters: the next change could cost the quorum.
    HealthyVoters(String),
    /// For a node whose last start ended in a way that only time or its own surroundings mend
    /// (address in use, no peers yet, disk full).
    Retry {
        /// The node.
        node: NodeName,
        /// How it ended.
        detail: String,
    },
    /// For a member nobody here knows to start, or for its 60 s to pass.
    ForeignMember(MemberId),
}

/// What a [`Step::Blocked`] is blocked by. `Display` names it and the next action.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Obstacle {
    /// A word for machines, such as `RecoveryRequired`.
    pub reason: &'static str,
    /// What was seen, in one sentence.
    pub what: String,
    /// What a person can do, in one sentence.
    pub unblock: String,
}
