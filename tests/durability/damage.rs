//! A member whose store is damaged on the disk: made anew from its log where that goes back to
//! the first entry; else it ends with `DataDamaged`. It never serves what is wrong.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use quorate::cluster::ExitKind;

use crate::load::Load;
use crate::nodes::{Node, Nodes, agree, files};
use crate::support::chance::mix;
use crate::support::files::copy_dir;
use crate::support::wait::eventually;

/// A member that is down, the two others, and what all of them have to have.
struct Case {
    nodes: Nodes,
    load: Load,
}

impl Case {
    fn new(nodes: Nodes, writes: usize) -> Case {
        let nodes = nodes.run();
        let mut load = Load::start(&nodes.endpoints(), 4);
        load.goes_on(writes, &nodes.all);
        load.pause();
        nodes.agree();
        // All of it goes to the store.
        nodes.all[0].stop();
        Case { nodes, load }
    }

    fn victim(&self) -> &Node {
        &self.nodes.all[0]
    }

    /// Starts the victim: does it serve, and then only what is right? Else it must say why not.
    #[track_caller]
    fn serves_what_is_right_or_says_data_damaged(&self, told: &str) -> bool {
        let victim = self.victim();
        self.nodes.start(victim);
        let serves = eventually(&format!("{told}: serves or ends"), crate::nodes::LONG, || {
            if !victim.has_not_ended() {
                return Ok(false);
            }
            victim.linear_revision().map(|_| true)
        });
        if serves {
            agree(&self.nodes.all.iter().collect::<Vec<_>>());
            self.load.is_kept_by(&[victim], told);
            victim.stop();
        } else {
            victim.ended().is(ExitKind::DataDamaged);
        }
        serves
    }

    /// Each of the ways to damage the store, from the same state each time; how often the
    /// member served, and how often it ended.
    fn each_damage(&self) -> (usize, usize) {
        let store = self.victim().data().join("store");
        let kept = self.victim().home.with_extension("kept");
        copy_dir(&store, &kept);
        let mut all: Vec<_> = files(&store).into_iter().filter(|it| length(it) > 0).collect();
        // Of sled's many files with records, the largest will do.
        all.sort_by_key(|it| std::cmp::Reverse(length(it)));
        let mut slabs = 0;
        all.retain(|it| {
            let is_slab = it.parent().is_some_and(|it| it.ends_with("slabs"));
            slabs += usize::from(is_slab);
            !is_slab || slabs <= 3
        });
        assert!(all.len() > 5, "{all:?}");
        let (mut served, mut ended) = (0, 0);
        for (n, file) in all.iter().enumerate() {
            let name = file.strip_prefix(&store).unwrap().display();
            let told = format!("{name} of {} bytes", length(file));
            flip(file, n as u64);
            let serves = self.serves_what_is_right_or_says_data_damaged(&told);
            eprintln!("{told}: {}", if serves { "served" } else { "DataDamaged" });
            *(if serves { &mut served } else { &mut ended }) += 1;
            // The log has gone on, and nobody may take that back.
            fs::remove_dir_all(&store).unwrap();
            copy_dir(&kept, &store);
        }
        (served, ended)
    }
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).unwrap().len()
}

/// Flips a bit in about every hundredth byte that is not zero, three at least.
fn flip(path: &Path, seed: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let bytes = fs::read(path).unwrap();
    let used: Vec<usize> = (0..bytes.len()).filter(|it| bytes[*it] != 0).collect();
    let mut chance = seed;
    for _ in 0..(used.len() / 100).max(3) {
        chance = mix(chance);
        let Some(at) = used.get(usize::try_from(chance % used.len().max(1) as u64).unwrap()) else {
            continue;
        };
        file.write_all_at(&[bytes[*at] ^ (1 << (chance >> 60 & 7))], *at as u64).unwrap();
    }
    file.sync_all().unwrap();
}

#[test]
fn a_damaged_store_is_made_anew_from_a_log_that_is_whole() {
    let case = Case::new(Nodes::of(3), 400);
    let (served, ended) = case.each_damage();
    assert_eq!(ended, 0, "it has a log to make its store from; {served} times it did");
    // Nor is a store needed that is gone altogether.
    fs::remove_dir_all(case.victim().data().join("store")).unwrap();
    assert!(case.serves_what_is_right_or_says_data_damaged("the store is gone"));
}

#[test]
fn a_damaged_store_whose_log_was_purged_is_data_damaged_and_never_served() {
    let case = Case::new(Nodes::of(3).with_short_logs(), 3000);
    let (_, ended) = case.each_damage();
    assert!(ended > 0, "no damage was seen");
    fs::remove_dir_all(case.victim().data().join("store")).unwrap();
    let served = case.serves_what_is_right_or_says_data_damaged("the store is gone");
    assert!(!served, "neither log nor store has what came first");
    // The others go on without it.
    case.nodes.all[1..].iter().for_each(Node::serves);
    case.load.is_kept_by(&case.nodes.all[1..].iter().collect::<Vec<_>>(), "without it");
}

#[test]
fn a_former_copy_of_the_data_that_is_put_back_ends_that_node_or_is_brought_up_to_date() {
    let case = Case::new(Nodes::of(3), 400);
    let (data, kept) = (case.victim().data(), case.victim().home.with_extension("kept"));
    copy_dir(&data, &kept);
    case.nodes.start(case.victim());
    case.victim().serves();
    let mut later = Load::start(&case.nodes.endpoints(), 4);
    later.goes_on(200, &case.nodes.all);
    later.pause();
    case.nodes.agree();
    case.victim().kill_9();
    fs::remove_dir_all(&data).unwrap();
    copy_dir(&kept, &data);
    let others = || case.nodes.all[1..].iter();
    others().for_each(Node::serves);
    case.nodes.start(case.victim());
    // Who led while it acknowledged what it lacks now tells it so with the next heartbeat, and the
    // node ends; a leader that was elected since brings it up to date.
    let serves = eventually("it serves or ends", crate::nodes::LONG, || {
        if !case.victim().has_not_ended() {
            return Ok(false);
        }
        case.victim().linear_revision().map(|_| true)
    });
    let keep: Vec<_> = if serves {
        case.nodes.all.iter().collect()
    } else {
        case.victim().ended().is(ExitKind::DataDamaged);
        others().collect()
    };
    agree(&keep);
    for load in [&case.load, &later] {
        load.is_kept_by(&keep, "after data was put back");
    }
}
