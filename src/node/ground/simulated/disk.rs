//! Drives that lose what was not synced when the power goes, and a part of it only.
//!
//! A drive is the first part of a path. Each file has the bytes that a reader sees and those that
//! are durable; what lies between is a list of writes, of which any sectors may have come. Names
//! are the same: what was made, renamed or removed in a directory and not synced comes up to some
//! point, in order. A process that is killed loses nothing of it.
//!
//! Who holds a file of a drive that was taken away gets errors, and changes nothing any more.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Run, with};

/// What comes to a disk whole or not at all.
const SECTOR: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Drives(BTreeMap<PathBuf, Drive>);

#[derive(Clone, Debug, Default)]
struct Drive {
    inodes: BTreeMap<u64, Inode>,
    last: u64,
    names: BTreeMap<PathBuf, Node>,
    durable: BTreeMap<PathBuf, Node>,
    /// What happened to names and is not durable yet, by directory.
    unsynced: BTreeMap<PathBuf, Vec<Naming>>,
    /// How long a sync takes.
    sync: Range<Duration>,
    is_full: bool,
    /// Says that it has synced the log's writes, and has not.
    lies: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Dir,
    File(u64),
}

#[derive(Clone, Debug)]
enum Naming {
    Made(PathBuf, Node),
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

/// How a drive is taken from the process that had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It was killed: the machine goes on, and has what it wrote.
    Killed,
    /// The power went.
    PowerLost,
}

/// An open file.
#[derive(Debug)]
pub(crate) struct File {
    drive: PathBuf,
    inode: u64,
}

fn root(path: &Path) -> PathBuf {
    path.components().take(2).collect()
}

fn gone() -> io::Error {
    io::Error::other("the drive was taken away")
}

impl Run {
    fn drive(&mut self, path: &Path) -> io::Result<&mut Drive> {
        self.drives.0.get_mut(&root(path)).ok_or_else(gone)
    }
}

/// Puts in an empty drive.
pub fn put_in(drive: &Path) {
    with(|run| {
        let sync = Duration::ZERO..Duration::from_millis(1);
        let mut it = Drive { sync, ..Drive::default() };
        it.names.insert(drive.to_owned(), Node::Dir);
        it.durable.insert(drive.to_owned(), Node::Dir);
        run.drives.0.insert(drive.to_owned(), it);
    });
}

/// Takes a drive away from its process, and puts in what it holds then under another name.
pub fn take_out(drive: &Path, how: Crash, put_in: &Path) {
    with(|run| {
        let Some(mut it) = run.drives.0.remove(drive) else { return };
        if how == Crash::PowerLost {
            it.lose_power(run);
        }
        run.drives.0.insert(put_in.to_owned(), it.moved(drive, put_in));
    });
}

/// How long each of its syncs takes from now on.
pub fn sync_takes(drive: &Path, time: Range<Duration>) {
    with(|run| {
        if let Ok(it) = run.drive(drive) {
            it.sync = time;
        }
    });
}

/// Has it full, or not any more.
pub fn fill(drive: &Path, is_full: bool) {
    with(|run| {
        if let Ok(it) = run.drive(drive) {
            it.is_full = is_full;
        }
    });
}

/// Has it leave out the fdatasync of what the log writes, and say that it was done.
pub fn lie(drive: &Path) {
    with(|run| {
        if let Ok(it) = run.drive(drive) {
            it.lies = true;
        }
    });
}

impl Drive {
    fn lose_power(&mut self, run: &mut Run) {
        for (_, changes) in std::mem::take(&mut self.unsynced) {
            let come = run.below(changes.len() as u64 + 1);
            for change in changes.into_iter().take(usize::try_from(come).unwrap_or(0)) {
                change.apply(&mut self.durable);
            }
        }
        // What has lost its directory is not found any more.
        let names = self.durable.clone();
        let is_there = |path: &Path| {
            path.ancestors().skip(1).all(|it| it.components().count() < 2 || names.contains_key(it))
        };
        self.durable.retain(|path, _| is_there(path));
        self.names = self.durable.clone();
        for inode in self.inodes.values_mut() {
            inode.lose_power(run);
        }
        let used: Vec<_> = self.names.values().copied().collect();
        self.inodes.retain(|id, _| used.contains(&Node::File(*id)));
    }

