//! Whether shoppers feel the migration: periods with it and without it in turns.
//!
//! Machines drift, so "before" against "after" measures the weather. Each cycle has a period with
//! the migration and one without next to each other, in an order drawn at random, and is judged by
//! the ratio of its two 99th percentiles over all classes together. The same cycles without any
//! migration are the control: what their ratios scatter by is noise.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use serde::Serialize;

use load::Recording;

/// What the beginning of a period with the migration is cut by: for its first second the engine
/// measures the shop at rest, which would flatter it.
pub const ON_SETTLES: Duration = Duration::from_millis(1200);
/// What the beginning of a period without is cut by: the batch in flight ends first.
pub const OFF_SETTLES: Duration = Duration::from_millis(500);

/// A stretch of time, as offsets into the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// Its beginning.
    pub from: Duration,
    /// Its end.
    pub to: Duration,
}

/// Two periods next to each other.
#[derive(Clone, Copy, Debug)]
pub struct Cycle {
    /// With the migration.
    pub on: Period,
    /// Without.
    pub off: Period,
}

/// What shoppers felt in a cycle.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Felt {
    /// 99th percentile with the migration, in milliseconds.
    pub on_ms: f64,
    /// 99th percentile without, in milliseconds.
    pub off_ms: f64,
    /// The one by the other.
    pub ratio: f64,
}

impl Cycle {
    /// Measures the cycle, without the beginnings of its periods.
    pub fn felt(&self, recording: &Recording) -> Felt {
        let p99 = |period: Period, settles: Duration| {
            let from = period.from + settles;
            recording.all_classes(from, period.to).p99_ms
        };
        let (on_ms, off_ms) = (p99(self.on, ON_SETTLES), p99(self.off, OFF_SETTLES));
        Felt {
            on_ms,
            off_ms,
            ratio: on_ms / off_ms,
        }
    }
}

/// For each of `count` cycles, whether the period with the migration comes first. Half of them do.
pub fn shuffled(count: usize, rng: &mut StdRng) -> Vec<bool> {
    let mut firsts: Vec<bool> = (0..count).map(|i| i % 2 == 0).collect();
    for i in (1..count).rev() {
        firsts.swap(i, rng.random_range(0..=i));
    }
    firsts
}

/// The median of `values`; NaN when there are none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}
