//! Decides how a node starts, from what its disk holds, what it was asked, and what a quorum
//! says. Pure: the table of safety rules 1-4 and 9-13, and nothing else.

use crate::cluster::{
    ClusterId, Disk, ExitKind, FoundingId, Identity, Member, MemberId, MemberList, Role,
};
use crate::render::InitialState;

/// What the node was asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// `new` or `existing`.
    pub state: InitialState,
    /// The member it is to run; `None` when whoever started it did not say.
    pub expect: Option<MemberId>,
    /// The retired member whose data may be set aside.
    pub replaces: Option<MemberId>,
    /// The peer URLs it advertises.
    pub peer_urls: Vec<String>,
    /// Which member and cluster a founding start makes of it; `None` if its own name is not in
    /// the initial cluster.
    pub founds: Option<(ClusterId, MemberId)>,
    /// The founding it was told to belong to.
    pub founding: Option<FoundingId>,
    /// Whose stamp its home bears, even where the data is gone.
    pub stamp: Option<Identity>,
    /// Whether that stamp was made under the founding that is asked for now.
    pub same_founding: bool,
    /// It has promised to take part in that founding, and no engine has run here since.
    pub has_promised: bool,
    /// The member that has run here before by the word of whoever started it, which outlives a
    /// disk that is lost with its stamp.
    pub has_run: Option<MemberId>,
}

/// How a node starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Its own data is there: start from it, whatever the initial settings say.
    FromData {
        /// Whose it is.
        member: MemberId,
    },
    /// Wait for every listed node at the barrier, then start as `new`.
    Found,
    /// Start as `existing` for a member that has not run yet.
    Join {
        /// The member, with the list to render from.
        member: MemberId,
        /// The former member's data to set aside first.
        set_aside: Option<MemberId>,
    },
    /// Do not start.
    Refuse {
        /// The typed reason.
        kind: ExitKind,
        /// One sentence: what was found, and what to do.
        detail: String,
    },
}

fn refuse(kind: ExitKind, detail: impl Into<String>) -> Decision {
    Decision::Refuse { kind, detail: detail.into() }
}

/// Decides. `live` is a quorum's answer, never one member's alone; `None` when there was none.
pub fn decide(disk: &Disk, asked: &Asked, live: Option<&MemberList>) -> Decision {
    match disk {
        Disk::Unknown(why) => refuse(ExitKind::Unknown, format!("the disk cannot be read: {why}")),
        Disk::Foreign(what) => refuse(
            ExitKind::Foreign,
            format!("{what}; it is left alone: move it away, or point --data-dir elsewhere"),
        ),
        Disk::Holds(own) => with_data(own, asked, live),
        Disk::Stale { log } => with_lost_data(ExitKind::StaleData, log, asked, live),
        Disk::Damaged { stamp } => with_lost_data(ExitKind::DataDamaged, stamp, asked, live),
        Disk::Empty => without_data(asked, live, None),
    }
}

fn with_data(own: &Identity, asked: &Asked, live: Option<&MemberList>) -> Decision {
    // Two foundings of one list have the same IDs: only this tells their data apart (safety 1).
    if let (Some(told), Some(found)) = (asked.founding, own.founding)
        && told != found
    {
        return with_lost_data(ExitKind::StaleData, own, asked, live);
    }
    // A full outage: nobody can tell us anything, and our log is what there is (safety 3).
    let Some(list) = live else { return Decision::FromData { member: own.member } };
    if list.cluster != own.cluster {
        return refuse(
            ExitKind::ClusterIdMismatch,
            format!(
                "the data is of cluster {}, the peers are cluster {}",
                own.cluster, list.cluster
            ),
        );
    }
    if has(list, own.member) {
        return Decision::FromData { member: own.member };
    }
    if asked.replaces == Some(own.member) {
        return without_data(asked, live, asked.replaces);
    }
    refuse(
        ExitKind::Removed,
        format!(
            "the member has been permanently removed from the cluster: {} is not in its list; \
             the data-dir used by this member must be removed",
            own.member
        ),
    )
}

