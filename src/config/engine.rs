//! Settings of the background-migration engine and of its pace.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The background-migration engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// Run queued migrations in this process.
    pub enabled: bool,
    /// How long a lease lasts without renewal; another process takes over after that.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// How often an idle engine looks for a queued migration.
    #[serde(with = "humantime_serde")]
    pub poll: Duration,
    /// Runs that share the budget; others wait until one of them ends.
    pub at_once: usize,
    /// How long a batch should take; its size follows.
    #[serde(with = "humantime_serde")]
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
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,
    /// `lock_timeout` of every batch.
    #[serde(with = "humantime_serde")]
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
    #[serde(with = "humantime_serde")]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pace {
    /// Follow the signals. Off: full speed whatever shoppers feel, for tests of the bulkhead.
    pub adaptive: bool,
    /// Least share of time that the engine works while it is not paused.
    pub duty_min: f64,
    /// Greatest share of time that the engine works.
    pub duty_max: f64,
    /// How often signals are sampled.
    #[serde(with = "humantime_serde")]
    pub sample: Duration,
    /// A signal older than this is Unknown, and Unknown only slows down.
    #[serde(with = "humantime_serde")]
    pub stale_after: Duration,
    /// A class may be slower than its baseline by this factor, and by the sampling error of the
    /// measurement, before the engine yields.
    pub slow_factor: f64,
    /// A class that is slower than its baseline by this factor cuts the duty to a third.
    pub cut_factor: f64,
    /// A p95 or in-flight age below this is never called slow, whatever the baseline.
    #[serde(with = "humantime_serde")]
    pub slow_floor: Duration,
    /// A p95 above this is slow, whatever the baseline: a shop that is slow anyway gets no migration.
    #[serde(with = "humantime_serde")]
    pub ceiling: Duration,
    /// A p95 or in-flight age above this is critical: the batch in flight is cancelled.
    #[serde(with = "humantime_serde")]
    pub critical: Duration,
    /// How long the duty stays where a cut has put it.
    #[serde(with = "humantime_serde")]
    pub hold: Duration,
    /// What the duty gains per second, as a factor, while shoppers are within target and it is
    /// near the duty at which they last were not.
    pub raise_per_second: f64,
    /// What it gains per second, as a factor, while it is far below that.
    pub climb_per_second: f64,
    /// How long the engine rests beside shoppers between two slices of work, to find out by
    /// comparison what it does to them.
    #[serde(with = "humantime_serde")]
    pub rest: Duration,
    /// How long a slice of work is on average; each is between half and one and a half times as
    /// long, drawn at random.
    #[serde(with = "humantime_serde")]
    pub work: Duration,
    /// How often a rest is long enough to measure the baseline anew.
    #[serde(with = "humantime_serde")]
    pub baseline_every: Duration,
    /// How long such a rest lasts.
    #[serde(with = "humantime_serde")]
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
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.batch_min == 0
            || self.batch_min > self.batch_first
            || self.batch_first > self.batch_max
        {
            return Err(
                "migration: 1 <= batch_min <= batch_first <= batch_max must hold".to_owned(),
            );
        }
        if self.statement_timeout.is_zero() || self.lock_timeout.is_zero() {
            return Err(
                "migration: statement_timeout and lock_timeout must be above zero, because \
                        PostgreSQL takes zero as no limit"
                    .to_owned(),
            );
        }
        if self.batch_wal_mib.is_nan() || self.batch_wal_mib <= 0.0 {
            return Err("migration.batch_wal_mib must be above zero".to_owned());
        }
        if self.lease < self.statement_timeout * 2 {
            return Err(
                "migration.lease must be at least twice migration.statement_timeout, or a \
                        slow batch outlives its lease"
                    .to_owned(),
            );
        }
        if self.proof_limit.is_zero() {
            return Err(
                "migration.proof_limit must be above zero: at zero no run could be proved a second \
                 time"
                    .to_owned(),
            );
        }
        let none = [self.tries == 0, self.sweeps_max == 0, self.at_once == 0];
        if self.batch_target.is_zero() || none.contains(&true) {
            return Err(
                "migration: batch_target, tries, sweeps_max and at_once must be above zero"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

impl Pace {
    pub(super) fn validate(&self) -> Result<(), String> {
        let duty = 0.0 < self.duty_min && self.duty_min <= self.duty_max && self.duty_max <= 1.0;
        if !duty {
            return Err("pace: 0 < duty_min <= duty_max <= 1 must hold".to_owned());
        }
        if !(1.0 < self.slow_factor && self.slow_factor <= self.cut_factor) {
            return Err("pace: 1 < slow_factor <= cut_factor must hold".to_owned());
        }
        // Written so that NaN fails too.
        if !(self.raise_per_second > 1.0 && self.raise_per_second.is_finite()) {
            return Err("pace.raise_per_second must be above 1".to_owned());
        }
        if !(self.climb_per_second >= self.raise_per_second && self.climb_per_second.is_finite()) {
            return Err("pace.climb_per_second must be at least pace.raise_per_second".to_owned());
        }
        if self.sample.is_zero() || self.stale_after < self.sample * 2 {
            return Err("pace.stale_after must be at least twice pace.sample".to_owned());
        }
        Ok(())
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
