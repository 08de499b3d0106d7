//! Whole ways, from what is there to what is wanted.

use quorate::cluster::{Disk, Health, MemberId, Process, Role};

use super::paper::{NOW, Paper, empty_node, identity, url};

#[test]
fn a_fresh_spec_is_founded_in_one_step() {
    assert_eq!(Paper::blank(3).trace(), ["found the cluster with n1, n2, n3", "done"]);
}

#[test]
fn three_become_five_one_learner_at_a_time() {
    let mut paper = Paper::well(3);
    paper.wants(4);
    paper.wants(5);
    assert_eq!(
        paper.trace(),
        [
            "add learner for n4",
            "start n4 as existing",
            "promote its new member of n4",
            "add learner for n5",
            "start n5 as existing",
            "promote its new member of n5",
            "done",
        ]
    );
}

#[test]
fn five_become_three_the_highest_names_first() {
    let mut paper = Paper::well(5);
    paper.wants_no_more(4);
    paper.wants_no_more(5);
    assert_eq!(
        paper.trace(),
        [
            "remove 5 of n5 (not wanted any more)",
            "stop n5 (its member is gone)",
            "remove 4 of n4 (not wanted any more)",
            "stop n4 (its member is gone)",
            "forget n4, its data set aside",
            "forget n5, its data set aside",
            "done",
        ]
    );
}

#[test]
fn of_five_that_become_three_a_dead_one_goes_before_the_highest_name() {
    let mut paper = Paper::well(5);
    paper.wants_no_more(4);
    paper.wants_no_more(5);
    paper.stops(4);
    assert_eq!(
        paper.trace()[..3],
        [
            "remove 4 of n4 (not wanted any more)",
            "remove 5 of n5 (not wanted any more)",
            "stop n5 (its member is gone)",
        ]
    );
}

#[test]
fn a_retired_leader_hands_over_first() {
    let mut paper = Paper::well(3);
    paper.wants_no_more(1);
    paper.wants_no_more(3);
    paper.list().leader = Some(MemberId(3));
    // n1 is about to go as well, so it is n2 that takes over.
    assert_eq!(
        paper.trace()[..3],
        [
            "move the leadership from 3 to 2",
            "remove 3 of n3 (not wanted any more)",
            "stop n3 (its member is gone)",
        ]
    );
}

#[test]
fn a_changed_option_is_rolled_out_with_the_leader_last() {
    let mut paper = Paper::well(3);
    (1..=3).for_each(|i| paper.node(i).outdated = true);
    assert_eq!(
        paper.trace(),
        [
            "stop n2 (to restart it)",
            "start n2 as existing",
            "stop n3 (to restart it)",
            "start n3 as existing",
            // Not to n3 or whoever comes first, but to one that need not be restarted again.
            "move the leadership from 1 to 2",
            "stop n1 (to restart it)",
            "start n1 as existing",
            "done",
        ]
    );
}

#[test]
fn the_leadership_goes_to_one_that_need_not_be_restarted() {
    let mut paper = Paper::well(3);
    paper.node(1).outdated = true;
    paper.node(2).data_gone = true;
    // Its data is gone, and remediation is off: it stays, but not as leader.
    paper.wanted.remediation.enabled = false;
    assert_eq!(paper.says(), "move the leadership from 1 to 3");
}

#[test]
fn the_leadership_goes_to_a_voter_that_has_caught_up() {
    let lags = |paper: &mut Paper, i: u64| {
        if let Health::Answers { caught_up, .. } = &mut paper.node(i).health {
            *caught_up = false;
        }
    };
    let mut paper = Paper::well(3);
    paper.node(1).outdated = true;
    lags(&mut paper, 2);
    assert_eq!(paper.says(), "move the leadership from 1 to 3");
    lags(&mut paper, 3);
    assert!(
        paper.says().starts_with("wait for healthy voters: n1 can only go"),
        "{}",
        paper.says()
    );
    // Nor to one that does not answer, where all need not be well: a retirement.
    let mut paper = Paper::well(5);
    paper.wants_no_more(1);
    paper.wants_no_more(5);
    paper.list().leader = Some(MemberId(5));
    paper.silent(2, NOW);
    assert_eq!(paper.says(), "move the leadership from 5 to 3");
}

#[test]
fn a_voter_whose_supervisor_is_gone_gets_a_new_one() {
    let mut paper = Paper::well(3);
    paper.node(3).process = Process::Running { supervised: false };
    assert_eq!(paper.trace(), ["stop n3 (to restart it)", "start n3 as existing", "done"]);
}

#[test]
fn a_lost_disk_is_replaced_in_the_how_tos_order() {
    let mut paper = Paper::well(3);
    paper.loses(2);
    assert_eq!(
        paper.trace(),
        [
            "remove 2 of n2 (DataLost)",
            "add learner for n2",
            "start n2 as existing",
            "promote its new member of n2",
            "done",
        ]
    );
}

