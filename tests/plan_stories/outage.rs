//! No quorum answers: what is started, and what is said (safety 3, 5, 20).

use quorate::cluster::{Answer, Disk, ExitKind, Health, MemberId, Process, Role};
use quorate::plan::{Step, Waiting};

use super::paper::{NOW, Paper, ago, answers, identity, millis_ago, url};

/// All are stopped, with their data.
fn out(size: u64) -> Paper {
    let mut paper = Paper::well(size);
    paper.loses_quorum();
    (1..=size).for_each(|i| paper.stops(i));
    paper
}

/// All run since then, and no quorum answers.
fn running(size: u64, since: quorate::cluster::Timestamp) -> Paper {
    let mut paper = Paper::well(size);
    paper.loses_quorum();
    for i in 1..=size {
        paper.silent(i, since);
        paper.node(i).process_since = since;
    }
    paper
}

#[test]
fn safety_03_after_a_full_outage_all_start_from_their_data_in_one_step() {
    let paper = out(3);
    assert_eq!(paper.says(), "start n1, n2, n3 as existing");
    let Step::Start { nodes } = paper.step() else { panic!("not a start") };
    assert!(nodes.iter().all(|n| n.replaces.is_none()));
    assert_eq!(nodes.iter().map(|n| n.member.0).collect::<Vec<_>>(), [1, 2, 3]);
    // Whatever any list says of them: nobody can vouch for one now.
    let mut unwanted = out(3);
    unwanted.wants_no_more(3);
    assert_eq!(unwanted.says(), "start n1, n2, n3 as existing");
}

#[test]
fn safety_03_what_would_only_find_the_same_again_is_not_started() {
    let mut paper = out(5);
    paper.ended(1, ExitKind::DataDamaged, 1, ago(59));
    paper.ended(2, ExitKind::Removed, 2, ago(600));
    paper.node(3).disk = Disk::Stale { log: identity(0x33) };
    paper.ended(4, ExitKind::AddressInUse, 4, NOW);
    paper.ended(5, ExitKind::Killed, 5, NOW);
    assert_eq!(paper.says(), "start n5 as existing");
    // The binary may have been at fault, and another be there now.
    paper.ended(1, ExitKind::DataDamaged, 1, ago(60));
    assert_eq!(paper.says(), "start n1, n5 as existing");
    // An end as another member says nothing.
    paper.ended(1, ExitKind::DataDamaged, 11, ago(59));
    paper.ended(2, ExitKind::Removed, 0x22, ago(600));
    assert_eq!(paper.says(), "start n1, n2, n5 as existing");
    paper.seen.nodes.retain(|n, _| n.0 == "n4");
    assert_eq!(paper.says(), "wait for another try to start n4: AddressInUse: so it said");
}

#[test]
fn safety_03_a_start_that_hangs_is_ended_and_an_engine_is_not() {
    let mut paper = running(3, ago(600));
    assert_eq!(paper.blocked(), "QuorumLost");
    paper.node(2).process = Process::Preparing;
    paper.node(2).health = Health::NotAsked;
    assert_eq!(paper.says(), "stop n2 (silent, by force)");
    paper.node(2).process_since = millis_ago(29_999);
    assert!(paper.says().starts_with("wait for a quorum to answer"), "{}", paper.says());
    paper.node(2).process_since = ago(30);
    assert_eq!(paper.says(), "stop n2 (silent, by force)");
    // One that has nothing to start from may be joining.
    paper.node(2).disk = Disk::Empty;
    assert!(!paper.says().starts_with("stop"), "{}", paper.says());
}

