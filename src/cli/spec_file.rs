//! Follows the spec file while `up` runs.

use std::path::{Path, PathBuf};

use crate::cluster::Timestamp;

/// A changed file must read the same for this long before it is believed: an editor may still
/// be writing it, and half a node list can be valid YAML.
const SETTLED_MS: u64 = 500;

/// What became of the file since the last look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing, or not for long enough yet.
    None,
    /// It cannot be read any more.
    Vanished(String),
    /// It has new content, settled.
    Bytes(Vec<u8>),
}

/// The file, and what was last read of it.
#[derive(Debug)]
pub(super) struct SpecFile {
    path: PathBuf,
    /// The content, or the problem, that was last handed out.
    known: Result<Vec<u8>, String>,
    /// Another content or problem seen since, and when first.
    fresh: Option<(Result<Vec<u8>, String>, Timestamp)>,
}

impl SpecFile {
    /// Starts from the content that is in force.
    pub(super) fn new(path: &Path, bytes: Vec<u8>) -> Self {
        SpecFile { path: path.to_owned(), known: Ok(bytes), fresh: None }
    }

    /// Looks again.
    pub(super) fn poll(&mut self, now: Timestamp) -> Change {
        let read = std::fs::read(&self.path)
            .map_err(|e| format!("{}: cannot be read ({e})", self.path.display()));
        self.consider(read, now)
    }

    /// Has the content that was handed out last told once more, as nothing could be done with it.
    pub(super) fn tell_again(&mut self) {
        self.known = Err(String::new());
    }

    fn consider(&mut self, read: Result<Vec<u8>, String>, now: Timestamp) -> Change {
        if read == self.known {
            self.fresh = None;
            return Change::None;
        }
        match &self.fresh {
            Some((seen, since)) if *seen == read => {
                if now.since(*since) < SETTLED_MS {
                    return Change::None;
                }
            }
            _ => {
                self.fresh = Some((read, now));
                return Change::None;
            }
        }
        self.fresh = None;
        self.known.clone_from(&read);
        match read {
            Ok(bytes) => Change::Bytes(bytes),
            Err(problem) => Change::Vanished(problem),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_believed_once_it_has_settled_and_each_content_is_told_once() {
        let path = PathBuf::from("cluster.yaml");
        let mut file = SpecFile { path, known: Ok(b"three".to_vec()), fresh: None };
        let mut look = |text: &str, at| file.consider(Ok(text.as_bytes().to_vec()), Timestamp(at));
        assert_eq!(look("three", 0), Change::None);
        assert_eq!(look("", 100), Change::None, "truncated by an editor");
        assert_eq!(look("thr", 400), Change::None, "still being written");
        assert_eq!(look("five", 700), Change::None);
        assert_eq!(look("five", 1100), Change::None);
        assert_eq!(look("five", 1200), Change::Bytes(b"five".to_vec()));
        assert_eq!(look("five", 9000), Change::None);
    }
}