#[test]
fn a_stale_disk_is_set_aside_when_its_node_joins_again() {
    let mut paper = Paper::well(3);
    paper.stops(2);
    paper.node(2).disk = Disk::Stale { log: identity(77) };
    assert_eq!(
        paper.trace(),
        [
            "remove 2 of n2 (StaleData)",
            "add learner for n2",
            "start n2 as existing, former data set aside",
            "promote its new member of n2",
            "done",
        ]
    );
}

#[test]
fn a_leader_that_a_person_wants_replaced_hands_over_first() {
    let mut paper = Paper::well(3);
    paper.asks(1, 1, NOW);
    assert_eq!(
        paper.trace(),
        [
            "move the leadership from 1 to 2",
            "remove 1 of n1 (Requested)",
            "stop n1 (its member is gone)",
            "add learner for n1",
            "start n1 as existing, former data set aside",
            "promote its new member of n1",
            "done",
        ]
    );
}

#[test]
fn of_two_that_must_go_the_leader_goes_last() {
    let mut paper = Paper::well(5);
    paper.asks(1, 1, NOW);
    paper.asks(2, 2, NOW);
    let trace = paper.trace();
    assert_eq!(trace[0], "remove 2 of n2 (Requested)");
    let handed_over = trace.iter().position(|t| t.starts_with("move the leadership from 1 to"));
    let promoted = trace.iter().position(|t| t == "promote its new member of n2");
    assert!(promoted < handed_over, "{trace:#?}");
    assert_eq!(trace.last().map(String::as_str), Some("done"));
}

#[test]
fn a_renamed_node_joins_before_the_old_one_retires() {
    let mut paper = Paper::well(3);
    paper.wants_no_more(3);
    paper.wants(4);
    assert_eq!(
        paper.trace(),
        [
            "add learner for n4",
            "start n4 as existing",
            "promote its new member of n4",
            "remove 3 of n3 (not wanted any more)",
            "stop n3 (its member is gone)",
            "forget n3, its data set aside",
            "done",
        ]
    );
}

#[test]
fn a_node_renamed_at_its_address_gets_it_when_the_old_one_has_left() {
    let mut paper = Paper::well(3);
    paper.wants_no_more(3);
    paper.wants(4);
    paper.wants_at(4, &url(3));
    // The member at the address is the old node's as long as its data says so.
    assert_eq!(
        paper.trace(),
        [
            "remove 3 of n3 (not wanted any more)",
            "stop n3 (its member is gone)",
            "add learner for n4",
            "start n4 as existing",
            "promote its new member of n4",
            "forget n3, its data set aside",
            "done",
        ]
    );
}

#[test]
fn a_moved_voter_is_told_of_then_restarted_and_only_then_the_next() {
    let mut paper = Paper::well(3);
    paper.moves(1, "http://m1:2380");
    paper.moves(2, "http://m2:2380");
    assert_eq!(
        paper.trace(),
        [
            "move 2 of n2 to http://m2:2380",
            "stop n2 (to restart it)",
            "start n2 as existing",
            "move the leadership from 1 to 2",
            "move 1 of n1 to http://m1:2380",
            "stop n1 (to restart it)",
            "start n1 as existing",
            "done",
        ]
    );
}

#[test]
fn stopped_voters_are_started_all_in_one_step() {
    let mut paper = Paper::well(5);
    paper.stops(4);
    paper.stops(5);
    assert_eq!(paper.trace(), ["start n4, n5 as existing", "done"]);
}

#[test]
fn a_spec_that_shrinks_during_a_join_drops_the_learner_then_its_node() {
    let mut paper = Paper::well(3);
    paper.adds_learner(4, 4);
    paper.wants(4);
    paper.runs(4, 4, Role::Learner);
    paper.wants_no_more(4);
    assert_eq!(
        paper.trace(),
        [
            "remove 4 of n4 (not wanted any more)",
            "stop n4 (its member is gone)",
            "forget n4, its data set aside",
            "done",
        ]
    );
}

#[test]
fn three_become_one_and_the_last_voter_is_the_wanted_one() {
    let mut paper = Paper::well(3);
    paper.wants_no_more(1);
    paper.wants_no_more(2);
    assert_eq!(
        paper.trace()[..4],
        [
            "remove 2 of n2 (not wanted any more)",
            "stop n2 (its member is gone)",
            "move the leadership from 1 to 3",
            "remove 1 of n1 (not wanted any more)",
        ]
    );
}

#[test]
fn one_becomes_three() {
    let mut paper = Paper::well(1);
    paper.wants(2);
    paper.wants(3);
    let trace = paper.trace();
    assert_eq!(trace.len(), 7, "{trace:#?}");
    assert_eq!(trace[6], "done");
}

#[test]
fn a_member_that_is_named_by_the_list_only_is_still_its_nodes() {
    // The home is new (its disk, too, was exchanged): only the address tells whose it is.
    let mut paper = Paper::well(3);
    *paper.node(2) = empty_node();
    assert_eq!(paper.trace()[0], "remove 2 of n2 (DataLost)");
    let mut elsewhere = paper.clone();
    elsewhere.member(2).peer_urls = vec!["http://elsewhere:1".to_owned()];
    assert_eq!(elsewhere.blocked(), "ForeignMember");
}
