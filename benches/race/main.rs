//! Engines side by side in one run: `cargo bench --bench race`, a part of `make bench`.
//!
//! Each measure is taken on a three-node cluster of its own that `quorate up` runs on loopback,
//! first with one engine, then with the next, round after round (A B C A B C), because a machine
//! is never the same for long: what is worth reading is the ratio, and how far it moves from round
//! to round. Printed are, for each baseline and the engine that races it, medians, least and most,
//! the ratio of the medians, that of the single rounds, and the goal. It ends with 1 if our own
//! engine misses one.
//!
//! | Variable | Meaning | Default |
//! |---|---|---|
//! | `QUORATE_RACE_BASELINES` | what is raced against: etcds, such as `/usr/bin/etcd,/opt/etcd` | `/usr/bin/etcd` |
//! | `QUORATE_RACE_ENGINE` | what races them: `embedded`, or another etcd | `embedded` |
//! | `QUORATE_RACE_PAIRS` | rounds, in each of which every engine has its turn | 3 |
//! | `QUORATE_RACE_PARTS` | parts to run, such as `put,failover` | all |
//! | `QUORATE_RACE_SECONDS` | how long each load is measured, after a second of warm-up | 5 |
//! | `QUORATE_RACE_CONNECTIONS` | connections that the clients of a load share | 1 |
//! | `QUORATE_RACE_KEYS` | keys of 256 B where a full cluster is measured | 100000 |
//! | `QUORATE_RACE_ROUNDS` | times that each engine loses its leader | 20 |
//! | `QUORATE_RACE_OUT` | a file for every single figure, as JSON | none |
//! | `QUORATE_RACE_PLOT` | a file for the ratios as a picture, as SVG | none |
//!
//! All loads are `quorate bench` against the leader, on the same machine as the three members.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a bench that cannot go on ends here")]

mod choice;
mod engine;
mod figures;
mod measure;
mod parts;
mod plot;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use choice::{chosen, quiet, variable};
use engine::{EMBEDDED, Engine};
use figures::Race;
use parts::{PARTS, Settings};
use support::wait::now;

fn main() -> ExitCode {
    let settings = Settings {
        pairs: variable("QUORATE_RACE_PAIRS", 3),
        seconds: variable("QUORATE_RACE_SECONDS", 5),
        connections: variable("QUORATE_RACE_CONNECTIONS", 1),
        keys: variable("QUORATE_RACE_KEYS", 100_000),
        rounds: variable("QUORATE_RACE_ROUNDS", 20),
    };
    let mut names: Vec<String> = variable("QUORATE_RACE_BASELINES", "/usr/bin/etcd".to_owned())
        .split(',')
        .map(str::to_owned)
        .collect();
    names.push(variable("QUORATE_RACE_ENGINE", EMBEDDED.to_owned()));
    let engines: Vec<_> = names.iter().zip('A'..).map(|(it, side)| Engine::new(side, it)).collect();
    let parts = chosen("QUORATE_RACE_PARTS", PARTS);
    if parts.is_empty() {
        return ExitCode::SUCCESS;
    }

    let mut race = Race::default();
    let mut failures = Vec::new();
    for engine in &engines {
        println!("{}: {engine}", engine.side);
    }
    println!("{settings}\n{}\n", quiet());
    for pair in 1..=settings.pairs {
        for (name, part) in &parts {
            for (side, engine) in engines.iter().enumerate() {
                let begun = now();
                // What breaks one part says nothing of the others, and hours may be in them.
                match catch_unwind(AssertUnwindSafe(|| part(engine, &settings))) {
                    Ok(found) => {
                        eprintln!("pair {pair}, {name}, {}: {:.0?}", engine.side, begun.elapsed());
                        for (figure, value) in found {
                            eprintln!("  {figure} {value:.3}");
                            race.note(figure, side, pair, value);
                        }
                    }
                    Err(_) => failures.push(format!("pair {pair}, {name}, {}", engine.side)),
                }
            }
        }
    }
    let reached = race.print(&engines, &settings);
    println!("\n{settings}; {}", quiet());
    if let Ok(file) = std::env::var("QUORATE_RACE_OUT") {
        std::fs::write(&file, race.json(&engines, &settings)).expect("the file can be written");
    }
    if let Ok(file) = std::env::var("QUORATE_RACE_PLOT") {
        plot::draw(file.as_ref(), &race.series(&engines), &settings.to_string());
    }
    for failure in &failures {
        println!("FAILED: {failure}");
    }
    if reached && failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
