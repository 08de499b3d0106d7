//! The members: started, killed, without power, and started again on what their drives hold.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use quorate::clock::Clock;
use quorate::cluster::{ClusterId, Incarnation, MemberId, founding_member_id};
use quorate::node::ground::Port;
use quorate::node::ground::simulated::disk::{self, Crash};
use quorate::node::ground::simulated::{draw, net};
use quorate::node::log::{Ids, read_ids};
use quorate::node::raft::{Config, End, Founder, Node, Options, start};
use quorate::node::replica::Replica;
use quorate::node::watch::{Hub, Limits, Watchers};
use tokio::sync::watch;

use super::history::{Changes, Event, History};
use super::promises::Times;

/// Members of a cluster.
pub const CLUSTER: ClusterId = ClusterId(0xc1);

/// One run's world.
pub struct World {
    pub seats: Mutex<Vec<Seat>>,
    pub history: Mutex<History>,
    pub changes: Mutex<Changes>,
    pub times: Mutex<Times>,
    pub violations: Mutex<Vec<String>>,
    /// What happened, in order.
    pub journal: Mutex<Vec<String>>,
    pub options: Options,
    pub is_over: watch::Sender<bool>,
}

pub type Shared = Arc<World>;

/// A place for a member.
pub struct Seat {
    pub name: String,
    pub ids: Ids,
    pub port: u16,
    pub founders: Option<Vec<Founder>>,
    /// Where the members were when it was added.
    peers: Vec<String>,
    /// How often it was started; names its drive.
    pub boot: u32,
    /// It has run, so there has to be a log.
    has_run: bool,
    is_starting: bool,
    pub is_removed: bool,
    pub life: Option<Life>,
}

/// A member that runs.
#[derive(Clone)]
pub struct Life {
    pub node: Node,
    pub hub: Arc<Hub>,
    /// True once it is none any more.
    pub gone: watch::Receiver<bool>,
    end: Arc<watch::Sender<bool>>,
}

impl Seat {
    pub fn drive(&self) -> PathBuf {
        PathBuf::from(format!("/{}.{}", self.name, self.boot))
    }

    pub fn url(port: u16) -> String {
        format!("http://127.0.0.1:{port}")
    }

    fn config(&self, options: &Options, watchers: Arc<dyn Watchers>) -> Config {
        let dir = self.drive().join("data");
        let is_first = !self.has_run && matches!(read_ids(&dir.join("log")), Ok(None));
        Config {
            ids: self.ids,
            dir,
            is_first,
            founders: self.founders.clone(),
            peers: self.peers.clone(),
            ports: vec![Port { member: self.ids.member, port: self.port }],
            name: self.name.clone(),
            client_urls: vec![format!("http://{}:1", self.name)],
            options: options.clone(),
            watchers,
        }
    }
}

impl World {
    pub fn violated(&self, what: String) {
        self.note(format!("VIOLATION {what}"));
        self.violations.lock().push(what);
    }

    pub fn note(&self, what: String) {
        let now = Clock.monotonic().0 / 1_000_000;
        let line = format!("{now:>6} ms  {what}");
        if std::env::var_os("SEED").is_some() {
            eprintln!("{line}");
        }
        self.journal.lock().push(line);
    }

    /// Members that run, by their seats.
    pub fn running(&self) -> Vec<(usize, Life)> {
        let seats = self.seats.lock();
        seats.iter().enumerate().filter_map(|(n, it)| Some((n, it.life.clone()?))).collect()
    }

    pub fn member(&self, seat: usize) -> MemberId {
        self.seats.lock()[seat].ids.member
    }

    /// Gets the founders' seats ready.
    pub fn found(&self, count: u16) {
        let ports: Vec<u16> = (1..=count).collect();
        let id = |port: &u16| founding_member_id([Seat::url(*port).as_str()], "simulated");
        let founder = |port| Founder { id: id(port), peer_urls: vec![Seat::url(*port)] };
        let founders: Vec<_> = ports.iter().map(founder).collect();
        for port in &ports {
            let peers = ports.iter().map(|it| Seat::url(*it)).collect();
            self.take_seat(id(port), *port, Some(founders.clone()), peers);
        }
    }

