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

/// Every single figure: by its name, by side (A, B), by pair.
#[derive(Default)]
pub(crate) struct Race(BTreeMap<&'static str, [BTreeMap<usize, Vec<f64>>; 2]>);

impl Race {
    pub(crate) fn note(&mut self, id: &'static str, side: usize, pair: usize, value: f64) {
        assert!(LINES.iter().any(|line| line.id == id), "{id} has no line in the table");
        self.0.entry(id).or_default()[side].entry(pair).or_default().push(value);
    }

    /// Prints the table; false if our engine missed a goal.
    pub(crate) fn print(&self, engines: &[Engine; 2], settings: &Settings) -> bool {
        let [a, b] = engines;
        println!(
            "\n{:34} {:>4} {:>4} {:>9} {:>19} {:>9} {:>19} {:>6} {:>13} {:>5}  goal",
            "", "conn", "", "A", "least-most", "B", "least-most", "B/A", "of pairs", "n"
        );
        let mut reached = true;
        for line in LINES {
            let Some([first, second]) = self.0.get(line.id) else { continue };
            let (Some(first_all), Some(second_all)) = (Spread::of(first), Spread::of(second))
            else {
                println!("{:34} {:>4} measured on one side only", line.what, line.unit);
                continue;
            };
            let ratio = second_all.median / first_all.median;
            let pairs: Vec<f64> = first
                .iter()
                .filter_map(|(pair, values)| Some(median(second.get(pair)?)? / median(values)?))
                .collect();
            let (goal, is_met) = line.judge(a.is_new(), ratio, second_all.median);
            let verdict = match (b.is_ours(), is_met) {
                (false, _) | (_, None) => "",
                (true, Some(true)) => "reached",
                (true, Some(false)) => {
                    reached = false;
                    "MISSED"
                }
            };
            println!(
                "{:34} {:>4} {:>4} {} {} {ratio:>6.2} {:>13} {:>5}  {goal} {verdict}",
                line.what,
                line.connections(settings.connections),
                line.unit,
                first_all.text(),
                second_all.text(),
                span(&pairs),
                second_all.count
            );
        }
        reached
    }

    /// Every figure, for whoever wants to look closer.
    pub(crate) fn json(&self, engines: &[Engine; 2], settings: &Settings) -> String {
        let figures: BTreeMap<_, _> = self
            .0
            .iter()
            .map(|(id, sides)| {
                let all = |side: &BTreeMap<usize, Vec<f64>>| side.values().cloned().collect();
                (*id, sides.each_ref().map(all) as [Vec<Vec<f64>>; 2])
            })
            .collect();
        let value = serde_json::json!({
            "engines": engines.each_ref().map(ToString::to_string),
            "settings": settings.to_string(),
            "figures": figures,
        });
        format!("{value:#}\n")
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
    fn of(pairs: &BTreeMap<usize, Vec<f64>>) -> Option<Spread> {
        let all: Vec<f64> = pairs.values().flatten().copied().collect();
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
