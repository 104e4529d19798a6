//! The timeline of an incident as an SVG: what shoppers felt as curves, what happened as labels above
//! them. 1200 pixels wide, on white, so that it can be read in a light and in a dark viewer.

use std::ops::Range;

use chrono::{DateTime, TimeDelta, Utc};
use plotters::coord::Shift;
use plotters::coord::combinators::IntoLogRange;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::PostmortemError;
use super::markers::{Marker, Place, arrange, markers};
use super::readings::{self, Reading};
use crate::watch::incident::Incident;

const WIDTH: u32 = 1200;
/// Of the axes' labels, left of the curves.
const LEFT: u32 = 64;
/// Right of the curves.
const RIGHT: u32 = 24;
const TITLE: u32 = 44;
const LANE: u32 = 22;
/// Above each panel.
const CAPTION: u32 = 22;
const FAILED: u32 = 220;
const LATENCY: u32 = 216;
/// Of the times, below the curves.
const BOTTOM: u32 = 34;
const FONT: &str = "system-ui, 'Helvetica Neue', Arial, sans-serif";
/// The library writes fonts smaller than it is told.
const SCALE: f64 = 1.24;
/// Of a label's character at 12 pixels, on average and rather too wide.
const CHARACTER: f64 = 6.6;
/// Curves are not drawn over longer gaps: what was felt in them is not known.
const GAP: TimeDelta = TimeDelta::seconds(15);
const INK: RGBColor = RGBColor(31, 41, 55);
const GRID: RGBColor = RGBColor(229, 231, 235);
const RED: RGBColor = RGBColor(220, 38, 38);
/// Of the class that is worst off.
const WORST: RGBColor = RGBColor(127, 29, 29);
const BLUE: RGBColor = RGBColor(37, 99, 235);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The time that is shown, and how it is mapped to pixels.
#[derive(Clone, Copy)]
struct Axis {
    from: DateTime<Utc>,
    seconds: f64,
}

impl Axis {
    fn of(incident: &Incident) -> Self {
        let times = incident.events.iter().map(|event| event.at);
        let from = times.clone().fold(incident.opened_at, DateTime::min);
        let to = times.fold(incident.opened_at, DateTime::max);
        // Neither too short to be read nor ending at the last label's line.
        let length = (to - from).as_seconds_f64().max(8.0);
        Self {
            from: from - seconds(length * 0.02),
            seconds: length * 1.06,
        }
    }

    fn offset(&self, at: DateTime<Utc>) -> f64 {
        (at - self.from).as_seconds_f64()
    }

    fn x(&self, at: DateTime<Utc>) -> i32 {
        let width = f64::from(WIDTH - LEFT - RIGHT);
        LEFT as i32 + (self.offset(at) / self.seconds * width).round() as i32
    }

    /// Round times of the day, at most ten, as offsets.
    fn ticks(&self) -> Vec<f64> {
        const STEPS: [f64; 14] = [
            1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0,
            7200.0,
        ];
        let wide_enough = |step: &&f64| self.seconds / **step <= 10.0;
        let step = STEPS.iter().find(wide_enough).copied();
        let step = step.unwrap_or((self.seconds / 10.0 / 14_400.0).ceil() * 14_400.0);
        let since_epoch = self.from.timestamp_millis() as f64 / 1e3;
        let first = (since_epoch / step).ceil() * step - since_epoch;
        let ticks = (0..20).map(|n| first + f64::from(n) * step);
        ticks.filter(|tick| *tick <= self.seconds).collect()
    }
}

/// Offsets in seconds, with times of the day to read them by.
impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, offset: &f64, (left, right): (i32, i32)) -> i32 {
        left + (offset / self.seconds * f64::from(right - left)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks()
    }

    fn range(&self) -> Range<f64> {
        0.0..self.seconds
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, offset: &f64) -> String {
        // A tick is a whole second, give or take what was lost in counting.
        let at = self.from + seconds(*offset) + TimeDelta::milliseconds(1);
        at.format("%H:%M:%S").to_string()
    }
}

