//! In which order, and what waits for what (safety 15 to 20).

use quorate::cluster::{ExitKind, Health, LedgerKind, MemberId, Process, Role};
use quorate::plan::{Step, Waiting};

use super::paper::{NOW, Paper, ago, answers, empty_node, member, millis_ago, name, url};

/// n4 joins: its learner 44 runs and has caught up.
fn joining() -> Paper {
    let mut paper = Paper::well(3);
    paper.wants(4);
    paper.adds_learner(4, 0x44);
    paper.runs(4, 0x44, Role::Learner);
    paper
}

fn lagging(paper: &mut Paper, i: u64, id: u64, moved_at: quorate::cluster::Timestamp) {
    paper.node(i).health = Health::Answers {
        member: MemberId(id),
        role: Role::Learner,
        has_leader: true,
        caught_up: false,
        progress_at: moved_at,
    };
}

#[test]
fn safety_15_all_that_is_dead_goes_before_anything_joins() {
    let mut paper = Paper::well(5);
    paper.loses(2);
    paper.loses(4);
    assert_eq!(
        paper.trace(),
        [
            "remove 2 of n2 (DataLost)",
            "remove 4 of n4 (DataLost)",
            "add learner for n2",
            "start n2 as existing",
            "promote its new member of n2",
            "add learner for n4",
            "start n4 as existing",
            "promote its new member of n4",
            "done",
        ]
    );
}

#[test]
fn safety_15_what_nobody_wants_is_removed_before_what_gets_a_successor() {
    let mut paper = Paper::well(5);
    paper.loses(2);
    paper.loses(5);
    paper.wants_no_more(4);
    paper.wants_no_more(5);
    assert_eq!(
        paper.trace()[..2],
        ["remove 5 of n5 (not wanted any more)", "remove 2 of n2 (DataLost)"]
    );
}

#[test]
fn safety_15_health_comes_before_every_change() {
    let mut paper = joining();
    paper.stops(3);
    paper.node(2).outdated = true;
    paper.asks(1, 1, NOW);
    assert_eq!(paper.says(), "start n3 as existing");
    paper.runs(3, 3, Role::Voter);
    assert_eq!(paper.says(), "promote 44 of n4");
    paper.member(0x44).role = Role::Voter;
    paper.runs(4, 0x44, Role::Voter);
    assert_eq!(paper.says(), "move the leadership from 1 to 3");
}

#[test]
fn safety_15_an_unwanted_dead_voter_is_started_only_if_the_others_cannot_do_without_it() {
    let mut paper = Paper::well(3);
    paper.wants_no_more(3);
    paper.wants(4);
    paper.stops(3);
    assert_eq!(paper.says(), "remove 3 of n3 (not wanted any more)");
    let mut two = Paper::well(2);
    two.wants_no_more(2);
    two.stops(2);
    // One of one is a quorum of what remains.
    assert_eq!(two.says(), "remove 2 of n2 (not wanted any more)");
    let mut three = Paper::well(3);
    three.wants_no_more(3);
    three.stops(3);
    three.silent(2, NOW);
    assert_eq!(three.says(), "start n3 as existing");
}

#[test]
fn a_stopped_member_that_a_person_wants_replaced_is_removed_and_not_started() {
    let asked = |size| {
        let mut paper = Paper::well(size);
        paper.stops(3);
        paper.ended(3, ExitKind::Killed, 3, NOW);
        paper.asks(3, 3, NOW);
        paper
    };
    assert_eq!(
        asked(3).trace(),
        [
            "remove 3 of n3 (Requested)",
            "add learner for n3",
            "start n3 as existing, former data set aside",
            "promote its new member of n3",
            "done",
        ]
    );
    // Others that are down are started without it.
    let mut two = asked(5);
    two.stops(2);
    assert_eq!(two.says(), "start n2 as existing");
    // Where they cannot do without it, it has to serve first.
    let mut needed = asked(3);
    needed.silent(2, NOW);
    assert_eq!(needed.says(), "start n3 as existing");
    let mut only = Paper::well(1);
    only.stops(1);
    only.asks(1, 1, NOW);
    assert_eq!(only.says(), "start n1 as existing");
    // A wish for the member before this one is fulfilled.
    let mut fulfilled = asked(3);
    fulfilled.asks(3, 77, NOW);
    assert_eq!(fulfilled.says(), "start n3 as existing");
}

#[test]
fn safety_15_an_unwanted_voter_that_starts_or_is_silent_is_not_called_dead_at_once() {
    let mut paper = Paper::well(3);
    paper.wants_no_more(3);
    paper.node(3).process = Process::Preparing;
    paper.node(3).process_since = NOW;
    paper.node(3).health = Health::NotAsked;
    // Nothing more is known against it than that it is not wanted: `retire` decides.
    assert_eq!(paper.says(), "remove 3 of n3 (not wanted any more)");
    paper.wants(4);
    assert!(paper.says().starts_with("wait for healthy voters: n4 joins when"), "{}", paper.says());
}

