//! The charts of the report.

use std::time::{Duration, Instant};

use plotly::common::{DashType, Fill, Font, Line, Mode, Orientation, Title};
use plotly::configuration::DisplayModeBar;
use plotly::layout::{
    Annotation, Axis, AxisRange, AxisType, HoverMode, Legend, Margin, Shape, ShapeLayer, ShapeLine,
    ShapeType,
};
use plotly::{Bar, Configuration, Layout, Plot, Scatter};
use pool::Class;

use crate::demo::cycles::{Felt, Period};
use crate::demo::scene::Footage;

/// Width of the buckets that requests are summed over.
const BUCKET: Duration = Duration::from_millis(500);
const HEIGHT: usize = 300;
const CLASSES: [(Class, &str); 3] = [
    (Class::Browse, "#2563eb"),
    (Class::Account, "#d97706"),
    (Class::Checkout, "#7c3aed"),
];
const FAILED: &str = "#dc2626";
const GRID: &str = "#e5e7eb";

/// A stretch of time that is marked in every chart of an act.
#[derive(Clone, Debug)]
pub struct Band {
    /// When.
    pub period: Period,
    /// A CSS colour, mostly transparent.
    pub color: &'static str,
    /// What it is; empty for one that is explained elsewhere.
    pub label: &'static str,
}

/// Answered and failed requests per second, all classes on top of each other.
pub fn throughput(footage: &Footage, bands: &[Band]) -> Plot {
    let mut plot = over_time(footage, "requests per second", bands, AxisType::Linear);
    let per_second = |count: u64| count as f64 / BUCKET.as_secs_f64();
    let series = CLASSES.map(|(class, _)| footage.recording.series(class, BUCKET));
    let times = times(series[0].len());
    for ((class, color), stats) in CLASSES.into_iter().zip(&series) {
        let ok = stats.iter().map(|s| per_second(s.ok + s.refused));
        plot.add_trace(
            Scatter::new(times.clone(), ok.collect())
                .name(format!("{class}, answered"))
                .mode(Mode::Lines)
                .line(Line::new().color(color).width(0.5))
                .fill(Fill::ToNextY)
                .stack_group("requests"),
        );
    }
    let failed = (0..times.len()).map(|i| per_second(series.iter().map(|s| s[i].failed).sum()));
    plot.add_trace(
        Scatter::new(times.clone(), failed.collect())
            .name("failed, all classes")
            .mode(Mode::Lines)
            .line(Line::new().color(FAILED).width(0.5))
            .fill(Fill::ToNextY)
            .stack_group("requests"),
    );
    plot
}

/// Share of failed requests per class, in percent.
pub fn failures(footage: &Footage, bands: &[Band]) -> Plot {
    let mut plot = over_time(footage, "failed, %", bands, AxisType::Linear);
    for (class, color) in CLASSES {
        let series = footage.recording.series(class, BUCKET);
        let share = series.iter().map(|stats| stats.failed_share() * 100.0);
        plot.add_trace(
            Scatter::new(times(series.len()), share.collect())
                .name(class.name())
                .mode(Mode::Lines)
                .line(Line::new().color(color).width(2.0)),
        );
    }
    plot
}

/// Median and 99th percentile per class, on a logarithmic axis.
pub fn latency(footage: &Footage, bands: &[Band]) -> Plot {
    let mut plot = over_time(footage, "latency, ms", bands, AxisType::Log);
    for (class, color) in CLASSES {
        let series = footage.recording.series(class, BUCKET);
        let lines = [("p50", DashType::Dot, 1.0), ("p99", DashType::Solid, 1.8)];
        for (name, dash, width) in lines {
            let values = series.iter().map(|stats| {
                let value = if name == "p50" {
                    stats.p50_ms
                } else {
                    stats.p99_ms
                };
                value.is_finite().then_some(value)
            });
            plot.add_trace(
                Scatter::new(times(series.len()), values.collect())
                    .name(format!("{class} {name}"))
                    .mode(Mode::Lines)
                    .line(Line::new().color(color).width(width).dash(dash)),
            );
        }
    }
    plot
}

/// The shop's connections.
pub fn pool(footage: &Footage, bands: &[Band]) -> Plot {
    let mut plot = over_time(footage, "connections", bands, AxisType::Linear);
    let readings: Vec<_> = footage
        .samples
        .iter()
        .filter_map(|sample| Some((offset(footage, sample.at), sample.pool?)))
        .collect();
    let times: Vec<f64> = readings.iter().map(|(at, _)| *at).collect();
    let lines = [("in use", CLASSES[0].1), ("waiting", FAILED)];
    for (name, color) in lines {
        let values = readings.iter().map(|(_, pool)| {
            if name == "in use" {
                pool.in_use
            } else {
                pool.waiting
            }
        });
        plot.add_trace(
            Scatter::new(times.clone(), values.collect())
                .name(if name == "waiting" {
                    "requests waiting for one"
                } else {
                    name
                })
                .mode(Mode::Lines)
                .line(Line::new().color(color).width(1.8)),
        );
    }
    plot
}

