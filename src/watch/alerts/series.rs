//! The names of what is measured.

use std::fmt;

use pool::Class;

/// Every name, in the order of [`Series`]. Rates rather than shares where there is a choice: rates add up
/// over time, the mean of shares is no share.
const NAMES: [&str; Series::COUNT] = [
    "checkout.arrivals_per_s",
    "checkout.failed_per_s",
    "checkout.failed_share",
    "checkout.slow_per_s",
    "checkout.p95_ms",
    "account.arrivals_per_s",
    "account.failed_per_s",
    "account.failed_share",
    "account.slow_per_s",
    "account.p95_ms",
    "browse.arrivals_per_s",
    "browse.failed_per_s",
    "browse.failed_share",
    "browse.slow_per_s",
    "browse.p95_ms",
    "database.connections_used",
    "database.active_sessions",
    "database.lock_waiters",
    "database.longest_transaction_s",
    "database.wal_bytes_per_s",
    "database.checkpoints_requested_per_min",
    "database.replica_lag_s",
    "orders_per_s",
];

/// What is measured of every class of shoppers.
const MEASURES: usize = 5;

/// Something that is measured, by its name in rules, files and tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series(usize);

/// What is measured of a class of shoppers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Requests per second that arrived.
    Arrivals,
    /// Requests per second that failed.
    Failed,
    /// Share of the requests that failed, from 0 to 1. Follows from the two before.
    FailedShare,
    /// Requests per second that were slower than the class's target.
    Slow,
    /// 95th percentile of the latency in milliseconds.
    P95,
}

impl Series {
    /// How many there are.
    pub const COUNT: usize = 23;
    /// Share of the connections for ordinary roles that are taken, from 0 to 1.
    pub const CONNECTIONS_USED: Self = Self(15);
    /// Sessions in a statement.
    pub const ACTIVE_SESSIONS: Self = Self(16);
    /// Sessions that wait for a lock.
    pub const LOCK_WAITERS: Self = Self(17);
    /// Age of the oldest transaction in seconds.
    pub const LONGEST_TRANSACTION: Self = Self(18);
    /// Write-ahead log in bytes per second.
    pub const WAL: Self = Self(19);
    /// Checkpoints before their time, per minute.
    pub const CHECKPOINTS_REQUESTED: Self = Self(20);
    /// How far the farthest replica is behind, in seconds.
    pub const REPLICA_LAG: Self = Self(21);
    /// Orders placed per second.
    pub const ORDERS: Self = Self(22);

    /// A measure of a class of shoppers; `None` for the class that no shopper waits for.
    pub fn of(class: Class, measure: Measure) -> Option<Self> {
        let class = Class::SHOPPERS
            .iter()
            .position(|&shopper| shopper == class)?;
        Some(Self(class * MEASURES + measure as usize))
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }

    /// The series of this name.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().position(|&known| known == name).map(Self)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        NAMES[self.0]
    }

    /// Every name, for whoever mistyped one.
    pub fn names() -> String {
        NAMES.join(", ")
    }

    /// Position in arrays that hold one entry per series.
    pub fn index(self) -> usize {
        self.0
    }

    /// For a share of failed requests: all requests, and those that failed.
    pub(super) fn share_of(self) -> Option<(Self, Self)> {
        let shoppers = Class::SHOPPERS.len() * MEASURES;
        let is_share = self.0 % MEASURES == Measure::FailedShare as usize;
        let class = self.0 - self.0 % MEASURES;
        (self.0 < shoppers && is_share).then_some((
            Self(class + Measure::Arrivals as usize),
            Self(class + Measure::Failed as usize),
        ))
    }

    /// Whether it counts events per second: such numbers scatter by their nature, the more so the
    /// fewer the events.
    pub fn counts_events(self) -> bool {
        self.name().ends_with("_per_s") && self != Self::WAL
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_constants_agree() {
        for (series, name) in [
            (
                Series::of(Class::Checkout, Measure::Arrivals).unwrap(),
                "checkout.arrivals_per_s",
            ),
            (
                Series::of(Class::Browse, Measure::P95).unwrap(),
                "browse.p95_ms",
            ),
            (Series::CONNECTIONS_USED, "database.connections_used"),
            (Series::ACTIVE_SESSIONS, "database.active_sessions"),
            (Series::LOCK_WAITERS, "database.lock_waiters"),
            (
                Series::LONGEST_TRANSACTION,
                "database.longest_transaction_s",
            ),
            (Series::WAL, "database.wal_bytes_per_s"),
            (
                Series::CHECKPOINTS_REQUESTED,
                "database.checkpoints_requested_per_min",
            ),
            (Series::REPLICA_LAG, "database.replica_lag_s"),
            (Series::ORDERS, "orders_per_s"),
        ] {
            assert_eq!(series.name(), name);
            assert_eq!(Series::named(name), Some(series));
        }
        assert_eq!(Series::of(Class::Background, Measure::P95), None);
    }
}
