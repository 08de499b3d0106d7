//! What `up` did, by its own account: the lines that it prints, each with the time at which it came,
//! and the ledger in its record. Held against what was done to the nodes, which `up` is not told,
//! and against the rules of safety.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use quorate::cluster::LedgerKind;
use quorate::execute::local::home::ClusterFile;

use crate::place::{DWELL, Harm, Harmed};
use crate::support::wait::now;

/// What was done to a node has to have lasted this long before a step can be blamed for not knowing
/// of it: the step was decided on an observation, and came to us a little later.
const SETTLED: Duration = Duration::from_millis(2500);

/// One line of `up`, without its time.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) at: Instant,
    pub(crate) text: String,
}

/// Reads what every `up` of a directory prints, as it comes.
pub(crate) struct Journal {
    lines: Arc<Mutex<Vec<Line>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    pub(crate) fn follow(dir: &Path) -> Journal {
        let (lines, stop) = (Arc::<Mutex<Vec<Line>>>::default(), Arc::new(AtomicBool::new(false)));
        let (dir, to, ended) = (dir.to_owned(), Arc::clone(&lines), Arc::clone(&stop));
        let thread = spawn(move || {
            let mut read = BTreeMap::new();
            loop {
                // Once more after it was asked to stop.
                let is_last = ended.load(Ordering::Relaxed);
                let new = news(&dir, &mut read);
                to.lock().unwrap_or_else(PoisonError::into_inner).extend(new);
                if is_last {
                    return;
                }
                sleep(Duration::from_millis(20));
            }
        });
        Journal { lines, stop, thread: Some(thread) }
    }

    pub(crate) fn stop(mut self) -> Vec<Line> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the reader does not panic");
        }
        std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn news(dir: &Path, read: &mut BTreeMap<PathBuf, usize>) -> Vec<Line> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|it| it.path());
    let is_of_up = |it: &PathBuf| {
        let name = it.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("up-") && name.ends_with(".log")
    };
    let mut lines = Vec::new();
    for file in entries.filter(is_of_up) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let done = read.entry(file).or_default();
        let whole = text.rfind('\n').map_or(0, |it| it + 1);
        let new = text.get(*done..whole).unwrap_or_default();
        *done = whole.max(*done);
        // `HH:MM:SS`, and two blanks.
        let parts = new.lines().filter_map(|it| it.get(10..));
        lines.extend(parts.map(|it| Line { at: now(), text: it.to_owned() }));
    }
    lines
}

/// A step that was carried out, as its line tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step<'a> {
    Found,
    Start,
    Stop {
        node: &'a str,
        why: &'a str,
    },
    MoveLeader,
    Remove {
        node: &'a str,
        why: &'a str,
    },
    AddLearner {
        node: &'a str,
    },
    Promote {
        node: &'a str,
    },
    /// One that has no place in these rounds.
    Strange,
}

impl<'a> Step<'a> {
    fn of(line: &'a str) -> Option<Step<'a>> {
        let is_no_step = ["wait for ", "blocked: ", "failed: ", "ready: ", "done"];
        if line.contains(": not now, ") || is_no_step.iter().any(|it| line.starts_with(it)) {
            return None;
        }
        let why = || line.rsplit_once(" (").map_or("", |it| it.1).trim_end_matches(')');
        let word = |at: usize| line.split_whitespace().nth(at).unwrap_or_default();
        Some(match word(0) {
            "found" => Step::Found,
            "start" => Step::Start,
            "stop" => Step::Stop { node: word(1), why: why() },
            "move" if word(2) == "leadership" => Step::MoveLeader,
            "remove" if word(2) == "of" => Step::Remove { node: word(3), why: why() },
            "add" => Step::AddLearner { node: word(3) },
            "promote" => Step::Promote { node: word(3) },
            "remove" | "move" | "forget" => Step::Strange,
            _ => return None,
        })
    }
}

/// What came of a look at all steps of a round.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) steps: usize,
    pub(crate) replaced: usize,
    pub(crate) not_safe: Vec<String>,
}

/// Who votes, as the steps tell it.
struct Judge<'a> {
    harmed: &'a [Harmed],
    voters: BTreeSet<String>,
    learners: BTreeSet<String>,
    foundings: usize,
    /// Whose founding was given up before the cluster first served: stopped at its barrier.
    given_up: BTreeSet<String>,
    has_served: bool,
    /// An `up` was killed: it may have taken a step, and not said so.
    is_told_all: bool,
    judged: Judged,
}

