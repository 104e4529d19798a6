//! Whoever cannot tell does not speed up.

use std::time::{Duration, Instant};

use pool::Class;
use pool::gate::GateReading;
use pressure::pace::{Order, Pace};
use pressure::settings::PaceSettings as Settings;
use pressure::{LatencyReading, Signal, Targets, Verdict, saturation};
use proptest::collection::vec;
use proptest::prelude::*;

fn signal(verdict: Verdict, at: Instant) -> Signal {
    Signal {
        source: "test".to_owned(),
        verdict,
        at,
        reason: String::new(),
    }
}

fn latency(p95_ms: Option<f64>, oldest_ms: f64, at: Instant) -> Signal {
    let reading = LatencyReading {
        completed: 1000,
        failed: 0,
        in_flight: 1,
        oldest_ms,
        p50_ms: p95_ms,
        p95_ms,
        p99_ms: p95_ms,
    };
    Targets::default().judge(&Settings::default(), Class::Browse, &reading, &reading, at)
}

#[test]
fn a_signal_that_cannot_be_trusted_never_raises_the_duty() {
    let settings = Settings::default();
    let now = Instant::now();
    let old = now.checked_sub(settings.stale_after * 2).unwrap();
    let gates = |granted| {
        [GateReading {
            granted,
            in_use: 1,
            max: 6,
            ..GateReading::default()
        }; 4]
    };
    let fine = || signal(Verdict::Normal, now);
    let cases: [(&str, Vec<Signal>); 10] = [
        ("none at all", vec![]),
        ("normal, but stale", vec![signal(Verdict::Normal, old)]),
        ("idle, but stale", vec![signal(Verdict::Idle, old)]),
        (
            "frozen beside a good one",
            vec![fine(), signal(Verdict::Idle, old)],
        ),
        (
            "from the future",
            vec![signal(Verdict::Idle, now + Duration::from_millis(1))],
        ),
        (
            "the first of a counter",
            saturation::judge(None, &gates(5), now),
        ),
        (
            "a counter that was reset",
            saturation::judge(Some(&gates(9)), &gates(5), now),
        ),
        (
            "not a number",
            vec![fine(), latency(Some(f64::NAN), 0.0, now)],
        ),
        ("infinite", vec![latency(Some(1.0), f64::INFINITY, now)]),
        ("without a percentile", vec![latency(None, 0.0, now)]),
    ];
    let mut before = Pace::initial(&settings, now);
    before.duty = 0.5;
    for (what, signals) in cases {
        let after = before.next(&settings, &signals, now);
        assert!(after.duty <= before.duty, "{what}: {after:?}");
        assert!(!after.causes.is_empty(), "{what}: no reason is given");
        let later = now + settings.sample;
        let next = after.next(&settings, &signals, later);
        assert!(
            next.duty < before.duty || what == "from the future",
            "{what}: {next:?}"
        );
    }
    // A good signal does raise it, or this test could not fail.
    let later = now + settings.sample;
    let raised = before.next(&settings, &[signal(Verdict::Normal, later)], later);
    assert!(raised.duty > before.duty);
}

#[test]
fn a_clock_that_jumps_earns_no_more_than_two_samples() {
    let settings = Settings::default();
    let now = Instant::now();
    let mut before = Pace::initial(&settings, now);
    before.duty = 0.1;
    let later = now + Duration::from_secs(3600);
    let after = before.next(&settings, &[signal(Verdict::Normal, later)], later);
    let most = settings
        .climb_per_second
        .powf(settings.sample.as_secs_f64() * 2.0);
    assert!(after.duty <= before.duty * most * 1.001, "{after:?}");
    // And back again: nothing is earned.
    let back = after.next(&settings, &[signal(Verdict::Normal, now)], now);
    assert!(back.duty <= after.duty, "{back:?}");
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Idle),
        Just(Verdict::Normal),
        Just(Verdict::Unknown),
        Just(Verdict::Slow),
        Just(Verdict::Cut),
        Just(Verdict::Stop),
    ]
}

proptest! {
    #[test]
    fn the_duty_stays_within_its_bounds_and_rises_only_when_every_signal_is_good(
        samples in vec((vec(verdicts(), 0..4), 0_u64..3_000, 0_u64..2_000), 1..60),
        duty_min in 0.001_f64..0.2,
        duty_max in 0.2_f64..1.0,
    ) {
        let settings = Settings { duty_min, duty_max, ..Settings::default() };
        let mut now = Instant::now();
        let mut pace = Pace::initial(&settings, now);
        for (verdicts, passed_ms, age_ms) in samples {
            now += Duration::from_millis(passed_ms);
            let at = now.checked_sub(Duration::from_millis(age_ms)).unwrap();
            let signals: Vec<_> = verdicts.iter().map(|v| signal(*v, at)).collect();
            let next = pace.next(&settings, &signals, now);
            prop_assert!((duty_min..=duty_max).contains(&next.duty));
            let stale = Duration::from_millis(age_ms) > settings.stale_after;
            let good = !signals.is_empty() && !stale
                && verdicts.iter().all(|v| *v <= Verdict::Normal);
            if !good {
                prop_assert!(next.duty <= pace.duty);
                prop_assert!(!next.causes.is_empty());
            }
            if verdicts.contains(&Verdict::Stop) && !stale {
                prop_assert_eq!(next.order, Order::Cancel);
            }
            prop_assert!(next.rest(Duration::from_secs(2)) <= Duration::from_secs(3600));
            pace = next;
        }
    }
}
