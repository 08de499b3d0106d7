//! What permits a member to be replaced, and the limits on it (safety 9 to 12).

use quorate::cluster::{
    Answer, Disk, Evidence, ExitKind, LedgerKind, MemberId, Process, Role, Timestamp,
};
use quorate::plan::{Step, evidence_of, member_of};

use super::paper::{DAY, NOW, Paper, ago, answers, identity, millis_ago, name};

fn evidence(paper: &Paper) -> Vec<(String, Evidence)> {
    let found = evidence_of(&paper.wanted, &paper.seen);
    found.into_iter().map(|(n, e)| (n.0, e)).collect()
}

/// What is said when n2 is stopped after an end of this kind, with its data in place.
fn after(kind: ExitKind) -> (String, Vec<(String, Evidence)>) {
    let mut paper = Paper::well(3);
    paper.stops(2);
    paper.ended(2, kind, 2, NOW);
    (paper.says(), evidence(&paper))
}

#[test]
fn safety_09_only_what_the_disk_shows_is_evidence() {
    use ExitKind::{
        AddressInUse, AlreadyBootstrapped, BadConfig, ClusterIdMismatch, DataDamaged, DataGone,
        DataLost, DiskFull, Foreign, Locked, MemberCountUnequal, NameNotInCluster, NoPeers,
        Removed, StaleData, Unknown,
    };
    let waits = [
        Locked,
        AddressInUse,
        DiskFull,
        NoPeers,
        MemberCountUnequal,
        AlreadyBootstrapped,
        Unknown,
        Foreign,
        // Older than this look at the disk and the list, which say otherwise.
        Removed,
        StaleData,
        DataLost,
        DataGone,
    ];
    for kind in waits {
        let text = format!("wait for another try to start n2: {kind}: so it said");
        assert_eq!(after(kind), (text, Vec::new()));
    }
    for kind in [ClusterIdMismatch, NameNotInCluster] {
        let text = format!(
            "blocked: n2 does not start ({kind}): so it said (StartRefused); look at the log of \
             n2; it is tried again every minute"
        );
        assert_eq!(after(kind), (text, Vec::new()));
    }
    let text = "blocked: n2 does not start (BadConfig): so it said (StartRefused); correct the \
                spec; the node is started again at once";
    assert_eq!(after(BadConfig), (text.to_owned(), Vec::new()));
    let text = "remove 2 of n2 (DataDamaged)".to_owned();
    assert_eq!(after(DataDamaged), (text, vec![("n2".to_owned(), Evidence::DataDamaged)]));
    for kind in [ExitKind::Clean, ExitKind::Killed] {
        assert_eq!(after(kind), ("start n2 as existing".to_owned(), Vec::new()));
    }
}

#[test]
fn safety_09_a_start_that_was_refused_is_tried_again_after_5_s_or_60_s() {
    let at = |kind, ended: Timestamp| {
        let mut paper = Paper::well(3);
        paper.stops(2);
        paper.ended(2, kind, 2, ended);
        paper
    };
    let starts = "start n2 as existing";
    assert!(at(ExitKind::AddressInUse, millis_ago(4999)).says().starts_with("wait for another"));
    assert_eq!(at(ExitKind::AddressInUse, millis_ago(5000)).says(), starts);
    assert_eq!(at(ExitKind::BadConfig, millis_ago(59_999)).blocked(), "StartRefused");
    assert_eq!(at(ExitKind::BadConfig, millis_ago(60_000)).says(), starts);
    // A changed configuration is tried at once, and an earlier member's end says nothing.
    let mut changed = at(ExitKind::BadConfig, NOW);
    changed.node(2).outdated = true;
    assert_eq!(changed.says(), starts);
    let mut anothers = at(ExitKind::BadConfig, NOW);
    anothers.ended(2, ExitKind::BadConfig, 77, NOW);
    assert_eq!(anothers.says(), starts);
    let mut nobodys = at(ExitKind::BadConfig, NOW);
    nobodys.node(2).exit.as_mut().expect("an end").member = None;
    assert_eq!(nobodys.blocked(), "StartRefused");
}

#[test]
fn safety_09_one_node_that_is_held_back_does_not_hold_back_another() {
    let mut paper = Paper::well(5);
    paper.stops(2);
    paper.ended(2, ExitKind::AddressInUse, 2, NOW);
    paper.stops(3);
    assert_eq!(paper.says(), "start n3 as existing");
}

