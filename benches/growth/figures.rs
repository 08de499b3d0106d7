//! The table: every figure at every size, and how much faster than the size its cost grew.

use std::collections::BTreeMap;

use crate::engine::Engine;
use crate::measure::{as_f64, median, short};
use crate::settings::{Part, Settings};

/// How much more than the size a cost may grow from one size to the next: half of it. Over a
/// factor of 8 that is met by any cost up to the 1.2th power, so by n log n on a noisy machine,
/// and by no square.
pub(crate) const TOLERANCE: f64 = 0.5;

/// What a figure says of cost.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    /// A rate: its inverse is what each operation costs, and is to stay.
    Each,
    /// Of the whole: may grow as the size does.
    Whole,
}

/// One line of a part's table.
pub(crate) struct Line {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) cost: Cost,
}

pub(crate) const fn line(
    id: &'static str,
    what: &'static str,
    unit: &'static str,
    cost: Cost,
) -> Line {
    Line { id, what, unit, cost }
}

/// What was measured once.
pub(crate) struct Figure {
    /// That of a [`Line`].
    pub(crate) id: &'static str,
    pub(crate) value: f64,
    /// On how many connections the clients were; 0 where it is no load.
    pub(crate) connections: u64,
}

pub(crate) fn figure(id: &'static str, value: f64, connections: u64) -> Figure {
    Figure { id, value, connections }
}

/// What was found for one line, on one side, at one size.
#[derive(Default)]
struct Found {
    values: Vec<f64>,
    connections: u64,
}

/// Every single figure: by its name, by side, by size.
#[derive(Default)]
pub(crate) struct Growth(BTreeMap<(&'static str, char, u64), Found>);

impl Growth {
    pub(crate) fn note(&mut self, figure: Figure, side: char, size: u64) {
        let found = self.0.entry((figure.id, side, size)).or_default();
        found.values.push(figure.value);
        found.connections = figure.connections;
    }

    /// Prints a part's table; false if our engine has a cost that grows faster than linear.
    pub(crate) fn print(&self, name: &str, part: &Part, engines: &[Engine]) -> bool {
        println!("\n{name}, by {}", part.unit);
        let mut is_linear = true;
        for line in part.lines {
            let mut last = Vec::new();
            for engine in engines {
                let sizes = self.at_sizes(line, engine.side);
                if sizes.is_empty() {
                    continue;
                }
                let cells: Vec<_> = sizes.iter().map(|it| it.text(part.unit)).collect();
                let steps: Vec<_> =
                    sizes.windows(2).map(|pair| Step::of(line, &pair[0], &pair[1])).collect();
                let growths: Vec<_> = steps.iter().map(Step::text).collect();
                let verdict = match steps.iter().all(Step::is_linear) {
                    _ if steps.is_empty() => "",
                    true => "linear",
                    false => "FASTER THAN LINEAR",
                };
                is_linear &= !engine.is_ours() || steps.iter().all(Step::is_linear);
                println!(
                    "{:44} {:>4} {}  {}  {}  {verdict}",
                    line.what,
                    line.unit,
                    engine.side,
                    cells.join("  "),
                    growths.join("  ")
                );
                last.extend(sizes.last().map(|it| (it.size, it.value)));
            }
            if let [(size, a), (same, b)] = last[..]
                && size == same
            {
                println!("{:51}B/A at {size} {}: {:.2}", "", part.unit, b / a);
            }
        }
        is_linear
    }

    /// The medians of a line on one side.
    fn at_sizes(&self, line: &Line, side: char) -> Vec<AtSize> {
        let own = self.0.iter().filter(|((id, of, _), _)| *id == line.id && *of == side);
        own.filter_map(|((.., size), found)| {
            let connections = found.connections;
            Some(AtSize { size: *size, value: median(&found.values)?, connections })
        })
        .collect()
    }

    /// Every figure, for whoever wants to look closer.
    pub(crate) fn json(&self, engines: &[Engine], settings: &Settings) -> String {
        let figure = |((id, side, size), found): (&(&str, char, u64), &Found)| {
            serde_json::json!({
                "figure": id,
                "engine": side,
                "size": size,
                "connections": found.connections,
                "values": found.values,
            })
        };
        let value = serde_json::json!({
            "engines": engines.iter().map(|it| format!("{}: {it}", it.side)).collect::<Vec<_>>(),
            "settings": settings.to_string(),
            "tolerance": TOLERANCE,
            "figures": self.0.iter().map(figure).collect::<Vec<_>>(),
        });
        format!("{value:#}\n")
    }
}

/// The median at one size.
struct AtSize {
    size: u64,
    value: f64,
    connections: u64,
}

impl AtSize {
    fn text(&self, unit: &str) -> String {
        let connections = match self.connections {
            0 => String::new(),
            count => format!(" ({count} conn)"),
        };
        format!("at {} {unit}{connections}: {:>8}", self.size, short(self.value))
    }
}

/// From one size to the next.
struct Step {
    size: f64,
    cost: f64,
    cost_of: Cost,
}

impl Step {
    fn of(line: &Line, from: &AtSize, to: &AtSize) -> Step {
        let grown = to.value / from.value;
        let cost = if line.cost == Cost::Each { 1.0 / grown } else { grown };
        Step { size: as_f64(to.size) / as_f64(from.size), cost, cost_of: line.cost }
    }

    /// By how much more it grew than it may.
    fn excess(&self) -> f64 {
        match self.cost_of {
            Cost::Each => self.cost,
            Cost::Whole => self.cost / self.size,
        }
    }

    fn is_linear(&self) -> bool {
        self.excess() <= 1.0 + TOLERANCE
    }

    fn text(&self) -> String {
        let each = if self.cost_of == Cost::Each { " each" } else { "" };
        format!(
            "cost{each} x{:.2}, size x{}, per unit x{:.2}",
            self.cost,
            short(self.size),
            self.excess()
        )
    }
}
