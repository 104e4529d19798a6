//! Settings of the pace.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use settings::bounds::{above_zero, at_most, lasts, time, within};

/// How the engine's speed follows the shoppers. See [`pace`](crate::pace) for the law.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PaceSettings {
    /// Follow the signals. Off: full speed whatever shoppers feel, for tests of the bulkhead.
    pub adaptive: bool,
    /// Least share of time that the engine works while it is not paused.
    pub duty_min: f64,
    /// Greatest share of time that the engine works.
    pub duty_max: f64,
    /// How often signals are sampled.
    #[serde(with = "settings::HumanTime")]
    pub sample: Duration,
    /// A signal older than this is Unknown, and Unknown only slows down.
    #[serde(with = "settings::HumanTime")]
    pub stale_after: Duration,
    /// A class may be slower than its baseline by this factor, and by the sampling error of the
    /// measurement, before the engine yields.
    pub slow_factor: f64,
    /// A class that is slower than its baseline by this factor cuts the duty to a third.
    pub cut_factor: f64,
    /// A p95 or in-flight age below this is never called slow, whatever the baseline.
    #[serde(with = "settings::HumanTime")]
    pub slow_floor: Duration,
    /// A p95 above this is slow, whatever the baseline: a shop that is slow anyway gets no migration.
    #[serde(with = "settings::HumanTime")]
    pub ceiling: Duration,
    /// A p95 or in-flight age above this is critical: the batch in flight is cancelled.
    #[serde(with = "settings::HumanTime")]
    pub critical: Duration,
    /// How long the duty stays where a cut has put it.
    #[serde(with = "settings::HumanTime")]
    pub hold: Duration,
    /// What the duty gains per second, as a factor, while shoppers are within target and it is
    /// near the duty at which they last were not.
    pub raise_per_second: f64,
    /// What it gains per second, as a factor, while it is far below that.
    pub climb_per_second: f64,
    /// How long the engine rests beside shoppers between two slices of work, to find out by
    /// comparison what it does to them.
    #[serde(with = "settings::HumanTime")]
    pub rest: Duration,
    /// How long a slice of work is on average; each is between half and one and a half times as
    /// long, drawn at random.
    #[serde(with = "settings::HumanTime")]
    pub work: Duration,
    /// How often a rest is long enough to measure the baseline anew.
    #[serde(with = "settings::HumanTime")]
    pub baseline_every: Duration,
    /// How long such a rest lasts.
    #[serde(with = "settings::HumanTime")]
    pub baseline_pause: Duration,
}

impl Default for PaceSettings {
    fn default() -> Self {
        Self {
            adaptive: true,
            duty_min: 0.01,
            duty_max: 1.0,
            sample: Duration::from_millis(100),
            stale_after: Duration::from_secs(1),
            slow_factor: 1.15,
            cut_factor: 2.0,
            slow_floor: Duration::from_millis(3),
            ceiling: Duration::from_millis(100),
            critical: Duration::from_millis(250),
            hold: Duration::from_secs(1),
            raise_per_second: 1.5,
            climb_per_second: 8.0,
            rest: Duration::from_millis(300),
            work: Duration::from_millis(1_300),
            baseline_every: Duration::from_secs(10),
            baseline_pause: Duration::from_millis(500),
        }
    }
}

impl PaceSettings {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self) -> Result<(), String> {
        within("pace.duty_min", self.duty_min, 0.0001..=1.0)?;
        within("pace.duty_max", self.duty_max, 0.0001..=1.0)?;
        within("pace.slow_factor", self.slow_factor, 1.001..=1_000.0)?;
        within("pace.cut_factor", self.cut_factor, 1.001..=1_000.0)?;
        within(
            "pace.raise_per_second",
            self.raise_per_second,
            1.001..=1_000.0,
        )?;
        within(
            "pace.climb_per_second",
            self.climb_per_second,
            1.001..=1_000.0,
        )?;
        for (name, span) in [
            ("pace.sample", self.sample),
            ("pace.stale_after", self.stale_after),
            ("pace.ceiling", self.ceiling),
            ("pace.critical", self.critical),
            ("pace.rest", self.rest),
            ("pace.work", self.work),
            ("pace.baseline_every", self.baseline_every),
            ("pace.baseline_pause", self.baseline_pause),
        ] {
            above_zero(name, span)?;
        }
        lasts("pace.slow_floor", self.slow_floor, Duration::ZERO)?;
        lasts("pace.hold", self.hold, Duration::ZERO)?;
        let ratio = f64::to_string;
        at_most(
            ("pace.duty_min", self.duty_min),
            ("pace.duty_max", self.duty_max),
            ratio,
            "it is the least of what the latter is the most",
        )?;
        at_most(
            ("pace.slow_factor", self.slow_factor),
            ("pace.cut_factor", self.cut_factor),
            ratio,
            "what cuts the duty is slow",
        )?;
        at_most(
            ("pace.raise_per_second", self.raise_per_second),
            ("pace.climb_per_second", self.climb_per_second),
            ratio,
            "far from the limit the duty rises at least as fast as near it",
        )?;
        at_most(
            ("pace.slow_floor", self.slow_floor),
            ("pace.ceiling", self.ceiling),
            time,
            "nothing would ever be slow",
        )?;
        at_most(
            ("pace.ceiling", self.ceiling),
            ("pace.critical", self.critical),
            time,
            "the engine yields before it stops",
        )?;
        at_most(
            ("twice pace.sample", self.sample * 2),
            ("pace.stale_after", self.stale_after),
            time,
            "every signal would be stale before the next",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_not_one_is_refused() {
        let without_ceiling = PaceSettings {
            duty_max: f64::NAN,
            ..PaceSettings::default()
        };
        assert!(without_ceiling.validate().is_err());
        let without_rate = PaceSettings {
            raise_per_second: f64::NAN,
            ..PaceSettings::default()
        };
        assert!(without_rate.validate().is_err());
    }
}
