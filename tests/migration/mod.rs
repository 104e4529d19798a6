//! The migration engine against real tables.

mod completeness;
mod contention;
mod fixture;
mod interruptions;
mod keys;
mod kill;
mod leases;
mod plans;
mod prediction;
mod proof;
mod refusals;
mod repair;
mod scenarios;
mod shop;
mod signals;
