//! Settings of the shared connection pool.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use settings::bounds::{above_zero, within};

use crate::Class;

/// No server takes more connections.
const MOST: usize = 10_000;

/// Connections that a process opens beside the pool, at most: the probe, the one that cancels statements,
/// the sampler, the watch, its history of readings, the record of incidents, and retention's indexes.
pub const SIDE_CONNECTIONS: usize = 7;

/// One class's part of the pool and its time limits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClassSettings {
    /// Connections that no other class can occupy.
    pub min: usize,
    /// Connections that this class can hold at once.
    pub max: usize,
    /// How long a request waits for a connection. Far below `http.request_timeout`: a queue of
    /// requests that will time out anyway keeps an outage alive after its cause has gone.
    #[serde(with = "settings::HumanTime")]
    pub acquire: Duration,
    /// How long it may hold one before its statement is cancelled; absent for no limit.
    #[serde(
        with = "settings::HumanTime",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub hold: Option<Duration>,
}

/// The shared connection pool.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PoolSettings {
    /// Connections.
    pub size: usize,
    /// The bulkhead. Off: one pool without classes and without hold limits, first come first
    /// served, as in a shop that has never thought about it. The demo's first act runs so.
    pub safeguards: bool,
    /// Placing orders.
    pub checkout: ClassSettings,
    /// Log-in, sessions, order history.
    pub account: ClassSettings,
    /// Looking at products.
    pub browse: ClassSettings,
    /// Migrations and operations.
    pub background: ClassSettings,
}

impl Default for PoolSettings {
    fn default() -> Self {
        let shopper = |min, max| ClassSettings {
            min,
            max,
            acquire: Duration::from_millis(500),
            hold: Some(Duration::from_secs(2)),
        };
        Self {
            size: 16,
            safeguards: true,
            checkout: shopper(3, 6),
            account: shopper(3, 6),
            browse: shopper(4, 12),
            background: ClassSettings {
                min: 0,
                max: 2,
                acquire: Duration::from_secs(1),
                hold: Some(Duration::from_secs(10)),
            },
        }
    }
}

/// Permits of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Connections that no other class can occupy.
    pub min: usize,
    /// Connections that this class can hold at once.
    pub max: usize,
}

/// Time limits of one class.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a request waits for a connection.
    pub acquire: Duration,
    /// How long it may hold one; `None` leaves it to the caller.
    pub hold: Option<Duration>,
}

impl PoolSettings {
    /// The settings of one class.
    pub fn class(&self, class: Class) -> &ClassSettings {
        match class {
            Class::Checkout => &self.checkout,
            Class::Account => &self.account,
            Class::Browse => &self.browse,
            Class::Background => &self.background,
        }
    }

    /// The permits of every class, in the order of [`Class::ALL`].
    pub fn shares(&self) -> [Share; 4] {
        Class::ALL.map(|class| {
            let class = self.class(class);
            if self.safeguards {
                Share {
                    min: class.min,
                    max: class.max,
                }
            } else {
                Share {
                    min: 0,
                    max: self.size,
                }
            }
        })
    }

    /// The time limits of every class, in the order of [`Class::ALL`].
    pub fn limits(&self) -> [Limits; 4] {
        Class::ALL.map(|class| {
            let class = self.class(class);
            Limits {
                acquire: class.acquire,
                hold: class.hold.filter(|_| self.safeguards),
            }
        })
    }

    /// Checks that every class can be served.
    ///
    /// # Errors
    /// A sentence when the reserved shares exceed the pool, or a class could never be served.
    pub fn validate(&self) -> Result<(), String> {
        within("pool.size", self.size, 1..=MOST)?;
        let (size, shares) = (self.size, self.shares());
        for class in Class::ALL {
            let settings = self.class(class);
            within(&format!("pool.{class}.min"), settings.min, 0..=MOST)?;
            above_zero(&format!("pool.{class}.acquire"), settings.acquire)?;
            if let Some(hold) = settings.hold {
                above_zero(&format!("pool.{class}.hold"), hold)?;
            }
        }
        let reserved: usize = shares.iter().map(|s| s.min).sum();
        if reserved > size {
            return Err(format!(
                "pool: the reserved shares of all classes add up to {reserved}, but the pool has \
                 {size} connections: lower a `min` or raise `size`"
            ));
        }
        for class in Class::ALL {
            let share = shares[class.index()];
            if share.max == 0 || share.max < share.min || share.max > size {
                return Err(format!(
                    "pool.{class}: max is {}, but it must be at least 1, at least min ({}) and at \
                     most the pool's size ({size})",
                    share.max, share.min
                ));
            }
            if reserved - share.min == size {
                return Err(format!(
                    "pool.{class}: the other classes reserve the whole pool, so it would never be \
                     served"
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
    fn shares_that_cannot_work_are_refused_with_a_sentence() {
        let refusal = |change: fn(&mut PoolSettings)| {
            let mut pool = PoolSettings::default();
            change(&mut pool);
            pool.validate().expect_err("cannot work")
        };
        assert!(refusal(|p| p.browse.min = 12).contains("add up to 18"));
        assert!(refusal(|p| p.browse.min = 10).starts_with("pool.background"));
        assert!(refusal(|p| p.checkout.max = 17).starts_with("pool.checkout"));
        assert!(refusal(|p| p.account.max = 0).starts_with("pool.account"));
    }
}
