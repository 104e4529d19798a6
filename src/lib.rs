//! Evenkeel: a storefront backend that stays upright while its data is migrated.
//!
//! # Layout
//!
//! Imports go downwards only; `tests/layers.rs` holds it.
//!
//! ```text
//! main, cli            the command line
//! http                 demo, rehearsal
//! app                  what a running shop is made of: the state that handlers and tasks share
//! watch   retention    who overloads the database: named, stopped, told | how long rows are kept
//! migration            the engine: definition, ledger, batch, pace, runner, sweep
//! store      pressure  the shop's domain and SQL | what shoppers and the database feel
//! db     connections   embedded PostgreSQL, the shared pool, the gate, the schema | clients' connections
//! brake                how much each network may try
//! config     shutdown  settings | an orderly end; class: the classes of work
//! ```

pub mod app;
pub mod brake;
pub mod class;
pub mod cli;
pub mod config;
pub mod connections;
pub mod db;
pub mod demo;
pub mod http;
pub mod migration;
pub mod pressure;
pub mod rehearsal;
pub mod retention;
pub mod shutdown;
pub mod store;
pub mod watch;
