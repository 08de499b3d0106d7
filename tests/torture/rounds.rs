//! A round: a cluster comes up, clients and watchers begin, one or two faults happen, all heals, and
//! what was promised is compared with what is there.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::sleep;
use std::time::Duration;

use crate::apart::Means;
use crate::check::check;
use crate::clients::{Clients, Habit};
use crate::faults::{Kind, begin};
use crate::operation::{Event, Operation};
use crate::place::{Harm, Harmed, Needs, Place};
use crate::steps::{Journal, judge};
use crate::support::chance::{Chance, mix};
use crate::support::cluster::SOON;
use crate::support::wait::{eventually, now};
use crate::support::wire;
use crate::tally::Tally;
use crate::truth::Truth;
use crate::watchers::{Watchers, compare, everything};

/// A fault takes this long at most until it is there.
const AT_ONCE: Duration = Duration::from_millis(100);

/// What is over soon, for a short run.
pub(crate) const SHORT: [&[Kind]; 3] = [
    &[Kind::ClockOfAll, Kind::KillAll],
    &[Kind::PowerOfAll, Kind::CutAll],
    &[Kind::DataGone, Kind::KillUp],
];

/// Plays rounds of these faults, and panics unless all are as they should be.
#[track_caller]
pub(crate) fn play(rounds: &[&[Kind]], means: Means, seed: u64) {
    let mut tally = Tally::default();
    for (seed, kinds) in (seed..).zip(rounds) {
        if let Some(kind) = kinds.iter().find(|it| !it.is_possible(&means)) {
            eprintln!("round {seed}: {kind:?} is not possible here, which was said above");
            continue;
        }
        let mut chance = Chance(mix(seed));
        one(seed, kinds, &means, &mut chance, &mut tally);
    }
    ended(&tally);
}

/// Plays so many rounds, of faults that follow from the number of each.
#[track_caller]
pub(crate) fn play_many(first: u64, rounds: u64, means: Means) {
    let mut tally = Tally::default();
    for seed in first..first + rounds {
        let mut chance = Chance(mix(seed));
        let kinds = chosen(seed, &means, &mut chance);
        one(seed, &kinds, &means, &mut chance, &mut tally);
    }
    ended(&tally);
}

#[track_caller]
fn ended(tally: &Tally) {
    eprintln!("\n{tally}");
    let is_fine = tally.failed.is_empty() && tally.rounds > 0;
    assert!(is_fine && tally.lost + tally.violations + tally.not_safe == 0, "{tally}");
}

/// Each kind in its turn, and most of the time another one or two with it.
fn chosen(seed: u64, means: &Means, chance: &mut Chance) -> Vec<Kind> {
    let possible: Vec<_> = Kind::ALL.into_iter().filter(|it| it.is_possible(means)).collect();
    let first = possible[usize::try_from(seed % possible.len() as u64).expect("an index")];
    let mut kinds = vec![first];
    for _ in 0..*chance.one_of(&[0, 1, 1, 2]) {
        let fits = |it: &Kind| kinds.iter().all(|other| it.goes_with(*other));
        let others: Vec<_> = possible.iter().copied().filter(fits).collect();
        let at = usize::try_from(chance.below(kinds.len() as u64 + 1)).expect("an index");
        kinds.insert(at, *chance.one_of(&others));
    }
    kinds
}

fn one(seed: u64, kinds: &[Kind], means: &Means, chance: &mut Chance, tally: &mut Tally) {
    let begun = now();
    tally.rounds += 1;
    eprintln!("round {seed}: {kinds:?}");
    // The others are to be played all the same.
    let played = catch_unwind(AssertUnwindSafe(|| round(kinds, means, chance, tally)));
    if means.drops || means.slows {
        crate::network::heal();
    }
    match played {
        Ok(()) => eprintln!("round {seed}: fine after {:?}", begun.elapsed()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
            let why = text.unwrap_or_default();
            eprintln!("round {seed} FAILED after {:?}: {why}", begun.elapsed());
            tally.failed.push((seed, why));
        }
    }
}

