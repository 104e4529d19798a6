//! The command line: one file per command, each a thin call.

pub mod alert;
pub mod catalog;
pub mod database;
pub mod demo;
mod duration;
pub mod elsewhere;
mod fresh;
pub mod incident;
pub mod lint;
pub mod load;
pub mod migrate;
pub mod psql;
mod schema_files;
pub mod serve;
mod standalone;
mod throttle;