#[test]
fn safety_09_what_cannot_be_read_or_is_somebody_elses_is_no_evidence() {
    let disk = |disk: Disk| {
        let mut paper = Paper::well(3);
        paper.stops(2);
        paper.node(2).disk = disk;
        paper
    };
    let unknown = disk(Disk::Unknown("EIO".to_owned()));
    assert_eq!(unknown.says(), "wait for what cannot be read: n2: EIO");
    let foreign = disk(Disk::Foreign("a database".to_owned()));
    assert_eq!(
        foreign.says(),
        "blocked: n2 holds a database: it is left alone (ForeignData); move it out of the home of \
         n2; the rest then goes by itself"
    );
    // Another living member's data: two homes were mixed up.
    let mixed = disk(Disk::Holds(identity(3)));
    assert_eq!(mixed.blocked(), "ForeignData");
    let mut other_founding = identity(2);
    other_founding.founding = Some(quorate::cluster::FoundingId(0xbad));
    assert_eq!(disk(Disk::Holds(other_founding)).blocked(), "ForeignData");
    let mut other_cluster = identity(2);
    other_cluster.cluster = quorate::cluster::ClusterId(0xbad);
    assert_eq!(
        disk(Disk::Holds(other_cluster)).says(),
        "blocked: n2 holds data of cluster bad, which is not this one (c1): it is left alone \
         (ForeignData); move it out of the home of n2; the rest then goes by itself"
    );
    for paper in [unknown, foreign, mixed] {
        assert_eq!(evidence(&paper), []);
    }
}

#[test]
fn safety_09_each_kind_of_evidence_says_what_it_is() {
    let disk = |disk: Disk| {
        let mut paper = Paper::well(3);
        paper.stops(2);
        paper.node(2).disk = disk;
        evidence(&paper)
    };
    let is = |evidence| vec![("n2".to_owned(), evidence)];
    assert_eq!(disk(Disk::Empty), is(Evidence::DataLost));
    assert_eq!(disk(Disk::Damaged { stamp: identity(2) }), is(Evidence::DataDamaged));
    assert_eq!(disk(Disk::Damaged { stamp: identity(77) }), is(Evidence::StaleData));
    assert_eq!(disk(Disk::Stale { log: identity(2) }), is(Evidence::StaleData));
    assert_eq!(disk(Disk::Holds(identity(77))), is(Evidence::StaleData));
    assert_eq!(disk(Disk::Holds(identity(2))), []);
    let mut paper = Paper::well(3);
    paper.node(2).data_gone = true;
    assert_eq!(evidence(&paper), is(Evidence::DataGone));
    // Only of a process that runs: what is stopped is read from the disk.
    paper.stops(2);
    assert_eq!(evidence(&paper), []);
    let mut paper = Paper::well(3);
    paper.seen.members = Answer::Unknown("no".to_owned());
    paper.loses(2);
    assert_eq!(evidence(&paper), []);
}

#[test]
fn safety_09_a_process_that_cannot_be_told_is_no_evidence() {
    let mut paper = Paper::well(3);
    paper.loses(2);
    paper.node(2).process_since = NOW;
    paper.node(2).process = Process::Preparing;
    assert_eq!(evidence(&paper), []);
    assert_eq!(paper.says(), "wait for n2 to be ready");
    paper.node(2).process = Process::Unknown("no lock".to_owned());
    assert_eq!(evidence(&paper), []);
    assert_eq!(paper.says(), "wait for what cannot be read: n2: no lock");
}

#[test]
fn safety_09_an_engine_that_its_peers_refuse_takes_a_person_however_long_it_is_silent() {
    let refused = |kind| {
        let mut paper = Paper::well(3);
        paper.silent(2, ago(1));
        paper.ended(2, kind, 2, NOW);
        paper
    };
    let blocked = "blocked: n2 runs and takes no part: so it said (ClusterIdMismatch); look at \
                   whose data n2 has; to give it a new member, say: quorate replace n2";
    let mut paper = refused(ExitKind::ClusterIdMismatch);
    assert_eq!(paper.says(), blocked);
    paper.silent(2, ago(DAY));
    assert_eq!(evidence(&paper), []);
    assert_eq!(paper.says(), blocked);
    // What else is to be done goes on, and a person can have it replaced.
    let mut other = paper.clone();
    other.stops(3);
    assert_eq!(other.says(), "start n3 as existing");
    paper.asks(2, 2, NOW);
    assert_eq!(paper.says(), "remove 2 of n2 (Requested)");
    // It is no complaint if it is of another kind, or of a process that runs no more.
    let dwells = "wait for n2 to answer; past the remediation delay it is replaced";
    assert_eq!(refused(ExitKind::NoPeers).says(), dwells);
    let mut prepares = refused(ExitKind::ClusterIdMismatch);
    prepares.node(2).process = Process::Preparing;
    prepares.node(2).process_since = NOW;
    assert_eq!(prepares.says(), "wait for n2 to be ready");
}

