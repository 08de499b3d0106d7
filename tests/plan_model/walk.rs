//! The walk itself: layer by layer, one fault more each time, every world once.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Instant;

use super::acts::{Act, Plan};
use super::world::{Blind, Data, Kind, MAX, Mode, Node, Proc, Who, World};
use super::{check, check_memory, needs_second_look};

/// Multiplies and rotates: worlds are small and many, and nobody chooses them to collide.
#[derive(Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u8(*byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_isize(&mut self, n: isize) {
        self.write_u64(n.cast_unsigned() as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Places = HashMap<World, usize, BuildHasherDefault<Mix>>;

/// What happens next to a world that nothing more goes wrong with.
#[derive(Clone, Copy, Debug)]
enum Fate<T> {
    /// It goes on.
    To(T),
    /// It rests, as wanted or waiting for a person.
    Rests(Plan),
}

/// One world, looked at.
struct Looked {
    /// Where it goes without a fault, the fair ways among them.
    next: Vec<World>,
    /// With us first, and with the nodes first.
    fates: [Fate<World>; 2],
}

pub(crate) struct Walk {
    worlds: Vec<World>,
    places: Places,
    fates: Vec<[Fate<usize>; 2]>,
    /// Where each world was first met from, for whoever has to find out why.
    came_from: Vec<usize>,
}

impl Walk {
    /// Walks, checks, and prints how far.
    pub(crate) fn run(start: World, faults: usize) {
        #[allow(clippy::disallowed_methods, reason = "tells a person how long the walk took")]
        let begun = Instant::now();
        let mut walk = Walk {
            worlds: Vec::new(),
            places: Places::default(),
            fates: Vec::new(),
            came_from: Vec::new(),
        };
        walk.meet(start.canonical(), 0);
        let mut layer = 0;
        for left in (0..=faults).rev() {
            let end_of_last = layer;
            walk.close();
            layer = walk.worlds.len();
            println!("    {} worlds with {} faults", layer, faults - left);
            if left == 0 {
                break;
            }
            for at in end_of_last..layer {
                let w = walk.worlds[at];
                let failures = walk.guarded(at, || {
                    let failures = w.failures();
                    failures.iter().for_each(|next| check_memory(&w, next));
                    failures
                });
                for next in failures {
                    walk.meet(next.canonical(), at);
                }
            }
        }
        println!(
            "{} nodes, {} wanted, {faults} faults: {} worlds in {:.1} s",
            start.size,
            start.nodes().iter().filter(|n| n.wanted).count(),
            walk.worlds.len(),
            begun.elapsed().as_secs_f64()
        );
        walk.check_ends();
        println!("  and every road followed in {:.1} s", begun.elapsed().as_secs_f64());
    }

    fn meet(&mut self, w: World, from: usize) -> usize {
        let next = self.worlds.len();
        *self.places.entry(w).or_insert_with(|| {
            self.worlds.push(w);
            self.came_from.push(from);
            next
        })
    }

    /// Tells how a world came about if looking at it panics.
    fn guarded<T>(&self, at: usize, look: impl FnOnce() -> T) -> T {
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(look));
        looked.unwrap_or_else(|panic| {
            println!("how it came about:{}", self.story(at));
            std::panic::resume_unwind(panic)
        })
    }

    /// The way from the beginning to a world.
    fn story(&self, mut at: usize) -> String {
        let mut lines = Vec::new();
        loop {
            let w = &self.worlds[at];
            lines.push(format!("\n  {w}\n    => {}", w.step(Blind::Not)));
            if at == self.came_from[at] {
                break;
            }
            at = self.came_from[at];
        }
        lines.into_iter().rev().collect()
    }

    /// Follows everything that needs no fault.
    fn close(&mut self) {
        while self.fates.len() < self.worlds.len() {
            let begin = self.fates.len();
            let batch = &self.worlds[begin..];
            for (looked, from) in look_at_all(batch).into_iter().zip(begin..) {
                // Once more, where its story can be told.
                let looked =
                    looked.unwrap_or_else(|| self.guarded(from, || look_at(&self.worlds[from])));
                for next in looked.next {
                    self.meet(next, from);
                }
                let fates = looked.fates.map(|fate| match fate {
                    Fate::To(next) => Fate::To(self.meet(next, from)),
                    Fate::Rests(plan) => Fate::Rests(plan),
                });
                self.fates.push(fates);
            }
        }
    }

    /// Without further faults every world comes to rest; one whose disks hold a quorum at done,
    /// or where a person is told what to do.
    fn check_ends(&self) {
        let mut blocked: HashMap<(&str, bool), (usize, usize, usize)> = HashMap::new();
        for way in 0..2 {
            // 0: not looked at yet. Otherwise one more than the place where it rests.
            let mut ends = vec![0_usize; self.worlds.len()];
            for start in 0..self.worlds.len() {
                let mut path = Vec::new();
                let mut at = start;
                let end = loop {
                    if ends[at] == usize::MAX {
                        self.tell_circle(&path, at, way);
                    }
                    if ends[at] > 0 {
                        break ends[at] - 1;
                    }
                    ends[at] = usize::MAX;
                    path.push(at);
                    match self.fates[at][way] {
                        Fate::To(next) => at = next,
                        Fate::Rests(_) => break at,
                    }
                };
                path.iter().for_each(|at| ends[*at] = end + 1);
                let Fate::Rests(plan) = self.fates[end][way] else { unreachable!() };
                let is_whole = self.worlds[start].is_recoverable();
                assert!(
                    matches!(plan, Plan::Done | Plan::Blocked(_)) || !is_whole,
                    "comes to rest at {}\n  {}\nfrom {}",
                    self.worlds[end].step(Blind::Not),
                    self.worlds[end],
                    self.story(start)
                );
                if let Plan::Blocked(reason) = plan {
                    assert!(
                        !is_whole || needs_person(&self.worlds[end], reason),
                        "nobody is needed for this: {}\n  {}\nfrom {}",
                        self.worlds[end].step(Blind::Not),
                        self.worlds[end],
                        self.story(start)
                    );
                    blocked.entry((reason, is_whole)).or_insert((0, start, end)).0 += 1;
                }
            }
        }
        let mut reasons: Vec<_> = blocked.into_iter().collect();
        reasons.sort_unstable();
        for ((reason, is_whole), (count, example, end)) in reasons {
            println!("  {count:8} {reason} whole={is_whole} e.g. {example}");
            if std::env::var("QUORATE_WALK_SHOW").is_ok_and(|v| v == format!("{reason}:{is_whole}"))
            {
                println!(
                    "{}\n  ENDS\n  {}\n {}",
                    self.story(example),
                    self.worlds[end],
                    self.worlds[end].step(Blind::Not)
                );
            }
        }
    }

    fn tell_circle(&self, path: &[usize], at: usize, way: usize) -> ! {
        let begin = path.iter().position(|p| *p == at).unwrap_or(0);
        let steps: Vec<_> =
            path[begin..].iter().map(|p| self.worlds[*p].step(Blind::Not).to_string()).collect();
        panic!("goes in a circle (way {way}): {steps:#?}\n{}\n{}", self.worlds[at], self.story(at));
    }
}