fn seconds(seconds: f64) -> TimeDelta {
    TimeDelta::milliseconds((seconds * 1e3).round() as i64)
}

/// The timeline of `incident` as an SVG document.
///
/// # Errors
/// [`PostmortemError::Draw`] when it cannot be drawn.
pub fn picture(incident: &Incident) -> Result<String, PostmortemError> {
    let mut svg = String::new();
    draw(incident, &mut svg).map_err(|err| PostmortemError::Draw(err.to_string()))?;
    Ok(svg)
}

fn draw(incident: &Incident, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let axis = Axis::of(incident);
    let markers = markers(incident);
    let xs: Vec<i32> = markers.iter().map(|marker| axis.x(marker.at)).collect();
    let width = |marker: &Marker| (marker.label.chars().count() as f64 * CHARACTER) as i32 + 12;
    let widths: Vec<i32> = markers.iter().map(width).collect();
    let places = arrange(&xs, &widths, WIDTH as i32 - 4);
    let lanes = places.iter().map(|place| place.lane + 1).max();
    let lanes = lanes.unwrap_or(0);
    let top = TITLE + lanes * LANE + 6;
    let height = top + FAILED + LATENCY;

    let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let (_, curves) = root.split_vertically(top);
    let (failed, latency) = curves.split_vertically(FAILED);
    shade(&root, incident, axis, top, height)?;
    let readings = readings::all(incident);
    draw_failed(&failed, axis, &readings)?;
    draw_latency(&latency, axis, &readings)?;
    title(&root, incident)?;
    if readings.is_empty() {
        let middle = (WIDTH as i32 / 2, (top + FAILED / 2) as i32);
        let centered = font(14.0, INK).pos(Pos::new(HPos::Center, VPos::Center));
        root.draw_text("what shoppers felt was not recorded", &centered, middle)?;
    }
    for (marker, place) in markers.iter().zip(&places) {
        draw_marker(&root, marker, place, top, height)?;
    }
    root.present()?;
    Ok(())
}

fn title(root: &Area<'_>, incident: &Incident) -> Result<(), Box<dyn std::error::Error>> {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let title: String = incident.title.chars().map(plain).take(100).collect();
    let day = incident.opened_at.format("%-d %B %Y, UTC");
    root.draw_text(&title, &bold(18.0, INK), (12, 22))?;
    let right = font(13.0, INK).pos(Pos::new(HPos::Right, VPos::Center));
    root.draw_text(&day.to_string(), &right, (WIDTH as i32 - 12, 22))?;
    Ok(())
}

/// The time in which shoppers were not well.
fn shade(
    root: &Area<'_>,
    incident: &Incident,
    axis: Axis,
    top: u32,
    height: u32,
) -> Result<(), Box<dyn std::error::Error>> {
    let last = incident
        .events
        .last()
        .map_or(incident.opened_at, |event| event.at);
    let end = incident
        .recovered_at
        .or(incident.resolved_at)
        .unwrap_or(last);
    let corners = [
        (axis.x(incident.opened_at), top as i32),
        (axis.x(end), (height - BOTTOM) as i32),
    ];
    root.draw(&Rectangle::new(corners, RGBColor(254, 242, 242).filled()))?;
    Ok(())
}

fn draw_failed(
    area: &Area<'_>,
    axis: Axis,
    readings: &[Reading],
) -> Result<(), Box<dyn std::error::Error>> {
    let mut chart = ChartBuilder::on(area)
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .margin_right(RIGHT)
        .margin_top(CAPTION)
        .build_cartesian_2d(axis, 0.0..102.0)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(GRID)
        .x_labels(0)
        .y_labels(6)
        .y_label_style(font(12.0, INK))
        .y_label_formatter(&|y| format!("{y:.0} %"))
        .draw()?;
    for stretch in stretches(readings) {
        let curve = |share: fn(&Reading) -> f64| {
            stretch
                .iter()
                .map(move |r| (axis.offset(r.at), share(r) * 100.0))
        };
        let all = AreaSeries::new(curve(|reading| reading.failed), 0.0, RED.mix(0.3));
        chart.draw_series(all.border_style(RED.stroke_width(2)))?;
        let worst = curve(|reading| reading.worst);
        chart.draw_series(LineSeries::new(worst, WORST.stroke_width(1)))?;
    }
    let left = LEFT as i32;
    area.draw_text("failed requests, all classes", &bold(12.0, RED), (left, 4))?;
    area.draw_text("the worst class", &bold(12.0, WORST), (left + 200, 4))?;
    Ok(())
}

