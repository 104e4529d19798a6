//! Weeks of readings for the alerts to be tried on, from a seed.
//!
//! Their shape is real: how a British web shop's orders spread over the hours and days of a week
//! (tests/fixtures/README.md), scaled to the peak of the shop in the postmortem, 5,000 orders in 2 h
//! 15 min. The rest is made up, each with what made false alarms elsewhere:
//!
//! - no two weeks, days or half hours are alike (factors of 4, 6 and 5 %), and orders and visits
//!   arrive as a Poisson process;
//! - latencies have a heavy tail (Pareto, without a variance), and queues for locks do;
//! - every night a backup writes 40 MB/s for 40 minutes in one long transaction, a replica falls
//!   behind, checkpoints are forced; somebody runs a report of up to half an hour each day;
//! - two deploys each weekday fail 2 % of the requests for 45 s and are slow for 90 s;
//! - of ten thousand requests one or two fail at any time, and one reading in 500 is missing.

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use evenkeel::watch::alerts::{Measure, Reading, Series};
use pool::Class;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal, Pareto, Poisson};

const ORDERS: &str = include_str!("../../fixtures/online-retail-week-orders.csv");
/// Orders per second in the busiest hour: 5,000 in 2 h 15 min.
const PEAK: f64 = 0.617;
/// Share of the peak below which it never falls, also when the real shop was closed.
const LEAST: f64 = 0.02;
/// Visits for every order, and visits of robots per second.
const VISITS: f64 = 10.0;
const ROBOTS: f64 = 1.0;
/// One factor for half an hour follows the one before by so much.
const MEMORY: f64 = 0.7;

/// Monday at midnight; weeks are counted from here.
pub fn monday(week: i64) -> DateTime<Utc> {
    let first: DateTime<Utc> = "2024-05-06T00:00:00Z".parse().unwrap();
    first + TimeDelta::weeks(week)
}

/// A shop whose weeks are alike in shape and differ in detail.
#[derive(Clone)]
pub struct Weeks {
    rng: Xoshiro256PlusPlus,
    /// Share of the peak by hour of the week, from Monday on.
    shape: [f64; 168],
    week: f64,
    day: f64,
    half_hour: f64,
    deploys: Vec<DateTime<Utc>>,
    backup: DateTime<Utc>,
    report: (DateTime<Utc>, TimeDelta),
}

impl Weeks {
    pub fn new(seed: u64) -> Self {
        let start = monday(0);
        Self {
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            shape: shape(),
            week: 1.0,
            day: 1.0,
            half_hour: 0.0,
            deploys: Vec::new(),
            backup: start,
            report: (start, TimeDelta::zero()),
        }
    }

    /// Readings every `step` from `from` until `to`, with the day's traffic times `surge(at)`.
    pub fn readings(
        &mut self,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        step: TimeDelta,
        surge: impl Fn(DateTime<Utc>) -> f64,
    ) -> Vec<Reading> {
        let mut readings = Vec::new();
        let mut at = from;
        while at < to {
            at += step;
            self.fate(at - step, at);
            readings.push(self.reading(at, step.as_seconds_f64(), surge(at)));
        }
        readings
    }

    /// What is drawn once for a week, a day or half an hour that begins between `before` and `at`.
    fn fate(&mut self, before: DateTime<Utc>, at: DateTime<Utc>) {
        let passes = |seconds: i64| before.timestamp() / seconds != at.timestamp() / seconds;
        if passes(1800) {
            let fresh = self.around_one(0.05).ln();
            self.half_hour = MEMORY * self.half_hour + (1.0 - MEMORY.powi(2)).sqrt() * fresh;
        }
        if passes(86_400) {
            let midnight = at.date_naive().and_hms_opt(0, 0, 0).unwrap().and_utc();
            let day_of_week = (midnight - monday(0)).num_days().rem_euclid(7);
            if day_of_week == 0 {
                self.week = self.around_one(0.04);
            }
            self.day = self.around_one(0.06);
            let mut minute =
                |from: i64, to: i64| midnight + TimeDelta::minutes(self.rng.random_range(from..to));
            self.backup = minute(110, 130);
            self.report = (minute(540, 1000), TimeDelta::minutes(25));
            self.deploys = if day_of_week < 5 {
                vec![minute(600, 780), minute(800, 1020)]
            } else {
                Vec::new()
            };
        }
    }

