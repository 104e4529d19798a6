//! What came out: as a table, as JSON and as a chart.

use std::path::Path;
use std::time::Duration;

use load::Recording;
use plotly::common::{Marker, Mode, Title};
use plotly::layout::{Axis, AxisType, GridPattern, LayoutGrid};
use plotly::{Layout, Plot, Scatter};
use serde::Serialize;

use super::contest::Period;
use super::front;
use super::shop::{CONTESTANTS, EVERYBODY, OURS, UNPACED};

/// One contestant's turn: a rest and then its work. The next turn's rest follows.
pub struct Turn {
    pub name: &'static str,
    pub off: Period,
    pub on: Period,
    pub rows_per_s: f64,
}

/// Median and quartiles.
#[derive(Clone, Copy, Debug, Serialize)]
struct Spread {
    median: f64,
    quarter: f64,
    three_quarters: f64,
}

/// One contestant at one load.
#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    /// 99th percentile of all requests at work over that in the rests before and after.
    ratio: Spread,
    p99_ms: Spread,
    rows_per_s: Spread,
    /// Requests that failed while it worked, all turns together.
    failed: u64,
    cycles: usize,
    /// Of those who changed at least as many rows, who was gentler with the greatest probability, and that.
    beaten: Option<(&'static str, f64)>,
    ratios: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct AtLoad {
    share_of_capacity: f64,
    capacity_rps: f64,
    lines: Vec<Line>,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    loads: Vec<AtLoad>,
    /// For each contestant, milliseconds until the duty was halved after the load step; `null` where
    /// it never was.
    steps: Vec<(&'static str, Vec<Option<f64>>)>,
    /// Rows per second without shoppers.
    idle: Vec<(&'static str, Vec<f64>)>,
}

fn spread(mut values: Vec<f64>) -> Spread {
    values.sort_by(f64::total_cmp);
    let at = |q: f64| {
        let position = q * (values.len().max(1) - 1) as f64;
        let (low, high) = (position.floor() as usize, position.ceil() as usize);
        match (values.get(low), values.get(high)) {
            (Some(low), Some(high)) => low + (high - low) * position.fract(),
            _ => f64::NAN,
        }
    };
    Spread {
        median: at(0.5),
        quarter: at(0.25),
        three_quarters: at(0.75),
    }
}

impl Line {
    /// Whoever is faster and probably gentler; on the front is who is not surely beaten.
    fn beaten_by(&self) -> String {
        match self.beaten {
            Some((name, share)) if share >= front::SURE => format!("{name} ({share:.2}), surely"),
            Some((name, share)) if share > 0.0 => format!("{name} ({share:.2})"),
            _ => String::new(),
        }
    }
}

impl Default for Report {
    fn default() -> Self {
        let none = |name| (name, Vec::new());
        Self {
            loads: Vec::new(),
            steps: CONTESTANTS.map(|name| (name, Vec::new())).to_vec(),
            idle: [OURS, UNPACED].map(none).to_vec(),
        }
    }
}

impl Report {
    pub fn idle(&mut self, name: &str, rows_per_s: f64) {
        let mut lines = self.idle.iter_mut();
        if let Some((_, values)) = lines.find(|(of, _)| *of == name) {
            values.push(rows_per_s);
        }
    }

    pub fn step(&mut self, name: &str, halved: Option<Duration>) {
        let mut lines = self.steps.iter_mut();
        if let Some((_, values)) = lines.find(|(of, _)| *of == name) {
            values.push(halved.map(|after| after.as_secs_f64() * 1e3));
        }
    }

    /// Takes the turns at one load into the report; `end` is the rest after the last of them.
    pub fn cycles(
        &mut self,
        share: f64,
        capacity_rps: f64,
        turns: &[Turn],
        end: Period,
        recording: &Recording,
    ) {
        let after = turns.iter().skip(1).map(|turn| turn.off).chain([end]);
        let judged: Vec<(&Turn, f64, f64)> = turns
            .iter()
            .zip(after)
            .map(|(turn, after)| {
                let on = turn.on.p99_ms(recording);
                // The geometric mean: a ratio to a stall is as odd as one of a stall.
                let off = (turn.off.p99_ms(recording) * after.p99_ms(recording)).sqrt();
                (turn, on, on / off)
            })
            .collect();
        let mut lines: Vec<Line> = EVERYBODY
            .into_iter()
            .map(|name| {
                let own: Vec<_> = judged
                    .iter()
                    .filter(|(turn, ..)| turn.name == name)
                    .collect();
                let ratios: Vec<f64> = own.iter().map(|(.., ratio)| *ratio).collect();
                Line {
                    name,
                    ratio: spread(ratios.clone()),
                    p99_ms: spread(own.iter().map(|(_, on, _)| *on).collect()),
                    rows_per_s: spread(own.iter().map(|(turn, ..)| turn.rows_per_s).collect()),
                    failed: own.iter().map(|(turn, ..)| turn.on.failed(recording)).sum(),
                    cycles: own.len(),
                    beaten: None,
                    ratios,
                }
            })
            .collect();
        let others: Vec<(&'static str, f64, Vec<f64>)> = lines
            .iter()
            .map(|line| (line.name, line.rows_per_s.median, line.ratios.clone()))
            .collect();
        for line in &mut lines {
            let faster = others
                .iter()
                .filter(|(name, rows, _)| *name != line.name && *rows >= line.rows_per_s.median);
            let beats =
                faster.map(|(name, _, ratios)| (*name, front::gentler(ratios, &line.ratios)));
            line.beaten = beats.max_by(|a, b| a.1.total_cmp(&b.1));
        }
        self.loads.push(AtLoad {
            share_of_capacity: share,
            capacity_rps,
            lines,
        });
    }

    /// Prints the tables, writes `pace.json` and `pace.html` into `directory`.
    pub fn publish(&self, directory: &Path) {
        for at in &self.loads {
            println!(
                "\n{:.0} % of {:.0} requests per second\n{:14}  p99 with / without                p99 ms    rows/s  failed  beaten by",
                at.share_of_capacity * 100.0,
                at.capacity_rps,
                ""
            );
            for line in &at.lines {
                println!(
                    "{:14} {:6.2}  ({:.2} to {:.2}, {:2} cycles) {:8.1} {:9.0} {:7}  {}",
                    line.name,
                    line.ratio.median,
                    line.ratio.quarter,
                    line.ratio.three_quarters,
                    line.cycles,
                    line.p99_ms.median,
                    line.rows_per_s.median,
                    line.failed,
                    line.beaten_by()
                );
            }
        }
        println!("\nload step: milliseconds until the duty was halved (median; how often it was)");
        for (name, values) in &self.steps {
            let halved: Vec<f64> = values.iter().flatten().copied().collect();
            let times = halved.len();
            println!(
                "{name:14} {:8.0}  {times} of {}",
                spread(halved).median,
                values.len()
            );
        }
        println!("\nwithout shoppers       rows/s");
        for (name, values) in &self.idle {
            println!("{name:14} {:14.0}", spread(values.clone()).median);
        }
        let ratios = self.idle[0]
            .1
            .iter()
            .zip(&self.idle[1].1)
            .map(|(ours, all)| ours / all);
        println!(
            "ratio, median of rounds: {:.2}",
            spread(ratios.collect()).median
        );
        let json = serde_json::to_string_pretty(self).unwrap();
        std::fs::write(directory.join("pace.json"), json).unwrap();
        self.chart().write_html(directory.join("pace.html"));
        println!("\n{0}/pace.json, {0}/pace.html", directory.display());
    }

    /// One panel a load: to the left is better for shoppers, up is faster.
    fn chart(&self) -> Plot {
        let mut plot = Plot::new();
        let axes = [("x", "y"), ("x2", "y2"), ("x3", "y3")];
        for (at, (x, y)) in self.loads.iter().zip(axes) {
            for line in &at.lines {
                let color = if line.name == OURS {
                    "#dc2626"
                } else {
                    "#2563eb"
                };
                let point = Scatter::new(vec![line.ratio.median], vec![line.rows_per_s.median])
                    .mode(Mode::MarkersText)
                    .marker(Marker::new().size(11).color(color))
                    .text(line.name)
                    .text_position(plotly::common::Position::TopCenter)
                    .show_legend(false)
                    .x_axis(x)
                    .y_axis(y);
                plot.add_trace(point);
            }
        }
        let title = |i: usize| {
            let share = self.loads.get(i).map_or(0.0, |at| at.share_of_capacity);
            Title::with_text(format!(
                "p99 with ÷ without, at {:.0} % of capacity",
                share * 100.0
            ))
        };
        let ratio = |i: usize| Axis::new().title(title(i)).type_(AxisType::Log);
        let layout = Layout::new()
            .title("Rows per second against what shoppers pay")
            .grid(
                LayoutGrid::new()
                    .rows(1)
                    .columns(3)
                    .pattern(GridPattern::Independent),
            )
            .x_axis(ratio(0))
            .x_axis2(ratio(1))
            .x_axis3(ratio(2))
            .y_axis(Axis::new().title("rows per second"));
        plot.set_layout(layout);
        plot
    }
}