/// Judges all steps of a round; `is_told_all` unless an `up` was killed in it.
pub(crate) fn judge(
    lines: &[Line],
    names: &[String],
    harmed: &[Harmed],
    record: &Path,
    is_told_all: bool,
) -> Judged {
    let voters = names.iter().cloned().collect();
    let mut judge = Judge {
        harmed,
        voters,
        learners: BTreeSet::new(),
        foundings: 0,
        given_up: BTreeSet::new(),
        has_served: false,
        is_told_all,
        judged: Judged::default(),
    };
    for line in lines {
        judge.has_served |= line.text.starts_with("ready: ");
        if let Some(step) = Step::of(&line.text) {
            judge.judged.steps += 1;
            judge.step(line, &step);
        }
    }
    judge.ledger(record);
    judge.judged
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

impl Judge<'_> {
    fn not_safe(&mut self, line: &Line, why: &str) {
        let (harmed, at) = (self.harmed, line.at);
        let since = |it: &Harmed| {
            let from = at.saturating_duration_since(it.from);
            let until = it.until.map(|until| at.saturating_duration_since(until));
            format!("{} {:?} {from:?} ago, over {until:?} ago", it.node, it.harm)
        };
        let harmed: Vec<_> = harmed.iter().map(since).collect();
        self.judged.not_safe.push(format!("{}: {why}; {}", line.text, harmed.join(", ")));
    }

    /// Surely neither hears nor says anything, and has not for a while.
    fn is_down(&self, node: &str, at: Instant) -> bool {
        let is_down = |it: &&Harmed| matches!(it.harm, Harm::Frozen | Harm::Isolated);
        self.harmed.iter().filter(is_down).any(|it| {
            // One that is frozen for longer than this, `up` kills by force; then it may run anew.
            let is_killed = it.harm == Harm::Frozen && it.from + DWELL < at;
            let is_over = it.until.is_some_and(|until| until <= at);
            it.node == node && it.from + SETTLED < at && !is_over && !is_killed
        })
    }

    /// Voters other than this one that are not surely down.
    fn healthy_beside(&self, node: &str, at: Instant) -> usize {
        self.voters.iter().filter(|it| *it != node && !self.is_down(it, at)).count()
    }

    fn step(&mut self, line: &Line, step: &Step<'_>) {
        match *step {
            Step::Found => {
                self.foundings += 1;
                // One that nobody can have passed is no founding.
                let is_void = self.given_up.is_superset(&self.voters);
                if self.foundings > 1 && !is_void {
                    self.not_safe(line, "founded before");
                }
            }
            Step::Start | Step::MoveLeader => {}
            Step::Stop { node, why: "its founding is given up" } if !self.has_served => {
                self.given_up.insert(node.to_owned());
            }
            Step::Stop { node, why } => {
                if self.healthy_beside(node, line.at) < quorum(self.voters.len()) {
                    self.not_safe(line, "the others are no quorum");
                }
                let is_fine = match why {
                    "silent, by force" => self.is_evidence(node, "Silent", line.at),
                    "its member is gone" => !self.voters.contains(node),
                    _ => false,
                };
                if !is_fine {
                    self.not_safe(line, "there is no reason to");
                }
            }
            Step::Remove { node, why } => {
                self.judged.replaced += 1;
                if !self.is_evidence(node, why, line.at) {
                    self.not_safe(line, "without evidence");
                }
                let remain = self.voters.iter().filter(|it| *it != node).count();
                if self.healthy_beside(node, line.at) < quorum(remain) {
                    self.not_safe(line, "the healthy that remain are no quorum");
                }
                if !self.voters.remove(node) && self.is_told_all {
                    self.not_safe(line, "it is no voter");
                }
            }
            Step::AddLearner { node } => {
                if self.voters.remove(node) && self.is_told_all {
                    self.not_safe(line, "it is a voter");
                }
                if !self.learners.insert(node.to_owned()) && self.is_told_all {
                    self.not_safe(line, "it is a learner");
                }
                if self.learners.len() > 1 {
                    self.not_safe(line, "a second learner");
                }
            }
            Step::Promote { node } => {
                if !self.learners.remove(node) && self.is_told_all {
                    self.not_safe(line, "it is no learner");
                }
                self.voters.insert(node.to_owned());
                if self.healthy_beside("", line.at) < quorum(self.voters.len()) {
                    self.not_safe(line, "the healthy and the learner are no quorum");
                }
            }
            Step::Strange => self.not_safe(line, "nothing in this round asks for it"),
        }
    }

    /// Whether what was done to the node can look like this.
    fn is_evidence(&self, node: &str, why: &str, at: Instant) -> bool {
        let begun = |it: &&Harmed| it.from <= at;
        let mut of_node = self.harmed.iter().filter(begun).filter(|it| it.node == node);
        let has_stepped = self.harmed.iter().filter(begun).any(|it| it.harm == Harm::Stepped);
        match why {
            "DataLost" | "DataGone" => of_node.any(|it| it.harm == Harm::Emptied),
            "DataDamaged" => of_node.any(|it| it.harm == Harm::Damaged),
            "Silent" => of_node.any(|it| {
                let is_silent = matches!(it.harm, Harm::Frozen | Harm::Isolated | Harm::Troubled);
                // It takes a moment to find its place again.
                let over = it.until.is_some_and(|until| until + DWELL < at);
                is_silent && !over && (has_stepped || at - it.from + SETTLED > DWELL)
            }),
            _ => false,
        }
    }

    /// What was written down before each removal, also of an `up` that did not live to say so.
    fn ledger(&mut self, record: &Path) {
        let text = fs::read_to_string(record).unwrap_or_default();
        let Ok(file) = serde_json::from_str::<ClusterFile>(&text) else {
            return self.judged.not_safe.push(format!("{} is no record", record.display()));
        };
        for entry in &file.record.ledger {
            let why = match entry.what {
                LedgerKind::Replaced(evidence) => format!("{evidence:?}"),
                LedgerKind::LearnerGaveUp => "the learner makes no progress".to_owned(),
            };
            if !self.is_evidence(&entry.node.0, &why, now()) && why != "Silent" {
                let text = format!("{entry:?} was written down without evidence");
                self.judged.not_safe.push(text);
            }
        }
        let founded = file.record.founding.is_some_and(|it| it.cluster.is_some());
        if !founded {
            self.judged.not_safe.push("the record tells of no founding".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: &[&str], harmed: &[(&str, Harm, u64, Option<u64>)]) -> Vec<String> {
        let begun = now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        // One line each ten seconds.
        let lines: Vec<_> = (1..)
            .zip(lines)
            .map(|(n, text)| Line { at: at(n * 10), text: (*text).to_owned() })
            .collect();
        let harmed: Vec<_> = harmed
            .iter()
            .map(|(node, harm, from, until)| Harmed {
                node: (*node).to_owned(),
                harm: *harm,
                from: at(*from),
                until: until.map(at),
            })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let record = dir.path().join("cluster.json");
        let names = ["a", "b", "c"].map(str::to_owned);
        let mut judged = judge(&lines, &names, &harmed, &record, true);
        // There is none here.
        judged.not_safe.pop();
        judged.not_safe
    }

    const STORY: [&str; 6] = [
        "found the cluster with a, b, c",
        "remove 17 of b (DataGone)",
        "stop b (its member is gone)",
        "add learner for b",
        "start b as existing, former data set aside",
        "promote 18 of b",
    ];

    #[test]
    fn a_replacement_on_evidence_is_safe() {
        assert_eq!(judged(&STORY, &[("b", Harm::Emptied, 15, None)]), [""; 0]);
        let story = ["stop c (silent, by force)", "remove 17 of c (Silent)"];
        assert_eq!(judged(&story, &[("c", Harm::Frozen, 1, Some(40))]), [""; 0]);
        assert_eq!(judged(&["remove 17 of b (DataLost): not now, for a reason"], &[]), [""; 0]);
    }

    #[test]
    fn a_removal_without_evidence_is_not() {
        assert_eq!(judged(&STORY, &[("a", Harm::Emptied, 15, None)]).len(), 1);
        assert_eq!(judged(&STORY, &[("b", Harm::Damaged, 15, None)]).len(), 1);
        assert_eq!(judged(&STORY, &[("b", Harm::Emptied, 25, None)]).len(), 1);
        // Frozen a second ago, or not for some time.
        let story = ["remove 17 of c (Silent)"];
        assert_eq!(judged(&story, &[("c", Harm::Frozen, 9, None)]).len(), 1);
        assert_eq!(judged(&story, &[("c", Harm::Frozen, 1, Some(4))]).len(), 1);
    }

    #[test]
    fn a_removal_or_promotion_that_may_cost_the_quorum_is_not() {
        let harmed = [("b", Harm::Emptied, 15, None), ("c", Harm::Frozen, 17, Some(30))];
        assert_eq!(judged(&STORY, &harmed).len(), 1);
        let harmed = [("b", Harm::Emptied, 15, None), ("c", Harm::Frozen, 57, None)];
        assert_eq!(judged(&STORY, &harmed).len(), 0, "two of three are healthy");
        let harmed = [
            ("b", Harm::Emptied, 15, None),
            ("c", Harm::Frozen, 57, None),
            ("a", Harm::Isolated, 55, None),
        ];
        assert_eq!(judged(&STORY, &harmed).len(), 1);
    }

    #[test]
    fn a_second_founding_or_learner_is_not() {
        let again = ["found the cluster with a, b, c", "found the cluster with a"];
        assert_eq!(judged(&again, &[]).len(), 1);
        let stop = ["a", "b", "c"].map(|it| format!("stop {it} (its founding is given up)"));
        let [a, b, c] = [0, 1, 2].map(|at: usize| stop[at].as_str());
        let found = "found the cluster with a, b, c";
        assert_eq!(judged(&[found, a, b, c, found, "ready: 3 of 3"], &[]), [""; 0]);
        assert_eq!(judged(&[found, a, b, found], &[]).len(), 1, "c may have passed");
        assert_eq!(judged(&[found, "ready: 3 of 3", a], &[]).len(), 1);
        assert_eq!(judged(&["add learner for b"], &[]).len(), 1);
        assert_eq!(judged(&["forget b, its data set aside"], &[]).len(), 1);
        assert_eq!(judged(&["stop a (to restart it)"], &[]).len(), 1);
    }
}