/// `None` for worlds that must not be.
fn look_at_all(batch: &[World]) -> Vec<Option<Looked>> {
    let look = |w: &World| std::panic::catch_unwind(|| look_at(w)).ok();
    let half = batch.len() / 2;
    if half < 256 {
        return batch.iter().map(look).collect();
    }
    std::thread::scope(|scope| {
        let second = scope.spawn(|| batch[half..].iter().map(look).collect::<Vec<_>>());
        let mut all: Vec<_> = batch[..half].iter().map(look).collect();
        all.extend(second.join().expect("panics are caught inside"));
        all
    })
}

fn look_at(w: &World) -> Looked {
    let mut next = Vec::new();
    let (plan, ours) = match w.pending {
        Some(kind) => {
            let late = execute_late(w, kind);
            let mut dropped = *w;
            dropped.pending = None;
            dropped.nodes.iter_mut().for_each(|n| n.pending = None);
            next.push(dropped);
            (Plan::Wait, Some(late.unwrap_or(dropped)))
        }
        None => {
            let plan = w.plan(Blind::Not);
            (plan, turn(w, &plan))
        }
    };
    next.extend(ours);
    next.extend(w.events(false));
    let later = w.time_passes();
    next.extend(later);
    for n in &next {
        check_memory(w, n);
    }
    next.iter_mut().for_each(|n| *n = n.canonical());
    let theirs = w.events(true).first().copied();
    // A refused start is tried again by and by, whether a person has come or not.
    let is_end =
        matches!(plan, Plan::Done | Plan::Blocked(_)) && plan != Plan::Blocked("StartRefused");
    let fate = |first: Option<World>| {
        let to = first.or(if is_end { None } else { later });
        to.map_or(Fate::Rests(plan), |to| Fate::To(to.canonical()))
    };
    Looked { next, fates: [fate(ours.or(theirs)), fate(theirs.or(ours))] }
}

