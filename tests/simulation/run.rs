//! One run: founds a cluster, lets clients and trouble at it, heals it and looks at what was said.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use quorate::node::ground::Fault;
use quorate::node::ground::simulated::{below, disk, enter};
use quorate::node::raft::Options;
use quorate::node::replica::Replica;
use quorate::proto::etcdserverpb::RangeRequest;
use tokio::sync::watch;

use super::clients::{client, last_word};
use super::cluster::{Shared, World, leader, power_on};
use super::trouble::trouble;
use super::watching::{self, watcher};

/// After everything is healed, the cluster has to be whole within this time.
const WHOLE: Duration = Duration::from_secs(120);
const CLIENTS: usize = 4;
const WATCHERS: usize = 2;

/// What is wrong on purpose.
#[derive(Clone, Copy, Debug)]
pub enum Flaw {
    /// Drives say that they have synced.
    NoFsync,
    /// Clients read what the member has.
    ReadWithoutBarrier,
    Node(Fault),
}

pub struct Plan {
    pub seed: u64,
    pub flaw: Option<Flaw>,
}

pub struct Outcome {
    pub seed: u64,
    pub violations: Vec<String>,
    pub acknowledged: u64,
    /// The same for the same run.
    pub trace: u64,
    journal: Vec<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.journal {
            writeln!(f, "  {line}")?;
        }
        for line in self.violations.iter().take(10) {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

pub fn run(plan: &Plan) -> Outcome {
    let fault = match plan.flaw {
        Some(Flaw::Node(fault)) => Some(fault),
        _ => None,
    };
    enter(plan.seed, fault);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true);
    // Who waits for a tokio::sync::watch is woken in an order that tokio draws.
    #[cfg(tokio_unstable)]
    runtime.rng_seed(tokio::runtime::RngSeed::from_bytes(&plan.seed.to_le_bytes()));
    runtime.build().expect("a runtime").block_on(go(plan))
}

fn world() -> Shared {
    let options =
        Options { snapshot_count: 10 + below(100), catch_up: below(60), ..Options::default() };
    Arc::new(World {
        seats: parking_lot::Mutex::default(),
        history: parking_lot::Mutex::default(),
        changes: parking_lot::Mutex::default(),
        times: parking_lot::Mutex::default(),
        violations: parking_lot::Mutex::default(),
        journal: parking_lot::Mutex::default(),
        options,
        is_over: watch::Sender::new(false),
    })
}

async fn go(plan: &Plan) -> Outcome {
    let world = world();
    let count = if below(3) == 0 { 5 } else { 3 };
    world.found(count);
    for seat in 0..usize::from(count) {
        if matches!(plan.flaw, Some(Flaw::NoFsync)) {
            disk::lie(&world.seats.lock()[seat].drive());
        }
        power_on(&world, seat);
    }
    let reads_locally = matches!(plan.flaw, Some(Flaw::ReadWithoutBarrier));
    let clients: Vec<_> =
        (0..CLIENTS).map(|n| tokio::spawn(client(Arc::clone(&world), n, reads_locally))).collect();
    let watchers: Vec<_> =
        (0..WATCHERS).map(|_| tokio::spawn(watcher(Arc::clone(&world)))).collect();
    trouble(&world, Duration::from_secs(4 + below(6))).await;
    if tokio::time::timeout(WHOLE, whole(&world)).await.is_err() {
        let running: Vec<_> =
            world.running().into_iter().map(|(n, it)| (n, it.node.standing())).collect();
        world.violated(format!("the cluster is not whole again: {running:?}"));
    }
    world.is_over.send_replace(true);
    for it in clients {
        it.await.expect("a client is right");
    }
    settle(&world).await;
    let changes = world.changes.lock().clone();
    for it in watchers {
        let heard = it.await.expect("a watcher is right");
        let wrong = watching::check(&heard, &changes, &world.history.lock());
        world.violations.lock().extend(wrong);
    }
    let wrong = {
        let history = world.history.lock();
        let mut wrong = history.check(&changes);
        wrong.extend(history.check_compactions());
        wrong.extend(history.check_leases(&changes, &world.times.lock()));
        wrong
    };
    world.violations.lock().extend(wrong);
    let trace = {
        let mut hasher = DefaultHasher::new();
        format!("{:?} {:?}", world.history.lock().all, world.journal.lock()).hash(&mut hasher);
        hasher.finish()
    };
    let violations = std::mem::take(&mut *world.violations.lock());
    let acknowledged = world.history.lock().acknowledged();
    let journal = std::mem::take(&mut *world.journal.lock());
    Outcome { seed: plan.seed, violations, acknowledged, trace, journal }
}

/// Waits until all hold the same, and no lease is left: nobody keeps one alive any more.
async fn settle(world: &Shared) {
    type Holds = fn(&World) -> bool;
    let waits: [(Holds, &str); 2] =
        [(has_no_lease, "a lease does not end"), (is_one, "not all members hold the same")];
    for (holds, otherwise) in waits {
        let wait = async {
            while !holds(world) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(WHOLE, wait).await.is_err() {
            world.violated(otherwise.to_owned());
        }
    }
}

/// Returns once every member that was not removed runs, is ready, and takes a write.
async fn whole(world: &Shared) {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        if is_whole(world).await {
            return;
        }
    }
}

async fn is_whole(world: &Shared) -> bool {
    let running = world.running();
    let there = world.seats.lock().iter().filter(|it| !it.is_removed).count();
    if running.len() < there || leader(world).is_none() {
        world.note(format!("{} of {there} run", running.len()));
        return false;
    }
    for (_, life) in &running {
        let ready = tokio::time::timeout(Duration::from_secs(10), life.node.ready()).await;
        if !matches!(ready, Ok(Ok(()))) {
            world.note(format!("not ready: {ready:?}"));
            return false;
        }
    }
    if !last_word(world).await {
        world.note("the last word is not taken".to_owned());
        return false;
    }
    true
}

/// Whether no member has a lease, or a key of one.
fn has_no_lease(world: &World) -> bool {
    // The next after a digit.
    let keys = RangeRequest { key: "l".into(), range_end: "l:".into(), ..RangeRequest::default() };
    world.running().iter().all(|(_, life)| {
        life.node.read(|it| {
            it.leases().next().is_none() && it.range(&keys).is_ok_and(|it| it.count == 0)
        })
    })
}

/// Whether all members that run hold the same; nobody writes any more.
fn is_one(world: &World) -> bool {
    let running = world.running();
    let mut looks = running.iter().map(|(_, life)| {
        life.node.read(|it| {
            let hash = it.kv.hash(0).map(|it| it.hash).ok();
            (it.revision(), it.kv.compacted(), hash, it.member_list())
        })
    });
    let first = looks.next();
    looks.all(|it| Some(it) == first)
}
