//! A reading with a verdict and a reason.

use std::time::Instant;

use serde::Serialize;

/// What a reading means for a migration. Later variants are worse; [`Verdict::Unknown`] is not
/// [`Verdict::Normal`], it can only slow a migration down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No shopper is there to be disturbed.
    Idle,
    /// Shoppers are within target.
    Normal,
    /// Nobody can tell: the reading is missing, stale or not a number.
    Unknown,
    /// Slower than target: work a little less.
    Slow,
    /// Shoppers queue, fail, or are twice as slow as they were: work much less, and hold.
    Cut,
    /// Critical: stop at once and cancel the batch in flight.
    Stop,
}

/// One verdict, when it was reached, and why.
#[derive(Clone, Debug)]
pub struct Signal {
    /// What was measured, e.g. `latency of checkout` or `pool`.
    pub source: String,
    /// What it means.
    pub verdict: Verdict,
    /// When it was measured.
    pub at: Instant,
    /// The numbers behind the verdict, in words.
    pub reason: String,
}
