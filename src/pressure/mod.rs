//! What shoppers and the database feel, as plain readings.
//!
//! Nothing here decides anything: a reading has a time and numbers, a signal adds a verdict and a
//! reason. `migration::pace` turns signals into a pace.

pub mod latency;
pub mod saturation;
pub mod signal;
pub mod target;
pub mod trial;

pub use latency::{InFlight, Latencies, LatencyReading, Outcome, Windows};
pub use signal::{Signal, Verdict};
pub use target::Targets;
