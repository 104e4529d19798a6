//! The command line: one file per command, each a thin call.

pub mod alert;
pub mod catalog;
pub mod database;
pub mod demo;
mod duration;
pub mod elsewhere;
pub mod incident;
pub mod lint;
pub mod load;
pub mod migrate;
pub mod serve;
mod standalone;
mod throttle;
