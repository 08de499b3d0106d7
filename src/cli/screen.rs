//! What `up` shows: a live table on a terminal, plain lines elsewhere.
//!
//! On a terminal, events scroll by above a table that is drawn again in place. Elsewhere each
//! event is one line with its time, and nothing is ever drawn over.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stdout};
use std::path::Path;

use crossterm::cursor::MoveToPreviousLine;
use crossterm::terminal::{Clear, ClearType};
use crossterm::{QueueableCommand, terminal};

use super::view::{self, MemberView};
use crate::clock::Clock;
use crate::cluster::{ExitKind, Health, NodeName, Observed, Wanted};
use crate::execute::{Outcome, Turn};
use crate::plan::Step;

/// The view of one `up`.
#[derive(Debug)]
pub(super) struct Screen {
    live: bool,
    drawn: u16,
    table: Vec<String>,
    endpoints: String,
    last: String,
    spec_problem: Option<String>,
    announced: bool,
    /// How each node was last said to have ended.
    ends: BTreeMap<NodeName, (ExitKind, String)>,
}

impl Screen {
    /// Begins with one line on what is run and where.
    pub(super) fn new(wanted: &Wanted, home: &Path) -> Self {
        let mut screen = Screen {
            live: stdout().is_terminal(),
            drawn: 0,
            table: Vec::new(),
            endpoints: String::new(),
            last: String::new(),
            spec_problem: None,
            announced: false,
            ends: BTreeMap::new(),
        };
        screen.wanted(wanted);
        let nodes = wanted.nodes.len();
        let plural = if nodes == 1 { "node" } else { "nodes" };
        screen.event(&format!("{}: {nodes} {plural}, home {}", wanted.name, home.display()));
        screen
    }

    /// Takes note of a changed spec: readiness will be announced anew.
    pub(super) fn wanted(&mut self, wanted: &Wanted) {
        let urls: Vec<_> = wanted.nodes.values().filter_map(|n| n.client_urls.first()).collect();
        self.endpoints = urls.into_iter().map(String::as_str).collect::<Vec<_>>().join(",");
        self.announced = false;
    }

    /// Why the spec file is not followed at present.
    pub(super) fn spec_problem(&self) -> Option<&str> {
        self.spec_problem.as_deref()
    }

    /// Says that the file cannot be followed, once per reason; `None` when it can again.
    pub(super) fn spec_refused(&mut self, problem: Option<String>) {
        if let Some(text) = problem.as_ref().filter(|p| Some(*p) != self.spec_problem.as_ref()) {
            self.event(&format!("{text}; the last good spec stays in force"));
        }
        self.spec_problem = problem;
    }

    /// Shows a turn: an event for what was done, and the table.
    pub(super) fn turn(&mut self, wanted: &Wanted, turn: &Turn, members: &[MemberView]) {
        let table = view::table(members);
        let is_news = table != self.table;
        self.table = table;
        self.tell_ends(&turn.seen);
        match (&turn.step, &turn.outcome) {
            (Step::Done, _) => {
                if !self.announced {
                    self.announced = true;
                    self.event(&view::sentence(wanted, turn, members));
                    self.line(&format!("export ETCDCTL_ENDPOINTS={}", self.endpoints));
                }
                "done".clone_into(&mut self.last);
            }
            (step, Outcome::Done) => self.event_once(&step.to_string()),
            (step, Outcome::NotNow(why)) => self.event_once(&format!("{step}: not now, {why}")),
        }
        // After trouble, readiness is worth saying again.
        if !matches!(turn.step, Step::Done) {
            self.announced = false;
        }
        if is_news {
            self.draw();
        }
    }

    /// Says how a node ended, once per reason, whatever the step is about: the reason is what a
    /// person can do something about.
    fn tell_ends(&mut self, seen: &Observed) {
        for (name, node) in &seen.nodes {
            if matches!(node.health, Health::Answers { has_leader: true, .. }) {
                self.ends.remove(name);
            }
            let is_news = |kind| !matches!(kind, ExitKind::Clean | ExitKind::Removed);
            let Some(exit) = node.exit.as_ref().filter(|e| is_news(e.kind)) else {
                continue;
            };
            let end = (exit.kind, exit.detail.clone());
            if self.ends.get(name) != Some(&end) {
                self.event(&format!("{name} has ended ({}): {}", exit.kind, exit.detail));
                self.ends.insert(name.clone(), end);
            }
        }
    }

    /// One line about something that failed; the next turn tries again.
    pub(super) fn problem(&mut self, text: &str) {
        self.event_once(&format!("failed: {text}"));
    }

    /// One line with its time.
    pub(super) fn event(&mut self, text: &str) {
        self.line(&format!("{}  {text}", clock_text()));
    }

    /// The last line; the table stays as it was.
    pub(super) fn close(&mut self, text: &str) {
        self.table.clear();
        self.event(text);
    }

    fn event_once(&mut self, text: &str) {
        if self.last != text {
            text.clone_into(&mut self.last);
            self.event(text);
        }
    }

    fn line(&mut self, text: &str) {
        self.erase();
        let mut out = stdout().lock();
        // Nobody is left to tell when the terminal is gone; the members matter more.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        drop(out);
        self.draw();
    }

    fn erase(&mut self) {
        if !self.live || self.drawn == 0 {
            return;
        }
        let mut out = stdout().lock();
        let _ = out
            .queue(MoveToPreviousLine(self.drawn))
            .and_then(|out| out.queue(Clear(ClearType::FromCursorDown)))
            .map(|_| ());
        self.drawn = 0;
    }

    fn draw(&mut self) {
        if !self.live {
            return;
        }
        self.erase();
        // A terminal that does not know its size says 0.
        let width = terminal::size().map_or(80, |(columns, _)| usize::from(columns));
        let width = if width == 0 { 80 } else { width };
        let mut out = stdout().lock();
        for line in &self.table {
            let line: String = line.chars().take(width.saturating_sub(1)).collect();
            let _ = writeln!(out, "{line}");
        }
        self.drawn = u16::try_from(self.table.len()).unwrap_or(u16::MAX);
        let _ = out.flush();
    }
}

/// The time of day in UTC, `HH:MM:SS`.
fn clock_text() -> String {
    let seconds = Clock.now().0 / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