/// Data that is of no use: set aside if its member is known to be gone from the list.
fn with_lost_data(
    kind: ExitKind,
    whose: &Identity,
    asked: &Asked,
    live: Option<&MemberList>,
) -> Decision {
    match live {
        Some(list)
            if list.cluster == whose.cluster
                && !has(list, whose.member)
                && asked.replaces == Some(whose.member) =>
        {
            without_data(asked, live, asked.replaces)
        }
        _ => refuse(
            kind,
            match kind {
                ExitKind::StaleData => {
                    format!("the data is of member {}, not of the one this node runs", whose.member)
                }
                _ => format!("the log of member {} cannot be read", whose.member),
            },
        ),
    }
}

fn without_data(asked: &Asked, live: Option<&MemberList>, set_aside: Option<MemberId>) -> Decision {
    match (asked.state, live) {
        (InitialState::New, _) => found(asked, live),
        (InitialState::Existing, None) => refuse(
            ExitKind::NoPeers,
            "cannot fetch cluster info from peer urls: no quorum answers, and there is no data to start from",
        ),
        // A node that joins is known by its URL; its initial cluster is rendered from the list.
        (InitialState::Existing, Some(list)) => join(asked, list, set_aside),
    }
}

fn found(asked: &Asked, live: Option<&MemberList>) -> Decision {
    let Some(founds) = asked.founds else {
        return refuse(
            ExitKind::NameNotInCluster,
            format!(
                "couldn't find local name {:?} in the initial cluster configuration: \
                 add it to --initial-cluster, or correct --name",
                asked.name
            ),
        );
    };
    if let Some(list) = live {
        return bootstrapped(founds, list);
    }
    let was_stamped = asked.stamp.is_some() && asked.same_founding && !asked.has_promised;
    if asked.has_run.is_some() || was_stamped {
        return refuse(
            ExitKind::DataLost,
            "this node was founded before and its data is not there; it is never founded twice",
        );
    }
    Decision::Found
}

/// Asked to found, but a quorum runs already.
fn bootstrapped((cluster, member): (ClusterId, MemberId), list: &MemberList) -> Decision {
    if list.cluster != cluster {
        return refuse(
            ExitKind::ClusterIdMismatch,
            format!("the peers are cluster {}, this node would found {cluster}", list.cluster),
        );
    }
    if list.members.iter().any(|m| m.id == member && m.is_published()) {
        return refuse(
            ExitKind::DataLost,
            format!("member {member} has already been bootstrapped, and its data is not there"),
        );
    }
    refuse(
        ExitKind::AlreadyBootstrapped,
        format!("cluster {cluster} has been founded already; a node joins it as a new member"),
    )
}

fn join(asked: &Asked, list: &MemberList, set_aside: Option<MemberId>) -> Decision {
    let Some(entry) = own_entry(asked, list) else {
        return refuse(
            ExitKind::MemberCountUnequal,
            format!(
                "member count is unequal: no member of cluster {} has the peer URL {}: \
                 this node has not been added",
                list.cluster,
                asked.peer_urls.join(",")
            ),
        );
    };
    if let Some(expected) = asked.expect.filter(|id| *id != entry.id) {
        return refuse(
            ExitKind::StaleData,
            format!("the list has member {} at this address, not {expected}", entry.id),
        );
    }
    let ran_here = asked.has_run == Some(entry.id)
        || asked.stamp.as_ref().is_some_and(|s| s.member == entry.id);
    if entry.is_started() || (entry.role == Role::Voter && ran_here) {
        return refuse(
            ExitKind::DataLost,
            format!(
                "member {} has run before and its data is not there; it must be replaced",
                entry.id
            ),
        );
    }
    Decision::Join { member: entry.id, set_aside }
}

/// The list's entry for this node: by ID where one is expected, else by peer URL.
pub fn own_entry<'a>(asked: &Asked, list: &'a MemberList) -> Option<&'a Member> {
    let by_id = asked.expect.and_then(|id| list.members.iter().find(|m| m.id == id));
    by_id.or_else(|| {
        list.members.iter().find(|m| m.peer_urls.iter().any(|u| asked.peer_urls.contains(u)))
    })
}