#[test]
fn safety_01_a_voter_by_hand_may_have_voted_once_its_start_was_written_down() {
    // n2's member has no name in the list: it was added by hand as a voter.
    let mut paper = Paper::well(3);
    paper.loses(2);
    paper.node(2).stamp = None;
    paper.member(2).name = String::new();
    assert_eq!(paper.says(), "start n2 as existing");
    let mut adopted = paper.clone();
    adopted.seen.record.adopted.insert(MemberId(2));
    assert_eq!(adopted.says(), "remove 2 of n2 (DataLost)");
    let mut stamped = paper.clone();
    stamped.node(2).stamp = Some(identity(2));
    assert_eq!(stamped.says(), "remove 2 of n2 (DataLost)");
    let mut said = paper.clone();
    said.ended(2, ExitKind::DataLost, 2, ago(600));
    assert_eq!(said.says(), "remove 2 of n2 (DataLost)");
    // A learner has no vote, so it may start as often as it likes.
    let mut learner = stamped.clone();
    learner.member(2).role = Role::Learner;
    assert_eq!(learner.says(), "start n2 as existing");
}

#[test]
fn safety_09_a_second_damaged_log_within_ten_minutes_takes_a_person() {
    let damaged = LedgerKind::Replaced(Evidence::DataDamaged);
    let with = |what, at| {
        let mut paper = Paper::well(5);
        paper.damaged(2, NOW);
        paper.gave_up(4, 0x44, at, what);
        paper
    };
    let near = with(damaged, millis_ago(600_000));
    assert_eq!(
        near.says(),
        "blocked: the logs of n2 and n4 were damaged within 10 minutes of each other, which looks \
         like a bad binary rather than two bad disks (DamageTwice); look at n2, then say: quorate \
         replace n2"
    );
    let replaced = "remove 2 of n2 (DataDamaged)";
    assert_eq!(with(damaged, millis_ago(600_001)).says(), replaced);
    // A disk that was lost says nothing about a binary, nor does the same node's earlier damage.
    let lost = LedgerKind::Replaced(Evidence::DataLost);
    assert_eq!(with(lost, NOW).says(), replaced);
    let mut own = Paper::well(5);
    own.damaged(2, NOW);
    own.gave_up(2, 0x44, NOW, damaged);
    assert_eq!(own.says(), replaced);
    // A person who looked may say so.
    let mut asked = near.clone();
    asked.asks(2, 2, NOW);
    assert_eq!(asked.says(), replaced);
    let mut lost = near;
    lost.loses(2);
    assert_eq!(lost.says(), "remove 2 of n2 (DataLost)");
}

#[test]
fn safety_09_two_logs_that_are_damaged_now_are_told_apart_by_when_they_were_found() {
    let with = |here, there| {
        let mut paper = Paper::well(5);
        paper.damaged(2, here);
        paper.damaged(4, there);
        paper
    };
    assert_eq!(with(NOW, ago(600)).blocked(), "DamageTwice");
    assert_eq!(with(ago(600), NOW).blocked(), "DamageTwice");
    let replaced = "remove 2 of n2 (DataDamaged)";
    assert_eq!(with(NOW, millis_ago(600_001)).says(), replaced);
    assert_eq!(with(millis_ago(600_001), NOW).says(), replaced);
    // Found at no known time is found now.
    let mut untold = with(NOW, NOW);
    untold.node(4).exit = None;
    assert_eq!(untold.blocked(), "DamageTwice");
    untold.ended(2, ExitKind::DataDamaged, 2, millis_ago(600_001));
    assert_eq!(untold.says(), replaced);
    let mut ended_otherwise = with(millis_ago(600_001), NOW);
    ended_otherwise.ended(2, ExitKind::Killed, 2, millis_ago(600_001));
    assert_eq!(ended_otherwise.blocked(), "DamageTwice");
}