fn draw_latency(
    area: &Area<'_>,
    axis: Axis,
    readings: &[Reading],
) -> Result<(), Box<dyn std::error::Error>> {
    let mut chart = ChartBuilder::on(area)
        .set_label_area_size(LabelAreaPosition::Left, LEFT)
        .set_label_area_size(LabelAreaPosition::Bottom, BOTTOM)
        .margin_right(RIGHT)
        .margin_top(CAPTION)
        .build_cartesian_2d(axis, latencies(readings).log_scale())?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(GRID)
        .x_label_style(font(12.0, INK))
        .y_label_style(font(12.0, INK))
        .y_label_formatter(&|ms| time(*ms))
        .y_labels(6)
        .draw()?;
    for stretch in stretches(readings) {
        let points = stretch
            .iter()
            .filter_map(|r| Some((axis.offset(r.at), r.p95_ms?.max(0.1))));
        chart.draw_series(LineSeries::new(points, BLUE.stroke_width(2)))?;
    }
    area.draw_text(
        "latency, 95th percentile of the slowest class",
        &bold(12.0, BLUE),
        (LEFT as i32, 6),
    )?;
    Ok(())
}

/// Whole powers of ten around all latencies.
fn latencies(readings: &[Reading]) -> Range<f64> {
    let known = readings.iter().filter_map(|reading| reading.p95_ms);
    let (low, high) = known.fold((10.0_f64, 100.0_f64), |(low, high), ms| {
        (low.min(ms), high.max(ms))
    });
    let power = |ms: f64| 10_f64.powf(ms);
    power(low.max(0.1).log10().floor())..power(high.log10().ceil())
}

fn time(ms: f64) -> String {
    if ms >= 1000.0 {
        format!("{} s", ms / 1e3)
    } else {
        format!("{ms} ms")
    }
}

/// The readings without their gaps.
fn stretches(readings: &[Reading]) -> impl Iterator<Item = &[Reading]> {
    readings.chunk_by(|a, b| b.at - a.at <= GAP)
}

fn draw_marker(
    root: &Area<'_>,
    marker: &Marker,
    place: &Place,
    top: u32,
    height: u32,
) -> Result<(), Box<dyn std::error::Error>> {
    let (r, g, b) = marker.color;
    let color = RGBColor(r, g, b);
    let y = top as i32 - 6 - place.lane as i32 * LANE as i32 - LANE as i32 / 2;
    let line = [(place.x, y), (place.x, (height - BOTTOM) as i32)];
    root.draw(&PathElement::new(line, color.mix(0.7).stroke_width(1)))?;
    root.draw(&Circle::new((place.x, y), 4, color.filled()))?;
    let (hpos, dx) = if place.flipped {
        (HPos::Right, -8)
    } else {
        (HPos::Left, 8)
    };
    let style = font(12.0, color).pos(Pos::new(hpos, VPos::Center));
    root.draw_text(&marker.label, &style, (place.x + dx, y))?;
    Ok(())
}

fn font(pixels: f64, color: RGBColor) -> TextStyle<'static> {
    (FONT, pixels * SCALE).into_font().color(&color)
}

fn bold(pixels: f64, color: RGBColor) -> TextStyle<'static> {
    let font = (FONT, pixels * SCALE, FontStyle::Bold).into_font();
    font.color(&color)
}
