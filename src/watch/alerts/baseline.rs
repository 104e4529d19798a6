//! What every hour of the week is like, by the weeks before.
//!
//! Kept is, for each of the last weeks, the median of the hour's five-minute means and their median
//! absolute deviation. Medians: one week with an outage or a sale in it changes little.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};

use super::calendar::{Calendar, HOURS};
use super::reading::Reading;
use super::series::Series;

/// Makes a median absolute deviation comparable with a standard deviation.
const MAD_TO_SIGMA: f64 = 1.4826;
/// Share of the level that its spread is at least.
const LEAST_SPREAD: f64 = 0.1;
/// Five-minute means that an hour has to have to be learnt from.
const ENOUGH: usize = 6;

/// How it usually is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usual {
    /// Its level.
    pub level: f64,
    /// How far it usually is from that, as a standard deviation.
    pub spread: f64,
}

impl Usual {
    /// The same with a spread that is no smaller than a tenth of the level (a few calm weeks are no
    /// promise), nor than events scatter that are counted over `window`.
    pub fn at_least_natural(self, series: Series, window: TimeDelta) -> Self {
        let seconds = window.num_seconds().max(1) as f64;
        let natural = if series.counts_events() {
            (self.level.max(1.0 / seconds) / seconds).sqrt()
        } else {
            0.0
        };
        Self {
            level: self.level,
            spread: self.spread.max(self.level * LEAST_SPREAD).max(natural),
        }
    }
}

/// The hours of the week of some series.
#[derive(Clone, Debug)]
pub struct Baseline {
    calendar: Calendar,
    /// Weeks that are kept.
    weeks: usize,
    /// Weeks that an hour has to have been seen in before anything is said of it.
    least: usize,
    learnt: Vec<Learnt>,
    /// The hour of the week that is not over yet.
    open: Option<i64>,
}

#[derive(Clone, Debug)]
struct Learnt {
    series: Series,
    hours: Vec<VecDeque<Hour>>,
    /// What follows from them.
    usual: Vec<Option<Usual>>,
    open: Vec<f64>,
}

/// One hour of one week.
#[derive(Clone, Copy, Debug)]
struct Hour {
    median: f64,
    deviation: f64,
}

impl Baseline {
    /// Knows nothing yet of `series`.
    pub fn new(calendar: Calendar, weeks: usize, least: usize, series: &[Series]) -> Self {
        let learnt = |series: &Series| Learnt {
            series: *series,
            hours: vec![VecDeque::new(); HOURS],
            usual: vec![None; HOURS],
            open: Vec::new(),
        };
        Self {
            calendar,
            weeks,
            least,
            learnt: series.iter().map(learnt).collect(),
            open: None,
        }
    }

    /// Takes five-minute means.
    pub fn learn(&mut self, means: &Reading) {
        // `at` is the end of the time that they stand for.
        let begin = means.at - TimeDelta::minutes(5);
        let hour = begin.timestamp().div_euclid(3600);
        if let Some(open) = self.open.filter(|open| *open != hour) {
            let middle = DateTime::from_timestamp(open * 3600 + 1800, 0).unwrap_or_default();
            let of_week = self.hour_of_week(middle);
            for learnt in &mut self.learnt {
                learnt.close(of_week, self.weeks, self.least);
            }
        }
        self.open = Some(hour);
        for learnt in &mut self.learnt {
            learnt.open.extend(means.get(learnt.series));
        }
    }

    /// How `series` usually is at `at`, between the middles of two hours; `None` until it has been
    /// seen in enough weeks.
    pub fn usual(&self, series: Series, at: DateTime<Utc>) -> Option<Usual> {
        let learnt = self.learnt.iter().find(|learnt| learnt.series == series)?;
        let position = (self.calendar.hours_into_week(at) - 0.5).rem_euclid(HOURS as f64);
        let before = learnt.usual[position as usize % HOURS]?;
        let after = learnt.usual[(position as usize + 1) % HOURS]?;
        let part = position.fract();
        let between = |a: f64, b: f64| a + (b - a) * part;
        Some(Usual {
            level: between(before.level, after.level),
            spread: between(before.spread, after.spread),
        })
    }

