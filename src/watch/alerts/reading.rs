//! One point of time of all that alerts look at.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::series::{Measure, Series};
use crate::watch::event::Felt;
use crate::watch::sessions::{Snapshot, State};

/// What was measured at one point of time. What was not measured, or came out as no number, is
/// unknown: neither fine nor bad.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// When.
    pub at: DateTime<Utc>,
    /// By [`Series::index`]; NaN is unknown.
    values: [f64; Series::COUNT],
}

impl Reading {
    /// A reading in which all is unknown.
    pub fn new(at: DateTime<Utc>) -> Self {
        Self {
            at,
            values: [f64::NAN; Series::COUNT],
        }
    }

    /// A reading of all values, by [`Series::index`].
    pub(super) fn of(at: DateTime<Utc>, values: [f64; Series::COUNT]) -> Self {
        Self { at, values }
    }

    /// All values, by [`Series::index`]; NaN is unknown.
    pub(super) fn values(&self) -> [f64; Series::COUNT] {
        let mut values = self.values;
        for series in Series::all() {
            values[series.index()] = self.get(series).unwrap_or(f64::NAN);
        }
        values
    }

    /// With `value` for `series`.
    #[must_use]
    pub fn with(mut self, series: Series, value: impl Into<Option<f64>>) -> Self {
        self.values[series.index()] = value.into().unwrap_or(f64::NAN);
        self
    }

    /// With what shoppers felt.
    #[must_use]
    pub fn with_shoppers(mut self, felt: &[Felt]) -> Self {
        for felt in felt {
            for (measure, value) in [
                (Measure::Arrivals, Some(felt.arrivals_per_s)),
                (Measure::Failed, Some(felt.failed_per_s)),
                (Measure::P95, felt.p95_ms),
            ] {
                if let Some(series) = Series::of(felt.class, measure) {
                    self = self.with(series, value);
                }
            }
        }
        self
    }

    /// With what the database said in `now`. Rates need the snapshot `before`; without one, or after
    /// the server has begun to count anew, they are unknown.
    #[must_use]
    pub fn with_database(self, now: &Snapshot, before: Option<&Snapshot>) -> Self {
        let sample = &now.sample;
        let seconds =
            before.map(|before| now.at.saturating_duration_since(before.at).as_secs_f64());
        let rate = |count: fn(&Snapshot) -> i64| {
            let more = count(now).checked_sub(count(before?))?;
            let seconds = seconds.filter(|seconds| *seconds > 0.0)?;
            (more >= 0).then(|| more as f64 / seconds)
        };
        let sessions = sample.sessions.iter();
        let active = sessions
            .clone()
            .filter(|s| s.state == State::Active)
            .count();
        let blocked = sessions.clone().filter(|s| s.is_blocked()).count();
        let longest = sessions.filter_map(|s| s.xact_s).fold(0.0, f64::max);
        let used = f64::from(sample.connections) / f64::from(sample.connections_max);
        self.with(Series::CONNECTIONS_USED, used)
            .with(Series::ACTIVE_SESSIONS, active as f64)
            .with(Series::LOCK_WAITERS, blocked as f64)
            .with(Series::LONGEST_TRANSACTION, longest)
            .with(Series::WAL, rate(|s| s.sample.wal_bytes))
            .with(
                Series::CHECKPOINTS_REQUESTED,
                rate(|s| s.sample.checkpoints_requested).map(|per_s| per_s * 60.0),
            )
            .with(Series::REPLICA_LAG, sample.replica_lag_s)
    }

    /// The value of `series`; `None` is unknown.
    pub fn get(&self, series: Series) -> Option<f64> {
        let value = self.values[series.index()];
        if value.is_finite() {
            return Some(value);
        }
        let (arrivals, failed) = series.share_of()?;
        let (arrivals, failed) = (self.get(arrivals)?, self.get(failed)?);
        // A request fails later than it arrives, so that for a moment more may fail than arrive.
        // Where nobody asks, nobody is refused.
        Some(if failed <= 0.0 {
            0.0
        } else {
            (failed / arrivals).min(1.0)
        })
    }

    /// What is known, by name.
    pub fn known(&self) -> BTreeMap<&'static str, f64> {
        Series::all()
            .filter_map(|series| Some((series.name(), self.get(series)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use pool::Class;

    use super::*;
    use crate::watch::sessions::{Sample, Session};

    fn snapshot(at: Instant, wal_bytes: i64, sessions: Vec<Session>) -> Snapshot {
        Snapshot {
            at,
            wall: DateTime::UNIX_EPOCH,
            took: Duration::ZERO,
            sample: Sample {
                connections: 90,
                connections_max: 100,
                wal_bytes,
                sessions,
                ..Sample::default()
            },
        }
    }

    #[test]
    fn a_snapshot_gives_levels_and_two_give_rates() {
        let start = Instant::now();
        let waits = Session {
            blocked_by: vec![1],
            state: State::Active,
            xact_s: Some(7.0),
            ..Session::default()
        };
        let before = snapshot(start, 1000, Vec::new());
        let now = snapshot(start + Duration::from_secs(2), 5000, vec![waits]);
        let empty = Reading::new(DateTime::UNIX_EPOCH);
        let reading = empty.clone().with_database(&now, Some(&before));
        assert_eq!(reading.get(Series::CONNECTIONS_USED), Some(0.9));
        assert_eq!(reading.get(Series::LOCK_WAITERS), Some(1.0));
        assert_eq!(reading.get(Series::LONGEST_TRANSACTION), Some(7.0));
        assert_eq!(reading.get(Series::WAL), Some(2000.0));
        assert_eq!(reading.get(Series::REPLICA_LAG), None);
        assert_eq!(
            empty.clone().with_database(&now, None).get(Series::WAL),
            None
        );
        let restarted = empty.with_database(&before, Some(&now));
        assert_eq!(
            restarted.get(Series::WAL),
            None,
            "less than before is no rate"
        );
    }

    #[test]
    fn the_share_that_fails_follows_and_no_number_is_unknown() {
        let felt = |arrivals_per_s, failed_per_s| Felt {
            class: Class::Browse,
            arrivals_per_s,
            failed_per_s,
            p95_ms: Some(f64::NAN),
        };
        let share = Series::of(Class::Browse, Measure::FailedShare).unwrap();
        let p95 = Series::of(Class::Browse, Measure::P95).unwrap();
        let at = DateTime::UNIX_EPOCH;
        let reading = Reading::new(at).with_shoppers(&[felt(200.0, 50.0)]);
        assert_eq!((reading.get(share), reading.get(p95)), (Some(0.25), None));
        let idle = Reading::new(at).with_shoppers(&[felt(0.0, 0.0)]);
        assert_eq!(idle.get(share), Some(0.0));
        let late = Reading::new(at).with_shoppers(&[felt(0.0, 3.0)]);
        assert_eq!(late.get(share), Some(1.0));
        let lost = Reading::new(at).with_shoppers(&[felt(f64::NAN, 3.0)]);
        assert_eq!(lost.get(share), None);
    }
}
