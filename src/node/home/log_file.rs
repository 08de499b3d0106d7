//! The log of a node and its engine, which is never longer than [`LIMIT`] for long.
//!
//! Several processes append to it, and an upstream engine outlives the one that looks after it: it
//! can neither be given a pipe nor be told to open another file. So the file stays the same. When it
//! is too long, its end is copied to `log.1`, in the place of what was there, and it is emptied;
//! whoever appends goes on at its new end. What is said between the copy and that is lost, a line or
//! two.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A longer log is cut; `log.1` has at most as much. In bytes.
pub const LIMIT: u64 = 16 << 20;
/// What may be said while the end is copied.
const MEANWHILE: u64 = 1 << 20;

/// A log as one process looks after it.
///
/// Its positions count from where the log began when that process did, and go on through every cut,
/// so that whoever reads on from one notices none.
#[derive(Clone, Debug)]
pub struct LogFile {
    path: PathBuf,
    limit: u64,
    /// The position at which the file now begins.
    begin: u64,
    /// How much before that `log.1` has.
    kept: u64,
}

impl LogFile {
    /// Names a log; touches nothing.
    pub fn new(path: PathBuf) -> Self {
        LogFile { path, limit: LIMIT, begin: 0, kept: 0 }
    }

    /// Where what was cut off lies.
    pub fn previous(&self) -> PathBuf {
        self.path.with_extension("1")
    }

    /// Where the log ends now.
    pub fn end(&self) -> u64 {
        self.begin.saturating_add(length(&self.path))
    }

    /// Whether it has to be cut. One that is not there never has: the node logs elsewhere.
    pub fn is_too_long(&self) -> bool {
        length(&self.path) > self.limit
    }

    /// Keeps the end of it and empties it.
    ///
    /// # Errors
    ///
    /// The end could not be kept (the disk may be full, and then needs the room all the more), or,
    /// worse, the log not be emptied.
    pub fn cut(&mut self) -> io::Result<()> {
        let log = OpenOptions::new().read(true).write(true).open(&self.path)?;
        let kept = self.keep_end(&log);
        let length = log.metadata()?.len();
        log.set_len(0)?;
        // Where it ended is known from the copy; without one, this is close.
        let (end, kept_length) = kept.as_ref().map_or((length, 0), |it| *it);
        self.begin += end;
        self.kept = kept_length;
        kept.map(|_| ())
    }

    /// Copies the last whole lines to `log.1`: up to where, and how much.
    fn keep_end(&self, log: &File) -> io::Result<(u64, u64)> {
        let previous = self.previous();
        let length = log.metadata()?.len();
        let start = length.saturating_sub(self.limit);
        let copy = || {
            // First of all: what it takes may be what the copy needs.
            match fs::remove_file(&previous) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut from = log;
            from.seek(SeekFrom::Start(start))?;
            let mut from = BufReader::new(from.take(self.limit + MEANWHILE));
            let torn = if start == 0 { 0 } else { from.read_until(b'\n', &mut Vec::new())? };
            let mut to = OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&previous)?;
            let kept = io::copy(&mut from, &mut to)?;
            Ok((start + torn as u64 + kept, kept))
        };
        copy().inspect_err(|_| {
            // Half of it only takes room.
            let _ = fs::remove_file(&previous);
        })
    }

    /// At most so much from this position on, or from the first after it that is still there: where
    /// that is, and what is there.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub fn read(&self, from: u64, most: u64) -> io::Result<(u64, Vec<u8>)> {
        let from = from.max(self.begin - self.kept);
        let mut bytes = Vec::new();
        if let Some(back) = self.begin.checked_sub(from).filter(|it| *it > 0) {
            let mut previous = File::open(self.previous())?;
            previous.seek(SeekFrom::Start(self.kept - back))?;
            previous.take(most).read_to_end(&mut bytes)?;
        }
        let mut log = File::open(&self.path)?;
        log.seek(SeekFrom::Start(from.saturating_sub(self.begin)))?;
        log.take(most - bytes.len() as u64).read_to_end(&mut bytes)?;
        Ok((from, bytes))
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map_or(0, |it| it.len())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn log(limit: u64) -> (tempfile::TempDir, LogFile, File) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("log");
        let writer = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        (root, LogFile { limit, ..LogFile::new(path) }, writer)
    }

    #[test]
    fn one_who_reads_on_misses_nothing_that_a_cut_leaves_and_both_files_stay_short() {
        let (_root, mut log, mut writer) = log(1000);
        let (mut at, mut heard) = (0, String::new());
        let mut said = String::new();
        for line in 0..1000 {
            let line = format!("line {line}\n");
            writer.write_all(line.as_bytes()).unwrap();
            said.push_str(&line);
            if log.is_too_long() {
                log.cut().unwrap();
            }
            assert!(length(&log.path) <= 1000 && length(&log.previous()) <= 1010);
            assert_eq!(log.end(), said.len() as u64);
            // Not at each line, so that a cut is in between, and two pieces at a time.
            if said.len().is_multiple_of(7) {
                for most in [30, u64::MAX] {
                    let (from, bytes) = log.read(at, most).unwrap();
                    assert_eq!(from, at, "nothing is missed");
                    at += bytes.len() as u64;
                    heard.push_str(std::str::from_utf8(&bytes).unwrap());
                }
            }
        }
        assert!(length(&log.previous()) > 900 && said.starts_with(&heard) && heard.len() > 5000);
    }

    #[test]
    fn of_one_that_grew_unwatched_only_the_last_whole_lines_are_kept() {
        let (_root, mut log, mut writer) = log(100);
        writer.write_all("0123456789\n".repeat(1000).as_bytes()).unwrap();
        log.cut().unwrap();
        assert_eq!(fs::read_to_string(log.previous()).unwrap(), "0123456789\n".repeat(9));
        assert_eq!((length(&log.path), log.end()), (0, 11_000));
        writer.write_all(b"new\n").unwrap();
        // From what is there no more on: from what is.
        let (from, bytes) = log.read(5, u64::MAX).unwrap();
        assert_eq!((from, bytes.len()), (11_000 - 99, 99 + 4));
        assert_eq!(log.read(11_000, 10).unwrap(), (11_000, b"new\n".to_vec()));
    }

    #[test]
    fn where_the_end_cannot_be_kept_it_is_emptied_all_the_same() {
        let (_root, mut log, mut writer) = log(100);
        fs::create_dir(log.previous()).unwrap();
        writer.write_all(&[b'x'; 300]).unwrap();
        log.cut().unwrap_err();
        writer.write_all(b"new\n").unwrap();
        assert_eq!((length(&log.path), log.end()), (4, 304));
        assert_eq!(log.read(0, u64::MAX).unwrap(), (300, b"new\n".to_vec()));
    }

    #[test]
    fn a_log_that_is_not_there_or_no_file_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        assert!(!LogFile::new(root.path().join("log")).is_too_long());
        let dir = LogFile { limit: 0, ..LogFile::new(root.path().to_owned()) };
        assert!(!dir.is_too_long());
    }
}
