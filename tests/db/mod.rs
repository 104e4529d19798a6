//! The database layer against real PostgreSQL.