    fn hour_of_week(&self, at: DateTime<Utc>) -> usize {
        self.calendar.hours_into_week(at) as usize % HOURS
    }
}

impl Learnt {
    fn close(&mut self, of_week: usize, weeks: usize, least: usize) {
        let mut values = std::mem::take(&mut self.open);
        if values.len() < ENOUGH {
            return;
        }
        let median = median(&mut values);
        let hour = Hour {
            median,
            deviation: deviation(&values, median),
        };
        let kept = &mut self.hours[of_week];
        kept.push_back(hour);
        while kept.len() > weeks {
            kept.pop_front();
        }
        if kept.len() >= least {
            self.usual[of_week] = Some(Usual::of(kept));
        }
    }
}

impl Usual {
    fn of(hours: &VecDeque<Hour>) -> Self {
        let mut medians: Vec<f64> = hours.iter().map(|hour| hour.median).collect();
        let mut deviations: Vec<f64> = hours.iter().map(|hour| hour.deviation).collect();
        let level = median(&mut medians);
        let between_weeks = deviation(&medians, level);
        let within_hour = median(&mut deviations);
        Self {
            level,
            spread: MAD_TO_SIGMA * between_weeks.hypot(within_hour),
        }
    }
}

/// The median; sorts. 0 of nothing.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values {
        [] => 0.0,
        odd if odd.len() % 2 == 1 => odd[middle],
        even => f64::midpoint(even[middle - 1], even[middle]),
    }
}

/// The median absolute deviation from `from`.
fn deviation(values: &[f64], from: f64) -> f64 {
    let mut distances: Vec<f64> = values.iter().map(|value| (value - from).abs()).collect();
    median(&mut distances)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weeks of a series that is 100 at noon and 10 otherwise; week by week times a factor.
    fn weeks(factors: &[f64]) -> Baseline {
        let mut baseline = Baseline::new(Calendar::default(), 8, 3, &[Series::ORDERS]);
        for (week, factor) in factors.iter().enumerate() {
            for slot in 0..(7 * 288) {
                // The epoch was a Thursday; begin on the Monday after.
                let second = (week as i64 * 7 + 4) * 86_400 + slot * 300;
                let noon = (second / 3600) % 24 == 12;
                let value = factor * if noon { 100.0 } else { 10.0 };
                let end = DateTime::from_timestamp(second + 300, 0).unwrap();
                baseline.learn(&Reading::new(end).with(Series::ORDERS, value));
            }
        }
        baseline
    }

    fn monday(hour: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(18 * 7 * 86_400 + 4 * 86_400 + hour * 3600 + 1800, 0).unwrap()
    }

    #[test]
    fn an_hour_is_as_it_usually_is_in_that_hour() {
        let baseline = weeks(&[1.0, 1.1, 0.9, 1.0]);
        let noon = baseline.usual(Series::ORDERS, monday(12)).unwrap();
        let morning = baseline.usual(Series::ORDERS, monday(8)).unwrap();
        assert!(
            (noon.level - 100.0).abs() < 1e-9 && noon.spread > 5.0,
            "{noon:?}"
        );
        assert!((morning.level - 10.0).abs() < 1e-9, "{morning:?}");
        assert_eq!(baseline.usual(Series::WAL, monday(12)), None);
    }

    #[test]
    fn one_week_with_an_outage_in_it_changes_nothing() {
        let noon = |factors: &[f64]| weeks(factors).usual(Series::ORDERS, monday(12)).unwrap();
        let with = noon(&[1.0, 1.02, 0.0, 0.98, 1.0]);
        let without = noon(&[1.0, 1.02, 0.99, 0.98, 1.0]);
        assert!(
            (with.level / without.level - 1.0).abs() < 0.03,
            "{with:?} {without:?}"
        );
    }

    #[test]
    fn two_weeks_are_too_few_to_say_anything() {
        assert_eq!(weeks(&[1.0, 1.0]).usual(Series::ORDERS, monday(12)), None);
    }
}
