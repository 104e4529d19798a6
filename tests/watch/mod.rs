//! The watch: who is named, what is done about it, and what is written down.

mod culprits;
mod escalation;
mod notify;
mod stage;
