//! What was measured lately, as means over 10 seconds for an hour, over a minute for a day and over
//! five minutes for three days. Its size is fixed: about 1 MB.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};

use super::reading::Reading;
use super::series::Series;

/// The resolutions in seconds, and how many means of each are kept.
const RESOLUTIONS: [(i64, usize); 3] = [(10, 360), (60, 1440), (300, 864)];
/// The longest span that is kept.
pub const LONGEST: TimeDelta = TimeDelta::days(3);
/// A reading stands for the time since the one before it, unless that is longer ago: nobody knows
/// what was in between.
const STANDS_FOR: TimeDelta = TimeDelta::seconds(330);

/// One value per series; NaN is unknown.
type Values = [f64; Series::COUNT];

/// Means that have just been completed.
#[derive(Clone, Debug)]
pub struct Completed {
    /// Over how many seconds.
    pub seconds: i64,
    /// The means, with the end of the time that they stand for.
    pub means: Reading,
}

/// The sum of a series over a span.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Total {
    /// Mean over what is known.
    pub mean: f64,
    /// Share of the span that is known, from above 0 to 1.
    pub known: f64,
}

/// All resolutions together.
#[derive(Clone, Debug)]
pub struct Spans {
    last: Option<DateTime<Utc>>,
    levels: [Level; 3],
}

impl Spans {
    /// Without any reading.
    pub fn new() -> Self {
        Self {
            last: None,
            levels: RESOLUTIONS.map(|(seconds, kept)| Level::new(seconds, kept)),
        }
    }

    /// Takes a reading, and returns the means that it completes, finer before coarser. One that is
    /// not later than the last is left out.
    pub fn take(&mut self, reading: &Reading) -> Vec<Completed> {
        let mut completed = Vec::new();
        let all = reading.values();
        let finest = RESOLUTIONS[0].0;
        // The time until `at`, so the instant before it counts.
        let bucket = |at: DateTime<Utc>| (at.timestamp_millis() - 1).div_euclid(finest * 1000);
        let to = bucket(reading.at);
        let from = match self.last {
            Some(last) if reading.at <= last => return completed,
            Some(last) if reading.at - last <= STANDS_FOR => (bucket(last) + 1).min(to),
            _ => to,
        };
        self.last = Some(reading.at);
        for bucket in from..=to {
            self.fill(bucket * finest, &all, &mut completed);
        }
        completed
    }

    fn fill(&mut self, second: i64, values: &Values, completed: &mut Vec<Completed>) {
        let mut values = *values;
        let mut second = second;
        for level in &mut self.levels {
            let Some((begin, means)) = level.add(second, &values) else {
                return;
            };
            completed.push(level.describe(begin, &means));
            (second, values) = (begin, means);
        }
    }

    /// The mean of `series` over the `span` that ends with the last completed mean; `None` when
    /// nothing of it is known.
    pub fn total(&self, series: Series, span: TimeDelta) -> Option<Total> {
        let seconds = span.num_seconds();
        let level = self
            .levels
            .iter()
            .find(|level| level.reach() >= seconds)
            .or(self.levels.last())?;
        level.total(series, seconds)
    }
}

/// Means of one resolution.
#[derive(Clone, Debug)]
struct Level {
    seconds: i64,
    kept: usize,
    /// Of the time that is not over yet: which it is, sums, and how many values they are of.
    open: Option<(i64, Values, [u32; Series::COUNT])>,
    /// Number of the newest completed mean, counted from the epoch.
    newest: i64,
    /// Sums from the beginning of time until each completed mean, oldest first: the sum over any
    /// span is one subtraction.
    sums: VecDeque<Sums>,
}

#[derive(Clone, Debug)]
struct Sums {
    of: Values,
    known: [u32; Series::COUNT],
}

impl Level {
    fn new(seconds: i64, kept: usize) -> Self {
        let nothing = Sums {
            of: [0.0; Series::COUNT],
            known: [0; Series::COUNT],
        };
        Self {
            seconds,
            kept,
            open: None,
            newest: 0,
            sums: VecDeque::from([nothing]),
        }
    }

    fn reach(&self) -> i64 {
        self.seconds * self.kept as i64
    }

    /// Adds values of the time that begins at `second`. When a mean is completed by that, returns
    /// the second at which its time began, and the means.
    fn add(&mut self, second: i64, values: &Values) -> Option<(i64, Values)> {
        let bucket = second.div_euclid(self.seconds);
        let completed = match self.open.take() {
            Some(open) if open.0 == bucket => {
                self.open = Some(open);
                None
            }
            Some((before, sums, known)) => {
                let mut means = sums;
                for (mean, count) in means.iter_mut().zip(known) {
                    *mean = if count == 0 {
                        f64::NAN
                    } else {
                        *mean / f64::from(count)
                    };
                }
                self.push(before, &means);
                Some((before * self.seconds, means))
            }
            None => None,
        };
        let (_, sums, known) =
            self.open
                .get_or_insert((bucket, [0.0; Series::COUNT], [0; Series::COUNT]));
        for ((sum, count), value) in sums.iter_mut().zip(known).zip(values) {
            if value.is_finite() {
                *sum += value;
                *count += 1;
            }
        }
        completed
    }

