//! The database layer against real PostgreSQL.

mod pool;
