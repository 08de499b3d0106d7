//! What happens to a cluster: which, to whom and when is up to the seed.

use std::sync::Arc;
use std::time::Duration;

use quorate::cluster::MemberId;
use quorate::node::ground::simulated::disk::{self, Crash};
use quorate::node::ground::simulated::{below, happens, net};
use quorate::node::replica::Replica;

use super::cluster::{Seat, Shared, leader, power_on};

fn millis(from: u64, to: u64) -> Duration {
    Duration::from_millis(from + below(to - from))
}

/// Usual lateness and syncs.
const LATE: std::ops::Range<Duration> = Duration::from_micros(50)..Duration::from_millis(2);
const SYNC: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(3);

fn seat(world: &Shared) -> Option<usize> {
    let seats: Vec<usize> = {
        let seats = world.seats.lock();
        let there = seats.iter().enumerate().filter(|(_, it)| !it.is_removed);
        there.map(|(n, _)| n).collect()
    };
    let chosen = usize::try_from(below(seats.len() as u64)).ok()?;
    seats.get(chosen).copied()
}

fn members(world: &Shared) -> Vec<MemberId> {
    world.seats.lock().iter().filter(|it| !it.is_removed).map(|it| it.ids.member).collect()
}

/// Does something after a while.
fn later(after: Duration, what: impl FnOnce() + Send + 'static) {
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        what();
    });
}

/// Makes trouble for so long, and then heals everything.
pub async fn trouble(world: &Shared, time: Duration) {
    let until = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < until {
        tokio::time::sleep(millis(10, 700)).await;
        match below(100) {
            0..18 => fall(world, Crash::Killed),
            18..32 => fall(world, Crash::PowerLost),
            32..38 => all_fall(world),
            38..52 => part(world),
            52..60 => one_way(world),
            60..68 => cut(world),
            68..74 => slow_disk(world),
            74..78 => full_disk(world),
            78..84 => storm(world),
            84..90 => hand_over(world),
            _ => change_members(world),
        }
    }
    heal(world);
}

fn fall(world: &Shared, how: Crash) {
    let chosen = leader(world).filter(|_| happens(50)).map(|it| it.0).or_else(|| seat(world));
    let Some(chosen) = chosen else { return };
    world.crash(chosen, how);
    let world = Arc::clone(world);
    later(millis(10, 1500), move || power_on(&world, chosen));
}

fn all_fall(world: &Shared) {
    let how = if happens(70) { Crash::PowerLost } else { Crash::Killed };
    let count = world.seats.lock().len();
    for chosen in 0..count {
        if world.seats.lock()[chosen].is_removed {
            continue;
        }
        world.crash(chosen, how);
        let world = Arc::clone(world);
        later(millis(10, 500), move || power_on(&world, chosen));
    }
}

fn part(world: &Shared) {
    let all = members(world);
    let (one, other): (Vec<_>, Vec<_>) = all.into_iter().partition(|_| happens(40));
    world.note(format!("{one:?} are parted from {other:?}"));
    block_all(&one, &other, true);
    block_all(&other, &one, true);
    let world = Arc::clone(world);
    later(millis(50, 2500), move || {
        world.note(format!("{one:?} are with {other:?} again"));
        block_all(&one, &other, false);
        block_all(&other, &one, false);
    });
}

fn one_way(world: &Shared) {
    let all = members(world);
    let (one, other): (Vec<_>, Vec<_>) = all.into_iter().partition(|_| happens(50));
    world.note(format!("{one:?} are not heard by {other:?}"));
    block_all(&one, &other, true);
    later(millis(50, 2500), move || block_all(&one, &other, false));
}

fn block_all(from: &[MemberId], to: &[MemberId], is_blocked: bool) {
    for (from, to) in from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to))) {
        net::block(from, to, is_blocked);
    }
}

fn cut(world: &Shared) {
    let (Some(one), Some(other)) = (seat(world), seat(world)) else { return };
    world.note(format!("connections of seats {one} and {other} break"));
    net::cut(world.member(one), world.member(other));
}

fn slow_disk(world: &Shared) {
    let Some(chosen) = seat(world) else { return };
    world.note(format!("the disk of seat {chosen} is slow"));
    let drive = world.seats.lock()[chosen].drive();
    disk::sync_takes(&drive, Duration::from_millis(5)..Duration::from_millis(300));
    later(millis(100, 2000), move || disk::sync_takes(&drive, SYNC));
}

fn full_disk(world: &Shared) {
    let Some(chosen) = seat(world) else { return };
    world.note(format!("the disk of seat {chosen} is full"));
    let drive = world.seats.lock()[chosen].drive();
    disk::fill(&drive, true);
    let world = Arc::clone(world);
    later(millis(100, 2000), move || {
        // It may have been started again on another one, as full as this.
        let drive = world.seats.lock()[chosen].drive();
        disk::fill(&drive, false);
        power_on(&world, chosen);
    });
}

fn storm(world: &Shared) {
    world.note("all is late".to_owned());
    net::latency(Duration::from_millis(1)..Duration::from_millis(10 + below(200)));
    later(millis(100, 2000), || net::latency(LATE));
}

fn hand_over(world: &Shared) {
    let (Some((_, life)), Some(to)) = (leader(world), seat(world)) else { return };
    let to = world.member(to);
    world.note(format!("the leader is to hand over to {to}"));
    tokio::spawn(async move {
        let _ = life.node.move_leader(to).await; // it may be down
    });
}

fn change_members(world: &Shared) {
    let Some((_, life)) = leader(world) else { return };
    let there = members(world).len();
    let world = Arc::clone(world);
    let adds = there < 4 || (there < 6 && happens(50));
    let port = 1 + u16::try_from(world.seats.lock().len()).unwrap_or(u16::MAX);
    let leaves = seat(&world);
    tokio::spawn(async move {
        if adds {
            let added = life.node.add_member(vec![Seat::url(port)], happens(30)).await;
            // A seat of this number may have been taken meanwhile.
            if let Ok((member, list)) = added {
                world.note(format!("member {} is added", MemberId(member.id)));
                let peers = list.into_iter().flat_map(|it| it.peer_urls).collect();
                let seat = world.take_seat(MemberId(member.id), port, None, peers);
                power_on(&world, seat);
            }
        } else if let Some(leaves) = leaves {
            let id = world.member(leaves);
            let removed = life.node.remove_member(id).await.is_ok();
            world.note(format!("member {id} is removed: {removed}"));
        }
    });
}

/// Everything works again.
fn heal(world: &Shared) {
    world.note("all is healed".to_owned());
    net::latency(LATE);
    let all: Vec<_> = world.seats.lock().iter().map(|it| it.ids.member).collect();
    block_all(&all, &all, false);
    let count = world.seats.lock().len();
    for chosen in 0..count {
        let drive = world.seats.lock()[chosen].drive();
        disk::fill(&drive, false);
        disk::sync_takes(&drive, SYNC);
        power_on(world, chosen);
    }
}