    fn push(&mut self, bucket: i64, means: &Values) {
        // The first mean there ever is has nothing before it.
        let unknown = if self.sums.len() == 1 {
            0
        } else {
            (bucket - self.newest - 1).clamp(0, self.kept as i64)
        };
        self.newest = bucket;
        let Some(last) = self.sums.back().cloned() else {
            return;
        };
        for _ in 0..unknown {
            self.sums.push_back(last.clone());
        }
        let mut next = last;
        for ((sum, known), mean) in next.of.iter_mut().zip(&mut next.known).zip(means) {
            if mean.is_finite() {
                *sum += mean;
                *known = known.wrapping_add(1);
            }
        }
        self.sums.push_back(next);
        while self.sums.len() > self.kept + 1 {
            self.sums.pop_front();
        }
    }

    fn total(&self, series: Series, seconds: i64) -> Option<Total> {
        let wanted = (seconds / self.seconds).max(1);
        let newest = self.sums.len() - 1;
        let oldest = newest.saturating_sub(usize::try_from(wanted).ok()?);
        let (from, to) = (&self.sums[oldest], &self.sums[newest]);
        let i = series.index();
        let known = to.known[i].wrapping_sub(from.known[i]);
        (known > 0).then(|| Total {
            mean: (to.of[i] - from.of[i]) / f64::from(known),
            known: f64::from(known) / wanted as f64,
        })
    }

    fn describe(&self, begin: i64, means: &Values) -> Completed {
        let end = DateTime::from_timestamp(begin + self.seconds, 0).unwrap_or_default();
        Completed {
            seconds: self.seconds,
            means: Reading::of(end, *means),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(second: i64, orders: f64) -> Reading {
        let at = DateTime::from_timestamp(second, 0).unwrap();
        Reading::new(at).with(Series::ORDERS, orders)
    }

    fn total(spans: &Spans, seconds: i64) -> Option<Total> {
        spans.total(Series::ORDERS, TimeDelta::seconds(seconds))
    }

    #[test]
    fn a_mean_is_of_time_not_of_readings() {
        let mut spans = Spans::new();
        // Ten readings in the first ten seconds, one in the next.
        for second in 0..10 {
            spans.take(&reading(second, 8.0));
        }
        spans.take(&reading(12, 2.0));
        spans.take(&reading(21, 0.0));
        assert_eq!(total(&spans, 20).unwrap().mean, 5.0);
    }

    #[test]
    fn a_span_that_is_not_known_is_not_a_fine_one() {
        let mut spans = Spans::new();
        for second in (0..=600).step_by(10) {
            spans.take(&reading(second, 1.0));
        }
        assert_eq!(
            total(&spans, 600).unwrap(),
            Total {
                mean: 1.0,
                known: 1.0
            }
        );
        assert_eq!(
            total(&spans, 1200).unwrap(),
            Total {
                mean: 1.0,
                known: 0.5
            }
        );
        // Silence for 600 s.
        spans.take(&reading(1210, 3.0));
        spans.take(&reading(1220, 3.0));
        let after = total(&spans, 600).unwrap();
        assert!(after.known < 0.05, "{after:?}");
        // NaN is unknown, too.
        let mut unknown = Spans::new();
        for second in (0..=600).step_by(10) {
            unknown.take(&reading(second, f64::NAN));
        }
        assert_eq!(total(&unknown, 600), None);
    }

    #[test]
    fn coarse_readings_stand_for_the_time_between_them() {
        let mut spans = Spans::new();
        for second in (0..=3600).step_by(300) {
            spans.take(&reading(second, 4.0));
        }
        assert_eq!(
            total(&spans, 1800).unwrap(),
            Total {
                mean: 4.0,
                known: 1.0
            }
        );
    }

    #[test]
    fn readings_from_the_past_change_nothing() {
        let mut spans = Spans::new();
        spans.take(&reading(1000, 1.0));
        spans.take(&reading(1010, 1.0));
        assert!(spans.take(&reading(500, 99.0)).is_empty());
        spans.take(&reading(1020, 1.0));
        assert_eq!(total(&spans, 20).unwrap().mean, 1.0);
    }

    #[test]
    fn a_leap_of_the_clock_ends_and_keeps_to_the_size() {
        let mut spans = Spans::new();
        spans.take(&reading(0, 1.0));
        spans.take(&reading(10, 1.0));
        let far = 40_000_000_000;
        spans.take(&reading(far, 2.0));
        spans.take(&reading(far + 10, 2.0));
        assert!(
            spans
                .levels
                .iter()
                .all(|level| level.sums.len() <= level.kept + 1)
        );
        assert_eq!(total(&spans, 10).unwrap().mean, 2.0);
    }

    #[test]
    fn long_spans_are_kept_for_three_days() {
        let mut spans = Spans::new();
        let day = 86_400;
        for second in (0..4 * day).step_by(60) {
            let old = second < 3 * day;
            spans.take(&reading(second, if old { 1.0 } else { 4.0 }));
        }
        let three = total(&spans, LONGEST.num_seconds()).unwrap();
        assert!((three.mean - 2.0).abs() < 0.02, "{three:?}");
        assert!(three.known > 0.99);
    }
}
