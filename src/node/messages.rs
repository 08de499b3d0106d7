//! What an upstream etcd's last words mean.
//!
//! Measured on 3.4.23 with `--logger=zap`, whose lines are JSON. A row says from which minor
//! version on, and up to which, its text is said; most have not changed since 3.4. The last line
//! that means something counts; within a line, rows are asked in order.
//!
//! A running engine survives many an error, above all those of its peers, so most texts count
//! only in what an engine says as it ends: lines of level fatal or panic, and what Go itself
//! prints.

use crate::cluster::ExitKind;

/// A version of the engine: major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EngineVersion(pub u32, pub u32);

/// The oldest engine with learners.
pub const OLDEST: EngineVersion = EngineVersion(3, 4);

impl EngineVersion {
    /// Reads the first line of `etcd --version`, `etcd Version: 3.4.23`.
    pub fn parse(output: &str) -> Option<Self> {
        let version = output.lines().next()?.strip_prefix("etcd Version: ")?;
        let mut parts = version.trim().split('.');
        let mut number = || parts.next()?.parse().ok();
        Some(EngineVersion(number()?, number()?))
    }

    /// Flags every start of this version gets beside its configuration: the log to standard
    /// error as JSON, and the v2 API where it still is (the how-to's etcdctl speaks it).
    pub fn own_flags(self) -> &'static [&'static str] {
        if self == OLDEST {
            &["--logger=zap", "--log-outputs=stderr", "--enable-v2=true"]
        } else if self < EngineVersion(3, 6) {
            &["--log-outputs=stderr", "--enable-v2=true"]
        } else {
            &["--log-outputs=stderr"]
        }
    }
}

/// What it means, which versions say it, and texts that must all be found in one line.
struct Row(ExitKind, Said, &'static [&'static str]);

/// Which versions say a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// Every one from the oldest on.
    Ever,
    /// Up to this one.
    Until(EngineVersion),
    /// From this one on.
    Since(EngineVersion),
}

impl Said {
    fn by(self, version: EngineVersion) -> bool {
        match self {
            Said::Ever => true,
            Said::Until(last) => version <= last,
            Said::Since(first) => version >= first,
        }
    }
}

const V3_4: Said = Said::Until(EngineVersion(3, 4));
const V3_5: Said = Said::Since(EngineVersion(3, 5));
const V3_6: Said = Said::Since(EngineVersion(3, 6));

/// Texts that say as much at any level.
const ANYWHERE: &[Row] = &[
    Row(
        ExitKind::Removed,
        Said::Ever,
        &["the member has been permanently removed from the cluster"],
    ),
    Row(ExitKind::Removed, Said::Ever, &["data-dir used by this member must be removed"]),
    Row(ExitKind::BadConfig, Said::Ever, &["failed to verify flags"]),
    Row(ExitKind::BadConfig, V3_4, &["error verifying flags"]),
];

