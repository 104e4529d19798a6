//! What must fire, and how soon.

use std::sync::OnceLock;

use chrono::TimeDelta;
use evenkeel::watch::alerts::{Evaluator, Measure, Reading, Series};
use evenkeel::watch::event::Severity;
use pool::Class;

use super::week::{Weeks, monday};
use super::{LEARNT, STEP, first, replay, seasoned, thursday_at_ten};

const SEEDS: u64 = 10;

fn of(class: Class, measure: Measure) -> Series {
    Series::of(class, measure).unwrap()
}

/// An evaluator on Thursday at ten in the week after those that it has learnt, and its shop.
fn busy(seed: u64) -> (Evaluator, Weeks) {
    static LEARNT_ONCE: [OnceLock<(Evaluator, Weeks)>; SEEDS as usize] =
        [const { OnceLock::new() }; SEEDS as usize];
    let ready = LEARNT_ONCE[seed as usize].get_or_init(|| {
        let (mut evaluator, mut weeks) = seasoned(seed);
        let until = thursday_at_ten();
        evaluator.restore(&weeks.readings(monday(LEARNT), until, TimeDelta::minutes(1), |_| 1.0));
        (evaluator, weeks)
    });
    ready.clone()
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
        let failed = reading
            .get(of(class, Measure::Arrivals))
            .map(|all| all * share);
        reading = reading.with(of(class, Measure::Failed), failed);
    }
    reading
}

#[test]
fn the_outage_of_the_postmortem_pages_within_a_reading_of_the_rules_minute() {
    let onset = thursday_at_ten();
    for seed in 0..SEEDS {
        let (mut evaluator, mut weeks) = busy(seed);
        let end = onset + TimeDelta::minutes(135);
        let mut readings = weeks.readings(onset, end, STEP, |_| 1.0);
        readings
            .iter_mut()
            .for_each(|reading| *reading = outage(reading));
        readings.extend(weeks.readings(end, end + TimeDelta::hours(1), STEP, |_| 1.0));
        let replay = replay(&mut evaluator, &readings);
        for rule in ["browse-failing", "connections-used-up", "lock-queue"] {
            let fired = first(&replay, rule).unwrap();
            // The first reading of the outage is a step after its onset.
            let late = fired.at - (onset + STEP) - TimeDelta::minutes(1);
            assert!(late <= STEP, "seed {seed}: {rule} is {late} late");
            let resolved = fired.resolved.unwrap() - end;
            assert!(
                resolved <= TimeDelta::minutes(6),
                "seed {seed}: {rule} ends {resolved} late"
            );
        }
        assert!(first(&replay, "checkout-budget-1h").is_some());
        assert!(first(&replay, "orders-missing").is_some());
        assert!(replay.is_above_budget());
    }
}

#[test]
fn an_outage_that_blinds_the_watch_pages_by_what_is_missing() {
    let onset = thursday_at_ten();
    let (mut evaluator, mut weeks) = busy(7);
    let readings = weeks.readings(onset, onset + TimeDelta::minutes(20), STEP, |_| 1.0);
    let blind: Vec<Reading> = readings
        .iter()
        .map(|reading| Reading::new(reading.at))
        .collect();
    let replay = replay(&mut evaluator, &blind);
    let rules: Vec<&str> = replay.fired.iter().map(|fired| &*fired.rule).collect();
    assert_eq!(rules, ["database-unseen", "shoppers-unseen"]);
    assert!(replay.fired[0].at - onset <= TimeDelta::minutes(2) + STEP * 2);
}

/// How long until the rule fires when `share` of the requests fails from Thursday morning on; and in
/// which severity.
fn burnt(seed: u64, share: f64, rule: &str) -> Option<(TimeDelta, Severity)> {
    let onset = thursday_at_ten();
    let (mut evaluator, mut weeks) = busy(seed);
    let end = onset + TimeDelta::hours(48);
    let mut readings = weeks.readings(onset, end, TimeDelta::minutes(1), |_| 1.0);
    readings
        .iter_mut()
        .for_each(|reading| *reading = failing(reading, share));
    let replay = replay(&mut evaluator, &readings);
    first(&replay, rule).map(|fired| (fired.at - onset, fired.severity))
}

#[test]
fn a_slow_burn_is_caught_before_the_budget_is_gone() {
    // Five times the budget's rate: below the 6 that page, so it is a warning, when a tenth of a month's
    // budget is gone.
    let mut slowest = TimeDelta::zero();
    for seed in 0..SEEDS {
        let (took, severity) = burnt(seed, 0.005, "browse-budget-3d").unwrap();
        assert_eq!(severity, Severity::Warning);
        slowest = slowest.max(took);
    }
    println!(
        "0.5 % failing: a warning after {} min at most",
        slowest.num_minutes()
    );
    assert!(slowest <= TimeDelta::hours(8), "{slowest}");
    let mut slowest = TimeDelta::zero();
    for seed in 0..SEEDS {
        let (took, severity) = burnt(seed, 0.01, "browse-budget-6h").unwrap();
        assert_eq!(severity, Severity::Critical);
        slowest = slowest.max(took);
    }
    println!(
        "1 % failing: a page after {} min at most",
        slowest.num_minutes()
    );
    assert!(slowest <= TimeDelta::hours(4), "{slowest}");
}

/// How long until `rule` fires when orders fall to a share of what they were on Thursday morning.
fn fallen(seed: u64, to: f64, rule: &str) -> TimeDelta {
    let onset = thursday_at_ten();
    let (mut evaluator, mut weeks) = busy(seed);
    let end = onset + TimeDelta::days(2);
    let mut readings = weeks.readings(onset, end, TimeDelta::minutes(1), |_| 1.0);
    for reading in &mut readings {
        let orders = reading.get(Series::ORDERS).map(|orders| orders * to);
        *reading = reading.clone().with(Series::ORDERS, orders);
    }
    let replay = replay(&mut evaluator, &readings);
    first(&replay, rule).map_or(TimeDelta::MAX, |fired| fired.at - onset)
}

/// The same for all seeds, in order, and for people to read.
fn all_fallen(to: f64, rule: &str) -> Vec<TimeDelta> {
    let mut took: Vec<TimeDelta> = (0..SEEDS).map(|seed| fallen(seed, to, rule)).collect();
    took.sort_unstable();
    let minutes: Vec<i64> = took.iter().map(TimeDelta::num_minutes).collect();
    println!("orders times {to}: {rule} after {minutes:?} min");
    took
}

#[test]
fn a_lasting_fall_of_orders_by_30_percent_is_a_warning_within_hours() {
    let took = all_fallen(0.7, "orders-fallen");
    assert!(took[SEEDS as usize / 2] <= TimeDelta::hours(2));
    // On a day that is a tenth busier than usual, 30 % less is not far from usual.
    assert!(took[SEEDS as usize * 9 / 10 - 1] <= TimeDelta::hours(5));
}

#[test]
fn a_lasting_fall_of_orders_by_half_is_a_page_within_90_minutes() {
    let took = all_fallen(0.5, "orders-fallen-far");
    assert!(took[SEEDS as usize - 1] <= TimeDelta::minutes(90));
}
