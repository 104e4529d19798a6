//! Settings of the background-migration engine and of its pace.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::{LONGEST_IN_POSTGRES, above_zero, at_most, lasts, lasts_within, time, within};

/// The background-migration engine.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// Run queued migrations in this process.
    pub enabled: bool,
    /// How long a lease lasts without renewal; another process takes over after that.
    #[serde(with = "crate::config::HumanTime")]
    pub lease: Duration,
    /// How often an idle engine looks for a queued migration.
    #[serde(with = "crate::config::HumanTime")]
    pub poll: Duration,
    /// Runs that share the budget; others wait until one of them ends.
    pub at_once: usize,
    /// How long a batch should take; its size follows.
    #[serde(with = "crate::config::HumanTime")]
    pub batch_target: Duration,
    /// Write-ahead log that a batch should write at most, in MiB; with wide rows or many indexes it
    /// is this that bounds a batch, and replicas and archives get it in small pieces.
    pub batch_wal_mib: f64,
    /// Rows of the first batch.
    pub batch_first: u32,
    /// Rows of a batch at least.
    pub batch_min: u32,
    /// Rows of a batch at most.
    pub batch_max: u32,
    /// `statement_timeout` of every batch.
    #[serde(with = "crate::config::HumanTime")]
    pub statement_timeout: Duration,
    /// `lock_timeout` of every batch.
    #[serde(with = "crate::config::HumanTime")]
    pub lock_timeout: Duration,
    /// Tries of the smallest batch of a range that cannot get its locks, before it is set aside.
    pub tries: u32,
    /// Ranges set aside after which a run fails: then the statement is at fault, not the data.
    pub quarantine_max: u32,
    /// Sweeps that may find something before the run fails: the statement leaves rows pending, or
    /// the shop goes on writing such rows.
    pub sweeps_max: u32,
    /// How long the second proof, which reads the table by physical position, may take; over it the
    /// answer is unknown. It holds one snapshot, and vacuum removes nothing meanwhile.
    #[serde(with = "crate::config::HumanTime")]
    pub proof_limit: Duration,
    /// Where `migrate` looks for definitions; the ones built in are used when it does not exist.
    pub definitions: PathBuf,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            enabled: true,
            lease: Duration::from_secs(5),
            poll: Duration::from_millis(500),
            at_once: 4,
            batch_target: Duration::from_millis(25),
            batch_wal_mib: 4.0,
            batch_first: 100,
            batch_min: 1,
            batch_max: 10_000,
            statement_timeout: Duration::from_secs(2),
            lock_timeout: Duration::from_millis(200),
            tries: 5,
            quarantine_max: 100,
            sweeps_max: 5,
            proof_limit: Duration::from_secs(3600),
            definitions: PathBuf::from("migrations/background"),
        }
    }
}

/// How the engine's speed follows the shoppers. See `migration::pace` for the law.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pace {
    /// Follow the signals. Off: full speed whatever shoppers feel, for tests of the bulkhead.
    pub adaptive: bool,
    /// Least share of time that the engine works while it is not paused.
    pub duty_min: f64,
    /// Greatest share of time that the engine works.
    pub duty_max: f64,
    /// How often signals are sampled.
    #[serde(with = "crate::config::HumanTime")]
    pub sample: Duration,
    /// A signal older than this is Unknown, and Unknown only slows down.
    #[serde(with = "crate::config::HumanTime")]
    pub stale_after: Duration,
    /// A class may be slower than its baseline by this factor, and by the sampling error of the
    /// measurement, before the engine yields.
    pub slow_factor: f64,
    /// A class that is slower than its baseline by this factor cuts the duty to a third.
    pub cut_factor: f64,
    /// A p95 or in-flight age below this is never called slow, whatever the baseline.
    #[serde(with = "crate::config::HumanTime")]
    pub slow_floor: Duration,
    /// A p95 above this is slow, whatever the baseline: a shop that is slow anyway gets no migration.
    #[serde(with = "crate::config::HumanTime")]
    pub ceiling: Duration,
    /// A p95 or in-flight age above this is critical: the batch in flight is cancelled.
    #[serde(with = "crate::config::HumanTime")]
    pub critical: Duration,
    /// How long the duty stays where a cut has put it.
    #[serde(with = "crate::config::HumanTime")]
    pub hold: Duration,
    /// What the duty gains per second, as a factor, while shoppers are within target and it is
    /// near the duty at which they last were not.
    pub raise_per_second: f64,
    /// What it gains per second, as a factor, while it is far below that.
    pub climb_per_second: f64,
    /// How long the engine rests beside shoppers between two slices of work, to find out by
    /// comparison what it does to them.
    #[serde(with = "crate::config::HumanTime")]
    pub rest: Duration,
    /// How long a slice of work is on average; each is between half and one and a half times as
    /// long, drawn at random.
    #[serde(with = "crate::config::HumanTime")]
    pub work: Duration,
    /// How often a rest is long enough to measure the baseline anew.
    #[serde(with = "crate::config::HumanTime")]
    pub baseline_every: Duration,
    /// How long such a rest lasts.
    #[serde(with = "crate::config::HumanTime")]
    pub baseline_pause: Duration,
}

impl Default for Pace {
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

impl Engine {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub(super) fn validate(&self) -> Result<(), String> {
        above_zero("migration.poll", self.poll)?;
        above_zero("migration.batch_target", self.batch_target)?;
        above_zero("migration.proof_limit", self.proof_limit)?;
        within("migration.at_once", self.at_once, 1..=1_000)?;
        within("migration.batch_wal_mib", self.batch_wal_mib, 0.001..=1e6)?;
        within("migration.batch_min", self.batch_min, 1..=1_000_000)?;
        within("migration.batch_max", self.batch_max, 1..=1_000_000)?;
        within("migration.tries", self.tries, 1..=1_000)?;
        within("migration.sweeps_max", self.sweeps_max, 1..=1_000)?;
        for (name, limit) in [
            ("migration.statement_timeout", self.statement_timeout),
            ("migration.lock_timeout", self.lock_timeout),
        ] {
            // PostgreSQL takes zero as no limit.
            lasts_within(name, limit, Duration::from_millis(1)..=LONGEST_IN_POSTGRES)?;
        }
        above_zero("migration.lease", self.lease)?;
        at_most(
            ("migration.batch_min", self.batch_min),
            ("migration.batch_first", self.batch_first),
            u32::to_string,
            "the first batch cannot have fewer rows than any batch",
        )?;
        at_most(
            ("migration.batch_first", self.batch_first),
            ("migration.batch_max", self.batch_max),
            u32::to_string,
            "the first batch cannot have more rows than any batch",
        )?;
        at_most(
            ("migration.lock_timeout", self.lock_timeout),
            ("migration.statement_timeout", self.statement_timeout),
            time,
            "a statement that waits for a lock is cancelled at the latter",
        )?;
        at_most(
            ("migration.batch_target", self.batch_target),
            ("migration.statement_timeout", self.statement_timeout),
            time,
            "no batch would be long enough",
        )?;
        at_most(
            (
                "twice migration.statement_timeout",
                self.statement_timeout * 2,
            ),
            ("migration.lease", self.lease),
            time,
            "a slow batch would outlive its lease",
        )
    }
}

impl Pace {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub(super) fn validate(&self) -> Result<(), String> {
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
        let without_ceiling = Pace {
            duty_max: f64::NAN,
            ..Pace::default()
        };
        assert!(without_ceiling.validate().is_err());
        let without_rate = Pace {
            raise_per_second: f64::NAN,
            ..Pace::default()
        };
        assert!(without_rate.validate().is_err());
    }
}