    fn moved(self, from: &Path, to: &Path) -> Drive {
        let path =
            |it: &PathBuf| it.strip_prefix(from).map_or_else(|_| it.clone(), |rest| to.join(rest));
        let names =
            |it: BTreeMap<PathBuf, Node>| it.iter().map(|(at, node)| (path(at), *node)).collect();
        let naming = |it: Naming| match it {
            Naming::Made(at, node) => Naming::Made(path(&at), node),
            Naming::Renamed(at, new) => Naming::Renamed(path(&at), path(&new)),
            Naming::Removed(at) => Naming::Removed(path(&at)),
        };
        let unsynced = self.unsynced.into_iter();
        let unsynced = unsynced.map(|(at, all)| (path(&at), all.into_iter().map(naming).collect()));
        Drive {
            names: names(self.names),
            durable: names(self.durable),
            unsynced: unsynced.collect(),
            ..self
        }
    }

    fn name(&mut self, dir: &Path, change: Naming) {
        change.clone().apply(&mut self.names);
        self.unsynced.entry(dir.to_owned()).or_default().push(change);
    }

    fn find(&self, path: &Path) -> io::Result<Node> {
        self.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn file(&mut self, path: &Path) -> io::Result<(u64, &mut Inode)> {
        match self.find(path)? {
            Node::File(id) => Ok((id, self.inodes.get_mut(&id).ok_or_else(gone)?)),
            Node::Dir => Err(ErrorKind::IsADirectory.into()),
        }
    }
}

impl Naming {
    fn apply(self, names: &mut BTreeMap<PathBuf, Node>) {
        match self {
            Naming::Made(path, node) => {
                names.insert(path, node);
            }
            Naming::Renamed(from, to) => {
                if let Some(node) = names.remove(&from) {
                    names.insert(to, node);
                }
            }
            Naming::Removed(path) => names.retain(|it, _| !it.starts_with(&path)),
        }
    }
}

impl Inode {
    fn lose_power(&mut self, run: &mut Run) {
        for (at, bytes) in std::mem::take(&mut self.unsynced) {
            // All of it, nothing, or some of its sectors.
            let fate = run.below(3);
            let mut done = 0;
            while done < bytes.len() {
                let start = at + done;
                let end = (start / SECTOR + 1) * SECTOR;
                let count = (end - start).min(bytes.len() - done);
                if fate == 0 || (fate == 1 && run.below(2) == 0) {
                    put(&mut self.durable, start, &bytes[done..done + count]);
                }
                done += count;
            }
        }
        self.bytes = self.durable.clone();
    }
}

fn put(into: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if into.len() < at + bytes.len() {
        into.resize(at + bytes.len(), 0);
    }
    into[at..at + bytes.len()].copy_from_slice(bytes);
}

fn place(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

impl File {
    pub(crate) fn open(path: &Path, _: bool) -> io::Result<File> {
        with(|run| {
            let inode = run.drive(path)?.file(path)?.0;
            Ok(File { drive: root(path), inode })
        })
    }

    pub(crate) fn create(path: &Path) -> io::Result<File> {
        with(|run| {
            let drive = run.drive(path)?;
            let dir = path.parent().ok_or(ErrorKind::NotFound)?.to_owned();
            drive.find(&dir)?;
            if drive.is_full {
                return Err(ErrorKind::StorageFull.into());
            }
            // Truncated or new: another inode either way, as nothing here relies on the former.
            drive.last += 1;
            let inode = drive.last;
            drive.inodes.insert(inode, Inode::default());
            drive.name(&dir, Naming::Made(path.to_owned(), Node::File(inode)));
            Ok(File { drive: root(path), inode })
        })
    }

    fn on<T>(&self, look: impl FnOnce(&mut Drive, u64) -> io::Result<T>) -> io::Result<T> {
        with(|run| look(run.drive(&self.drive)?, self.inode))
    }

    fn inode<T>(&self, look: impl FnOnce(&mut Inode) -> io::Result<T>) -> io::Result<T> {
        self.on(|drive, id| look(drive.inodes.get_mut(&id).ok_or_else(gone)?))
    }

    pub(crate) fn length(&self) -> io::Result<u64> {
        self.inode(|it| Ok(it.bytes.len() as u64))
    }

    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        self.inode(|it| {
            let at = place(at);
            let end = at.saturating_add(buffer.len());
            let bytes = it.bytes.get(at..end).ok_or(ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(bytes);
            Ok(())
        })
    }

    pub(crate) fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.on(|drive, id| {
            let is_full = drive.is_full;
            let it = drive.inodes.get_mut(&id).ok_or_else(gone)?;
            let at = place(at);
            if is_full && at + bytes.len() > it.bytes.len() {
                return Err(ErrorKind::StorageFull.into());
            }
            put(&mut it.bytes, at, bytes);
            it.unsynced.push((at, bytes.to_vec()));
            Ok(())
        })
    }

    pub(crate) async fn sync_data(&self) -> io::Result<()> {
        let takes = with(|run| {
            let range = run.drive(&self.drive)?.sync.clone();
            Ok::<_, io::Error>(run.within(&range))
        })?;
        tokio::time::sleep(takes).await;
        if self.on(|drive, _| Ok(drive.lies))? { Ok(()) } else { self.sync_all() }
    }

    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.inode(|it| {
            for (at, bytes) in std::mem::take(&mut it.unsynced) {
                put(&mut it.durable, at, &bytes);
            }
            Ok(())
        })
    }
}

pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    with(|run| Ok(run.drive(path)?.file(path)?.1.bytes.clone()))
}

pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    with(|run| {
        let drive = run.drive(from)?;
        drive.find(from)?;
        let dir = to.parent().ok_or(ErrorKind::NotFound)?.to_owned();
        drive.name(&dir, Naming::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    })
}

fn remove(path: &Path) -> io::Result<()> {
    with(|run| {
        let drive = run.drive(path)?;
        drive.find(path)?;
        let dir = path.parent().ok_or(ErrorKind::NotFound)?.to_owned();
        drive.name(&dir, Naming::Removed(path.to_owned()));
        Ok(())
    })
}

pub(crate) fn remove_file(path: &Path) -> io::Result<()> {
    remove(path)
}

pub(crate) fn remove_dir_all(path: &Path) -> io::Result<()> {
    remove(path)
}

pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    with(|run| {
        let drive = run.drive(path)?;
        let dir = path.parent().ok_or(ErrorKind::NotFound)?.to_owned();
        drive.find(&dir)?;
        if drive.is_full {
            return Err(ErrorKind::StorageFull.into());
        }
        drive.name(&dir, Naming::Made(path.to_owned(), Node::Dir));
        Ok(())
    })
}

pub(crate) fn make_dirs(path: &Path) -> io::Result<()> {
    let missing: Vec<_> = path.ancestors().take_while(|it| !is_there(it)).collect();
    missing.into_iter().rev().try_for_each(make_dir)
}

pub(crate) fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    with(|run| {
        let drive = run.drive(path)?;
        drive.find(path)?;
        let names = drive.names.keys().filter(|it| it.parent() == Some(path));
        Ok(names.cloned().collect())
    })
}

pub(crate) fn is_there(path: &Path) -> bool {
    with(|run| run.drive(path).is_ok_and(|it| it.find(path).is_ok()))
}

pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    with(|run| {
        let drive = run.drive(path)?;
        drive.find(path)?;
        for change in drive.unsynced.remove(path).unwrap_or_default() {
            change.apply(&mut drive.durable);
        }
        Ok(())
    })
}
