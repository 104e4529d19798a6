//! What shoppers and the database feel, as plain readings, and how fast a migration may work beside them.
//!
//! A reading has a time and numbers, a signal adds a verdict and a reason, the pace turns signals into a share of
//! time. All of it is given the time: nothing here reads a clock, and nothing knows SQL or HTTP.
//!
//! # Layout
//!
//! - `latency`: requests, completed and under way, per class
//! - `saturation`, `target`, `database`, `fleet`: signals from readings: the pool's, the shoppers', the
//!   database's own, other processes'
//! - `signal`: a verdict with its reason
//! - `trial`, `trust`: what comparing work with rests has shown, and the duty that is known to be borne
//! - `pace`: the duty that follows from signals and trust
//! - `surroundings`, `frozen`: all readings of a moment, as decisions are given them
//! - `rules`, `cost`: what limits the duty from outside, and what a row costs

pub mod cost;
pub mod database;
pub mod fleet;
pub mod frozen;
pub mod latency;
pub mod pace;
pub mod rules;
pub mod saturation;
pub mod settings;
pub mod signal;
pub mod surroundings;
pub mod target;
pub mod trial;
pub mod trust;

pub use latency::{InFlight, Latencies, LatencyReading, Outcome, Windows};
pub use signal::{Signal, Verdict};
pub use surroundings::{Outlook, Surroundings};
pub use target::Targets;
