//! Settings of the background-migration engine.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use settings::bounds::{LONGEST_IN_POSTGRES, above_zero, at_most, lasts_within, time, within};

/// The background-migration engine.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// Run queued migrations in this process.
    pub enabled: bool,
    /// How long a lease lasts without renewal; another process takes over after that.
    #[serde(with = "settings::HumanTime")]
    pub lease: Duration,
    /// How often an idle engine looks for a queued migration.
    #[serde(with = "settings::HumanTime")]
    pub poll: Duration,
    /// Runs that share the budget; others wait until one of them ends.
    pub at_once: usize,
    /// How long a batch should take; its size follows.
    #[serde(with = "settings::HumanTime")]
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
    #[serde(with = "settings::HumanTime")]
    pub statement_timeout: Duration,
    /// `lock_timeout` of every batch.
    #[serde(with = "settings::HumanTime")]
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
    #[serde(with = "settings::HumanTime")]
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
