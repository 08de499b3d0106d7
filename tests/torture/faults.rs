//! The faults: how each begins, and how it is over.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::apart::Means;
use crate::network;
use crate::place::{Harm, Place};
use crate::support::chance::Chance;
use crate::support::process::{Process, Signal, kill_all_of};
use crate::support::small_disk::fill;
use crate::support::undo::{Loss, Taken};
use crate::support::wait::now;

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    KillOne,
    KillMinority,
    KillAll,
    KillUp,
    PowerOfOne,
    PowerOfAll,
    Freeze,
    FreezeLeader,
    FreezeUp,
    Isolate,
    IsolateLeader,
    /// One hears another no more, which still hears it.
    CutOneWay,
    /// Two do not hear each other, and a third hears both.
    CutBetweenTwo,
    /// Nobody hears anybody.
    CutAll,
    SlowNetwork,
    LossyNetwork,
    DiskFull,
    DataGone,
    HomeGone,
    FlipInLog,
    FlipInStore,
    ClockOfOne,
    ClockOfAll,
}

use Kind::{
    ClockOfAll, ClockOfOne, CutAll, CutBetweenTwo, CutOneWay, DataGone, DiskFull, FlipInLog,
    FlipInStore, Freeze, FreezeLeader, FreezeUp, HomeGone, Isolate, IsolateLeader, KillAll,
    KillMinority, KillOne, KillUp, LossyNetwork, PowerOfAll, PowerOfOne, SlowNetwork,
};

impl Kind {
    /// In an order in which neighbours differ.
    pub(crate) const ALL: [Kind; 23] = [
        KillOne,
        PowerOfAll,
        Freeze,
        Isolate,
        DiskFull,
        FlipInLog,
        ClockOfAll,
        KillAll,
        CutOneWay,
        DataGone,
        SlowNetwork,
        PowerOfOne,
        FreezeLeader,
        KillUp,
        CutBetweenTwo,
        FlipInStore,
        KillMinority,
        LossyNetwork,
        HomeGone,
        ClockOfOne,
        IsolateLeader,
        FreezeUp,
        CutAll,
    ];

    pub(crate) fn is_possible(self, means: &Means) -> bool {
        match self {
            PowerOfOne | PowerOfAll | ClockOfOne | ClockOfAll => means.power.is_some(),
            _ if self.is_cut() || self == LossyNetwork => means.drops,
            SlowNetwork => means.slows,
            DiskFull => means.mounts,
            _ => true,
        }
    }

    fn is_cut(self) -> bool {
        matches!(self, Isolate | IsolateLeader | CutOneWay | CutBetweenTwo | CutAll)
    }

    fn is_of_network(self) -> bool {
        self.is_cut() || matches!(self, SlowNetwork | LossyNetwork)
    }

    fn is_of_disk(self) -> bool {
        matches!(self, DiskFull | DataGone | HomeGone | FlipInLog | FlipInStore)
    }

    pub(crate) fn is_of_power(self) -> bool {
        matches!(self, PowerOfOne | PowerOfAll)
    }

    /// Whether both may be in one round. One damaged disk is what a cluster of three bears; what is
    /// damaged under a journal of unsynced writes has no meaning; a network heals as a
    /// whole, and who is frozen twice is let go once.
    pub(crate) fn goes_with(self, other: Kind) -> bool {
        let both = |test: fn(Kind) -> bool| test(self) && test(other);
        let is_on_disk = |it: Kind| it.is_of_disk() || it.is_of_power();
        let freezes = |it: Kind| matches!(it, Freeze | FreezeLeader);
        self != other && !both(is_on_disk) && !both(Kind::is_of_network) && !both(freezes)
    }
}

/// A fault that has begun, and what it takes to end it.
pub(crate) struct Fault {
    pub(crate) told: String,
    /// How long it is to last.
    pub(crate) lasts: Duration,
    harmed: Vec<(String, Harm)>,
    frozen: Vec<Process>,
    filler: Option<PathBuf>,
    network: bool,
}

impl Fault {
    /// One that is over as soon as it has begun.
    fn of(told: String) -> Fault {
        let lasts = Duration::ZERO;
        let (harmed, frozen) = (Vec::new(), Vec::new());
        Fault { told, lasts, harmed, frozen, filler: None, network: false }
    }

    fn for_millis(mut self, lasts: u64) -> Fault {
        self.lasts = Duration::from_millis(lasts);
        self
    }

    /// Harms nodes, all for as long as it lasts.
    fn harms(mut self, place: &mut Place, harm: Harm, nodes: &[String]) -> Fault {
        for node in nodes {
            place.harm(node, harm);
            self.harmed.push((node.clone(), harm));
        }
        self
    }