/// Texts that count only as last words.
const LAST: &[Row] = &[
    Row(ExitKind::DiskFull, Said::Ever, &["no space left on device"]),
    Row(ExitKind::DiskFull, Said::Ever, &["disk quota exceeded"]),
    Row(ExitKind::DataLost, Said::Ever, &["tocommit", "is out of range [lastIndex"]),
    Row(ExitKind::DataLost, Said::Ever, &["has already been bootstrapped"]),
    Row(ExitKind::MemberCountUnequal, Said::Ever, &["member count is unequal"]),
    Row(ExitKind::MemberCountUnequal, Said::Ever, &["no match found for existing member"]),
    Row(ExitKind::NoPeers, Said::Ever, &["cannot fetch cluster info from peer urls"]),
    Row(ExitKind::NameNotInCluster, Said::Ever, &["couldn't find local name"]),
    Row(ExitKind::AddressInUse, Said::Ever, &["address already in use"]),
    Row(ExitKind::AddressInUse, Said::Ever, &["cannot assign requested address"]),
    Row(ExitKind::Locked, Said::Ever, &["cannot lock", "file already locked"]),
    Row(ExitKind::BadConfig, Said::Ever, &["flag provided but not defined"]),
    Row(ExitKind::BadConfig, Said::Ever, &["invalid value", "for flag"]),
    Row(ExitKind::BadConfig, Said::Ever, &["permission denied"]),
    Row(ExitKind::BadConfig, Said::Ever, &["expected IP in URL for binding"]),
    Row(ExitKind::BadConfig, Said::Ever, &["should be at least"]),
    Row(ExitKind::BadConfig, Said::Ever, &["is not equal to", "initial-cluster"]),
    Row(ExitKind::BadConfig, Said::Ever, &["--initial-cluster", "must include"]),
    // An older engine on newer data: the data is good, the binary is not the one for it.
    Row(ExitKind::BadConfig, V3_4, &["cluster cannot be downgraded"]),
    Row(ExitKind::BadConfig, V3_5, &["invalid downgrade; server version is lower"]),
    Row(ExitKind::BadConfig, V3_6, &["disallowed", "v2store"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["crc mismatch"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["walpb"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["wal: file not found"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["wal: slice bounds out of range"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["wal: max entry size limit exceeded"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["wal: snapshot"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["failed to read WAL"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["failed to open WAL"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["failed to recover v3 backend from snapshot"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["failed to open database"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["failed to find database snapshot file"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["invalid database"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["unexpected EOF"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["proto:"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["snap:", "corrupt"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["page", "already freed"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["failed to get all log entries"]),
    Row(ExitKind::DataDamaged, Said::Ever, &["failed to handle corrupt"]),
    Row(ExitKind::Foreign, Said::Ever, &["cluster ID in the data dir"]),
];

/// A member that its peers refuse goes on running (etcd's own behaviour), so this is looked for
/// while it runs.
pub const CLUSTER_ID_MISMATCH: &str = "cluster ID mismatch";

/// An engine says this, again and again, while it holds too much to be unapplied for any proposal,
/// its own included. Both in one line.
pub const PROPOSES_NOTHING: [&str; 2] = ["failed to publish local member", "too many requests"];

/// An engine says this once it serves.
pub const READY: &str = "ready to serve client requests";

/// Finds the reason in the last words of an engine of this version that has ended: the text it was found in,
/// shortened, beside it.
pub fn classify(version: EngineVersion, words: &str) -> Option<(ExitKind, String)> {
    let mut found = None;
    let mut in_trace = false;
    for line in words.lines() {
        let speech = Speech::of(line, in_trace);
        in_trace = speech == Speech::Trace;
        let has = |row: &&Row| row.1.by(version) && row.2.iter().all(|text| line.contains(text));
        let row = match speech {
            Speech::Last => ANYWHERE.iter().chain(LAST).find(has),
            Speech::Passing => ANYWHERE.iter().find(has),
            Speech::Trace => None,
        };
        // Later words win, since what came before was survived; of words that say the same, the
        // first ones say it best.
        match (row, found) {
            (Some(row), Some((kind, _))) if row.0 == kind => {}
            (Some(row), _) => found = Some((row.0, line)),
            (None, _) => {}
        }
    }
    found.map(|(kind, line)| (kind, plain(line)))
}

/// How much a line weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    /// Said by an engine that goes on.
    Passing,
    /// Said by one that ends.
    Last,
    /// The stack of a panic: names of functions, not reasons.
    Trace,
}

impl Speech {
    fn of(line: &str, in_trace: bool) -> Speech {
        let fatal = ["\"level\":\"fatal\"", "\"level\":\"panic\"", "\"level\":\"dpanic\""];
        if line.starts_with('{') {
            let ends = fatal.iter().any(|mark| line.contains(mark));
            return if ends { Speech::Last } else { Speech::Passing };
        }
        if line.starts_with("panic:") || line.starts_with("fatal error:") {
            Speech::Last
        } else if in_trace || line.starts_with("goroutine ") {
            Speech::Trace
        } else {
            Speech::Last
        }
    }
}

/// What an engine said last, for a reason nobody knows.
pub fn last_words(words: &str) -> String {
    let is_reason = |line: &&str| {
        let marks = ["\"level\":\"fatal\"", "\"level\":\"panic\"", "\"level\":\"error\""];
        let marked = marks.iter().any(|mark| line.contains(mark));
        marked || line.starts_with("panic:") || line.starts_with("fatal error:")
    };
    let line = words.lines().rev().find(is_reason).or_else(|| words.lines().last());
    line.map_or_else(|| "it said nothing".to_owned(), plain)
}

/// A JSON line's message and error, or the line itself; at most 300 characters.
fn plain(line: &str) -> String {
    let text = match serde_json::from_str::<serde_json::Value>(line) {
        Ok(json) => {
            let part = |key: &str| json.get(key).and_then(|v| v.as_str()).map(str::to_owned);
            [part("msg"), part("error")].into_iter().flatten().collect::<Vec<_>>().join(": ")
        }
        Err(_) => line.trim().to_owned(),
    };
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_means_something_is_the_reason() {
        let words = concat!(
            "{\"level\":\"warn\",\"msg\":\"address already in use, trying again\"}\n",
            "{\"level\":\"panic\",\"msg\":\"tocommit(15) is out of range [lastIndex(0)]. Was the raft log corrupted, truncated, or lost?\"}\n",
            "goroutine 1 [running]:\n",
        );
        let (kind, text) = classify(OLDEST, words).unwrap();
        assert_eq!(kind, ExitKind::DataLost);
        assert!(text.starts_with("tocommit(15)"), "{text}");
        assert!(
            classify(OLDEST, "{\"level\":\"info\",\"msg\":\"closed etcd server\"}\n").is_none()
        );
    }

    #[test]
    fn what_a_running_engine_survives_and_what_a_stack_names_is_no_reason() {
        let words = concat!(
            "{\"level\":\"warn\",\"msg\":\"lost TCP streaming connection\",\"error\":\"unexpected EOF\"}\n",
            "{\"level\":\"panic\",\"msg\":\"odd\"}\n",
            "panic: odd\n\n",
            "goroutine 1 [running]:\n",
            "go.etcd.io/etcd/wal/walpb.(*Record).Unmarshal(0x0)\n",
        );
        assert!(classify(OLDEST, words).is_none());
        assert_eq!(last_words(words), "panic: odd");
        let removed = "{\"level\":\"warn\",\"msg\":\"server error\",\"error\":\"the member has been permanently removed from the cluster\"}\n";
        assert_eq!(classify(OLDEST, removed).unwrap().0, ExitKind::Removed);
    }

    #[test]
    fn a_text_counts_only_from_a_version_that_says_it() {
        let words = "{\"level\":\"fatal\",\"msg\":\"invalid downgrade; server version is lower than determined cluster version\"}\n";
        assert!(classify(OLDEST, words).is_none());
        let newer = classify(EngineVersion(3, 6), words).unwrap();
        assert_eq!(newer.0, ExitKind::BadConfig);
    }

    #[test]
    fn versions_are_read_as_etcd_prints_them() {
        let output = "etcd Version: 3.4.23\nGit SHA: x\n";
        assert_eq!(EngineVersion::parse(output), Some(EngineVersion(3, 4)));
        assert!(EngineVersion(3, 3) < OLDEST && EngineVersion(3, 10) > EngineVersion(3, 6));
        assert_eq!(EngineVersion::parse("bash 5"), None);
    }
}
