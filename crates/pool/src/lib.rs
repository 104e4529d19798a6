//! One pool of connections to PostgreSQL that work of several classes shares, and what a client has to know
//! about the server behind it.
//!
//! # Layout
//!
//! - `class`: the classes of work, in their order of service
//! - `gate`: permits per class, and who waits for one
//! - `lending`: connections are lent to a closure behind the gate, and mended after it
//! - `settings`: the pool's size, and each class's part of it and its time limits
//! - `said`: database errors in one text for people
//! - `address`: where a database is, and why it cannot be reached
//! - `sessions`: whether an address leads to PostgreSQL itself or to a pooler, and what that keeps
//! - `catalog`: whether PostgreSQL's own names mean what they say
//! - `capacity`: how many connections the server has left
//! - `probe`: whether the server answers, asked beside the pool

pub mod address;
pub mod capacity;
pub mod catalog;
pub mod class;
pub mod gate;
mod lending;
pub mod probe;
mod said;
pub mod sessions;
pub mod settings;

pub use class::Class;
pub use lending::{Addresses, Author, Pool, PoolError};
pub use probe::Probe;
pub use said::{describe, placed, summarize};
