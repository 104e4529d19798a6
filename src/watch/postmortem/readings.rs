//! What shoppers felt, all classes together.

use chrono::{DateTime, Utc};

use crate::watch::event::{Felt, What};
use crate::watch::incident::Incident;

/// What shoppers felt at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) at: DateTime<Utc>,
    /// Share of the requests that failed, from 0 to 1. When none arrived, nobody failed.
    pub(super) failed: f64,
    /// The same of the class that is worst off.
    pub(super) worst: f64,
    /// The worst class's 95th percentile.
    pub(super) p95_ms: Option<f64>,
}

impl Reading {
    pub(super) fn of(at: DateTime<Utc>, classes: &[Felt]) -> Self {
        let sum = |of: fn(&Felt) -> f64| -> f64 { classes.iter().map(of).sum() };
        let of_all = share(
            sum(|felt| felt.failed_per_s),
            sum(|felt| felt.arrivals_per_s),
        );
        let of_each = classes.iter();
        let of_each = of_each.map(|felt| share(felt.failed_per_s, felt.arrivals_per_s));
        let p95 = classes.iter().filter_map(|felt| felt.p95_ms);
        Self {
            at,
            failed: of_all,
            worst: of_each.fold(of_all, f64::max),
            p95_ms: p95.filter(|ms| ms.is_finite()).reduce(f64::max),
        }
    }
}

/// What fails may have arrived before, so that more may fail than arrive.
fn share(failed: f64, arrived: f64) -> f64 {
    let share = failed / arrived.max(failed);
    if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    }
}

/// All readings of `incident`, in order of time.
pub(super) fn all(incident: &Incident) -> Vec<Reading> {
    let readings = incident
        .events
        .iter()
        .filter_map(|event| match &event.what {
            What::Felt { classes } => Some(Reading::of(event.at, classes)),
            _ => None,
        });
    readings.collect()
}

/// The best and the worst of some readings, in words.
pub(super) fn extremes(readings: &[Reading]) -> String {
    let span = |values: &mut dyn Iterator<Item = f64>| {
        values.fold(None, |span: Option<(f64, f64)>, value| {
            let (low, high) = span.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        })
    };
    let failed = span(&mut readings.iter().map(|reading| reading.failed * 100.0));
    let worst = span(&mut readings.iter().map(|reading| reading.worst * 100.0));
    let p95 = span(&mut readings.iter().filter_map(|reading| reading.p95_ms));
    let range = |(low, high): (f64, f64)| {
        let (low, high) = (format!("{low:.0}"), format!("{high:.0}"));
        if low == high {
            low
        } else {
            format!("{low} to {high}")
        }
    };
    let [failed, worst] = [failed, worst].map(|span| span.map_or("?".to_owned(), range));
    let p95 = p95.map_or("unknown".to_owned(), |span| format!("{} ms", range(span)));
    let count = match readings.len() {
        1 => String::new(),
        count => format!(" ({count} readings)"),
    };
    format!("{failed} % of requests fail ({worst} % of the worst class), p95 {p95}{count}")
}
