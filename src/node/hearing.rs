//! What an engine says while it runs: whether it serves yet, and what it keeps complaining of.
//!
//! A member whose peers refuse it does not end; without this nobody would say why it never
//! becomes ready.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use super::home::NodeHome;
use super::messages::{CLUSTER_ID_MISMATCH, READY};

/// At most this much is read at a time.
const AT_ONCE: u64 = 1 << 20;
/// A refusal heard this often is no accident.
const OFTEN: u32 = 2;

/// Listens to an engine's log until the engine serves.
#[derive(Debug)]
pub struct Hearing {
    log: PathBuf,
    at: u64,
    serves: bool,
    refused: u32,
}

impl Hearing {
    /// Listens from this byte of the log on.
    pub fn new(home: &NodeHome, from: u64) -> Self {
        Hearing { log: home.log(), at: from, serves: false, refused: 0 }
    }

    /// Hears what was said since the last time; what the engine complains of, if anything.
    pub fn complaint(&mut self) -> Option<&'static str> {
        if !self.serves {
            // What cannot be heard now is heard the next time.
            let said = self.said().unwrap_or_default();
            self.serves = said.contains(READY);
            let refused = said.lines().filter(|line| line.contains(CLUSTER_ID_MISMATCH)).count();
            self.refused = self.refused.saturating_add(u32::try_from(refused).unwrap_or(u32::MAX));
        }
        let complains = !self.serves && self.refused >= OFTEN;
        complains.then_some("its peers refuse it: they belong to another cluster")
    }

    /// Whole lines only, so that no text is cut in two.
    fn said(&mut self) -> io::Result<String> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.at))?;
        let mut bytes = Vec::new();
        file.take(AT_ONCE).read_to_end(&mut bytes)?;
        let end = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => last + 1,
            // A line longer than this is not waited for.
            None if bytes.len() as u64 == AT_ONCE => bytes.len(),
            None => 0,
        };
        bytes.truncate(end);
        self.at += end as u64;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_refusal_counts_when_it_is_repeated_and_no_longer_once_the_engine_serves() {
        let root = tempfile::tempdir().unwrap();
        let home = NodeHome::new(root.path());
        let mut log = File::create(home.log()).unwrap();
        let mut hearing = Hearing::new(&home, 0);
        let refusal = b"{\"msg\":\"request cluster ID mismatch\"}\n";
        log.write_all(refusal).unwrap();
        assert_eq!(hearing.complaint(), None);
        // A line is heard once it is whole.
        log.write_all(&refusal[..20]).unwrap();
        assert_eq!(hearing.complaint(), None);
        log.write_all(&refusal[20..]).unwrap();
        assert!(hearing.complaint().is_some());
        log.write_all(b"{\"msg\":\"ready to serve client requests\"}\n").unwrap();
        assert_eq!(hearing.complaint(), None);
    }
}