fn round(kinds: &[Kind], means: &Means, chance: &mut Chance, tally: &mut Tally) {
    let has = |kind: Kind| kinds.contains(&kind);
    let needs = Needs {
        nodes: if chance.below(5) == 0 { 5 } else { 3 },
        snapshots: *chance.one_of(&[100, 500, 10_000]),
        power: kinds.iter().any(|it| it.is_of_power()),
        small_disk: has(Kind::DiskFull),
    };
    let mut place = Place::new(needs, means);
    let endpoints = place.cluster.endpoints();
    let habit = Habit {
        clients: chance.between(6, 20),
        pause: *chance.one_of(&[2, 10, 30]),
        large: if has(Kind::DiskFull) { 4 } else { 0 },
        seed: chance.below(u64::MAX),
    };
    let members = place.cluster.members();
    let before: Vec<_> = members.into_values().map(|it| (it.name, it.id)).collect();
    let journal = Journal::follow(place.home().dir());
    let history = place.cluster.history();
    let clients = Clients::start(&endpoints, habit);
    let watchers = Watchers::start(&endpoints[..2]);
    clients.goes_on(30);
    chance.pause(200, 1500);
    suffer(kinds, &mut place, chance, tally);
    clients.goes_on(30);
    place.heals(&before);
    // What was healed carries load again.
    clients.goes_on(60);

    let operations = clients.stop();
    let revision = place.revision();
    let each = same_everywhere(&place, revision);
    sleep(Duration::from_millis(100));
    let heard = watchers.stop();
    history.stop().no_voter_was_added();
    let lines = journal.stop();
    place.heals(&before);

    for line in lines.iter().filter(|it| is_worth_telling(&it.text)) {
        eprintln!("      {:.160}", line.text);
    }
    let (truth, mut wrong) = Truth::of(&each, revision);
    tally.watched += compare(&heard, &each, &mut wrong);
    let verdict = check(&operations, &truth);
    wrong.extend(verdict.violations);
    wrong.extend(without_a_quorum(&operations, &place));
    let mut clusters: Vec<_> =
        operations.iter().filter_map(|it| it.answer.as_ref().map(|it| it.cluster)).collect();
    clusters.sort_unstable();
    clusters.dedup();
    if clusters.len() != 1 {
        wrong.push(format!("answers of several clusters: {clusters:x?}"));
    }
    let is_told_all = !has(Kind::KillUp) && !has(Kind::PowerOfAll);
    let record = place.home().path().join("cluster.json");
    let judged = judge(&lines, &place.names(), &place.harmed, &record, is_told_all);
    tally.acknowledged += verdict.acknowledged;
    tally.lost += verdict.lost;
    tally.unknown += verdict.unknown;
    tally.happened += verdict.happened;
    tally.reads += verdict.reads;
    tally.violations += wrong.len();
    tally.steps += judged.steps;
    tally.replaced += judged.replaced;
    tally.not_safe += judged.not_safe.len();
    assert!(verdict.acknowledged > 0, "nothing was written, so nothing was tested");
    wrong.extend(judged.not_safe);
    wrong.truncate(20);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Of what `up` said, that which tells how it went.
fn is_worth_telling(line: &str) -> bool {
    let begins = ["remove ", "promote ", "stop ", "blocked: ", "failed: "];
    line.contains(" has ended (") || begins.iter().any(|it| line.starts_with(it))
}

/// Writes and reads that were answered, from beginning to end, while no quorum could speak: either
/// the answer was not a quorum's, or the fault was none.
fn without_a_quorum(operations: &[Operation], place: &Place) -> Vec<String> {
    let nodes = place.names().len();
    // A frozen one may have been killed and started again by `up` meanwhile.
    let is_silent = |it: &&Harmed| it.harm == Harm::Isolated;
    let silent: Vec<_> = place.harmed.iter().filter(is_silent).collect();
    let answered = operations.iter().filter(|it| it.answer.is_some());
    let wrong = answered.filter(|operation| {
        let down: BTreeSet<_> = silent
            .iter()
            .filter(|it| it.from + AT_ONCE < operation.invoked)
            .filter(|it| it.until.is_none_or(|until| operation.returned < until))
            .map(|it| &it.node)
            .collect();
        nodes - down.len() <= nodes / 2
    });
    wrong.map(|it| format!("answered without a quorum: {:.300}", format!("{it:?}"))).collect()
}

/// The faults, one while the other lasts or after it.
fn suffer(kinds: &[Kind], place: &mut Place, chance: &mut Chance, tally: &mut Tally) {
    let mut under_way = Vec::new();
    for kind in kinds {
        *tally.faults.entry(*kind).or_default() += 1;
        let fault = begin(*kind, place, chance);
        place.forgets_who_is_not_frozen();
        eprintln!("    {} for {:?}", fault.told, fault.lasts);
        under_way.push((now() + fault.lasts, fault));
        chance.pause(50, 2500);
    }
    under_way.sort_by_key(|it| it.0);
    for (until, fault) in under_way {
        sleep(until.saturating_duration_since(now()));
        fault.end(place);
    }
}

/// All changes up to a revision; every member must tell the same, and have the same hash.
fn same_everywhere(place: &Place, revision: i64) -> Vec<Event> {
    let mut first: Option<(Vec<Event>, (u32, i64))> = None;
    for endpoint in place.cluster.endpoints() {
        let hash = eventually("a member to have applied everything", SOON, || {
            wire::hash_kv(&endpoint, revision)
        });
        let all =
            eventually("a member to tell everything", SOON, || everything(&endpoint, revision));
        // What nobody was answered may come after that.
        let all: Vec<_> = all.into_iter().filter(|it| it.revision <= revision).collect();
        let this = (all, hash);
        match &first {
            None => first = Some(this),
            Some(first) => {
                let differs = first.0.iter().zip(&this.0).find(|(a, b)| a != b);
                assert!(first == &this, "{endpoint} has another history: {differs:?}, {hash:?}");
            }
        }
    }
    first.expect("endpoints").0
}
