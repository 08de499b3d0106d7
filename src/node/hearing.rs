//! What an engine says while it runs: whether it serves yet, and what it keeps complaining of.
//!
//! A member whose peers refuse it does not end; without this nobody would say why it never
//! becomes ready.

use std::io;

use super::home::LogFile;
use super::messages::{CLUSTER_ID_MISMATCH, PROPOSES_NOTHING, READY};

/// At most this much is read at a time.
const AT_ONCE: u64 = 1 << 20;
/// A refusal heard this often is no accident.
const OFTEN: u32 = 2;

/// Listens to an engine's log until the engine serves.
#[derive(Debug)]
pub struct Hearing {
    at: u64,
    serves: bool,
    refused: u32,
    waits: bool,
}

impl Hearing {
    /// Listens from this byte of the log on.
    pub fn new(from: u64) -> Self {
        Hearing { at: from, serves: false, refused: 0, waits: false }
    }

    /// Hears what was said since the last time; what the engine complains of, if anything.
    pub fn complaint(&mut self, log: &LogFile) -> Option<&'static str> {
        self.waits = false;
        if !self.serves {
            // What cannot be heard now is heard the next time.
            let said = self.said(log).unwrap_or_default();
            self.serves = said.contains(READY);
            let refused = said.lines().filter(|line| line.contains(CLUSTER_ID_MISMATCH)).count();
            self.refused = self.refused.saturating_add(u32::try_from(refused).unwrap_or(u32::MAX));
            let has_all = |line: &str| PROPOSES_NOTHING.iter().all(|text| line.contains(text));
            self.waits = !self.serves && said.lines().any(has_all);
        }
        let complains = !self.serves && self.refused >= OFTEN;
        complains.then_some("its peers refuse it: they belong to another cluster")
    }

    /// Whether it said, when it was last heard, that it refuses its own proposal.
    pub fn waits_for_an_entry(&self) -> bool {
        self.waits
    }

    /// Whole lines only, so that no text is cut in two.
    fn said(&mut self, log: &LogFile) -> io::Result<String> {
        let (at, mut bytes) = log.read(self.at, AT_ONCE)?;
        let end = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => last + 1,
            // A line longer than this is not waited for.
            None if bytes.len() as u64 == AT_ONCE => bytes.len(),
            None => 0,
        };
        bytes.truncate(end);
        self.at = at + end as u64;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::super::home::NodeHome;
    use super::*;

    #[test]
    fn a_refusal_counts_when_it_is_repeated_and_no_longer_once_the_engine_serves() {
        let root = tempfile::tempdir().unwrap();
        let home = NodeHome::new(root.path());
        let mut log = File::create(home.log()).unwrap();
        let read = LogFile::new(home.log());
        let mut hearing = Hearing::new(0);
        let refusal = b"{\"msg\":\"request cluster ID mismatch\"}\n";
        log.write_all(refusal).unwrap();
        assert_eq!(hearing.complaint(&read), None);
        // A line is heard once it is whole.
        log.write_all(&refusal[..20]).unwrap();
        assert_eq!(hearing.complaint(&read), None);
        log.write_all(&refusal[20..]).unwrap();
        assert!(hearing.complaint(&read).is_some());
        log.write_all(b"{\"msg\":\"ready to serve client requests\"}\n").unwrap();
        assert_eq!(hearing.complaint(&read), None);
    }

    #[test]
    fn an_engine_that_refuses_its_own_proposal_is_heard_until_it_serves() {
        let root = tempfile::tempdir().unwrap();
        let home = NodeHome::new(root.path());
        let mut log = File::create(home.log()).unwrap();
        let read = LogFile::new(home.log());
        let mut hearing = Hearing::new(0);
        let mut waits_after = |error: &str, ends: &str| {
            let msg = "failed to publish local member to cluster through raft";
            let line = format!("{{\"msg\":\"{msg}\",\"error\":\"etcdserver: {error}\"}}\n{ends}");
            log.write_all(line.as_bytes()).unwrap();
            assert_eq!(hearing.complaint(&read), None);
            hearing.waits_for_an_entry()
        };
        assert!(!waits_after("request timed out", ""));
        assert!(waits_after("too many requests", "") && waits_after("too many requests", ""));
        assert!(!waits_after("request timed out", ""), "it does not say so any more");
        assert!(!waits_after("too many requests", "ready to serve client requests\n"));
        assert!(!waits_after("too many requests", ""), "nobody listens any more");
    }
}
