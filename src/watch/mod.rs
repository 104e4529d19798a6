//! The watch: names whatever overloads the database, stops it where it may, tells people, and keeps
//! the record that the postmortem is made from.
//!
//! # Layout
//!
//! - `sessions`: what the sessions of the database do, as plain data
//! - `finding`: what the watch says; `event`: what happens in an incident; `incident`: their fold;
//!   `log`: where they are kept

pub mod event;
pub mod finding;
pub mod incident;
pub mod log;
pub mod sessions;
