//! What an observation may be taken for (safety 4 to 8, 21).

use quorate::cluster::{Answer, ClusterId, Disk, FoundingId, Health, MemberId, Process, Role};

use quorate::plan::member_of;

use super::paper::{NOW, Paper, ago, answers, empty_node, identity, member, millis_ago, name, url};

#[test]
fn safety_05_an_unknown_list_is_never_acted_on() {
    // Whatever else is wrong: lost disks, wishes, changed specs, strangers.
    let mut paper = Paper::well(3);
    paper.loses_quorum();
    paper.loses(3);
    paper.asks(1, 1, NOW);
    paper.wants(4);
    paper.wants_no_more(2);
    paper.silent(2, ago(600));
    paper.node(1).outdated = true;
    let says = paper.says();
    assert!(says.starts_with("blocked: ") || says.starts_with("wait for"), "{says}");
    // What holds data and is stopped is started, and nothing else happens.
    paper.stops(1);
    paper.stops(2);
    assert_eq!(paper.says(), "start n1, n2 as existing");
}

#[test]
fn safety_05_members_that_refuse_to_be_asked_take_a_person() {
    let mut paper = Paper::well(3);
    paper.seen.members = Answer::Refused("etcdserver: user name is empty".to_owned());
    paper.loses(3);
    let blocked = "blocked: the members answer, and refuse to be asked: etcdserver: user name is \
                   empty (ReadRefused); let quorate read: give it a user, or turn auth off";
    assert_eq!(paper.says(), blocked);
    paper.stops(2);
    assert_eq!(paper.says(), "start n2 as existing");
    paper.ended(2, quorate::cluster::ExitKind::AddressInUse, 2, NOW);
    assert_eq!(paper.says(), blocked);
}

#[test]
fn safety_05_a_voter_whose_process_cannot_be_told_is_not_taken_for_dead() {
    let mut paper = Paper::well(3);
    paper.node(1).process = Process::Unknown("EACCES".to_owned());
    assert_eq!(paper.says(), "wait for what cannot be read: n1: EACCES");
    // It leads, and nobody knows better: a wish must not take the leader off without a word.
    paper.asks(1, 1, NOW);
    assert_eq!(paper.says(), "wait for what cannot be read: n1: EACCES");
    paper.wants_no_more(1);
    paper.wants_no_more(2);
    assert_eq!(paper.says(), "move the leadership from 1 to 3");
}

#[test]
fn safety_07_a_voter_counts_as_one_only_when_list_and_status_agree() {
    let mut paper = Paper::well(3);
    paper.node(2).health = answers(2, Role::Learner);
    // n2 is not well, so n3, whose disk is lost, cannot be spared.
    paper.loses(3);
    assert_eq!(paper.blocked(), "TooFewHealthy");
    paper.node(2).health = answers(2, Role::Voter);
    assert_eq!(paper.says(), "remove 3 of n3 (DataLost)");
    // Nor one that knows no leader, or answers as somebody else, or is not where the list says.
    let mut leaderless = paper.clone();
    leaderless.node(2).health = Health::Answers {
        member: MemberId(2),
        role: Role::Voter,
        has_leader: false,
        caught_up: true,
        progress_at: NOW,
    };
    assert_eq!(leaderless.blocked(), "TooFewHealthy");
    let mut elsewhere = paper.clone();
    elsewhere.node(2).peer_url = Some("http://m2:2380".to_owned());
    assert_eq!(elsewhere.blocked(), "TooFewHealthy");
    let mut untold = paper.clone();
    untold.node(2).peer_url = None;
    assert_eq!(untold.says(), "remove 3 of n3 (DataLost)");
    // And what the list calls a learner is none, whatever it says.
    let mut early = Paper::well(3);
    early.wants(4);
    early.adds_learner(4, 0x44);
    early.runs(4, 0x44, Role::Voter);
    assert_eq!(early.says(), "wait for catch-up of 44");
}

#[test]
fn safety_08_every_dwell_starts_at_zero_after_a_restart() {
    // A new reconciler sees everything for the first time now.
    let mut paper = Paper::well(3);
    paper.silent(2, NOW);
    paper.node(2).process_since = NOW;
    assert!(paper.says().starts_with("wait for n2 to answer"), "{}", paper.says());
    paper.node(2).health = answers(2, Role::Voter);
    paper.adds(member(9, Role::Voter));
    paper.member(9).name = String::new();
    paper.seen.first_seen.clear();
    assert!(paper.says().starts_with("wait for 9, which somebody added"), "{}", paper.says());
    paper.removes(9);
    paper.wants(4);
    paper.adds_learner(4, 0x44);
    paper.runs(4, 0x44, Role::Learner);
    paper.node(4).health = Health::Answers {
        member: MemberId(0x44),
        role: Role::Learner,
        has_leader: true,
        caught_up: false,
        progress_at: NOW,
    };
    assert_eq!(paper.says(), "wait for catch-up of 44");
}