    pub(crate) fn end(self, place: &mut Place) {
        // Of a time that is called harmed, none may be whole.
        for (node, harm) in &self.harmed {
            place.relieve(node, *harm);
        }
        self.frozen.iter().for_each(|it| it.signal(Signal::CONT));
        if self.network {
            network::heal();
        }
        if let Some(filler) = &self.filler {
            fs::remove_file(filler).expect("ours");
        }
    }
}

/// Begins a fault.
pub(crate) fn begin(kind: Kind, place: &mut Place, chance: &mut Chance) -> Fault {
    let names = place.names();
    let leads = matches!(kind, FreezeLeader | IsolateLeader);
    let leader = if leads { place.leader() } else { None };
    let node = leader.unwrap_or_else(|| chance.one_of(&names).clone());
    let fault = Fault::of(format!("{kind:?} {node}"));
    match kind {
        KillOne | KillMinority | KillAll | KillUp => killed(kind, &node, place, chance),
        PowerOfOne | PowerOfAll => without_power(kind, &node, place, chance),
        Freeze | FreezeLeader => {
            let mut fault = fault.for_millis(chance.between(1000, 8000));
            fault.frozen = place.processes(&node);
            fault.frozen.iter().for_each(|it| it.signal(Signal::STOP));
            fault.harms(place, Harm::Frozen, std::slice::from_ref(&node))
        }
        FreezeUp => {
            let mut fault = Fault::of("FreezeUp".to_owned()).for_millis(chance.between(1000, 8000));
            fault.frozen = vec![place.cluster.up_process()];
            fault.frozen.iter().for_each(|it| it.signal(Signal::STOP));
            fault
        }
        Isolate | IsolateLeader | CutOneWay | CutBetweenTwo | CutAll | SlowNetwork
        | LossyNetwork => on_the_network(kind, &node, place, chance),
        DiskFull => {
            let node = names.last().expect("nodes").clone();
            let filler = place.home().node(&node).join("filler");
            fill(&filler);
            let mut fault = Fault::of(format!("DiskFull {node}"));
            fault.filler = Some(filler);
            fault.for_millis(chance.between(3000, 9000))
        }
        DataGone | HomeGone => gone(kind, &node, place, chance),
        FlipInLog | FlipInStore => flipped(kind, &node, place, chance),
        ClockOfOne | ClockOfAll => {
            let step = chance.one_of(&[1_i64, 7, 60, 3600, 86_400, 400 * 86_400]);
            let step = if chance.below(2) == 0 { -step } else { *step };
            let all = kind == ClockOfAll;
            for whose in names.iter().filter(|it| all || **it == node) {
                place.step_clock(whose, step);
            }
            if all {
                place.step_clock("up", step);
                place.harm("up", Harm::Stepped);
            }
            let whose = if all { "and up" } else { &node };
            Fault::of(format!("{kind:?} {whose} by {step} s")).for_millis(chance.between(500, 3000))
        }
    }
}

fn killed(kind: Kind, node: &str, place: &Place, chance: &mut Chance) -> Fault {
    let names = place.names();
    let victims = match kind {
        KillUp => {
            place.cluster.kill_up();
            chance.pause(0, 2500);
            place.starts_up();
            return Fault::of("KillUp".to_owned());
        }
        KillOne => vec![node.to_owned()],
        KillMinority => {
            let at = names.iter().position(|it| it == node).expect("one of them");
            let count = (names.len() - 1) / 2;
            names.iter().cycle().skip(at).take(count).cloned().collect()
        }
        _ => names,
    };
    place.kill(&victims);
    // Once more while it comes up.
    if chance.below(3) == 0 {
        chance.pause(50, 900);
        place.kill(&victims[..1]);
    }
    Fault::of(format!("{kind:?} {}", victims.join(" ")))
}

fn without_power(kind: Kind, node: &str, place: &Place, chance: &mut Chance) -> Fault {
    let mut loss = || match chance.below(3) {
        0 => Loss::All,
        _ => Loss::Part(chance.below(u64::MAX)),
    };
    if kind == PowerOfOne {
        let loss = loss();
        let taken = place.while_down(&[node.to_owned()], || place.loses_power(node, loss));
        return Fault::of(format!("PowerOfOne {node} {loss:?}, {taken:?}"));
    }
    // All machines of a room, and with them who looks after them.
    let names = place.names();
    let losses: Vec<_> = names.iter().map(|_| loss()).collect();
    place.cluster.while_up_is_frozen(|| place.kill(&names));
    place.cluster.kill_up();
    place.kill(&names);
    let mut taken = Taken::default();
    for (name, loss) in names.iter().zip(&losses) {
        kill_all_of(&place.home().node(name));
        taken += place.loses_power(name, *loss);
    }
    place.starts_up();
    Fault::of(format!("PowerOfAll {losses:?}, {taken:?}"))
}

