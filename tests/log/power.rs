//! The power fails while a log is written: everything that no fdatasync covers may be lost, and of
//! that, any sector for itself.
//!
//! A child process writes under `shim.c`, which remembers what is not durable, and says what was
//! acknowledged. It is killed; then what was not durable is taken away, all of it or any part.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quorate::node::log::{Log, LogError, Options, check};
use tempfile::TempDir;

use crate::support::{IDS, append, at, entry, mix, read_all};

const OPTIONS: Options = Options {
    segment_bytes: 128 << 10,
    ahead_bytes: 16 << 10,
    memory_bytes: 64 << 10,
    memory_entries: 100,
    queue_bytes: 64 << 10,
    group_bytes: 32 << 10,
};

#[test]
fn three_times_without_power_nothing_acknowledged_is_lost() {
    lose_power(3, 77);
}

/// `cargo test --test log -- --ignored torture`
#[test]
#[ignore = "takes a minute; QUORATE_ROUNDS sets how many, 40 by default"]
fn torture_forty_times_without_power_nothing_acknowledged_is_lost() {
    let rounds = std::env::var("QUORATE_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(40);
    lose_power(rounds, u64::from(std::process::id()));
}

#[test]
fn after_an_fsync_that_failed_nothing_is_acknowledged_and_nothing_lost() {
    let Some(bench) = Bench::new() else { return };
    let mut child = bench.child("fails", 1, Some(57));
    let output = BufReader::new(child.stdout.take().unwrap());
    let lines: Vec<String> = output.lines().map_while(Result::ok).collect();
    assert!(child.wait().unwrap().success(), "{lines:#?}");
    assert!(lines.iter().any(|line| line.ends_with("REFUSED ALL")), "{lines:#?}");
    bench.take_away(Loss::All);
    let mut promised = Promised::default();
    for line in &lines {
        promised.hear(line);
    }
    assert!(promised.entries.len() > 20, "{}", promised.entries.len());
    promised.holds(&bench.log(), "after the failed fsync");
}

fn lose_power(rounds: u64, seed: u64) {
    let Some(bench) = Bench::new() else { return };
    let mut promised = Promised::default();
    let (mut acknowledged, mut repaired) = (0, 0);
    for round in 0..rounds {
        let told = format!("round {round} of seed {seed}");
        let chance = mix(seed ^ (round << 20));
        let mut child = bench.child("writes", chance, None);
        let output = BufReader::new(child.stdout.take().unwrap());
        // A busy machine may take its time to start the child.
        let (tell, writes) = std::sync::mpsc::channel();
        let killer = std::thread::spawn(move || {
            // An error means that it has ended or never writes, which shows below.
            let _ = writes.recv_timeout(Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(300 + chance % 700));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        let before = acknowledged;
        for line in output.lines().map_while(Result::ok) {
            acknowledged += u64::from(line.contains("E "));
            promised.hear(&line);
            if acknowledged == before + 60 {
                let _ = tell.send(()); // more than once, if a line without an entry follows
            }
        }
        drop(tell);
        killer.join().unwrap();
        bench.take_away(match round % 4 {
            0 => Loss::All,
            1 => Loss::Nothing,
            _ => Loss::Sectors(chance),
        });
        let torn = check(&bench.log()).unwrap().is_some_and(|report| {
            assert_eq!(report.damage, None, "{told}");
            report.torn_tail.is_some()
        });
        repaired += u64::from(torn);
        promised.holds(&bench.log(), &told);
    }
    assert!(acknowledged > rounds * 50, "only {acknowledged} entries in {rounds} rounds");
    eprintln!("{rounds} rounds, {acknowledged} acknowledged entries, {repaired} torn ends, 0 lost");
}

/// What the child was told is on the disk.
#[derive(Default)]
struct Promised {
    /// Index to term.
    entries: BTreeMap<u64, u64>,
    vote: u64,
}

impl Promised {
    fn hear(&mut self, line: &str) {
        // The test harness may have written before, on the same line.
        let words: Vec<&str> = line.split(' ').collect();
        let Some(start) = words.iter().position(|w| matches!(*w, "E" | "V" | "t" | "p")) else {
            return;
        };
        let number = |n: usize| words.get(start + n).and_then(|w| w.parse::<u64>().ok());
        match (words[start], number(1), number(2)) {
            ("E", Some(index), Some(term)) => drop(self.entries.insert(index, term)),
            ("V", Some(vote), _) => self.vote = vote,
            // From the moment it is asked for, what it removes may be gone.
            ("t", Some(from), _) => drop(self.entries.split_off(&from)),
            ("p", Some(up_to), _) => self.entries = self.entries.split_off(&(up_to + 1)),
            _ => {} // the kill cut the line short
        }
    }

    fn holds(&self, dir: &Path, told: &str) {
        let (log, recovered) = match Log::open(dir, OPTIONS) {
            Ok(opened) => opened,
            Err(LogError::Missing(_)) if self.entries.is_empty() && self.vote == 0 => return,
            Err(error) => panic!("{told}: {error}"),
        };
        let bounds = recovered.bounds;
        let there: BTreeMap<u64, u64> = read_all(&log, bounds.first..bounds.next)
            .into_iter()
            .map(|it| {
                assert_eq!(it, entry(it.term, it.index), "{told}");
                (it.index, it.term)
            })
            .collect();
        assert_eq!(there.len() as u64, bounds.count(), "{told}: {bounds:?}");
        for (index, term) in &self.entries {
            assert_eq!(there.get(index), Some(term), "{told}: entry {index}, {bounds:?}");
        }
        let vote =
            recovered.vote.map_or(0, |vote| u64::from_le_bytes(vote[..].try_into().unwrap()));
        assert!(vote >= self.vote, "{told}: vote {vote} for {}", self.vote);
    }
}

/// What a power loss takes of what was not durable.
#[derive(Clone, Copy)]
enum Loss {
    Nothing,
    All,
    /// Any sector for itself, the file staying as long as it was.
    Sectors(u64),
}

/// A place to write at, and the shim.
struct Bench {
    root: TempDir,
    shim: PathBuf,
}

impl Bench {
    /// `None`, loudly, where no C compiler is.
    fn new() -> Option<Bench> {
        let root = TempDir::new().unwrap();
        let shim = root.path().join("shim.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/log/shim.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .arg(&shim)
            .args([source, "-ldl", "-lpthread"])
            .status();
        if !built.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: no C compiler builds tests/log/shim.c; power loss is not tried");
            return None;
        }
        fs::create_dir(root.path().join("undo")).unwrap();
        fs::create_dir(root.path().join("data")).unwrap();
        Some(Bench { root, shim })
    }

    fn log(&self) -> PathBuf {
        self.root.path().join("data/log")
    }

    fn child(&self, what: &str, seed: u64, fail_after: Option<u32>) -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "--ignored", "--nocapture", "power::the_child_that_is_killed"])
            .env("LD_PRELOAD", &self.shim)
            .env("PL_DIR", self.root.path().join("data"))
            .env("PL_UNDO", self.root.path().join("undo"))
            .env("PL_SYNC_MICROS", "2000")
            .env("LOG_CHILD", what)
            .env("LOG_CHILD_DIR", self.log())
            .env("LOG_CHILD_SEED", seed.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        if let Some(after) = fail_after {
            command.env("PL_FAIL_AFTER", after.to_string());
        }
        command.spawn().unwrap()
    }

    /// Takes away what was not durable.
    fn take_away(&self, loss: Loss) {
        let mut by_inode = BTreeMap::new();
        if self.log().exists() {
            for entry in fs::read_dir(self.log()).unwrap() {
                let path = entry.unwrap().path();
                by_inode.insert(fs::metadata(&path).unwrap().ino(), path);
            }
        }
        for undo in fs::read_dir(self.root.path().join("undo")).unwrap() {
            let undo = undo.unwrap().path();
            let inode = undo.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            let writes = writes(&fs::read(&undo).unwrap());
            fs::remove_file(&undo).unwrap();
            if let Some(path) = by_inode.get(&inode) {
                let file = File::options().read(true).write(true).open(path).unwrap();
                for write in writes.iter().rev() {
                    write.undo(&file, loss);
                }
            }
        }
    }
}

/// A write that was not durable: what stood there before.
struct Undo {
    offset: u64,
    old: Vec<u8>,
    size: u64,
    length: u64,
}

fn writes(bytes: &[u8]) -> Vec<Undo> {
    let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (mut at, mut writes) = (0, Vec::new());
    let mut next = || {
        let (offset, count) = (number(at)?, usize::try_from(number(at + 8)?).ok()?);
        let (size, length) = (number(at + 16)?, number(at + 24)?);
        let old = bytes.get(at + 32..at + 32 + count)?.to_vec();
        at += 32 + count;
        Some(Undo { offset, old, size, length })
    };
    while let Some(write) = next() {
        writes.push(write);
    }
    writes
}

impl Undo {
    fn undo(&self, file: &File, loss: Loss) {
        let seed = match loss {
            Loss::Nothing => return,
            Loss::All => {
                file.write_all_at(&self.old, self.offset).unwrap();
                if file.metadata().unwrap().len() > self.size {
                    file.set_len(self.size).unwrap();
                }
                return;
            }
            Loss::Sectors(seed) => seed,
        };
        let end = (self.offset + self.length).min(file.metadata().unwrap().len());
        for sector in self.offset / 512..end.div_ceil(512) {
            // The same for every write to this sector since the last fdatasync.
            if mix(seed ^ sector).is_multiple_of(3) {
                continue;
            }
            let from = (sector * 512).max(self.offset);
            let bytes: Vec<u8> = (from..((sector + 1) * 512).min(end))
                .map(|at| usize::try_from(at - self.offset).unwrap())
                .map(|n| self.old.get(n).copied().unwrap_or(0))
                .collect();
            file.write_all_at(&bytes, from).unwrap();
        }
    }
}

/// Run by the tests above, in a process of its own.
#[test]
#[ignore = "the others run it"]
fn the_child_that_is_killed() {
    let Ok(what) = std::env::var("LOG_CHILD") else { return };
    let dir = PathBuf::from(std::env::var_os("LOG_CHILD_DIR").unwrap());
    let seed = std::env::var("LOG_CHILD_SEED").unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let log = match Log::open(&dir, OPTIONS) {
            Ok((log, _)) => log,
            Err(LogError::Missing(_)) => Log::create(&dir, IDS, OPTIONS).unwrap(),
            Err(error) => panic!("{error}"),
        };
        match what.as_str() {
            "fails" => until_it_fails(&log).await,
            _ => write_for_ever(&log, seed).await,
        }
    });
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes());
    let _ = out.flush();
}

