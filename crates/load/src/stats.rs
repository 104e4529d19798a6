//! Counts and percentiles of a set of requests.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::record::{Outcome, Record};

/// Latencies are told apart to one part in a thousand.
const SIGNIFICANT_DIGITS: u8 = 3;

/// A histogram of microseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    #[expect(clippy::expect_used, reason = "fails only for digits above 5")]
    Histogram::new(SIGNIFICANT_DIGITS).expect("three digits are allowed")
}

/// Adds a value; the histogram grows to hold it.
pub(crate) fn note(histogram: &mut Histogram<u64>, us: u64) {
    if histogram.record(us).is_err() {
        histogram.saturating_record(us);
    }
}

/// What became of a set of requests.
///
/// The latencies are those of every request that ended, whatever its end: a timeout with the time
/// until the shopper gave up, a dropped request with the whole deadline. They are measured from the
/// moment when the request was due, so a shop that stalls cannot hide it by not being asked.
/// `NaN`, or null in JSON, when there were no requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassStats {
    /// Requests that were due, including those that were dropped.
    pub sent: u64,
    /// Answered with 2xx or 3xx.
    pub ok: u64,
    /// Answered with 409.
    pub refused: u64,
    /// Everything else: the sum of the six fields that follow.
    pub failed: u64,
    /// No complete answer within the deadline.
    pub timeout: u64,
    /// No connection, or it broke.
    pub connection: u64,
    /// Answered with 503.
    pub unavailable: u64,
    /// Answered with another 5xx.
    pub server_error: u64,
    /// Answered with another status.
    pub unexpected: u64,
    /// Not sent, because too many were under way.
    pub dropped: u64,
    /// Mean, in milliseconds.
    pub mean_ms: f64,
    /// Median, in milliseconds.
    pub p50_ms: f64,
    /// 95th percentile, in milliseconds.
    pub p95_ms: f64,
    /// 99th percentile, in milliseconds.
    pub p99_ms: f64,
    /// The worst, in milliseconds.
    pub max_ms: f64,
}

impl ClassStats {
    /// Sums `records` up.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Self {
        let mut counts = [0_u64; Outcome::ALL.len()];
        let mut latencies = histogram();
        for record in records {
            counts[record.outcome as usize] += 1;
            note(&mut latencies, u64::from(record.latency_us));
        }
        let count = |outcome: Outcome| counts[outcome as usize];
        let sent: u64 = counts.iter().sum();
        let ms = |us: f64| if sent == 0 { f64::NAN } else { us / 1000.0 };
        let quantile = |q: f64| ms(latencies.value_at_quantile(q) as f64);
        Self {
            sent,
            ok: count(Outcome::Ok),
            refused: count(Outcome::Refused),
            failed: sent - count(Outcome::Ok) - count(Outcome::Refused),
            timeout: count(Outcome::Timeout),
            connection: count(Outcome::Connection),
            unavailable: count(Outcome::Unavailable),
            server_error: count(Outcome::ServerError),
            unexpected: count(Outcome::Unexpected),
            dropped: count(Outcome::Dropped),
            mean_ms: ms(latencies.mean()),
            p50_ms: quantile(0.5),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
            max_ms: ms(latencies.max() as f64),
        }
    }

    /// Failed requests per request, 0 when there were none.
    pub fn failed_share(&self) -> f64 {
        if self.sent == 0 {
            0.0
        } else {
            self.failed as f64 / self.sent as f64
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::record::{Lag, Recording};
    use pool::Class;

    fn record(start_ms: u64, latency_ms: u32, outcome: Outcome) -> Record {
        Record {
            start_us: start_ms * 1000,
            latency_us: latency_ms * 1000,
            class: Class::Browse,
            outcome,
        }
    }

    #[test]
    fn a_record_is_16_bytes() {
        assert_eq!(size_of::<Record>(), 16);
    }

    #[test]
    fn a_window_holds_what_was_due_in_it_and_percentiles_are_right_to_a_thousandth() {
        let records = (0..1000).rev().map(|i| {
            let outcome = if i < 10 {
                Outcome::Timeout
            } else {
                Outcome::Ok
            };
            record(i, u32::try_from(i).expect("small") + 1, outcome)
        });
        let lasted = Duration::from_secs(1);
        let recording = Recording::new(Instant::now(), lasted, records.collect(), Lag::default());
        let all = recording.total(Class::Browse);
        assert_eq!(
            (all.sent, all.ok, all.failed, all.timeout),
            (1000, 990, 10, 10)
        );
        assert!((all.p50_ms - 500.0).abs() <= 1.0, "{}", all.p50_ms);
        assert!((all.p99_ms - 990.0).abs() <= 2.0, "{}", all.p99_ms);
        assert!((all.failed_share() - 0.01).abs() < 1e-9);
        let ms = Duration::from_millis;
        let window = recording.window(Class::Browse, ms(5), ms(15));
        assert_eq!((window.sent, window.failed), (10, 5));
        assert_eq!(recording.window(Class::Checkout, ms(5), ms(15)).sent, 0);
        assert_eq!(recording.window(Class::Browse, ms(15), ms(5)).sent, 0);
        let series = recording.series(Class::Browse, ms(100));
        assert_eq!(series.iter().map(|s| s.sent).collect::<Vec<_>>(), [100; 10]);
        assert!(series[9].p50_ms > series[0].p99_ms);
    }
}