fn has(list: &MemberList, id: MemberId) -> bool {
    list.members.iter().any(|m| m.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(0xc);
    const URL: &str = "http://127.0.0.1:2380";

    fn id(member: u64) -> Identity {
        Identity { cluster: CLUSTER, member: MemberId(member), founding: None }
    }

    fn asked(state: InitialState) -> Asked {
        Asked {
            name: "n".to_owned(),
            state,
            expect: None,
            replaces: None,
            peer_urls: vec![URL.to_owned()],
            founds: Some((CLUSTER, MemberId(1))),
            founding: None,
            stamp: None,
            same_founding: true,
            has_promised: false,
            has_run: None,
        }
    }

    fn member(id: u64, name: &str, url: &str, role: Role) -> Member {
        let client_urls = if name.is_empty() { vec![] } else { vec!["http://c:1".to_owned()] };
        Member {
            id: MemberId(id),
            name: name.to_owned(),
            peer_urls: vec![url.to_owned()],
            client_urls,
            role,
        }
    }

    fn list(own: Option<Member>) -> MemberList {
        let other = member(9, "other", "http://127.0.0.9:2380", Role::Voter);
        MemberList {
            cluster: CLUSTER,
            members: own.into_iter().chain([other]).collect(),
            leader: Some(MemberId(9)),
        }
    }

    fn kind(decision: Decision) -> ExitKind {
        match decision {
            Decision::Refuse { kind, .. } => kind,
            other => panic!("started: {other:?}"),
        }
    }

    #[test]
    fn safety_3_own_data_starts_at_once_when_nobody_answers() {
        for state in [InitialState::New, InitialState::Existing] {
            let got = decide(&Disk::Holds(id(1)), &asked(state), None);
            assert_eq!(got, Decision::FromData { member: MemberId(1) });
        }
    }

    #[test]
    fn safety_1_data_of_another_founding_of_the_same_list_is_never_started_from() {
        let mut ask = asked(InitialState::New);
        ask.founding = Some(FoundingId(2));
        let of = |founding| Disk::Holds(Identity { founding, ..id(1) });
        let starts = Decision::FromData { member: MemberId(1) };
        assert_eq!(decide(&of(Some(FoundingId(2))), &ask, None), starts);
        assert_eq!(decide(&of(None), &ask, None), starts);
        assert_eq!(kind(decide(&of(Some(FoundingId(1))), &ask, None)), ExitKind::StaleData);
    }

    #[test]
    fn own_data_wins_over_an_initial_cluster_without_the_own_name() {
        let ask = Asked { founds: None, ..asked(InitialState::New) };
        let starts = Decision::FromData { member: MemberId(1) };
        assert_eq!(decide(&Disk::Holds(id(1)), &ask, None), starts);
        assert_eq!(kind(decide(&Disk::Empty, &ask, None)), ExitKind::NameNotInCluster);
    }

    #[test]
    fn a_removed_member_is_refused_unless_it_is_the_one_being_replaced() {
        let fresh = member(2, "", URL, Role::Learner);
        let live = list(Some(fresh));
        let disk = Disk::Holds(id(1));
        let mut ask = asked(InitialState::Existing);
        assert_eq!(kind(decide(&disk, &ask, Some(&live))), ExitKind::Removed);
        ask.replaces = Some(MemberId(1));
        ask.expect = Some(MemberId(2));
        let joins = Decision::Join { member: MemberId(2), set_aside: Some(MemberId(1)) };
        assert_eq!(decide(&disk, &ask, Some(&live)), joins);
        // Without a quorum's word the data is started from, not set aside.
        assert_eq!(decide(&disk, &ask, None), Decision::FromData { member: MemberId(1) });
        // A live member's data is started from, whatever the step said.
        let alive = list(Some(member(1, "n", URL, Role::Voter)));
        assert_eq!(decide(&disk, &ask, Some(&alive)), Decision::FromData { member: MemberId(1) });
    }

    #[test]
    fn safety_12_and_13_stale_or_damaged_data_goes_aside_only_for_the_member_named() {
        let live = list(Some(member(2, "", URL, Role::Learner)));
        for (disk, refusal) in [
            (Disk::Stale { log: id(1) }, ExitKind::StaleData),
            (Disk::Damaged { stamp: id(1) }, ExitKind::DataDamaged),
        ] {
            let mut ask = asked(InitialState::Existing);
            assert_eq!(kind(decide(&disk, &ask, Some(&live))), refusal);
            ask.replaces = Some(MemberId(7));
            assert_eq!(kind(decide(&disk, &ask, Some(&live))), refusal);
            ask.replaces = Some(MemberId(1));
            assert_eq!(kind(decide(&disk, &ask, None)), refusal);
            let joins = Decision::Join { member: MemberId(2), set_aside: Some(MemberId(1)) };
            assert_eq!(decide(&disk, &ask, Some(&live)), joins);
        }
    }

    #[test]
    fn foreign_and_unreadable_disks_are_never_empty() {
        let live = list(Some(member(2, "", URL, Role::Learner)));
        let mut ask = asked(InitialState::Existing);
        ask.replaces = Some(MemberId(1));
        let foreign = Disk::Foreign("x".to_owned());
        assert_eq!(kind(decide(&foreign, &ask, Some(&live))), ExitKind::Foreign);
        let unknown = Disk::Unknown("x".to_owned());
        assert_eq!(kind(decide(&unknown, &ask, Some(&live))), ExitKind::Unknown);
    }

    #[test]
    fn safety_1_and_2_an_empty_node_founds_only_once_and_only_what_nobody_founded() {
        let mut ask = asked(InitialState::New);
        assert_eq!(decide(&Disk::Empty, &ask, None), Decision::Found);
        ask.stamp = Some(id(1));
        assert_eq!(kind(decide(&Disk::Empty, &ask, None)), ExitKind::DataLost);
        // Stamped, and killed before its engine ran.
        ask.has_promised = true;
        assert_eq!(decide(&Disk::Empty, &ask, None), Decision::Found);
        ask.has_promised = false;
        // The stamp of a founding that was given up does not count.
        ask.same_founding = false;
        assert_eq!(decide(&Disk::Empty, &ask, None), Decision::Found);
        // A stamp can be lost with its disk; the word of whoever started it cannot.
        ask.has_run = Some(MemberId(1));
        assert_eq!(kind(decide(&Disk::Empty, &ask, None)), ExitKind::DataLost);
        assert_eq!(
            decide(&Disk::Holds(id(1)), &ask, None),
            Decision::FromData { member: MemberId(1) }
        );
        let lost = list(Some(member(1, "n", URL, Role::Voter)));
        assert_eq!(kind(decide(&Disk::Empty, &ask, Some(&lost))), ExitKind::DataLost);
        assert_eq!(
            kind(decide(&Disk::Empty, &ask, Some(&list(None)))),
            ExitKind::AlreadyBootstrapped
        );
        let other = MemberList { cluster: ClusterId(0xd), ..list(None) };
        assert_eq!(kind(decide(&Disk::Empty, &ask, Some(&other))), ExitKind::ClusterIdMismatch);
    }

    #[test]
    fn an_empty_node_joins_only_as_a_member_that_never_ran() {
        let mut ask = asked(InitialState::Existing);
        assert_eq!(kind(decide(&Disk::Empty, &ask, None)), ExitKind::NoPeers);
        assert_eq!(
            kind(decide(&Disk::Empty, &ask, Some(&list(None)))),
            ExitKind::MemberCountUnequal
        );
        let fresh = list(Some(member(2, "", URL, Role::Learner)));
        let joins = Decision::Join { member: MemberId(2), set_aside: None };
        assert_eq!(decide(&Disk::Empty, &ask, Some(&fresh)), joins);
        ask.expect = Some(MemberId(3));
        assert_eq!(kind(decide(&Disk::Empty, &ask, Some(&fresh))), ExitKind::StaleData);
        ask.expect = Some(MemberId(2));
        let ran = list(Some(member(2, "n", URL, Role::Learner)));
        assert_eq!(kind(decide(&Disk::Empty, &ask, Some(&ran))), ExitKind::DataLost);
        // An unstarted voter whose stamp we bear may have voted before it lost its data.
        ask.stamp = Some(id(2));
        let voter = list(Some(member(2, "", URL, Role::Voter)));
        assert_eq!(kind(decide(&Disk::Empty, &ask, Some(&voter))), ExitKind::DataLost);
        ask.stamp = None;
        ask.has_run = Some(MemberId(2));
        assert_eq!(kind(decide(&Disk::Empty, &ask, Some(&voter))), ExitKind::DataLost);
        // An unstarted learner has no vote to lose.
        assert_eq!(decide(&Disk::Empty, &ask, Some(&fresh)), joins);
    }
}
