//! The migration engine against real tables.

mod changes;
mod completeness;
mod contention;
mod fixture;
mod interruptions;
mod keys;
mod kill;
mod leases;
mod lint;
mod plans;
mod refusals;
mod scenarios;
mod shop;
mod signals;
