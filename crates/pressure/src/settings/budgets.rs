//! How much of the database a migration may use up before it yields.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// From where on the engine slows down, and where it stops being a matter of degree.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Judge it. Off: whatever is measured, and whether it can be measured at all, is ignored.
    pub enabled: bool,
    /// From here on the engine eases off with every sample.
    pub soft: f64,
    /// From here on the duty is cut to a third and held, or for lock waits the batch is cancelled.
    pub hard: f64,
}

/// Budgets of the database's own signals. What cannot be measured slows a migration down, so a
/// signal that this database does not offer has to be switched off by name.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Budgets {
    /// Write-ahead log in MiB per second, of everybody. The default soft limit fills a network of
    /// 1 Gbit/s to a replica or an archive; the hard one is what a SATA disk can write.
    pub wal: Budget,
    /// Seconds that the slowest replica is behind. Reads from a replica show shoppers their own
    /// orders late; a failover loses what has not arrived.
    pub replica_lag: Budget,
    /// Dead rows per live row of the migrated table. One pass over a table leaves 1 if vacuum never
    /// comes by; above that the table grows a second time.
    pub dead_rows: Budget,
    /// Age in seconds of the oldest transaction, slot or prepared transaction, during which vacuum
    /// cannot remove what the migration leaves behind.
    pub xmin_age: Budget,
    /// Sessions that wait for locks of the migration's own batch. From the soft limit on it is a cut,
    /// because those who wait may be shoppers; from the hard one on the batch is cancelled.
    pub lock_waiters: Budget,
}

const fn budget(soft: f64, hard: f64) -> Budget {
    Budget {
        enabled: true,
        soft,
        hard,
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            wal: budget(128.0, 512.0),
            replica_lag: budget(2.0, 10.0),
            dead_rows: budget(1.2, 3.0),
            xmin_age: budget(600.0, 3600.0),
            lock_waiters: budget(1.0, 5.0),
        }
    }
}

impl Budgets {
    /// Checks what types cannot express.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn validate(&self) -> Result<(), String> {
        for (name, budget) in [
            ("wal", self.wal),
            ("replica_lag", self.replica_lag),
            ("dead_rows", self.dead_rows),
            ("xmin_age", self.xmin_age),
            ("lock_waiters", self.lock_waiters),
        ] {
            let (soft, hard) = (budget.soft, budget.hard);
            // Written so that NaN fails too.
            if !(0.0 < soft && soft <= hard && hard.is_finite()) {
                return Err(format!(
                    "budgets.{name}.soft is {soft} and budgets.{name}.hard is {hard}, but 0 < soft <= hard \
                     must hold; to ignore the signal set budgets.{name}.enabled to false"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_without_order_or_number_is_refused() {
        for wal in [budget(5.0, 1.0), budget(f64::NAN, 1.0), budget(0.0, 1.0)] {
            let budgets = Budgets {
                wal,
                ..Budgets::default()
            };
            let said = budgets.validate().expect_err("is refused");
            assert!(said.contains("budgets.wal"), "{said}");
        }
    }
}