    /// A new seat.
    pub fn take_seat(
        &self,
        member: MemberId,
        port: u16,
        founders: Option<Vec<Founder>>,
        peers: Vec<String>,
    ) -> usize {
        let ids = Ids { cluster: CLUSTER, member, incarnation: Incarnation(draw()) };
        let name = format!("n{port}");
        let seat = Seat {
            name,
            ids,
            port,
            founders,
            peers,
            boot: 0,
            has_run: false,
            is_starting: false,
            is_removed: false,
            life: None,
        };
        disk::put_in(&seat.drive());
        let mut seats = self.seats.lock();
        seats.push(seat);
        seats.len() - 1
    }

    /// Takes a member down.
    pub fn crash(&self, seat: usize, how: Crash) {
        let life = {
            let mut seats = self.seats.lock();
            let it = &mut seats[seat];
            let before = it.drive();
            it.boot += 1;
            it.is_starting = false;
            disk::take_out(&before, how, &it.drive());
            net::unplug(it.ids.member, how == Crash::PowerLost);
            it.life.take()
        };
        self.note(format!("seat {seat}: {how:?}"));
        if let Some(life) = life {
            life.node.kill();
            life.end.send_replace(true);
        }
    }
}

/// Starts the member of a seat, unless it runs or starts.
pub fn power_on(world: &Shared, seat: usize) {
    let world = Arc::clone(world);
    let (boot, config, hub) = {
        let mut seats = world.seats.lock();
        let it = &mut seats[seat];
        if it.life.is_some() || it.is_removed || it.is_starting {
            return;
        }
        it.is_starting = true;
        let hub = Hub::new(Limits::default());
        let ears = Ears { world: Arc::clone(&world), hub: Arc::clone(&hub), boot: it.boot, seat };
        (it.boot, it.config(&world.options, Arc::new(ears)), hub)
    };
    tokio::spawn(async move {
        let started = start(config).await;
        let is_current = || world.seats.lock()[seat].boot == boot;
        let node = match started {
            Ok(node) if is_current() => node,
            Ok(node) => return node.kill(),
            Err(error) => {
                if is_current() {
                    world.seats.lock()[seat].is_starting = false;
                    if !error.is_full() {
                        world.violated(format!("seat {seat} does not start: {error}, {error:?}"));
                    }
                }
                return;
            }
        };
        world.note(format!("seat {seat} runs"));
        let (end, gone) = watch::channel(false);
        let life = Life { node: node.clone(), hub, gone, end: Arc::new(end) };
        {
            let mut seats = world.seats.lock();
            seats[seat].has_run = true;
            seats[seat].is_starting = false;
            seats[seat].life = Some(life);
        }
        let ended = node.ended().await;
        if !is_current() {
            return;
        }
        match ended {
            End::Removed => world.seats.lock()[seat].is_removed = true,
            End::DiskFull(_) => {}
            other => world.violated(format!("seat {seat} has ended: {other}")),
        }
        world.note(format!("seat {seat} has ended"));
        world.crash(seat, Crash::Killed);
    });
}

/// Hears of every change that a member applies, and makes sure that all apply the same.
struct Ears {
    world: Shared,
    hub: Arc<Hub>,
    seat: usize,
    boot: u32,
}

impl Watchers for Ears {
    fn applied(&self, changes: &[quorate::node::mvcc::Change], revision: i64) {
        let mut groups = Changes::new();
        for it in changes {
            let record = &it.record;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let value = (!record.tombstone).then(|| text(&record.kv.value));
            let event = Event { key: text(&record.kv.key), value };
            groups.entry(record.revision.main).or_default().push(event);
        }
        {
            let mut all = self.world.changes.lock();
            for (revision, events) in groups {
                self.world.times.lock().entry(revision).or_insert(Clock.monotonic());
                let first = all.entry(revision).or_insert_with(|| events.clone());
                if *first != events {
                    let what = format!(
                        "revision {revision} is {events:?} on seat {} (start {}), and was {first:?}",
                        self.seat, self.boot
                    );
                    self.world.violations.lock().push(what);
                }
            }
        }
        self.hub.applied(changes, revision);
    }

    fn replaced(&self) {
        self.hub.replaced();
    }
}

/// Who leads, by the word of the members that run.
pub fn leader(world: &World) -> Option<(usize, Life)> {
    let running = world.running();
    let terms = running.iter().map(|(_, it)| it.node.standing());
    let latest = terms.filter(|it| it.leader.is_some()).max_by_key(|it| it.term)?;
    running.into_iter().find(|(_, it)| Some(it.node.member()) == latest.leader)
}
