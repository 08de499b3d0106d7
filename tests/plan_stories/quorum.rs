//! The arithmetic: what may go, stop or join while how many are well (safety 14).

use quorate::cluster::{Disk, Health, MemberId, Process, Role};
use quorate::plan::{Census, Step, Waiting};

use super::paper::{NOW, Paper, ago, answers, member, millis_ago, url};

/// Of `size` voters the highest `silent` have only just fallen silent.
fn ailing(size: u64, silent: u64) -> Paper {
    let mut paper = Paper::well(size);
    for i in size - silent + 1..=size {
        paper.silent(i, NOW);
    }
    paper
}

#[test]
fn safety_14_a_dead_voter_is_removed_only_if_those_that_remain_hold_a_quorum() {
    // (voters, silent ones beside the one whose disk is lost, may it go?)
    let table = [
        (2, 0, true),
        (3, 0, true),
        (3, 1, false),
        (4, 0, true),
        (4, 1, true),
        (4, 2, false),
        (5, 0, true),
        (5, 1, true),
        (5, 2, false),
        (5, 3, false),
        (7, 2, true),
        (7, 3, false),
    ];
    for (voters, silent, may_go) in table {
        let mut paper = ailing(voters, silent);
        paper.loses(1);
        paper.list().leader = Some(MemberId(2));
        let says = paper.says();
        let goes = says == "remove 1 of n1 (DataLost)";
        assert_eq!(goes, may_go, "{voters} voters, {silent} silent: {says}");
        if !may_go {
            let well = voters - 1 - silent;
            let waits = format!(
                "wait for healthy voters: n1 can only go while the others hold a quorum and \
                 nothing else is under way; {well} of {} are well",
                voters - 1
            );
            assert_eq!(says, waits);
        }
    }
}

#[test]
fn safety_14_a_voter_is_retired_only_if_those_that_remain_hold_a_quorum() {
    let mut paper = Paper::well(4);
    paper.wants_no_more(4);
    paper.silent(2, NOW);
    assert_eq!(paper.says(), "remove 4 of n4 (not wanted any more)");
    paper.silent(3, NOW);
    assert!(paper.says().starts_with("wait for n2 to answer"), "{}", paper.says());
    // Nor while a learner joins, even if another node waits for its very address.
    let mut paper = Paper::well(3);
    paper.wants_no_more(3);
    paper.wants(4);
    paper.wants(5);
    paper.wants_at(5, &url(3));
    paper.adds_learner(4, 0x44);
    paper.runs(4, 0x44, Role::Learner);
    paper.node(4).health = Health::Silent;
    assert_eq!(paper.says(), "wait for catch-up of 44");
}

#[test]
fn safety_14_a_voter_is_stopped_only_while_all_others_are_well() {
    let mut paper = ailing(5, 1);
    paper.node(2).outdated = true;
    assert!(paper.says().starts_with("wait for n5 to answer"), "{}", paper.says());
    paper.node(5).health = answers(5, Role::Voter);
    assert_eq!(paper.says(), "stop n2 (to restart it)");
}

#[test]
fn safety_14_a_healthy_voter_is_replaced_only_while_nothing_else_is_under_way() {
    let mut paper = ailing(5, 1);
    paper.asks(2, 2, NOW);
    assert!(paper.says().starts_with("wait for n5 to answer"), "{}", paper.says());
    let mut joining = Paper::well(3);
    joining.wants(4);
    joining.asks(2, 2, NOW);
    assert_eq!(joining.says(), "add learner for n4");
    joining.adds_learner(4, 0x44);
    joining.runs(4, 0x44, Role::Learner);
    joining.node(4).health = Health::NotAsked;
    joining.node(4).process = Process::Preparing;
    joining.node(4).process_since = NOW;
    assert_eq!(joining.says(), "wait for catch-up of 44");
}