#[test]
fn safety_16_nothing_is_added_while_a_voter_is_down_or_a_learner_joins() {
    let mut paper = Paper::well(3);
    paper.wants(4);
    paper.silent(3, NOW);
    let step = paper.step();
    assert!(matches!(step, Step::Wait { what: Waiting::Dwell { .. }, .. }), "{step}");
    paper.node(3).unhealthy_since = None;
    assert_eq!(
        paper.says(),
        "wait for healthy voters: n4 joins when every voter is healthy; 1 are not"
    );
    let mut paper = joining();
    paper.wants(5);
    lagging(&mut paper, 4, 0x44, NOW);
    assert_eq!(paper.says(), "wait for catch-up of 44");
    assert!(matches!(paper.step(), Step::Wait { since: Some(NOW), .. }));
}

#[test]
fn safety_16_a_node_that_still_ends_or_starts_gets_no_learner() {
    let mut paper = Paper::well(3);
    paper.wants(4);
    paper.seen.nodes.remove(&name(4));
    assert_eq!(paper.says(), "wait for what cannot be read: n4: it was not looked at");
    paper.seen.nodes.insert(name(4), empty_node());
    paper.node(4).process = Process::Unknown("no lock".to_owned());
    assert_eq!(paper.says(), "wait for what cannot be read: n4: no lock");
    paper.node(4).process = Process::Running { supervised: true };
    paper.node(4).process_since = ago(1);
    let step = paper.step();
    assert_eq!(step.to_string(), "wait for n4 to be ready");
    assert!(matches!(step, Step::Wait { since: Some(at), .. } if at == ago(1)));
}

#[test]
fn safety_17_a_step_that_was_applied_unheard_is_not_planned_again() {
    // Added, though the call timed out: it is started, not added a second time.
    let mut paper = Paper::well(3);
    paper.wants(4);
    assert_eq!(paper.says(), "add learner for n4");
    paper.adds_learner(4, 0x44);
    assert_eq!(paper.says(), "start n4 as existing");
    // Promoted, though the call timed out.
    let mut paper = joining();
    assert_eq!(paper.says(), "promote 44 of n4");
    paper.member(0x44).role = Role::Voter;
    paper.node(4).health = answers(0x44, Role::Voter);
    assert_eq!(paper.says(), "done");
    // Removed, though the call timed out: its line stands in the ledger, and does not count twice.
    let mut paper = Paper::well(3);
    paper.loses(2);
    let what = LedgerKind::Replaced(quorate::cluster::Evidence::DataLost);
    paper.gave_up(2, 2, NOW, what);
    assert_eq!(paper.says(), "remove 2 of n2 (DataLost)");
    paper.removes(2);
    assert_eq!(paper.says(), "add learner for n2");
}

#[test]
fn safety_18_a_learner_without_progress_for_300_s_is_added_anew() {
    let stuck = |moved_at, added_at| {
        let mut paper = joining();
        lagging(&mut paper, 4, 0x44, moved_at);
        paper.seen.first_seen.insert(MemberId(0x44), added_at);
        paper.says()
    };
    let waits = "wait for catch-up of 44";
    let anew = "remove 44 of n4 (the learner makes no progress)";
    assert_eq!(stuck(millis_ago(299_999), ago(600)), waits);
    assert_eq!(stuck(ago(300), ago(600)), anew);
    assert_eq!(stuck(ago(600), millis_ago(299_999)), waits);
    assert_eq!(stuck(ago(600), ago(300)), anew);
    // One that is seen for the first time is seen since now.
    let mut paper = joining();
    lagging(&mut paper, 4, 0x44, ago(600));
    assert_eq!(paper.says(), waits);
    let mut patient = paper.clone();
    patient.seen.first_seen.insert(MemberId(0x44), ago(600));
    assert_eq!(patient.says(), anew);
    patient.wanted.remediation.learner_timeout_seconds = 601;
    assert_eq!(patient.says(), waits);
}

#[test]
fn safety_18_a_learner_that_is_not_heard_is_measured_from_its_last_sign() {
    let mut paper = joining();
    paper.seen.first_seen.insert(MemberId(0x44), ago(600));
    paper.silent(4, millis_ago(299_999));
    assert_eq!(paper.says(), "wait for catch-up of 44");
    paper.silent(4, ago(300));
    assert_eq!(paper.says(), "remove 44 of n4 (the learner makes no progress)");
    paper.node(4).unhealthy_since = None;
    assert_eq!(paper.says(), "wait for catch-up of 44");
    // What another member answers there says nothing of this one's progress.
    paper.node(4).health = answers(3, Role::Voter);
    assert_eq!(paper.says(), "wait for catch-up of 44");
    lagging(&mut paper, 4, 3, ago(600));
    assert_eq!(paper.says(), "wait for catch-up of 44");
    paper.node(4).unhealthy_since = Some(ago(300));
    assert_eq!(paper.says(), "remove 44 of n4 (the learner makes no progress)");
    paper.node(4).health = answers(3, Role::Voter);
    assert_eq!(paper.says(), "remove 44 of n4 (the learner makes no progress)");
}

