//! The migration engine against real tables.

mod completeness;
mod contention;
mod database;
mod fail_closed;
mod fixture;
mod fleet;
mod interruptions;
mod keys;
mod kill;
mod leases;
mod plans;
mod refusals;
mod replica;
mod scenarios;
mod shop;
mod signals;
mod throttles;