#[test]
fn safety_14_a_learner_is_promoted_only_if_with_it_a_quorum_is_well() {
    let joining = |voters, silent| {
        let mut paper = ailing(voters, silent);
        paper.wants(9);
        paper.adds_learner(9, 0x99);
        paper.runs(9, 0x99, Role::Learner);
        paper.step()
    };
    let is_promoted = |step: &Step| matches!(step, Step::Promote { .. });
    assert!(is_promoted(&joining(1, 0)));
    assert!(is_promoted(&joining(2, 1)));
    assert!(!is_promoted(&joining(2, 2)));
    assert!(is_promoted(&joining(3, 1)));
    assert!(!is_promoted(&joining(3, 2)));
    assert!(is_promoted(&joining(4, 2)));
    assert!(!is_promoted(&joining(4, 3)));
    let mut paper = ailing(3, 2);
    paper.wants(9);
    paper.adds_learner(9, 0x99);
    paper.runs(9, 0x99, Role::Learner);
    paper.node(2).unhealthy_since = None;
    paper.node(3).unhealthy_since = None;
    let step = paper.step();
    assert!(
        matches!(&step, Step::Wait { what: Waiting::HealthyVoters(text), .. }
            if text == "n9 can only vote while a quorum of the others is healthy"),
        "{step}"
    );
}

#[test]
fn safety_14_nothing_is_restarted_while_a_learner_joins_or_a_voter_ails() {
    let mut paper = Paper::well(3);
    paper.node(2).outdated = true;
    paper.wants(4);
    paper.adds_learner(4, 0x44);
    paper.runs(4, 0x44, Role::Learner);
    paper.node(4).health = Health::Silent;
    assert_eq!(paper.says(), "wait for catch-up of 44");
    // What serves nothing as it runs is no loss: a move that was begun is finished.
    paper.node(2).peer_url = Some("http://m2:2380".to_owned());
    assert_eq!(paper.says(), "stop n2 (to restart it)");
}

#[test]
fn safety_14_the_only_voter_is_restarted_and_the_plan_says_what_that_costs() {
    let mut paper = Paper::well(1);
    paper.node(1).outdated = true;
    let plan = paper.plans();
    assert_eq!(plan[0].text, "stop n1 (to restart it)");
    assert_eq!(plan[0].why, "it is the only voter: nothing is served until it is back");
    assert_eq!((plan[0].before.healthy, plan[0].after.healthy), (1, 0));
    assert_eq!(paper.trace(), ["stop n1 (to restart it)", "start n1 as existing", "done"]);
    // A learner beside it changes nothing about that, but has to be over first.
    let mut paper = Paper::well(3);
    paper.node(2).outdated = true;
    assert_eq!(paper.plans()[0].why, "the others hold a quorum without it");
}

#[test]
fn safety_14_of_two_voters_none_can_be_spared_without_a_person() {
    let mut paper = Paper::well(2);
    paper.node(2).outdated = true;
    assert_eq!(
        paper.says(),
        "blocked: n2 is to be restarted, and a cluster of two cannot spare one (TooFewVoters); \
         scale to 3 nodes"
    );
    // One that joins will make them three.
    paper.wants(3);
    assert_eq!(paper.says(), "add learner for n3");
    paper.adds_learner(3, 0x33);
    paper.runs(3, 0x33, Role::Learner);
    paper.node(3).health = Health::Silent;
    assert_eq!(paper.says(), "wait for catch-up of 33");
    // Nor is it that which blocks while the other is not well.
    let mut paper = Paper::well(2);
    paper.node(2).outdated = true;
    paper.node(1).health = answers(1, Role::Learner);
    assert_eq!(paper.blocked(), "TooFewHealthy");
    let mut paper = Paper::well(2);
    paper.node(2).outdated = true;
    paper.silent(1, NOW);
    assert!(paper.says().starts_with("wait for n1 to answer"), "{}", paper.says());
}

#[test]
fn safety_14_the_only_voter_is_never_replaced() {
    let mut paper = Paper::well(1);
    paper.asks(1, 1, NOW);
    assert_eq!(
        paper.says(),
        "blocked: n1 runs the only voter, so its data is the only copy: not replaced (OnlyVoter); \
         scale to 3 nodes first"
    );
    let lost = "blocked: n1 runs the only voter, and it is lost (DataGone) (RecoveryRequired); if \
                it still serves, save it now: etcdctl snapshot save; then restore it into a new \
                cluster";
    let mut gone = Paper::well(1);
    gone.node(1).data_gone = true;
    assert_eq!(gone.says(), lost);
    // With a list (a learner's word for it, say) the only voter's lost disk is as final.
    let mut stopped = Paper::well(1);
    stopped.loses(1);
    assert_eq!(stopped.says(), lost.replace("DataGone", "DataLost"));
    // Without one, too: it is not founded again.
    stopped.loses_quorum();
    assert_eq!(stopped.blocked(), "RecoveryRequired");
}