    fn reading(&mut self, at: DateTime<Utc>, seconds: f64, surge: f64) -> Reading {
        if self.rng.random_bool(0.002) {
            return Reading::new(at);
        }
        let level = self.week * self.day * self.half_hour.exp() * surge;
        let load = self.share_of_peak(at) * level;
        let orders = self.count(PEAK * load, seconds);
        let since_deploy = self.deploys.iter().map(|deploy| at - *deploy);
        let since_deploy = since_deploy
            .filter(|since| *since >= TimeDelta::zero())
            .min();
        let deploy = |s| since_deploy.is_some_and(|since| since < TimeDelta::seconds(s));
        let (failing, slowing) = (deploy(45), deploy(90));
        let into_backup = at - self.backup;
        let backup = into_backup > TimeDelta::zero() && into_backup < TimeDelta::minutes(40);
        let into_report = at - self.report.0;
        let report = into_report > TimeDelta::zero() && into_report < self.report.1;

        let mut reading = Reading::new(at).with(Series::ORDERS, orders);
        for (class, per_order, base_ms) in [
            (Class::Checkout, 1.0, 80.0),
            (Class::Account, 1.5, 40.0),
            (Class::Browse, VISITS, 30.0),
        ] {
            let robots = if class == Class::Browse { ROBOTS } else { 0.0 };
            let arrivals = if class == Class::Checkout {
                orders
            } else {
                self.count(PEAK * load * per_order + robots, seconds)
            };
            let share = if failing { 0.02 } else { 0.00015 };
            let failed = self.count(arrivals * share, seconds).min(arrivals);
            let mut p95 = base_ms * (1.0 + 0.3 * load) * self.around_one(0.15);
            if self.rng.random_bool(0.003) {
                p95 *= Pareto::new(1.0, 1.5).unwrap().sample(&mut self.rng) * 2.0;
            }
            if slowing {
                p95 *= 4.0;
            }
            // Nothing takes longer than a request may.
            p95 = p95.min(5000.0);
            for (measure, value) in [
                (Measure::Arrivals, Some(arrivals)),
                (Measure::Failed, Some(failed)),
                (Measure::P95, (arrivals > 0.0).then_some(p95)),
            ] {
                reading = reading.with(Series::of(class, measure).unwrap(), value);
            }
        }
        let mut waiters = if self.rng.random_bool(0.05) { 1.0 } else { 0.0 };
        if self.rng.random_bool(0.002) {
            waiters = Pareto::new(1.0_f64, 1.2)
                .unwrap()
                .sample(&mut self.rng)
                .floor();
        }
        let longest = if backup {
            into_backup.as_seconds_f64()
        } else if report {
            into_report.as_seconds_f64()
        } else {
            0.5 * self.around_one(0.8)
        };
        let wal = (2e5 + 3e6 * load) * self.around_one(0.3) + if backup { 4e7 } else { 0.0 };
        let active = self.count(2.0 + 8.0 * load, 1.0);
        reading
            .with(
                Series::CONNECTIONS_USED,
                (0.25 + 0.1 * load) * self.around_one(0.05),
            )
            .with(Series::ACTIVE_SESSIONS, active)
            .with(Series::LOCK_WAITERS, waiters)
            .with(Series::LONGEST_TRANSACTION, longest)
            .with(Series::WAL, wal)
            .with(
                Series::CHECKPOINTS_REQUESTED,
                if backup { 1.5 } else { 0.0 },
            )
            .with(
                Series::REPLICA_LAG,
                if backup { 12.0 } else { 0.1 } * self.around_one(0.4),
            )
    }

