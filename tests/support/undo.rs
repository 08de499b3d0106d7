//! Plays a loss of power from the journals that `shim.c` has kept: takes back what no sync covered.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::chance::mix;

/// What a power loss takes of what was not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// All of it.
    All,
    /// Of every file any sector for itself, and its length or not; of the names in every
    /// directory what came last, as a journal that was written to some point leaves them.
    Part(u64),
}

/// What was taken back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// Writes of which something was.
    pub(crate) writes: usize,
    /// Names that are not there any more, or again, or are called as before.
    pub(crate) names: usize,
}

impl std::ops::AddAssign for Taken {
    fn add_assign(&mut self, other: Taken) {
        self.writes += other.writes;
        self.names += other.names;
    }
}

/// One record of the journal; see `shim.c`.
#[derive(Debug)]
struct Record {
    kind: u8,
    number: u64,
    inode: u64,
    x: u64,
    y: u64,
    z: u64,
    more: Vec<u8>,
}

impl Record {
    fn is_name(&self) -> bool {
        matches!(self.kind, b'C' | b'M' | b'U' | b'D' | b'R')
    }

    /// The directory whose sync makes it durable: for a rename that of the new name.
    fn directory(&self) -> u64 {
        if self.kind == b'R' { self.x } else { self.inode }
    }

    fn names(&self) -> (&str, &str) {
        let text = std::str::from_utf8(&self.more).expect("names are text");
        text.split_once('\0').unwrap_or((text, text))
    }
}

/// All records; the last may have been cut short by the kill, and then nothing came of it.
fn read(journal: &Path) -> Vec<Record> {
    let bytes = fs::read(journal).expect("the shim wrote a journal");
    let mut records = Vec::new();
    let mut rest = bytes.as_slice();
    while rest.len() >= 56 {
        let number = |at: usize| u64::from_le_bytes(rest[8 * at..8 * at + 8].try_into().unwrap());
        let end = 56 + usize::try_from(number(6)).unwrap();
        let Some(more) = rest.get(56..end) else { break };
        records.push(Record {
            kind: u8::try_from(number(0)).unwrap(),
            number: number(1),
            inode: number(2),
            x: number(3),
            y: number(4),
            z: number(5),
            more: more.to_vec(),
        });
        rest = &rest[end..];
    }
    records
}

/// The records of all lives since the last decision, in order.
fn lives(undo: &Path) -> Vec<Record> {
    let entries = fs::read_dir(undo).expect("a directory").flatten().map(|it| it.path());
    let is_journal = |it: &PathBuf| it.to_string_lossy().contains("/journal-");
    let mut journals: Vec<_> = entries.filter(is_journal).collect();
    journals.sort();
    assert!(!journals.is_empty(), "the shim wrote no journal in {}", undo.display());
    journals.iter().flat_map(|it| read(it)).collect()
}

/// Takes back below `dir` what was not durable, and forgets the journals in `undo`. Whoever wrote
/// must be gone.
pub(crate) fn take_away(dir: &Path, undo: &Path, loss: Loss) -> Taken {
    let mut records = lives(undo);
    let mut covered = BTreeMap::<u64, u64>::new();
    for sync in records.iter().filter(|it| it.kind == b'S') {
        let up_to = covered.entry(sync.inode).or_default();
        *up_to = sync.x.max(*up_to);
    }
    // A directory that is durably gone takes with it what was not durable in it; its inode may
    // be another's by now.
    let is_covered =
        |it: &Record, inode| covered.get(&inode).is_some_and(|up_to| it.number <= *up_to);
    let mut gone = BTreeMap::<u64, u64>::new();
    for it in records.iter().filter(|it| it.kind == b'D' && is_covered(it, it.inode)) {
        gone.insert(it.x, it.number);
    }
    records.retain(|it| {
        let inode = if it.is_name() { it.directory() } else { it.inode };
        let went = it.is_name() && gone.get(&inode).is_some_and(|at| it.number < *at);
        it.kind != b'S' && !is_covered(it, inode) && !went
    });
    let mut paths = Paths::of(&[dir, undo]);
    let writes = take_writes(&records, &paths, loss);
    let mut taken = Taken { writes, ..Taken::default() };
    let names: Vec<&Record> = records.iter().filter(|it| it.is_name()).collect();
    let from = first_lost(&names, loss);
    for it in names.iter().rev() {
        if it.number >= from[&it.directory()] {
            paths.take_name(it, undo);
            taken.names += 1;
        }
    }
    fs::remove_dir_all(undo).unwrap();
    fs::create_dir(undo).unwrap();
    taken
}