#[test]
fn safety_18_a_learner_that_has_caught_up_needs_no_progress() {
    // Nobody writes, so nothing moves.
    let mut paper = joining();
    paper.seen.first_seen.insert(MemberId(0x44), ago(600));
    paper.node(4).health = Health::Answers {
        member: MemberId(0x44),
        role: Role::Learner,
        has_leader: true,
        caught_up: true,
        progress_at: ago(600),
    };
    assert_eq!(paper.says(), "promote 44 of n4");
}

#[test]
fn safety_18_the_third_stuck_learner_takes_a_person() {
    let after = |times: u64| {
        let mut paper = joining();
        lagging(&mut paper, 4, 0x44, ago(600));
        paper.seen.first_seen.insert(MemberId(0x44), ago(600));
        (0..times).for_each(|old| paper.gave_up(4, 70 + old, ago(60), LedgerKind::LearnerGaveUp));
        paper
    };
    let anew = "remove 44 of n4 (the learner makes no progress)";
    assert_eq!(after(1).says(), anew);
    let third = after(2);
    assert_eq!(
        third.says(),
        "blocked: the learner 44 of n4 makes no progress, like 2 before it (LearnerStuck); look \
         at the log of n4, then say: quorate replace n4"
    );
    let mut asked = third.clone();
    asked.asks(4, 0x44, NOW);
    assert_eq!(asked.says(), "remove 44 of n4 (Requested)");
    // Replaced voters are counted apart.
    let mut voters = after(1);
    voters.gave_up(4, 80, ago(60), LedgerKind::Replaced(quorate::cluster::Evidence::DataLost));
    assert_eq!(voters.says(), anew);
}

#[test]
fn a_learner_that_lost_its_data_is_added_anew_within_the_limits() {
    let mut paper = joining();
    paper.member(0x44).name = "n4".to_owned();
    paper.loses(4);
    assert_eq!(paper.says(), "remove 44 of n4 (DataLost)");
    paper.replaced(4, 5);
    assert_eq!(paper.blocked(), "TooManyReplacements");
}

/// Somebody added a voter where none of our nodes is.
fn stranger(is_started: bool) -> Paper {
    let mut paper = Paper::well(3);
    paper.adds(member(9, Role::Voter));
    if !is_started {
        paper.member(9).name = String::new();
    }
    paper
}

#[test]
fn safety_19_an_unstarted_stranger_is_removed_after_60_s() {
    let mut paper = stranger(false);
    let waits = "wait for 9, which somebody added: to start, or to be removed after 60 s";
    assert_eq!(paper.says(), waits);
    paper.seen.first_seen.insert(MemberId(9), millis_ago(59_999));
    let step = paper.step();
    assert_eq!(step.to_string(), waits);
    assert!(matches!(step, Step::Wait { since: Some(at), .. } if at == millis_ago(59_999)));
    paper.seen.first_seen.insert(MemberId(9), ago(60));
    assert_eq!(paper.says(), "remove 9 (nobody's, and never started)");
    // Not where the others could not do without it: of four voters three have to agree.
    paper.silent(2, NOW);
    paper.silent(3, NOW);
    assert_eq!(
        paper.says(),
        "wait for healthy voters: 9 can only go while the others hold a quorum and nothing else is \
         under way; 1 of 3 are well"
    );
}

#[test]
fn safety_19_a_started_stranger_is_never_removed_by_itself() {
    let mut paper = stranger(true);
    paper.seen.first_seen.insert(MemberId(9), ago(600));
    assert_eq!(
        paper.says(),
        "blocked: member 9 (n9) is in the list and runs on none of this cluster's nodes \
         (ForeignMember); add its node to the spec, or remove it: etcdctl member remove 9"
    );
    // And what can be done for our own nodes is done all the same.
    paper.stops(2);
    assert_eq!(paper.says(), "start n2 as existing");
}

#[test]
fn safety_19_a_member_by_hand_at_a_wanted_address_is_adopted() {
    let mut paper = Paper::well(3);
    paper.wants(4);
    let mut by_hand = member(4, Role::Voter);
    (by_hand.id, by_hand.name) = (MemberId(0x44), String::new());
    paper.adds(by_hand);
    assert_eq!(paper.trace(), ["start n4 as existing", "done"]);
}

