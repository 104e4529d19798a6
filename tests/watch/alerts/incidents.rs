//! What must fire, and how soon.

use chrono::{DateTime, TimeDelta, Utc};
use evenkeel::class::Class;
use evenkeel::watch::alerts::{Evaluator, Measure, Reading, Series};
use evenkeel::watch::event::Severity;

use super::week::{Weeks, monday};
use super::{LEARNT, STEP, first, replay, seasoned, thursday_at_ten};

const SEEDS: u64 = 20;

fn of(class: Class, measure: Measure) -> Series {
    Series::of(class, measure).unwrap()
}

/// An evaluator at `at` in the week after those that it has learnt.
fn until(at: DateTime<Utc>, seed: u64) -> (Evaluator, Weeks) {
    let (mut evaluator, mut weeks) = seasoned(seed);
    evaluator.restore(&weeks.readings(monday(LEARNT), at, TimeDelta::minutes(1), |_| 1.0));
    (evaluator, weeks)
}

/// As in the postmortem: one script, every request of every class fails, every connection waits.
fn outage(reading: &Reading) -> Reading {
    let mut reading = reading.clone().with(Series::ORDERS, 0.0);
    for class in Class::SHOPPERS {
        let arrivals = reading.get(of(class, Measure::Arrivals));
        reading = reading
            .with(of(class, Measure::Failed), arrivals)
            .with(of(class, Measure::P95), 5000.0);
    }
    reading
        .with(Series::CONNECTIONS_USED, 1.0)
        .with(Series::LOCK_WAITERS, 16.0)
}

/// A share of every class's requests fails.
fn failing(reading: &Reading, share: f64) -> Reading {
    let mut reading = reading.clone();
    for class in Class::SHOPPERS {
        let failed = reading.get(of(class, Measure::Arrivals)).map(|all| all * share);
        reading = reading.with(of(class, Measure::Failed), failed);
    }
    reading
}

#[test]
fn the_outage_of_the_postmortem_pages_within_a_reading_of_the_rules_minute() {
    let onset = thursday_at_ten();
    for seed in 0..SEEDS {
        let (mut evaluator, mut weeks) = until(onset, seed);
        let end = onset + TimeDelta::minutes(135);
        let mut readings = weeks.readings(onset, end, STEP, |_| 1.0);
        readings.iter_mut().for_each(|reading| *reading = outage(reading));
        readings.extend(weeks.readings(end, end + TimeDelta::hours(1), STEP, |_| 1.0));
        let replay = replay(&mut evaluator, &readings);
        for rule in ["browse-failing", "connections-used-up", "lock-queue"] {
            let fired = first(&replay, rule).unwrap();
            // The first reading of the outage is a step after its onset.
            let late = fired.at - (onset + STEP) - TimeDelta::minutes(1);
            assert!(late <= STEP, "seed {seed}: {rule} is {late} late");
            let resolved = fired.resolved.unwrap() - end;
            assert!(resolved <= TimeDelta::minutes(6), "seed {seed}: {rule} ends {resolved} late");
        }
        assert!(first(&replay, "checkout-budget-1h").is_some());
        assert!(first(&replay, "orders-missing").is_some());
        assert!(replay.is_above_budget());
    }
}

#[test]
fn an_outage_that_blinds_the_watch_pages_by_what_is_missing() {
    let onset = thursday_at_ten();
    let (mut evaluator, mut weeks) = until(onset, 7);
    let readings = weeks.readings(onset, onset + TimeDelta::minutes(20), STEP, |_| 1.0);
    let blind: Vec<Reading> = readings.iter().map(|reading| Reading::new(reading.at)).collect();
    let replay = replay(&mut evaluator, &blind);
    let rules: Vec<&str> = replay.fired.iter().map(|fired| &*fired.rule).collect();
    assert_eq!(rules, ["database-unseen", "shoppers-unseen"]);
    assert!(replay.fired[0].at - onset <= TimeDelta::minutes(2) + STEP * 2);
}

/// How long until the rule fires when `share` of the requests fails from Thursday morning on; and in
/// which severity.
fn burnt(seed: u64, share: f64, rule: &str) -> Option<(TimeDelta, Severity)> {
    let onset = thursday_at_ten();
    let (mut evaluator, mut weeks) = until(onset, seed);
    let end = onset + TimeDelta::hours(48);
    let mut readings = weeks.readings(onset, end, TimeDelta::minutes(1), |_| 1.0);
    readings.iter_mut().for_each(|reading| *reading = failing(reading, share));
    let replay = replay(&mut evaluator, &readings);
    first(&replay, rule).map(|fired| (fired.at - onset, fired.severity))
}

#[test]
fn a_slow_burn_is_caught_before_the_budget_is_gone() {
    // Five times the budget's rate: below the 6 that page, so it is a warning, and by then a third of
    // the month's budget is not gone yet.
    let mut slowest = TimeDelta::zero();
    for seed in 0..SEEDS {
        let (took, severity) = burnt(seed, 0.005, "browse-budget-3d").unwrap();
        assert_eq!(severity, Severity::Warning);
        slowest = slowest.max(took);
    }
    println!("0.5 % failing: a warning after {} min at most", slowest.num_minutes());
    assert!(slowest <= TimeDelta::hours(16), "{slowest}");
    let mut slowest = TimeDelta::zero();
    for seed in 0..SEEDS {
        let (took, severity) = burnt(seed, 0.01, "browse-budget-6h").unwrap();
        assert_eq!(severity, Severity::Critical);
        slowest = slowest.max(took);
    }
    println!("1 % failing: a page after {} min at most", slowest.num_minutes());
    assert!(slowest <= TimeDelta::hours(6), "{slowest}");
}

/// How long until a fall of orders by 30 % from `onset` on pages.
fn fallen(seed: u64, onset: DateTime<Utc>) -> TimeDelta {
    let (mut evaluator, mut weeks) = until(onset, seed);
    let end = onset + TimeDelta::hours(20);
    let mut readings = weeks.readings(onset, end, STEP, |_| 1.0);
    for reading in &mut readings {
        let orders = reading.get(Series::ORDERS).map(|orders| orders * 0.7);
        *reading = reading.clone().with(Series::ORDERS, orders);
    }
    let replay = replay(&mut evaluator, &readings);
    first(&replay, "orders-fallen").map_or(TimeDelta::MAX, |fired| fired.at - onset)
}

#[test]
fn a_lasting_fall_of_orders_by_a_third_is_noticed_within_hours() {
    let mut took: Vec<i64> = (0..SEEDS)
        .map(|seed| fallen(seed, thursday_at_ten()).num_minutes())
        .collect();
    took.sort_unstable();
    println!("orders -30 %: after {took:?} min");
    assert!(took[SEEDS as usize / 2] <= 120, "{took:?}");
    assert!(took[SEEDS as usize - 1] <= 6 * 60, "{took:?}");
}
