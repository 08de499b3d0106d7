//! What more data and more clients cost: `cargo bench --bench growth`, a part of `make bench`.
//!
//! Each figure is taken at several sizes, on clusters that `quorate up` runs on loopback, a new one
//! for each size, of an etcd and then of our engine. Printed is how each cost grew beside how the
//! size grew. A cost of the whole (seconds, MiB) may grow as the size does, and a cost of each
//! operation (1 / rate) not at all: by more than [`TOLERANCE`] above that is `FASTER THAN LINEAR`,
//! and it ends with 1 if that is our own engine.
//!
//! | Part | Sizes | At each size |
//! |---|---|---|
//! | `data` | MiB of values of 1 KiB | put, get, memory, disk, restart, a wiped member, compaction |
//! | `watchers` | watchers | all on one key, and each on its own, a stream each; memory |
//! | `leases` | leases with a key each | granting, keeping alive, all of them expiring; memory |
//! | `connections` | connections of 1,000 clients | put, get, memory |
//!
//! | Variable | Meaning | Default |
//! |---|---|---|
//! | `QUORATE_GROWTH_BASELINE` | an etcd, or `none` | `/usr/bin/etcd` |
//! | `QUORATE_GROWTH_ENGINE` | ours: `embedded`; or another etcd, or `none` | `embedded` |
//! | `QUORATE_GROWTH_PARTS` | parts to run, such as `data,leases` | all |
//! | `QUORATE_GROWTH_MIB` | sizes of `data`, ascending | `128,1024` |
//! | `QUORATE_GROWTH_WATCHERS` | sizes of `watchers` | `1000,10000` |
//! | `QUORATE_GROWTH_LEASES` | sizes of `leases` | `1000,10000` |
//! | `QUORATE_GROWTH_CONNECTIONS` | sizes of `connections`, 1,000 at most | `1,1000` |
//! | `QUORATE_GROWTH_MEMBERS` | members; of fewer than three, none is wiped | 3 |
//! | `QUORATE_GROWTH_SECONDS` | how long a load that has no end of its own is measured | 5 |
//! | `QUORATE_GROWTH_REPEATS` | times that everything is measured; medians are printed | 1 |
//! | `QUORATE_GROWTH_OUT` | a file for every single figure, as JSON | none |
//!
//! 8 GiB (`QUORATE_GROWTH_MIB=1024,8192 QUORATE_GROWTH_PARTS=data`) want some 60 GB of disk under
//! `target/tmp/` for three members, and memory as the table of a smaller run tells. Loads are
//! `quorate bench` and a client in this process, both against the leader, on the members' machine.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench that cannot go on ends here")]

#[path = "../race/choice.rs"]
mod choice;
mod clients;
mod data;
#[allow(dead_code, reason = "the race uses the rest of it")]
#[path = "../race/engine.rs"]
mod engine;
mod figures;
mod leases;
#[allow(dead_code, reason = "the race uses the rest of it")]
#[path = "../race/measure.rs"]
mod measure;
mod settings;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use choice::{chosen, quiet, variable};
use engine::{EMBEDDED, Engine};
use figures::{Growth, TOLERANCE};
use settings::{PARTS, Settings};
use support::wait::now;

fn main() -> ExitCode {
    let settings = Settings::new();
    let engines: Vec<_> = [
        ('A', variable("QUORATE_GROWTH_BASELINE", "/usr/bin/etcd".to_owned())),
        ('B', variable("QUORATE_GROWTH_ENGINE", EMBEDDED.to_owned())),
    ]
    .iter()
    .filter(|(_, name)| name != "none")
    .map(|(side, name)| Engine::new(*side, name))
    .collect();
    let parts = chosen("QUORATE_GROWTH_PARTS", PARTS);
    if parts.is_empty() {
        return ExitCode::SUCCESS;
    }

    let mut growth = Growth::default();
    let mut failures = Vec::new();
    for engine in &engines {
        println!("{}: {engine}", engine.side);
    }
    println!("{settings}\n{}", quiet());
    for repeat in 1..=settings.repeats {
        for (name, part) in &parts {
            for size in (part.sizes)(&settings) {
                for engine in &engines {
                    let begun = now();
                    let what = format!("{repeat}, {name} {size}, {}", engine.side);
                    // What breaks at one size says nothing of the others.
                    match catch_unwind(AssertUnwindSafe(|| (part.run)(engine, &settings, *size))) {
                        Ok(found) => {
                            eprintln!("{what}: {:.0?}", begun.elapsed());
                            for figure in found {
                                eprintln!("  {} {:.3}", figure.id, figure.value);
                                growth.note(figure, engine.side, *size);
                            }
                        }
                        Err(_) => failures.push(what),
                    }
                }
            }
        }
    }
    let mut is_linear = true;
    for (name, part) in &parts {
        is_linear &= growth.print(name, part, &engines);
    }
    println!("\n{settings}\ntolerance {TOLERANCE}; {}", quiet());
    if let Ok(file) = std::env::var("QUORATE_GROWTH_OUT") {
        std::fs::write(&file, growth.json(&engines, &settings)).expect("the file can be written");
    }
    for failure in &failures {
        println!("FAILED: {failure}");
    }
    if is_linear && failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
