//! What must not page.

use chrono::TimeDelta;
use evenkeel::watch::alerts::replay::Replay;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::week::{monday, sale};
use super::{LEARNT, STEP, replay, seasoned};

const SEEDS: u64 = 20;

/// What fired, and no page among it.
fn no_page(seed: u64, replay: &Replay) -> usize {
    for fired in &replay.fired {
        println!(
            "seed {seed}: {} {:?} {}: {}",
            fired.at, fired.severity, fired.rule, fired.detail
        );
    }
    assert_eq!(replay.pages(), 0, "seed {seed}");
    replay.fired.len()
}

#[test]
fn a_calm_week_pages_nobody() {
    let mut warnings = 0;
    for seed in 0..SEEDS {
        let (mut evaluator, mut weeks) = seasoned(seed);
        let readings = weeks.readings(monday(LEARNT), monday(LEARNT + 1), STEP, |_| 1.0);
        warnings += no_page(seed, &replay(&mut evaluator, &readings));
    }
    println!("{SEEDS} calm weeks: no page, {warnings} warnings");
}

#[test]
fn a_sale_day_pages_nobody_nor_does_the_day_after() {
    let mut warnings = 0;
    for seed in 0..SEEDS {
        let (mut evaluator, mut weeks) = seasoned(100 + seed);
        let most = StdRng::seed_from_u64(seed).random_range(3.0..5.0);
        let day = monday(LEARNT) + TimeDelta::days(3);
        let before = weeks.readings(monday(LEARNT), day, TimeDelta::minutes(1), |_| 1.0);
        evaluator.restore(&before);
        let readings = weeks.readings(day, day + TimeDelta::days(2), STEP, sale(day, most));
        warnings += no_page(100 + seed, &replay(&mut evaluator, &readings));
    }
    println!("{SEEDS} sale days: no page, {warnings} warnings");
}
