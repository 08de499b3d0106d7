//! What a node says of itself to those who cannot look into its home: on its state page while it
//! lives, in its termination log when it has ended.

use serde::{Deserialize, Serialize};

use super::{Disk, Exit, Identity, Incarnation, MemberId};

/// How far a node has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It looks at its home and asks its peers.
    Preparing,
    /// It waits for the other founders.
    Barrier,
    /// Its engine runs.
    Running,
    /// It has ended; `exit` says how.
    Ended,
}

/// One node's word on itself. A field that is missing in what was read is not known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeWord {
    /// How far it has come.
    pub phase: Phase,
    /// The member it runs or was asked to run, once known.
    pub member: Option<MemberId>,
    /// How many MiB its process has read. As long as it grows, a start from much data gets on.
    #[serde(default)]
    pub read_mib: u64,
    /// The data directory was deleted under the running engine.
    #[serde(default)]
    pub data_gone: bool,
    /// What the running engine complains of without ending.
    pub complaint: Option<Exit>,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Whose place the stamp in its home says this is; `None` also if it cannot be read.
    pub stamp: Option<Identity>,
    /// The stamp's incarnation.
    pub incarnation: Option<Incarnation>,
    /// What its data directory holds, looked at once nothing ran there any more; `None` while
    /// something does, and where the node did not get as far as its lock.
    pub disk: Option<Disk>,
}

impl NodeWord {
    /// The longest line, in bytes: Kubernetes cuts a termination message after 4096.
    pub const LONGEST: usize = 4000;

    /// As one line of JSON with its end, of at most [`NodeWord::LONGEST`] bytes. Sentences for
    /// people are cut short for that, and end with an ellipsis then; nothing else is.
    pub fn to_line(&self) -> String {
        let mut line = self.json();
        let mut cap = NodeWord::LONGEST;
        while line.len() >= NodeWord::LONGEST && cap > 0 {
            cap /= 2;
            line = self.cut(cap).json();
        }
        line.push('\n');
        line
    }

    /// Reads such a line.
    ///
    /// # Errors
    ///
    /// If it is none, as when somebody else wrote it.
    pub fn from_line(line: &str) -> Result<NodeWord, serde_json::Error> {
        serde_json::from_str(line)
    }

    fn json(&self) -> String {
        // Strings, numbers and their like are always JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The same with each sentence of at most so many bytes and an ellipsis.
    fn cut(&self, cap: usize) -> NodeWord {
        let mut word = self.clone();
        for exit in [&mut word.complaint, &mut word.exit].into_iter().flatten() {
            cut(&mut exit.detail, cap);
        }
        if let Some(Disk::Unknown(text) | Disk::Foreign(text)) = &mut word.disk {
            cut(text, cap);
        }
        word
    }
}

fn cut(text: &mut String, cap: usize) {
    if text.len() > cap {
        text.truncate(text.floor_char_boundary(cap));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{ClusterId, ExitKind, FoundingId, Timestamp};

    fn identity() -> Identity {
        let founding = Some(FoundingId(0xf1));
        Identity { cluster: ClusterId(u64::MAX), member: MemberId(0xab), founding }
    }

    fn exit(detail: &str) -> Exit {
        let (kind, member) = (ExitKind::DataLost, Some(MemberId(u64::MAX)));
        Exit { kind, member, at: Timestamp(u64::MAX), detail: detail.to_owned() }
    }

    fn word() -> NodeWord {
        NodeWord {
            phase: Phase::Ended,
            member: Some(MemberId(0xab)),
            read_mib: 12,
            data_gone: true,
            complaint: None,
            exit: Some(exit("gone")),
            stamp: Some(identity()),
            incarnation: Some(Incarnation(7)),
            disk: None,
        }
    }

    #[test]
    fn every_word_reads_back() {
        let log = Identity { founding: None, ..identity() };
        let disks = [
            Disk::Unknown("no permission".to_owned()),
            Disk::Empty,
            Disk::Holds(identity()),
            Disk::Stale { log },
            Disk::Damaged { stamp: identity() },
            Disk::Foreign("\"a stranger's\"\n".to_owned()),
        ];
        for disk in disks.into_iter().map(Some).chain([None]) {
            let word = NodeWord { disk, complaint: Some(exit("peers")), ..word() };
            let line = word.to_line();
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(NodeWord::from_line(&line).unwrap(), word);
        }
        let least = NodeWord::from_line(r#"{"phase":"preparing"}"#).unwrap();
        let known = (least.phase, least.read_mib, least.data_gone, least.disk);
        assert_eq!(known, (Phase::Preparing, 0, false, None));
    }

    #[test]
    fn the_form_is_fixed_as_others_read_it() {
        let word = NodeWord { disk: Some(Disk::Holds(identity())), ..word() };
        assert_eq!(
            word.to_line(),
            concat!(
                r#"{"phase":"ended","member":"ab","readMib":12,"dataGone":true,"complaint":null,"#,
                r#""exit":{"kind":"DataLost","member":"ffffffffffffffff","at":18446744073709551615,"#,
                r#""detail":"gone"},"#,
                r#""stamp":{"cluster":"ffffffffffffffff","member":"ab","founding":"f1"},"#,
                r#""incarnation":"7","#,
                r#""disk":{"holds":{"cluster":"ffffffffffffffff","member":"ab","founding":"f1"}}}"#,
                "\n"
            )
        );
    }

    #[test]
    fn however_much_there_is_to_say_a_line_has_its_limit_and_stays_json() {
        for text in ["x", "é€😀", "\"", "\u{1}"] {
            let long = text.repeat(20_000);
            let words = [
                NodeWord { exit: Some(exit(&long)), ..word() },
                NodeWord {
                    exit: Some(exit(&long)),
                    complaint: Some(exit(&long)),
                    disk: Some(Disk::Unknown(long.clone())),
                    ..word()
                },
            ];
            for word in words {
                let line = word.to_line();
                assert!(line.len() <= NodeWord::LONGEST, "{}", line.len());
                assert!(line.len() > 1000, "too little is left: {line}");
                let read = NodeWord::from_line(&line).unwrap();
                let detail = read.exit.unwrap().detail;
                assert!(detail.ends_with('…') && long.starts_with(detail.trim_end_matches('…')));
            }
        }
        // What fits is not touched.
        let fits = "y".repeat(3000);
        let read = NodeWord::from_line(&NodeWord { exit: Some(exit(&fits)), ..word() }.to_line());
        assert_eq!(read.unwrap().exit.unwrap().detail, fits);
    }
}