/// All that a raft does to its log, at random, saying what is durable once it is.
async fn write_for_ever(log: &Log, seed: u64) {
    let bounds = log.bounds();
    let mut chance = seed;
    let mut term = bounds.last.map_or(1, |last| last.term + 1);
    let mut vote = log.vote().map_or(0, |it| u64::from_le_bytes(it[..].try_into().unwrap()));
    let begun = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicU64::new(0));
    loop {
        chance = mix(chance);
        let next = log.bounds().next;
        match chance % 400 {
            0..=2 => {
                vote += 1;
                log.save_vote(Bytes::copy_from_slice(&vote.to_le_bytes())).await.unwrap();
                say(&format!("V {vote}"));
            }
            3 if next > log.bounds().first + 40 => {
                // No answer to an append may come after its removal was asked for.
                while done.load(Ordering::SeqCst) < begun.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                let left = next - 1 - (chance >> 32) % 30;
                let entries = log.read(left..left + 1, 1).await.unwrap();
                say(&format!("t {}", left + 1));
                log.truncate_after(Some(entries[0].position())).await.unwrap();
                term += 1;
            }
            4 if next > log.bounds().first + 600 => {
                let up_to = log.bounds().first + (chance >> 32) % 500;
                let entries = log.read(up_to..up_to + 1, 1).await.unwrap();
                say(&format!("p {up_to}"));
                log.purge(entries[0].position()).await.unwrap();
            }
            5..=40 if next > 5 => log.save_committed(at(term, next - 3)).unwrap(),
            _ => {
                let count = 1 + (chance >> 40) % 6;
                let entries: Vec<_> = (next..next + count).map(|it| entry(term, it)).collect();
                begun.fetch_add(1, Ordering::SeqCst);
                let (done, term) = (Arc::clone(&done), term);
                let answer = Box::new(move |result: Result<(), LogError>| {
                    result.unwrap();
                    (next..next + count).for_each(|index| say(&format!("E {index} {term}")));
                    done.fetch_add(1, Ordering::SeqCst);
                });
                log.append(entries, answer).await.unwrap();
            }
        }
    }
}

/// Appends until an fsync fails, and then sees that nothing is tried again.
async fn until_it_fails(log: &Log) {
    let mut next = 0;
    let failure = loop {
        match append(log, vec![entry(1, next)]).await {
            Ok(()) => say(&format!("E {next} 1")),
            Err(error) => break error,
        }
        next += 1;
    };
    assert!(matches!(failure, LogError::Io { action: "sync" | "write", .. }), "{failure}");
    let (syncs, size) = (log.stats().syncs, log.stats().bytes);
    let later = [
        append(log, vec![entry(1, next + 1)]).await,
        log.save_vote(Bytes::from_static(b"8 bytes.")).await,
        log.truncate_after(None).await,
        log.purge(at(1, 3)).await,
        log.save_committed(at(1, 3)),
        log.close().await,
    ];
    for result in later {
        assert_eq!(result.unwrap_err().to_string(), failure.to_string());
    }
    assert_eq!((syncs, size), (log.stats().syncs, log.stats().bytes));
    say("REFUSED ALL");
}