fn on_the_network(kind: Kind, node: &str, place: &mut Place, chance: &mut Chance) -> Fault {
    let names = place.names();
    let others: Vec<_> = names.iter().filter(|it| *it != node).cloned().collect();
    let other = chance.one_of(&others).clone();
    let cut = |from: &str, to: &str| network::cut(place.address(from), place.address(to));
    let mut told = format!("{kind:?} {node}");
    let (harm, harmed) = match kind {
        Isolate | IsolateLeader => {
            for it in &others {
                cut(node, it);
                cut(it, node);
            }
            (Harm::Isolated, vec![node.to_owned()])
        }
        CutOneWay => {
            cut(node, &other);
            told = format!("{kind:?} {node} to {other}");
            (Harm::Troubled, names.clone())
        }
        CutBetweenTwo => {
            cut(node, &other);
            cut(&other, node);
            told = format!("{kind:?} {node} {other}");
            (Harm::Troubled, names.clone())
        }
        CutAll => {
            for from in &names {
                names.iter().filter(|it| *it != from).for_each(|to| cut(from, to));
            }
            (Harm::Isolated, names.clone())
        }
        SlowNetwork => {
            let kilobits = *chance.one_of(&[300, 600, 1000, 2000]);
            network::slow(kilobits);
            told = format!("{kind:?} {kilobits} kbit/s");
            (Harm::Troubled, names.clone())
        }
        _ => {
            let percent = chance.between(5, 40);
            for from in &names {
                for to in names.iter().filter(|it| *it != from) {
                    network::lose_some(place.address(from), place.address(to), percent);
                }
            }
            told = format!("{kind:?} {percent} %");
            (Harm::Troubled, names.clone())
        }
    };
    let mut fault = Fault::of(told).for_millis(chance.between(1000, 8000));
    fault.network = true;
    fault.harms(place, harm, &harmed)
}

/// The disk is not there any more: under a running engine, or while it does not run.
fn gone(kind: Kind, node: &str, place: &mut Place, chance: &mut Chance) -> Fault {
    let (home, data) = (place.home().node(node), place.cluster.data(node));
    place.harm(node, Harm::Emptied);
    if kind == HomeGone {
        place.while_down(&[node.to_owned()], || fs::remove_dir_all(&home).expect("ours"));
        return Fault::of(format!("HomeGone {node}"));
    }
    if chance.below(2) == 0 {
        place.while_down(&[node.to_owned()], || fs::remove_dir_all(&data).expect("ours"));
        return Fault::of(format!("DataGone {node}, stopped"));
    }
    // Its engine may put a file there meanwhile.
    let begun = now();
    while fs::remove_dir_all(&data).is_err() && data.exists() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{} does not go", data.display());
        sleep(Duration::from_millis(2));
    }
    Fault::of(format!("DataGone {node}, running"))
}

/// One bit of what a stopped member has on disk.
fn flipped(kind: Kind, node: &str, place: &mut Place, chance: &mut Chance) -> Fault {
    place.harm(node, Harm::Damaged);
    let data = place.cluster.data(node);
    let told = place.while_down(&[node.to_owned()], || {
        let dir = data.join(if kind == FlipInLog { "log" } else { "store" });
        let mut files = Vec::new();
        used_files(&dir, &mut files);
        assert!(!files.is_empty(), "nothing in {}", dir.display());
        // Most files are small, and most of what counts is in the others.
        if chance.below(2) == 0 {
            files.sort_by_key(|it| std::cmp::Reverse(fs::metadata(it).map_or(0, |it| it.len())));
            files.truncate(3);
        }
        let file = chance.one_of(&files);
        let bytes = fs::read(file).expect("ours");
        let used: Vec<_> = (0..bytes.len()).filter(|it| bytes[*it] != 0).collect();
        let at = *chance.one_of(&used);
        let flipped = bytes[at] ^ (1 << chance.below(8));
        let open = OpenOptions::new().write(true).open(file).expect("ours");
        open.write_all_at(&[flipped], at as u64).expect("ours");
        let name = file.strip_prefix(&data).expect("below").display();
        format!("{kind:?} {node}: byte {at} of {name}, of {} bytes", bytes.len())
    });
    Fault::of(told)
}

/// All that hold something other than zeros.
fn used_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            used_files(&path, found);
        } else if fs::read(&path).is_ok_and(|it| it.iter().any(|byte| *byte != 0)) {
            found.push(path);
        }
    }
    found.sort();
}