#[test]
fn safety_04_data_of_another_cluster_or_founding_is_left_alone() {
    let joins = |spoil: &dyn Fn(&mut quorate::cluster::Identity)| {
        let mut paper = Paper::well(3);
        paper.wants(4);
        let mut other = identity(0x44);
        spoil(&mut other);
        paper.node(4).disk = Disk::Holds(other);
        paper
    };
    // A former member's data may be set aside; anybody else's may not.
    assert_eq!(joins(&|_| {}).says(), "add learner for n4");
    let cluster = joins(&|id| id.cluster = ClusterId(0xbad));
    assert_eq!(cluster.blocked(), "ForeignData");
    let founding = joins(&|id| id.founding = Some(FoundingId(0xbad)));
    assert_eq!(
        founding.says(),
        "blocked: n4 holds data of another founding (bad) of this cluster: it is left alone \
         (ForeignData); move it out of the home of n4; the rest then goes by itself"
    );
    assert_eq!(joins(&|id| id.founding = None).says(), "add learner for n4");
    // A damaged or stale disk of somebody else's is somebody else's all the same.
    let mut damaged = cluster.clone();
    let Disk::Holds(other) = damaged.node(4).disk.clone() else { unreachable!() };
    damaged.node(4).disk = Disk::Damaged { stamp: other.clone() };
    assert_eq!(damaged.blocked(), "ForeignData");
    damaged.node(4).disk = Disk::Stale { log: other };
    assert_eq!(damaged.blocked(), "ForeignData");
    let mut unread = cluster;
    unread.node(4).disk = Disk::Unknown("EIO".to_owned());
    assert_eq!(unread.says(), "wait for what cannot be read: n4: EIO");
}

#[test]
fn safety_04_homes_without_a_record_are_started_and_never_founded() {
    // cluster.json is lost; the data is not.
    let mut paper = Paper::well(3);
    paper.seen.record.founding = None;
    paper.loses_quorum();
    (1..=3).for_each(|i| paper.stops(i));
    assert_eq!(paper.says(), "start n1, n2, n3 as existing");
    // Not together if they remember different beginnings.
    let mut other = identity(3);
    other.founding = Some(FoundingId(0xbad));
    paper.node(3).disk = Disk::Holds(other);
    assert_eq!(
        paper.says(),
        "blocked: n1, n2, n3 hold data of different clusters or foundings (MixedHomes); move the \
         data that does not belong here out of its home"
    );
    paper.node(2).disk = Disk::Empty;
    assert!(paper.says().starts_with("blocked: n1, n3 hold data of different"));
}

#[test]
fn members_are_matched_by_what_they_answer_then_by_stamp_and_address() {
    // n2 and n3 changed homes: each runs the other's member, at its own address.
    let mut paper = Paper::well(3);
    paper.runs(2, 3, Role::Voter);
    paper.runs(3, 2, Role::Voter);
    let of = |i| member_of(&paper.wanted, &paper.seen, &name(i)).map(|id| id.0);
    assert_eq!([of(1), of(2), of(3)], [Some(1), Some(3), Some(2)]);
    // A copied home claims its member twice: the one at the right address is meant.
    let mut copied = Paper::well(3);
    copied.stops(3);
    copied.wants(4);
    *copied.node(4) = copied.node(3).clone();
    copied.node(4).peer_url = Some(url(4));
    assert_eq!(copied.says(), "start n3 as existing");
    // Right is where the spec has it or where it was started; a name decides nothing.
    let mut moved = Paper::well(3);
    moved.stops(3);
    moved.wants(0);
    *moved.node(0) = moved.node(3).clone();
    moved.node(0).peer_url = Some(url(0));
    let of = |paper: &Paper| member_of(&paper.wanted, &paper.seen, &name(3)).map(|id| id.0);
    assert_eq!(of(&moved), Some(3));
    let mut untold = moved.clone();
    untold.node(3).peer_url = None;
    assert_eq!(of(&untold), Some(3));
    moved.moves(3, "http://m3:2380");
    assert_eq!(of(&moved), Some(3));
    // Nor is a member two nodes'.
    copied.wants_no_more(3);
    copied.seen.nodes.remove(&name(3));
    assert_eq!(copied.trace()[0], "move 3 of n4 to http://n4:2380");
    // A node that is not wanted is known by where it was started.
    let mut left = Paper::well(3);
    left.wants_no_more(3);
    *left.node(3) = empty_node();
    left.node(3).peer_url = Some(url(3));
    assert_eq!(left.says(), "remove 3 of n3 (not wanted any more)");
    left.node(3).peer_url = None;
    assert_eq!(left.says(), "forget n3, its data set aside");
    left.seen.nodes.remove(&name(3));
    assert_eq!(left.blocked(), "ForeignMember");
}

