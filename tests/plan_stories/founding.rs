//! The time before the first quorum has answered (safety 1 and 2).

use quorate::cluster::{Disk, FoundingId, Health, NodeName, Process, Role, Timestamp};
use quorate::plan::{Step, Waiting};

use super::paper::{FOUNDING, NOW, Paper, ago, identity, millis_ago, name};

/// Three nodes wait at the barrier since then.
fn at_barrier(since: Timestamp) -> Paper {
    let mut paper = Paper::blank(3);
    paper.founded(false);
    for i in 1..=3 {
        let node = paper.node(i);
        (node.process, node.process_since) = (Process::Preparing, since);
    }
    paper
}

fn unstarted(paper: &mut Paper, i: u64) {
    let founding = paper.seen.record.founding.as_mut().expect("a founding");
    founding.started.remove(&name(i));
    paper.node(i).process = Process::Stopped;
}

fn names(nodes: &[NodeName]) -> Vec<&str> {
    nodes.iter().map(|n| n.0.as_str()).collect()
}

#[test]
fn safety_01_a_founding_that_was_interrupted_goes_on_as_it_was_recorded() {
    let mut paper = at_barrier(NOW);
    unstarted(&mut paper, 2);
    unstarted(&mut paper, 3);
    let step = paper.step();
    let Step::Found { nodes, founding } = &step else { panic!("{step}") };
    assert_eq!((names(nodes), *founding), (vec!["n2", "n3"], Some(FOUNDING)));
    // However late.
    paper.node(1).process_since = ago(6000);
    assert_eq!(paper.says(), "found the cluster with n2, n3");
}

#[test]
fn safety_01_a_founding_of_another_spec_is_given_up_and_begun_anew() {
    let changed = |change: &dyn Fn(&mut Paper)| {
        let mut paper = at_barrier(NOW);
        unstarted(&mut paper, 3);
        change(&mut paper);
        paper.says()
    };
    let gives_up = "stop n1 (its founding is given up)";
    assert_eq!(changed(&|_| {}), "found the cluster with n3");
    assert_eq!(changed(&|p| p.wanted.token = "another".to_owned()), gives_up);
    assert_eq!(changed(&|p| p.wants(4)), gives_up);
    assert_eq!(changed(&|p| p.wants_no_more(3)), gives_up);
    assert_eq!(changed(&|p| p.moves(3, "http://m3:2380")), gives_up);
    // Nothing is left at the barrier: all of it begins anew.
    let mut paper = at_barrier(NOW);
    (1..=3).for_each(|i| paper.node(i).process = Process::Stopped);
    paper.node(1).process_since = ago(4);
    paper.node(2).process_since = ago(4);
    paper.node(3).process_since = ago(4);
    let step = paper.step();
    let Step::Found { nodes, founding } = &step else { panic!("{step}") };
    assert_eq!((names(nodes), *founding), (vec!["n1", "n2", "n3"], None));
}

#[test]
fn safety_01_all_at_the_barrier_are_waited_for_as_long_as_the_remediation_delay() {
    let step = at_barrier(millis_ago(29_999)).step();
    assert_eq!(step.to_string(), "wait for n1, n2, n3 to be ready");
    assert!(matches!(step, Step::Wait { since: Some(at), .. } if at == millis_ago(29_999)));
    assert_eq!(at_barrier(ago(30)).says(), "stop n1 (its founding is given up)");
    // Counted from the youngest; said of the oldest.
    let mut paper = at_barrier(ago(60));
    paper.node(2).process_since = ago(10);
    let step = paper.step();
    assert!(matches!(step, Step::Wait { since: Some(at), .. } if at == ago(60)), "{step}");
}

#[test]
fn safety_01_a_founding_node_that_ended_is_lost_after_3_s() {
    let ended = |at| {
        let mut paper = at_barrier(ago(10));
        paper.node(2).process = Process::Stopped;
        paper.node(2).process_since = at;
        paper
    };
    // The others may be leaving the barrier.
    assert_eq!(ended(millis_ago(2999)).says(), "wait for n1, n2, n3 to be ready");
    assert_eq!(ended(millis_ago(3000)).says(), "stop n1 (its founding is given up)");
    // Not if one never started: nobody can have left then.
    let mut paper = ended(NOW);
    unstarted(&mut paper, 3);
    assert_eq!(paper.says(), "stop n1 (its founding is given up)");
    // Nor if nobody is left to leave.
    let mut paper = ended(NOW);
    (1..=3).for_each(|i| paper.node(i).process = Process::Stopped);
    assert_eq!(paper.says(), "found the cluster with n1, n2, n3");
    // One that is not looked at any more is as lost, and it is unknown what it holds.
    let mut paper = ended(NOW);
    paper.seen.nodes.remove(&name(2));
    assert_eq!(paper.says(), "wait for what cannot be read: n2: it was not looked at");
}