    /// Events per second when `rate` are to be expected, counted over `seconds`.
    fn count(&mut self, rate: f64, seconds: f64) -> f64 {
        let expected = rate * seconds;
        if expected <= 0.0 {
            return 0.0;
        }
        Poisson::new(expected).unwrap().sample(&mut self.rng) / seconds
    }

    fn around_one(&mut self, sigma: f64) -> f64 {
        LogNormal::new(0.0, sigma).unwrap().sample(&mut self.rng)
    }

    /// Between the middles of two hours.
    fn share_of_peak(&self, at: DateTime<Utc>) -> f64 {
        let hours = (at - monday(0)).as_seconds_f64() / 3600.0 - 0.5;
        let (hour, part) = (hours.floor() as i64, hours.rem_euclid(1.0));
        let of = |hour: i64| self.shape[hour.rem_euclid(168) as usize];
        of(hour) * (1.0 - part) + of(hour + 1) * part
    }
}

/// Share of the peak by hour of the week: the hour's share of a day's orders times the day's share of a
/// week's. Tuesday's orders end at noon because the data does, so its day is taken to be as busy
/// against the other weekdays as its morning was.
fn shape() -> [f64; 168] {
    let (mut by_hour, mut by_day, mut mornings) = ([0.0; 24], [0.0; 7], [0.0; 7]);
    for line in ORDERS.lines().skip(1) {
        let (_, at) = line.split_once(',').unwrap();
        let at: DateTime<Utc> = at.parse().unwrap();
        let day = (at - monday(0)).num_days().rem_euclid(7) as usize;
        // Days before the epoch of the count are rounded towards it.
        let day = if at < monday(0) { (day + 6) % 7 } else { day };
        by_hour[at.hour() as usize] += 1.0;
        by_day[day] += 1.0;
        if at.hour() < 12 {
            mornings[day] += 1.0;
        }
    }
    let others = [0, 2, 3, 4];
    let sum = |of: &[f64; 7]| others.iter().map(|&day| of[day]).sum::<f64>();
    by_day[1] = mornings[1] * sum(&by_day) / sum(&mornings);
    let most = |of: &[f64]| of.iter().copied().fold(0.0, f64::max);
    let (busiest_hour, busiest_day) = (most(&by_hour), most(&by_day));
    std::array::from_fn(|i| {
        let share = by_hour[i % 24] / busiest_hour * by_day[i / 24] / busiest_day;
        LEAST + (1.0 - LEAST) * share
    })
}

/// A sale on `day`, with `most` times the traffic: it rises from 8 to 10 o'clock, stays, and falls from 20
/// to 22; the day after, a tenth of the usual customers stay away.
pub fn sale(day: DateTime<Utc>, most: f64) -> impl Fn(DateTime<Utc>) -> f64 {
    move |at| {
        let hour = (at - day).as_seconds_f64() / 3600.0;
        let rise = ((hour - 8.0) / 2.0).clamp(0.0, 1.0);
        let fall = ((22.0 - hour) / 2.0).clamp(0.0, 1.0);
        if (24.0..48.0).contains(&hour) {
            0.9
        } else {
            1.0 + (most - 1.0) * rise.min(fall)
        }
    }
}

#[test]
fn the_shape_is_that_of_the_real_week() {
    let shape = shape();
    let peak = shape.iter().copied().fold(0.0, f64::max);
    assert!((peak - 1.0).abs() < 1e-9, "{peak}");
    // Thursday was the busiest day, nobody ordered on Saturday or at night.
    let busiest = shape.iter().position(|share| *share == peak).unwrap();
    assert_eq!(busiest / 24, 3);
    assert_eq!(shape[5 * 24 + 12], LEAST);
    assert_eq!(shape[2 * 24 + 3], LEAST);
}