#[test]
fn safety_20_addresses_change_one_per_turn_and_only_while_all_are_well() {
    let mut paper = Paper::well(3);
    paper.moves(2, "http://m2:2380");
    paper.moves(3, "http://m3:2380");
    assert_eq!(paper.says(), "move 2 of n2 to http://m2:2380");
    paper.member(2).peer_urls = vec!["http://m2:2380".to_owned()];
    assert_eq!(paper.says(), "stop n2 (to restart it)");
    paper.node(2).process = Process::Stopped;
    paper.node(2).health = Health::NotAsked;
    assert_eq!(paper.says(), "start n2 as existing");
    paper.runs(2, 2, Role::Voter);
    paper.node(2).peer_url = Some("http://m2:2380".to_owned());
    paper.silent(2, NOW);
    assert!(paper.says().starts_with("wait for n2 to answer"), "{}", paper.says());
    paper.node(2).health = answers(2, Role::Voter);
    assert_eq!(paper.says(), "move 3 of n3 to http://m3:2380");
}

#[test]
fn safety_20_a_swap_of_addresses_is_refused() {
    let mut paper = Paper::well(3);
    paper.moves(1, &url(2));
    paper.moves(2, &url(1));
    assert_eq!(
        paper.says(),
        "blocked: n1 is to be at http://n2:2380, which member 2 has (AddressTaken); addresses \
         cannot be swapped in one go: move one to a free address first"
    );
}

#[test]
fn safety_20_an_address_in_use_is_waited_for_if_its_holder_moves_on() {
    let mut paper = Paper::well(3);
    paper.moves(2, &url(3));
    assert_eq!(paper.blocked(), "AddressTaken");
    paper.moves(3, "http://m3:2380");
    assert_eq!(
        paper.trace()[..4],
        [
            "move 3 of n3 to http://m3:2380",
            "stop n3 (to restart it)",
            "start n3 as existing",
            "move 2 of n2 to http://n3:2380",
        ]
    );
}

#[test]
fn safety_20_a_stopped_voter_is_moved_before_it_is_started_elsewhere() {
    let mut paper = Paper::well(3);
    paper.moves(2, "http://m2:2380");
    paper.stops(2);
    assert_eq!(paper.trace()[..2], ["move 2 of n2 to http://m2:2380", "start n2 as existing"]);
    let mut taken = Paper::well(3);
    taken.moves(2, &url(3));
    taken.stops(2);
    assert_eq!(taken.blocked(), "AddressTaken");
    // One that is about to run where it was is told of only when it does.
    let mut prepares = Paper::well(3);
    prepares.moves(2, "http://m2:2380");
    prepares.node(2).process = Process::Preparing;
    prepares.node(2).process_since = NOW;
    prepares.node(2).health = Health::NotAsked;
    assert_eq!(prepares.says(), "wait for n2 to be ready");
    // The next one is not kept waiting by that.
    taken.stops(1);
    assert_eq!(taken.says(), "start n1 as existing");
}

#[test]
fn safety_20_a_joining_node_does_not_take_a_living_members_address() {
    let mut paper = Paper::well(3);
    paper.wants(4);
    paper.wants_at(4, &url(3));
    paper.moves(3, "http://m3:2380");
    // Once n3 is elsewhere the address is free.
    assert_eq!(
        paper.trace()[..4],
        [
            "move 3 of n3 to http://m3:2380",
            "stop n3 (to restart it)",
            "start n3 as existing",
            "add learner for n4",
        ]
    );
    let mut stays = Paper::well(3);
    stays.wants(4);
    stays.wants_at(4, &url(3));
    assert_eq!(
        stays.says(),
        "blocked: n4 is to be at http://n3:2380, which member 3 has (AddressTaken); addresses \
         cannot be swapped in one go: move one to a free address first"
    );
}

#[test]
fn safety_20_a_learner_is_moved_and_restarted_at_once() {
    let mut paper = joining();
    paper.moves(4, "http://m4:2380");
    assert_eq!(
        paper.trace(),
        [
            "move 44 of n4 to http://m4:2380",
            "stop n4 (to restart it)",
            "start n4 as existing",
            "promote 44 of n4",
            "done",
        ]
    );
    let mut taken = joining();
    taken.moves(4, &url(3));
    // Where it is it serves as well; that its address is taken is said when nothing else is left.
    assert_eq!(taken.says(), "promote 44 of n4");
    let mut changed = joining();
    changed.node(4).outdated = true;
    assert_eq!(changed.says(), "stop n4 (to restart it)");
    changed.node(4).process = Process::Preparing;
    changed.node(4).health = Health::NotAsked;
    changed.node(4).process_since = NOW;
    assert_eq!(changed.says(), "wait for catch-up of 44");
}