#[test]
fn safety_20_a_majority_that_moved_in_the_spec_is_not_started_there() {
    let mut paper = out(3);
    paper.moves(1, "http://m1:2380");
    assert_eq!(paper.says(), "start n1, n2, n3 as existing");
    paper.moves(2, "http://m2:2380");
    assert_eq!(
        paper.says(),
        "blocked: n1, n2 would start at new addresses, where the others do not look \
         (MajorityMoved); put the old addresses back, start, then change one at a time"
    );
    // Back where it was, it is no move.
    paper.moves(2, &url(2));
    assert_eq!(paper.says(), "start n1, n2, n3 as existing");
    // Of two, one is too many; the only one needs nobody to find it.
    let mut two = out(2);
    two.moves(1, "http://m1:2380");
    assert_eq!(two.blocked(), "MajorityMoved");
    let mut one = out(1);
    one.moves(1, "http://m1:2380");
    assert_eq!(one.says(), "start n1 as existing");
    // Of four, two are too many.
    let mut four = out(4);
    four.moves(1, "http://m1:2380");
    assert_eq!(four.says(), "start n1, n2, n3, n4 as existing");
    four.moves(2, "http://m2:2380");
    assert_eq!(four.blocked(), "MajorityMoved");
}

#[test]
fn safety_20_only_what_is_to_be_started_elsewhere_counts_as_moved() {
    let moved = || {
        let mut paper = out(3);
        paper.moves(1, "http://m1:2380");
        paper.moves(2, "http://m2:2380");
        paper
    };
    // What runs still runs where it was.
    let mut runs = moved();
    runs.node(2).process = Process::Running { supervised: true };
    runs.node(2).disk = Disk::Unknown("no stamp".to_owned());
    assert_eq!(runs.says(), "start n1, n3 as existing");
    // What holds nothing is none of those that look for each other.
    let mut lost = moved();
    lost.node(3).disk = Disk::Empty;
    assert_eq!(lost.blocked(), "MajorityMoved");
    let mut lost = moved();
    lost.node(2).disk = Disk::Empty;
    assert_eq!(lost.blocked(), "MajorityMoved");
    // What was never started anywhere has not moved, nor has what is not wanted.
    let mut never = moved();
    never.node(2).peer_url = None;
    assert_eq!(never.says(), "start n1, n2, n3 as existing");
    let mut unwanted = moved();
    unwanted.wants_no_more(2);
    assert_eq!(unwanted.says(), "start n1, n2, n3 as existing");
    // At the barrier of a founding a node counts before it has any data.
    let mut founding = Paper::blank(3);
    founding.founded(false);
    founding.runs(1, 1, Role::Voter);
    founding.stops(1);
    founding.moves(1, "http://m1:2380");
    founding.node(2).process = Process::Preparing;
    founding.node(2).process_since = NOW;
    assert_eq!(founding.blocked(), "MajorityMoved");
    let mut latched = founding.clone();
    latched.founded(true);
    assert_eq!(latched.says(), "start n1 as existing");
    founding.node(3).process = Process::Preparing;
    founding.node(3).process_since = NOW;
    assert_eq!(founding.says(), "start n1 as existing");
}

