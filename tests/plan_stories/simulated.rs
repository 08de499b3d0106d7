//! `quorate plan`: the steps to come with their figures and reasons.

use quorate::cluster::{ExitKind, Health, LedgerKind, MemberId, Process, Role};
use quorate::plan::{Planned, Step, Waiting, simulate};

use super::paper::{NOW, Paper, ago, answers, member, name};

fn figures(plan: &Planned) -> String {
    let of = |c: &quorate::plan::Census| {
        format!("{}/{} q{} t{} l{}", c.healthy, c.voters, c.quorum, c.tolerance, c.learners)
    };
    format!("{}: {} -> {}", plan.text, of(&plan.before), of(&plan.after))
}

fn whys(paper: &Paper) -> Vec<(String, String)> {
    paper.plans().into_iter().map(|p| (p.text, p.why)).collect()
}

fn why(paper: &Paper) -> String {
    paper.plans().swap_remove(0).why
}

#[test]
fn every_step_has_its_figures_before_and_after() {
    let mut paper = Paper::well(3);
    paper.loses(2);
    let figures: Vec<_> = paper.plans().iter().map(figures).collect();
    assert_eq!(
        figures,
        [
            "remove 2 of n2 (DataLost): 2/3 q2 t0 l0 -> 2/2 q2 t0 l0",
            "add learner for n2: 2/2 q2 t0 l0 -> 2/2 q2 t0 l1",
            "start n2 as existing: 2/2 q2 t0 l1 -> 2/2 q2 t0 l1",
            "promote its new member of n2: 2/2 q2 t0 l1 -> 3/3 q2 t1 l0",
            "done: 3/3 q2 t1 l0 -> 3/3 q2 t1 l0",
        ]
    );
    let figures: Vec<_> = Paper::blank(3).plans().iter().map(self::figures).collect();
    assert_eq!(
        figures,
        [
            "found the cluster with n1, n2, n3: 0/0 q0 t0 l0 -> 3/3 q2 t1 l0",
            "done: 3/3 q2 t1 l0 -> 3/3 q2 t1 l0",
        ]
    );
}

#[test]
fn every_step_says_why() {
    let mut paper = Paper::well(3);
    paper.asks(1, 1, NOW);
    paper.moves(2, "http://m2:2380");
    let said = whys(&paper);
    let said: Vec<_> = said.iter().map(|(text, why)| (text.as_str(), why.as_str())).collect();
    assert_eq!(
        said,
        [
            ("move the leadership from 1 to 3", "a leader that just stops costs an election"),
            (
                "remove 1 of n1 (Requested)",
                "a person asked for a new member here, and the others hold a quorum without it"
            ),
            (
                "stop n1 (its member is gone)",
                "its member is in the list no more, so nobody needs it"
            ),
            ("add learner for n1", "a learner costs no quorum while it catches up"),
            (
                "start n1 as existing, former data set aside",
                "it joins the members that are there; what a removed member left is kept for undo"
            ),
            (
                "promote its new member of n1",
                "it has caught up, so its vote cannot stall the others"
            ),
            ("move 2 of n2 to http://m2:2380", "the others must know where it will be"),
            ("stop n2 (to restart it)", "the others hold a quorum without it"),
            ("start n2 as existing", "it is a member and does not run"),
            ("done", "the cluster is as wanted"),
        ]
    );
}

