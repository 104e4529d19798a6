//! The form of a file of rules. Every value whose meaning is checked knows its place.

use serde::Deserialize;
use toml::Spanned;

use super::super::anomaly::Direction;
use crate::watch::event::Severity;

/// All of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub pages_per_week: Spanned<f64>,
    pub timezone: Option<Spanned<String>>,
    pub baseline_weeks: Option<Spanned<usize>>,
    pub baseline_least_weeks: Option<Spanned<usize>>,
    #[serde(default)]
    pub threshold: Vec<Threshold>,
    #[serde(default)]
    pub no_data: Vec<NoData>,
    #[serde(default)]
    pub burn_rate: Vec<BurnRate>,
    #[serde(default)]
    pub anomaly: Vec<Anomaly>,
    #[serde(default)]
    pub shift: Vec<Shift>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Threshold {
    pub name: Spanned<String>,
    pub title: String,
    pub severity: Severity,
    pub series: Spanned<String>,
    pub above: Option<Spanned<f64>>,
    pub below: Option<Spanned<f64>>,
    pub r#for: Option<Spanned<String>>,
    pub keep: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoData {
    pub name: Spanned<String>,
    pub title: String,
    pub severity: Severity,
    pub series: Spanned<String>,
    pub r#for: Spanned<String>,
    pub keep: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BurnRate {
    pub name: Spanned<String>,
    pub title: String,
    pub bad: Spanned<String>,
    pub all: Spanned<String>,
    pub objective: Spanned<f64>,
    pub at_least: Option<Spanned<f64>>,
    pub windows: Vec<Window>,
    pub keep: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Window {
    pub rate: Spanned<f64>,
    pub long: Spanned<String>,
    pub short: Spanned<String>,
    pub severity: Severity,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Anomaly {
    pub name: Spanned<String>,
    pub title: String,
    pub severity: Severity,
    pub series: Spanned<String>,
    pub direction: Direction,
    pub z: Spanned<f64>,
    pub change: Spanned<f64>,
    pub at_least: Option<Spanned<f64>>,
    pub window: Spanned<String>,
    pub r#for: Option<Spanned<String>>,
    pub keep: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shift {
    pub name: Spanned<String>,
    pub title: String,
    pub severity: Severity,
    pub series: Spanned<String>,
    pub direction: Direction,
    pub change: Spanned<f64>,
    pub tolerated: Spanned<f64>,
    pub decision: Spanned<f64>,
    pub keep: Option<Spanned<String>>,
}
