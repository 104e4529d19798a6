//! Behaviour of the shop and its tools, one module per domain.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod asked;
mod catalog;
mod db;
mod demo;
mod load;
mod migration;
mod settings;
mod support;
mod watch;