#[test]
fn safety_10_deleted_data_under_a_good_voter_is_replaced_and_never_restarted() {
    let mut paper = Paper::well(3);
    paper.node(2).data_gone = true;
    paper.node(2).outdated = true;
    assert_eq!(
        paper.trace(),
        [
            "remove 2 of n2 (DataGone)",
            "stop n2 (its member is gone)",
            "add learner for n2",
            "start n2 as existing",
            "promote its new member of n2",
            "done",
        ]
    );
    // It is a good voter still, so nothing happens to it while another is not well.
    paper.silent(3, NOW);
    assert!(paper.says().starts_with("wait for n3 to answer"), "{}", paper.says());
    // Nor is it restarted where it may not be replaced.
    let mut paper = Paper::well(3);
    paper.node(2).data_gone = true;
    paper.node(2).outdated = true;
    paper.wanted.remediation.enabled = false;
    assert_eq!(paper.blocked(), "RemediationDisabled");
    // A move without a restart is all that is left, and only back to where it runs.
    paper.moves(2, "http://m2:2380");
    assert_eq!(paper.blocked(), "RemediationDisabled");
    paper.node(2).peer_url = Some("http://m2:2380".to_owned());
    assert_eq!(paper.says(), "move 2 of n2 to http://m2:2380");
}

#[test]
fn safety_11_silence_is_evidence_after_the_remediation_delay_and_not_before() {
    let since = |at| {
        let mut paper = Paper::well(3);
        paper.silent(2, at);
        paper
    };
    let waits = "wait for n2 to answer; past the remediation delay it is replaced";
    let step = since(millis_ago(29_999)).step();
    assert_eq!(step.to_string(), waits);
    assert!(
        matches!(step, Step::Wait { since: Some(at), .. } if at == millis_ago(29_999)),
        "{step:?}"
    );
    assert_eq!(since(millis_ago(30_000)).says(), "remove 2 of n2 (Silent)");
    assert_eq!(
        since(ago(60)).trace()[..2],
        ["remove 2 of n2 (Silent)", "stop n2 (silent, by force)"]
    );
    // As long as the spec says.
    let mut patient = since(ago(299));
    patient.wanted.remediation.unhealthy_seconds = 300;
    assert_eq!(patient.says(), waits);
    patient.silent(2, ago(300));
    assert_eq!(patient.says(), "remove 2 of n2 (Silent)");
    // Only the silence of the process that runs now.
    let mut young = since(ago(60));
    young.node(2).process_since = millis_ago(29_999);
    assert_eq!(young.says(), waits);
    // The one whose time is up first is named.
    let mut two = Paper::well(5);
    two.silent(4, ago(20));
    two.silent(3, ago(10));
    assert!(two.says().contains("n4"), "{}", two.says());
}

#[test]
fn safety_11_lost_data_has_no_dwell() {
    let mut paper = Paper::well(3);
    paper.loses(2);
    paper.node(2).unhealthy_since = Some(NOW);
    assert_eq!(paper.says(), "remove 2 of n2 (DataLost)");
}

#[test]
fn safety_11_the_sixth_replacement_in_a_day_takes_a_person() {
    let with = |times| {
        let mut paper = Paper::well(3);
        paper.loses(2);
        paper.replaced(2, times);
        paper
    };
    assert_eq!(with(4).says(), "remove 2 of n2 (DataLost)");
    let often = with(5);
    assert_eq!(
        often.says(),
        "blocked: n2 was replaced 5 times in a day and is lost again (DataLost) \
         (TooManyReplacements); look at n2, then say: quorate replace n2"
    );
    let mut asked = often.clone();
    asked.asks(2, 2, NOW);
    assert_eq!(asked.says(), "remove 2 of n2 (DataLost)");
    // A wish for an earlier member lifts what came before it, and no more.
    let mut earlier = often.clone();
    earlier.asks(2, 77, ago(3599));
    assert_eq!(earlier.says(), "remove 2 of n2 (DataLost)");
    earlier.asks(2, 77, ago(3600));
    assert_eq!(earlier.blocked(), "TooManyReplacements");
    // Other nodes, this member's own line, other kinds and older days do not count.
    let mut others = with(4);
    others.gave_up(3, 0x33, ago(60), LedgerKind::Replaced(Evidence::DataLost));
    others.gave_up(2, 2, ago(60), LedgerKind::Replaced(Evidence::DataLost));
    others.gave_up(2, 0x22, ago(60), LedgerKind::LearnerGaveUp);
    let mut yesterday = others.clone();
    yesterday.gave_up(2, 23, millis_ago(DAY * 1000 + 1), LedgerKind::Replaced(Evidence::Silent));
    assert_eq!(yesterday.says(), "remove 2 of n2 (DataLost)");
    yesterday.gave_up(2, 24, ago(DAY), LedgerKind::Replaced(Evidence::Silent));
    assert_eq!(yesterday.blocked(), "TooManyReplacements");
    let mut fewer = with(4);
    fewer.wanted.remediation.max_replacements_per_day = 4;
    assert_eq!(fewer.blocked(), "TooManyReplacements");
}

