//! The watch: who is named, what is done about it, and what is written down.

mod alerts;
mod culprits;
mod judgements;
mod stage;
