//! What shoppers and the database feel, as plain readings.
//!
//! Nothing here decides anything: a reading has a time and numbers, a signal adds a verdict and a
//! reason. `migration::pace` turns signals into a pace.

pub mod database;
pub mod fleet;
pub mod frozen;
pub mod latency;
pub mod rules;
pub mod saturation;
pub mod signal;
pub mod surroundings;
pub mod target;

pub use latency::{InFlight, Latencies, LatencyReading, Outcome};
pub use signal::{Signal, Verdict};
pub use surroundings::{Outlook, Surroundings};
pub use target::Targets;
