//! The pace over days in the shop: load shapes and expected bounds are in `tests/scenarios`. Every
//! scenario is played with many seeds, and a bound must hold in the share of them that it names.

use std::path::Path;
use std::time::Instant;

use pressure::pace::Order;
use pressure::settings::PaceSettings as Settings;
use serde::Deserialize;

use super::shop::{Played, Sample, Script};

/// Days played of each scenario.
const SEEDS: u64 = 150;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    shop: Script,
    expect: Vec<Expectation>,
}

/// What must hold between two times.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    from_s: f64,
    to_s: f64,
    /// The share of all days on which it must hold.
    #[serde(default = "every_day")]
    on_days: f64,
    /// The duty is never more than this.
    duty_at_most: Option<f64>,
    /// At least this share of the time is worked, rests included.
    worked_at_least: Option<f64>,
    /// At most this share of the time is worked.
    worked_at_most: Option<f64>,
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
    /// How evenly these of the competing migrations share the time worked: Jain's index, 1 at best.
    fairness_at_least: Option<f64>,
    #[serde(default)]
    among: Vec<usize>,
}

/// Jain's fairness index of what each has got.
fn fairness(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares)
}

fn every_day() -> f64 {
    1.0
}

fn mean_ms(played: &Played, from_s: f64, to_s: f64) -> f64 {
    let within = played
        .felt
        .iter()
        .filter(|(at, ..)| (from_s..to_s).contains(at));
    let (sum, n) = within.fold((0.0, 0.0), |(sum, n), (_, requests, ms)| {
        (sum + requests * ms, n + requests)
    });
    sum / n
}

impl Expectation {
    /// What is wrong with a day, if anything.
    fn broken(&self, played: &Played, without: &Played) -> Option<String> {
        let (from, to) = (self.from_s, self.to_s);
        let within: Vec<&Sample> = played
            .samples
            .iter()
            .filter(|s| (from..to).contains(&s.at_s))
            .collect();
        let (first, last) = (within.first()?.worked(), within.last()?.worked());
        let worked = within.iter().map(|s| s.worked()).sum::<f64>() / within.len() as f64;
        let most = within.iter().map(|s| s.duty).fold(0.0, f64::max);
        let inflation = || mean_ms(played, from, to) / mean_ms(without, from, to);
        if self.duty_at_most.is_some_and(|bound| most > bound) {
            return Some(format!("the duty was {most:.3}"));
        }
        let little = self.worked_at_least.is_some_and(|bound| worked < bound);
        if little || self.worked_at_most.is_some_and(|bound| worked > bound) {
            return Some(format!("worked {worked:.3}"));
        }
        if self
            .falls_to_share
            .is_some_and(|share| first > 0.0 && last > first * share)
        {
            return Some(format!("from {first:.3} to {last:.3}"));
        }
        if self.cancels && !within.iter().any(|s| s.order == Order::Cancel) {
            return Some("nothing was cancelled".to_owned());
        }
        if self.stands_still && within.iter().any(|s| s.order == Order::Work) {
            return Some("it went on".to_owned());
        }
        if let Some(bound) = self.fairness_at_least {
            let batches = played
                .batches
                .iter()
                .filter(|(at, ..)| (from..to).contains(at));
            let worked = |of: usize| batches.clone().filter(|b| b.1 == of).map(|b| b.2).sum();
            let shares: Vec<f64> = self.among.iter().map(|of| worked(*of)).collect();
            let fairness = fairness(&shares);
            // Nobody having worked is no fairness.
            if fairness.is_nan() || fairness < bound {
                return Some(format!("fairness {fairness:.3}, {shares:.3?}"));
            }
        }
        let inflation = self.inflation_at_most.map(|bound| (bound, inflation()));
        inflation
            .filter(|(bound, inflation)| inflation > bound)
            .map(|(_, inflation)| format!("inflation {inflation:.3}"))
    }
}

/// Plays `scenario` and returns the bounds that broke on too many days.
fn problems(name: &str, scenario: &Scenario) -> Vec<String> {
    let settings = Settings::default();
    let days: Vec<(Played, Played)> = (0..SEEDS)
        .map(|seed| {
            let with = scenario.shop.play(Some(&settings), seed);
            (with, scenario.shop.play(None, seed))
        })
        .collect();
    let judge = |expected: &Expectation| {
        let broken: Vec<String> = days
            .iter()
            .filter_map(|(with, without)| expected.broken(with, without))
            .collect();
        let held = 1.0 - broken.len() as f64 / days.len() as f64;
        (held < expected.on_days).then(|| {
            format!(
                "{name}, {} to {} s: held on {held:.3} of the days; {:?}",
                expected.from_s,
                expected.to_s,
                &broken[..broken.len().min(8)]
            )
        })
    };
    scenario.expect.iter().filter_map(judge).collect()
}

#[test]
fn every_scenario_stays_within_its_bounds() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let began = Instant::now();
    let mut scenarios = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let scenario: Scenario =
            toml::from_str(&text).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
        scenarios.push((
            path.file_stem().unwrap().to_string_lossy().into_owned(),
            scenario,
        ));
    }
    let found: Vec<String> = std::thread::scope(|scope| {
        let play = |(name, scenario)| scope.spawn(move || problems(name, scenario));
        let players: Vec<_> = scenarios
            .iter()
            .map(|(name, scenario)| play((name, scenario)))
            .collect();
        players
            .into_iter()
            .flat_map(|player| player.join().unwrap())
            .collect()
    });
    let days = scenarios.len() as u64 * SEEDS;
    println!("{days} days in {:.1} s", began.elapsed().as_secs_f64());
    assert!(found.is_empty(), "{}", found.join("\n"));
    assert!(scenarios.len() >= 12, "{}", scenarios.len());
}
