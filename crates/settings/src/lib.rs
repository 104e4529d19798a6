//! What all settings have in common: bounds, each with a sentence, and lengths of time as people write them.

pub mod bounds;
mod human;

pub use human::HumanTime;
