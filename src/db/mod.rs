//! PostgreSQL: where it comes from, how its connections are shared, how the schema is applied.

pub mod address;
pub mod capacity;
pub mod catalog;
pub mod contents;
pub mod embedded;
pub mod gate;
pub mod pool;
pub mod probe;
mod said;
pub mod schema;
pub mod sessions;

pub use pool::{Addresses, Author, Pool, PoolError};
pub use probe::Probe;
pub use said::{describe, placed, summarize};
