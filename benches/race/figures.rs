//! The table: what each figure is, the goals, medians and ratios.

use std::collections::BTreeMap;

use crate::engine::Engine;
use crate::measure::{median, short};
use crate::parts::Settings;

/// Which way a figure is better.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Better {
    Higher,
    Lower,
}
use Better::{Higher, Lower};

/// What our engine has to reach.
#[derive(Clone, Copy)]
enum Goal {
    None,
    /// This ratio to an etcd before 3.5, and to a newer one.
    Ratio(f64, f64),
    /// To stay below this, whatever etcd does.
    Below(f64),
}

/// One line of the table.
struct Line {
    id: &'static str,
    what: &'static str,
    unit: &'static str,
    better: Better,
    goal: Goal,
}

const fn line(
    id: &'static str,
    what: &'static str,
    unit: &'static str,
    better: Better,
    goal: Goal,
) -> Line {
    Line { id, what, unit, better, goal }
}

/// Where no newer etcd has a bar of its own, any ratio does.
const ANY: f64 = f64::INFINITY;

const LINES: &[Line] = &[
    line("put-1", "put 256 B, 1 client", "/s", Higher, Goal::Ratio(1.2, 1.2)),
    line("put-1-p99", "  p99", "ms", Lower, Goal::None),
    line("put-100", "put 256 B, 100 clients", "/s", Higher, Goal::Ratio(2.0, 2.0)),
    line("put-100-p99", "  p99", "ms", Lower, Goal::Ratio(0.5, 0.5)),
    line("put-1000", "put 256 B, 1,000 clients", "/s", Higher, Goal::Ratio(1.8, 1.8)),
    line("put-1000-p99", "  p99", "ms", Lower, Goal::None),
    line("get-1", "linearizable get, 1 client", "/s", Higher, Goal::Ratio(1.2, 1.5)),
    line("get-1-p99", "  p99", "ms", Lower, Goal::None),
    line("get-100", "linearizable get, 100 clients", "/s", Higher, Goal::Ratio(2.5, 1.5)),
    line("get-100-p99", "  p99", "ms", Lower, Goal::None),
    line("local-get-100", "serializable get, 100 clients", "/s", Higher, Goal::Ratio(3.0, 1.5)),
    line("local-get-100-p99", "  p99", "ms", Lower, Goal::None),
    line("watch-1000", "watch, last of 1,000: p50", "ms", Lower, Goal::Ratio(1.0, ANY)),
    line("watch-1000-p99", "  p99", "ms", Lower, Goal::None),
    line("memory", "RSS with the keys, largest member", "MiB", Lower, Goal::Ratio(0.5, 0.95)),
    line("restart", "restart of all to ready with them", "s", Lower, Goal::Ratio(0.3, 0.5)),
    line("lost-disk", "deleted data dir to three voters", "s", Lower, Goal::Below(6.0)),
    line("failover", "leader kill -9 to the next write", "s", Lower, Goal::Ratio(0.7, ANY)),
    line("up-3", "up to three ready voters", "s", Lower, Goal::Below(1.5)),
    line("up-7", "up to seven ready voters", "s", Lower, Goal::Below(3.0)),
    line("idle", "idle, all processes, of one core", "%", Lower, Goal::Below(3.0)),
];

/// The figures of one engine, by round.
type Side = BTreeMap<usize, Vec<f64>>;

