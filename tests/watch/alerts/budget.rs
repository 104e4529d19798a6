//! Burn rates of an error budget.

use chrono::{DateTime, TimeDelta, Utc};
use evenkeel::watch::alerts::{Evaluator, Measure, Reading, Rules, Series, State};
use pool::Class;

const RULES: &str = r#"
pages_per_week = 1
[[burn_rate]]
name = "browse"
title = "Too many fail"
bad = "browse.failed_per_s"
all = "browse.arrivals_per_s"
objective = 99.9
windows = [{ rate = 14.4, long = "1h", short = "5m", severity = "critical" }]
"#;

/// Plays minutes of `(requests per second, share that fails)` in readings every 10 s, and returns what
/// changed in which minute.
fn play(minutes: &[(i64, f64, f64)]) -> Vec<(i64, State)> {
    let mut evaluator = Evaluator::new(Rules::parse(RULES, "x").unwrap());
    let of = |measure| Series::of(Class::Browse, measure).unwrap();
    let start: DateTime<Utc> = "2024-06-20T10:00:00Z".parse().unwrap();
    let mut at = start;
    let mut changes = Vec::new();
    for (minutes, rate, share) in minutes {
        for _ in 0..minutes * 6 {
            at += TimeDelta::seconds(10);
            let reading = Reading::new(at)
                .with(of(Measure::Arrivals), *rate)
                .with(of(Measure::Failed), rate * share);
            let firings = evaluator.observe(&reading);
            changes.extend(
                firings
                    .iter()
                    .map(|firing| ((at - start).num_minutes(), firing.state)),
            );
        }
    }
    changes
}

const UNKNOWN: f64 = f64::NAN;

#[test]
fn it_fires_when_the_hour_has_used_up_too_much_and_ends_with_the_five_minutes() {
    // 10 % fail: 1.44 % of the hour's requests are lost after 8.6 minutes. Then none fails, and of the
    // five minutes less than 1.44 % is lost after 4.3, to which `keep` adds five.
    let changes = play(&[(60, 50.0, 0.0), (20, 50.0, 0.1), (40, 50.0, 0.0)]);
    assert_eq!(changes, [(68, State::Firing), (89, State::Resolved)]);
}

#[test]
fn what_was_not_seen_counts_as_flawless() {
    // Just started: the same as above with an hour of flawless requests before.
    assert_eq!(play(&[(20, 50.0, 0.1)]), [(8, State::Firing)]);
    assert_eq!(play(&[(8, 50.0, 0.1), (30, UNKNOWN, UNKNOWN)]), []);
}

#[test]
fn it_weighs_requests_not_minutes() {
    // At night one in a hundred of the day's requests is asked, and a tenth of these fails.
    let night = play(&[(30, 50.0, 0.0), (30, 0.5, 0.1), (60, 50.0, 0.0)]);
    assert_eq!(night, []);
}

#[test]
fn a_few_failures_where_hardly_anybody_asks_are_not_worth_a_page() {
    // Six failures in an hour, a third of all requests.
    assert_eq!(play(&[(60, 0.005, 0.3)]), []);
    // Nobody at all.
    assert_eq!(play(&[(120, 0.0, 0.0)]), []);
}