/// How hard the engine works: its duty in percent, and thousands of rows per second.
pub fn migration(footage: &Footage, bands: &[Band]) -> Plot {
    let mut plot = over_time(footage, "duty, % · 1,000 rows/s", bands, AxisType::Linear);
    let readings: Vec<_> = footage
        .samples
        .iter()
        .filter_map(|sample| Some((offset(footage, sample.at), sample.migration.as_ref()?)))
        .collect();
    let times: Vec<f64> = readings.iter().map(|(at, _)| *at).collect();
    let duty = readings.iter().map(|(_, run)| run.duty * 100.0);
    plot.add_trace(
        Scatter::new(times, duty.collect())
            .name("duty, %")
            .mode(Mode::Lines)
            .line(Line::new().color("#0d9488").width(1.8)),
    );
    // Over a second, because batches come in bursts.
    let rates = readings.windows(5).filter_map(|window| {
        let ((from, first), (to, last)) = (window.first()?, window.last()?);
        let rows = (last.rows_changed - first.rows_changed) as f64;
        Some((*to, rows / (to - from) / 1e3))
    });
    let (times, rates): (Vec<f64>, Vec<f64>) = rates.unzip();
    plot.add_trace(
        Scatter::new(times, rates)
            .name("1,000 rows/s")
            .mode(Mode::Lines)
            .line(Line::new().color("#64748b").width(1.2)),
    );
    plot
}

/// The 99th percentile with and without the migration, cycle by cycle.
pub fn cycles(felt: &[Felt]) -> Plot {
    let names: Vec<String> = (1..=felt.len()).map(|n| n.to_string()).collect();
    let bars = |name: &str, color: &str, value: fn(&Felt) -> f64| {
        let bar = Bar::new(names.clone(), felt.iter().map(value).collect());
        bar.name(name)
            .marker(plotly::common::Marker::new().color(color.to_owned()))
    };
    let mut plot = Plot::new();
    plot.add_trace(bars("without", "#94a3b8", |felt| felt.off_ms));
    plot.add_trace(bars("with the migration", "#0d9488", |felt| felt.on_ms));
    let x = axis("cycle").type_(AxisType::Category);
    plot.set_layout(layout().x_axis(x).y_axis(axis("p99, ms")));
    plot.set_configuration(configuration());
    plot
}

fn over_time(footage: &Footage, y: &str, bands: &[Band], scale: AxisType) -> Plot {
    let lasted = footage.recording.lasted();
    let y_axis = match scale {
        // One label per power of ten.
        AxisType::Log => axis(y).type_(AxisType::Log).dtick(1.0),
        other => axis(y).type_(other),
    };
    let mut shapes = Vec::new();
    let mut labels = Vec::new();
    for band in bands {
        let (from, to) = (band.period.from.as_secs_f64(), band.period.to.as_secs_f64());
        shapes.push(
            Shape::new()
                .shape_type(ShapeType::Rect)
                .x_ref("x")
                .y_ref("paper")
                .x0(from)
                .x1(to)
                .y0(0)
                .y1(1)
                .layer(ShapeLayer::Below)
                .fill_color(band.color)
                .line(ShapeLine::new().width(0.)),
        );
        if !band.label.is_empty() {
            labels.push(
                Annotation::new()
                    .text(band.label)
                    .show_arrow(false)
                    .x_ref("x")
                    .y_ref("paper")
                    .x(f64::midpoint(from, to))
                    .y(1.09),
            );
        }
    }
    let mut plot = Plot::new();
    plot.set_layout(
        layout()
            .shapes(shapes)
            .annotations(labels)
            .x_axis(
                Axis::new()
                    .grid_color(GRID)
                    .zero_line(false)
                    .range(AxisRange::new(0.0, lasted.as_secs_f64())),
            )
            .y_axis(y_axis),
    );
    plot.set_configuration(configuration());
    plot
}

fn layout() -> Layout {
    Layout::new()
        .height(HEIGHT)
        .auto_size(true)
        .margin(Margin::new().left(64).right(16).top(28).bottom(64))
        .font(Font::new().family("system-ui, sans-serif").size(13))
        .paper_background_color("#ffffff")
        .plot_background_color("#ffffff")
        .hover_mode(HoverMode::XUnified)
        .legend(Legend::new().orientation(Orientation::Horizontal).y(-0.14))
}

fn axis(title: &str) -> Axis {
    Axis::new()
        .title(Title::with_text(title))
        .grid_color(GRID)
        .zero_line(false)
}

fn configuration() -> Configuration {
    Configuration::new()
        .responsive(true)
        .display_logo(false)
        .display_mode_bar(DisplayModeBar::False)
}

fn times(count: usize) -> Vec<f64> {
    (0..count)
        .map(|i| i as f64 * BUCKET.as_secs_f64())
        .collect()
}

fn offset(footage: &Footage, at: Instant) -> f64 {
    at.saturating_duration_since(footage.recording.began())
        .as_secs_f64()
}
