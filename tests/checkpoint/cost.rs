//! What it costs, measured: `cargo test --release --test checkpoint -- --ignored --nocapture cost`.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::too_many_lines,
    reason = "a measurement: figures for people, told in one go"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate::clock::Clock;
use quorate::node::checkpoint::{Batch, Checkpoint, Limits, Place, Writer};
use quorate::node::mvcc::{KeyRange, Store};

use crate::support::Random;

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|it| it.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn key(n: u64) -> Bytes {
    format!("/registry/things/default/{n:010}").into()
}

#[tokio::test]
#[ignore = "a measurement"]
async fn cost_of_100_000_keys_of_256_bytes() {
    const KEYS: u64 = 100_000;
    let rounds: u64 = std::env::var("ROUNDS").ok().and_then(|it| it.parse().ok()).unwrap_or(1);
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(std::env::var_os("STORE").map_or(dir.path().into(), PathBuf::from));
    let start = resident();
    let sled = Arc::new(place.create().unwrap());
    println!("empty store: {} more", mib(resident() - start));
    let limits = Limits { flush_every: Duration::from_secs(1), ..Limits::default() };
    let writer = Writer::start(sled.clone(), limits).unwrap();
    let mut store = Store::new(sled.clone());
    let mut random = Random(1);
    let began = Clock.monotonic();
    let mut index = 0;
    let mut slowest = Duration::ZERO;
    for n in 0..KEYS * rounds {
        let value: Vec<u8> = (0..256).map(|_| random.below(256) as u8).collect();
        let mut txn = store.begin();
        txn.put(&key(n % KEYS), &value, 0).unwrap();
        txn.commit();
        index += 1;
        if n % 100 == 99 {
            writer.room().await.unwrap();
            let puts = store.take_new();
            let removes = store.sweep(1000);
            let meta = vec![(Bytes::from("state"), Some(Bytes::from(index.to_string())))];
            writer.send(Batch { puts, removes, meta, applied: index }).unwrap();
            store.written_up_to(writer.written().revision, writer.written().removed);
            // No faster than a cluster could agree on them.
            tokio::time::sleep(Duration::from_millis(4)).await;
            if n % 5000 == 4999 {
                let before = Clock.monotonic();
                let at = random.below(n.min(KEYS));
                store.range(&KeyRange::One(key(at)), 0, 0, false).unwrap();
                slowest = slowest.max(Clock.monotonic().since(before));
            }
        }
    }
    let applied = Clock.monotonic().since(began);
    writer.flush().await.unwrap();
    store.written_up_to(writer.written().revision, writer.written().removed);
    println!(
        "{} puts of {KEYS} keys: applied in {applied:?}, durable after {:?}; slowest read beside it {slowest:?}",
        KEYS * rounds,
        Clock.monotonic().since(began)
    );
    println!("disk {}, memory {} more", mib(sled.disk_size()), mib(resident() - start));
    let began = Clock.monotonic();
    writer.trim().await.unwrap();
    println!(
        "trimmed in {:?}: memory {} more",
        Clock.monotonic().since(began),
        mib(resident() - start)
    );
    for round in 0..2 {
        let began = Clock.monotonic();
        let mut one = Duration::ZERO;
        for _ in 0..10_000 {
            let before = Clock.monotonic();
            let found = store.range(&KeyRange::One(key(random.below(KEYS))), 0, 0, false).unwrap();
            assert_eq!(found.count, 1);
            one = one.max(Clock.monotonic().since(before));
        }
        let took = Clock.monotonic().since(began) / 10_000;
        println!(
            "random read, round {round}: {took:?}, slowest {one:?}; memory {} more",
            mib(resident() - start)
        );
    }
    let began = Clock.monotonic();
    let hash = store.hash(0).unwrap();
    println!("hash {:08x} in {:?}", hash.hash, Clock.monotonic().since(began));
    let revision = store.revision();
    let began = Clock.monotonic();
    let all = store.range(&KeyRange::From(Bytes::from_static(&[0])), 0, 0, false).unwrap();
    println!("all {} keys in {:?}", all.count, Clock.monotonic().since(began));
    drop(all);
    let began = Clock.monotonic();
    store.compact(revision).unwrap();
    store.forget(usize::MAX);
    println!("compacted in {:?}", Clock.monotonic().since(began));
    let began = Clock.monotonic();
    let mut swept = 0;
    loop {
        let removes = store.sweep(1000);
        if removes.is_empty() {
            break;
        }
        swept += removes.len();
        writer.room().await.unwrap();
        writer.send(Batch { removes, applied: index, ..Batch::default() }).unwrap();
    }
    writer.flush().await.unwrap();
    println!(
        "swept {swept} in {:?}; disk {}",
        Clock.monotonic().since(began),
        mib(sled.disk_size())
    );
    writer.stop().unwrap();
    println!("hash {:08x}", store.hash(0).unwrap().hash);
}

#[test]
#[ignore = "a measurement"]
fn cost_of_opening_100_000_keys() {
    let dir = tempfile::tempdir().unwrap();
    let load = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "cost::cost_of_100_000_keys_of_256_bytes"])
        .env("STORE", dir.path())
        .status();
    assert!(load.unwrap().success());
    let start = resident();
    let began = Clock.monotonic();
    let sled = Arc::new(Place::new(dir.path()).open().unwrap().expect("a store"));
    println!(
        "sled opened in {:?}: memory {} more",
        Clock.monotonic().since(began),
        mib(resident() - start)
    );
    let main = sled.last().unwrap().main;
    let store = Store::open(sled, main, 0).unwrap();
    println!(
        "and {} keys indexed after {:?} in all: memory {} more",
        store.keys(),
        Clock.monotonic().since(began),
        mib(resident() - start)
    );
    println!("hash {:08x}", store.hash(0).unwrap().hash);
}

#[test]
#[ignore = "a measurement"]
fn cost_of_the_index_per_key() {
    const KEYS: u64 = 300_000;
    for overwrites in [0, 1, 4] {
        let memory = Arc::new(quorate::node::checkpoint::Memory::default());
        let mut store = Store::new(memory);
        let before = resident();
        for n in 0..KEYS * (overwrites + 1) {
            let mut txn = store.begin();
            txn.put(&key(n % KEYS), b"", 0).unwrap();
            txn.commit();
            if n % 1000 == 999 {
                store.take_new();
                store.written_up_to(store.revision(), 0);
            }
        }
        let bytes = (resident() - before) / KEYS;
        println!("{} revisions a key of {} bytes: {bytes} bytes", overwrites + 1, key(0).len());
        std::mem::forget(store);
    }
}