#[test]
fn safety_11_replacements_come_one_at_a_time() {
    let mut paper = Paper::well(5);
    paper.asks(2, 2, NOW);
    paper.asks(3, 3, NOW);
    paper.removes(2);
    paper.stops(2);
    // n2 is without a member yet, so n3 stays.
    assert_eq!(paper.says(), "add learner for n2");
    paper.adds_learner(2, 0x22);
    paper.runs(2, 0x22, Role::Learner);
    paper.node(2).health = answers(0x22, Role::Learner);
    assert_eq!(paper.says(), "promote 22 of n2");
}

#[test]
fn safety_11_with_remediation_off_members_are_restarted_and_never_replaced() {
    let mut paper = Paper::well(3);
    paper.wanted.remediation.enabled = false;
    paper.stops(2);
    assert_eq!(paper.says(), "start n2 as existing");
    paper.loses(2);
    assert_eq!(
        paper.says(),
        "blocked: n2 needs a new member (DataLost), and remediation is off (RemediationDisabled); \
         look at n2, then say: quorate replace n2"
    );
    paper.asks(2, 2, NOW);
    assert_eq!(paper.says(), "remove 2 of n2 (DataLost)");
}

#[test]
fn safety_11_with_remediation_off_a_node_that_had_a_member_joins_only_if_asked() {
    // Removed by hand.
    let mut paper = Paper::well(3);
    paper.wanted.remediation.enabled = false;
    paper.removes(2);
    paper.stops(2);
    assert_eq!(
        paper.says(),
        "blocked: n2 ran member 2, which is in the list no more, and remediation is off \
         (RemediationDisabled); look at n2, then say: quorate replace n2"
    );
    let joins = "add learner for n2";
    // A wish of long ago for another member was fulfilled then.
    paper.asks(2, 77, ago(60));
    assert_eq!(paper.blocked(), "RemediationDisabled");
    let mut asked = paper.clone();
    asked.asks(2, 2, NOW);
    assert_eq!(asked.says(), joins);
    let mut begun = paper.clone();
    begun.gave_up(2, 2, ago(60), LedgerKind::Replaced(Evidence::Silent));
    assert_eq!(begun.says(), joins);
    let mut begun_elsewhere = paper.clone();
    begun_elsewhere.gave_up(3, 2, ago(60), LedgerKind::Replaced(Evidence::Silent));
    begun_elsewhere.gave_up(2, 3, ago(60), LedgerKind::Replaced(Evidence::Silent));
    assert_eq!(begun_elsewhere.blocked(), "RemediationDisabled");
    let mut on = paper.clone();
    on.wanted.remediation.enabled = true;
    assert_eq!(on.says(), joins);
    // A home without a trace never had one.
    *paper.node(2) = super::paper::empty_node();
    assert_eq!(paper.says(), joins);
}

#[test]
fn a_wish_names_the_member_that_the_planner_takes_for_the_nodes() {
    let of = |paper: &Paper| member_of(&paper.wanted, &paper.seen, &name(2)).map(|id| id.0);
    let mut paper = Paper::well(3);
    assert_eq!(of(&paper), Some(2));
    // By its address alone.
    *paper.node(2) = super::paper::empty_node();
    assert_eq!(of(&paper), Some(2));
    // In the list no more: the one it had last, whatever is left to tell.
    paper.removes(2);
    assert_eq!(of(&paper), None);
    paper.node(2).disk = Disk::Damaged { stamp: identity(77) };
    assert_eq!(of(&paper), Some(77));
    paper.node(2).stamp = Some(identity(76));
    assert_eq!(of(&paper), Some(76));
    // A copy of another node's home is not this node's.
    paper.node(2).stamp = Some(identity(3));
    assert_eq!(of(&paper), None);
    paper.loses_quorum();
    assert_eq!(of(&paper), Some(3));
    paper.seen.nodes.remove(&name(2));
    assert_eq!(of(&paper), None);
    // And such a wish is what lifts a limit.
    let mut paper = Paper::well(3);
    paper.wanted.remediation.enabled = false;
    paper.removes(2);
    paper.stops(2);
    let member = of(&paper).expect("it ran one");
    paper.asks(2, member, NOW);
    assert_eq!(paper.says(), "add learner for n2");
}
