//! The database layer against real PostgreSQL.

mod authors;
mod pool;
mod pooler;