#[test]
fn a_stray_process_is_ended_before_its_node_is_started_anew() {
    // n2's member was removed by hand while it ran.
    let mut paper = Paper::well(3);
    paper.removes(2);
    assert_eq!(
        paper.trace(),
        [
            "stop n2 (its member is gone)",
            "add learner for n2",
            "start n2 as existing, former data set aside",
            "promote its new member of n2",
            "done",
        ]
    );
    paper.node(2).health = Health::Silent;
    assert_eq!(paper.says(), "stop n2 (silent, by force)");
    // One that does not say what it is is given the remediation delay.
    paper.node(2).stamp = None;
    paper.node(2).disk = Disk::Unknown("no stamp".to_owned());
    paper.node(2).process_since = millis_ago(29_999);
    assert_eq!(paper.says(), "wait for n2 to be ready");
    paper.node(2).process_since = ago(30);
    assert_eq!(paper.says(), "stop n2 (silent, by force)");
    // What it was started from tells, too.
    paper.node(2).disk = Disk::Holds(identity(2));
    paper.node(2).process_since = NOW;
    assert_eq!(paper.says(), "stop n2 (silent, by force)");
    // What prepares for a member that is there is on its way.
    let mut paper = Paper::well(3);
    paper.node(2).process = Process::Preparing;
    paper.node(2).process_since = NOW;
    paper.node(2).health = Health::NotAsked;
    paper.node(2).stamp = Some(identity(77));
    assert_eq!(paper.says(), "wait for n2 to be ready");
    paper.removes(2);
    paper.node(2).process = Process::Preparing;
    assert_eq!(paper.says(), "stop n2 (its member is gone)");
    let quorate::plan::Step::Stop { member, .. } = paper.step() else { panic!("not a stop") };
    assert_eq!(member, None, "what only prepares runs no member yet");
    paper.node(2).process = Process::Running { supervised: true };
    let quorate::plan::Step::Stop { member, .. } = paper.step() else { panic!("not a stop") };
    assert_eq!(member, Some(MemberId(77)));
}

#[test]
fn a_node_that_is_let_go_must_be_nobodys() {
    let left = |spoil: &dyn Fn(&mut quorate::cluster::NodeSeen)| {
        let mut paper = Paper::well(3);
        paper.wants(4);
        paper.wants_no_more(4);
        spoil(paper.node(4));
        paper
    };
    let forgets = "forget n4, its data set aside";
    assert_eq!(left(&|_| {}).says(), forgets);
    let of_former = left(&|n| n.disk = Disk::Holds(identity(0x44)));
    assert_eq!(of_former.says(), forgets);
    let quorate::plan::Step::ForgetNode { data_of, .. } = of_former.step() else { panic!() };
    assert_eq!(data_of, Some(MemberId(0x44)));
    let unread = left(&|n| n.disk = Disk::Unknown("EIO".to_owned()));
    assert_eq!(unread.says(), "wait for what cannot be read: n4: EIO");
    assert_eq!(left(&|n| n.disk = Disk::Foreign("a database".to_owned())).says(), "done");
    assert_eq!(left(&|n| n.disk = Disk::Stale { log: identity(3) }).blocked(), "ForeignData");
    let unknown = left(&|n| n.process = Process::Unknown("no lock".to_owned()));
    assert_eq!(unknown.says(), "done");
}

#[test]
fn safety_21_the_planner_only_knows_the_spec_it_is_given() {
    // The last good one stays in force by being given again: the same question, the same answer.
    let mut paper = Paper::well(3);
    paper.loses(2);
    assert_eq!(paper.step(), paper.clone().step());
    assert_eq!(Paper::well(3).says(), "done");
}