/// One turn of the reconciler: what it saw is written down, and its step carried out.
fn turn(w: &World, plan: &Plan) -> Option<World> {
    let mut seen = *w;
    seen.latch();
    if let Plan::Act(act) = plan
        && let Some(next) = seen.execute(act, false)
    {
        check(w, &next, act);
        return Some(next);
    }
    (seen != *w).then_some(seen)
}

/// A step planned some time ago. What takes something away is planned again first, and dropped if
/// that gives another step.
fn execute_late(w: &World, kind: Kind) -> Option<World> {
    let mut act = Act { kind, parts: [None; MAX] };
    let mut free = *w;
    free.pending = None;
    for (i, node) in free.nodes.iter_mut().enumerate() {
        act.parts[i] = node.pending.take();
    }
    if needs_second_look(act.kind) && free.plan(Blind::Not) != Plan::Act(act) {
        return None;
    }
    let next = free.execute(&act, false)?;
    check(&free, &next, &act);
    Some(next)
}

/// Whether a person really has to do something in a world that rests for this reason, though its
/// disks hold a quorum.
fn needs_person(w: &World, reason: &str) -> bool {
    let some = |is: &dyn Fn(&Node) -> bool| w.nodes().iter().any(is);
    let hangs = |n: &Node| {
        matches!(
            n.proc,
            Proc::Barrier { frozen: true, .. }
                | Proc::Preparing { frozen: true, .. }
                | Proc::Running { mode: Mode::Frozen | Mode::Muted, .. }
        )
    };
    let is_foreign = |n: &Node| n.data == Data::Foreign;
    let is_elsewhere = |n: &Node| n.entry.is_some_and(|e| e.at_new_url != n.runs_at_new_url);
    let is_unknown = |n: &Node| {
        let Some(entry) = n.entry else { return false };
        let is_at = |known: bool, new: bool| known && entry.at_new_url == new;
        n.stamp != Some(Who::Current)
            && !is_at(n.wanted, n.wants_new_url)
            && !is_at(n.managed, n.runs_at_new_url)
    };
    // Every voter of ours was removed by hand.
    let only_a_stranger = w.voters() == 1 && w.stranger.is_some();
    match reason {
        "ForeignData" => some(&is_foreign),
        // Neither its disk nor its address tells any more whose a lost member was.
        "ForeignMember" => w.stranger.is_some_and(|s| s.started) || some(&is_unknown),
        "MajorityMoved" => some(&|n| n.wants_new_url != n.runs_at_new_url),
        "OnlyVoter" => w.voters() == 1 && some(&|n| n.requested),
        "TooFewVoters" => w.voters() == 2,
        "QuorumLost" => some(&hangs) || some(&is_foreign) || some(&is_elsewhere) || only_a_stranger,
        "RecoveryRequired" => only_a_stranger,
        "TooFewHealthy" => some(&hangs) || some(&is_foreign),
        "DamageTwice" => {
            w.nodes().iter().filter(|n| matches!(n.data, Data::Damaged { .. })).count() > 1
        }
        _ => false,
    }
}
