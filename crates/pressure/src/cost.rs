//! What a migration costs shoppers: its causal effect on the 99th percentile of each class, with a
//! confidence interval.
//!
//! Work alternates with short rests at times drawn at random, so what happens to shoppers for other
//! reasons happens to both alike, and the difference between them is the migration's doing. The
//! trials are dealt out to ten sections in turn. Each section gives one difference of percentiles;
//! their mean is the estimate, and how far they differ among themselves says how well it is known,
//! whatever the latencies' distribution (sectioning: Asmussen and Glynn, Stochastic Simulation, 2007,
//! III.5a).
//!
//! Rests after a cut are left out: they begin when things go badly, so chance alone would make
//! what follows look better or worse.

use pool::Class;
use serde::{Deserialize, Serialize};

use crate::latency::Counts;

/// Sections of the trials.
const SECTIONS: usize = 10;
/// The 97.5th percentile of Student's t with nine degrees of freedom.
const STUDENT: f64 = 2.262;
/// Fewer requests than this have no 99th percentile.
const ENOUGH: u64 = 100;
const QUANTILE: f64 = 0.99;

/// The effect on one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Whose.
    pub class: Class,
    /// What the migration adds to their 99th percentile, in milliseconds.
    pub p99_ms: f64,
    /// Lower end of the interval that has the truth in it 95 times in 100.
    pub low_ms: f64,
    /// Upper end.
    pub high_ms: f64,
    /// Requests it rests on that were made during work.
    pub at_work: u64,
    /// And at rest.
    pub at_rest: u64,
}

#[derive(Clone, Debug, Default)]
struct Section {
    work: Counts,
    rest: Counts,
}

/// What every class of shoppers felt in a slice of time.
pub type Felt = [Counts; Class::SHOPPERS.len()];

/// What shoppers felt at work and at rest since the start.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    classes: [[Section; SECTIONS]; Class::SHOPPERS.len()],
    /// The section that the trial under way belongs to.
    section: usize,
}

impl Costs {
    /// Adds what every class of shoppers felt during a slice of work.
    pub fn worked(&mut self, felt: &Felt) {
        for (sections, felt) in self.classes.iter_mut().zip(felt) {
            sections[self.section].work.add(felt);
        }
    }

    /// Adds what they felt during the rest after it.
    pub fn rested(&mut self, felt: &Felt) {
        for (sections, felt) in self.classes.iter_mut().zip(felt) {
            sections[self.section].rest.add(felt);
        }
    }

    /// Begins the next trial. Returns whether every section has had another one.
    pub fn next_trial(&mut self) -> bool {
        self.section = (self.section + 1) % SECTIONS;
        self.section == 0
    }

    /// The effect on every class that is known so far.
    pub fn estimates(&self) -> Vec<Cost> {
        let classes = Class::SHOPPERS.into_iter().zip(&self.classes);
        classes
            .filter_map(|(class, sections)| estimate(class, sections))
            .collect()
    }
}

fn estimate(class: Class, sections: &[Section; SECTIONS]) -> Option<Cost> {
    let mut differences = [0.0; SECTIONS];
    for (difference, section) in differences.iter_mut().zip(sections) {
        if section.work.total() < ENOUGH || section.rest.total() < ENOUGH {
            return None;
        }
        *difference = section.work.quantile_ms(QUANTILE)? - section.rest.quantile_ms(QUANTILE)?;
    }
    let n = SECTIONS as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let squares: f64 = differences.iter().map(|d| (d - mean).powi(2)).sum();
    let half = STUDENT * (squares / (n - 1.0) / n).sqrt();
    Some(Cost {
        class,
        p99_ms: mean,
        low_ms: mean - half,
        high_ms: mean + half,
        at_work: sections.iter().map(|s| s.work.total()).sum(),
        at_rest: sections.iter().map(|s| s.rest.total()).sum(),
    })
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// A slice with `n` requests, exponentially distributed about `mean_ms`.
    fn slice(n: usize, mean_ms: f64, random: &mut SmallRng) -> Felt {
        let mut counts = Counts::default();
        for _ in 0..n {
            let uniform: f64 = random.random_range(0.0..1.0);
            counts.record(-mean_ms * (1.0_f64 - uniform).ln());
        }
        [counts.clone(), counts.clone(), counts]
    }

    /// A day of 60 trials in a shop whose latency drifts to its double and back, with a migration
    /// that multiplies it by `factor`.
    fn day(factor: f64, seed: u64) -> Cost {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut costs = Costs::default();
        for trial in 0..60 {
            let drift = 1.0 + (f64::from(trial) / 60.0 * std::f64::consts::PI).sin();
            costs.worked(&slice(400, 4.0 * drift * factor, &mut random));
            costs.rested(&slice(120, 4.0 * drift, &mut random));
            costs.next_trial();
        }
        costs.estimates()[0]
    }

    const DAYS: u64 = 60;

    #[test]
    fn what_comes_from_outside_is_not_blamed_on_the_migration() {
        let blamed = (0..DAYS).map(|seed| day(1.0, seed));
        let blamed = blamed.filter(|c| c.low_ms > 0.0 || c.high_ms < 0.0).count();
        // 3 of 60 are what an interval of 95 % allows; 9 are next to impossible.
        assert!(blamed <= 8, "{blamed} of {DAYS}");
    }

    #[test]
    fn what_the_migration_does_is_found() {
        let found = (0..DAYS)
            .filter(|seed| day(1.3, *seed).low_ms > 0.0)
            .count();
        assert!(found as u64 >= DAYS * 9 / 10, "{found} of {DAYS}");
    }

    #[test]
    fn too_few_requests_have_no_effect_that_is_known() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut costs = Costs::default();
        for _ in 0..SECTIONS {
            assert!(costs.estimates().is_empty());
            costs.worked(&slice(200, 4.0, &mut random));
            costs.rested(&slice(99, 4.0, &mut random));
            costs.next_trial();
        }
        assert!(costs.estimates().is_empty());
    }
}