#[test]
fn removals_and_stops_have_reasons_of_their_own() {
    let mut lost = Paper::well(3);
    lost.loses(2);
    assert_eq!(why(&lost), "the others hold a quorum without it, and it cannot come back");
    let mut silent = Paper::well(3);
    silent.silent(2, ago(60));
    assert_eq!(
        why(&silent),
        "the others hold a quorum without it, and it was not heard past the remediation delay"
    );
    assert_eq!(whys(&silent)[1].1, "it takes part in nothing, and ends only by force");
    let mut gone = Paper::well(3);
    gone.node(2).data_gone = true;
    assert_eq!(
        why(&gone),
        "the others hold a quorum without it, and it would not survive a restart"
    );
    let mut unwanted = Paper::well(3);
    unwanted.wants_no_more(3);
    unwanted.wants_no_more(2);
    assert_eq!(why(&unwanted), "the spec does not want it any more");
    assert_eq!(whys(&unwanted)[5].1, "nothing uses it any more");
    let mut stranger = Paper::well(3);
    stranger.adds(member(9, Role::Voter));
    stranger.member(9).name = String::new();
    stranger.seen.first_seen.insert(MemberId(9), ago(60));
    assert_eq!(
        why(&stranger),
        "it counts as a voter and never votes, so one failure more would stall the others"
    );
    let mut stuck = Paper::well(3);
    stuck.wants(4);
    stuck.adds_learner(4, 0x44);
    stuck.runs(4, 0x44, Role::Learner);
    stuck.silent(4, ago(600));
    stuck.seen.first_seen.insert(MemberId(0x44), ago(600));
    assert_eq!(why(&stuck), "it has no vote to lose, and may get on if it begins anew");
    let mut founding = Paper::blank(3);
    assert_eq!(why(&founding), "no node holds data and nothing was founded before");
    founding.founded(false);
    (1..=3).for_each(|i| founding.node(i).process = Process::Preparing);
    assert_eq!(
        why(&founding),
        "another founding node is lost, so this founding cannot be finished"
    );
    let mut blocked = Paper::well(1);
    blocked.asks(1, 1, NOW);
    assert_eq!(why(&blocked), "this needs a person");
}

#[test]
fn only_the_voter_itself_is_announced_as_the_only_one() {
    let only = "it is the only voter: nothing is served until it is back";
    let mut paper = Paper::well(1);
    paper.node(1).outdated = true;
    assert_eq!(why(&paper), only);
    // Its learner is restarted without such a cost.
    let mut paper = Paper::well(1);
    paper.wants(2);
    paper.wants(3);
    paper.adds_learner(2, 0x22);
    paper.runs(2, 0x22, Role::Learner);
    paper.node(2).outdated = true;
    let (text, why) = whys(&paper).swap_remove(0);
    assert_eq!(
        (text.as_str(), why.as_str()),
        ("stop n2 (to restart it)", "the others hold a quorum without it")
    );
}

#[test]
fn time_passes_while_a_step_waits() {
    let mut silent = Paper::well(3);
    silent.silent(2, ago(10));
    let plan = silent.plans();
    assert_eq!(plan[0].text, "wait for n2 to answer; past the remediation delay it is replaced");
    assert_eq!(plan[0].why, "the next change could cost the quorum before that");
    assert_eq!(plan[1].text, "remove 2 of n2 (Silent)");
    let mut stranger = Paper::well(3);
    stranger.adds(member(9, Role::Voter));
    stranger.member(9).name = String::new();
    stranger.seen.first_seen.insert(MemberId(9), ago(10));
    assert_eq!(stranger.trace()[1..], ["remove 9 (nobody's, and never started)", "done"]);
    // A minute, not for ever: the limits of a day still hold.
    stranger.loses(2);
    stranger.replaced(2, 5);
    let trace = stranger.trace();
    assert_eq!(trace[1], "remove 9 (nobody's, and never started)");
    assert!(trace[2].contains("(TooManyReplacements)"), "{trace:#?}");
    let mut refused = Paper::well(3);
    refused.stops(2);
    refused.ended(2, ExitKind::AddressInUse, 2, NOW);
    assert_eq!(refused.trace()[1..], ["start n2 as existing", "done"]);
    let mut lagging = Paper::well(3);
    lagging.wants(4);
    lagging.adds_learner(4, 0x44);
    lagging.runs(4, 0x44, Role::Learner);
    lagging.node(4).health = Health::Answers {
        member: MemberId(0x44),
        role: Role::Learner,
        has_leader: true,
        caught_up: false,
        progress_at: NOW,
    };
    assert_eq!(lagging.trace(), ["wait for catch-up of 44", "promote 44 of n4", "done"]);
    let mut starting = Paper::well(3);
    starting.node(2).process = Process::Preparing;
    starting.node(2).process_since = NOW;
    starting.node(2).health = Health::NotAsked;
    assert_eq!(starting.trace(), ["wait for n2 to be ready", "done"]);
}

