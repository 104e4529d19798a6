//! Evenkeel: a storefront backend that stays upright while its data is migrated.
//!
//! # Layout
//!
//! Imports go downwards only; `tests/layers.rs` holds it.
//!
//! ```text
//! main, cli            the command line
//! http                 demo
//! app                  what a running shop is made of: the state that handlers and tasks share
//! watch   retention    who overloads the database: named, stopped, told | how long rows are kept
//! migration            the engine: definition, ledger, batch, pace, runner, sweep
//! store                the shop's domain and SQL
//! db     connections   whose a database is, and the schema in it | clients' connections
//! brake                how much each network may try
//! config     shutdown  all settings of a process | an orderly end
//! ```
//!
//! Below all of it are crates that another service could use:
//!
//! ```text
//! embedded-postgres    find or fetch PostgreSQL; a private server that dies with its parent
//! load                 open-loop load over TCP
//! pressure             what shoppers and the database feel, and the pace that follows from it
//! pool                 classes of work, the gate, connections lent and mended, errors for people
//! settings             bounds and lengths of time, for whoever has settings
//! ```

pub mod app;
pub mod brake;
pub mod cli;
pub mod config;
pub mod connections;
pub mod db;
pub mod demo;
pub mod http;
pub mod migration;
pub mod retention;
pub mod shutdown;
pub mod store;
pub mod watch;
