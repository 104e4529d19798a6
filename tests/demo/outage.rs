//! When the shop was down.

use std::time::Duration;

use evenkeel::class::Class;
use evenkeel::demo::cycles::{median, shuffled};
use evenkeel::demo::outage::{Outage, find};
use evenkeel::rehearsal::load::{Outcome, Record};
use rand::SeedableRng;
use rand::rngs::StdRng;

const SCRIPT: Duration = Duration::from_secs(4);

/// Ten seconds with a request of every class every 10 ms; `outcome` decides by class and by the
/// millisecond when it was due.
fn recording(outcome: impl Fn(Class, u64) -> Outcome) -> Vec<Record> {
    let due = (0..10_000).step_by(10);
    due.flat_map(|ms| {
        Class::SHOPPERS.map(|class| Record {
            start_us: ms * 1_000,
            latency_us: 1_000,
            class,
            outcome: outcome(class, ms),
        })
    })
    .collect()
}

fn failing_if(fails: bool) -> Outcome {
    if fails {
        Outcome::Unavailable
    } else {
        Outcome::Ok
    }
}

fn seconds(outage: Outage) -> (f64, f64) {
    (outage.from.as_secs_f64(), outage.to.as_secs_f64())
}

#[test]
fn an_outage_lasts_from_the_first_to_the_last_bucket_in_which_every_class_is_down() {
    let records = recording(|_, ms| failing_if((4_300..7_000).contains(&ms)));
    let outage = find(&records, SCRIPT).unwrap();
    assert_eq!(seconds(outage), (4.3, 7.0));
    assert_eq!(outage.failed_share, [1.0; 3]);
}

#[test]
fn a_class_that_is_served_means_no_total_outage() {
    let records = recording(|class, ms| failing_if(class != Class::Browse && ms >= 4_300));
    assert_eq!(find(&records, SCRIPT), None);
}

#[test]
fn whatever_was_served_within_the_outage_counts() {
    // Every tenth request succeeds, and for half a second everything does.
    let records = recording(|_, ms| {
        let down = (4_000..6_000).contains(&ms) || (6_500..9_000).contains(&ms);
        failing_if(down && ms % 100 != 0)
    });
    let outage = find(&records, SCRIPT).unwrap();
    assert_eq!(seconds(outage), (4.0, 9.0));
    for share in outage.failed_share {
        assert!((share - 0.9 * 4.5 / 5.0).abs() < 1e-9, "{share}");
    }
}

#[test]
fn failures_before_the_script_are_not_its_outage() {
    let records = recording(|_, ms| failing_if(ms < 3_900));
    assert_eq!(find(&records, SCRIPT), None);
    assert_eq!(find(&[], SCRIPT), None);
}

#[test]
fn half_of_the_cycles_begin_with_the_migration_and_the_seed_decides_which() {
    let draw = |seed| shuffled(10, &mut StdRng::seed_from_u64(seed));
    assert_eq!(draw(1).iter().filter(|first| **first).count(), 5);
    assert_eq!(draw(1), draw(1));
    assert!((2..10).any(|seed| draw(seed) != draw(1)));
}

#[test]
fn the_median_is_the_middle_whatever_the_order() {
    assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median([4.0, 1.0, 3.0, 2.0]), 2.5);
    assert!(median([]).is_nan());
}