#[test]
fn a_wait_that_nothing_ends_and_a_limit_end_the_plan() {
    let mut unread = Paper::well(3);
    unread.wants(4);
    unread.seen.nodes.remove(&name(4));
    assert_eq!(unread.trace(), ["wait for what cannot be read: n4: it was not looked at"]);
    let mut paper = Paper::well(3);
    paper.loses(2);
    let texts: Vec<_> =
        simulate(&paper.wanted, &paper.seen, 2).into_iter().map(|p| p.text).collect();
    assert_eq!(texts, ["remove 2 of n2 (DataLost)", "add learner for n2"]);
    assert_eq!(simulate(&paper.wanted, &paper.seen, 0), []);
}

#[test]
fn what_is_planned_counts_against_the_limits_while_it_is_planned() {
    // The fifth is allowed; the plan shows it, and would block a sixth.
    let mut paper = Paper::well(3);
    paper.loses(2);
    paper.replaced(2, 4);
    assert_eq!(paper.trace().len(), 5);
    // A learner that gives up is counted as one.
    let mut stuck = Paper::well(3);
    stuck.wants(4);
    stuck.adds_learner(4, 0x44);
    stuck.runs(4, 0x44, Role::Learner);
    stuck.silent(4, ago(600));
    stuck.seen.first_seen.insert(MemberId(0x44), ago(600));
    stuck.gave_up(4, 43, ago(60), LedgerKind::LearnerGaveUp);
    assert_eq!(
        stuck.trace()[..3],
        [
            "remove 44 of n4 (the learner makes no progress)",
            "stop n4 (silent, by force)",
            "add learner for n4",
        ]
    );
    // With remediation off, a replacement that the plan itself began is brought to its end.
    let mut off = Paper::well(3);
    off.wanted.remediation.enabled = false;
    off.stops(2);
    off.node(2).disk = quorate::cluster::Disk::Damaged { stamp: super::paper::identity(2) };
    off.asks(2, 2, NOW);
    assert_eq!(
        off.trace(),
        [
            "remove 2 of n2 (DataDamaged)",
            "add learner for n2",
            "start n2 as existing, former data set aside",
            "promote its new member of n2",
            "done",
        ]
    );
}

#[test]
fn a_full_outage_is_planned_to_the_point_where_the_list_is_needed() {
    let mut paper = Paper::well(3);
    paper.loses_quorum();
    (1..=3).for_each(|i| paper.stops(i));
    let trace = paper.trace();
    assert_eq!(trace[0], "start n1, n2, n3 as existing");
    assert!(trace[1].starts_with("wait for what cannot be read: the member list"), "{trace:?}");
    assert_eq!(trace.len(), 2);
}

#[test]
fn a_fresh_id_is_never_one_that_is_taken() {
    // The very ID that a simulation would give out first.
    let first = 0xffff_ffff_0000_0000;
    let mut paper = Paper::well(3);
    paper.wants(4);
    paper.member(3).id = MemberId(first);
    paper.runs(3, first, Role::Voter);
    paper.node(2).stamp = Some(super::paper::identity(2));
    let steps = paper.plans();
    let ids: Vec<_> = steps
        .iter()
        .filter_map(|p| match &p.step {
            Step::Promote { member, .. } => Some(member.0),
            _ => None,
        })
        .collect();
    assert_eq!(ids, [first + 1]);
    // One that only a home remembers is taken, too.
    let mut left = Paper::well(3);
    left.wants(4);
    left.node(4).stamp = Some(super::paper::identity(first));
    let starts = left.plans().into_iter().find_map(|p| match p.step {
        Step::Promote { member, .. } => Some(member.0),
        _ => None,
    });
    assert_eq!(starts, Some(first + 1));
}

#[test]
fn a_wait_says_since_when() {
    let mut paper = Paper::well(3);
    paper.node(2).health = Health::Answers {
        member: MemberId(2),
        role: Role::Voter,
        has_leader: false,
        caught_up: true,
        progress_at: NOW,
    };
    paper.node(2).process_since = ago(7);
    paper.node(3).health = answers(3, Role::Learner);
    paper.node(3).process_since = ago(9);
    let step = paper.step();
    let Step::Wait { what: Waiting::Starting(nodes), since } = &step else { panic!("{step}") };
    assert_eq!((nodes.len(), *since), (2, Some(ago(9))));
}