/// Every single figure: by its name, by engine, by round.
#[derive(Default)]
pub(crate) struct Race(BTreeMap<&'static str, BTreeMap<usize, Side>>);

impl Race {
    pub(crate) fn note(&mut self, id: &'static str, side: usize, pair: usize, value: f64) {
        assert!(LINES.iter().any(|line| line.id == id), "{id} has no line in the table");
        self.0.entry(id).or_default().entry(side).or_default().entry(pair).or_default().push(value);
    }

    /// Prints a table for each baseline; false if our engine, the last, missed a goal.
    pub(crate) fn print(&self, engines: &[Engine], settings: &Settings) -> bool {
        let baselines = 0..engines.len() - 1;
        // Not `all`: each table is to be printed.
        baselines.filter(|at| !self.print_one(*at, engines, settings)).count() == 0
    }

    fn print_one(&self, at: usize, engines: &[Engine], settings: &Settings) -> bool {
        let (a, b) = (&engines[at], &engines[engines.len() - 1]);
        println!(
            "\n{:34} {:>4} {:>4} {:>9} {:>19} {:>9} {:>19} {:>6} {:>13} {:>5}  goal",
            a.title(),
            "conn",
            "",
            a.side,
            "least-most",
            b.side,
            "least-most",
            format!("{}/{}", b.side, a.side),
            "of rounds",
            "n"
        );
        let mut reached = true;
        for line in LINES {
            let Some(sides) = self.0.get(line.id) else { continue };
            let (Some(first), Some(second)) = (sides.get(&at), sides.get(&(engines.len() - 1)))
            else {
                println!("{:34} {:>4} not measured on both", line.what, line.unit);
                continue;
            };
            let (all, ratio) = ((Spread::of(first), Spread::of(second)), Ratio::of(first, second));
            let ((Some(first), Some(second)), Some(ratio)) = (all, ratio) else { continue };
            let (goal, is_met) = line.judge(a.is_new(), ratio.of_medians, second.median);
            let verdict = match (b.is_ours(), is_met) {
                (false, _) | (_, None) => "",
                (true, Some(true)) => "reached",
                (true, Some(false)) => {
                    reached = false;
                    "MISSED"
                }
            };
            println!(
                "{:34} {:>4} {:>4} {} {} {:>6.2} {:>13} {:>5}  {goal} {verdict}",
                line.what,
                line.connections(settings.connections),
                line.unit,
                first.text(),
                second.text(),
                ratio.of_medians,
                span(&ratio.of_rounds),
                second.count
            );
        }
        reached
    }

    /// How many times better the last engine is than each baseline, line by line.
    pub(crate) fn series(&self, engines: &[Engine]) -> Vec<Series> {
        let last = engines.len() - 1;
        let mut name = "";
        let mut all: Vec<_> =
            engines[..last].iter().map(|it| Series { title: it.title(), points: vec![] }).collect();
        for line in LINES {
            let is_tail = line.what.starts_with(' ');
            name = if is_tail { name } else { line.what.trim_end_matches(": p50") };
            let Some(sides) = self.0.get(line.id) else { continue };
            for (at, series) in all.iter_mut().enumerate() {
                let both = sides.get(&at).zip(sides.get(&last));
                let Some(ratio) = both.and_then(|(a, b)| Ratio::of(a, b)) else { continue };
                let better = |it: f64| if line.better == Higher { it } else { 1.0 / it };
                series.points.push(Point {
                    what: if is_tail { format!("{name}: p99") } else { line.what.to_owned() },
                    times: better(ratio.of_medians),
                    rounds: ratio.of_rounds.iter().copied().map(better).collect(),
                });
            }
        }
        all
    }

    /// Every figure, for whoever wants to look closer.
    pub(crate) fn json(&self, engines: &[Engine], settings: &Settings) -> String {
        let all = |side: &Side| side.values().cloned().collect::<Vec<_>>();
        let figures: BTreeMap<_, _> = self
            .0
            .iter()
            .map(|(id, sides)| (*id, sides.values().map(all).collect::<Vec<_>>()))
            .collect();
        let value = serde_json::json!({
            "engines": engines.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "settings": settings.to_string(),
            "figures": figures,
        });
        format!("{value:#}\n")
    }
}

/// How many times better than a baseline, for a picture.
pub(crate) struct Series {
    pub(crate) title: String,
    pub(crate) points: Vec<Point>,
}

/// One line of the table in it.
pub(crate) struct Point {
    pub(crate) what: String,
    pub(crate) times: f64,
    pub(crate) rounds: Vec<f64>,
}

/// One engine's figure in another's.
struct Ratio {
    of_medians: f64,
    of_rounds: Vec<f64>,
}

impl Ratio {
    fn of(first: &Side, second: &Side) -> Option<Ratio> {
        let of_medians = Spread::of(second)?.median / Spread::of(first)?.median;
        let of_rounds = first
            .iter()
            .filter_map(|(round, values)| Some(median(second.get(round)?)? / median(values)?))
            .collect();
        Some(Ratio { of_medians, of_rounds })
    }
}

impl Line {
    /// How many connections the clients of a load had; nothing for what is no load.
    fn connections(&self, most: usize) -> String {
        let mut words = self.id.trim_start_matches("local-").split('-');
        let is_load = words.next().is_some_and(|it| matches!(it, "put" | "get" | "watch"));
        let clients = words.next().and_then(|it| it.parse().ok()).filter(|_| is_load);
        clients.map_or_else(String::new, |clients: usize| most.min(clients).to_string())
    }

    /// The goal in words, and whether it is met; `None` without one.
    fn judge(&self, is_new: bool, ratio: f64, median: f64) -> (String, Option<bool>) {
        match (self.goal, self.better) {
            (Goal::None, _) => ("-".to_owned(), None),
            (Goal::Below(most), _) => (format!("< {most} {}", self.unit), Some(median < most)),
            (Goal::Ratio(old, new), better) => {
                let goal = if is_new { new } else { old };
                match better {
                    _ if goal.is_infinite() => ("-".to_owned(), None),
                    Higher => (format!(">= {goal} x"), Some(ratio >= goal)),
                    Lower => (format!("<= {goal} x"), Some(ratio <= goal)),
                }
            }
        }
    }
}

/// Median and ends of some figures.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
    count: usize,
}

impl Spread {
    fn of(side: &Side) -> Option<Spread> {
        let all: Vec<f64> = side.values().flatten().copied().collect();
        Some(Spread {
            median: median(&all)?,
            least: all.iter().copied().min_by(f64::total_cmp)?,
            most: all.iter().copied().max_by(f64::total_cmp)?,
            count: all.len(),
        })
    }

    fn text(&self) -> String {
        format!("{:>9} {:>19}", short(self.median), span(&[self.least, self.most]))
    }
}

fn span(values: &[f64]) -> String {
    let least = values.iter().copied().min_by(f64::total_cmp);
    let most = values.iter().copied().max_by(f64::total_cmp);
    least.zip(most).map_or_else(String::new, |(a, b)| format!("{}-{}", short(a), short(b)))
}
