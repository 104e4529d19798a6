//! An open-loop load generator: shoppers arrive when they arrive, whether or not the shop has
//! answered those before them.
//!
//! [`Shop::learn`] walks through the shop once, [`Load::start`] sends the crowd, [`Load::stop`]
//! gives the [`Recording`]. Arrivals are a Poisson process on a thread of its own; it only sends,
//! and sends everything that is due, so neither a slow shop nor a busy runtime lowers the rate.
//! Latency counts from the moment when a request was due: a shop that stalls for a second shows a
//! second in the percentiles of everything that was due meanwhile (no coordinated omission).

mod arrivals;
mod capacity;
mod client;
mod error;
mod learn;
mod profile;
mod record;
mod sender;
mod shop;
mod stats;
mod target;

pub use arrivals::Arrivals;
pub use capacity::{Capacity, CapacityLimits, CapacityStep, measure_capacity};
pub use error::LoadError;
pub use learn::{Credentials, Sessions};
pub use profile::{Action, Mix, Profile};
pub use record::{Lag, LiveClass, LiveCounters, Outcome, Record, Recording};
pub use sender::{Load, Rate};
pub use shop::Shop;
pub use stats::ClassStats;
pub use target::Target;
