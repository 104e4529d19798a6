//! The database layer against real PostgreSQL.

mod addresses;
mod authors;
mod pool;
mod pooler;
