//! How long rows are kept that would otherwise only become more.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use settings::bounds::{lasts, within};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A client that repeats an order after a day must still be recognised.
const LEAST_KEYS: Duration = DAY;
/// The journal of incidents keeps what is over for a week and would bring back what is younger; `plan` reads
/// the batches of 30 days.
const LEAST_RECORDS: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long rows are kept.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Whether this process deletes what has been kept for long enough.
    pub enabled: bool,
    /// How often it looks.
    #[serde(with = "settings::HumanTime")]
    pub every: Duration,
    /// Rows that are deleted in one transaction.
    pub batch: u32,
    /// Idempotency keys of orders, since they were used: a repetition within this time is recognised. At
    /// least a day.
    #[serde(with = "settings::HumanTime")]
    pub idempotency_keys: Duration,
    /// Sessions, since they expired.
    #[serde(with = "settings::HumanTime")]
    pub sessions: Duration,
    /// Failed log-ins, since the brake forgot them.
    #[serde(with = "settings::HumanTime")]
    pub log_in_attempts: Duration,
    /// Devices from which an account was logged in to, since the last time. Browsers forget them after 400
    /// days at the latest.
    #[serde(with = "settings::HumanTime")]
    pub devices: Duration,
    /// The list of batches of a migration, since its run ended and the migration was complete. At least 30
    /// days.
    #[serde(with = "settings::HumanTime")]
    pub batches: Duration,
    /// Runs with their events, steps and quarantine, since they ended. The newest completed run of a
    /// migration, and those after it, are kept for ever.
    #[serde(with = "settings::HumanTime")]
    pub runs: Duration,
    /// Certificates and later proofs. The newest of a migration is kept for ever.
    #[serde(with = "settings::HumanTime")]
    pub certificates: Duration,
    /// Throttles, since they ended.
    #[serde(with = "settings::HumanTime")]
    pub throttles: Duration,
    /// Incidents that are over, since they began. At least 30 days.
    #[serde(with = "settings::HumanTime")]
    pub incidents: Duration,
    /// Deploys, jobs and settings that were told from outside.
    #[serde(with = "settings::HumanTime")]
    pub changes: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            enabled: true,
            every: Duration::from_secs(3600),
            batch: 500,
            idempotency_keys: 7 * DAY,
            sessions: DAY,
            log_in_attempts: Duration::from_secs(3600),
            devices: 400 * DAY,
            batches: 90 * DAY,
            runs: 730 * DAY,
            certificates: 3650 * DAY,
            throttles: 90 * DAY,
            incidents: 730 * DAY,
            changes: 365 * DAY,
        }
    }
}

impl Retention {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn validate(&self) -> Result<(), String> {
        lasts("retention.every", self.every, Duration::from_secs(1))?;
        within("retention.batch", self.batch, 1..=10_000)?;
        for (name, life) in [
            ("retention.idempotency_keys", self.idempotency_keys),
            ("retention.sessions", self.sessions),
            ("retention.batches", self.batches),
            ("retention.runs", self.runs),
            ("retention.certificates", self.certificates),
            ("retention.throttles", self.throttles),
            ("retention.incidents", self.incidents),
            ("retention.changes", self.changes),
        ] {
            lasts(name, life, Duration::ZERO)?;
        }
        if self.idempotency_keys < LEAST_KEYS {
            return Err(
                "retention.idempotency_keys must be at least 1 day, or an order that is repeated \
                 later would be placed twice"
                    .to_owned(),
            );
        }
        if self.incidents < LEAST_RECORDS {
            return Err(
                "retention.incidents must be at least 30 days: the journal keeps a week, and would \
                 bring back what is younger"
                    .to_owned(),
            );
        }
        if self.batches < LEAST_RECORDS {
            return Err(
                "retention.batches must be at least 30 days: `plan` predicts from those of the last \
                 30 days"
                    .to_owned(),
            );
        }
        if self.runs < self.batches {
            return Err(
                "retention.runs must be at least retention.batches: batches belong to runs"
                    .to_owned(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lives_that_would_do_harm_are_refused_with_the_setting_to_change() {
        let refusal = |change: fn(&mut Retention)| {
            let mut retention = Retention::default();
            change(&mut retention);
            retention.validate().expect_err("does harm")
        };
        assert!(refusal(|r| r.idempotency_keys = DAY / 2).contains("idempotency_keys"));
        assert!(refusal(|r| r.incidents = DAY).contains("incidents"));
        assert!(refusal(|r| r.runs = r.batches / 2).contains("runs"));
        assert!(refusal(|r| r.batches = DAY).contains("batches"));
        assert!(refusal(|r| r.every = Duration::ZERO).contains("every"));
        assert!(refusal(|r| r.batch = 0).contains("batch"));
    }
}