#[test]
fn safety_14_what_ails_for_long_is_not_waited_for() {
    // n3 and n2 are gone for good in different ways; n1 cannot do alone.
    let lost = |spoil: &dyn Fn(&mut Paper)| {
        let mut paper = Paper::well(3);
        paper.loses(3);
        spoil(&mut paper);
        paper.says()
    };
    let blocked = "blocked: n3 can only go while the others hold a quorum and nothing else is \
                   under way; 1 of 2 are well (TooFewHealthy); bring n2 back: look at the log, end \
                   what hangs (kill -9), start what is not ours";
    let hope = "wait for healthy voters: n3 can only go while the others hold a quorum and nothing \
                else is under way; 1 of 2 are well";
    let hangs = |since| {
        move |paper: &mut Paper| {
            paper.node(2).process = Process::Preparing;
            paper.node(2).health = Health::NotAsked;
            paper.node(2).process_since = since;
        }
    };
    assert_eq!(lost(&hangs(millis_ago(29_999))), hope);
    assert_eq!(lost(&hangs(ago(30))), blocked);
    // It has run for a day, and this silence is a short one.
    assert_eq!(lost(&|p| p.silent(2, millis_ago(29_999))), hope);
    let of_n1 = |spoil: &dyn Fn(&mut Paper)| {
        let mut paper = Paper::well(3);
        paper.loses(1);
        paper.list().leader = Some(MemberId(3));
        spoil(&mut paper);
        paper.says()
    };
    let foreign = |paper: &mut Paper| {
        paper.stops(2);
        paper.node(2).disk = Disk::Foreign("a database".to_owned());
    };
    assert_eq!(of_n1(&foreign), blocked.replace("n3", "n1"));
    let held_back = |paper: &mut Paper| {
        paper.stops(2);
        paper.node(2).disk = Disk::Unknown("EIO".to_owned());
        paper.node(2).process_since = ago(600);
        paper.node(2).unhealthy_since = Some(ago(600));
    };
    assert_eq!(of_n1(&held_back), hope.replace("n3", "n1"));
    // One that is lost as well has none.
    assert_eq!(of_n1(&|p| p.loses(2)), blocked.replace("n3", "n1"));
}

#[test]
fn safety_14_a_start_that_hangs_is_ended_only_if_the_others_hold_a_quorum() {
    let hangs = |since| {
        let mut paper = Paper::well(3);
        paper.node(2).process = Process::Preparing;
        paper.node(2).health = Health::NotAsked;
        paper.node(2).process_since = since;
        paper
    };
    assert_eq!(hangs(millis_ago(29_999)).says(), "wait for n2 to be ready");
    assert_eq!(hangs(ago(30)).says(), "stop n2 (silent, by force)");
    let mut fewer = hangs(ago(30));
    fewer.silent(3, NOW);
    assert!(!fewer.says().starts_with("stop"), "{}", fewer.says());
}

#[test]
fn the_census_counts_what_may_yet_fail() {
    let of = |paper: &Paper| {
        let c = Census::of(&paper.wanted, &paper.seen);
        [c.voters, c.healthy, c.quorum, c.tolerance, c.learners]
    };
    assert_eq!(of(&Paper::well(1)), [1, 1, 1, 0, 0]);
    assert_eq!(of(&Paper::well(3)), [3, 3, 2, 1, 0]);
    assert_eq!(of(&ailing(3, 1)), [3, 2, 2, 0, 0]);
    assert_eq!(of(&ailing(3, 2)), [3, 1, 2, 0, 0]);
    assert_eq!(of(&Paper::well(5)), [5, 5, 3, 2, 0]);
    let mut joining = Paper::well(3);
    joining.adds_learner(4, 0x44);
    assert_eq!(of(&joining), [3, 3, 2, 1, 1]);
    let mut strange = Paper::well(3);
    strange.adds(member(9, Role::Voter));
    assert_eq!(of(&strange), [4, 3, 3, 0, 0]);
    joining.loses_quorum();
    assert_eq!(of(&joining), [0, 0, 0, 0, 0]);
}
