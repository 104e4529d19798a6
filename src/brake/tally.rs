//! What became of log-ins: counted, and told once a minute without saying whose they were.

use std::array;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How often failures are told.
const EVERY: Duration = Duration::from_secs(60);

/// What became of a log-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The password was right.
    Right,
    /// The password was wrong, or there is no such account.
    Wrong,
    /// Too many passwords were tried for the e-mail address: this one was not checked.
    AccountHeld,
    /// Too much was tried from the network: this one was not checked.
    NetworkHeld,
    /// Too many passwords were being checked: this one was not.
    Busy,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Right,
        Self::Wrong,
        Self::AccountHeld,
        Self::NetworkHeld,
        Self::Busy,
    ];

    /// As metrics spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Wrong => "wrong",
            Self::AccountHeld => "account_held",
            Self::NetworkHeld => "network_held",
            Self::Busy => "busy",
        }
    }
}

/// Counts outcomes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<[AtomicU64; Outcome::ALL.len()]>);

impl Tally {
    /// Counts one.
    pub fn count(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Relaxed);
    }

    /// How many there were since the start.
    pub fn total(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].load(Relaxed)
    }

    /// Writes a line for every minute in which log-ins failed, until `stop`.
    pub async fn tell(self, stop: CancellationToken) {
        let mut told = [0; Outcome::ALL.len()];
        let mut goes_on = true;
        while goes_on {
            // What was counted before the end is told, too.
            goes_on = tokio::time::timeout(EVERY, stop.cancelled()).await.is_err();
            let totals = Outcome::ALL.map(|outcome| self.total(outcome));
            let [right, wrong, account_held, network_held, busy] =
                array::from_fn(|i| totals[i] - told[i]);
            if wrong + account_held + network_held + busy > 0 {
                warn!(
                    wrong,
                    account_held, network_held, busy, right, "log-ins failed"
                );
            }
            told = totals;
        }
    }
}
