//! What Evenkeel makes in a database: whose it is, and the schema in it.

pub mod contents;
pub mod schema;