#[test]
fn a_lost_quorum_says_what_is_known_of_every_node() {
    let mut paper = out(9);
    let node = |paper: &mut Paper, i: u64, process: Process, health: Health| {
        (paper.node(i).process, paper.node(i).health) = (process, health);
        paper.node(i).process_since = ago(600);
    };
    let runs = || Process::Running { supervised: true };
    node(&mut paper, 1, runs(), Health::Silent);
    node(&mut paper, 2, runs(), answers(2, Role::Voter));
    node(
        &mut paper,
        3,
        runs(),
        Health::Answers {
            member: MemberId(3),
            role: Role::Voter,
            has_leader: false,
            caught_up: true,
            progress_at: NOW,
        },
    );
    node(&mut paper, 4, runs(), Health::NotAsked);
    paper.node(5).disk = Disk::Empty;
    paper.node(6).disk = Disk::Damaged { stamp: identity(6) };
    paper.ended(7, ExitKind::Removed, 7, ago(60));
    paper.node(8).disk = Disk::Foreign("a database".to_owned());
    node(&mut paper, 9, runs(), Health::Silent);
    paper.node(9).data_gone = true;
    assert_eq!(
        paper.says(),
        "blocked: no quorum answers (no member answers); left: n1 runs and does not answer, n2 \
         answers and has a leader, n3 answers and has no leader, n4 runs; lost: n5 has no data, n6 \
         has damaged data, n7 was removed from the list, n8 holds data that is not ours, n9 runs, \
         its data dir deleted (QuorumLost); end the processes of n1, n9 if they hang (kill -9): \
         they are started again from their data"
    );
    node(&mut paper, 1, Process::Unknown("EIO".to_owned()), Health::NotAsked);
    paper.node(1).disk = Disk::Unknown("EIO".to_owned());
    paper.node(2).disk = Disk::Stale { log: identity(0x22) };
    node(&mut paper, 2, Process::Stopped, Health::NotAsked);
    node(&mut paper, 3, Process::Stopped, Health::NotAsked);
    paper.ended(3, ExitKind::DataDamaged, 3, ago(59));
    node(&mut paper, 4, Process::Stopped, Health::NotAsked);
    paper.ended(4, ExitKind::AddressInUse, 4, NOW);
    node(&mut paper, 9, Process::Preparing, Health::NotAsked);
    paper.node(9).data_gone = false;
    paper.node(9).disk = Disk::Empty;
    // What is about to be tried again speaks first.
    assert_eq!(paper.says(), "wait for another try to start n4: AddressInUse: so it said");
    paper.node(4).disk = Disk::Empty;
    assert_eq!(
        paper.says(),
        "blocked: the quorum is lost, and what is left stays as it is; left: n1 cannot be read, n9 \
         prepares; lost: n2 holds a former member's data, n3 has damaged data, n4 has no data, n5 \
         has no data, n6 has damaged data, n7 was removed from the list, n8 holds data that is not \
         ours (RecoveryRequired); bring a lost data dir back (quorate aside list NODE); if data is \
         damaged, put back the version of quorate that ran last: it is looked at again every \
         minute; or restore a snapshot into a new cluster"
    );
    paper.node(1).disk = Disk::Holds(identity(1));
    assert!(paper.says().contains("left: n1 holds data, n9 prepares;"), "{}", paper.says());
}

/// Two of three disks are lost; the third member runs, and has no leader.
fn one_left_of_three() -> Paper {
    let mut paper = out(3);
    paper.loses(2);
    paper.loses(3);
    paper.node(1).process = Process::Running { supervised: true };
    paper.node(1).health = Health::Answers {
        member: MemberId(1),
        role: Role::Voter,
        has_leader: false,
        caught_up: true,
        progress_at: NOW,
    };
    paper
}

#[test]
fn what_is_lost_for_good_is_told_from_what_may_come_back() {
    // Two of three disks are lost: no process can help.
    let mut paper = one_left_of_three();
    paper.node(1).process_since = ago(600);
    assert_eq!(paper.blocked(), "RecoveryRequired");
    // One of three: the others are there and do not find together.
    paper.runs(2, 2, Role::Voter);
    paper.node(2).process_since = ago(600);
    paper.node(2).health = paper.node(1).health;
    assert_eq!(
        paper.says(),
        "blocked: no quorum answers (no member answers); left: n1 answers and has no leader, n2 \
         answers and has no leader; lost: n3 has no data (QuorumLost); look at the logs of those \
         that are left; if an address was changed, put the old one back"
    );
    // Of two disks one is a quorum of none.
    paper.stops(2);
    paper.node(2).disk = Disk::Empty;
    assert_eq!(paper.blocked(), "RecoveryRequired");
    // A node that never had a part is not counted.
    *paper.node(2) = super::paper::empty_node();
    *paper.node(3) = super::paper::empty_node();
    assert_eq!(paper.blocked(), "QuorumLost");
    // Each trace of a part makes it one.
    paper.node(2).peer_url = Some(url(2));
    assert_eq!(paper.blocked(), "RecoveryRequired");
    paper.node(2).peer_url = None;
    paper.node(2).stamp = Some(identity(2));
    assert_eq!(paper.blocked(), "RecoveryRequired");
    paper.node(2).stamp = None;
    paper.node(2).disk = Disk::Foreign("a database".to_owned());
    assert_eq!(paper.blocked(), "RecoveryRequired");
    paper.node(2).disk = Disk::Empty;
    paper.node(2).process = Process::Preparing;
    assert_eq!(paper.blocked(), "QuorumLost");
    // One that was removed has no vote to miss.
    paper.node(2).process = Process::Stopped;
    paper.node(2).disk = Disk::Holds(identity(2));
    paper.ended(2, ExitKind::Removed, 2, NOW);
    assert_eq!(paper.blocked(), "QuorumLost");
}

