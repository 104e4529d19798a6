//! When the shop was down.

use std::time::Duration;

use evenkeel::demo::cycles::{Period, median, shuffled};
use evenkeel::demo::outage::{Outage, find};
use load::{Outcome, Record};
use pool::Class;
use rand::SeedableRng;
use rand::rngs::StdRng;

const SCRIPT: Period = Period {
    from: Duration::from_secs(4),
    to: Duration::from_secs(8),
};
const DEADLINE: Duration = Duration::from_secs(2);

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
    let outage = find(&records, SCRIPT, DEADLINE).unwrap();
    assert_eq!(seconds(outage), (4.3, 7.0));
    assert_eq!(outage.failed_share, [1.0; 3]);
}

#[test]
fn a_class_that_is_served_means_no_total_outage() {
    let records = recording(|class, ms| failing_if(class != Class::Browse && ms >= 4_300));
    assert_eq!(find(&records, SCRIPT, DEADLINE), None);
}

#[test]
fn whatever_was_served_within_the_outage_counts() {
    // From five on every tenth request succeeds, and half a second long all of them.
    let records = recording(|_, ms| {
        let down = (4_000..5_000).contains(&ms) || (5_500..7_000).contains(&ms);
        failing_if(down && (ms < 5_000 || !ms.is_multiple_of(100)))
    });
    let outage = find(&records, SCRIPT, DEADLINE).unwrap();
    assert_eq!(seconds(outage), (4.0, 7.0));
    // Until six: the script ends at eight, and shoppers wait for two seconds.
    for share in outage.failed_share {
        assert!((share - (1.0 + 0.9 * 0.5) / 2.0).abs() < 1e-9, "{share}");
    }
}

#[test]
fn whoever_comes_late_enough_to_outwait_the_script_does_not_count() {
    let served_late = |ms: u64| ms > 6_000 && ms.is_multiple_of(30);
    let records = recording(|_, ms| failing_if((4_000..8_000).contains(&ms) && !served_late(ms)));
    let outage = find(&records, SCRIPT, DEADLINE).unwrap();
    assert_eq!(seconds(outage), (4.0, 8.0));
    assert_eq!(outage.failed_share, [1.0; 3]);
    // But where nobody could, everybody does.
    let brief = Period {
        to: Duration::from_secs(5),
        ..SCRIPT
    };
    let outage = find(&records, brief, DEADLINE).unwrap();
    assert!(outage.failed_share.iter().all(|share| *share < 0.9));
}

#[test]
fn failures_before_the_script_are_not_its_outage() {
    let records = recording(|_, ms| failing_if(ms < 3_900));
    assert_eq!(find(&records, SCRIPT, DEADLINE), None);
    assert_eq!(find(&[], SCRIPT, DEADLINE), None);
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
