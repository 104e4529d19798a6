//! What is far from how it usually is in that hour of the week.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;

use super::baseline::Baseline;
use super::series::Series;
use super::span::Spans;
use super::track::Verdict;

/// Which side of the usual is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// More than usual.
    Above,
    /// Less than usual.
    Below,
}

impl Direction {
    /// How far `value` is on the bad side of `level`; negative on the good one.
    pub fn excess(self, value: f64, level: f64) -> f64 {
        match self {
            Self::Above => value - level,
            Self::Below => level - value,
        }
    }

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Below => "below",
        }
    }
}

/// A distance from the usual that is too large.
#[derive(Clone, Debug)]
pub struct Anomaly {
    /// Of what.
    pub series: Series,
    /// To which side.
    pub direction: Direction,
    /// Robust standard deviations (1.4826 · MAD) that are too many.
    pub z: f64,
    /// Share of the usual that the distance has to be, too: what is steady has small deviations.
    pub change: f64,
    /// What the distance has to be, too, in the series' unit.
    pub at_least: f64,
    /// The mean over this is judged.
    pub window: TimeDelta,
}

impl Anomaly {
    /// Whether the mean over the window that ends at `at` is too far from the usual.
    pub fn judge(&self, spans: &Spans, baseline: &Baseline, at: DateTime<Utc>) -> Verdict {
        let middle = at - self.window / 2;
        let (Some(now), Some(usual)) = (
            spans.total(self.series, self.window),
            baseline.usual(self.series, middle),
        ) else {
            return Verdict::Unknown;
        };
        let usual = usual.at_least_natural(self.series, self.window);
        let excess = self.direction.excess(now.mean, usual.level);
        // Where nothing is usual and nothing is there, nothing is far.
        let z = if excess <= 0.0 {
            0.0
        } else {
            excess / usual.spread
        };
        if z < self.z || excess < usual.level * self.change || excess < self.at_least {
            return Verdict::Not;
        }
        Verdict::Holds(format!(
            "{} is {:.4}, usually {:.4} ± {:.4} at this hour of the week: {z:.1} deviations",
            self.series, now.mean, usual.level, usual.spread,
        ))
    }
}