#[test]
fn a_loss_that_no_start_can_make_good_is_told_soon() {
    let mut paper = one_left_of_three();
    paper.node(1).process_since = millis_ago(9_999);
    assert!(matches!(paper.step(), Step::Wait { what: Waiting::Quorum(_), .. }));
    paper.node(1).process_since = ago(10);
    assert_eq!(paper.blocked(), "RecoveryRequired");
    // Who waits less for a member waits less for this.
    paper.wanted.remediation.unhealthy_seconds = 3;
    paper.node(1).process_since = ago(3);
    assert_eq!(paper.blocked(), "RecoveryRequired");
    // One that hangs may be what is missing.
    paper.wanted.remediation.unhealthy_seconds = 30;
    paper.node(1).process_since = ago(10);
    paper.node(1).health = Health::Silent;
    assert!(matches!(paper.step(), Step::Wait { what: Waiting::Quorum(_), .. }));
}

#[test]
fn nobody_is_blamed_while_a_start_is_young() {
    let paper = running(3, millis_ago(29_999));
    let step = paper.step();
    assert_eq!(
        step.to_string(),
        "wait for a quorum to answer: no member answers; left: n1 runs and does not answer, n2 \
         runs and does not answer, n3 runs and does not answer; lost: none"
    );
    assert!(matches!(step, Step::Wait { since: Some(at), .. } if at == millis_ago(29_999)));
    assert_eq!(running(3, ago(30)).blocked(), "QuorumLost");
    // The youngest counts; one that follows a leader already is not waited for.
    let mut paper = running(3, ago(60));
    paper.node(2).process_since = ago(1);
    let step = paper.step();
    assert!(matches!(step, Step::Wait { since: Some(at), .. } if at == ago(1)), "{step}");
    paper.node(2).health = answers(2, Role::Voter);
    assert_eq!(paper.blocked(), "QuorumLost");
}

#[test]
fn a_quorum_that_answers_without_a_list_is_a_list_that_cannot_be_read() {
    let mut paper = running(3, ago(60));
    paper.node(1).health = answers(1, Role::Voter);
    assert_eq!(paper.blocked(), "QuorumLost");
    paper.node(2).health = answers(2, Role::Voter);
    assert_eq!(paper.says(), "wait for what cannot be read: the member list: no member answers");
    assert!(matches!(paper.step(), Step::Wait { what: Waiting::Unknown(_), since: None }));
    // Learners vouch for nothing.
    paper.node(2).health = answers(2, Role::Learner);
    assert_eq!(paper.blocked(), "QuorumLost");
    paper.seen.members = Answer::Refused("auth".to_owned());
    assert_eq!(paper.blocked(), "ReadRefused");
}

#[test]
fn safety_01_a_founding_node_without_a_trace_counts_until_the_cluster_is_latched() {
    // n1 holds data; n2 and n3 were started under the founding, and nothing of them is left.
    let mut paper = Paper::blank(3);
    paper.founded(false);
    paper.runs(1, 1, Role::Voter);
    paper.node(1).process_since = ago(60);
    paper.node(1).health = Health::Answers {
        member: MemberId(1),
        role: Role::Voter,
        has_leader: false,
        caught_up: true,
        progress_at: NOW,
    };
    assert_eq!(paper.blocked(), "RecoveryRequired");
    let founding = paper.seen.record.founding.as_mut().expect("a founding");
    founding.cluster = Some(super::paper::CLUSTER);
    assert_eq!(paper.blocked(), "QuorumLost");
    let founding = paper.seen.record.founding.as_mut().expect("a founding");
    founding.cluster = None;
    founding.started.remove(&super::paper::name(2));
    founding.started.remove(&super::paper::name(3));
    assert_eq!(paper.blocked(), "QuorumLost");
}
