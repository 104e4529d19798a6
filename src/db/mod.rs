//! PostgreSQL: where it comes from, how connections are shared, how the schema is applied.

pub mod embedded;