fn take_writes(records: &[Record], paths: &Paths, loss: Loss) -> usize {
    let mut open = BTreeMap::<u64, File>::new();
    let mut taken = 0;
    for it in records.iter().rev().filter(|it| it.kind == b'W') {
        let Some(path) = paths.files.get(&it.inode) else { continue };
        let file = open
            .entry(it.inode)
            .or_insert_with(|| OpenOptions::new().read(true).write(true).open(path).unwrap());
        taken += usize::from(take_write(it, file, loss));
    }
    taken
}

/// Whether anything of it was taken.
fn take_write(it: &Record, file: &File, loss: Loss) -> bool {
    let (offset, size_before) = (it.x, it.y);
    let size = |file: &File| file.metadata().unwrap().len();
    let seed = match loss {
        Loss::All => {
            file.write_all_at(&it.more, offset).unwrap();
            file.set_len(size_before).unwrap();
            return true;
        }
        Loss::Part(seed) => mix(seed ^ it.inode.rotate_left(32)),
    };
    // The same choice for each write of a file, and of each to a sector.
    let is_length_lost = seed.is_multiple_of(2);
    if is_length_lost && size(file) != size_before {
        file.set_len(size_before).unwrap();
    }
    let end = (offset + it.z).min(size(file));
    let mut any = is_length_lost;
    for sector in offset / 512..end.div_ceil(512) {
        if mix(seed ^ sector).is_multiple_of(3) {
            continue;
        }
        let from = (sector * 512).max(offset);
        let bytes: Vec<u8> = (from..((sector + 1) * 512).min(end))
            .map(|at| usize::try_from(at - offset).unwrap())
            .map(|n| it.more.get(n).copied().unwrap_or(0))
            .collect();
        file.write_all_at(&bytes, from).unwrap();
        any = true;
    }
    any
}

/// From which record on the names of each directory are lost.
fn first_lost(names: &[&Record], loss: Loss) -> BTreeMap<u64, u64> {
    let mut of = BTreeMap::<u64, Vec<u64>>::new();
    for it in names {
        of.entry(it.directory()).or_default().push(it.number);
    }
    let from = |inode: u64, numbers: Vec<u64>| match loss {
        Loss::All => numbers[0],
        Loss::Part(seed) => {
            let kept = mix(seed ^ inode) % (numbers.len() as u64 + 1);
            numbers.get(usize::try_from(kept).unwrap()).copied().unwrap_or(u64::MAX)
        }
    };
    of.into_iter().map(|(inode, numbers)| (inode, from(inode, numbers))).collect()
}

/// Where the inodes are.
struct Paths {
    files: BTreeMap<u64, PathBuf>,
    dirs: BTreeMap<u64, PathBuf>,
    /// Directories that are back under another inode.
    back: BTreeSet<u64>,
}

impl Paths {
    fn of(roots: &[&Path]) -> Paths {
        let mut paths =
            Paths { files: BTreeMap::new(), dirs: BTreeMap::new(), back: BTreeSet::new() };
        for root in roots {
            paths.walk(root);
        }
        paths
    }

    fn walk(&mut self, dir: &Path) {
        let inode = fs::metadata(dir).unwrap().ino();
        if !self.back.contains(&inode) {
            self.dirs.insert(inode, dir.to_owned());
        }
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                self.walk(&path);
            } else {
                self.files.insert(meta.ino(), path);
            }
        }
    }

    /// The reverse of one change, all later ones being undone already.
    fn take_name(&mut self, it: &Record, undo: &Path) {
        let at = |inode: u64| self.dirs.get(&inode).cloned();
        let (name, target) = it.names();
        let Some(dir) = at(it.inode) else { panic!("no directory for {it:?}") };
        let path = dir.join(name);
        let grave = undo.join(format!("grave-{}", it.number));
        match it.kind {
            // Unless it has gone to another directory since, durably.
            b'C' if !path.exists() => {}
            b'C' => fs::remove_file(&path).unwrap(),
            // What is in it was never durable under a name that leads there.
            b'M' => fs::remove_dir_all(&path).unwrap(),
            b'U' => fs::hard_link(&grave, &path).unwrap(),
            b'D' => {
                fs::create_dir(&path).unwrap();
                self.back.insert(it.x);
                self.dirs.insert(it.x, path);
            }
            _ => {
                let Some(new) = at(it.x) else { panic!("no directory for {it:?}") };
                let new = new.join(target);
                fs::rename(&new, &path).unwrap();
                if it.y == 1 {
                    fs::hard_link(&grave, &new).unwrap();
                }
                if path.is_dir() {
                    self.walk(&path);
                }
            }
        }
    }
}
