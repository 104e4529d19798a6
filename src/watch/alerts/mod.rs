//! Alerts: which readings are worth a person's time.
//!
//! Deciding is pure: an [`Evaluator`] is given [`Reading`]s and says what fires. It asks nobody and
//! has no clock, so that a file of old readings replayed gives what would have been.
//!
//! # Layout
//!
//! - `reading`: one point of time; `series`: the names of what is measured
//! - `rules`: the file of rules, read and checked; `burn`, `anomaly`, `shift`: kinds of rules
//! - `calendar`: hours of the week; `span`: rings of means in several resolutions; `baseline`: what an hour of the week is like
//! - `track`: how a rule goes from calm to firing and back; `evaluator`: all rules together
//! - `replay`: what would have fired; `recording`: readings in files; `history`: readings in PostgreSQL

mod anomaly;
mod baseline;
mod burn;
mod calendar;
mod evaluator;
mod firing;
pub mod history;
mod reading;
pub mod recording;
pub mod replay;
pub mod rules;
mod series;
mod shift;
mod span;
mod track;

pub use evaluator::Evaluator;
pub use firing::{Firing, State};
pub use history::Point;
pub use reading::Reading;
pub use rules::{Rules, RulesError};
pub use series::{Measure, Series};