#[test]
fn safety_01_any_trace_of_data_ends_all_founding() {
    let with = |spoil: &dyn Fn(&mut Paper)| {
        let mut paper = Paper::blank(3);
        paper.founded(false);
        spoil(&mut paper);
        paper.says()
    };
    assert_eq!(with(&|_| {}), "found the cluster with n1, n2, n3");
    let holds = with(&|p| {
        p.node(2).disk = Disk::Holds(identity(2));
        p.node(2).stamp = Some(identity(2));
    });
    assert_eq!(holds, "start n2 as existing");
    // Its disk is lost, but it has run: what it acknowledged may be lost with it.
    let stamped = with(&|p| p.node(2).stamp = Some(identity(2)));
    assert!(stamped.contains("(RecoveryRequired)"), "{stamped}");
    let damaged = with(&|p| p.node(2).disk = Disk::Damaged { stamp: identity(2) });
    assert!(damaged.contains("(RecoveryRequired)"), "{damaged}");
    let runs = with(&|p| p.node(2).process = Process::Running { supervised: true });
    assert!(!runs.contains("found the cluster"), "{runs}");
    // A stamp of a founding that was given up since says nothing of this one.
    let past = with(&|p| {
        let mut stamp = identity(2);
        stamp.founding = Some(FoundingId(0xbad));
        p.node(2).stamp = Some(stamp);
    });
    assert_eq!(past, "found the cluster with n1, n2, n3");
    let untold = with(&|p| {
        let mut stamp = identity(2);
        stamp.founding = None;
        p.node(2).stamp = Some(stamp);
    });
    assert!(untold.contains("(RecoveryRequired)"), "{untold}");
}

#[test]
fn safety_02_who_had_agreed_and_never_ran_still_takes_part() {
    let mut paper = at_barrier(NOW);
    paper.runs(1, 1, Role::Voter);
    paper.node(1).health = Health::Silent;
    for i in 2..=3 {
        paper.node(i).process = Process::Stopped;
        paper.node(i).promised = Some(FOUNDING);
    }
    let step = paper.step();
    let Step::Found { nodes, founding } = &step else { panic!("{step}") };
    assert_eq!((names(nodes), *founding), (vec!["n2", "n3"], Some(FOUNDING)));
    // Whoever holds data is started first; another founding's promise, an emptied home, a node that
    // already waits and one that is not wanted are left alone.
    paper.stops(1);
    assert_eq!(paper.says(), "start n1 as existing");
    paper.runs(1, 1, Role::Voter);
    paper.node(1).health = Health::Silent;
    paper.node(2).process = Process::Preparing;
    assert_eq!(paper.says(), "found the cluster with n3");
    let none = |change: &dyn Fn(&mut Paper)| {
        let mut paper = paper.clone();
        change(&mut paper);
        assert!(!matches!(paper.step(), Step::Found { .. }), "{}", paper.says());
    };
    none(&|paper| paper.node(3).promised = None);
    none(&|paper| paper.node(3).promised = Some(FoundingId(FOUNDING.0 + 1)));
    none(&|paper| paper.wants_no_more(3));
    none(&|paper| paper.founded(true));
}

#[test]
fn safety_01_nothing_is_founded_over_what_cannot_be_read_or_is_foreign() {
    let mut paper = Paper::blank(3);
    paper.node(2).disk = Disk::Foreign("a database".to_owned());
    assert_eq!(
        paper.says(),
        "blocked: n2 holds a database: it is left alone (ForeignData); move it out of the home of \
         n2; the rest then goes by itself"
    );
    paper.node(2).disk = Disk::Unknown("EIO".to_owned());
    assert_eq!(paper.says(), "wait for what cannot be read: n2: EIO");
    paper.node(2).disk = Disk::Empty;
    paper.node(3).process = Process::Unknown("no lock".to_owned());
    assert_eq!(paper.says(), "wait for what cannot be read: n3: no lock");
    // What holds data is started all the same.
    paper.node(1).disk = Disk::Holds(identity(1));
    assert_eq!(paper.says(), "start n1 as existing");
    let mut paper = Paper::blank(3);
    paper.seen.nodes.remove(&name(3));
    assert_eq!(paper.says(), "wait for what cannot be read: n3: it was not looked at");
}

#[test]
fn safety_01_a_cluster_that_was_latched_is_never_founded_again() {
    for size in [1, 3, 5] {
        let mut paper = Paper::blank(size);
        paper.founded(true);
        assert_eq!(paper.blocked(), "RecoveryRequired", "{size}");
        for i in 1..=size {
            paper.node(i).stamp = Some(identity(i));
        }
        assert_eq!(paper.blocked(), "RecoveryRequired", "{size}");
    }
}

#[test]
fn safety_01_the_spec_may_change_while_all_wait_at_the_barrier() {
    // They found what was recorded; the cluster then becomes what is wanted.
    let mut paper = at_barrier(NOW);
    paper.wants(4);
    paper.wants(5);
    let step = paper.step();
    assert!(
        matches!(&step, Step::Wait { what: Waiting::Starting(nodes), .. }
            if names(nodes) == ["n1", "n2", "n3"]),
        "{step}"
    );
}
