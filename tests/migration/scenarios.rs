//! The pace over a day in the shop: load shapes and expected bounds are in `tests/scenarios`.

use std::path::Path;

use evenkeel::config::Pace as Settings;
use evenkeel::migration::pace::Order;
use serde::Deserialize;

use super::shop::{Played, Sample, Script};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    shop: Script,
    expect: Vec<Expectation>,
}

/// What must hold of every sample between two times.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    from_s: f64,
    to_s: f64,
    /// Never less than this, baseline pauses aside.
    duty_at_least: Option<f64>,
    /// Never more than this.
    duty_at_most: Option<f64>,
    /// More than this share of the time is worked, pauses included.
    worked_at_least: Option<f64>,
    /// By the end, at most this share of the duty at the beginning.
    falls_to_share: Option<f64>,
    /// The batch in flight is cancelled at some time.
    #[serde(default)]
    cancels: bool,
    /// Nothing runs at any time.
    #[serde(default)]
    stands_still: bool,
    /// Mean latency, as a factor of what it is without the migration.
    inflation_at_most: Option<f64>,
}

fn mean_ms(played: &Played, from_s: f64, to_s: f64) -> f64 {
    let within = played
        .requests
        .iter()
        .filter(|(at, _)| (from_s..to_s).contains(at));
    let (sum, n) = within.fold((0.0, 0.0), |(sum, n), (_, took)| (sum + took, n + 1.0));
    sum / n
}

fn problems(name: &str, scenario: &Scenario) -> Vec<String> {
    let settings = Settings::default();
    let played = scenario.shop.play(&settings, scenario.shop.cost);
    let without = scenario.shop.play(&settings, 0.0);
    let mut problems = Vec::new();
    for expected in &scenario.expect {
        let (from, to) = (expected.from_s, expected.to_s);
        let within: Vec<_> = played
            .samples
            .iter()
            .filter(|s| (from..to).contains(&s.at_s))
            .collect();
        let (Some(first), Some(last)) = (within.first(), within.last()) else {
            panic!("{name}: nothing between {from} and {to}");
        };
        let duties = || within.iter().map(|s| s.duty);
        let mut assert = |holds: bool, what: &str| {
            if !holds {
                let line = |s: &&Sample| format!("{:.1}: {:.3} {:?}, ", s.at_s, s.duty, s.order);
                let series: String = within.iter().map(line).collect();
                problems.push(format!("{name}, {from} to {to} s: {what}\n{series}"));
            }
        };
        if let Some(least) = expected.duty_at_least {
            assert(duties().all(|duty| duty >= least), "duty too low");
        }
        if let Some(most) = expected.duty_at_most {
            assert(duties().all(|duty| duty <= most), "duty too high");
        }
        if let Some(share) = expected.worked_at_least {
            let worked = within.iter().filter(|s| s.order == Order::Work);
            let worked = worked.map(|s| s.duty).sum::<f64>() / within.len() as f64;
            assert(worked >= share, &format!("worked only {worked:.3}"));
        }
        if let Some(share) = expected.falls_to_share {
            assert(last.duty <= first.duty * share, "duty did not fall");
        }
        if expected.cancels {
            let cancelled = within.iter().any(|s| s.order == Order::Cancel);
            assert(cancelled, "nothing was cancelled");
        }
        if expected.stands_still {
            let works = within.iter().any(|s| s.order == Order::Work);
            assert(!works, "it went on");
        }
        if let Some(most) = expected.inflation_at_most {
            let inflation = mean_ms(&played, from, to) / mean_ms(&without, from, to);
            assert(inflation <= most, &format!("inflation {inflation:.2}"));
        }
    }
    problems
}

#[test]
fn every_scenario_stays_within_its_bounds() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let (mut played, mut found) = (0, Vec::new());
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let scenario: Scenario =
            toml::from_str(&text).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
        found.extend(problems(
            &path.file_stem().unwrap().to_string_lossy(),
            &scenario,
        ));
        played += 1;
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(played >= 8, "{played}");
}
